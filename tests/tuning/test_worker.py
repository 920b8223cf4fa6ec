"""How devices are shared out among processes, and what the server of the trials does before it is forked."""

import importlib
import json
import multiprocessing
import os
import sys
from pathlib import Path

import pytest
import torch
import wandb

from xmodal.methods import DMSF
from xmodal.run import configuration
from xmodal.tuning.worker import WARM, device_groups, warm_up


@pytest.mark.skipif(torch.cuda.is_available(), reason="where there is CUDA nothing is rehearsed before a fork")
def test_the_server_trains_one_batch_and_leaves_nothing(home, monkeypatch):
    steps, validated = [], []
    step, end = DMSF.training_step, DMSF.on_validation_epoch_end
    monkeypatch.setattr(DMSF, "training_step", lambda self, *batch: steps.append(1) or step(self, *batch))
    monkeypatch.setattr(DMSF, "on_validation_epoch_end", lambda self: end(self) or validated.append(1))
    arguments = [*configuration("dmsf", "emoji"), "--model.bits=8", "--data.subset=64", "--data.batch_size=8"]
    monkeypatch.setenv(WARM, json.dumps(arguments))
    sys.modules.pop("xmodal.tuning.preload", None)
    importlib.import_module("xmodal.tuning.preload")
    assert (len(steps), len(validated)) == (1, 1)
    assert not (home / "runs").exists()


def _children_after_setup(connection):
    wandb.setup()
    connection.send(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are read off Linux's /proc")
def test_forks_start_no_wandb_service_of_their_own(home):
    warm_up(["--no-such-option"])  # the server, if this process has none yet, starts with it
    here, there = multiprocessing.Pipe()
    fork = multiprocessing.get_context("forkserver").Process(target=_children_after_setup, args=(there,))
    fork.start()
    assert here.poll(120)
    assert here.recv() == []
    fork.join()


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
