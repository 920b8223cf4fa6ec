"""The health of codes is what its definition says."""

import pytest
import torch

from xmodal.metrics import code_statistics


def test_code_statistics():
    outputs = torch.tensor([[0.5, -0.5], [0.0, -1.0], [-0.2, 0.1], [-1.0, 1.0]])
    statistics = code_statistics(outputs)
    assert statistics.unique == 0.5
    assert statistics.bit_means.tolist() == [0.0, 0.0]
    assert statistics.quantization_gap == pytest.approx((0.5 + 0.5 + 1 + 0 + 0.8 + 0.9 + 0 + 0) / 8)
    assert code_statistics(outputs >= 0).quantization_gap == 0


def test_no_codes_are_refused():
    with pytest.raises(ValueError, match="at least one code, got none"):
        code_statistics(torch.empty(0, 4))


def test_correlation_of_bits():
    free = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert code_statistics(free).bit_correlation == pytest.approx(0)
    assert code_statistics(free[:, [0, 0]]).bit_correlation == pytest.approx(1)
    assert code_statistics(torch.cat([free, -free[:, :1]], 1)).bit_correlation == pytest.approx(1 / 3)
    assert code_statistics(free[:2]).bit_correlation == 1  # a constant bit tells nothing
    assert code_statistics(free[:, :1]).bit_correlation == 0  # one bit has no other


@pytest.mark.parametrize(
    ("size", "cause"),
    [(1.0, "every output is saturated"), (1e-3, "every output is near 0"), (0.5, "nearly one output")],
)
def test_a_collapse_is_said_with_its_cause(size, cause):
    outputs = torch.full((200, 16), size)
    assert cause in code_statistics(outputs).collapse(200)
    assert code_statistics(outputs).collapse(200).startswith("1 distinct codes of 200")


def test_few_bits_are_no_collapse():
    codes = torch.tensor([[1.0], [-1.0]]).repeat(500, 1)
    assert code_statistics(codes).collapse(1000) == ""
    assert code_statistics(codes.repeat(1, 16)).collapse(1000) != ""
