"""Intervals and tests have the properties that define them."""

from itertools import product

import numpy as np
import pytest
import torch

from xmodal.metrics import bootstrap_interval, code_statistics, paired_test


def test_interval_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [bootstrap_interval(rng.beta(2, 3, 60), draws=300, seed=seed) for seed in range(200)]
    covered = np.mean([low <= 0.4 <= high for _, low, high in intervals])
    assert 0.90 < covered < 0.98


def test_interval_is_reproducible_and_widens_with_the_level():
    values = np.random.default_rng(1).random(50)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    narrow, wide = bootstrap_interval(values, 0.5), bootstrap_interval(values, 0.99)
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


def test_p_value_is_that_of_all_labellings():
    difference = np.random.default_rng(2).normal(0.1, 0.2, 10)
    sums = np.array([np.dot(signs, difference) for signs in product((-1, 1), repeat=10)])
    exact = np.mean(np.abs(sums) >= abs(difference.sum()) - 1e-12)
    assert paired_test(difference, np.zeros(10), draws=50_000).p_value == pytest.approx(exact, abs=0.01)


def test_equal_runs_do_not_differ():
    values = np.random.default_rng(3).random(30)
    assert paired_test(values, values) == (0.0, 0.0, 0.0, 1.0)


def test_code_statistics():
    outputs = torch.tensor([[0.5, -0.5], [0.0, -1.0], [-0.2, 0.1], [-1.0, 1.0]])
    statistics = code_statistics(outputs)
    assert statistics.unique == 0.5
    assert statistics.bit_means.tolist() == [0.0, 0.0]
    assert statistics.quantization_gap == pytest.approx((0.5 + 0.5 + 1 + 0 + 0.8 + 0.9 + 0 + 0) / 8)
    assert code_statistics(outputs >= 0).quantization_gap == 0


def test_wrong_values_are_refused():
    with pytest.raises(ValueError, match="values must hold one value for each query, got shape"):
        bootstrap_interval([])
    with pytest.raises(ValueError, match=r"level must lie between 0 and 1, got 95"):
        bootstrap_interval([0.1, 0.2], level=95)
    with pytest.raises(ValueError, match="same queries in both runs, got 2 and 3"):
        paired_test([0.1, 0.2], [0.1, 0.2, 0.3])
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
