from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from lightning import Callback
from torch import nn

from xmodal.callbacks import TellOfLost
from xmodal.methods import RetrievalMethod


@dataclass(frozen=True)
class Weights:
    term: float = 1.0


class Own(RetrievalMethod):
    name = "own"

    def __init__(self):
        super().__init__("real")
        self._beta, self.weights, self.bank, self.outputs = 1.0, Weights(), torch.zeros(3), []
        self.register_buffer("kept", torch.zeros(3))
        self.part = nn.Linear(2, 2)
        self.part.unseen = 0


class Saves(Own):
    def on_save_checkpoint(self, checkpoint):
        checkpoint["beta"] = self._beta


class Counts(Callback):
    seen = 0


def anneal(method):
    method._beta *= 0.9


def weigh(method):
    method.weights = replace(method.weights, term=0.5)


def fill(method):
    method.bank[0] += 1


def learn(method):
    method.kept[0] += 1
    method.part.weight.data += 1
    method.outputs.append(1)
    method.outputs.clear()


@pytest.mark.parametrize(
    ("kind", "epoch", "said"),
    [
        (Own, anneal, "Own._beta"),
        (Own, weigh, "Own.weights"),
        (Own, fill, "Own.bank"),
        (Own, learn, ""),
        (Saves, anneal, ""),
    ],
)
def test_what_changes_in_training_and_is_in_no_checkpoint_is_told_once(kind, epoch, said, capsys):
    method, told = kind(), TellOfLost()
    trainer = SimpleNamespace(callbacks=[told], is_global_zero=True)
    for _ in range(3):
        told.on_train_epoch_start(trainer, method)
        epoch(method)
    assert capsys.readouterr().err.partition(":")[0] == said


def test_a_callback_of_ones_own_without_a_state_is_told_of_too(capsys):
    method, told, counts = Own(), TellOfLost(), Counts()
    for counts.seen in range(3):
        told.on_train_epoch_start(SimpleNamespace(callbacks=[told, counts], is_global_zero=True), method)
    assert capsys.readouterr().err.count("Counts.seen: changes in training") == 1
