"""Intervals and tests have the properties that define them."""

from itertools import product

import numpy as np
import pytest

from xmodal.significance import bootstrap_interval, bootstrap_intervals, holm, paired_test, paired_tests


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


def test_many_columns_are_what_each_gives_alone():
    values = np.random.default_rng(4).normal(0.02, 0.1, (70, 3))
    for column, interval, test in zip(values.T, bootstrap_intervals(values), paired_tests(values), strict=True):
        assert interval == pytest.approx(bootstrap_interval(column), abs=1e-12)
        assert test == pytest.approx(paired_test(column, np.zeros(70)), abs=1e-12)


def test_holm_is_the_step_down_procedure():
    assert holm([]) == []
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # Wikipedia's worked example
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_wrong_values_are_refused():
    with pytest.raises(ValueError, match="values must hold one value for each query, got shape"):
        bootstrap_interval([])
    with pytest.raises(ValueError, match=r"level must lie between 0 and 1, got 95"):
        bootstrap_interval([0.1, 0.2], level=95)
    with pytest.raises(ValueError, match="same queries in both runs, got 2 and 3"):
        paired_test([0.1, 0.2], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="differences must hold one row for each query"):
        paired_tests([0.1, 0.2])
