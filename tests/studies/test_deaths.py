"""Trials that die, diverge or are interrupted: which of them are tried again, and when a search gives up."""

import shutil

import pytest
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import TrialState

from tests.studies.conftest import Killed
from tests.studies.test_sweep import SPACE, opened, played, sweep, trials, write  # noqa: F401 - a fixture
from xmodal.studies.processes import TrialDiedError, TrialDivergedError, TrialError

retried = RetryHeartbeatStaleTrialCallback.retried_trial_number


def fate(*fates):
    """The value of a trial, or what it raises, one after the other."""
    coming = iter(fates)

    def value(keys):
        if (now := next(coming, None)) is not None:
            raise now
        return 0.5

    return value


def test_a_process_that_dies_is_tried_once_more_and_a_diverged_one_is_pruned(played, capsys):  # noqa: F811
    played.value = fate(None, Killed("gone"), TrialDivergedError("val/map is nan"))
    assert sweep("--trials=4") == 0
    found = trials(played.home)
    assert [trial.state.name for trial in found] == ["COMPLETE", "FAIL", "PRUNED", "COMPLETE", "COMPLETE"]
    assert found[1].user_attrs["error"] == "gone"
    assert found[2].params == found[1].params  # the retry
    assert found[2].user_attrs["error"] == "val/map is nan"
    err = capsys.readouterr().err
    assert "trial 1: gone" in err
    assert "trial 2: val/map is nan" in err


def test_a_process_of_several_devices_that_dies_is_one_of_its_trial(played):  # noqa: F811
    """Its trial was lost: the untuned method, by which a search ends no lower, or a point that was drawn."""
    assert sweep("--trials=3") == 0
    alone = [trial.params for trial in trials(played.home)]
    shutil.rmtree(played.home / "runs")
    played.value = fate(TrialDiedError("gone"), None, TrialDiedError("gone"))
    assert sweep("--trials=3") == 0
    found = trials(played.home)
    assert [trial.state.name for trial in found] == ["FAIL", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert [trial.params for trial in found if trial.state == TrialState.COMPLETE] == alone
    assert found[0].user_attrs["error"] == "gone"


def test_processes_of_several_devices_that_always_die_end_a_search(played, capsys):  # noqa: F811
    played.value = fate(*[TrialDiedError("gone")] * 9)
    assert sweep() == 2
    assert "3 trials of dmsf-emoji-16 failed one after the other" in capsys.readouterr().err
    assert len(played.seen) == 3


def test_a_drawn_trial_is_not_tried_a_third_time(played):  # noqa: F811
    played.value = fate(None, Killed("gone"), Killed("gone"))
    assert sweep("--trials=3") == 0
    found = trials(played.home)
    assert [trial.state.name for trial in found] == ["COMPLETE", "FAIL", "FAIL", "COMPLETE", "COMPLETE"]
    assert found[1].params == found[2].params
    assert [retried(trial) for trial in found] == [None, None, 1, None, None]


def test_interruptions_are_no_limit_to_a_trial(played):  # noqa: F811
    """A trial that two kills cut off was lost, in silence, and the search was another than one left alone."""
    assert sweep("--trials=4") == 0
    alone = [trial.params for trial in trials(played.home)]
    shutil.rmtree(played.home / "runs")
    for played.value in (fate(None, SystemExit()), fate(SystemExit()), fate(SystemExit())):
        with pytest.raises(SystemExit):  # as Ctrl-C: the command ends, and its workers by it
            sweep("--trials=4")
    played.value = fate(Killed("gone"))  # nor are they the death after which a trial is tried once more
    assert sweep("--trials=4") == 0
    found = trials(played.home)
    assert [trial.params for trial in found if trial.state == TrialState.COMPLETE] == alone
    assert [trial.state.name for trial in found].count("FAIL") == 4


def test_processes_that_always_die_end_a_search(played, capsys):  # noqa: F811
    played.value = fate(*[Killed("gone")] * 9)
    assert sweep() == 2
    assert "3 trials of dmsf-emoji-16 failed one after the other" in capsys.readouterr().err
    assert len(played.seen) == 3


def test_the_untuned_method_survives_any_number_of_interruptions(played):  # noqa: F811
    untuned = {"model.fusion": "attention", "model.dropout": 0.3}
    for _ in range(4):
        played.value = fate(KeyboardInterrupt())
        assert sweep("--trials=2") == 130
    played.value = fate(TrialError("the disk is full"))  # nor does an error that is mended make an end of it
    assert sweep("--trials=2") == 0
    played.value = fate()
    assert sweep("--trials=3") == 0
    found = trials(played.home)
    complete = [trial for trial in found if trial.state == TrialState.COMPLETE]
    assert len(complete) == 3
    assert [trial.params for trial in complete].count(found[0].params) == 1
    assert found[0].params.keys() == untuned.keys()
    assert TrialState.RUNNING not in {trial.state for trial in found}


def test_a_trial_that_died_before_its_first_sign_of_life_is_tried_again(played):  # noqa: F811
    assert sweep("--trials=1") == 0
    with opened(played.home) as study:
        study.ask()  # as a process leaves it that is killed right there
    assert sweep("--trials=2") == 0
    assert [trial.state.name for trial in trials(played.home)] == ["COMPLETE", "FAIL", "COMPLETE"]


@pytest.mark.parametrize("name", ["random", "grid"])
@pytest.mark.parametrize("drawn", [False, True])
def test_a_search_goes_on_after_a_trial_that_died_in_its_draw(played, name, drawn, capsys):  # noqa: F811
    """A grid was refused for ever: it was said to have been begun with another space."""
    space = {"model.fusion": {"choice": ["none", "attention"]}, "model.text_hidden": {"choice": [512, 1024]}}
    pruner = {"name": "hyperband", "max_resource": 2}  # for whose sake Optuna shows a part of the study
    write(played.home, {"trials": 4, "sampler": {"name": name}, "pruner": pruner, "space": space})
    assert sweep("--trials=1") == 0
    with opened(played.home) as study:
        trial = study.ask()  # as a process leaves it that is killed right there
        if drawn:
            trial.suggest_categorical("model.fusion", ["none", "attention"])
    assert sweep() == 0
    found = trials(played.home)
    assert [trial.state == TrialState.FAIL for trial in found] == [False, True, False, False, False]
    if name == "grid":
        assert len({str(trial.params) for trial in found if trial.state != TrialState.FAIL}) == 4


@pytest.mark.parametrize("error", [None, TrialError("out of memory"), Killed("gone")])
def test_a_trial_that_others_took_for_dead_does_not_end_the_search(played, error):  # noqa: F811
    """Its process was held, as a job that is suspended, and went on: the search ended in a traceback."""

    def value(keys):
        with opened(played.home) as study:
            if len(study.trials) == 2:
                study.tell(1, state=TrialState.FAIL)  # what another process does that sees no sign of life
                if error:
                    raise error
        return 0.5

    played.value = value
    assert sweep("--trials=3") == 0
    assert [trial.state.name for trial in trials(played.home)] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]


