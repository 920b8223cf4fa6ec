"""Every closed form against the plain definition averaged over all orders of the tied items."""

from fractions import Fraction
from itertools import chain, permutations, product
from math import comb

import numpy as np
import pytest

from xmodal.metrics import (
    average_precision,
    hit_at,
    hits_at,
    ndcg_at,
    precision_at,
    random_ranking,
    ranking_from_histogram,
    recall_at,
)

GOLDEN = ([0, 0, 1, 1, 1, 3], [1, 0, 1, 0, 1, 1])  # distances and relevance of one query


def ranking(distance, grade):
    counts = np.zeros((1, max(max(grade), 1) + 1, max(distance) + 1), int)
    np.add.at(counts[0], (np.asarray(grade), np.asarray(distance)), 1)
    return ranking_from_histogram(counts)


def orders(distance, grade):
    """Every ranking of the grades that respects the distances."""
    groups = [[g for d, g in zip(distance, grade, strict=True) if d == level] for level in sorted(set(distance))]
    return [list(chain.from_iterable(choice)) for choice in product(*(list(permutations(g)) for g in groups))]


def plain_ap(grades, top=None, denominator="R"):
    """The textbook loop over one ranking."""
    relevant = [g > 0 for g in grades]
    total, hits, precisions = sum(relevant), 0, []
    for place, hit in enumerate(relevant, 1):
        hits += hit
        if hit:
            precisions.append((hits / place, place))
    top = top or len(grades)
    if denominator == "hit-truncated":
        kept = [p for p, _ in precisions[:top]]
        return sum(kept) / len(kept) if kept else 0.0
    kept = [p for p, place in precisions if place <= top]
    divisor = {"R": total, "min": min(total, top), "hits": len(kept)}[denominator]
    return sum(kept) / divisor if divisor else 0.0


def plain_ndcg(grades, top):
    def dcg(ranked):
        return sum((2**g - 1) / np.log2(place + 1) for place, g in enumerate(ranked[:top], 1))

    best = dcg(sorted(grades, reverse=True))
    return dcg(grades) / best if best else 0.0


def random_cases(count, longest=7, grades=3):
    rng = np.random.default_rng(0)
    for _ in range(count):
        size = int(rng.integers(1, longest + 1))
        yield rng.integers(0, 4, size).tolist(), rng.integers(0, grades, size).tolist()


@pytest.mark.parametrize("denominator", ["R", "min", "hits", "hit-truncated"])
def test_average_precision_is_the_mean_over_all_orders(denominator):
    for distance, grade in random_cases(60):
        every = orders(distance, grade)
        for top in (None, *range(1, len(grade) + 2)):
            expected = np.mean([plain_ap(order, top, denominator) for order in every])
            value = average_precision(ranking(distance, grade), top, denominator)[0]
            assert value == pytest.approx(expected, abs=2e-15), (distance, grade, top)


def test_bounds_are_the_worst_and_best_order():
    for distance, grade in random_cases(60):
        every = [plain_ap(order) for order in orders(distance, grade)]
        ranked = ranking(distance, grade)
        assert average_precision(ranked, ties="pessimistic")[0] == pytest.approx(min(every), abs=2e-15)
        assert average_precision(ranked, ties="optimistic")[0] == pytest.approx(max(every), abs=2e-15)


def test_precision_recall_and_ndcg_are_means_over_all_orders():
    for distance, grade in random_cases(60):
        every = orders(distance, grade)
        tops = range(1, len(grade) + 2)
        total = sum(g > 0 for g in grade)
        hits = np.array([[sum(g > 0 for g in order[:top]) for top in tops] for order in every]).mean(0)
        ranked = ranking(distance, grade)
        np.testing.assert_allclose(hits_at(ranked, tops)[0], hits, atol=2e-15)
        np.testing.assert_allclose(precision_at(ranked, tops)[0], hits / np.array(tops), atol=2e-15)
        np.testing.assert_allclose(recall_at(ranked, tops)[0], hits / max(total, 1), atol=2e-15)
        gain = [np.mean([plain_ndcg(order, top) for order in every]) for top in tops]
        np.testing.assert_allclose(ndcg_at(ranked, tops)[0], gain, atol=4e-15)


