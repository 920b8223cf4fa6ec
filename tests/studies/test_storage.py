"""The database of a study, with trials that are played: locked, copied, damaged, out of reach."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import time

import optuna
import pytest
import sqlalchemy

from tests.studies.conftest import Killed
from tests.studies.test_sweep import played, sweep, trials  # noqa: F401 - a fixture
from xmodal.parent import has_ended, myself
from xmodal.studies import storage


def test_a_locked_database_is_said_and_then_the_search_goes_on(played, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setattr(storage, "PATIENCE", 0.2)
    assert sweep("--trials=1") == 0
    database = played.home / "runs" / "sweeps.db"

    def locks(keys):
        connection = sqlite3.connect(database, check_same_thread=False)
        while not connection.execute("SELECT * FROM trial_heartbeats WHERE trial_id = 2").fetchall():
            time.sleep(0.02)  # until the trial has given a sign of life
        connection.execute("BEGIN EXCLUSIVE")
        played.connection = connection
        return 0.5

    played.value = locks
    capsys.readouterr()
    assert sweep("--trials=2") == 2
    err = capsys.readouterr().err
    assert "cannot use the study database" in err
    assert "database is locked" in err
    played.connection.close()
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '-1 hour')")
    played.value = lambda keys: 0.5
    assert sweep("--trials=3") == 0
    assert sorted(trial.state.name for trial in trials(played.home)) == ["COMPLETE"] * 3 + ["FAIL"]


def test_a_sweep_that_was_killed_while_it_made_its_database_goes_on(played):  # noqa: F811
    """Optuna makes a table, commits it, and makes its indexes, without which one name is of two studies."""

    def killed(connection, cursor, statement, *_):
        if statement.startswith("CREATE UNIQUE INDEX"):
            raise Killed

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", killed)
    try:
        with pytest.raises(Killed):
            sweep("--trials=2")
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", killed)
    assert sweep("--trials=2") == 0
    assert [trial.state.name for trial in trials(played.home)] == ["COMPLETE"] * 2
    assert sorted(path.name for path in (played.home / "runs").glob("sweeps*")) == [
        "sweeps.db", "sweeps.db-journal", "sweeps.db.lock",
    ]  # fmt: skip


def test_a_trial_that_was_running_when_its_study_was_copied_is_tried_again(played, monkeypatch):  # noqa: F811
    monkeypatch.setattr(storage, "GRACE", 1)
    monkeypatch.setattr(storage, "HEARTBEAT", 1)
    assert sweep("--trials=1") == 0
    url = f"sqlite:///{played.home / 'runs' / 'sweeps.db'}"
    study = optuna.load_study(study_name="dmsf-emoji-16", storage=url)
    study.ask().set_user_attr(storage.WORKER, "elsewhere")  # copy_study takes no signs of life along
    assert sweep("--trials=2") == 0
    assert sorted(trial.state.name for trial in trials(played.home)) == ["COMPLETE"] * 2 + ["FAIL"]


def test_a_trial_of_a_command_that_has_ended_is_tried_again_at_once(played):  # noqa: F811
    """And before any other, as if nothing had happened; what other machines run is left alone."""
    ended = subprocess.run(
        [sys.executable, "-c", "from xmodal.parent import myself; print(myself())"],
        stdout=subprocess.PIPE, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    assert has_ended(ended)
    assert not has_ended(myself())
    place, pid, begun = ended.split()
    assert has_ended(f"{place} {os.getpid()} {begun}"), "another process of the same number"
    assert not has_ended(f"elsewhere {pid} {begun}")
    assert not has_ended("")
    assert sweep("--trials=1") == 0
    url = f"sqlite:///{played.home / 'runs' / 'sweeps.db'}"
    study = optuna.load_study(study_name="dmsf-emoji-16", storage=url)
    study.ask().set_user_attr(storage.WORKER, f"worker {ended}")
    assert sweep("--trials=2") == 0
    assert [each.state.name for each in trials(played.home)] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert storage.RetryHeartbeatStaleTrialCallback.retried_trial_number(trials(played.home)[2]) == 1


def test_sqlites_journal_file_is_kept_unless_somebody_chose_another_mode(played):  # noqa: F811
    assert sweep("--trials=1") == 0
    database = played.home / "runs" / "sweeps.db"
    assert database.with_name("sweeps.db-journal").stat().st_size > 0
    with contextlib.closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
    assert sweep("--trials=2") == 0
    with contextlib.closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_database_that_cannot_be_written_is_said(played, capsys):  # noqa: F811
    assert sweep("--trials=1") == 0
    capsys.readouterr()
    database = played.home / "runs" / "sweeps.db"
    assert sweep("--trials=2", f"--storage=sqlite:///file:{database}?mode=ro&uri=true") == 2
    assert "readonly database" in capsys.readouterr().err
    database.write_text("no database")
    assert sweep("--trials=2") == 2
    assert "not a database" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql+psycopg://user:secret@127.0.0.1:1/none", "cannot use the study database"),
        ("oracle://127.0.0.1/none", "needs a driver"),
        ("nonsense", "Could not parse"),
    ],
)
def test_a_database_out_of_reach_is_said_without_its_password(played, capsys, url, message):  # noqa: F811
    if "psycopg" in url:
        pytest.importorskip("psycopg", reason="psycopg is not installed: it is in the extra `sweeps`")
    assert sweep(f"--storage={url}") == 2
    err = capsys.readouterr().err
    assert message in err
    assert "secret" not in err
    assert err.count("\n") == 1
