"""One process and several give the same numbers: gradients, states, metrics, and each goes on where the other stopped.

Everything is in float64, so that the order of a sum is all that may differ. Dropout is on. A process that has imported
the suite is forked for three processes (every method), two and eight (some). 16 pairs do not divide among three,
and an epoch ends with a batch of two pairs: the third process has none of it. `XMODAL_TWO_GPUS=1 pytest
tests/methods/test_processes.py` does the same by NCCL on two GPUs, against one, within the same tolerance.
"""

import multiprocessing
import os
import traceback
from datetime import timedelta

import numpy as np
import pytest
import torch
import torch.distributed as dist
from lightning import Callback, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from tests import forks
from tests.collectives import as_nccl_asks
from tests.methods import toy
from tests.methods.test_every_method import pytestmark as harmless
from tests.methods.toy import CLOSED, REGISTRY, build
from tests.methods.training import make_trainer
from xmodal.data.raw import TrunkTraining
from xmodal.data.split import Split
from xmodal.encoders import TimmImage
from xmodal.methods.djsrh import DJSRHWeights
from xmodal.trainer import OverDevices

pytestmark = [
    *harmless,
    pytest.mark.ddp,
    pytest.mark.timeout(600),  # the first of them waits for all runs
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),  # a run goes on in a folder of its own
    pytest.mark.filterwarnings("ignore:find_unused_parameters=True was specified"),
    pytest.mark.filterwarnings("ignore:It is recommended to use `self.log"),  # the losses are of the whole batch
    pytest.mark.filterwarnings("ignore:.* codes have collapsed"),
]
GPUS = os.environ.get("XMODAL_TWO_GPUS") == "1"
if GPUS:
    pytestmark.append(pytest.mark.skipif(torch.cuda.device_count() < 2, reason="two GPUs are needed"))
TRUNK = TrunkTraining("image", workers=0)
CASES = {name: (name, {}, {}) for name in REGISTRY} | {
    "alscor": ("alscor", {"pairs_per_dim": 1.0}, {"batch_size": 32, "drop_last": True}),  # 32 pairs in 16 dimensions
    "scahn, input dropout": ("scahn", {"input_dropout": 0.3, "image_branch": "regions"}, {}),
    "text_guided_clip, paired": ("text_guided_clip", {"guidance": "paired"}, {}),
    "djsrh, one term": ("djsrh", {"weights": DJSRHWeights(cross=0.0, image=0.0)}, {}),  # the other net is idle
    "dmsf, P x K": ("dmsf", {"dropout": 0.5}, {"per_label": 2}),
    "pretrain, batch norm": ("pretrain", {}, {"tokens": False, "image_scaling": "none", "trunk": TRUNK}),
}
FEW = ["cca", "dmsf, P x K", "hierarchical_adversarial"]
WORLDS = {2: list(CASES)} if GPUS else {3: list(CASES), 2: FEW, 8: ["scahn"]}
RESUMED = max(
    WORLDS, key=lambda world: len(WORLDS[world])
)  # the number of processes that go on from a checkpoint of one, and the reverse


class Toy(toy.Toy):
    """34 training, 30 validation and 32 test pairs, in float64; a trained trunk sees noise."""

    image_encoder = TimmImage("test_resnet", "random", size=32)

    def split(self):
        train, val, test = np.split(np.arange(toy.SIZE), [34, 64])
        return Split(train, val, val, test, test)

    def label_embeddings(self):
        return super().label_embeddings().double()

    def _batch(self, index, device):
        return _double(super()._batch(index, device))

    def _trunk(self, side):
        return super()._trunk(side).double()

    def _source(self, role, rows, form):
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (toy.SIZE, 3, 32, 32), generator=generator, dtype=torch.uint8)
        return lambda _, some: (pixels[some], torch.full((len(some), 2), 32)), 0


def _double(value):
    if isinstance(value, dict):
        return {key: _double(part) for key, part in value.items()}
    return value.double() if value.is_floating_point() else value


class FirstGradients(Callback):
    """Keeps the first gradient that each optimizer steps with."""

    def __init__(self):
        self.found = {}

    def on_train_start(self, trainer, pl_module):
        """Tables and queues of a method may be large: they are not sent to all processes before each step."""
        assert not getattr(trainer.strategy.model, "broadcast_buffers", False)

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        mine = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        for name, parameter in pl_module.named_parameters():
            if id(parameter) in mine and name not in self.found:
                gradient = parameter.grad
                found = torch.zeros_like(parameter) if gradient is None else gradient
                self.found[name] = found.detach().cpu().clone()


