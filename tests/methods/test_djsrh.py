"""DJSRH: the joint similarity against the release's formula in numpy, and that no label is read."""

import numpy as np
import pytest
import torch

from tests.methods.training import HARMLESS, SIZES, Toy, make_trainer
from xmodal.losses import joint_similarity
from xmodal.methods import DJSRH
from xmodal.methods.djsrh import DJSRHWeights

pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}") for message in HARMLESS]
SIZE = {side: SIZES[side] for side in ("image_dim", "text_dim")}


def small(**changes):
    return DJSRH(**{"bits": 8, "text_hidden": (16,), **SIZE, **changes})


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_the_joint_similarity_is_the_release_s():
    draw = np.random.RandomState(0)
    image, text = np.abs(draw.randn(4, 6)), np.abs(draw.randn(4, 5))
    one = 0.9 * (2 * unit(image) @ unit(image).T - 1) + 0.1 * (2 * unit(text) @ unit(text).T - 1)
    expected = 0.6 * one + 0.4 * one @ one / 4
    feature = {"image": torch.from_numpy(image), "text": torch.from_numpy(text)}
    found = joint_similarity(feature, {"image": True, "text": True}, 0.9, 0.4)
    assert np.allclose(found, expected, atol=1e-12)
    assert (1.5 * found[0]).tolist() == pytest.approx([1.13311161, 0.4278517, 0.70827761, 0.34437058])
    plain = joint_similarity(feature, {"image": False, "text": True}, 1.0, 0.0)
    assert np.allclose(plain, unit(image) @ unit(image).T)


def trained(data, **changes):
    torch.manual_seed(0)
    model = small(**changes)
    trainer = make_trainer(None, 2)
    trainer.fit(model, datamodule=data)
    return model, trainer.callback_metrics


class Relabelled(Toy):
    def pairs(self):
        pairs = super().pairs()
        pairs.label[:] = np.roll(pairs.label, 7, axis=0)
        return pairs


def test_no_label_is_read():
    first, second = trained(Toy())[0], trained(Relabelled())[0]
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_training_brings_pairs_together():
    assert trained(Toy())[1]["train/cross"] < trained(Toy(), image_lr=0.0, text_lr=0.0)[1]["train/cross"]


@pytest.mark.parametrize(
    ("affinity", "standardised", "shifted"),
    [
        ("auto", ("image",), {"image": False, "text": True}),
        ("auto", (), {"image": True, "text": True}),
        ("cosine", (), {"image": False, "text": False}),
        ("shifted", ("image", "text"), {"image": True, "text": True}),
    ],
)
def test_centred_features_are_compared_by_plain_cosines(affinity, standardised, shifted):
    assert small(affinity=affinity, standardised=standardised).shifted == shifted


@pytest.mark.parametrize("term", ["cross", "image", "text"])
def test_a_weight_of_zero_removes_the_term(term):
    logged = trained(Toy(), weights=DJSRHWeights(**{term: 0.0}))[1]
    assert {name for name in ("cross", "image", "text") if f"train/{name}" not in logged} == {term}
