"""One study behind a real PostgreSQL server, and searches in jobs."""

import os
import shutil
import signal
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest

from tests.postgres import installed, server
from tests.studies.jobs import fail, limit, touch
from tests.studies.test_faults import begin, together
from tests.studies.test_sweep import SPACE, played, stored, sweep, write  # noqa: F401 - a fixture
from xmodal.errors import UserError
from xmodal.studies.jobs import NO_LIMIT, run_jobs


@pytest.fixture
def postgres():
    """The URL of a server of its own, reached through a socket in its folder."""
    with server(installed()) as folder:
        yield f"postgresql+psycopg://xmodal@/postgres?host={folder}"


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


def test_the_command_ends_a_study_only_that_its_jobs_have_searched(played, monkeypatch, capsys):  # noqa: F811
    """A job of several methods keeps what it refuses in its log."""
    tuned = played.home / "experiments" / "dmsf" / "tuned" / "emoji-16.yaml"

    def run(search, argv, *_, **__):
        with suppress(UserError):
            search([*argv, "--trials=1"])

    monkeypatch.setattr("xmodal.commands.sweep.run_jobs", run)
    write(played.home, SPACE)
    assert sweep("--jobs=2", "--trials=1") == 0
    before = tuned.read_text()
    assert sweep("--jobs=2", "--trials=1", "--epochs=3") == 2
    assert "begun with trainer.max_epochs 30, not 3" in capsys.readouterr().err
    assert sweep("--jobs=2", "--trials=2") == 2  # of which the jobs do one
    assert "the jobs ended with 1 of 2 trials of dmsf-emoji-16; the reasons are in " in capsys.readouterr().err
    assert tuned.read_text() == before


def test_jobs_do_not_search_what_would_replace_a_tuned_file_of_other_data(played, monkeypatch, capsys):  # noqa: F811
    """They searched to the end before the command said so."""
    tuned = played.home / "experiments/dmsf/tuned/emoji-16.yaml"
    tuned.parent.mkdir(exist_ok=True)
    tuned.write_text("data: {class_path: Emoji, init_args: {relevance: finest}}\n")
    monkeypatch.setattr("xmodal.commands.sweep.run_jobs", lambda search, argv, *_, **__: search(argv))
    write(played.home, SPACE)
    assert sweep("--bits=8,16", "--trials=1") == 2  # nor does a command of several sizes begin with the first
    assert not played.seen
    capsys.readouterr()
    assert sweep("--jobs=2", "--trials=1") == 2
    assert "was searched with data.relevance finest, not absent: move it away" in capsys.readouterr().err
    assert not played.seen


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


def test_a_job_lasts_as_long_as_its_search(home, monkeypatch):
    """Of this machine submitit ended it after two minutes, of SLURM after five."""
    submitit = pytest.importorskip("submitit", reason="submitit is not installed: it is in the extra `sweeps`")
    if not shutil.which("srun"):
        (home / "seen").mkdir()
        run_jobs(limit, [str(home / "seen")], 1, [], shared=False)
        run_jobs(limit, [str(home / "seen")], 1, ["timeout_min=20"], shared=False)
        assert {each.name for each in (home / "seen").iterdir()} == {str(60 * NO_LIMIT), "1200"}
    slurm = SimpleNamespace(cluster="slurm", update_parameters=lambda **_: None)
    monkeypatch.setattr(submitit, "AutoExecutor", lambda folder: slurm)
    with pytest.raises(UserError, match="add JOB='timeout_min=600'"):
        run_jobs(limit, [], 1, ["gpus_per_node=1"], shared=True)
