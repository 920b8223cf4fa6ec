import pytest
import torch

from tests.losses.test_pairwise import LABEL, golden
from xmodal.losses import (
    bit_balance,
    graph_codes,
    graph_factor,
    label_similarity,
    normalised_laplacian,
    quantization,
    sign,
)


def test_sign_of_zero_is_plus_one():
    assert sign(torch.tensor([-0.5, -0.0, 0.0, 2.0])).tolist() == [-1, 1, 1, 1]


def test_terms_are_the_published_ones():
    """The golden DCMH step: quantisation sum 16.227101889614, balance sum 35.090501467244, both over N n = 8."""
    image, text, batch = 2 * golden(0.1, 4, 3), 2 * golden(0.9, 4, 3), 2 * golden(1.7, 2, 3)
    code = sign(image + text)[[0, 2]]
    assert float(quantization(batch, code, 4)) * 8 == pytest.approx(16.227101889614, abs=1e-10)
    assert float(bit_balance(batch, image[[1, 3]].sum(0), 4)) * 8 == pytest.approx(35.090501467244, abs=1e-10)


def test_gradients():
    relaxed = golden(1.7, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: quantization(x, sign(golden(0.2, 2, 3)), 4), relaxed)
    assert torch.autograd.gradcheck(lambda x: bit_balance(x, golden(0.2, 3), 4), relaxed)


def test_laplacian_is_normalised():
    similar = label_similarity(LABEL, LABEL)
    laplacian = normalised_laplacian(similar)
    values = torch.linalg.eigvalsh(laplacian)
    assert torch.allclose(laplacian, laplacian.T)
    assert -1e-12 < float(values.min()) < 1e-12
    assert float(values.max()) <= 2
    degree = similar.sum(1)
    assert torch.allclose(laplacian @ degree.sqrt(), torch.zeros(4, dtype=torch.float64), atol=1e-12)


def test_an_isolated_item_has_a_finite_laplacian():
    similar = torch.diag(torch.tensor([1.0, 0.0]))
    assert normalised_laplacian(similar).tolist() == [[0, 0], [0, 1]]


def test_codes_minimise_the_objective():
    """B solves d/dB [||B-F||^2 + ||B-G||^2 + strength tr(B^T Lap B)] = 0 before the sign."""
    similar, strength = label_similarity(LABEL, LABEL), 0.7
    image, text = golden(0.1, 4, 3), golden(0.9, 4, 3)
    factor = graph_factor(similar, strength)
    relaxed = torch.cholesky_solve(image + text, factor).requires_grad_()
    laplacian = normalised_laplacian(similar)
    objective = (relaxed - image).square().sum() + (relaxed - text).square().sum()
    objective = objective + strength * torch.trace(relaxed.T @ laplacian @ relaxed)
    (gradient,) = torch.autograd.grad(objective, relaxed)
    assert gradient.abs().max() < 1e-12
    assert torch.equal(graph_codes(factor, image + text), sign(relaxed.detach()))


def test_without_strength_the_codes_are_those_of_dcmh():
    total = golden(0.4, 4, 3)
    assert torch.equal(graph_codes(graph_factor(label_similarity(LABEL, LABEL), 0.0), total), sign(total))
