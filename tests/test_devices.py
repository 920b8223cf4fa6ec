"""Runs on two processes of this machine, as a user starts and ends them."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.studies.kills import processes
from xmodal.trainer import FIRST

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
    words = [sys.executable, "-m", "xmodal", "train", method, "emoji", *TWO, "--epochs=300"]
    with (home / "log").open("w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
    awaited = home / "runs" / method / "emoji" / "16" / "seed0" / begun
    while not (awaited.exists() and sum(b"\0train\0" in line for line in processes(home).values()) == 2):
        assert process.poll() is None, (home / "log").read_text()
        time.sleep(0.02)
    process.terminate()
    ended = time.monotonic()
    assert process.wait(10) == -signal.SIGTERM, (home / "log").read_text()
    while processes(home) and time.monotonic() < ended + 10:
        time.sleep(0.05)
    left = processes(home)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, left


def test_a_process_whose_first_one_has_ended_before_it_began_does_not_stay(home):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    words = [sys.executable, "-m", "xmodal", "train", "cca", "emoji", *TWO]
    alone = subprocess.run(words, env=os.environ | {"LOCAL_RANK": "1", FIRST: str(gone.pid)}, timeout=60, check=False)
    assert alone.returncode == 1
    assert not (home / "runs").exists()
