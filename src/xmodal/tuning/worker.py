"""Starts trials: forked from a warm server on one device, or as a fresh process where DDP must start its own ranks."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection


class TrialError(Exception):
    """A trial's process died, or reported an exception."""


def warm_up() -> None:
    """Let a server import the suite once; every trial is then a fork of it and starts at once."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    multiprocessing.get_context("forkserver").set_forkserver_preload(["xmodal.tuning.trial"])


def run_trial(
    arguments: Sequence[str],
    devices: int,
    report: Callable[[int, float], bool],
    *,
    whole: bool = False,
    gpus: str = "",
) -> tuple[float, str]:
    """Run one trial, or one whole run, in its own process.

    Args:
        arguments: for `XmodalCLI`.
        devices: more than one starts a fresh process, because DDP starts its other ranks from the command line.
        report: called with epoch and value after every validation; its answer says whether to stop.
        whole: a run with checkpoints and an evaluation on the query set instead of a trial.
        gpus: what CUDA may see, as CUDA_VISIBLE_DEVICES has it; all by default.

    Returns:
        The best value, and the path of the record.

    Raises:
        TrialError: the process died, or the training failed.
    """
    ours, theirs = multiprocessing.Pipe()
    process = _start(theirs, arguments, devices, whole, gpus)
    theirs.close()  # so that a dead process closes the pipe
    try:
        while True:
            match ours.recv():
                case ("epoch", epoch, value):
                    ours.send(report(epoch, value))
                case ("done", value, path):
                    return value, path
                case ("failed", reason):
                    raise TrialError(reason)
    except (EOFError, ConnectionResetError, BrokenPipeError):
        raise TrialError(f"the trial's process died (exit status {process()})") from None
    finally:
        ours.close()
        process()


def _start(
    connection: Connection, arguments: Sequence[str], devices: int, whole: bool, gpus: str
) -> Callable[[], int | None]:
    """Start the process; the returned function waits for it and gives its exit status."""
    if devices > 1:
        what = "run" if whole else "trial"
        command = [sys.executable, "-m", "xmodal", "trial", str(connection.fileno()), what, *arguments]
        seen = {"CUDA_VISIBLE_DEVICES": gpus} if gpus else {}
        fresh = subprocess.Popen(command, pass_fds=[connection.fileno()], env={**os.environ, **seen})
        return fresh.wait
    from xmodal.tuning import trial

    forked = multiprocessing.get_context("forkserver").Process(
        target=trial.run, args=(connection, list(arguments)), kwargs={"whole": whole, "gpus": gpus}
    )
    forked.start()

    def status() -> int | None:
        forked.join()
        return forked.exitcode

    return status