def run(case, folder, world=1, resume=None):
    """Train two epochs, or the second one alone from a checkpoint: all that is to be the same."""
    name, choices, settings = CASES[case]
    seed_everything(0, verbose=False)
    data = Toy(**({"batch_size": 16} | settings))
    model = build(name, data, **choices).double()
    first = FirstGradients()
    keep = ModelCheckpoint(folder, "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    trainer = make_trainer(
        folder,
        2,
        callbacks=[first, keep, Reseed()],
        enable_checkpointing=True,
        accelerator="gpu" if GPUS else "cpu",
        precision="64-true",
        devices=world,
        strategy=OverDevices(model) if world > 1 else "auto",
        limit_val_batches=0.0 if resume else 1.0,
    )
    trainer.fit(model, datamodule=data, ckpt_path=resume, weights_only=False)
    logged = {key: float(value) for key, value in trainer.callback_metrics.items()}
    if case in ("attention_adversarial", *CLOSED) and not resume:  # a test with a second stage; one without training
        trainer.test(model, datamodule=data, verbose=False)
    return {
        "gradient": first.found,
        "state": {key: value.detach().cpu().clone() for key, value in model.state_dict().items()},
        "metrics": logged | model.results,
    }


class Reseed(Callback):
    """Each epoch draws anew, as in a run of the suite."""

    def on_train_epoch_start(self, trainer, pl_module):
        seed_everything(trainer.current_epoch, verbose=False)


def work(rank, world, folder):
    """One of the processes; what a case raises is its result."""
    os.environ |= {"LOCAL_RANK": str(rank), "GLOO_SOCKET_IFNAME": "lo", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    torch.set_num_threads(1)
    if GPUS:
        torch.cuda.set_device(rank)
    backend, store = "nccl" if GPUS else "gloo", f"file://{folder / f'store{world}'}"
    dist.init_process_group(backend, init_method=store, rank=rank, world_size=world, timeout=timedelta(seconds=100))
    as_nccl_asks()
    for case in WORLDS[world]:
        place = folder / case
        place.mkdir(exist_ok=True)  # a closed form leaves no checkpoint
        try:
            found = [run(case, place / str(world), world)]
            if world == RESUMED and case not in CLOSED:
                found.append(run(case, place / "resumed", world, place / "1" / "epoch=0.ckpt"))
        except Exception:
            found = traceback.format_exc()
        torch.save(found, place / f"{world}-{rank}.pt")
    dist.destroy_process_group()


def host(folder):
    """Forked often; nothing has run in it that does not survive a fork."""
    context = multiprocessing.get_context("spawn" if GPUS else "fork")
    for world in WORLDS:
        processes = [context.Process(target=work, args=(rank, world, folder)) for rank in range(world)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Of every case what one process found, and what each of several did."""
    folder = tmp_path_factory.mktemp("runs")
    alone = {case: run(case, folder / case / "1") for case in CASES}
    process = forks.CONTEXT.Process(target=host, args=(folder,))
    process.start()
    try:
        process.join(timeout=500)
    finally:
        process.kill()
    return folder, alone


def the_same(found, expected, what):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        close = {"rtol": 1e-6, "atol": 1e-9, "msg": lambda text, k=key: f"{what} {k}: {text}"}
        torch.testing.assert_close(found[key], value, **close)


@pytest.mark.parametrize(("world", "case"), [(world, case) for world in WORLDS for case in WORLDS[world]])
def test_one_process_and_several_are_the_same(runs, world, case):
    folder, one = runs[0], runs[1][case]
    ranks = [torch.load(folder / case / f"{world}-{rank}.pt", weights_only=False) for rank in range(world)]
    assert not any(isinstance(rank, str) for rank in ranks), "\n".join(map(str, ranks))
    assert case in CLOSED or any(gradient.abs().max() > 1e-6 for gradient in one["gradient"].values())
    for rank, (several, *_) in enumerate(ranks):
        the_same(several["gradient"], one["gradient"], f"gradient on rank {rank} of")
        the_same(several["state"], one["state"], f"state on rank {rank} of")
        assert several["metrics"] == pytest.approx(one["metrics"], rel=1e-6, abs=1e-9)
    for key, value in ranks[0][0]["state"].items():
        for rank in ranks[1:]:
            assert torch.equal(value, rank[0]["state"][key]), f"{key} differs between the ranks"


@pytest.mark.parametrize("case", [case for case in CASES if case not in CLOSED])
def test_one_process_and_several_go_on_from_each_other(runs, case):
    folder, one = runs[0], runs[1][case]
    for rank in range(RESUMED):
        resumed = torch.load(folder / case / f"{RESUMED}-{rank}.pt", weights_only=False)[1]
        the_same(resumed["state"], one["state"], f"resumed state on rank {rank} of")
    resumed = run(case, folder / case / "1-resumed", 1, folder / case / str(RESUMED) / "epoch=0.ckpt")
    the_same(resumed["state"], one["state"], "state, resumed on one process, of")
