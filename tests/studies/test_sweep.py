"""The sweep itself, with trials that are played: budgets, warm starts, conditions, fronts and GPUs."""

import contextlib
import csv
import json
import time
from argparse import Namespace
from itertools import count
from types import SimpleNamespace

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from xmodal.__main__ import main
from xmodal.files import text_hash
from xmodal.records.record import searched, tuned_text
from xmodal.studies import trial
from xmodal.studies.processes import TrialError, device_groups
from xmodal.studies.tuned import evaluate

SPACE = {
    "trials": 4,
    "sampler": {"name": "random", "seed": 0},
    "space": {
        "model.fusion": {"choice": ["none", "attention"]},
        "model.dropout": {"float": [0.0, 0.5], "when": {"model.fusion": "attention"}},
    },
}


@pytest.fixture
def played(home, monkeypatch, inline):
    """A sweep whose trials end at once; what they were started with is kept in `played.seen`."""

    class Played:
        seen: list
        value = staticmethod(lambda arguments: 0.5)

    played = Played()
    played.home, played.seen = home, []

    def run_trial(arguments, devices, answer, *, timed):
        keys = dict(each.lstrip("-").split("=", 1) for each in arguments)
        played.seen.append(keys | {"timed": timed})
        value = played.value(keys)
        stopped = answer(0, value)
        folder = home / "runs" / "dmsf" / "emoji" / keys["variant"]
        folder.mkdir(parents=True)
        metrics = {"val/map": value, "val/latency": 8 / len(folder.name)}
        record = {"size": 8, "output_size": int(keys["model.bits"]), "metrics": metrics}
        (folder / "result.json").write_text(json.dumps(record))
        return trial.Ended(value, str(folder / "result.json"), stopped)

    monkeypatch.setattr(trial, "run_trial", run_trial)
    monkeypatch.setattr("xmodal.commands.sweep.evaluate", lambda sweep, tuned, size, pool: {"path": str(tuned)})
    monkeypatch.setattr("xmodal.commands.sweep._print_table", lambda kind, records: None)
    write(home, SPACE)
    return played


