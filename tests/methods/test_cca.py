import os
from pathlib import Path

import pytest
import torch

from tests.conftest import CHECKOUT
from xmodal.data import Wikipedia
from xmodal.errors import UserError
from xmodal.experiment import configuration
from xmodal.layers import canonical_projections
from xmodal.records import read_results
from xmodal.run import train

REAL = Path(os.environ.get("XMODAL_WIKIPEDIA", CHECKOUT / "data" / "wikipedia"))


def correlated(samples, correlations, image_dim=6, text_dim=5, seed=0):
    """Two views with the given population canonical correlations, mixed by random matrices."""
    generator = torch.Generator().manual_seed(seed)
    rho = torch.tensor(correlations, dtype=torch.float64)
    z = torch.randn(samples, len(rho), generator=generator, dtype=torch.float64)
    noise = torch.randn(2, samples, len(rho), generator=generator, dtype=torch.float64)
    views = []
    for own, dim in zip(noise, (image_dim, text_dim), strict=True):
        signal = rho.sqrt() * z + (1 - rho).sqrt() * own
        rest = torch.randn(samples, dim - len(rho), generator=generator, dtype=torch.float64)
        views.append(torch.cat([signal, rest], 1) @ torch.randn(dim, dim, generator=generator, dtype=torch.float64))
    return [view - view.mean(0) for view in views]


def test_known_correlations_are_found():
    image, text = correlated(200_000, [0.9, 0.6, 0.3])
    _, _, found = canonical_projections(image, text, 3, 1e-9)
    assert torch.allclose(found, torch.tensor([0.9, 0.6, 0.3], dtype=torch.float64), atol=0.01)


def test_variates_are_white_and_paired():
    image, text = correlated(2_000, [0.9, 0.6, 0.3])
    left, right, found = canonical_projections(image, text, 5, 1e-12)
    u, v = image @ left, text @ right
    eye = torch.eye(5, dtype=torch.float64)
    assert torch.allclose(u.T @ u / 1999, eye, atol=1e-6)
    assert torch.allclose(v.T @ v / 1999, eye, atol=1e-6)
    assert torch.allclose(u.T @ v / 1999, torch.diag(found), atol=1e-6)
    assert found.tolist() == sorted(found.tolist(), reverse=True)


@pytest.mark.parametrize(("dim", "message"), [(0, "has 1 to 5 components, not 0"), (6, "has 1 to 5 components, not 6")])
def test_impossible_sizes_are_refused(dim, message):
    image, text = correlated(50, [0.5])
    with pytest.raises(UserError, match=message):
        canonical_projections(image, text, dim, 1e-5)


def test_a_singular_covariance_is_said():
    image, text = correlated(3, [0.5])
    with pytest.raises(UserError, match="give a larger one"):
        canonical_projections(image, text, 1, 0.0)


def scores(home, root, *arguments):
    path = train([*configuration("cca", "wikipedia"), f"--data.root={root}", *arguments])
    return next(read_results(path.parent))


@pytest.mark.parametrize("arguments", [["--model.bits=8"], ["--model.dim=8"]])
def test_codes_and_embeddings_are_far_above_random(home, wikipedia_root, arguments):
    record = scores(home, wikipedia_root, *arguments)
    assert record["kind"] == ("binary" if "bits" in arguments[0] else "real")
    assert record["metrics"]["test/map"] > 0.3 > 2 * record["metrics"]["test/random_i2t"]


@pytest.mark.skipif(
    not (REAL / "raw_features.mat").is_file(),
    reason="the Wikipedia release is not at hand (XMODAL_WIKIPEDIA names its folder)",
)
def test_published_numbers_of_wikipedia(home):
    """Rasiwasia et al. 2010, correlation matching: .249 i2t and .196 t2i; 7 components, test pairs as gallery."""
    record = scores(home, REAL, "--model.dim=7", "--data.val=1")
    assert record["metrics"]["test/map_i2t"] == pytest.approx(0.248, abs=0.004)
    assert record["metrics"]["test/map_t2i"] == pytest.approx(0.202, abs=0.004)


def test_both_sizes_or_none_are_refused():
    from xmodal.methods import CCA

    for sizes in ({}, {"bits": 8, "dim": 8}):
        with pytest.raises(UserError, match="either bits"):
            CCA(**sizes)


def test_validation_pairs_are_not_fitted(wikipedia_root):
    data = Wikipedia(root=str(wikipedia_root))
    assert len(data.role("train")["index"]) == 2173 - 300
