from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.losses.test_pairwise import LABEL, golden
from tests.methods.training import SIZES, Toy, fit
from xmodal.errors import UserError
from xmodal.losses import bit_balance, label_similarity, pairwise_likelihood, quantization, sign
from xmodal.methods import DCMH
from xmodal.methods.dcmh import DCMHWeights

SIZE = {"image_dim": SIZES["image_dim"], "text_dim": SIZES["text_dim"], "num_train": 29}


def small(**changes):
    return DCMH(**{"bits": 8, "text_hidden": (16,), "optimizer": "adam", "lr": 1e-2, **SIZE, **changes})


def test_the_loss_is_the_published_one():
    image, text, batch = 2 * golden(0.1, 4, 3), 2 * golden(0.9, 4, 3), 2 * golden(1.7, 2, 3)
    similar = label_similarity(LABEL[[0, 2]], LABEL)
    loss = pairwise_likelihood(batch, text, similar) + quantization(batch, sign(image + text)[[0, 2]], 4)
    assert float(loss + bit_balance(batch, image[[1, 3]].sum(0), 4)) == pytest.approx(7.566675345772, abs=1e-11)


def test_a_step_computes_those_terms():
    """The logged terms against numpy-like sums over the tables, for the whole training set as one batch."""
    model = fit(small, batch_size=29)
    image, text = model.tables.table("image"), model.tables.table("text")  # what the only step stored
    label = model.tables.label
    similar = (label @ label.T > 0).float()
    theta = 0.5 * image @ text.T
    likelihood = 2 * (torch.log1p(theta.exp()) - similar * theta).mean()
    logged = model.trainer.callback_metrics
    assert float(logged["train/likelihood"]) == pytest.approx(float(likelihood), rel=1e-5)
    balance = (image.sum(0).square().sum() + text.sum(0).square().sum()) / 29**2
    assert float(logged["train/balance"]) == pytest.approx(float(balance), rel=1e-5)
    distance = ((model.code - image).square().sum() + (model.code - text).square().sum()) / 29**2
    assert float(logged["train/quantization"]) == pytest.approx(float(distance), rel=1e-5)


def test_the_rate_falls_linearly():
    rates = []

    class Watched(DCMH):
        def on_train_epoch_start(self):
            super().on_train_epoch_start()
            rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    fit(lambda: Watched(bits=8, lr=1.0, final_lr=0.2, optimizer="sgd", text_hidden=(4,), **SIZE), epochs=5)
    assert rates == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])


@pytest.mark.parametrize("term", ["likelihood", "quantization", "balance"])
def test_a_weight_of_zero_removes_the_term(term):
    logged = fit(lambda: small(weights=DCMHWeights(**{term: 0.0}))).trainer.callback_metrics
    assert {name for name in ("likelihood", "quantization", "balance") if f"train/{name}" not in logged} == {term}


def test_a_training_list_that_names_pairs_twice_is_refused(monkeypatch):
    """The second row of such a pair would stay the noise that it starts as, in the loss and in the codes."""
    split, train = Toy().split(), Toy().split().train
    monkeypatch.setattr(Toy, "split", lambda _: replace(split, train=np.concatenate([train, train[:3]])))
    with pytest.raises(UserError, match=r"3 training pairs .* let the split name each of them once"):
        fit(lambda: small(num_train=32))
