"""What every definition needs of a ranking: where its relevant items are, tie group by tie group."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile with numba on the first call; the machine code is kept on disk, and the GIL is released while it runs."""
    return cast("F", numba.njit(cache=True, nogil=True)(function))


class Ranking(NamedTuple):
    """The tie groups that hold relevant items, nearest group first, for Q queries (compressed rows).

    A tie group is the set of database items at one distance. Groups without a relevant item are left out: with the
    number of closer items written down, no definition needs them. A ranking without ties has one group per relevant
    item. A group may also be empty (`relevant` 0): it counts nothing.

    Attributes:
        offsets: (Q + 1,) query q owns the groups `offsets[q]:offsets[q + 1]`.
        closer: (M,) database items strictly closer than the group, C_d.
        items: (M,) database items in the group, n_d.
        relevant: (M,) relevant ones among them, r_d.
        gain: (M,) summed gain 2^grade - 1 of the group, for NDCG.
        grades: (Q, G) database items of each relevance grade; grade 0 is not relevant.
        database: number of database items, N.
        levels: (2, Q, bits + 1) all and relevant items at each Hamming distance; None where distances are real numbers.
    """

    offsets: Ints
    closer: Ints
    items: Ints
    relevant: Ints
    gain: Floats
    grades: Ints
    database: int
    levels: Ints | None = None

    @property
    def queries(self) -> int:
        """Number of queries, Q."""
        return len(self.offsets) - 1

    @property
    def found(self) -> Ints:
        """(Q,) relevant items in the whole database, R."""
        return np.asarray(self.grades[:, 1:].sum(1), np.int64)


def ranking_from_histogram(histogram: NDArray[np.integer[Any]], database: int | None = None) -> Ranking:
    """Rank by the histogram over distance levels and relevance grades; the order inside a level stays open.

    Args:
        histogram: (Q, G, levels) number of database items of each grade at each level, nearest first.
        database: number of database items; None counts those of the first query.
    """
    counts = histogram.astype(np.int64)
    relevant = counts[:, 1:].sum(1)
    items = counts[:, 0] + relevant
    closer = np.cumsum(items, 1) - items
    kept = relevant > 0
    gains = _gains(counts.shape[1])
    grades = counts.sum(2)
    return Ranking(
        offsets=np.concatenate([[0], np.cumsum(kept.sum(1))]).astype(np.int64),
        closer=closer[kept],
        items=items[kept],
        relevant=relevant[kept],
        gain=sum(counts[:, grade][kept] * gain for grade, gain in enumerate(gains)),
        grades=grades,
        database=int(grades[:1].sum()) if database is None else database,
        levels=np.stack([items, relevant]),
    )


def _gains(grades: int) -> Floats:
    """2^grade - 1."""
    return np.asarray(2.0 ** np.arange(grades) - 1)


def concatenated(rankings: Sequence[Ranking]) -> Ranking:
    """The rankings of several sets of queries over one database, as one."""
    if len(rankings) == 1:
        return rankings[0]
    ends = np.cumsum([0, *(ranking.offsets[-1] for ranking in rankings)])
    offsets = [ranking.offsets[1:] + end for ranking, end in zip(rankings, ends[:-1], strict=True)]
    levels = [ranking.levels for ranking in rankings if ranking.levels is not None]
    return Ranking(
        offsets=np.concatenate([[0], *offsets]).astype(np.int64),
        closer=np.concatenate([ranking.closer for ranking in rankings]),
        items=np.concatenate([ranking.items for ranking in rankings]),
        relevant=np.concatenate([ranking.relevant for ranking in rankings]),
        gain=np.concatenate([ranking.gain for ranking in rankings]),
        grades=np.concatenate([ranking.grades for ranking in rankings]),
        database=rankings[0].database,
        levels=np.concatenate(levels, 1) if levels else None,
    )


def random_ranking(ranking: Ranking) -> Ranking:
    """The same queries and relevance with everything in one tie group: the expectation over random orders."""
    every = np.arange(ranking.queries + 1, dtype=np.int64)
    closer = np.zeros(ranking.queries, np.int64)
    items = np.full(ranking.queries, ranking.database, np.int64)
    gain = ranking.grades @ _gains(ranking.grades.shape[1])
    return Ranking(every, closer, items, ranking.found, gain, ranking.grades, ranking.database)
