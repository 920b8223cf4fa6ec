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
    *,
    whole: bool = False,
) -> tuple[float, str]:
    """Run one trial, or one whole run, in its own process.

    Args:
        arguments: for `XmodalCLI`.
        devices: more than one starts a fresh process, because DDP starts its other ranks from the command line.
        report: called with epoch and value after every validation; its answer says whether to stop.
        visible: of `device_groups`.
        whole: a run with checkpoints and an evaluation on the query set instead of a trial.

    Returns:
        The best value, and the path of the record.

    Raises:
        TrialError: the process died, or the training failed.
    """
    ours, theirs = multiprocessing.Pipe()
    process = _start(theirs, arguments, devices, visible, whole)
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
    connection: Connection, arguments: Sequence[str], devices: int, visible: str | None, whole: bool
) -> Callable[[], int | None]:
    """Start the process; the returned function waits for it and gives its exit status."""
    if devices > 1:
        what = "run" if whole else "trial"
        command = [sys.executable, "-m", "xmodal", "trial", str(connection.fileno()), what, *arguments]
        environment = dict(os.environ) if visible is None else {**os.environ, "CUDA_VISIBLE_DEVICES": visible}
        fresh = subprocess.Popen(command, pass_fds=[connection.fileno()], env=environment)
        return fresh.wait
    from xmodal.tuning import trial

    forked = multiprocessing.get_context("forkserver").Process(
        target=trial.run, args=(connection, list(arguments), visible), kwargs={"whole": whole}
    )
    forked.start()

    def status() -> int | None:
        forked.join()
        return forked.exitcode

    return status
