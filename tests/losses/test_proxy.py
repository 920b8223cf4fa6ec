"""DSPH's losses and margin: the published golden values, a value by hand, edges, and gradients."""

import pytest
import torch

from tests.losses.test_pairwise import LABEL, golden
from xmodal.errors import UserError
from xmodal.losses import code_margin, irrelevant_pairs, multilabel_proxy

IMAGE, TEXT = (torch.tanh(1.5 * golden(start, 4, 8)) for start in (0.3, 0.8))
SEVERAL = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, 1], [0, 1, 0, 0]], dtype=torch.float64)


def both(proxy, label, zeta):
    return float(multilabel_proxy(IMAGE, proxy, label, zeta) + multilabel_proxy(TEXT, proxy, label, zeta))


@pytest.mark.parametrize(("zeta", "expected"), [(0, 2.369446817585), (0.25, 2.110378043684), (-0.25, 2.765503344292)])
def test_golden_values_without_irrelevant_pairs(zeta, expected):
    assert both(golden(2.0, 3, 8), LABEL, zeta) == pytest.approx(expected, abs=1e-11)
    assert float(irrelevant_pairs(IMAGE, TEXT, LABEL, zeta)) == 0


def test_golden_values_with_irrelevant_pairs():
    proxy = golden(2.0, 4, 8)
    assert both(proxy, SEVERAL, 0.25) == pytest.approx(2.036550317040, abs=1e-11)
    assert both(proxy, SEVERAL, -0.25) == pytest.approx(2.635862706098, abs=1e-11)
    assert float(0.8 * irrelevant_pairs(IMAGE, TEXT, SEVERAL, -0.25)) == pytest.approx(0.588241609562, abs=1e-11)


def test_a_batch_without_positives_or_negatives_is_finite():
    for label in (torch.zeros(4, 3), torch.ones(4, 3)):
        assert torch.isfinite(multilabel_proxy(IMAGE, golden(2.0, 3, 8), label.double(), 0.0))


@pytest.mark.parametrize(
    ("bits", "labels", "expected"),
    [(16, 24, 0), (128, 21, 0), (8, 24, 0.5), (16, 80, 0.25), (32, 80, 0.125), (64, 80, 0), (64, 10, -0.03125)],
)
def test_the_margin_follows_the_table(bits, labels, expected):
    assert code_margin(bits, labels) == expected


@pytest.mark.parametrize(("bits", "labels"), [(64, 1), (20, 24), (8, 2000)])
def test_sizes_outside_the_table_are_refused(bits, labels):
    with pytest.raises(UserError, match=r"give model\.zeta"):
        code_margin(bits, labels)


def test_gradients():
    proxy = golden(2.0, 4, 8).requires_grad_()
    code = IMAGE.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, p: multilabel_proxy(x, p, SEVERAL, 0.1), (code, proxy))
    assert torch.autograd.gradcheck(lambda x: irrelevant_pairs(x, TEXT, SEVERAL, -0.2), code)
