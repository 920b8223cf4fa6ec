"""A process that another one has started, and that is not to outlive it; nothing slow is imported before it says so."""

import ctypes
import os
import signal
import sys
import time
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
