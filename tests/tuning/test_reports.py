"""A trial and its sweep talk by values and answers; training goes on meanwhile."""

import multiprocessing
from threading import Event, Thread

import pytest

from tests.tuning.test_faults import arguments  # noqa: F401 - a fixture
from xmodal.methods import DMSF
from xmodal.tuning import trial

EPOCH = 4  # steps


@pytest.fixture
def steps(monkeypatch):
    """Calls of DMSF's training step; `reached[n]` is set by the nth."""
    reached = [Event() for _ in range(5 * EPOCH + 1)]
    calls = iter(reached[1:])
    step = DMSF.training_step

    def counted(self, *batch):
        next(calls).set()
        return step(self, *batch)

    monkeypatch.setattr(DMSF, "training_step", counted)
    return reached


def run(arguments, sweep):  # noqa: F811
    """Run a trial here, and a sweep in a thread."""
    ours, theirs = multiprocessing.Pipe()
    thread = Thread(target=sweep, args=(ours,))
    thread.start()
    trial.run(theirs, arguments)
    thread.join(60)
    assert not thread.is_alive()


def test_a_trial_trains_on_and_stops_when_it_is_told_to(arguments, steps):  # noqa: F811
    heard = []

    def sweep(pipe):
        heard.append(pipe.recv())
        assert steps[EPOCH + 1].wait(60)  # the next epoch has begun
        pipe.send(True)
        heard.append(pipe.recv())

    run([*arguments, "--trainer.max_epochs=5"], sweep)
    (_, epoch, value), (said, best, _) = heard
    assert (epoch, said, best) == (0, "done", value)
    assert not steps[2 * EPOCH + 1].is_set()


def test_the_next_value_waits_for_the_last_answer(arguments, steps):  # noqa: F811
    heard = []

    def sweep(pipe):
        heard.append(pipe.recv())
        assert steps[2 * EPOCH].wait(60)
        heard.append(pipe.poll(1))
        for answer in (False, True):
            pipe.send(answer)
            heard.append(pipe.recv())

    run([*arguments, "--trainer.max_epochs=3"], sweep)
    (_, first, _), early, (_, second, _), (said, *_) = heard
    assert (first, early, second, said) == (0, False, 1, "done")
