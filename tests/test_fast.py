"""Checkpoints beside the training: what is written, and when."""

import threading
import time

import pytest
import torch

from xmodal.fast import WORTH, Behind


class Disk:
    """Takes a while, or waits to be told to go on, and remembers what it was given."""

    def __init__(self, seconds=0.0):
        self.seconds, self.written, self.go = seconds, [], threading.Event()
        self.go.set()

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        assert self.go.wait(60)
        time.sleep(self.seconds)
        if checkpoint["epoch"] < 0:
            raise OSError("full")
        self.written.append((path, checkpoint["epoch"], float(checkpoint["weight"])))


def state(epoch):
    return {"epoch": epoch, "weight": torch.tensor(float(epoch))}


def test_what_takes_little_time_beside_an_epoch_is_written_before_it_goes_on():
    disk = Disk(0.01)
    behind = Behind(disk)
    for epoch in range(3):
        for path in ("best", "last"):
            behind.save_checkpoint(state(epoch), path)
            assert disk.written[-1] == (path, epoch, epoch)
        time.sleep(4 * WORTH * 0.01)


def test_short_epochs_do_not_wait_and_the_newest_state_is_written():
    disk = Disk(0.01)
    behind = Behind(disk)
    behind.save_checkpoint(state(0), "last")
    disk.go.clear()
    for epoch in (1, 2, 3):
        given = state(epoch)
        behind.save_checkpoint(given, "last")
        given["weight"] += 100  # the training goes on
    assert [epoch for _, epoch, _ in disk.written] == [0]
    disk.go.set()
    behind.teardown()
    assert disk.written[-1] == ("last", 3, 3.0)
    assert ("last", 2, 2.0) not in disk.written
    time.sleep((WORTH + 1) * behind.seconds)  # a longer epoch
    behind.save_checkpoint(state(4), "last")
    assert disk.written[-1] == ("last", 4, 4.0)


def test_the_last_checkpoint_is_never_written_before_the_best_that_it_knows():
    disk = Disk(0.01)
    behind = Behind(disk)
    for path in ("best", "last"):
        behind.save_checkpoint(state(0), path)
    disk.go.clear()
    for epoch, path in ((1, "last"), (2, "best"), (2, "last")):
        behind.save_checkpoint(state(epoch), path)
    disk.go.set()
    behind.teardown()
    assert [path for path, epoch, _ in disk.written if epoch == 2] == ["best", "last"]


def test_an_error_of_the_thread_is_one_of_the_run():
    behind = Behind(Disk(0.01))
    behind.save_checkpoint(state(0), "last")
    behind.save_checkpoint(state(-1), "last")
    with pytest.raises(OSError, match="full"):
        behind.teardown()
    behind.teardown()
