"""What the jobs and workers of a test do; a module that imports nothing slow, because each imports it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from xmodal.errors import UserError


def touch(argv):
    Path(argv[0], str(os.getpid())).touch()


def limit(argv):
    Path(argv[0], os.environ["SUBMITIT_LOCAL_TIMEOUT_S"]).touch()


def fail(argv):
    raise RuntimeError(f"no {argv[0]}")


def where():
    os.kill(os.getpid(), signal.SIGINT)  # which is for the command: `pkill -INT` reaches its processes too
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ["XMODAL_THREADS"]


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def refuse():
    raise UserError("no")


def last():
    """Live for ever, and so does a process of the kind that Lightning starts."""
    code = "import os, time; from xmodal.parent import end_with_parent; end_with_parent(os.getppid())"
    other = subprocess.Popen([sys.executable, "-c", f"{code}; print('ready', flush=True); time.sleep(600)"], stdout=-1)
    other.stdout.readline()
    sys.stdout.write(f"{os.getpid()} {other.pid}\n")
    sys.stdout.flush()
    other.wait()
