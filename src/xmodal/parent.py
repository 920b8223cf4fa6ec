"""Processes that others have started and are not to outlive, and who they are; nothing slow is imported here."""

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread

FIRST = "XMODAL_FIRST_PROCESS"  # variable: id of the process that started the others of a run on this machine


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


def myself() -> str:
    """What no other process is called, on any machine and in any container; empty where the system does not tell."""
    with suppress(OSError):
        return f"{_here()} {os.getpid()} {_begun(os.getpid())}"
    return ""


def has_ended(name: str) -> bool:
    """Whether the process that called itself so (`myself`) has ended; of another machine or container nobody knows."""
    place, _, rest = name.partition(" ")
    pid, _, begun = rest.partition(" ")
    with suppress(OSError):
        if place and place == _here():
            try:
                os.kill(int(pid), 0)
            except ProcessLookupError:
                return True
            return _begun(int(pid)) != begun
    return False  # one of another user, say


def _here() -> str:
    """The machine since it was started, and the names of processes in it."""
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}-{Path('/proc/self/ns/pid').readlink()}"


def _begun(pid: int) -> str:
    """When a process began: its number may have been another's."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
