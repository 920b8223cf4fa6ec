"""What goes wrong below a search: dead processes and ranks, full disks, no memory, divergence, two sweeps at once."""

import contextlib
import multiprocessing
import os
import resource
import signal
import time
from pathlib import Path

import pytest
import torch

from tests.tuning.test_search import SPACE, played, sweep, trials, write  # noqa: F401 - a fixture
from xmodal.methods import DMSF
from xmodal.run import configuration
from xmodal.tuning import trial, worker

SMALL = ["--model.bits=8", "--data.subset=64", "--data.batch_size=8", "--gallery=false", "--variant=trial-0000"]


@pytest.fixture
def arguments(home):
    return [*configuration("dmsf", "emoji"), *SMALL, "--trainer.max_epochs=3", "--trainer.accelerator=cpu"]


def run(arguments):
    """The messages of a trial that runs in this process, where nobody stops it."""
    ours, theirs = multiprocessing.Pipe()
    for _ in range(9):
        ours.send(False)
    trial.run(theirs, arguments)
    messages = []
    while ours.poll():
        messages.append(ours.recv())
    return messages


def test_a_loss_that_is_not_finite_ends_the_trial(arguments):
    messages = run([*arguments, "--model.image_lr=1e38"])
    assert messages == [("diverged", "the parameters are not finite after epoch 1")]


def test_a_metric_that_is_not_finite_ends_the_trial(arguments, monkeypatch):
    compute = DMSF._compute
    nan = lambda self, stage, metrics: compute(self, stage, metrics) | {"val/map": torch.tensor(torch.nan)}  # noqa: E731
    monkeypatch.setattr(DMSF, "_compute", nan)
    assert run(arguments) == [("diverged", "val/map is nan in epoch 1")]


@pytest.mark.parametrize("answers", [0, 1], ids=["before", "later"])
def test_a_trial_whose_sweep_is_gone_ends_without_a_word(arguments, capfd, answers):
    ours, theirs = multiprocessing.Pipe()
    for _ in range(answers):
        ours.send(False)
    ours.close()
    with pytest.raises(SystemExit):
        trial.run(theirs, arguments)
    assert "Traceback" not in capfd.readouterr().err


def test_a_trial_without_memory_fails_with_a_reason(arguments, monkeypatch):
    def too_large(self, batch, batch_idx):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 9 GiB.")

    monkeypatch.setattr(DMSF, "training_step", too_large)
    assert run(arguments) == [("failed", "out of memory: CUDA out of memory. Tried to allocate 9 GiB.")]


@contextlib.contextmanager
def files_of_at_most(size):
    """A full disk, as far as one process can have one: no file grows beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_fails_the_trial_with_a_reason(arguments, home):
    with files_of_at_most(100):
        ((kind, reason),) = run(arguments)
    assert kind == "failed"
    assert reason.startswith(f"cannot write {home}/runs/dmsf/emoji/8/trial-0000-seed0/config.yaml: File too large")
    assert not list((home / "runs").rglob(".config*"))  # no half-written file is left


def test_a_full_disk_ends_the_search_and_it_goes_on(played, capsys):  # noqa: F811
    write(played.home, SPACE)
    assert sweep("--trials=1") == 0
    with files_of_at_most((played.home / "runs" / "sweeps.db").stat().st_size // 2):
        assert sweep("--trials=9") == 2
    err = capsys.readouterr().err
    assert "cannot use the study database" in err
    assert "Traceback" not in err
    assert sweep("--trials=4") == 0
    assert sum(each.state.name == "COMPLETE" for each in trials(played.home)) == 4


def together(*calls):
    processes = [multiprocessing.get_context("fork").Process(target=call) for call in calls]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def begin(*options):
    raise SystemExit(sweep(*options))


def test_two_sweeps_at_once_share_one_study(played):  # noqa: F811
    played.value = lambda keys: time.sleep(0.2) or 0.5
    assert together(lambda: begin("--trials=8"), lambda: begin("--trials=8")) == [0, 0]
    found = trials(played.home)
    assert {each.state.name for each in found} == {"COMPLETE"}
    assert len(found) in (8, 9)  # the second may have one under way when the first has the eighth
    assert len({tuple(each.params.items()) for each in found if "model.dropout" in each.params}) == sum(
        "model.dropout" in each.params for each in found
    )  # neither draws what the other drew, nor takes its first trial


def test_a_killed_trial_is_known_for_dead(home, monkeypatch):
    worker.warm_up()
    arguments = [*configuration("dmsf", "emoji"), *SMALL, f"--trainer.default_root_dir={home / 'run'}"]

    def kill(epoch, value):
        (child,) = multiprocessing.active_children()
        os.kill(child.pid, signal.SIGKILL)
        return False

    with pytest.raises(worker.TrialDiedError, match=r"exit status -9"):
        worker.run_trial(arguments, 1, kill)
    assert not multiprocessing.active_children()


def ranks():
    """Process ids of the fresh process of a trial and of the ranks that it started."""
    children = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            children[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    leaders = [
        pid
        for pid, parent in children.items()
        if parent == os.getpid() and b"xmodal\0trial" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    others = [pid for pid, parent in children.items() if parent in leaders and _is_python(pid)]
    return leaders, others


def _is_python(pid):
    with contextlib.suppress(OSError):
        return b"xmodal" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


@pytest.mark.ddp
def test_pruning_reaches_both_ranks(arguments):
    seen = []

    def stop(epoch, value):
        seen.append(epoch)
        assert [len(each) for each in ranks()] == [1, 1]
        return epoch == 1

    value, path = worker.run_trial([*arguments, "--trainer.max_epochs=50", "--trainer.devices=2"], 2, stop)
    assert seen == [0, 1]
    assert value > 0
    assert '"devices": 2' in Path(path).read_text()
    assert ranks() == ([], [])


@pytest.mark.ddp
def test_a_killed_rank_ends_the_trial_and_leaves_no_process(arguments):
    killed = []

    def kill(epoch, value):
        if not killed:
            killed.extend(ranks()[1])
            os.kill(killed[0], signal.SIGKILL)
        return False

    with pytest.raises(worker.TrialError):
        worker.run_trial([*arguments, "--trainer.max_epochs=100000", "--trainer.devices=2"], 2, kill)
    assert killed
    assert ranks() == ([], [])
