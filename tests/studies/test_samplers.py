"""Every sampler and pruner by its name: they search, they differ by seed, and a study that goes on draws new points."""

import random
from contextlib import suppress

import optuna
import pytest
from optuna.trial import TrialState

from xmodal.studies.samplers import PRUNERS, SAMPLERS, SOURCE, make_pruner, make_sampler
from xmodal.studies.storage import retry

ARGUMENTS = {"percentile": {"percentile": 25.0}, "threshold": {"lower": 0.5}}


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def objective(trial):
    kind = trial.suggest_categorical("kind", ["a", "b"])
    x = trial.suggest_float("x", 0, 1, step=0.125)
    bonus = trial.suggest_int("bonus", 1, 2) if kind == "b" else 0
    return bonus - (x - 0.75) ** 2


def searched(name, trials, storage=None, **arguments):
    if name == "cmaes":
        pytest.importorskip("cmaes", reason="the package cmaes is not installed: it is in the extra `sweeps`")
    study = optuna.create_study(
        direction="maximize",
        study_name="s",
        storage=storage,
        load_if_exists=True,
        sampler=make_sampler({"name": name, **arguments}),
    )
    study.optimize(objective, n_trials=trials)
    return study


@pytest.mark.filterwarnings("ignore:.*greenlet")
@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_search_and_obey_their_seed(name):
    trials = 27 if name == "grid" else 8 if name == "gp" else 20
    study = searched(name, trials, seed=1)
    assert study.best_value > 1.7
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    again = searched(name, 4, seed=1)
    assert [trial.params for trial in again.trials] == [trial.params for trial in study.trials[:4]]
    other = searched(name, 4, seed=2)
    assert [trial.params for trial in other.trials] != [trial.params for trial in again.trials]


def test_a_grid_covers_a_conditional_space_once():
    study = searched("grid", 27)
    points = {tuple(trial.params.items()) for trial in study.trials}
    assert len(study.trials) == len(points) == 9 + 9 * 2


def test_a_study_that_goes_on_draws_what_the_uninterrupted_one_draws(tmp_path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    searched("random", 5, url)
    broken = searched("random", 5, url)  # a new process has a new sampler
    assert [trial.params for trial in broken.trials] == [trial.params for trial in searched("random", 10).trials]


def killed_after_the_draw(trial):
    objective(trial)
    trial.set_user_attr(SOURCE, {})


def killed_in_the_draw(trial):
    trial.suggest_categorical("kind", ["a", "b"])


def killed_before_the_draw(trial):
    pass


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("dead", [0, 3, 6])
@pytest.mark.parametrize("end", [killed_after_the_draw, killed_in_the_draw, killed_before_the_draw])
def test_a_study_that_was_killed_ends_with_the_trials_of_one_that_was_left_alone(name, dead, end):
    """With cmaes every later trial was another; with gp one killed in its draw was; a grid went on no more at all."""
    whole = searched(name, 8, **({"n_startup_trials": 3} if name in ("tpe", "gp") else {}))
    broken = optuna.create_study(direction="maximize", sampler=whole.sampler)
    broken.optimize(objective, n_trials=dead)
    trial = broken.ask()
    end(trial)
    broken.tell(trial, state=TrialState.FAIL)
    retry(broken, broken.trials[-1])
    broken.optimize(objective, n_trials=8 - dead)
    done = broken.get_trials(states=(TrialState.COMPLETE,))
    assert [(each.params, each.value) for each in done] == [(each.params, each.value) for each in whole.trials]


@pytest.mark.parametrize("name", PRUNERS)
def test_pruners_stop_what_is_bad(name):
    pruner = make_pruner({"name": name, **ARGUMENTS.get(name, {})})
    study = optuna.create_study(direction="maximize", sampler=make_sampler({"name": "random"}), pruner=pruner)

    def falling(trial):
        for step in range(1, 20):
            trial.report(1 - trial.number / 20 - step / 100, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return 0.0

    study.optimize(falling, n_trials=12)
    pruned = [trial for trial in study.trials if trial.state == TrialState.PRUNED]
    assert bool(pruned) == (name != "none")


def test_a_trial_that_died_counts_once_where_halving_compares():
    """Its values stood beside those of the trial that repeats it: what came after was pruned by both, in silence."""

    def climbing(trial, end=8):
        x = trial.suggest_float("x", 0, 1)
        for step in range(end):
            trial.report(x + step / 100, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return x

    def ended(dead):
        study = optuna.create_study(
            direction="maximize",
            sampler=make_sampler({"name": "random"}),
            pruner=make_pruner({"name": "halving", "min_resource": 1, "reduction_factor": 2}),
        )
        study.optimize(climbing, n_trials=dead)
        if dead < 16:
            trial = study.ask()
            with suppress(optuna.TrialPruned):
                climbing(trial, 6)
            trial.set_user_attr(SOURCE, {})
            study.tell(trial, state=TrialState.FAIL)
            retry(study, study.trials[-1])
            study.optimize(climbing, n_trials=16 - dead)
        done = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
        return [(each.params["x"], each.state, each.last_step) for each in done]

    whole = ended(16)
    assert all(ended(dead) == whole for dead in range(16))


@pytest.mark.parametrize("name", ["median", "percentile"])
def test_a_pruner_that_reads_once_decides_as_optunas_own(name, tmp_path, monkeypatch):
    reads = []
    every = optuna.Study.get_trials
    monkeypatch.setattr(optuna.Study, "get_trials", lambda self, *a, **k: reads.append(self) or every(self, *a, **k))
    arguments = ARGUMENTS.get(name, {}) | {"n_startup_trials": 2, "n_warmup_steps": 3}

    def noisy(trial):
        draw = random.Random(trial.number)
        for step in range(10):
            trial.report(value := draw.random() + trial.number % 3, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value

    def ends(pruner, study_name):
        url = f"sqlite:///{tmp_path / 'study.db'}"
        study = optuna.create_study(direction="maximize", storage=url, study_name=study_name, pruner=pruner)
        reads.clear()
        study.optimize(noisy, n_trials=15)
        read = reads.count(study)
        return [(each.state, each.last_step) for each in study.trials], read

    ours = make_pruner({"name": name, **arguments})
    found, once = ends(ours, "first")
    expected, often = ends(PRUNERS[name](**arguments), "second")
    assert found == expected == ends(ours, "third")[0]  # studies are told apart
    assert {state for state, _ in found} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert (once, often) == (15, sum(step + 1 for _, step in found))
