import numpy as np
import pytest
import torch

from tests.losses.test_pairwise import golden
from xmodal.losses import total_correlation


def reference(image, text, r):
    """By eigendecompositions of the covariances, as Andrew et al. write it."""
    x, y = image - image.mean(0), text - text.mean(0)
    n = len(x) - 1

    def inverse_root(matrix):
        values, vectors = np.linalg.eigh(matrix)
        return vectors / np.sqrt(values) @ vectors.T

    first = inverse_root(x.T @ x / n + r * np.eye(x.shape[1]))
    second = inverse_root(y.T @ y / n + r * np.eye(y.shape[1]))
    return np.linalg.svd(first @ (x.T @ y / n) @ second, compute_uv=False).sum()


@pytest.mark.parametrize("seed", range(3))
def test_against_eigendecompositions(seed):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(60, 5))
    text = image @ rng.normal(size=(5, 4)) + rng.normal(size=(60, 4))
    text = np.concatenate([text, rng.normal(size=(60, 1))], 1)
    found = total_correlation(torch.from_numpy(image), torch.from_numpy(text), 1e-3)
    assert float(found) == pytest.approx(reference(image, text, 1e-3), abs=1e-10)


def test_equal_views_correlate_fully_and_maps_do_not_matter():
    view = torch.from_numpy(np.random.default_rng(0).normal(size=(200, 4)))
    mixed = view @ torch.from_numpy(np.random.default_rng(1).normal(size=(4, 4))) + 3
    assert float(total_correlation(view, view, 1e-9)) == pytest.approx(4, abs=1e-6)
    assert float(total_correlation(view, mixed, 1e-9)) == pytest.approx(4, abs=1e-6)


def test_independent_views_seem_correlated_in_small_batches():
    """The reason for the check on the batch size: about .77 of the dimensions at b = 32, .08 at b = 4096 (d = 40)."""
    generator = torch.Generator().manual_seed(0)
    shares = {}
    for pairs in (32, 4096):
        views = torch.randn(2, pairs, 40, generator=generator)
        shares[pairs] = float(total_correlation(views[0], views[1])) / 40
    assert shares[32] > 0.7
    assert shares[4096] < 0.1


def test_gradient_also_where_singular_values_repeat():
    image, text = golden(0.3, 8, 2).requires_grad_(), golden(0.9, 8, 2)
    assert torch.autograd.gradcheck(total_correlation, (image, text))
    view = golden(0.3, 8, 2).requires_grad_()
    (gradient,) = torch.autograd.grad(total_correlation(view, view.detach()), view)
    assert torch.isfinite(gradient).all()


def test_half_precision_inputs_are_lifted():
    found = total_correlation(golden(0.3, 8, 2).float(), golden(0.9, 8, 2).float())
    assert found.dtype == torch.float64