@pytest.mark.parametrize("failures", [1, 99])
def test_a_point_of_a_grid_whose_trial_failed_is_tried_again_after_the_others(played, capsys, failures):  # noqa: F811
    """The search ended without it, and the next command drew any point until the number was met."""
    left = [TrialError("out of memory")] * failures

    def value(keys):
        if (keys["model.fusion"], keys["model.text_hidden"]) == ("none", "512") and left:
            raise left.pop()
        return 0.5

    played.value = value
    space = {"model.fusion": {"choice": ["none", "attention"]}, "model.text_hidden": {"choice": [512, 1024]}}
    write(played.home, {"trials": 10, "sampler": {"name": "grid"}, "space": space})
    for _ in range(2):
        assert sweep() == (0 if failures == 1 else 2)
    assert ("3 trials of dmsf-emoji-16 failed one after the other" in capsys.readouterr().err) == (failures > 1)
    done = [tuple(each.params.values()) for each in trials(played.home) if each.state == TrialState.COMPLETE]
    assert len(done) == len(set(done)) == (4 if failures == 1 else 3)


def test_the_untuned_method_is_not_pruned(played):  # noqa: F811
    """`threshold` ended it, and so did `halving` and `hyperband` beside others: a search might end below it."""
    write(played.home, SPACE | {"pruner": {"name": "threshold", "lower": 0.6}})
    assert sweep("--trials=3") == 0
    assert [each.state for each in trials(played.home)] == [TrialState.COMPLETE, *[TrialState.PRUNED] * 2]
