"""Processes of a command: workers that import the suite once, do one task after another, and end with the command."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Sequence
from multiprocessing import Pipe, connection
from threading import Thread
from typing import Any, Self

from xmodal.errors import UserError

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


def end_with_parent(parent: int) -> None:
    """From here on this process is killed when its parent ends, also where that one is killed.

    Args:
        parent: process id of the parent; it may have ended before.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    else:
        Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def share_of_cores(processes: int) -> int:
    """CPU threads of each of so many processes side by side: its share of the cores that we may use, at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(cores // processes, 1)


def threads_here() -> int:
    """CPU threads that a training in this process may use."""
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


class Child:
    """A process of our own in a session of its own (Ctrl-C is for the command), with a pipe between us and it.

    Args:
        command: `worker`, or `trial` where Lightning must find the arguments of its other ranks on the command line.
        arguments: further words of the command line.
        threads: of the CPU; None where this process has been told already.
    """

    def __init__(self, command: str, *arguments: str, threads: int | None = None) -> None:
        self.pipe, theirs = Pipe()
        environment = {"OMP_NUM_THREADS": "1", **os.environ}  # not Lightning's share of all cores
        if threads is not None:
            environment[THREADS] = str(threads)
        with theirs:  # and closed, so that a dead process closes the pipe
            words = [sys.executable, "-m", "xmodal", command, str(theirs.fileno()), str(os.getpid()), *arguments]
            self.process = subprocess.Popen(
                words, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=environment, start_new_session=True
            )

    def receive(self) -> Any:  # noqa: ANN401 - what the other side has sent
        """The next message.

        Raises:
            TrialDiedError: the process has ended instead.
        """
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            raise TrialDiedError(f"the trial's process died (exit status {self.process.wait()})") from None

    def end(self, patience: float = 0) -> None:
        """End the process, and the ranks that it has started.

        Args:
            patience: seconds that it may take to end by itself.
        """
        self.pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(patience)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Pool:
    """Workers side by side, each with its own devices; one that dies or fails is replaced by a new one.

    Args:
        workers: how many.
        devices: of one worker.
        sharing: commands on this machine that share its cores.
    """

    def __init__(self, workers: int, devices: int = 1, sharing: int = 1) -> None:
        self.workers, self.devices = workers, devices
        self.threads = share_of_cores(workers * devices * sharing)
        self.idle: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End the processes; a task to come finds new ones."""
        while self.idle:
            self.idle.pop().end()

    def start(self) -> None:
        """Start the processes: they import the suite while this one goes on."""
        while len(self.idle) < self.workers:
            self.idle.append(Child("worker", threads=self.threads))

    def run(self, tasks: deque[Task]) -> Generator[tuple[Task, Any] | None, None, None]:
        """Do tasks in the workers, as many at once as there are workers.

        Args:
            tasks: are taken from the left; more may come while they are done.

        Yields:
            A task that was done and what its function returned, or the `TrialError` or `UserError` that it raised; and
            None once a second.
        """
        places = list(enumerate(device_groups(self.workers, self.devices)))[::-1]
        busy: dict[Any, tuple[Child, tuple[int, str | None], Task]] = {}
        try:
            while tasks or busy:
                while tasks and places:
                    child = self.idle.pop(0) if self.idle else Child("worker", threads=self.threads)
                    place, task = places.pop(), tasks.popleft()
                    with contextlib.suppress(OSError):  # it has died already, as we hear below
                        child.pipe.send((place[1], *task))
                    busy[child.pipe] = child, place, task
                for pipe in connection.wait(list(busy), 1):
                    child, place, task = busy.pop(pipe)
                    try:
                        outcome = child.receive()
                    except TrialDiedError as error:
                        outcome = error
                    if isinstance(outcome, Exception):
                        child.end()
                    else:
                        self.idle.append(child)
                    places.append(place)
                    yield task, outcome
                yield None
        finally:
            for child, _, _ in busy.values():
                child.end()


def whole_run(arguments: Sequence[str], devices: int) -> str:
    """A task: see `trial.run_whole`, which takes seconds to import."""
    from xmodal.studies.trial import run_whole

    return run_whole(arguments, devices)


def main(argv: Sequence[str]) -> int:
    """`xmodal worker FD PARENT`: call the functions that arrive on the pipe, until it is closed."""
    end_with_parent(int(argv[1]))
    pipe = connection.Connection(int(argv[0]))
    import wandb.apis.public  # noqa: F401 - `wandb.init` imports it, and that is most of a start

    from xmodal.studies import trial  # noqa: F401 - for the tasks to come

    while True:
        try:
            visible, function, arguments = pipe.recv()
        except EOFError:
            return 0
        if visible is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = visible  # the same for all tasks, and set before anything asks CUDA
        outcome: Any
        try:
            outcome = function(*arguments)
        except (TrialError, UserError) as error:
            outcome = error
        except Exception:
            outcome = TrialError(traceback.format_exc())
        pipe.send(outcome)
