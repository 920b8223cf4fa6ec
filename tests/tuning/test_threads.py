"""Processes of trials share the cores."""

import os

import pytest
import torch

from xmodal.tuning import trial, worker


@pytest.fixture(autouse=True)
def _threads_come_back(monkeypatch):
    monkeypatch.setenv(worker.THREADS, "")  # what a test sets is taken back
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("workers", "devices", "threads"), [(1, 1, 12), (2, 1, 6), (5, 1, 2), (2, 2, 3), (16, 1, 1)])
def test_a_process_has_its_share_of_the_cores(workers, devices, threads, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS")
    worker.share_cores(workers, devices)
    assert os.environ["OMP_NUM_THREADS"] == "1"  # or Lightning says how many, in processes of several devices
    trial.run(None, ["--no-such-option"], threads=worker.trial_threads())  # fails, after it has taken its threads
    assert torch.get_num_threads() == threads
