"""Curves against their plain definitions, with ties by enumeration."""

from itertools import permutations

import numpy as np
import pytest
import torch

from tests.metrics.test_definitions import GOLDEN, ranking
from xmodal.metrics import (
    cosine_ranking,
    curve_by_radius,
    curve_by_rank,
    hamming_ranking,
    interpolated_curve,
    precision_recall_within,
)


@pytest.fixture
def rankings(pairs):
    image, text, label = pairs(bits=10)
    parts = image[:20], text[20:], label[:20], label[20:]
    return hamming_ranking(*parts), cosine_ranking(*parts), parts


def test_golden_curve_by_radius():
    for average in ("micro", "macro"):
        curve = curve_by_radius(ranking(*GOLDEN), average)
        assert curve.precision == pytest.approx([0.5, 0.6, 0.6, 0.66666667], abs=5e-9)
        assert curve.recall == pytest.approx([0.25, 0.75, 0.75, 1.0], abs=5e-9)
    assert precision_recall_within(ranking(*GOLDEN))[0][0, 2] == pytest.approx(0.6)


def test_curve_by_radius_counts_the_balls(rankings):
    ranked, _, (query, database, query_label, database_label) = rankings
    distance = ((query >= 0)[:, None] != (database >= 0)[None]).sum(2).numpy()
    relevant = (query_label @ database_label.T > 0).numpy()
    micro, macro = curve_by_radius(ranked, "micro"), curve_by_radius(ranked, "macro")
    answerable = relevant.any(1)
    for radius in range(11):
        ball = distance <= radius
        hits = (ball & relevant).sum(1)
        assert micro.precision[radius] == pytest.approx(hits.sum() / max(ball.sum(), 1), abs=1e-15)
        assert micro.recall[radius] == pytest.approx(hits.sum() / relevant.sum(), abs=1e-15)
        assert macro.precision[radius] == pytest.approx((hits / np.maximum(ball.sum(1), 1)).mean(), abs=1e-15)
        recall = (hits / np.maximum(relevant.sum(1), 1))[answerable].mean()
        assert macro.recall[radius] == pytest.approx(recall, abs=1e-15)


def test_curve_by_rank_without_ties(rankings):
    _, ranked, (query, database, query_label, database_label) = rankings
    relevant = (query_label @ database_label.T > 0).numpy()
    query, database = (torch.nn.functional.normalize(side).numpy() for side in (query, database))
    hits = np.cumsum(np.take_along_axis(relevant, np.argsort(-(query @ database.T), 1), 1), 1)
    precision = hits / np.arange(1, hits.shape[1] + 1)
    curve = curve_by_rank(ranked)
    np.testing.assert_allclose(curve.precision, precision.mean(0), atol=1e-13)
    answerable = relevant.any(1)
    np.testing.assert_allclose(curve.recall, (hits / hits[:, -1:].clip(1))[answerable].mean(0), atol=1e-13)
    recall = hits / hits[:, -1:].clip(1)
    levels = np.arange(11) / 10
    points = [
        [p[r >= level - 1e-12].max() if found else 0.0 for level in levels]
        for p, r, found in zip(precision, recall, answerable, strict=True)
    ]
    np.testing.assert_allclose(interpolated_curve(ranked).precision, np.mean(points, 0), atol=1e-13)


def test_curve_by_rank_is_the_mean_over_all_orders():
    distance, grade = [0, 0, 1, 1, 1], [1, 0, 0, 1, 1]
    orders = [a + b for a in permutations(grade[:2]) for b in permutations(grade[2:])]
    hits = np.cumsum(orders, 1).mean(0)
    curve = curve_by_rank(ranking(distance, grade))
    np.testing.assert_allclose(curve.precision, hits / np.arange(1, 6), atol=1e-15)
    np.testing.assert_allclose(curve.recall, hits / 3, atol=1e-15)
    precision, recall = hits / np.arange(1, 6), hits / 3
    expected = [precision[recall >= level - 1e-12].max() for level in np.arange(11) / 10]
    np.testing.assert_allclose(interpolated_curve(ranking(distance, grade)).precision, expected, atol=1e-15)


def test_radius_needs_codes(rankings):
    with pytest.raises(ValueError, match="needs a ranking by Hamming distance, got one by real scores"):
        curve_by_radius(rankings[1])
