"""How sure a difference of retrieval numbers is: intervals over queries, tests over queries, and over seeds too."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

Floats = NDArray[np.float64]

LEVEL = 0.05  # below this a p-value is called significant
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


class SeededTest(NamedTuple):
    """As `PairedTest`, over seeds and queries; `seeds` of the method that has fewer."""

    difference: float
    low: float
    high: float
    p_value: float
    seeds: int

    @property
    def significant(self) -> bool:
        """Whether p is below `LEVEL` and the difference does not rest on one seed."""
        return self.seeds > 1 and self.p_value < LEVEL


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
    return bootstrap_intervals(_rows(values, "values", 1)[:, None], level, draws, seed)[0]


def bootstrap_intervals(values: ArrayLike, level: float = 0.95, draws: int = 10_000, seed: int = 0) -> list[Interval]:
    """`bootstrap_interval` of every column of (Q, K) values; all columns share the resamples, so many cost little more.

    Raises:
        ValueError: no queries, or a level outside (0, 1).
    """
    columns = _rows(values, "values", 2)
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
    one, other = _rows(first, "first", 1), _rows(second, "second", 1)
    if len(one) != len(other):
        raise ValueError(f"a paired test needs the same queries in both runs, got {len(one)} and {len(other)}")
    difference, generator, extreme = one - other, np.random.default_rng(seed), 0
    observed = abs(difference.sum()) * (1 - 1e-12)
    for count in _batches(draws, len(difference)):
        signs = generator.integers(0, 2, (count, len(difference)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs @ difference) >= observed).sum())
    return PairedTest(*bootstrap_interval(difference, level, draws, seed), (extreme + 1) / (draws + 1))


def seeded_tests(first: ArrayLike, second: ArrayLike, level: float = 0.95) -> list[SeededTest]:
    """Test mean(first) - mean(second) of two methods over their seeds and the queries together.

    Would the difference have the same sign after training both again, on other queries of this kind? Training and
    queries are crossed random effects: the squared standard error of the difference is var_first / S + var_second / S'
    + var_queries / Q, of the seeds' means and of the queries' mean differences; the test is Student's t with the
    degrees of freedom of Satterthwaite (Biometrics Bulletin 1946), as Welch's is. What a run does on single queries is
    in both parts, so that the test errs towards caution. Of a method with one seed the variance of training is not
    known: the test is then over queries alone in its part, says so, and is never significant.

    Args:
        first: (S, Q, K) values of every seed and query, K measures at once.
        second: (S', Q, K), for the same queries in the same order.
        level: confidence level of the intervals, in (0, 1).

    Returns:
        One test for each of the K measures.

    Raises:
        ValueError: other shapes, fewer than two queries, or a level outside (0, 1).
    """
    one, other = (np.asarray(each, np.float64) for each in (first, second))
    if one.ndim != 3 or other.ndim != 3 or one.shape[1:] != other.shape[1:] or one.shape[1] < 2:
        raise ValueError(f"the test needs seeds x queries x measures, two queries at least: {one.shape}, {other.shape}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    apart = one.mean(0) - other.mean(0)  # (Q, K)
    samples = [apart, *(each.mean(1) for each in (one, other) if len(each) > 1)]
    parts = np.stack([each.var(0, ddof=1) / len(each) for each in samples])
    freedom = np.array([len(each) - 1 for each in samples])[:, None]
    squares, difference = parts.sum(0), apart.mean(0)
    error, some = np.sqrt(squares), squares > 0
    everywhere = np.full_like(error, len(apart) - 1)
    degrees = np.divide(squares**2, (parts**2 / freedom).sum(0), out=everywhere, where=some)
    ratio = np.divide(np.abs(difference), error, out=np.where(difference == 0, 0, np.inf), where=some)
    p_values = 2 * stdtr(degrees, -ratio)
    reach = error * stdtrit(degrees, (1 + level) / 2)
    seeds, rows = min(len(one), len(other)), np.stack([difference, difference - reach, difference + reach, p_values], 1)
    return [SeededTest(lead, low, high, p, seeds) for lead, low, high, p in rows.tolist()]


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


def _rows(values: ArrayLike, name: str, axes: int) -> Floats:
    """(Q,) values or (Q, K) rows, of one query at least."""
    rows = np.asarray(values, np.float64)
    if rows.ndim != axes or not len(rows):
        each = "value" if axes == 1 else "row"
        raise ValueError(f"{name} must hold one {each} for each query, got shape {rows.shape}")
    return rows


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
    tails = [(1 - level) / 2, (1 + level) / 2]
    bounds: Floats = np.quantile(np.concatenate(means), tails, axis=0, overwrite_input=True)
    return bounds


def _batches(draws: int, size: int) -> Iterator[int]:
    batch = max(1, _DRAWS_AT_ONCE // size)
    return (min(batch, draws - start) for start in range(0, draws, batch))
