"""Processes of a command: forks of it that train side by side, and end with it."""

import contextlib
import gc
import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Generator
from multiprocessing import Pipe, connection, get_context
from multiprocessing.process import BaseProcess
from typing import Any

from xmodal.errors import UserError
from xmodal.parent import end_with_parent

THREADS = "XMODAL_THREADS"  # variable: CPU threads of a process that trains
Task = tuple[Callable[..., Any], tuple[Any, ...]]  # a function of a module, and its arguments


class TrialError(Exception):
    """A training failed; the message says why."""


class TrialDiedError(TrialError):
    """The process of a training, or the process of one of its ranks, is gone without a word."""


class TrialDivergedError(TrialError):
    """A loss or the metric of a trial was not finite."""


class SpentError(TrialError):
    """A training failed so that memory or the device may be in any state: its process is not used again."""


def share_of_cores(processes: int) -> int:
    """CPU threads of each of so many processes side by side: its share of the cores that we may use, at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(cores // processes, 1)


def threads_here() -> int:
    """CPU threads that a training in this process may use."""
    return int(os.environ.get(THREADS, "1"))


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them; CUDA does not begin by it."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]


def device_groups(workers: int, devices: int) -> list[str | None]:
    """CUDA devices of each worker as `CUDA_VISIBLE_DEVICES` has them; None where there are none to share out.

    Args:
        workers: processes side by side; more of them than groups of devices share the groups, round robin.
        devices: of one process.
    """
    names = visible_gpus()
    starts = range(0, len(names) - devices + 1, devices)
    groups = [",".join(names[start : start + devices]) for start in starts]
    return [groups[worker % len(groups)] if groups else None for worker in range(workers)]


def begin(parent: int) -> None:
    """Make this process one of a command: in a session of its own, because Ctrl-C is for the command, and mortal."""
    end_with_parent(parent)
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # one that is sent to all: Optuna would count its trial as failed


def end(pid: int) -> None:
    """End a process of ours, and what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


class Pool:
    """Does tasks in processes side by side, a process for each, with devices of its own.

    A process is a fork of the command, which has imported the suite and has neither trained nor begun to use CUDA.

    Args:
        workers: how many processes.
        devices: of one of them.
        sharing: commands on this machine that share its cores.
    """

    def __init__(self, workers: int, devices: int = 1, sharing: int = 1) -> None:
        self.workers, self.devices = workers, devices
        self.threads = share_of_cores(workers * devices * sharing)

    def run(self, tasks: deque[Task]) -> Generator[tuple[Task, Any] | None, None, None]:
        """Do tasks, as many at once as there are workers.

        Args:
            tasks: are taken from the left; more may come while they are done.

        Yields:
            A task that was done and what its function returned, or the `TrialError` or `UserError` that it raised; and
            None every two seconds.
        """
        import wandb.apis.public  # noqa: F401 - `wandb.init` imports it, and that is most of a start

        from xmodal.studies import trial  # noqa: F401 - for the tasks

        gc.collect()
        gc.freeze()  # no collection of a fork looks at what is here, or makes a copy of its pages
        places = device_groups(self.workers, self.devices)[::-1]
        busy: dict[Any, tuple[BaseProcess, str | None, Task]] = {}
        try:
            while tasks or busy:
                while tasks and places:
                    visible, task = places.pop(), tasks.popleft()
                    pipe, process = self._fork(visible, task)
                    busy[pipe] = process, visible, task
                ready: list[Any] = connection.wait(list(busy), 2)
                for pipe in ready:
                    process, visible, task = busy.pop(pipe)
                    try:
                        outcome = pipe.recv()
                    except (EOFError, OSError):
                        process.join()
                        outcome = TrialDiedError(f"the trial's process died (exit status {process.exitcode})")
                    _end(process)
                    places.append(visible)
                    yield task, outcome
                yield None
        finally:
            for process, _, _ in busy.values():
                _end(process)

    def _fork(self, visible: str | None, task: Task) -> tuple[Any, BaseProcess]:
        ours, theirs = Pipe()
        with theirs:  # and closed, so that a dead process closes the pipe
            arguments = (theirs, os.getpid(), {THREADS: str(self.threads)}, visible, task)
            process = get_context("fork").Process(target=_do, args=arguments)
            process.start()
        return ours, process


def _end(process: BaseProcess) -> None:
    end(process.pid or 0)
    process.kill()  # one that has not begun a session yet
    process.join()


def _do(pipe: Any, parent: int, environment: dict[str, str], visible: str | None, task: Task) -> None:  # noqa: ANN401
    """What a fork does: call a function and send what it returns."""
    begin(parent)
    os.environ.update(environment)
    if visible is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible  # before anything asks CUDA
    function, arguments = task
    outcome: Any
    try:
        outcome = function(*arguments)
    except (TrialError, UserError) as error:
        outcome = error
    except Exception:
        outcome = TrialError(traceback.format_exc())
    pipe.send(outcome)
