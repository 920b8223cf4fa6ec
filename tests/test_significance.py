"""Intervals and tests have the properties that define them."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import ttest_ind, ttest_rel

from xmodal.significance import bootstrap_interval, bootstrap_intervals, holm, paired_test, seeded_tests


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
    for column, interval in zip(values.T, bootstrap_intervals(values), strict=True):
        assert interval == pytest.approx(bootstrap_interval(column), abs=1e-12)
    first, second = np.random.default_rng(5).normal(0.02, 0.1, (2, 3, 70, 2))
    both = seeded_tests(first, second)
    for measure in range(2):
        (alone,) = seeded_tests(first[..., [measure]], second[..., [measure]])
        assert both[measure] == pytest.approx(alone, abs=1e-12)


def made_up(lead, of_training, seeds=3, queries=200, draw=0):
    """(S, Q, 1) AP of two methods: queries are hard alike, runs differ as a whole and on single queries."""
    rng = np.random.default_rng(draw)
    hard = rng.normal(0.5, 0.2, queries)
    runs = [rng.normal(mean, of_training, (seeds, 1)) for mean in (lead, 0)]
    return [(hard + run + rng.normal(0, 0.05, (seeds, queries)))[..., None] for run in runs]


def test_what_a_second_seed_turns_round_is_not_significant():
    """Each seed by itself is highly significant over its queries, in opposite directions."""
    rng = np.random.default_rng(0)
    second = rng.normal(0.5, 0.2, (1, 400)).repeat(2, 0)
    first = second + np.array([[0.08], [-0.03]]) + rng.normal(0, 0.02, (2, 400))
    for seed, sign in ((0, 1), (1, -1)):
        alone = paired_test(first[seed], second[seed])
        assert alone.p_value < 0.001
        assert alone.difference * sign > 0
    queries_only = paired_test(first.mean(0), second.mean(0))
    assert queries_only.p_value < 0.001  # what a test over the queries of the seeds' mean would have called sure
    (test,) = seeded_tests(first[..., None], second[..., None])
    assert test.difference == pytest.approx(queries_only.difference)
    assert test.p_value > 0.3
    assert test.low < 0 < test.high
    assert not test.significant


def test_a_lead_of_one_seed_is_never_significant():
    first, second = made_up(0.2, 0)
    (several,), (one,) = seeded_tests(first, second), seeded_tests(first[:1], second)
    assert several.significant
    assert (several.seeds, one.seeds) == (3, 1)
    assert one.p_value < 1e-6
    assert not one.significant


def test_without_variance_of_training_it_is_student_s_paired_test():
    first, second = (each[:1] for each in made_up(0.005, 0))
    expected = ttest_rel(first[0, :, 0], second[0, :, 0])
    for seeds in (1, 4):  # a closed form gives the same under every seed
        (test,) = seeded_tests(first.repeat(seeds, 0), second.repeat(seeds, 0))
        assert test.p_value == pytest.approx(expected.pvalue)
        assert (test.low, test.high) == pytest.approx(expected.confidence_interval(0.95))


def test_without_variance_of_queries_it_is_welch_s_test():
    runs = np.random.default_rng(6).normal(0.5, 0.02, (2, 4))
    first, second = (np.repeat(each[:, None, None], 50, 1) for each in runs)
    expected = ttest_ind(*runs, equal_var=False)
    (test,) = seeded_tests(first, second)
    assert test.p_value == pytest.approx(expected.pvalue)
    assert (test.low, test.high) == pytest.approx(expected.confidence_interval(0.95))


@pytest.mark.parametrize("of_training", [0.0, 0.01, 0.1])
@pytest.mark.parametrize("seeds", [2, 5])
def test_it_is_wrong_as_seldom_as_it_says(of_training, seeds):
    tests = [seeded_tests(*made_up(0, of_training, seeds, 60, draw))[0] for draw in range(400)]
    assert np.mean([test.significant for test in tests]) < 0.075
    assert np.mean([test.low <= 0 <= test.high for test in tests]) > 0.925


def test_equal_methods_do_not_differ_and_a_constant_lead_is_sure():
    first, _ = made_up(0, 0.1)
    assert seeded_tests(first, first)[0][3] == 1
    same = first[:1].repeat(3, 0)
    assert seeded_tests(same, same) == [(0, 0, 0, 1, 3)]
    (test,) = seeded_tests(np.full((2, 9, 1), 0.75), np.full((2, 9, 1), 0.5))
    assert test == (0.25, 0.25, 0.25, 0, 2)


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
    with pytest.raises(ValueError, match="seeds x queries x measures"):
        seeded_tests(np.zeros((2, 3, 1)), np.zeros((2, 4, 1)))
    with pytest.raises(ValueError, match=r"level must lie between 0 and 1, got 95"):
        seeded_tests(np.zeros((2, 3, 1)), np.zeros((2, 3, 1)), level=95)
