"""Runs on two processes of this machine, as a user starts and ends them."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from tests import forks
from tests.studies.kills import processes
from xmodal.cli import XmodalCLI
from xmodal.errors import UserError
from xmodal.experiment import configuration
from xmodal.parent import FIRST
from xmodal.trainer import OverDevices, first_decides

pytestmark = pytest.mark.usefixtures("offline")

PYTHON = sys.executable.encode()  # W&B has processes of its own
TWO = ["--bits=16", "--devices=2", "--data.subset=64", "--data.batch_size=8", "--gallery=false"]


@pytest.mark.ddp
@pytest.mark.parametrize(
    ("method", "begun"),
    [
        ("dmsf", "checkpoints/last.ckpt"),  # in the midst of steps, which the processes take together
        ("cca", "config.yaml"),  # before the second process has joined, or after
    ],
)
def test_a_terminated_run_leaves_no_process(home, method, begun):
    process = forks.start("train", method, "emoji", *TWO, "--epochs=300", out=home / "log")
    awaited = home / "runs" / method / "emoji" / "16" / "seed0" / begun
    while not (awaited.exists() and sum(line.startswith(PYTHON) for line in processes(home).values()) == 2):
        assert process.is_alive(), (home / "log").read_text()
        time.sleep(0.02)
    process.terminate()
    ended = time.monotonic()
    process.join(10)
    assert process.exitcode == -signal.SIGTERM, (home / "log").read_text()
    while processes(home) and time.monotonic() < ended + 10:
        time.sleep(0.05)
    left = processes(home)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, left


def test_a_process_whose_first_one_has_ended_before_it_began_does_not_stay(home):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    words = [sys.executable, "-X", "importtime", "-m", "xmodal", "train", "cca", "emoji", *TWO]
    environment = os.environ | {"LOCAL_RANK": "1", FIRST: str(gone.pid)}
    alone = subprocess.run(words, env=environment, timeout=60, check=False, capture_output=True, text=True)
    assert alone.returncode == 1
    assert "xmodal.parent" in alone.stderr
    assert "torch" not in alone.stderr, "it ends before it imports anything slow"
    assert not (home / "runs").exists()


@pytest.mark.parametrize("strategy", ["auto", "ddp"])
def test_several_devices_train_by_a_strategy_that_takes_every_method(home, monkeypatch, strategy):
    monkeypatch.setenv(FIRST, "")  # which is set here, and restored
    words = [*configuration("dagan", "emoji"), "--model.dim=8", "--data.subset=64", "--trainer.accelerator=cpu"]
    with XmodalCLI([*words, "--trainer.devices=2", f"--trainer.strategy={strategy}"], loggers=False) as cli:
        assert isinstance(cli.trainer.strategy, OverDevices)


def test_a_callback_that_is_alone_needs_no_list(home):
    words = [*configuration("dmsf", "emoji"), "--model.bits=8", "--data.subset=64", "--trainer.accelerator=cpu"]
    with XmodalCLI([*words, "--trainer.callbacks=ModelSummary"], loggers=False) as cli:
        assert "ModelSummary" in {type(each).__name__ for each in cli.trainer.callbacks}


class Rank:
    """A trainer of one of two processes that were started by torchrun; `heard` is what the first one has told."""

    world_size = 2

    def __init__(self, rank, heard):
        self.is_global_zero, self.heard, self.strategy = rank == 0, heard, self
        self.cluster_environment = SimpleNamespace(creates_processes_externally=True)

    def setup_environment(self):
        pass

    def broadcast(self, told):
        if self.is_global_zero:
            self.heard.append(told)
        return self.heard[-1]


def test_processes_that_torchrun_starts_do_what_the_first_one_decides(monkeypatch):
    """What lies on the disk changes between their looks at it: they must not train and test at once."""
    monkeypatch.delenv(FIRST, raising=False)
    heard, states = [], iter(["a checkpoint", "another one"])
    assert [first_decides(Rank(rank, heard), lambda: next(states)) for rank in (0, 1)] == ["a checkpoint"] * 2

    def refuse():
        raise UserError("another run is at work")

    for rank in (0, 1):
        with pytest.raises(UserError, match="at work"):
            first_decides(Rank(rank, heard), refuse if rank == 0 else lambda: None)
    monkeypatch.setenv(FIRST, "1")  # whoever comes later looks for itself
    assert first_decides(Rank(1, heard), lambda: next(states)) == "another one"
