"""One process and two give the same numbers: gradients, states, metrics, and each goes on from the other's checkpoint.

Everything is in float64, so that the order of a sum is all that may differ. Two processes are started once and run
every case; an epoch ends with a batch of three pairs, of which the second process has one. `XMODAL_TWO_GPUS=1 pytest
tests/methods/test_two_processes.py` does the same by NCCL on two GPUs, against one, within the same tolerance.
"""

import multiprocessing
import os
import time
import traceback
from datetime import timedelta

import numpy as np
import pytest
import torch
import torch.distributed as dist
from lightning import Callback, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from tests.methods import toy
from tests.methods.test_every_method import GRADIENT
from tests.methods.test_every_method import pytestmark as harmless
from tests.methods.toy import build, default
from tests.methods.training import make_trainer
from xmodal.cli import over_devices
from xmodal.data.protocol import Split

pytestmark = [
    *harmless,
    pytest.mark.ddp,
    pytest.mark.xdist_group("two processes"),  # one worker of pytest-xdist runs it, and once
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),  # a run goes on in a folder of its own
    pytest.mark.filterwarnings("ignore:find_unused_parameters=True was specified"),
    pytest.mark.filterwarnings("ignore:It is recommended to use `self.log"),  # the losses are of the whole batch
]
GPUS = os.environ.get("XMODAL_TWO_GPUS") == "1"
if GPUS:
    pytestmark.append(pytest.mark.skipif(torch.cuda.device_count() < 2, reason="two GPUs are needed"))
CHOICES = {"alscor": {"pairs_per_dim": 1.0}}  # 32 pairs in 16 dimensions
CASES = [(name, CHOICES.get(name, {})) for name in GRADIENT]
IDS = [name for name, _ in CASES]


class Toy(toy.Toy):
    """35 training, 29 validation and 32 test pairs, in float64."""

    def split(self):
        train, val, test = np.split(np.arange(toy.SIZE), [35, 64])
        return Split(train, val, val, test, test)

    def label_embeddings(self):
        return super().label_embeddings().double()

    def _batch(self, index, device):
        return _double(super()._batch(index, device))


def _double(value):
    if isinstance(value, dict):
        return {key: _double(part) for key, part in value.items()}
    return value.double() if value.is_floating_point() else value


class FirstGradients(Callback):
    """Keeps the first gradient that each optimizer steps with."""

    def __init__(self):
        self.found = {}

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        mine = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        for name, parameter in pl_module.named_parameters():
            if id(parameter) in mine and name not in self.found:
                gradient = parameter.grad
                found = torch.zeros_like(parameter) if gradient is None else gradient
                self.found[name] = found.detach().cpu().clone()


def run(case, folder, world=1, resume=None):
    """Train two epochs, or the second one alone from a checkpoint: all that is to be the same."""
    name, choices = case
    seed_everything(0, verbose=False)
    data = Toy(batch_size=32, drop_last=True) if name == "alscor" else Toy(batch_size=16)
    still = {"dropout": 0.0} if default(name, "dropout") else {}  # its draws belong to a process
    model = build(name, data, **still, **choices).double()
    first = FirstGradients()
    keep = ModelCheckpoint(folder, "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    trainer = make_trainer(
        folder,
        2,
        callbacks=[first, keep],
        enable_checkpointing=True,
        accelerator="gpu" if GPUS else "cpu",
        precision="64-true",
        devices=world,
        strategy=over_devices(model) if world > 1 else "auto",
        limit_val_batches=0.0 if resume else 1.0,
    )
    trainer.fit(model, datamodule=data, ckpt_path=resume, weights_only=False)
    logged = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("val/")}
    if name == "attention_adversarial" and not resume:  # whose test has a second stage
        trainer.test(model, datamodule=data, verbose=False)
    return {
        "gradient": first.found,
        "state": {key: value.detach().cpu().clone() for key, value in model.state_dict().items()},
        "metrics": logged | model.results,
    }


def work(rank, folder):
    """One of the two processes; what a case raises is its result."""
    os.environ |= {"LOCAL_RANK": str(rank), "GLOO_SOCKET_IFNAME": "lo", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    if GPUS:
        torch.cuda.set_device(rank)
    backend, store, patience = "nccl" if GPUS else "gloo", f"file://{folder / 'store'}", timedelta(seconds=60)
    dist.init_process_group(backend, init_method=store, rank=rank, world_size=2, timeout=patience)
    for case, name in zip(CASES, IDS, strict=True):
        try:
            found = run(case, folder / name / "two", 2)
            resumed = run(case, folder / name / "two-resumed", 2, folder / name / "one" / "epoch=0.ckpt")
            result = found, resumed
        except Exception:
            result = traceback.format_exc()
        torch.save(result, folder / name / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Of every case what one process found, and what each of the two did."""
    folder = tmp_path_factory.mktemp("runs")
    alone = {name: run(case, folder / name / "one") for case, name in zip(CASES, IDS, strict=True)}
    context = multiprocessing.get_context("spawn")  # neither CUDA nor the locks of other threads survive a fork
    processes = [context.Process(target=work, args=(rank, folder)) for rank in range(2)]
    for process in processes:
        process.start()
    try:
        end = time.monotonic() + 200
        for process in processes:
            process.join(timeout=max(end - time.monotonic(), 0))
    finally:
        for process in processes:
            process.kill()
    return folder, alone


def the_same(found, expected, what):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        pair = found[key], value
        if key.startswith("queue") and value.ndim:  # the rows of a batch are queued in the order of the ranks
            pair = tuple(part.sort(0).values for part in pair)
        torch.testing.assert_close(*pair, rtol=1e-6, atol=1e-9, msg=lambda text, k=key: f"{what} {k}: {text}")


@pytest.mark.parametrize("number", range(len(CASES)), ids=IDS)
def test_one_process_and_two_are_the_same(runs, number):
    (folder, alone), name = runs, IDS[number]
    one = alone[name]
    ranks = [torch.load(folder / name / f"{rank}.pt", weights_only=False) for rank in range(2)]
    assert not any(isinstance(rank, str) for rank in ranks), f"{ranks[0]}\n{ranks[1]}"
    assert any(gradient.abs().max() > 1e-6 for gradient in one["gradient"].values())
    resumed = run(CASES[number], folder / name / "one-resumed", 1, folder / name / "two" / "epoch=0.ckpt")
    for rank, (two, two_resumed) in enumerate(ranks):
        the_same(two["gradient"], one["gradient"], f"gradient on rank {rank} of")
        the_same(two["state"], one["state"], f"state on rank {rank} of")
        the_same(two_resumed["state"], one["state"], f"resumed state on rank {rank} of")
        assert two["metrics"] == pytest.approx(one["metrics"], abs=1e-9)
    the_same(resumed["state"], one["state"], "state, resumed on one process, of")
    for key, value in ranks[0][0]["state"].items():
        assert torch.equal(value, ranks[1][0]["state"][key]), f"{key} differs between the ranks"
