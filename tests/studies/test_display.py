"""What a search says of a trial that has ended."""

from types import SimpleNamespace

import optuna
from optuna.trial import TrialState

from xmodal.commands.sweep import _print_table
from xmodal.studies.supervise import Display


def test_a_trial_that_was_pruned_or_failed_is_said_to_be(capsys):
    study = optuna.create_study(direction="maximize")
    sweep = SimpleNamespace(name="dmsf-emoji-16", against=None, sought=SimpleNamespace(budget=3))
    with Display(sweep, study) as display:
        for state, value in ((TrialState.COMPLETE, 0.5), (TrialState.PRUNED, 0.25), (TrialState.FAIL, None)):
            study.add_trial(optuna.create_trial(state=state, value=value))
        display.refresh()
    assert capsys.readouterr().err.splitlines() == [
        "trial 0: val/map 0.5000, best 0.5000 (trial 0)",
        "trial 1: val/map 0.2500, pruned, best 0.5000 (trial 0)",
        "trial 2: failed, best 0.5000 (trial 0)",
    ]


def test_the_table_says_what_leaves_the_encoder(capsys):
    metrics = {"test/map_i2t": 0.5, "test/map_t2i": 0.25, "val/map": 0.125}
    record = {"method": "hierarchical_adversarial", "dataset": "emoji", "size": 64, "metrics": metrics}
    _print_table("dim", [record | {"output_size": 128}, record | {"output_size": 64}])
    lines = [line for line in capsys.readouterr().out.splitlines() if "0.5000" in line]
    assert lines == [
        "    64   0.5000  0.2500  0.3750  0.1250  (128 out)",
        "    64   0.5000  0.2500  0.3750  0.1250",
    ]
