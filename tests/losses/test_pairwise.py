"""Every loss against the formula in float64 numpy, a value worked out by hand, a property, and gradcheck."""

import numpy as np
import pytest
import torch

from xmodal.losses import distance_margin, label_similarity, pairwise_likelihood

LABEL = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.float64)


def golden(s, *shape):
    """U(s; shape) of the golden inputs: sin(0.5 k + 0.03 k^2 + s), k = 1, 2, ... row by row."""
    k = np.arange(1, np.prod(shape) + 1)
    return torch.from_numpy(np.sin(0.5 * k + 0.03 * k**2 + s).reshape(shape))


def test_golden_inputs_are_the_published_ones():
    assert np.allclose(golden(0.1, 4, 3)[0], [0.58914476, 0.93909936, 0.95557152])


def test_likelihood_by_hand():
    code, other = torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    similar = torch.tensor([[1.0, 0.0]])
    expected = ((np.log1p(np.exp(1)) - 1) + np.log(2)) / 2  # T = 1 and 0
    assert float(pairwise_likelihood(code, other, similar)) == pytest.approx(expected)


def test_likelihood_is_the_published_fit_term():
    """The fit sum of the golden DCMH step: 9.215799409319 over 2 x 4 pairs."""
    other, batch = 2 * golden(0.9, 4, 3), 2 * golden(1.7, 2, 3)
    similar = label_similarity(LABEL[[0, 2]], LABEL)
    assert float(pairwise_likelihood(batch, other, similar)) * 8 == pytest.approx(9.215799409319, abs=1e-11)


def test_likelihood_stays_finite_for_long_codes():
    code = torch.ones(1, 4096)
    assert torch.isfinite(pairwise_likelihood(code, -code, torch.ones(1, 1)))
    assert float(pairwise_likelihood(code, code, torch.ones(1, 1))) == pytest.approx(0, abs=1e-6)


def test_likelihood_gradient():
    code = golden(0.3, 3, 4).requires_grad_()
    similar = label_similarity(LABEL[:3], LABEL)
    assert torch.autograd.gradcheck(lambda x: pairwise_likelihood(x, golden(0.9, 4, 4), similar), code)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("shared", [[1, 0, 1, 1], [0, 1, 1, 0], [1, 1, 1, 0], [1, 0, 0, 1]]),
        ("dice", [[2, 0, 2 / 3, 1], [0, 2, 1, 0], [2 / 3, 1, 2, 0], [1, 0, 0, 2]]),
        ("cosine", [[1, 0, 0.5, 0.5**0.5], [0, 1, 0.5**0.5, 0], [0.5, 0.5**0.5, 1, 0], [0.5**0.5, 0, 0, 1]]),
    ],
)
def test_similarity_of_label_sets(kind, expected):
    assert torch.allclose(label_similarity(LABEL, LABEL, kind), torch.tensor(expected, dtype=torch.float64))


def test_pairs_without_labels_are_not_similar():
    for kind in ("shared", "dice", "cosine"):
        assert label_similarity(torch.zeros(2, 3), torch.ones(1, 3), kind).tolist() == [[0], [0]]


def test_distance_margin_against_probabilities():
    """The formula on the 2 K probabilities of each code, pair by pair."""
    code, other = torch.tanh(golden(0.2, 3, 4)), torch.tanh(golden(1.1, 4, 4))
    similar, margin = label_similarity(LABEL[:3], LABEL), 2.0
    pairs = [np.concatenate([(1 - h) / 2, (1 + h) / 2], 1) for h in (code.numpy(), other.numpy())]
    distance = np.linalg.norm(pairs[0][:, None] - pairs[1][None], axis=2)
    positive, negative = distance_margin(code, other, similar, margin)
    assert float(positive) == pytest.approx((similar.numpy() * distance**2).mean(), abs=1e-12)
    hinge = np.maximum(margin - distance, 0) ** 2
    assert float(negative) == pytest.approx(((1 - similar.numpy()) * hinge).mean(), abs=1e-12)


def test_distance_margin_gradient():
    """Also for a code against itself, whose distances of 0 would have no gradient."""
    code, similar = golden(0.3, 4, 4).requires_grad_(), label_similarity(LABEL, LABEL)
    assert torch.autograd.gradcheck(lambda x: sum(distance_margin(x, golden(0.9, 4, 4), similar, 3.0)), code)
    assert torch.autograd.gradcheck(lambda x: sum(distance_margin(x, x, similar, 3.0)), code)


@pytest.mark.parametrize("rows", [1, 5])
def test_distance_margin_of_equal_rows_has_a_finite_gradient(rows):
    code = torch.full((rows, 4), 0.3).requires_grad_()
    sum(distance_margin(code, code, torch.zeros(rows, rows), 3.0)).backward()
    assert code.grad.isfinite().all()


def test_distance_margin_is_the_sum_over_bits_without_an_array_of_all_pairs_and_bits():
    rows, bits, margin = 96, 64, 5.0
    draw = torch.Generator().manual_seed(0)
    image, text = (torch.tanh(torch.randn(rows, bits, generator=draw)).requires_grad_() for _ in range(2))
    similar = (torch.rand(rows, rows, generator=draw) < 0.3).float()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each.numel()) or each, lambda each: each):
        found = sum(distance_margin(image, text, similar, margin))
    assert max(kept) <= rows * max(rows, bits)
    squared = (image[:, None] - text[None]).square().sum(2) / 2
    hinge = (margin - squared.sqrt()).clamp_min(0)
    expected = (similar * squared + (1 - similar) * hinge.square()).mean()
    assert torch.allclose(found, expected, rtol=1e-6, atol=0)
    for slope, right in zip(*(torch.autograd.grad(each, (image, text)) for each in (found, expected)), strict=True):
        assert torch.allclose(slope, right, rtol=0, atol=1e-6)