def write(home, content):
    (home / "sweeps" / "dmsf.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def sweep(*options):
    return main(["sweep", "dmsf", "emoji", "--bits=16", *options])


@contextlib.contextmanager
def opened(home, name="dmsf-emoji-16"):
    """A study, whose connections are closed in the end."""
    database = optuna.storages.RDBStorage(f"sqlite:///{home / 'runs' / 'sweeps.db'}")
    yield optuna.load_study(study_name=name, storage=database)
    database.remove_session()
    database.engine.dispose()


def trials(home, name="dmsf-emoji-16"):
    return stored(f"sqlite:///{home / 'runs' / 'sweeps.db'}", name)


def stored(url, name="dmsf-emoji-16"):
    """The trials of a study, read over a connection that is closed."""
    database = optuna.storages.RDBStorage(url)
    found = optuna.load_study(study_name=name, storage=database).trials
    database.remove_session()
    database.engine.dispose()
    return found


def test_conditional_keys_reach_the_trial_only_under_their_condition(played):
    assert sweep("--trials=8") == 0
    assert len(played.seen) == 8
    assert {keys["model.fusion"] for keys in played.seen} == {"none", "attention"}
    assert all(("model.dropout" in keys) == (keys["model.fusion"] == "attention") for keys in played.seen)
    tuned = yaml.safe_load((played.home / "experiments/dmsf/tuned/emoji-16.yaml").read_text())
    assert tuned["model"]["init_args"]["fusion"] == played.seen[0]["model.fusion"]


def test_time_ends_a_search(played):
    played.value = lambda keys: time.sleep(2) or 0.5
    content = SPACE | {"trials": None, "minutes": 0.1}
    write(played.home, content)
    assert sweep() == 0
    first = len(played.seen)
    assert 1 <= first <= 3
    assert sweep(f"--trials={first}") == 0  # a number of trials ends it as well
    assert len(played.seen) == first


def test_a_clock_that_is_set_does_not_end_a_search(played, monkeypatch):
    clock, told = count(2e9, 1e5), time.time
    monkeypatch.setattr(time, "time", lambda: next(clock) if played.seen else told())
    write(played.home, SPACE | {"minutes": 1})
    assert sweep() == 0
    assert len(played.seen) == SPACE["trials"]


def test_workers_side_by_side_run_as_many_trials_as_were_asked_for(played):
    played.value = lambda keys: time.sleep(0.2) or 0.5
    assert sweep("--trials=5", "--workers=4") == 0
    assert len(played.seen) == 5
    failing = iter([True, False, True])

    def now_and_then(keys):
        if next(failing, False):
            raise TrialError("not this one")
        return 0.5

    played.value = now_and_then
    assert sweep("--trials=8", "--workers=2") == 0  # those that fail are made up for
    assert [each.state for each in trials(played.home)].count(TrialState.COMPLETE) == 8
    assert len(played.seen) == 10


def test_a_tuned_file_is_tried_first(played, capsys):
    file = played.home / "warm.yaml"
    content = yaml.safe_load((played.home / "experiments/dmsf/emoji.yaml").read_text())
    content["model"]["init_args"] |= {"fusion": "attention", "dropout": 0.25, "bits": 64}
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    assert sweep(f"--warm_start={file}", "--trials=2") == 0
    assert (played.seen[0]["model.fusion"], played.seen[0]["model.dropout"]) == ("attention", "0.25")
    assert played.seen[0]["model.bits"] == "16"
    assert played.seen[1]["model.dropout"] != "0.25"  # then the untuned method
    assert sweep(f"--warm_start={file}", "--trials=3") == 0
    assert len({keys.get("model.dropout") for keys in played.seen}) == 3  # not tried again
    content["model"]["init_args"]["dropout"] = 0.9
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    capsys.readouterr()
    assert sweep(f"--warm_start={file}", "--trials=4") == 0
    assert "model.dropout lie outside the space and are drawn" in capsys.readouterr().err
    file.write_text((played.home / "experiments/cca/emoji.yaml").read_text())
    assert sweep(f"--warm_start={file}") == 2
    assert "is of cca, not of dmsf" in capsys.readouterr().err


def test_an_experiment_file_that_lies_outside_the_space_is_told(played, capsys):
    """Its value is drawn in the first trial, so that a search may end below the untuned method."""
    axis = {"model.weight_decay": {"float": [1.0e-6, 1.0e-2], "log": True}}
    write(played.home, SPACE | {"space": SPACE["space"] | axis})
    assert sweep("--trials=1") == 0
    assert float(played.seen[0]["model.weight_decay"]) > 0  # where the file has 0
    told = "dmsf/emoji.yaml: model.weight_decay lie outside the space and are drawn"
    assert told in capsys.readouterr().err  # and no axis that is not there


def test_the_trials_behind_a_warm_start_count_once_it_is_tried(played):
    tuned = played.home / "experiments/dmsf/tuned/emoji-16.yaml"
    assert sweep("--trials=2") == 0
    warm, content = played.home / "warm.yaml", yaml.safe_load(tuned.read_text())
    content["model"]["init_args"] |= {"fusion": "attention", "dropout": 0.25}
    counts = {"complete": 19, "pruned": 5}
    warm.write_text(tuned_text(yaml.safe_dump(content), "xmodal sweep dmsf emoji", "dmsf-emoji-64", 3, 0.5, counts))
    assert sweep(f"--warm_start={warm}", "--trials=2") == 0
    assert searched(tuned) == 2  # the search was over
    assert sweep("--trials=3") == 0
    assert searched(tuned) == 3 + 24


def test_a_front_names_no_folder_that_another_study_has_taken(played, capsys):
    words = ["sweep", "dmsf", "emoji", "--bits=16,32", "--against=size", "--trials=2"]
    assert main(words) == 0
    assert "size-000" in capsys.readouterr().out.splitlines()[3]
    for record in (played.home / "runs/dmsf/emoji").glob("*/result.json"):
        record.write_text(json.dumps(json.loads(record.read_text()) | {"seconds": 9}))  # of a study in another database
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines()[3].endswith("  its folder is of another study")
    with (played.home / "runs/dmsf/emoji/dmsf-emoji-16-32-size-front.csv").open() as file:
        assert {row["path"] for row in csv.DictReader(file)} == {""}


@pytest.mark.parametrize("against", ["size", "latency"])
def test_two_objectives_end_in_a_front(played, capsys, against):
    played.value = lambda keys: (
        {"16": 0.4, "32": 0.6, "64": 0.5}[keys["model.bits"]] + float(keys.get("model.dropout", 0)) / 100
    )
    assert main(["sweep", "dmsf", "emoji", "--bits=16,32,64", f"--against={against}", "--trials=12"]) == 0
    out = capsys.readouterr().out
    name = f"dmsf-emoji-16-32-64-{against}"
    found = trials(played.home, name)
    assert [len(trial.values) for trial in found] == [2] * 12
    assert {keys["timed"] for keys in played.seen} == {against == "latency"}
    with (played.home / f"runs/dmsf/emoji/{name}-front.csv").open() as file:
        front = list(csv.DictReader(file))
    points = [(float(row["val/map"]), float(row[against])) for row in front]
    for value, cost in points:
        assert not any(t.values[0] >= value and t.values[1] < cost for t in found)
        assert not any(t.values[0] > value and t.values[1] <= cost for t in found)
        assert f"{value:.4f}" in out
    if against == "size":
        assert {cost for _, cost in points} == {16, 32}  # 64 bits cost more and find less
    assert all((played.home / "runs" / row["path"] / "result.json").is_file() for row in front)
    figure = played.home / f"runs/dmsf/emoji/{name}-front.png"
    assert figure.stat().st_size > 5000
    figure.unlink()
    assert main(["plots", "dmsf", "emoji", "--bits=16,32,64", f"--against={against}"]) == 0
    assert capsys.readouterr().out == f"{figure}\n"
    assert figure.is_file()
    tuned = played.home / "experiments/dmsf/tuned/emoji-16.yaml"
    assert "Pareto" not in tuned.read_text()


def test_workers_share_the_gpus_out(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert device_groups(2, 1) == ["4", "5"]
    assert device_groups(3, 2) == ["4,5", "6,7", "4,5"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert device_groups(2, 1) == [None, None]


@pytest.mark.parametrize("workers", [1, 4])
def test_a_space_that_changed_under_a_study_is_said(played, capsys, workers):
    assert sweep("--trials=1") == 0
    write(played.home, SPACE | {"space": {"model.fusion": {"choice": ["none", "concat"]}}})
    assert sweep("--trials=5", f"--workers={workers}") == 2
    assert "was begun with another space" in capsys.readouterr().err


def test_no_trial_left_in_a_space_that_changed_is_said(played, capsys):
    assert sweep("--trials=2") == 0
    assert "the space has changed" not in capsys.readouterr().err
    assert sweep("--trials=2") == 0
    assert "the space has changed" not in capsys.readouterr().err
    changed = {**SPACE["space"], "model.dropout": {"float": [0.0, 0.6], "when": {"model.fusion": "attention"}}}
    write(played.home, SPACE | {"space": changed})
    assert sweep("--trials=2") == 0
    err = capsys.readouterr().err
    assert "the space has changed (model.dropout), and no trial is left to run in it" in err
    assert sweep("--trials=3") == 0
    assert "the space has changed" not in capsys.readouterr().err


def test_failures_of_trials_side_by_side_end_a_search(played, capsys):
    def value(keys):
        raise TrialError("out of memory")

    played.value = value
    assert sweep("--trials=4", "--workers=4") == 2
    assert "3 trials of dmsf-emoji-16 failed one after the other" in capsys.readouterr().err
    assert len(played.seen) <= 8


def test_a_grid_ends_its_study(played):
    write(played.home, SPACE | {"trials": 10, "space": {"model.fusion": {"choice": ["none", "attention", "concat"]}}})
    assert sweep("--sampler=grid") == 0
    assert sorted(keys["model.fusion"] for keys in played.seen) == ["attention", "concat", "none"]


def test_a_grid_that_is_done_is_not_begun_again(played):
    space = {"model.fusion": {"choice": ["none", "attention"]}, "model.text_hidden": {"choice": [512, 1024]}}
    write(played.home, {"trials": 10, "sampler": {"name": "grid"}, "space": space})
    for _ in range(2):
        assert sweep() == 0
        assert len(played.seen) == 4


def test_a_run_that_was_fitted_only_is_evaluated_after_the_search(monkeypatch, tmp_path):
    """`xmodal fit` of a tuned file leaves a record without a test, which ended the search in a traceback."""
    fitted = {"config_hash": text_hash("same"), "metrics": {"val/map": 0.5}, "job_type": "train", "path": "fitted"}
    evaluated = fitted | {"metrics": {"test/map": 0.5}, "path": "evaluated"}
    left = iter([[fitted], [evaluated]])
    parsed = SimpleNamespace(folder=tmp_path, yaml="same", own_code={})
    monkeypatch.setattr("xmodal.cli.Parsed", lambda arguments: parsed)
    monkeypatch.setattr("xmodal.studies.tuned.configuration", lambda *_: [])
    monkeypatch.setattr("xmodal.studies.tuned.read_results", lambda folder: iter(next(left)))
    options = Namespace(method="dmsf", data="emoji", bits="16", dim=None, seed=None, epochs=None, devices=None)
    pool = SimpleNamespace(run=lambda tasks: iter([(tasks[0], "evaluated/result.json")]))
    assert evaluate(SimpleNamespace(options=options, devices=1), tmp_path, 16, pool) == evaluated
