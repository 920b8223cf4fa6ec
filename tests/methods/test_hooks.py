"""A method of one's own may have Lightning's hooks without super(), as Lightning's own do nothing."""

import warnings
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler

from tests.methods.training import SIZES, fit
from xmodal.callbacks import Finite
from xmodal.errors import UserError
from xmodal.methods import DCMH, DCMHT
from xmodal.trainer import Usable

pytestmark = [
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:The '.*dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.* codes have collapsed"),
]
DATA = {key: SIZES[key] for key in ("image_dim", "text_dim")}


class Hooks:
    """The hooks that the base uses, which call none of the base's."""

    def setup(self, stage):
        self.seen = [stage]

    def on_train_batch_start(self, batch, batch_idx):
        self.seen.append(len(batch["label"]))
        return -1 if batch_idx == 2 else None

    def on_train_epoch_end(self):
        self.seen.append("end")

    def on_save_checkpoint(self, checkpoint):
        checkpoint["mine"] = 1

    def on_load_checkpoint(self, checkpoint):
        assert checkpoint["mine"] == 1


class Beside(Hooks, DCMHT):
    """Takes them from a class that is no method."""

    name = "beside"


class Own(DCMHT):
    """Has them itself."""

    name = "own"
    setup, on_train_batch_start, on_train_epoch_end = Hooks.setup, Hooks.on_train_batch_start, Hooks.on_train_epoch_end
    on_save_checkpoint, on_load_checkpoint = Hooks.on_save_checkpoint, Hooks.on_load_checkpoint


class Derived(Own):
    """Calls those of the class above."""

    name = "derived"

    def setup(self, stage):
        super().setup(stage)

    def on_train_epoch_end(self):
        super().on_train_epoch_end()


@pytest.mark.parametrize("cls", [Own, Derived, Beside])
def test_what_every_method_needs_is_done_beside_hooks_of_ones_own(cls):
    """Without it a process of two trained on its own rows alone, in silence, and train/loss was not logged."""
    model = fit(lambda: cls(bits=8, **DATA))
    assert model.seen == ["fit", 8, 8, 8, "end"], "and what a hook gives back is heard: -1 skips the rest"
    assert model.shard.size == 8
    assert model.trainer.callback_metrics["train/loss"] > 0
    model.on_save_checkpoint(checkpoint := {})
    assert checkpoint == {"trunks": {}, "mine": 1}
    moments = {key: value for key, value in model.state_dict().items() if key.startswith("standardisation")}
    assert len(moments) == 4
    other = cls(bits=8, **DATA)
    other.on_load_checkpoint({"mine": 1, "state_dict": moments})
    assert set(other.standardisation) == {"image", "text"}
    other.trainer = SimpleNamespace(global_rank=1, world_size=2)
    other.setup("fit")
    assert (other.shard.rank, other.shard.world) == (1, 2)


def test_an_evaluation_of_ones_own_that_leaves_out_the_suites_is_refused():
    """It ended in a traceback; `xmodal test` left a record without a number."""

    class Ends(DCMHT):
        name = "ends"

        def on_validation_epoch_end(self):
            pass

    class Steps(DCMHT):
        name = "steps"

        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            pass

    for cls in (Ends, Steps):
        with pytest.raises(UserError, match="call super"):
            fit(lambda cls=cls: cls(bits=8, **DATA), callbacks=[Finite()])
    with pytest.raises(UserError, match="on_test_epoch_end"):
        Finite().on_test_end(None, Ends(bits=8, **DATA))


def test_a_hook_that_takes_the_place_of_a_methods_is_told():
    """Of a class derived of DMSF the codes, of CCA the closed form (.1775 for .4005) were left out, in silence."""

    class Replaces(DCMH):
        name = "replaces"

        def on_train_epoch_start(self):
            pass

    class Keeps(DCMH):
        name = "keeps"

        @torch.no_grad()
        def on_train_epoch_start(self):
            super().on_train_epoch_start()

        def on_train_epoch_end(self):
            pass

    trainer = SimpleNamespace(callbacks=[])
    with pytest.warns(UserWarning, match=r"Replaces.on_train_epoch_start takes the place of DCMH's: `super\(\)"):
        Usable().setup(trainer, Replaces(bits=8), "fit")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Usable().setup(trainer, Keeps(bits=8), "fit")


def test_a_method_of_ones_own_brings_no_callback_that_a_run_cannot_use():
    """Given as a key it is refused; the method's own was taken, in silence."""

    class Brings(DCMHT):
        name = "brings"

        def configure_callbacks(self):
            return GradientAccumulationScheduler({0: 4})

    with pytest.raises(UserError, match="configure_callbacks has a GradientAccumulationScheduler, of which no"):
        fit(lambda: Brings(bits=8, **DATA), callbacks=[Usable()])
