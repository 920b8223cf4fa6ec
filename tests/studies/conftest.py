"""Searches and grids without processes of their own: their tasks are done by threads of the test."""

from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from xmodal.errors import UserError
from xmodal.run import train
from xmodal.studies import trial
from xmodal.studies.processes import Pool, TrialDiedError, TrialError

SMALL = ("--epochs=1", "--data.subset=64", "--gallery=false")


class Killed(BaseException):
    """What a trial raises whose process is killed: nobody catches it."""


def run(self, tasks):
    """Take the place of `Pool.run`."""
    with ThreadPoolExecutor(self.workers) as threads:
        running = {}
        while tasks or running:
            while tasks and len(running) < self.workers:
                task = tasks.popleft()
                running[threads.submit(task[0], *task[1])] = task
            for done in wait(list(running), 1, "FIRST_COMPLETED").done:
                try:
                    outcome = done.result()
                except (TrialError, UserError) as error:
                    outcome = error
                except Killed as error:
                    outcome = TrialDiedError(str(error))
                yield running.pop(done), outcome
            yield None


@pytest.fixture
def inline(monkeypatch):
    monkeypatch.setattr(Pool, "run", run)


@pytest.fixture
def started(monkeypatch, inline):
    """Runs happen in this process; the list says which folders were trained in."""
    found = []

    def run_here(arguments, devices):
        assert devices == 1
        path = train(arguments)
        found.append(path.parent.name)
        return str(path)

    monkeypatch.setattr(trial, "run_whole", run_here)
    return found


def keep(home, method, *names):
    """Leave these variants of a method only."""
    for path in (home / "experiments" / method / "ablations").glob("*.yaml"):
        if path.stem not in names:
            path.unlink()
