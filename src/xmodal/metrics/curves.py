"""Precision-recall curves: by Hamming radius, by rank, and interpolated at eleven recalls."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import ArrayLike

from xmodal.metrics.ranking import Floats, Ints, Ranking, compiled

RECALLS = np.arange(11) / 10


class Curve(NamedTuple):
    """A precision-recall curve: `at` is the radius, the rank or the recall that the two values belong to."""

    at: Floats
    precision: Floats
    recall: Floats


def ratio(over: ArrayLike, under: ArrayLike) -> Floats:
    """Quotient with 0 where there is nothing to divide by."""
    numerator, divisor = np.broadcast_arrays(np.asarray(over, np.float64), np.asarray(under, np.float64))
    quotient: Floats = np.divide(numerator, divisor, out=np.zeros(divisor.shape), where=divisor > 0)
    return quotient


def items_within(ranking: Ranking) -> Ints:
    """All and relevant items in the Hamming ball of every radius, (2, Q, bits + 1).

    Raises:
        ValueError: the ranking is not by Hamming distance.
    """
    if ranking.levels is None:
        raise ValueError("a Hamming radius needs a ranking by Hamming distance, got one by real scores")
    return np.cumsum(ranking.levels, 2)


def precision_recall_within(ranking: Ranking) -> tuple[Floats, Floats]:
    """Precision and recall of the Hamming ball of every radius, 2 x (Q, bits + 1); the precision of an empty ball is 0.

    Raises:
        ValueError: the ranking is not by Hamming distance.
    """
    items, relevant = items_within(ranking)
    return ratio(relevant, items), ratio(relevant, ranking.found[:, None])


def curve_by_radius(ranking: Ranking, average: Literal["micro", "macro"] = "micro") -> Curve:
    """Precision-recall curve over the radius 0..bits, the "hash lookup" curve of the literature.

    Args:
        ranking: by Hamming distance.
        average: "micro" divides sums over queries; "macro" is the mean over queries (recall: over those with a
            relevant item).
    """
    return radius_curve(radius_sums(ranking), average)


def curve_by_rank(ranking: Ranking) -> Curve:
    """Mean precision and mean recall of the first k items, k = 1..N (recall: over queries with a relevant item)."""
    return rank_curve(rank_sums(ranking))


def interpolated_curve(ranking: Ranking) -> Curve:
    """The eleven-point curve: mean over queries of the best precision at a recall of at least 0, .1, ..., 1.

    With ties, precision and recall are expected ones, as in `curve_by_rank`; it is not the expectation of the points.
    """
    return interpolated_mean(interpolated_sums(ranking))


def plot_curves(curves: Mapping[str, Curve], ax: Axes | None = None) -> tuple[Figure | SubFigure, Axes]:
    """Draw precision over recall: the curves by rank as lines, those by radius (micro) dashed.

    Args:
        curves: by name and direction, as in `HammingRetrieval.curves`.
        ax: where to draw; a new figure by default.
    """
    if ax is None:
        ax = plt.subplots(figsize=(5, 4), layout="constrained")[1]
    for name, kind, style in (("pr_rank", "rank", "-"), ("pr_radius[micro]", "radius", "--")):
        for colour, direction in enumerate(("i2t", "t2i")):
            curve = curves.get(f"{name}_{direction}")
            if curve is not None:
                ax.plot(curve.recall, curve.precision, style, color=f"C{colour}", label=f"{direction}, by {kind}")
    ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1))
    ax.legend()
    return ax.figure, ax


def radius_sums(ranking: Ranking) -> Floats:
    """What `radius_curve` needs, additive over queries: (bits + 1, 6)."""
    precision, recall = precision_recall_within(ranking)
    inside = items_within(ranking).sum(1).T
    counts = np.array([ranking.queries, int((ranking.found > 0).sum()), int(ranking.found.sum())])
    return np.column_stack([inside, precision.sum(0), recall.sum(0), np.broadcast_to(counts, (len(inside), 3))]).astype(
        float
    )


def radius_curve(sums: Floats, average: Literal["micro", "macro"]) -> Curve:
    """Finish `radius_sums`."""
    items, hits, precision, recall, queries, answerable, relevant = sums.T
    radius = np.arange(len(sums), dtype=float)
    if average == "micro":
        return Curve(radius, ratio(hits, items), ratio(hits, relevant))
    return Curve(radius, ratio(precision, queries), ratio(recall, answerable))


@compiled
def _hit_steps(offsets: Ints, closer: Ints, items: Ints, relevant: Ints, total: Ints, out: Floats) -> None:
    """Second differences of the expected hits over the rank, summed over queries: plain, and over R."""
    for q in range(len(offsets) - 1):
        for g in range(offsets[q], offsets[q + 1]):
            if relevant[g] > 0:
                step = relevant[g] / items[g]
                out[closer[g], 0] += step
                out[closer[g] + items[g], 0] -= step
                out[closer[g], 1] += step / total[q]
                out[closer[g] + items[g], 1] -= step / total[q]


def rank_sums(ranking: Ranking) -> Floats:
    """What `rank_curve` needs, additive over queries: (N + 2, 2), the last row being the counts."""
    out = np.zeros((ranking.database + 2, 2))
    _hit_steps(ranking.offsets, ranking.closer, ranking.items, ranking.relevant, ranking.found, out)
    out[-1] = ranking.queries, (ranking.found > 0).sum()
    return out


def rank_curve(sums: Floats) -> Curve:
    """Finish `rank_sums`."""
    queries, answerable = sums[-1]
    hits, share = np.cumsum(np.cumsum(sums[:-2], 0), 0).T
    rank = np.arange(1.0, len(hits) + 1)
    return Curve(rank, ratio(hits, rank * queries), ratio(share, answerable))


@compiled
def _interpolated(offsets: Ints, closer: Ints, items: Ints, relevant: Ints, total: Ints, out: Floats) -> None:
    for q in range(len(offsets) - 1):
        best, found, tenth = 0.0, total[q], 10
        for g in range(offsets[q + 1] - 1, offsets[q] - 1, -1):
            n, r, c = items[g], relevant[g], closer[g]
            if r == 0:
                continue
            found -= r
            last = (found + r) / (c + n)
            while tenth > 0 and tenth * total[q] > 10 * found:  # this recall is reached inside the group, at place k
                k = -((10 * found - tenth * total[q]) * n // (10 * r))
                out[tenth] += max(best, last, (found + k * r / n) / (c + k))
                tenth -= 1
            best = max(best, last, (found + r / n) / (c + 1))  # precision is monotone inside a group
        out[0] += best


def interpolated_sums(ranking: Ranking) -> Floats:
    """What `interpolated_mean` needs, additive over queries: the eleven sums and the number of queries."""
    out = np.zeros(12)
    _interpolated(ranking.offsets, ranking.closer, ranking.items, ranking.relevant, ranking.found, out)
    out[11] = ranking.queries
    return out


def interpolated_mean(sums: Floats) -> Curve:
    """Finish `interpolated_sums`."""
    return Curve(RECALLS, ratio(sums[:11], sums[11]), RECALLS)
