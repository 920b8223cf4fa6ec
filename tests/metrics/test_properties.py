"""Invariances that hold for every input (hypothesis)."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from xmodal.metrics import (
    average_precision,
    curve_by_radius,
    hamming_ranking,
    interpolated_curve,
    ndcg_at,
    precision_at,
)
from xmodal.metrics.criterion import Criterion
from xmodal.metrics.rankers import ScoreRanker

CONVENTIONS = [(None, "R"), (3, "R"), (3, "min"), (3, "hits"), (3, "hit-truncated")]


@st.composite
def problems(draw):
    """Codes and labels of a few queries and items; few bits, so that ties abound."""
    queries, items = draw(st.integers(1, 4)), draw(st.integers(1, 14))
    bits, labels = draw(st.integers(1, 70)), draw(st.integers(1, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    used = draw(st.integers(1, 3))

    def bit(rows, columns):
        return torch.rand(rows, columns, generator=generator) < 0.5

    codes = [torch.where(bit(rows, bits) & (torch.arange(bits) < used), 1.0, -1.0) for rows in (queries, items)]
    return *codes, bit(queries, labels).float(), bit(items, labels).float()


def numbers(ranking):
    values = [average_precision(ranking, top, denominator) for top, denominator in CONVENTIONS]
    values += [average_precision(ranking, ties=ties) for ties in ("pessimistic", "optimistic", "group-end")]
    return np.column_stack([*values, precision_at(ranking, [1, 4]), ndcg_at(ranking, [2, 9])])


@given(problems(), st.randoms(use_true_random=False))
def test_order_of_the_database_does_not_matter(problem, random):
    query, database, query_label, database_label = problem
    order = random.sample(range(len(database)), len(database))
    one = hamming_ranking(query, database, query_label, database_label, graded=True)
    other = hamming_ranking(query, database[order], query_label, database_label[order], graded=True)
    np.testing.assert_array_equal(numbers(one), numbers(other))


@given(problems(), st.data())
def test_flipping_or_permuting_bits_does_not_matter(problem, data):
    query, database, *labels = problem
    bits = query.shape[1]
    flipped = torch.tensor(data.draw(st.lists(st.sampled_from([1.0, -1.0]), min_size=bits, max_size=bits)))
    order = torch.randperm(bits, generator=torch.Generator().manual_seed(bits))
    one = hamming_ranking(query, database, *labels)
    other = hamming_ranking((query * flipped)[:, order], (database * flipped)[:, order], *labels)
    np.testing.assert_array_equal(numbers(one), numbers(other))


@given(problems(), st.integers(2, 5))
def test_duplicating_the_database_keeps_what_has_no_rank_in_it(problem, times):
    """Radius curves stay; group-end AP stays; precision at twice the rank stays where the cut is between groups."""
    query, database, query_label, database_label = problem
    one = hamming_ranking(*problem)
    other = hamming_ranking(query, database.repeat(times, 1), query_label, database_label.repeat(times, 1))
    for average in ("micro", "macro"):
        np.testing.assert_allclose(curve_by_radius(one, average), curve_by_radius(other, average), atol=1e-15)
    np.testing.assert_allclose(
        average_precision(one, ties="group-end"), average_precision(other, ties="group-end"), atol=1e-14
    )
    np.testing.assert_allclose(precision_at(one, [3]), precision_at(other, [3 * times]), atol=1e-14)


@given(problems())
def test_duplicating_the_queries_keeps_every_mean(problem):
    query, database, query_label, database_label = problem
    twice = hamming_ranking(query.repeat(2, 1), database, query_label.repeat(2, 1), database_label)
    np.testing.assert_array_equal(numbers(twice), np.tile(numbers(hamming_ranking(*problem)), (2, 1)))


@given(problems())
def test_bounds_enclose_every_order(problem):
    ranking = hamming_ranking(*problem)
    low, high = (average_precision(ranking, ties=ties) for ties in ("pessimistic", "optimistic"))
    for value in (average_precision(ranking), average_precision(hamming_ranking(*problem, ties="stable"))):
        assert (low <= value + 1e-14).all()
        assert (value <= high + 1e-14).all()
    values = numbers(ranking)
    assert ((values >= 0) & (values <= 1 + 1e-14)).all()


@given(problems(), st.integers(-8, 8))
def test_inner_products_of_codes_rank_like_their_distances(problem, power):
    """Small integers times a power of two are exact in float32, so every tie is kept at any such scale."""
    query, database, query_label, database_label = problem
    relevance = Criterion(query_label.bool(), database_label.bool(), graded=True)
    ranker = ScoreRanker([query * 2.0**power], [database])
    scores = next(ranker.rank(slice(0, len(query)), {"": relevance}))[1][""]
    np.testing.assert_array_equal(numbers(hamming_ranking(*problem, graded=True)), numbers(scores))


@given(problems())
def test_interpolated_precision_never_rises(problem):
    precision = interpolated_curve(hamming_ranking(*problem)).precision
    assert (np.diff(precision) <= 1e-14).all()