def test_hit_at_is_the_share_of_orders_with_an_own_item_inside():
    for distance, own in random_cases(60, grades=2):
        every = orders(distance, own)
        tops = range(1, len(own) + 2)
        nearest = min((d for d, o in zip(distance, own, strict=True) if o), default=None)
        closer = sum(d < nearest for d in distance) if nearest is not None else 0
        items = sum(d == nearest for d in distance) if nearest is not None else 0
        count = sum(d == nearest and o for d, o in zip(distance, own, strict=True))
        expected = [np.mean([any(order[:top]) for order in every]) for top in tops]
        value = hit_at(*(np.array([x]) for x in (closer, items, count)), tops)[0]
        np.testing.assert_allclose(value, expected, atol=2e-15)


def test_random_floor_is_the_mean_over_all_orders_of_everything():
    distance, grade = [0, 1, 2, 3, 4], [1, 0, 0, 1, 0]
    expected = np.mean([plain_ap(order) for order in permutations(grade)])
    assert average_precision(random_ranking(ranking(distance, grade)))[0] == pytest.approx(expected, abs=2e-15)


def test_golden_values():
    ranked = ranking(*GOLDEN)
    assert average_precision(ranked)[0] == pytest.approx(0.66944444, abs=5e-9)
    for denominator, value in (("R", 0.29861111), ("min", 0.39814815), ("hits", 0.72222222)):
        assert average_precision(ranked, 3, denominator)[0] == pytest.approx(value, abs=5e-9)
    for ties, value in (("pessimistic", 0.56666667), ("optimistic", 0.77083333), ("group-end", 0.59166667)):
        assert average_precision(ranked, ties=ties)[0] == pytest.approx(value, abs=5e-9)
    assert precision_at(ranked, [3])[0, 0] == pytest.approx(0.55555556, abs=5e-9)


def test_golden_values_without_ties():
    ranked = ranking(range(5), [1, 0, 1, 1, 0])
    assert average_precision(ranked)[0] == pytest.approx(0.805556, abs=5e-7)
    for denominator, value in (("hits", 1.0), ("min", 0.5), ("hit-truncated", 0.833333)):
        assert average_precision(ranked, 2, denominator)[0] == pytest.approx(value, abs=5e-7)


def test_mean_average_precision_with_penalty():
    fine, coarse = [1, 0, 1, 0, 0], [1, 1, 1, 0, 0]
    right = average_precision(ranking(range(5), fine))[0]
    wrong = average_precision(ranking(range(5), [1 - c for c in coarse]))[0]
    assert (right, wrong, right - wrong) == pytest.approx((0.833333, 0.325, 0.508333), abs=5e-7)


@pytest.mark.parametrize(("n", "r", "m"), [(5, 2, 3), (4000, 900, 37), (50, 1, 25), (7, 7, 3), (3000, 2999, 1500)])
def test_large_tie_groups_keep_full_precision(n, r, m):
    """Against exact rational arithmetic: five relevant items first, without ties, then a group that T = 5 + m cuts."""
    counts = np.zeros((1, 2, 7), int)
    counts[0, 1, :5] = 1
    counts[0, :, 5:] = [[n - r, 10], [r, 0]]
    ranked = ranking_from_histogram(counts)

    def precisions(inside, hits, span):  # expected sum in a group of `inside` items with `hits` relevant ones
        slope = Fraction(hits - 1, inside - 1) if inside > 1 else Fraction(0)
        return Fraction(hits, inside) * (slope * inside + (6 - slope * 6) * span)

    span = sum(Fraction(1, place) for place in range(6, 6 + m))
    exact = Fraction(0)
    for hits in range(max(0, m - (n - r)), min(r, m) + 1):
        probability = Fraction(comb(r, hits) * comb(n - r, m - hits), comb(n, m))
        exact += probability * (5 + precisions(m, hits, span)) / (5 + hits)
    assert average_precision(ranked, 5 + m, "hits")[0] == pytest.approx(float(exact), rel=1e-14)
    whole = (5 + precisions(n, r, sum(Fraction(1, place) for place in range(6, 6 + n)))) / (5 + r)
    assert average_precision(ranked)[0] == pytest.approx(float(whole), rel=1e-14)


def test_conventions_that_do_not_exist_are_refused():
    ranked = ranking(*GOLDEN)
    with pytest.raises(ValueError, match="denominator must be one of R, min, hits, hit-truncated, got 'all'"):
        average_precision(ranked, denominator="all")
    with pytest.raises(ValueError, match=r"ties must be one of expected, .*, got 'stable'"):
        average_precision(ranked, ties="stable")
    with pytest.raises(ValueError, match="whole ranking only, got top=5"):
        average_precision(ranked, 5, ties="optimistic")
    with pytest.raises(ValueError, match="a cut-off must be at least 1, got 0"):
        hits_at(ranked, [0])
