"""Kills a search at a drawn moment and sees what is left; by hand: `python -m tests.studies.kills FIRST LAST FOLDER`.

With a fourth word, `run`, it is one run that is killed: every file is then whole, and the same command ends with the
record and the checkpoints of a run that was left alone.

The command, its session or one of its workers is killed by SIGKILL. FOLDER is where the runs lie, which may be
another file system than `TMPDIR`. Then no process may be left after ten seconds, the
database is sound, and the same command ends with every trial done once and none running.
"""

import contextlib
import json
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import optuna
import yaml

from tests import forks
from xmodal.checkpoint import read_checkpoint

TRIALS = 4


def command(home, **more):
    """A search of seconds, in a session of its own."""
    words = ["sweep", "dmsf", "emoji", "--bits=16", f"--trials={TRIALS}", "--workers=2"]
    return forks.start(*words, out=home / "log", **more)


def processes(home):
    """Process id and command line of what works in this home: its folder is the home's, and a dead one has none."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cwd").readlink() == home.resolve():
                found[int(entry.name)] = (entry / "cmdline").read_bytes()
    return found


def ended(process):
    """The exit status of a command that ends by itself."""
    process.join(300)
    return process.exitcode


def all_gone(home):
    """Seconds until no process works in this home; more than ten are a failure."""
    killed = time.monotonic()
    while processes(home) and time.monotonic() < killed + 10:
        time.sleep(0.05)
    assert not processes(home)
    return round(time.monotonic() - killed, 1)


def ask(home, query):
    """Rows of the study's database; None while there is none."""
    with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(_connect(home)) as connection:
        return connection.execute(query).fetchall()
    return None


def _connect(home):
    return sqlite3.connect(f"file:{home / 'runs' / 'sweeps.db'}?mode=ro", uri=True, timeout=60)


def kill_and_go_on(home, seed):
    """Kill one search, see what is left, and run it again; what was killed and when comes back."""
    draw = random.Random(seed)
    victim = draw.choice(["command", "session", "worker"])
    begun, delay = draw.randrange(TRIALS), draw.uniform(0, 3)
    process = command(home)
    deadline = time.monotonic() + 200
    while len(ask(home, "SELECT * FROM trials WHERE state != 'WAITING'") or ()) < begun:  # trials that have begun
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(delay)
    there = processes(home)
    workers = [pid for pid in there if pid != process.pid and there[pid] == there.get(process.pid)]  # forks of it
    if victim == "worker" and workers:
        os.kill(draw.choice(workers), signal.SIGKILL)
        assert ended(process) == 0, (home / "log").read_text()  # the command goes on by itself
    else:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.killpg(process.pid, signal.SIGKILL) if victim == "session" else process.kill()
        process.join()
    left = all_gone(home)
    before = ask(home, "SELECT number, state FROM trials") or []
    assert (ask(home, "PRAGMA integrity_check") or [("ok",)]) == [("ok",)]
    if before:
        with contextlib.closing(sqlite3.connect(home / "runs" / "sweeps.db")) as connection, connection:
            connection.execute("UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '-1 hour')")
    again = command(home)
    assert ended(again) == 0, (home / "log").read_text()
    assert not processes(home)
    assert ask(home, "PRAGMA integrity_check") == [("ok",)]
    trials = optuna.load_study(study_name="dmsf-emoji-16", storage=f"sqlite:///{home / 'runs' / 'sweeps.db'}").trials
    states = Counter(trial.state.name for trial in trials)
    done = [trial for trial in trials if trial.state.name in ("COMPLETE", "PRUNED")]
    assert states["RUNNING"] == 0, states
    assert len(done) == TRIALS, states
    assert len({str(trial.params) for trial in done}) == TRIALS  # none doubled
    finished = {number for number, state in before if state in ("COMPLETE", "PRUNED")}
    assert finished <= {trial.number for trial in done}  # none lost
    interrupted = [trial.params.items() for trial in trials if trial.state.name == "FAIL"]
    assert all(any(params <= trial.params.items() for trial in done) for params in interrupted)
    untuned = {"model.weights.intra": 1.0, "model.fusion": "attention"}
    assert untuned in [trial.params for trial in done if trial.state.name == "COMPLETE"]
    assert not list(home.rglob("*.partial"))
    return f"seed {seed}: {victim} after {begun} begun + {delay:.1f} s; gone after {left} s; {dict(states)}"


