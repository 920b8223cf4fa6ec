"""How sure a difference of retrieval numbers is: intervals and paired tests over queries. Knows numpy only."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_DRAWS_AT_ONCE = 1 << 22  # resampled values held in memory


class Interval(NamedTuple):
    """A mean and the bounds of its confidence interval."""

    mean: float
    low: float
    high: float


class PairedTest(NamedTuple):
    """The difference of two means over the same queries, its confidence interval, and its two-sided p-value."""

    difference: float
    low: float
    high: float
    p_value: float


def bootstrap_interval(values: ArrayLike, level: float = 0.95, draws: int = 10_000, seed: int = 0) -> Interval:
    """Percentile bootstrap over the queries: the interval of a mean AP (B. Efron, Ann. Statist. 1979).

    Args:
        values: (Q,) one value for each query, such as `average_precisions`.
        level: confidence level, in (0, 1).
        draws: number of resamples.
        seed: of the resampling.

    Raises:
        ValueError: no values, or a level outside (0, 1).
    """
    return bootstrap_intervals(_values(values, "values")[:, None], level, draws, seed)[0]


def bootstrap_intervals(values: ArrayLike, level: float = 0.95, draws: int = 10_000, seed: int = 0) -> list[Interval]:
    """`bootstrap_interval` of every column of (Q, K) values; all columns share the resamples, so many cost little more.

    Raises:
        ValueError: no queries, or a level outside (0, 1).
    """
    columns = _columns(values, "values")
    bounds = _percentiles(columns, level, draws, seed)
    return [Interval(*row) for row in np.vstack([columns.mean(0), bounds]).T.tolist()]


def paired_test(
    first: ArrayLike, second: ArrayLike, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> PairedTest:
    """Paired randomisation test of mean(first) - mean(second): the signs of the differences are exchanged at random.

    M. Smucker et al., "A comparison of statistical significance tests for information retrieval evaluation", CIKM 2007.
    The interval is the bootstrap's, over the differences; the p-value counts the observed labelling among the draws.

    Args:
        first: (Q,) values of one run.
        second: (Q,) values of the other run, for the same queries in the same order.
        level: confidence level of the interval, in (0, 1).
        draws: number of random labellings and of resamples.
        seed: of both.

    Raises:
        ValueError: no values, different numbers of queries, or a level outside (0, 1).

    Examples:
        >>> test = paired_test([0.9, 0.8, 0.7, 0.9, 0.8, 0.7], [0.6, 0.6, 0.5, 0.6, 0.7, 0.6])
        >>> round(test.difference, 3), test.p_value < 0.05
        (0.2, True)
    """
    one, other = _values(first, "first"), _values(second, "second")
    if len(one) != len(other):
        raise ValueError(f"a paired test needs the same queries in both runs, got {len(one)} and {len(other)}")
    return paired_tests((one - other)[:, None], level, draws, seed)[0]


def paired_tests(differences: ArrayLike, level: float = 0.95, draws: int = 10_000, seed: int = 0) -> list[PairedTest]:
    """`paired_test` of every column of (Q, K) differences; all columns share the random labellings.

    Raises:
        ValueError: no queries, or a level outside (0, 1).
    """
    columns = _columns(differences, "differences")
    observed = np.abs(columns.sum(0)) * (1 - 1e-12)
    generator, extreme = np.random.default_rng(seed), np.zeros(columns.shape[1])
    for count in _batches(draws, len(columns)):
        signs = generator.integers(0, 2, (count, len(columns)), dtype=np.int8) * 2 - 1
        extreme += (np.abs(signs @ columns) >= observed).sum(0)
    bounds = _percentiles(columns, level, draws, seed)
    found = np.vstack([columns.mean(0), bounds, (extreme + 1) / (draws + 1)])
    return [PairedTest(*row) for row in found.T.tolist()]


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values that stay honest when several tests are made at once (S. Holm, Scand. J. Statist. 1979).

    Examples:
        >>> holm([0.01, 0.04, 0.02])
        [0.03, 0.04, 0.04]
    """
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, p_values[place] * (len(p_values) - rank)))
        adjusted[place] = least
    return adjusted


def _values(values: ArrayLike, name: str) -> Floats:
    column = np.asarray(values, np.float64)
    if column.ndim != 1 or not len(column):
        raise ValueError(f"{name} must hold one value for each query, got shape {column.shape}")
    return column


def _columns(values: ArrayLike, name: str) -> Floats:
    columns = np.asarray(values, np.float64)
    if columns.ndim != 2 or not len(columns):
        raise ValueError(f"{name} must hold one row for each query, got shape {columns.shape}")
    return columns


def _percentiles(columns: Floats, level: float, draws: int, seed: int) -> Floats:
    """Lower and upper bounds of the means of resampled rows, (2, K)."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    generator, size = np.random.default_rng(seed), len(columns)
    means = []
    for count in _batches(draws, size):
        picks = generator.integers(0, size, (count, size)) + size * np.arange(count)[:, None]
        times = np.bincount(picks.ravel(), minlength=count * size).reshape(count, size)
        means.append(times @ columns / size)
    bounds: Floats = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return bounds


def _batches(draws: int, size: int) -> Iterator[int]:
    batch = max(1, _DRAWS_AT_ONCE // size)
    return (min(batch, draws - start) for start in range(0, draws, batch))
