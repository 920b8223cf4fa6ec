"""A trial and its sweep talk by values and answers; training goes on meanwhile."""

import json
import multiprocessing
from itertools import count
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace

import pytest

from tests.tuning.test_faults import arguments  # noqa: F401 - a fixture
from xmodal.methods import DMSF
from xmodal.tuning import trial, worker

EPOCH = 4  # steps


@pytest.fixture
def steps(monkeypatch):
    """DMSF's training steps: `reached[n]` is set by the nth, which waits for `before[n]`, if there is one."""
    reached, before, taken = [Event() for _ in range(5 * EPOCH + 1)], {}, count(1)
    step = DMSF.training_step

    def counted(self, *batch):
        number = next(taken)
        reached[number].set()
        assert before.get(number, reached[number]).wait(60)
        return step(self, *batch)

    monkeypatch.setattr(DMSF, "training_step", counted)
    return SimpleNamespace(reached=reached, before=before)


def run(arguments, sweep, task="trial"):  # noqa: F811
    """Run a trial here, and a sweep in a thread."""
    ours, theirs = multiprocessing.Pipe()

    def closing():
        with ours:  # or the trial waits for ever for a sweep that has failed
            sweep(ours)

    thread = Thread(target=closing)
    thread.start()
    trial.run(theirs, arguments, task=task)
    thread.join(60)
    assert not thread.is_alive()


def test_a_trial_trains_on_and_stops_when_it_is_told_to(arguments, steps, monkeypatch):  # noqa: F811
    heard, validated = [], []
    end = DMSF.on_validation_epoch_end
    monkeypatch.setattr(DMSF, "on_validation_epoch_end", lambda self: validated.append(1) or end(self))
    steps.before[EPOCH + 1] = told = Event()

    def sweep(pipe):
        heard.append(pipe.recv())
        assert steps.reached[EPOCH + 1].wait(60)  # the next epoch has begun
        pipe.send(True)
        told.set()
        heard.append(pipe.recv())

    run([*arguments, "--trainer.max_epochs=5"], sweep)
    (_, epoch, value), (said, best, record) = heard
    assert (epoch, said, best, len(validated)) == (0, "done", value, 1)
    assert json.loads(Path(record).read_text())["epochs"] == 1  # the second was cut short
    assert steps.reached[EPOCH + 2].is_set()  # the step that hears it is taken
    assert not steps.reached[EPOCH + 3].is_set()


def test_the_next_value_waits_for_the_last_answer(arguments, steps):  # noqa: F811
    heard = []

    def sweep(pipe):
        heard.append(pipe.recv())
        assert steps.reached[2 * EPOCH].wait(60)
        heard.append(pipe.poll(1))
        for answer in (False, True):
            pipe.send(answer)
            heard.append(pipe.recv())

    run([*arguments, "--trainer.max_epochs=3"], sweep)
    (_, first, _), early, (_, second, _), (said, *_) = heard
    assert (first, early, second, said) == (0, False, 1, "done")


def test_a_whole_run_waits_for_its_answers(arguments, steps):  # noqa: F811
    heard = []

    def sweep(pipe):
        heard.append(pipe.recv())
        heard.append(steps.reached[EPOCH + 1].wait(1))
        pipe.send(False)
        heard.append(pipe.recv())
        pipe.send(False)
        heard.append(pipe.recv())

    run([*arguments, "--trainer.max_epochs=2"], sweep, "run")
    (_, first, _), early, (_, second, _), (said, *_) = heard
    assert (first, early, second, said) == (0, False, 1, "done")


def test_a_trial_that_ends_before_its_answer_says_how(monkeypatch):
    ours, theirs = multiprocessing.Pipe()
    with theirs:  # and closed
        theirs.send(("epoch", 0, 0.5))
        theirs.send(("diverged", "not a number"))
    process = SimpleNamespace(pipe=ours, end=lambda well: None)
    monkeypatch.setattr(worker.Fork, "begin", lambda *_: process)
    with pytest.raises(worker.TrialDivergedError, match="not a number"):
        worker.run_trial([], 1, lambda *_: False)