def whole(home):
    """Read every file of the runs; one that is truncated raises."""
    for path in sorted((home / "runs").rglob("*")):
        if path.suffix == ".ckpt":
            read_checkpoint(path)
        elif path.suffix in (".json", ".yaml"):
            assert isinstance(yaml.safe_load(path.read_text()), dict), path
        elif path.suffix == ".npz":
            with np.load(path) as file:
                assert {name: file[name] for name in file}


def kill_run_and_go_on(home, seed, alone={}):  # noqa: B006 - the run that is left alone is made once
    """Kill one run, see that its files are whole, and run it again; what was killed and when comes back."""

    def start(*more):
        return forks.start("train", "dmsf", "emoji", "--bits=16", *more, out=home / "log")

    def left(folder):
        state = {name: read_checkpoint(folder / "checkpoints" / f"{name}.ckpt") for name in ("best", "last")}
        digest = {
            (name, key): value.numpy().tobytes() for name in state for key, value in state[name]["state_dict"].items()
        }
        return json.loads((folder / "result.json").read_text())["metrics"], digest

    folder = home / "runs" / "dmsf" / "emoji" / "16"
    if not alone:
        begun = time.monotonic()
        assert ended(start("--variant=alone")) == 0, (home / "log").read_text()
        alone |= {"left": left(folder / "alone-seed0"), "seconds": time.monotonic() - begun}
    delay = random.Random(seed).uniform(0.4, 1.0) * alone["seconds"]
    process = start()
    time.sleep(delay)
    with contextlib.suppress(ProcessLookupError):  # it has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.join()
    gone = all_gone(home)
    whole(home)
    stages = sorted(path.name for path in (folder / "seed0").rglob("*") if path.is_file() and "W&B" not in str(path))
    assert ended(start()) == 0, (home / "log").read_text()
    whole(home)
    assert left(folder / "seed0") == alone["left"]
    assert not list(home.rglob("*.partial"))
    return f"seed {seed}: after {delay:.1f} of {alone['seconds']:.1f} s; gone after {gone} s; {', '.join(stages)}"


def small(home, space, epochs=3):
    """Files of a sweep of seconds: 64 pairs, few epochs."""
    (home / "sweeps" / "dmsf.yaml").write_text(yaml.safe_dump(space))
    path = home / "experiments" / "dmsf" / "emoji.yaml"
    content = yaml.safe_load(path.read_text())
    content["data"]["init_args"] = {"subset": 64, "batch_size": 8}
    content["trainer"] = {"max_epochs": epochs}
    content["gallery"] = False
    path.write_text(yaml.safe_dump(content))
    for tuned in (path.parent / "tuned").glob("emoji-*.yaml"):
        tuned.unlink()  # of all pairs


if __name__ == "__main__":
    import shutil

    from tests.conftest import CHECKOUT
    from tests.studies.test_study import SPACE

    for number in range(int(sys.argv[1]), int(sys.argv[2])):
        with tempfile.TemporaryDirectory(dir=sys.argv[3]) as folder:
            for name in ("experiments", "sweeps"):
                shutil.copytree(CHECKOUT / name, Path(folder) / name)
            os.environ["XMODAL_HOME"] = folder
            small(Path(folder), SPACE)
            print((kill_run_and_go_on if sys.argv[4:] == ["run"] else kill_and_go_on)(Path(folder), number), flush=True)
