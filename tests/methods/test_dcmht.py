import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.losses.test_pairwise import LABEL, golden
from tests.methods.training import SIZES, Toy, fit
from xmodal.errors import UserError
from xmodal.layers import SelectHead
from xmodal.losses import distance_margin, label_similarity, sign
from xmodal.methods import DCMHT
from xmodal.methods.dcmht import DCMHTWeights

SIZE = {side: SIZES[side] for side in ("image_dim", "text_dim")}


def small(**changes):
    return DCMHT(**{"bits": 8, "hidden": 16, **SIZE, **changes})


def relaxed(start):
    """The golden soft codes as p_1 - p_0."""
    pair = (2 * golden(start, 4, 4, 2)).softmax(2)
    return pair[..., 1] - pair[..., 0]


def test_losses_are_the_published_ones():
    image, text, similar = relaxed(0.2), relaxed(1.1), label_similarity(LABEL, LABEL)
    margin = (2 * 4 * 0.75) ** 0.5
    found = [distance_margin(a, b, similar, margin) for a, b in ((image, text), (image, image), (text, text))]
    expected = [
        (0.767404173567, 0.274060167226),
        (0.484261269371, 0.262068426518),
        (0.747427271567, 0.384391007741),
    ]
    assert np.allclose([[float(part) for part in pair] for pair in found], expected, atol=1e-11)
    assert float(sum(sum(pair) for pair in found)) == pytest.approx(2.919612315989, abs=1e-11)
    quantization = 1 - (image.square().mean() + text.square().mean()) / 2
    assert float(quantization) == pytest.approx(0.516742174944, abs=1e-11)


def test_the_head_selects_the_larger_of_each_pair():
    head = SelectHead(6, 5)
    x = torch.randn(7, 6)
    pair = head.select(F.relu(head.reduce(x))).unflatten(1, (5, 2))
    probability = pair.softmax(2)
    assert torch.allclose(head(x), probability[..., 1] - probability[..., 0], atol=1e-6)
    assert torch.equal(sign(head(x)), 2.0 * pair.argmax(2) - 1)


@pytest.mark.parametrize("term", ["inter", "intra", "quantization"])
def test_a_weight_of_zero_removes_the_term(term):
    weights = {"inter": 1.0, "intra": 1.0, "quantization": 0.1} | {term: 0.0}
    logged = fit(lambda: small(weights=DCMHTWeights(**weights))).trainer.callback_metrics
    assert {name for name in weights if f"train/{name}" in logged} == weights.keys() - {term}


def test_weights_that_leave_nothing_to_train_by_are_one_line():
    words = "model.weights leave nothing to train by: give another of inter, intra, quantization above 0"
    for terms in ({}, {"inter": torch.tensor(1.0)}):  # none, or one that no parameter is in
        with pytest.raises(UserError, match=words):
            small().weigh(terms)


def test_training_finds_the_labels():
    model = fit(lambda: small(bits=16, lr=1e-2), epochs=20)
    before = fit(lambda: small(bits=16, lr=0.0)).trainer.callback_metrics["val/map"]
    assert model.trainer.callback_metrics["val/map"] > before + 0.1


def test_a_code_knows_nothing_of_its_pair():
    model, batch = small().eval(), Toy().role("query")
    alone = model.predict_step(batch, 0)["image"]
    batch = {**batch, "text": {"pooled": torch.randn_like(batch["text"]["pooled"])}}
    assert torch.equal(model.predict_step(batch, 0)["image"], alone)


def test_a_collapse_is_warned_of():
    def collapsed():
        model = small(lr=0.0)
        for head in model.head.values():
            torch.nn.init.zeros_(head.select.weight)
        return model

    with pytest.warns(UserWarning, match="the val codes have collapsed: 1 distinct codes of 32 items"):
        fit(collapsed)
