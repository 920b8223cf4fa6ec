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
from optuna.exceptions import StorageInternalError

from tests.studies.test_sweep import SPACE, played, sweep, trials, write  # noqa: F401 - a fixture
from xmodal.experiment import configuration
from xmodal.methods import DMSF
from xmodal.studies import trial
from xmodal.studies.processes import SpentError, TrialDiedError, TrialDivergedError, TrialError

pytestmark = pytest.mark.usefixtures("offline")

SMALL = ["--model.bits=8", "--data.subset=64", "--data.batch_size=8", "--gallery=false", "--variant=trial-0000"]


@pytest.fixture
def arguments(home):
    return [*configuration("dmsf", "emoji"), *SMALL, "--trainer.max_epochs=3", "--trainer.accelerator=cpu"]


def run(arguments, answer=lambda *_: False, devices=1):
    return trial.run_trial(arguments, devices, answer)


def test_a_loss_that_is_not_finite_ends_the_trial(arguments):
    with pytest.raises(TrialDivergedError, match="the parameters are not finite after epoch 1"):
        run([*arguments, "--model.optimizer=sgd", "--model.image_lr=1e9", "--model.weights.inter=1e9"])


def test_a_metric_that_is_not_finite_ends_the_trial(arguments, monkeypatch):
    compute = DMSF._compute
    nan = lambda self, stage, metrics: compute(self, stage, metrics) | {"val/map": torch.tensor(torch.nan)}  # noqa: E731
    monkeypatch.setattr(DMSF, "_compute", nan)
    with pytest.raises(TrialDivergedError, match="val/map is nan in epoch 1"):
        run(arguments)


def test_a_trial_without_memory_fails_with_a_reason(arguments, monkeypatch):
    def too_large(self, batch, batch_idx):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 9 GiB.")

    monkeypatch.setattr(DMSF, "training_step", too_large)
    with pytest.raises(SpentError, match=r"^out of memory: CUDA out of memory. Tried to allocate 9 GiB.$"):
        run(arguments)


def test_a_second_process_says_why_it_ends(monkeypatch, capsys):
    """The first one hears that a connection was closed, and its trial said nothing else."""

    def without_memory(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(trial, "_trial", without_memory)
    assert trial.main(["", "", "trial"]) == 0
    assert capsys.readouterr().err == "out of memory: CUDA out of memory.\n"


def test_an_error_of_the_database_is_not_one_of_the_trial(arguments):
    def answer(epoch, value):
        raise StorageInternalError("the disk is full")

    with pytest.raises(StorageInternalError):
        run(arguments, answer)


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
    reason = f"cannot write {home}/runs/dmsf/emoji/8/trial-0000-seed0/config.yaml: File too large"
    with files_of_at_most(100), pytest.raises(TrialError, match=reason):
        run(arguments)
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
    assert [each.state.name for each in found] == ["COMPLETE"] * 8
    assert len({tuple(each.params.items()) for each in found if "model.dropout" in each.params}) == sum(
        "model.dropout" in each.params for each in found
    )  # neither draws what the other drew, nor takes its first trial


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

    ended = run([*arguments, "--trainer.max_epochs=50", "--trainer.devices=2"], stop, 2)
    assert seen == [0, 1]
    assert ended.value > 0
    assert ended.stopped
    assert '"devices": 2' in Path(ended.path).read_text()
    assert ranks() == ([], [])


@pytest.mark.ddp
def test_a_killed_rank_ends_the_trial_and_leaves_no_process(arguments):
    killed = []

    def kill(epoch, value):
        if not killed:
            killed.extend(ranks()[1])
            os.kill(killed[0], signal.SIGKILL)
        return False

    with pytest.raises(TrialDiedError):
        run([*arguments, "--trainer.max_epochs=100000", "--trainer.devices=2"], kill, 2)
    assert killed
    assert ranks() == ([], [])
