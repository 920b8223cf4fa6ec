"""Workers: what they share out, what becomes of a dead one, and that none outlives its command."""

import fcntl
import os
import subprocess
import sys
import threading
import time
from argparse import Namespace
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pynvml
import pytest
import torch

from tests import forks
from tests.studies.jobs import die, last, refuse, where
from xmodal import paths
from xmodal.experiment import configuration
from xmodal.records import forget_peak, loggers, machine
from xmodal.studies import trial, workers
from xmodal.studies.processes import THREADS, Pool, device_groups, share_of_cores

pytestmark = pytest.mark.usefixtures("offline")


def tasks():
    pool = Pool(2)
    print(pool.threads)
    todo = deque((each, ()) for each in (where, die, where, refuse, where))
    for (function, _), outcome in filter(None, pool.run(todo)):
        print(function.__name__, type(outcome).__name__, *(outcome if isinstance(outcome, tuple) else [outcome]))


def test_tasks_are_done_side_by_side_on_their_own_devices(tmp_path):
    done = forks.run(module=None, prepare=tasks, folder=tmp_path, CUDA_VISIBLE_DEVICES="6,7")
    assert done.returncode == 0, done.stderr
    threads, *lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    told = {name: words for name, *words in lines}
    assert sorted(name for name, *_ in lines) == ["die", "refuse", "where", "where", "where"]
    assert told["die"] == ["TrialDiedError", "the trial's process died (exit status -9)"]
    assert told["refuse"] == ["UserError", "no"]
    found = [words.split() for name, _, words in lines if name == "where"]
    assert len({pid for pid, *_ in found}) == 3
    assert {visible for _, visible, _ in found} <= {"6", "7"}
    assert {each for *_, each in found} == set(threads)


def lasting():
    list(Pool(1).run(deque([(last, ())])))


def test_no_process_outlives_a_killed_command(tmp_path):
    command = forks.start(module=None, prepare=lasting, folder=tmp_path, out=tmp_path / "out")
    while not ((tmp_path / "out").exists() and (tmp_path / "out").read_text().endswith("\n")):
        assert command.is_alive()
        time.sleep(0.02)
    task, grandchild = map(int, (tmp_path / "out").read_text().split())
    command.kill()
    deadline = time.monotonic() + 10
    while (_lives(task) or _lives(grandchild)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _lives(task)
    assert not _lives(grandchild)


def _lives(pid):
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def replaced():
    print(loggers.start_service(paths.runs()))


def test_a_wandb_service_that_is_gone_is_replaced(home, monkeypatch):
    monkeypatch.delenv("WANDB_SERVICE", raising=False)
    start = "import os, wandb; wandb.setup(); print(os.environ['WANDB_SERVICE'])"
    gone = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, check=True).stdout.strip()
    done = forks.run(module=None, prepare=replaced, WANDB_SERVICE=gone)
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


@pytest.mark.parametrize(
    ("devices", "gpus", "trunk", "host", "expected"),
    [
        (1, 0, "", 100, 12),  # a core each
        (2, 0, "", 100, 6),
        (1, 0, "", 11, 5),  # 2 GiB of the host each
        (1, 0, "", 1, 1),
        (1, 2, "", 100, 12),
        (1, 1, "", 100, 5),  # 4 GiB of 22 free ones each
        (2, 2, "", 100, 5),  # as the fuller of the two has them
        (1, 2, "{sides: both}", 100, 2),
    ],
)
def test_auto_is_what_cores_and_memory_hold(monkeypatch, tmp_path, devices, gpus, trunk, host, expected, capsys):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name, answer in {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetMemoryInfo": lambda gpu: SimpleNamespace(free=(22528, 81000)[gpu] * 2**20),
    }.items():
        monkeypatch.setattr(pynvml, name, answer)
    monkeypatch.setattr(workers, "_free_host_memory", lambda: host * 2**30)
    base = tmp_path / "emoji.yaml"
    base.write_text(f"data: {{class_path: Emoji, init_args: {{trunk: {trunk or 'null'}}}}}\n")
    pool = workers.pool_of(Namespace(workers="auto", devices=str(devices), base=base))
    assert (pool.workers, pool.devices) == (expected, devices)
    assert f"auto: {expected}" in capsys.readouterr().err


def test_free_memory_of_the_host_is_what_the_system_says():
    assert 2**20 < workers._free_host_memory() < 2**50


@pytest.mark.parametrize(("processes", "threads"), [(1, 12), (2, 6), (5, 2), (4, 3), (16, 1)])
def test_a_process_has_its_share_of_the_cores(processes, threads, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    assert share_of_cores(processes) == threads
    monkeypatch.setenv(THREADS, str(threads))
    before = torch.get_num_threads()
    try:
        with trial.as_if_alone():
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_trials_of_one_process_feel_nothing_of_each_other(home):
    def run(method, *more):
        heard = []
        arguments = [*configuration(method, "emoji"), "--model.bits=8", "--data.subset=64", "--data.batch_size=8"]
        arguments += ["--trainer.max_epochs=2", "--trainer.accelerator=cpu", "--gallery=false", *more]
        arguments += [f"--trainer.default_root_dir={home / 'run'}", "--job_type=trial"]
        trial.run_trial(arguments, 1, lambda epoch, value: bool(heard.append(value)))
        return heard

    first = run("dmsf")
    assert len(first) == 2
    run("scahn", "--seed_everything=1")
    assert run("dmsf") == first
    with pytest.raises(trial.TrialDivergedError):
        run("dmsf", "--model.optimizer=sgd", "--model.image_lr=1e9", "--model.weights.inter=1e9")
    assert run("dmsf") == first


def test_a_trial_leaves_its_process_as_it_was(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    found = []
    monkeypatch.setattr(trial, "forget_peak", lambda: found.append("forgotten"))
    with trial.as_if_alone():
        os.environ.pop("WANDB_MODE")
        os.environ["LEFT"] = "behind"
    assert found == ["forgotten"]
    assert os.environ["WANDB_MODE"] == "online"
    assert "LEFT" not in os.environ


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux's")
def test_a_trial_has_its_own_peak_of_memory():
    forget_peak()
    before = machine(torch.device("cpu"))["peak_memory"]
    held = np.ones(300_000_000, np.int8)
    assert machine(torch.device("cpu"))["peak_memory"] > before + 250_000_000
    del held
    forget_peak()
    assert machine(torch.device("cpu"))["peak_memory"] < before + 50_000_000


def test_a_run_that_another_command_has_done_meanwhile_is_not_done_again(home):
    """Two sweeps that end at once evaluate one best trial: the second had removed the record of the first."""
    arguments = [*configuration("dcmh", "emoji"), "--data.subset=64", "--trainer.max_epochs=1", "--gallery=false"]
    arguments += ["--model.bits=16", "--job_type=tuned"]
    path = Path(trial.run_whole(arguments, 1))
    before, at_work = path.stat().st_mtime_ns, os.open(path.parent, os.O_RDONLY)
    fcntl.flock(at_work, fcntl.LOCK_EX)
    threading.Timer(2, os.close, [at_work]).start()
    assert Path(trial.run_whole(arguments, 1)) == path
    assert path.stat().st_mtime_ns == before
