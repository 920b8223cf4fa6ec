"""What ends a search: trials, minutes, or both."""

from argparse import Namespace

import pytest
import yaml

from xmodal.commands import table
from xmodal.errors import UserError
from xmodal.studies.space import read_search

SPACE = {"space": {"model.lr": {"float": [1e-4, 1e-1], "log": True}}}


@pytest.mark.parametrize(
    ("content", "given", "trials", "minutes"),
    [
        ({}, {}, 24, None),
        ({"minutes": 60}, {}, None, 60),
        ({"minutes": 60}, {"trials": 5}, 5, 60),
        ({"trials": 5, "minutes": 60}, {}, 5, 60),
        ({"trials": 5}, {"minutes": 60, "trials": None}, None, 60),
    ],
)
def test_minutes_alone_are_no_number_of_trials(tmp_path, content, given, trials, minutes):
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(content | SPACE))
    search = read_search(file, given)
    assert (search.trials, search.minutes) == (trials, minutes)


def test_the_rule_of_a_table_is_a_number_of_trials(home, monkeypatch):
    """Minutes of a sweep file would fill a cell with as many as a machine comes to."""
    file = home / "sweeps" / "dmsf.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"minutes": 1}))

    def tune(search, pool):
        raise UserError(f"{search.sought.trials} trials, {search.sought.minutes} minutes")

    monkeypatch.setattr(table.sweep, "tune", tune)
    options = Namespace(trials="3", seeds="0", epochs=None, workers="1", devices=None)
    with pytest.raises(UserError, match="3 trials, None minutes"):
        table.Cell("dmsf", "emoji", "bits", (12,)).fill(options, None, {})
