"""Grids of runs without processes of their own."""

import pytest

from xmodal.run import train
from xmodal.tuning import grid

SMALL = ("--epochs=1", "--data.subset=64", "--gallery=false")


@pytest.fixture
def started(monkeypatch):
    """Runs happen in this process; the list says which folders were trained in."""
    found = []

    def run_here(arguments, devices, report, visible, task):
        assert (devices, visible, task) == (1, None, "run")
        path = train(arguments)
        found.append(path.parent.name)
        return 0.0, str(path)

    monkeypatch.setattr(grid, "run_trial", run_here)
    return found


def keep(home, method, *names):
    """Leave these variants of a method only."""
    for path in (home / "experiments" / method / "ablations").glob("*.yaml"):
        if path.stem not in names:
            path.unlink()
