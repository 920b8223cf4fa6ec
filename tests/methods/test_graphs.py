"""CUDA graphs: a replayed step does what the step did. Without a GPU a replay calls the recorded step again."""

import pytest
import torch
from lightning import seed_everything

from tests.methods.test_every_method import pytestmark as harmless
from tests.methods.toy import Toy, build
from tests.methods.training import make_trainer, train
from xmodal import cuda_graphs
from xmodal.cuda_graphs import CudaGraphs
from xmodal.errors import UserError

pytestmark = [*harmless, pytest.mark.filterwarnings("ignore:.* codes have collapsed")]
GPU = torch.cuda.is_available()


class Again:
    """Stands for a recording on a machine without CUDA."""

    def __init__(self, step, module):
        self.step, self.module, self.loss = step, module, None

    def replay(self):
        self.module.zero_grad()
        return self.step()


class OnCPU(CudaGraphs):
    """Steps are called again, on the batch that the recording reads."""

    device = "cpu"

    def _place(self):
        return (self.module,)


def trained(name, folder, callbacks=(), **options):
    seed_everything(0, verbose=False)
    data = Toy(batch_size=12)  # three steps an epoch, the last of another size
    trainer = train(build(name, data), data, folder, 4, callbacks=[*callbacks], **options)
    return trainer, {k: float(v) for k, v in trainer.callback_metrics.items()}


@pytest.mark.parametrize("name", ["dmsf", "acmr", "dcmht"])  # tables, a schedule by epochs, BertAdam
def test_a_replayed_run_is_the_plain_one(name, tmp_path, monkeypatch):
    if not GPU:
        monkeypatch.setattr(cuda_graphs, "Recording", Again)
    options = {"accelerator": "gpu", "devices": 1} if GPU else {}
    callback = CudaGraphs() if GPU else OnCPU()
    plain, expected = trained(name, tmp_path, **options)
    replayed, found = trained(name, tmp_path, [callback], **options)
    assert callback.recorded
    assert found == pytest.approx(expected, rel=1e-5)
    assert replayed.global_step == plain.global_step == 12
    for before, after in zip(plain.model.parameters(), replayed.model.parameters(), strict=True):
        torch.testing.assert_close(after, before)


@pytest.mark.parametrize(
    ("name", "options", "why"), [("dagan", {}, "by hand"), ("dmsf", {"accumulate_grad_batches": 2}, "adds up")]
)
def test_what_cannot_be_recorded_is_refused(name, options, why, tmp_path):
    data = Toy()
    with pytest.raises(UserError, match=why):
        make_trainer(tmp_path, 1, callbacks=[OnCPU()], **options).fit(build(name, data), data)


@pytest.mark.skipif(GPU, reason="there is a GPU")
def test_a_gpu_is_needed(tmp_path):
    data = Toy()
    with pytest.raises(UserError, match="runs on cpu"):
        make_trainer(tmp_path, 1, callbacks=[CudaGraphs()]).fit(build("dmsf", data), data)
