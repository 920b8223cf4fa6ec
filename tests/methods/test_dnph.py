"""DNPH's terms are those of a port of the authors' code, on golden inputs; its choices do what they say."""

from itertools import permutations

import numpy as np
import pytest
import torch

from tests.methods.training import SIZES, fit
from xmodal.losses import label_prediction, nearest_targets, softmax_proxy
from xmodal.methods import DNPH
from xmodal.methods.dnph import DNPHWeights

SIZE = {name: SIZES[name] for name in ("image_dim", "text_dim", "num_labels")}
LABEL = torch.tensor([[1, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 1]], dtype=torch.float64)


def small(**changes):
    return DNPH(**{"bits": 8, "lr": 1e-2, **SIZE, **changes})


def given():
    """Codes and class logits of both sides, proxies, and corners: the golden inputs."""
    draw = np.random.RandomState(0)
    drawn = [draw.randn(4, 8), draw.randn(4, 8), draw.randn(4, 5), draw.randn(4, 5), draw.randn(5, 8) / 8]
    drawn += [np.random.RandomState(1).randint(0, 2, (4, 8)) * 2.0 - 1]
    image, text, *rest = map(torch.from_numpy, drawn)
    return torch.tanh(image), torch.tanh(text), *rest


def test_the_terms_are_those_of_the_release():
    image, text, image_logit, text_logit, proxy, corner = given()
    image.requires_grad_()
    proxy.requires_grad_()
    near = softmax_proxy(torch.cat([image, text]), proxy, torch.cat([LABEL, LABEL]), 1.0)
    assert near.item() == pytest.approx(3.6853015, abs=1e-6)
    model = small(bits=8, num_labels=5, labels="first")
    classes = model._classification(image_logit, LABEL) + model._classification(text_logit, LABEL)
    assert classes.item() == pytest.approx(3.7559195, abs=1e-6)
    uniform = [(code * nearest_targets(code, corner)).sum(1).mean() for code in (image, text)]
    assert [each.item() for each in uniform] == pytest.approx([0.9222897, 0.7354703], abs=1e-6)
    total = near + classes - 0.1 * sum(uniform)
    assert total.item() == pytest.approx(7.2754450, abs=1e-6)
    total.backward()
    assert float(image.grad.abs().sum()) == pytest.approx(1.33627, abs=1e-5)
    assert float(proxy.grad.abs().sum()) == pytest.approx(11.89131, abs=1e-5)


def test_no_other_way_to_deal_the_corners_is_nearer():
    image, text, *_, corner = given()
    for code in (image, text):
        sums = [float((code - corner[list(order)]).norm(dim=1).sum()) for order in permutations(range(4))]
        assert float((code - nearest_targets(code, corner)).norm(dim=1).sum()) == pytest.approx(min(sums))


def test_a_pair_gets_one_corner(monkeypatch):
    image, text, *_, corner = given()
    monkeypatch.setattr(torch, "rand_like", lambda _: (corner + 1) / 2)
    pair = small(assignment="pair")._uniform(image, text)
    sums = [((image + text) * corner[list(order)]).sum(1).mean() for order in permutations(range(4))]
    assert float(pair) in [pytest.approx(float(each)) for each in sums]
    assert float(small()._uniform(image, text)) >= float(pair)


def test_the_softmax_of_the_classes_counts_every_label():
    *_, image_logit, _, _, _ = given()
    found = small(num_labels=5)._classification(image_logit, LABEL)
    assert torch.equal(found, label_prediction(image_logit, LABEL, "softmax"))
    assert found != small(num_labels=5, labels="first")._classification(image_logit, LABEL)


def test_gradient_of_the_proxy_loss():
    image, _, _, _, proxy, _ = given()
    image.requires_grad_()
    proxy.requires_grad_()
    assert torch.autograd.gradcheck(lambda h, p: softmax_proxy(h, p, LABEL, 1.0), (image, proxy))


def test_both_optimizers_step():
    model, fresh = fit(small), fit(lambda: small(lr=0.0, proxy_lr=0.0))
    assert not torch.equal(model.proxy, fresh.proxy)
    for side in ("image", "text"):
        assert not torch.equal(model.head[side][0].weight, fresh.head[side][0].weight)
        assert not torch.equal(model.classifier[side].weight, fresh.classifier[side].weight)


@pytest.mark.parametrize("term", ["proxy", "classification", "uniform"])
def test_a_weight_of_zero_removes_the_term(term):
    model = fit(lambda: small(weights=DNPHWeights(**{term: 0.0})))
    logged = model.trainer.callback_metrics
    assert {name for name in ("proxy", "classification", "uniform") if f"train/{name}" not in logged} == {term}
    assert (model.proxy is None) == (term == "proxy")
    assert bool(model.classifier) == (term != "classification")
