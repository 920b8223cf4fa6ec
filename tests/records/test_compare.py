"""`xmodal compare` leaves bad records out and names them, and is quick over many."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.records.records import write_run
from xmodal.__main__ import main

BAD = {
    "nan": lambda record: record["metrics"].update({"test/map": float("nan")}),
    "infinite": lambda record: record["metrics"].update({"test/map_t2i": float("inf")}),
    "no metric": lambda record: record["metrics"].pop("test/map_i2t"),
    "no chance": lambda record: record["metrics"].pop("test/random_i2t"),
    "text": lambda record: record["metrics"].update({"val/map": "high"}),
    "no device": lambda record: record.update(device=None),
    "seconds": lambda record: record.update(seconds="long"),
    "no metrics": lambda record: record.update(metrics=None),
    "no sizes": lambda record: record.pop("split_sizes"),
    "a size": lambda record: record.update(size="64"),
    "a seed": lambda record: record.update(seed=None),
    "a method": lambda record: record.update(method=["dmsf"]),
    "a name": lambda record: record.update(variant="\ud800\n"),
    "no length": lambda record: record.update(size=0),
    "long": lambda record: record["metrics"].update({"test/map": 10**400}),
    "more than all": lambda record: record["metrics"].update({"test/map_i2t": 7.0}),
    "a commit": lambda record: record.update(commit=5),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_left_out_and_named(home, capsys, name):
    runs = home / "runs"
    for seed in (0, 1):
        write_run(runs, "dcmh", seed=seed)
        write_run(runs, "dmsf", seed=seed)
    path = runs / "dmsf" / "emoji" / "64" / "seed1" / "result.json"
    record = json.loads(path.read_text())
    BAD[name](record)
    path.write_text(json.dumps(record))
    assert main(["compare"]) == 0
    out, err = capsys.readouterr()
    assert "1 records are left out" in err
    assert str(path) in err
    assert [line.split()[0] for line in out.splitlines()] == ["method", "dcmh", "dmsf"]
    path.write_text(path.read_text()[:200])
    assert main(["compare"]) == 0
    assert str(path) in capsys.readouterr().err


COUNT = np.arange(60.0)
ODD = {
    "shorter": {"ap_i2t": COUNT[1:] / 60},
    "two columns": {"ap_i2t": np.zeros((60, 2))},
    "text": {"ap_i2t": COUNT.astype(str)},
    "nan": {"ap_t2i": COUNT * np.nan},
    "above one": {"ap_t2i": COUNT},
    "single": {"ap_t2i": np.array(0.5)},
    "one query": {name: np.zeros(1) for name in ("query_index", "ap_i2t", "ap_t2i")},
    "no query": {name: np.zeros(0) for name in ("query_index", "ap_i2t", "ap_t2i")},
    "narrow curve": {"pr_rank_i2t": np.zeros((60, 2))},
    "empty curve": {"pr_rank_i2t": np.zeros((0, 3))},
    "curve of text": {"pr_rank_t2i": np.full((60, 3), "a")},
    "curve of nan": {"pr_rank_t2i": np.full((60, 3), np.nan)},
}


@pytest.mark.parametrize("name", ODD)
def test_odd_values_of_queries_are_none(home, capsys, name):
    for method in ("dcmh", "dmsf"):
        for seed in (0, 1):
            folder = write_run(home / "runs", method, seed=seed)
    kept = dict(np.load(folder / "evaluation.npz"))
    np.savez(folder / "evaluation.npz", **kept | ODD[name])
    (folder / "gallery.png").mkdir()
    assert main(["compare"]) == 0
    assert "dmsf" in capsys.readouterr().out
    assert "NaN" not in (home / "runs" / "compare.html").read_text()


def test_a_record_without_seconds_is_no_trouble(home, capsys):
    write_run(home / "runs")
    path = next((home / "runs").rglob("result.json"))
    record = json.loads(path.read_text())
    del record["seconds"]
    path.write_text(json.dumps(record))
    assert main(["compare"]) == 0
    err = capsys.readouterr().err
    assert "broken" not in err
    assert "\nthreads: of the CPU, in which a run was computed" in err  # what the column is
    assert "chosen\n(twdh's were chosen by its long code's).\n" in err
    assert main(["compare", "--format=csv"]) == 0
    assert "threads" not in capsys.readouterr().err


def test_settings_are_read_once_for_a_setup(home, monkeypatch):
    from xmodal.records import setups

    for seed in range(5):
        for variant in ("base", "no_graph"):
            write_run(home / "runs", seed=seed, variant=variant)
    read, whole, opened, result = [], setups.read_settings, [], setups.read_result
    monkeypatch.setattr(setups, "read_result", lambda path: opened.append(path) or result(path))
    monkeypatch.setattr(setups, "read_settings", lambda folder: read.append(folder) or whole(folder))
    started = time.process_time()
    assert main(["compare"]) == 0
    assert len(read) == 2
    assert len(opened) == len(set(opened)) == 10
    assert time.process_time() - started < 30


def test_a_reader_that_has_had_enough_is_no_error(home):
    for seed in range(3):
        write_run(home / "runs", seed=seed)
    code = f"{sys.executable} -c 'import time, sys; from xmodal.__main__ import main; sys.exit(main())'"
    done = subprocess.run(
        ["bash", "-c", f"({code} compare; echo $? >&2) | true"],
        env={**os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_folders_that_cannot_be_read_are_named(home, capsys, monkeypatch):
    """Their runs may be seeds of a mean that is shown."""
    write_run(home / "runs", seed=0)
    locked = write_run(home / "runs", seed=1)
    scan = os.scandir

    def scandir(folder):
        if str(folder) == str(locked):
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    assert main(["compare"]) == 0
    assert f"{locked} cannot be read: Permission denied" in capsys.readouterr().err


def test_seeds_of_several_codes_and_rivals_of_several_features_are_told(home, capsys):
    """A method that was edited between two seeds, and one that read other features: both were ranked without a word."""
    for seed, diff in enumerate(("1" * 16, "2" * 16)):
        write_run(home / "runs", "dmsf", seed=seed, dirty=True, diff=diff, inputs_hash="one")
    write_run(home / "runs", "dcmh", inputs_hash="one")
    write_run(home / "runs", "dcmh", split="b" * 64, setup_hash="b", variant="b", inputs_hash="of other pairs")
    assert main(["compare"]) == 0
    code = "code of dmsf-emoji-64 base (setup setup-dmsf-base-64) cccccccccc+111111 and cccccccccc+222222"
    said = f"Not all by the same versions or inputs: {code}."
    assert said in capsys.readouterr().err
    assert said in (home / "runs" / "compare.html").read_text()
    write_run(home / "runs", "scahn", inputs_hash="two")
    assert main(["compare"]) == 0
    assert "inputs of emoji (split aaaaaaaa, labels not recorded) one and two" in capsys.readouterr().err
