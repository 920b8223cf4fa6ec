"""Every method trains under bf16-mixed: losses stay finite, and near those of float32."""

import pytest
import torch
from lightning import Callback, seed_everything

from tests.methods.test_every_method import GRADIENT
from tests.methods.test_every_method import pytestmark as harmless
from tests.methods.toy import Toy, build, default
from tests.methods.training import train

pytestmark = [*harmless, pytest.mark.filterwarnings("ignore:.* codes have collapsed")]


class Watched(Callback):
    """Looks at every gradient that an optimizer steps with."""

    def __init__(self):
        self.finite, self.reached = True, set()

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        for name, parameter in pl_module.named_parameters():
            if parameter.grad is not None:
                self.finite &= bool(parameter.grad.isfinite().all())
                self.reached.add(name)


def losses(name, folder, precision):
    """The means of one epoch, and what was seen of the gradients."""
    seed_everything(0, verbose=False)
    data = Toy()
    still = {"dropout": 0.0} if default(name, "dropout") else {}  # its draws differ between the precisions
    watched = Watched()
    trainer = train(build(name, data, **still), data, folder, precision=precision, callbacks=[watched])
    return {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("train/")}, watched


@pytest.mark.parametrize("name", GRADIENT)
def test_bf16_changes_little(name, tmp_path):
    expected, exact = losses(name, tmp_path, "32-true")
    found, watched = losses(name, tmp_path, "bf16-mixed")
    assert watched.finite
    assert watched.reached == exact.reached
    assert found["train/loss"] == pytest.approx(expected["train/loss"], rel=0.05, abs=0.02)
    assert all(torch.tensor(list(found.values())).isfinite())
