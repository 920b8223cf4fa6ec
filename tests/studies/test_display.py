"""What a search says of a trial that has ended."""

from types import SimpleNamespace

import optuna
from optuna.trial import TrialState

from xmodal.studies.supervise import Display


def test_a_trial_that_was_pruned_or_failed_is_said_to_be(capsys):
    study = optuna.create_study(direction="maximize")
    sweep = SimpleNamespace(name="dmsf-emoji-16", against=None, sought=SimpleNamespace(trials=3))
    with Display(sweep, study) as display:
        for state, value in ((TrialState.COMPLETE, 0.5), (TrialState.PRUNED, 0.25), (TrialState.FAIL, None)):
            study.add_trial(optuna.create_trial(state=state, value=value))
        display.refresh()
    assert capsys.readouterr().err.splitlines() == [
        "trial 0: val/map 0.5000, best 0.5000 (trial 0)",
        "trial 1: val/map 0.2500, pruned, best 0.5000 (trial 0)",
        "trial 2: failed, best 0.5000 (trial 0)",
    ]
