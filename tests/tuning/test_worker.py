"""How devices are shared out among processes, and what the server of the trials does before it is forked."""

import gc
import importlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import wandb

from tests.conftest import CHECKOUT
from xmodal.methods import DMSF
from xmodal.records import forget_peak, machine
from xmodal.run import configuration
from xmodal.tuning import trial, worker
from xmodal.tuning.worker import WARM, device_groups


@pytest.mark.skipif(torch.cuda.is_available(), reason="where there is CUDA nothing is rehearsed before a fork")
def test_the_server_trains_one_batch_and_leaves_nothing(home, monkeypatch):
    steps, validated = [], []
    step, end = DMSF.training_step, DMSF.on_validation_epoch_end
    monkeypatch.setattr(DMSF, "training_step", lambda self, *batch: steps.append(1) or step(self, *batch))
    monkeypatch.setattr(DMSF, "on_validation_epoch_end", lambda self: end(self) or validated.append(1))
    arguments = [*configuration("dmsf", "emoji"), "--model.bits=8", "--data.subset=64", "--data.batch_size=8"]
    monkeypatch.setenv(WARM, json.dumps([os.getppid(), *arguments]))
    sys.modules.pop("xmodal.tuning.preload", None)
    importlib.import_module("xmodal.tuning.preload")
    gc.unfreeze()  # what is meant for a server
    assert (len(steps), len(validated)) == (1, 1)
    assert not (home / "runs").exists()


def test_a_server_whose_command_has_ended_goes_as_well(monkeypatch):
    monkeypatch.setenv(WARM, json.dumps([0]))
    sys.modules.pop("xmodal.tuning.preload", None)
    with pytest.raises(SystemExit):
        importlib.import_module("xmodal.tuning.preload")


def children_after_setup(connection):
    """What a fork does: take part in W&B, and tell which processes it has started."""
    wandb.setup()
    connection.send(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


SEARCH = """
import multiprocessing
from tests.tuning.test_worker import children_after_setup
from xmodal.tuning.worker import warm_up
if __name__ == "__main__":
    warm_up(["--no-such-option"])
    here, there = multiprocessing.Pipe()
    fork = multiprocessing.get_context("forkserver").Process(target=children_after_setup, args=(there,))
    fork.start()
    assert here.poll(120)
    print(here.recv())
    fork.join()
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are read off Linux's /proc")
def test_forks_start_no_wandb_service_of_their_own(home, monkeypatch):
    monkeypatch.delenv("WANDB_SERVICE", raising=False)  # of this process, if a test has started one
    done = subprocess.run([sys.executable, "-c", SEARCH], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_wandb_service_that_is_gone_is_replaced(home, monkeypatch):
    monkeypatch.delenv("WANDB_SERVICE", raising=False)
    start = "import os, wandb; wandb.setup(); print(os.environ['WANDB_SERVICE'])"
    gone = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, check=True).stdout.strip()
    code = "import xmodal.records.loggers as l; from xmodal import paths; print(l.start_service(paths.runs()))"
    environment = os.environ | {"WANDB_SERVICE": gone}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == "offline"


@pytest.mark.parametrize(
    ("visible", "workers", "devices", "dealt"),
    [
        (None, 5, 1, ["0", "1", "2", "3", "0"]),
        (None, 3, 2, ["0,1", "2,3", "0,1"]),
        ("6,7", 3, 1, ["6", "7", "6"]),
        ("6,7", 2, 4, [None, None]),
    ],
)
def test_gpus_are_dealt_round_robin(monkeypatch, visible, workers, devices, dealt):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert device_groups(workers, devices) == dealt
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert device_groups(2, 1) == [None, None]


def test_trials_share_a_fork_and_feel_nothing_of_each_other(home):
    worker.warm_up()

    def run(method, *more, task="trial"):
        heard = []
        arguments = [*configuration(method, "emoji"), "--model.bits=8", "--data.subset=64", "--data.batch_size=8"]
        arguments += ["--trainer.max_epochs=2", "--trainer.accelerator=cpu", "--gallery=false", *more]
        arguments.append(f"--trainer.default_root_dir={home / 'run'}")
        worker.run_trial(arguments, 1, lambda epoch, value: bool(heard.append(value)), None, task)
        return heard, [child.pid for child in multiprocessing.active_children()]

    first, (fork,) = run("dmsf")
    assert len(first) == 2
    assert run("scahn", "--seed_everything=1")[1] == [fork]
    assert run("dmsf") == (first, [fork])
    assert run("dmsf", task="run") == (first, [fork])  # in a fork of its own, which has ended
    with pytest.raises(worker.TrialDivergedError):
        run("dmsf", "--model.image_lr=1e38")
    assert not multiprocessing.active_children()  # the fork of a trial that failed is not used again
    again, (other,) = run("dmsf")
    assert (again, other != fork) == (first, True)
    os.kill(other, signal.SIGKILL)
    multiprocessing.active_children()[0].join()
    assert run("dmsf")[0] == first  # nobody gives a trial to a dead fork
    worker.end_idle()
    assert not multiprocessing.active_children()


def test_a_trial_finds_the_fork_as_the_first_one_did(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    found = []

    def run(connection, arguments, task, threads):
        found.append((arguments, task, threads, dict(os.environ)))
        os.environ.pop("WANDB_MODE")
        os.environ["LEFT"] = "behind"

    monkeypatch.setattr(trial, "run", run)
    monkeypatch.setattr(trial, "forget_peak", lambda: found.append("forgotten"))
    ours, theirs = multiprocessing.Pipe()
    for number in range(2):
        ours.send(([str(number)], "trial", 3))
    ours.close()
    trial.serve(theirs, "")
    environment = found[1][-1]
    assert (environment["WANDB_MODE"], environment["CUDA_VISIBLE_DEVICES"]) == ("online", "")
    assert found == [each for n in "01" for each in ("forgotten", ([n], "trial", 3, environment))]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux's")
def test_a_trial_has_its_own_peak_of_memory():
    forget_peak()
    before = machine(torch.device("cpu"))["peak_memory"]
    held = np.ones(300_000_000, np.int8)
    assert machine(torch.device("cpu"))["peak_memory"] > before + 250_000_000
    del held
    forget_peak()
    assert machine(torch.device("cpu"))["peak_memory"] < before + 50_000_000
