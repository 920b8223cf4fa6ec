"""Starts trials: forked from a warm server on one device, or as a fresh process where DDP must start its own ranks."""

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from typing import Literal

WARM = "XMODAL_WARM_UP"  # variable of the server's environment: the command's process id, and arguments of a trial
Task = Literal["trial", "timed", "run"]  # a trial, one that takes the time of a query, or a whole run of `xmodal train`
THREADS = "XMODAL_THREADS"  # variable: CPU threads of a trial's process


class TrialError(Exception):
    """A trial reported an exception."""


class TrialDiedError(TrialError):
    """A trial's process, or the process of one of its ranks, is gone without a word."""


class TrialDivergedError(TrialError):
    """A loss or the metric of a trial was not finite."""


def warm_up(arguments: Sequence[str] = ()) -> None:
    """Start a server that imports the suite once; every trial is then a fork of it and starts at once.

    Call it early: the server imports while this process goes on. Its environment stays as it is now.

    Args:
        arguments: of a trial, whose model and data the server builds once, so that a fork finds their caches filled.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # not more than one before a trial says how many
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # to ask for CUDA must not initialise it before a fork
    os.environ[WARM] = json.dumps([os.getpid(), *arguments])
    multiprocessing.get_context("forkserver").set_forkserver_preload(["xmodal.tuning.preload"])
    forkserver.ensure_running()


def share_cores(workers: int, devices: int) -> None:
    """Let every process of every trial use its share of the cores that this process may use, and at least one.

    Args:
        workers: trials side by side.
        devices: processes of one trial.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # or Lightning gives each process of a trial its share of all cores
    os.environ[THREADS] = str(max(cores // (workers * devices), 1))


def trial_threads() -> int:
    """CPU threads that a trial of this process may use."""
    return int(os.environ.get(THREADS, "1"))


def device_groups(workers: int, devices: int) -> list[str | None]:
    """CUDA devices of each worker as `CUDA_VISIBLE_DEVICES` has them; None where there are none to share out.

    Args:
        workers: processes side by side; more of them than groups of devices share the groups, round robin.
        devices: of one process.
    """
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    starts = range(0, len(names) - devices + 1, devices)
    groups = [",".join(names[start : start + devices]) for start in starts]
    return [groups[worker % len(groups)] if groups else None for worker in range(workers)]


def run_trial(
    arguments: Sequence[str],
    devices: int,
    report: Callable[[int, float], bool],
    visible: str | None = None,
    task: Task = "trial",
) -> tuple[float, str]:
    """Run one trial, or one whole run, in its own process.

    Args:
        arguments: for `XmodalCLI`.
        devices: more than one starts a fresh process, because DDP starts its other ranks from the command line.
        report: called with epoch and value after every validation; its answer says whether to stop.
        visible: of `device_groups`.
        task: a trial leaves the query set closed; a run has checkpoints and an evaluation on the query set.

    Returns:
        The best value, and the path of the record.

    Raises:
        TrialError: the training failed; `TrialDiedError` and `TrialDivergedError` tell two kinds of it.
    """
    ours, theirs = multiprocessing.Pipe()
    try:
        wait, kill = _start(theirs, arguments, devices, visible, task)
    except OSError as error:
        raise TrialError(f"the trial's process could not be started: {error}") from error
    finally:
        theirs.close()  # so that a dead process closes the pipe
    try:
        while True:
            match ours.recv():
                case ("epoch", epoch, value):
                    answer = report(epoch, value)
                    with contextlib.suppress(BrokenPipeError):  # the trial has gone on, and ended: it says how
                        ours.send(answer)
                case ("done", value, path):  # and written: nobody waits for a fork to take itself down
                    if devices > 1:
                        wait()  # for its own W&B service
                    return value, path
                case ("diverged", reason):
                    raise TrialDivergedError(reason)
                case ("failed", reason):
                    raise TrialError(reason)
    except (EOFError, ConnectionResetError, BrokenPipeError):
        raise TrialDiedError(f"the trial's process died (exit status {wait()})") from None
    finally:
        ours.close()
        kill()


def _start(
    connection: Connection, arguments: Sequence[str], devices: int, visible: str | None, task: Task
) -> tuple[Callable[[], int | None], Callable[[], None]]:
    """Start the process. The first function waits for it and gives its exit status; the second ends what is left."""
    if devices > 1:
        command = [sys.executable, "-m", "xmodal", "trial", str(connection.fileno()), task, *arguments]
        environment = dict(os.environ) if visible is None else {**os.environ, "CUDA_VISIBLE_DEVICES": visible}
        fresh = subprocess.Popen(command, pass_fds=[connection.fileno()], env=environment, start_new_session=True)

        def end() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(fresh.pid, signal.SIGKILL)  # ranks that outlive their leader as well
            fresh.wait()

        return fresh.wait, end
    from xmodal.tuning import trial

    forked = multiprocessing.get_context("forkserver").Process(
        target=trial.run, args=(connection, list(arguments), visible, task, trial_threads())
    )
    forked.start()

    def status() -> int | None:
        forked.join()
        return forked.exitcode

    def end_fork() -> None:
        forked.kill()
        forked.join()

    return status, end_fork
