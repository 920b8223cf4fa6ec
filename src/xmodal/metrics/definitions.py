"""Retrieval metrics as expectations over the order of tied items: one function per definition.

The tie-aware idea: F. McSherry and M. Najork, "Computing information retrieval performance measures efficiently in the
presence of tied scores", ECIR 2008; for Hamming distances K. He et al., "Hashing as tie-aware learning to rank", CVPR
2018. One query, tie groups by distance: n items and r relevant ones in a group, C items and K relevant ones strictly
closer, R relevant in all. Each function returns one value per query, 0 where nothing is relevant.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from xmodal.metrics import closed_forms
from xmodal.metrics.ranking import Floats, Ints, Ranking

Denominator = Literal["R", "min", "hits", "hit-truncated"]
Ties = Literal["expected", "pessimistic", "optimistic", "group-end"]


def average_precision(
    ranking: Ranking, top: int | None = None, denominator: Denominator = "R", ties: Ties = "expected"
) -> Floats:
    """Average precision of each query.

    Args:
        ranking: Q rankings.
        top: cut the ranking after this many items; None takes all of it (mAP@all), where every denominator agrees.
        denominator: what the summed precisions are divided by: "R" all relevant items; "min" the smaller of R and
            `top`; "hits" the relevant items found within `top` (DJSRH, HashNet, ACMR, torchmetrics). "hit-truncated"
            is DCMH's `calc_map_k`: the mean over the first min(top, R) relevant items wherever they rank.
        ties: "expected" over all orders of tied items; "pessimistic" and "optimistic" take the worst and the best
            order; "group-end" takes the precision at the end of a tie group (scikit-learn). Only whole rankings have
            the last three. For "the order of the database", rank with ties="stable" instead.

    Returns:
        (Q,) float64.

    Raises:
        ValueError: an unknown convention, `top` below 1, or a cut-off together with a bound.

    Examples:
        >>> import numpy as np
        >>> from xmodal.metrics import average_precision, ranking_from_histogram
        >>> counts = np.array([[[1, 1, 0, 0], [1, 2, 0, 1]]])  # one query, irrelevant and relevant items at four levels
        >>> [round(float(average_precision(ranking_from_histogram(counts), 3, d)[0]), 8) for d in ("R", "min", "hits")]
        [0.29861111, 0.39814815, 0.72222222]
    """
    if denominator not in get_args(Denominator):
        raise ValueError(f"denominator must be one of {', '.join(get_args(Denominator))}, got {denominator!r}")
    if ties not in get_args(Ties):
        raise ValueError(f"ties must be one of {', '.join(get_args(Ties))}, got {ties!r}")
    out = np.zeros(ranking.queries)
    groups = (ranking.offsets, ranking.closer, ranking.items, ranking.relevant)
    found = ranking.found
    if ties != "expected":
        if top is not None:
            raise ValueError(f"ties={ties!r} is defined for the whole ranking only, got top={top}")
        closed_forms.average_precision_bound(*groups, found, get_args(Ties).index(ties) - 1, out)
        return out
    cut = ranking.database if top is None else min(_cutoff(top), ranking.database)
    if denominator == "hit-truncated":
        closed_forms.hit_truncated(*groups, found, cut, out)
    elif denominator == "hits" and cut < ranking.database:
        closed_forms.average_precision_over_hits(*groups, cut, out)
    else:
        closed_forms.average_precision(*groups, np.minimum(found, cut) if denominator == "min" else found, cut, out)
    return out


def hits_at(ranking: Ranking, tops: Sequence[int]) -> Floats:
    """Expected number of relevant items among the first `tops` items, (Q, len(tops))."""
    cuts = _cutoffs(tops, ranking.database)
    out = np.zeros((ranking.queries, len(cuts)))
    places = np.arange(int(cuts.max(initial=0)) + 1, dtype=np.float64)
    closed_forms.gain_within(
        ranking.offsets, ranking.closer, ranking.items, ranking.relevant.astype(float), places, cuts, out
    )
    return out


def precision_at(ranking: Ranking, tops: Sequence[int]) -> Floats:
    """Expected hits within each cut-off over the cut-off itself, (Q, len(tops)), also where the database is smaller."""
    return hits_at(ranking, tops) / np.asarray(tops, np.float64)


def recall_at(ranking: Ranking, tops: Sequence[int]) -> Floats:
    """Expected hits within each cut-off over all relevant items, (Q, len(tops))."""
    return hits_at(ranking, tops) / np.maximum(ranking.found, 1)[:, None]


def ndcg_at(ranking: Ranking, tops: Sequence[int]) -> Floats:
    """Normalised discounted cumulative gain: gain 2^grade - 1, discount 1 / log2(1 + place), (Q, len(tops)).

    The expected DCG over the order of tied items, over the DCG of the best ranking of the same database.
    K. Järvelin and J. Kekäläinen, TOIS 2002, with the exponential gain of C. Burges et al., ICML 2005.
    """
    cuts = _cutoffs(tops, ranking.database)
    discount = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(int(cuts.max(initial=0))) + 2.0))])
    out = np.zeros((ranking.queries, len(cuts)))
    closed_forms.gain_within(ranking.offsets, ranking.closer, ranking.items, ranking.gain, discount, cuts, out)
    best_first = ranking.grades[:, :0:-1]  # grade 0 gains nothing
    ends = np.cumsum(best_first, 1)
    gains = 2.0 ** np.arange(best_first.shape[1], 0, -1) - 1
    for t, cut in enumerate(cuts):
        filled = discount[np.minimum(ends, cut)] - discount[np.minimum(ends - best_first, cut)]
        best = filled @ gains
        out[:, t] = np.divide(out[:, t], best, out=np.zeros(len(out)), where=best > 0)
    return out


def hit_at(closer: Ints, items: Ints, own: Ints, tops: Sequence[int]) -> Floats:
    """R@K: the probability that any of a query's own counterparts is among its first K items, (Q, len(tops)).

    Args:
        closer: (Q,) database items strictly closer than the nearest counterpart.
        items: (Q,) items at the distance of the nearest counterpart; 0 when the query has none in the database.
        own: (Q,) counterparts among those.
        tops: the cut-offs K.
    """
    cuts = np.asarray([_cutoff(top) for top in tops])
    places = np.clip(cuts[None, :] - closer[:, None], 0, items[:, None])
    missed = np.ones(places.shape)
    for drawn in range(int(own.max(initial=0))):  # none of the own items in the first `places`, one factor per item
        left = (items[:, None] - places - drawn) / np.maximum(items[:, None] - drawn, 1)
        missed = np.where(drawn < own[:, None], missed * np.maximum(left, 0.0), missed)
    return 1.0 - missed


def _cutoff(top: int) -> int:
    if top < 1:
        raise ValueError(f"a cut-off must be at least 1, got {top}")
    return int(top)


def _cutoffs(tops: Sequence[int], database: int) -> Ints:
    return np.minimum(np.asarray([_cutoff(top) for top in tops], np.int64), database)
