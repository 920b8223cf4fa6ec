"""Sweeps through the command line: what they find, what they never open, and what a kill leaves."""

import json
import os
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from tests import forks
from tests.studies.kills import kill_and_go_on
from tests.studies.kills import small as few_pairs
from xmodal.__main__ import main
from xmodal.methods import DMSF

pytestmark = pytest.mark.usefixtures("offline")

SPACE = {
    "trials": 3,
    "sampler": {"name": "random", "seed": 0},
    "space": {
        "model.weights.intra": {"float": [0.01, 10.0], "log": True},
        "model.fusion": {"choice": ["none", "attention"]},
    },
}


@pytest.fixture
def small(home):
    """A sweep of seconds: 64 pairs, 3 epochs, two axes."""
    few_pairs(home, SPACE)
    return home


def sweep(*options, status=0, **more):
    done = forks.run("sweep", "dmsf", "emoji", *options, **more)
    assert done.returncode == status, done.stderr
    return done


def study(home, bits=16):
    return optuna.load_study(study_name=f"dmsf-emoji-{bits}", storage=f"sqlite:///{home / 'runs' / 'sweeps.db'}")


@pytest.mark.slow
def test_a_sweep_tunes_on_validation_and_evaluates_once(small, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")  # those that are killed end offline
    done = sweep("--bits=16,8")
    assert "best" in done.stderr
    table = [line.split() for line in done.stdout.splitlines() if line.strip()[:2] in ("16", "8 ")]
    assert [row[0] for row in table] == ["16", "8"]
    trials = study(small).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 3
    assert trials[0].params == {"model.weights.intra": 1.0, "model.fusion": "attention"}  # the untuned method
    best = study(small).best_trial
    for trial in trials:
        record = json.loads((small / f"runs/dmsf/emoji/16/trial-{trial.number:04d}-seed0/result.json").read_text())
        assert record["metrics"]["val/map"] == pytest.approx(trial.value)
        assert record["metrics"].keys() == {"val/map"}
        assert (record["group"], record["job_type"]) == ("dmsf-emoji-16", "trial")
    tuned = small / "experiments/dmsf/tuned/emoji-16.yaml"
    assert f"Trial {best.number}, val/map {best.value:.6f}" in tuned.read_text()
    arguments = yaml.safe_load(tuned.read_text())["model"]["init_args"]
    assert arguments["bits"] == 16
    assert arguments["fusion"] == best.params["model.fusion"]
    assert arguments["weights"] == {"intra": best.params["model.weights.intra"]}
    record = json.loads((small / "runs/dmsf/emoji/16/tuned-seed0/result.json").read_text())
    assert record["metrics"]["val/map"] == pytest.approx(best.value, abs=1e-12)  # the same run again
    assert f"{record['metrics']['test/map_i2t']:.4f}" == table[0][1]
    before = (small / "runs/dmsf/emoji/16/tuned-seed0/result.json").stat().st_mtime_ns
    again = sweep("--bits=16")
    assert len(study(small).trials) == 3
    assert (small / "runs/dmsf/emoji/16/tuned-seed0/result.json").stat().st_mtime_ns == before  # evaluated once
    assert table[0] == next(line.split() for line in again.stdout.splitlines() if line.strip().startswith("16"))
    path = small / "runs/dmsf/emoji/16/tuned-seed0/result.json"
    path.write_text(json.dumps(record | {"trials": 2}))  # as of a search that has gone on since
    sweep("--bits=16")
    assert json.loads(path.read_text()) == record
    assert record["trials"] == 3


@pytest.mark.parametrize(
    ("timed", "measured"), [(False, {"val/map"}), (True, {"val/map", "val/latency"})], ids=["trial", "timed"]
)
def test_trials_never_open_the_query_set(small, monkeypatch, timed, measured):
    from xmodal.data import CrossModalDataModule
    from xmodal.experiment import configuration
    from xmodal.studies import trial

    opened, role = [], CrossModalDataModule.role
    monkeypatch.setattr(CrossModalDataModule, "role", lambda self, name: opened.append(name) or role(self, name))
    arguments = [*configuration("dmsf", "emoji"), "--model.bits=8", "--variant=trial-0000", "--job_type=trial"]
    trial.run_trial(arguments, 1, lambda *_: False, timed=timed)
    assert set(opened) == {"train", "val_query", "val_database"}
    record = json.loads((small / "runs/dmsf/emoji/8/trial-0000-seed0/result.json").read_text())
    assert record["metrics"].keys() == measured
    assert all(value > 0 for value in record["metrics"].values())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_killed_anywhere_it_goes_on(small, seed):
    kill_and_go_on(small, seed)


def long_ones_die():
    start = DMSF.on_fit_start
    DMSF.on_fit_start = lambda self: os._exit(9) if self.hparams["bits"] == 4095 else start(self)


def test_a_trial_that_dies_does_not_end_the_study(small):
    content = SPACE | {"space": SPACE["space"] | {"model.bits": {"choice": [16, 4095]}}}
    content |= {"trials": 2, "sampler": {"name": "random", "seed": 7}}  # whose second trial has 4095 bits, the next 16
    (small / "sweeps" / "dmsf.yaml").write_text(yaml.safe_dump(content))
    done = sweep("--bits=16", "--trials=2", prepare=long_ones_die)
    trials = study(small).trials
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert sum(trial.state == TrialState.COMPLETE for trial in trials) == 2
    assert len(failed) == 2  # the trial, and its one retry
    assert failed[0].params == failed[1].params
    assert all("process died (exit status 9)" in trial.user_attrs["error"] for trial in failed)
    assert "process died" in done.stderr


def test_failures_in_a_row_end_the_sweep_with_the_reason(small):
    path = small / "experiments" / "dmsf" / "emoji.yaml"
    content = yaml.safe_load(path.read_text())
    content["data"]["init_args"]["root"] = str(small / "nowhere.txt")
    (small / "nowhere.txt").write_text("a file")
    path.write_text(yaml.safe_dump(content))
    done = sweep("--bits=16", status=2)
    assert "cannot write the feature cache" in done.stderr
    assert "3 trials of dmsf-emoji-16 failed one after the other" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (small / "experiments/dmsf/tuned/emoji-16.yaml").exists()  # nothing was written


def test_unknown_keys_of_a_space_are_refused_before_the_first_trial(small, capsys):
    for key, axis in (("model.weights.pairwise", {"float": [0, 1]}), ("model.fusion", {"choice": ["none", "cubist"]})):
        (small / "sweeps" / "dmsf.yaml").write_text(yaml.safe_dump(SPACE | {"space": {key: axis}}))
        assert main(["sweep", "dmsf", "emoji", "--bits", "16"]) == 2
        err = capsys.readouterr().err
        assert f"the sweep space of dmsf has {key}" in err
        assert err.count("\n") == 1
    assert not Path(small / "runs").exists()
