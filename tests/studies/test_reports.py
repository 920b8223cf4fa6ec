"""A trial and its study talk by values and answers; training goes on meanwhile."""

import json
from itertools import count
from pathlib import Path
from threading import Event, Timer
from types import SimpleNamespace

import pytest

from tests.studies.test_faults import arguments, run  # noqa: F401 - a fixture
from xmodal.methods import DMSF

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


def test_a_trial_trains_on_and_stops_when_it_is_told_to(arguments, steps, monkeypatch):  # noqa: F811
    heard, validated = [], []
    end = DMSF.on_validation_epoch_end
    monkeypatch.setattr(DMSF, "on_validation_epoch_end", lambda self: validated.append(1) or end(self))
    steps.before[EPOCH + 1] = told = Event()

    def answer(epoch, value):
        heard.append((epoch, value))
        assert steps.reached[EPOCH + 1].wait(60)  # the next epoch has begun
        Timer(0.5, told.set).start()  # when the answer is there
        return True

    ended = run([*arguments, "--trainer.max_epochs=5"], answer)
    assert heard == [(0, ended.value)]
    assert ended.stopped
    assert len(validated) == 1
    assert json.loads(Path(ended.path).read_text())["epochs"] == 1  # the second was cut short
    assert steps.reached[EPOCH + 2].is_set()  # the step that hears it is taken
    assert not steps.reached[EPOCH + 3].is_set()


def test_the_next_value_waits_for_the_last_answer(arguments, steps):  # noqa: F811
    heard = []

    def answer(epoch, value):
        heard.append(epoch)
        assert steps.reached[(epoch + 2) * EPOCH].wait(60) if epoch == 0 else True
        heard.append("answered")
        return epoch == 1

    ended = run([*arguments, "--trainer.max_epochs=3"], answer)
    assert heard == [0, "answered", 1, "answered"]
    assert ended.stopped
