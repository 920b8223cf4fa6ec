"""Runs trials: in forks of a warm server on one device, or in a fresh process where DDP must start its own ranks."""

import atexit
import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from multiprocessing import forkserver
from typing import ClassVar, Literal

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
    """Start a server that imports the suite once; trials then run in forks of it and start at once.

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


class Fork:
    """A fork of the server. It runs one trial after another, on the same device, until one fails.

    Args:
        visible: as for `run_trial`.
    """

    idle: ClassVar[dict[str | None, list["Fork"]]] = defaultdict(list)  # by `visible`

    def __init__(self, visible: str | None) -> None:
        from xmodal.tuning import trial

        self.visible, self.task = visible, "trial"
        self.pipe, theirs = multiprocessing.Pipe()
        with theirs:  # and closed, so that a dead process closes the pipe
            context = multiprocessing.get_context("forkserver")
            self.process = context.Process(target=trial.serve, args=(theirs, visible))
            self.process.start()

    @classmethod
    def begin(cls, arguments: Sequence[str], visible: str | None, task: Task) -> "Fork":
        """Give a trial to a fork that is idle, or to a new one; a whole run, which is compared, always to a new one."""
        idle = [] if task == "run" else cls.idle[visible]
        while True:
            try:
                fork, fresh = idle.pop(), False
            except IndexError:
                fork, fresh = cls(visible), True
            fork.task = task
            try:
                fork.pipe.send((list(arguments), task, trial_threads()))
            except BrokenPipeError:  # it has died since
                fork.end(well=False)
                if fresh:
                    raise
            else:
                return fork

    def status(self) -> int | None:
        """The exit status of the process, which is ending."""
        self.process.join()
        return self.process.exitcode

    def end(self, *, well: bool) -> None:
        """After its trial: if all is well, the next one may have the fork."""
        if well and self.task != "run":
            self.idle[self.visible].append(self)
            return
        self.process.kill()
        self.process.join()
        self.pipe.close()


@atexit.register
def end_idle() -> None:
    """End the forks that wait for a trial; multiprocessing would wait for them before this process ends."""
    for forks in Fork.idle.values():
        while forks:
            forks.pop().end(well=False)


class Fresh:
    """A process of its own, which starts the other ranks from the command line.

    Args:
        arguments: as for `run_trial`, and so are the others.
    """

    def __init__(self, arguments: Sequence[str], visible: str | None, task: Task) -> None:
        self.pipe, theirs = multiprocessing.Pipe()
        with theirs:
            command = [sys.executable, "-m", "xmodal", "trial", str(theirs.fileno()), task, *arguments]
            environment = dict(os.environ) if visible is None else {**os.environ, "CUDA_VISIBLE_DEVICES": visible}
            self.process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], env=environment, start_new_session=True
            )

    def status(self) -> int:
        """The exit status of the process, which is ending."""
        return self.process.wait()

    def end(self, *, well: bool) -> None:
        """After its trial."""
        if well:
            self.process.wait()  # for its own W&B service
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # ranks that outlive their leader as well
        self.process.wait()
        self.pipe.close()


def run_trial(
    arguments: Sequence[str],
    devices: int,
    report: Callable[[int, float], bool],
    visible: str | None = None,
    task: Task = "trial",
) -> tuple[float, str]:
    """Run one trial, or one whole run, in a process of ours that no other trial uses meanwhile.

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
    try:
        process = Fresh(arguments, visible, task) if devices > 1 else Fork.begin(arguments, visible, task)
    except OSError as error:
        raise TrialError(f"the trial's process could not be started: {error}") from error
    well = False
    try:
        while True:
            match process.pipe.recv():
                case ("epoch", epoch, value):
                    answer = report(epoch, value)
                    with contextlib.suppress(BrokenPipeError):  # the trial has gone on, and ended: it says how
                        process.pipe.send(answer)
                case ("done", value, path):
                    well = True
                    return value, path
                case ("diverged", reason):
                    raise TrialDivergedError(reason)
                case ("failed", reason):
                    raise TrialError(reason)
    except (EOFError, ConnectionResetError, BrokenPipeError):
        raise TrialDiedError(f"the trial's process died (exit status {process.status()})") from None
    finally:
        process.end(well=well)
