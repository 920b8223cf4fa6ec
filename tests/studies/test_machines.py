"""One study behind a real PostgreSQL server, and searches in jobs."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.studies.jobs import fail, touch
from tests.studies.test_faults import begin, together
from tests.studies.test_search import SPACE, played, stored, sweep, write  # noqa: F401 - a fixture
from xmodal.errors import UserError
from xmodal.studies.jobs import run_jobs


@pytest.fixture
def postgres():
    """The URL of a server of its own, reached through a socket in its folder."""
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed: it is in the extra `sweeps`")
    found = shutil.which("initdb") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)
    if found is None:
        pytest.skip("no PostgreSQL here: install the server (Debian: postgresql), as .ci/run does")
    binaries, folder = Path(found).resolve().parent, Path(tempfile.mkdtemp(prefix="xmodal-postgres-"))
    user = None
    if os.geteuid() == 0:  # the server refuses to run as root
        user = "postgres" if any(entry.pw_name == "postgres" for entry in pwd.getpwall()) else "nobody"
        shutil.chown(folder, user)
    data = str(folder / "data")
    run = {"user": user, "cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([binaries / "initdb", "-D", data, "-A", "trust", "-U", "xmodal", "--no-sync"], check=True, **run)
    server = subprocess.Popen(
        [binaries / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"], **run
    )
    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(host=str(folder), user="xmodal", dbname="postgres").close()
            break
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    yield f"postgresql+psycopg://xmodal@/postgres?host={folder}"
    server.send_signal(signal.SIGINT)
    server.wait()
    shutil.rmtree(folder)


def test_machines_share_a_study_through_postgresql(played, postgres):  # noqa: F811
    write(played.home, SPACE)
    played.value = lambda keys: time.sleep(0.2) or 0.5
    assert together(*[lambda: begin("--trials=8", f"--storage={postgres}")] * 2) == [0, 0]  # on an empty database
    trials = stored(postgres)
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 8
    drawn = [tuple(trial.params.items()) for trial in trials if "model.dropout" in trial.params]
    assert len(set(drawn)) == len(drawn)

    played.value = lambda keys: time.sleep(1) or os.kill(os.getpid(), signal.SIGKILL)  # after its first sign of life
    before = len(trials)
    assert together(lambda: begin("--trials=20", f"--storage={postgres}")) == [-signal.SIGKILL]
    dead = stored(postgres)[before]
    assert dead.state.name == "RUNNING"
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(postgres.replace("+psycopg", "")) as connection:  # its last sign of life is old
        connection.execute("UPDATE trial_heartbeats SET heartbeat = heartbeat - interval '1 hour'")
    played.value = lambda keys: 0.5
    shutil.rmtree(played.home / "runs")
    assert sweep(f"--trials={before + 1}", f"--storage={postgres}") == 0
    died, retry = stored(postgres)[before:]
    assert died.state.name == "FAIL"
    assert (retry.state.name, retry.params) == ("COMPLETE", dead.params)


def test_jobs_search_and_the_command_ends_the_study(played, monkeypatch):  # noqa: F811
    asked = []

    def run(search, argv, jobs, settings, *, shared):
        asked.append((jobs, settings, shared))
        search(argv)

    monkeypatch.setattr("xmodal.commands.sweep.run_jobs", run)
    write(played.home, SPACE)
    assert sweep("--jobs=3", "--job=timeout_min=9", "--trials=2") == 0
    assert asked == [(3, ["timeout_min=9"], False)]
    assert len(played.seen) == 2
    assert "Trial" in (played.home / "experiments/dmsf/tuned/emoji-16.yaml").read_text()


def test_jobs_run_in_processes_of_their_own(home):
    pytest.importorskip("submitit", reason="submitit is not installed: it is in the extra `sweeps`")
    if shutil.which("srun"):
        pytest.skip("there is SLURM here, and the local executor is what this test is about")
    (home / "seen").mkdir()
    run_jobs(touch, [str(home / "seen")], 2, ["timeout_min=20"], shared=False)
    assert len(list((home / "seen").iterdir())) == 2
    with pytest.raises(UserError, match=r"every job failed.*no luck"):
        run_jobs(fail, ["luck"], 1, [], shared=False)
    with pytest.raises(UserError, match="which submitit refuses"):
        run_jobs(touch, [str(home)], 1, ["timeout_minutes=2"], shared=False)
