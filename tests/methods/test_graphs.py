"""CUDA graphs: a replayed step does what the step did. Without a GPU a replay calls the recorded step again."""

import pytest
import torch
from lightning import seed_everything

from tests.methods.test_every_method import pytestmark as harmless
from tests.methods.toy import REGISTRY, Toy, build
from tests.methods.training import make_trainer, train
from xmodal.cuda_graphs import CudaGraphs, callback
from xmodal.cuda_graphs.recording import Pieces
from xmodal.errors import UserError

pytestmark = [*harmless, pytest.mark.filterwarnings("ignore:.* codes have collapsed")]
GPU = torch.cuda.is_available()
record = CudaGraphs._record


class Again:
    """Stands for a recording on a machine without CUDA."""

    def __init__(self, step, module):
        self.step, self.module, self.loss = step, module, None

    def replay(self):
        self.module.zero_grad()
        return self.step()


class AgainByHand(Again):
    """The same of a step that optimises by hand, which is taken when it is recorded."""

    def __init__(self, step, module, _):
        super().__init__(step, module)
        step()


class OnCPU(CudaGraphs):
    """Steps are called again, on the batch that the recording reads."""

    device = "cpu"

    def _place(self):
        return (self.module,)


def stand_in(monkeypatch):
    """The callback, and options of the trainer: on a GPU the real ones."""
    if GPU:
        return CudaGraphs(), {"accelerator": "gpu", "devices": 1}
    monkeypatch.setattr(callback, "Recording", Again)
    monkeypatch.setattr(callback, "Pieces", AgainByHand)
    return OnCPU(), {}


def trained(name, folder, callbacks=(), **options):
    seed_everything(0, verbose=False)
    data = Toy(batch_size=12)  # three steps an epoch, the last of another size
    trainer = train(build(name, data), data, folder, 4, callbacks=[*callbacks], **options)
    return trainer, {k: float(v) for k, v in trainer.callback_metrics.items()}


# tables, a schedule by epochs, BertAdam; by hand: two optimizers in one step, critics first, critics last, no two alike
@pytest.mark.parametrize("name", ["dmsf", "acmr", "dcmht", "dsph", "dagan", "scahn"])
def test_a_replayed_run_is_the_plain_one(name, tmp_path, monkeypatch):
    graphs, options = stand_in(monkeypatch)
    plain, expected = trained(name, tmp_path, **options)
    replayed, found = trained(name, tmp_path, [graphs], **options)
    assert graphs.recorded
    assert found == pytest.approx(expected, rel=1e-5)
    assert replayed.global_step == plain.global_step
    for before, after in zip(plain.model.parameters(), replayed.model.parameters(), strict=True):
        torch.testing.assert_close(after, before)


def test_a_class_derived_of_a_steady_one_is_recorded_in_every_epoch(tmp_path, monkeypatch):
    """It may have a schedule of its own; a replayed step knows no other epoch than the one it was recorded in."""

    class Derived(REGISTRY["dcmht"]):
        pass

    made = []
    monkeypatch.setattr(CudaGraphs, "_record", lambda self, *given: made.append(0) or record(self, *given))
    for name in ("dcmht", "derived"):
        monkeypatch.setitem(REGISTRY, "derived", Derived)
        graphs, options = stand_in(monkeypatch)
        trained(name, tmp_path, [graphs], **options)
    assert len(made) == 2 + 3 * 2  # of two sizes each: once, and in every epoch after the first


@pytest.mark.skipif(not GPU, reason="there is no GPU")
def test_pieces_end_where_the_optimizers_step(tmp_path, monkeypatch):
    made = []

    class Kept(Pieces):
        def __init__(self, *given):
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr(callback, "Pieces", Kept)
    trained("dagan", tmp_path, [CudaGraphs()], accelerator="gpu", devices=1)
    assert [len(piece.optimizers) for piece in made[0].pieces] == [1, 1, 0]


def test_what_cannot_be_recorded_is_refused(tmp_path):
    data = Toy()
    with pytest.raises(UserError, match="adds up"):
        make_trainer(tmp_path, 1, callbacks=[OnCPU()], accumulate_grad_batches=2).fit(build("dmsf", data), data)


def test_a_step_that_asks_the_host_is_refused(tmp_path):
    data = Toy()
    with pytest.raises(UserError, match="dealt to codes on the host"):
        make_trainer(tmp_path, 1, callbacks=[OnCPU()]).fit(build("dnph", data), data)


@pytest.mark.skipif(GPU, reason="there is a GPU")
def test_a_gpu_is_needed(tmp_path):
    data = Toy()
    with pytest.raises(UserError, match="runs on cpu"):
        make_trainer(tmp_path, 1, callbacks=[CudaGraphs()]).fit(build("dmsf", data), data)
