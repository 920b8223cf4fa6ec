"""How sure a number is: intervals over queries, a paired test between two runs, and the health of a set of codes."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from xmodal.metrics.packing import code_bits, pack_bits
from xmodal.metrics.ranking import Floats

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


class CodeStatistics(NamedTuple):
    """The health of a set of codes.

    Attributes:
        unique: number of distinct codes over the number of items.
        bit_means: (bits,) mean of each bit in {-1, +1}; 0 is balanced.
        quantization_gap: mean |1 - |output||, what signing the outputs loses; 0 for codes.
        bit_correlation: mean |correlation| of two different bits, 0 is independent; a constant bit tells nothing and
            counts as 1.
    """

    unique: float
    bit_means: Tensor
    quantization_gap: float
    bit_correlation: float

    def collapse(self, items: int) -> str:
        """The likely cause, in words, where fewer than 1 % of the codes that could be distinct are; empty elsewhere.

        Args:
            items: number of items N; of N items at most 2^bits codes are distinct.
        """
        count, bits = round(self.unique * items), len(self.bit_means)
        if items < 2 or (count > 1 and count >= 0.01 * min(items, 2.0**bits)):
            return ""
        if self.quantization_gap < 0.01:
            cause = "every output is saturated, so no gradient is left: lower the learning rate or scale the features"
        elif self.quantization_gap > 0.9:
            cause = "every output is near 0: a term that pulls the codes together outweighs those that tell them apart"
        else:
            cause = "all items get nearly one output: the features may be constant, or the learning rate too large"
        return f"{count} distinct codes of {items} items; {cause}."


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
    column = _values(values, "values")
    return Interval(float(column.mean()), *_percentiles(column, level, draws, seed))


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

    Example:
        >>> test = paired_test([0.9, 0.8, 0.7, 0.9, 0.8, 0.7], [0.6, 0.6, 0.5, 0.6, 0.7, 0.6])
        >>> round(test.difference, 3), test.p_value < 0.05
        (0.2, True)
    """
    one, other = _values(first, "first"), _values(second, "second")
    if len(one) != len(other):
        raise ValueError(f"a paired test needs the same queries in both runs, got {len(one)} and {len(other)}")
    difference = one - other
    observed = abs(difference.sum())
    generator, extreme = np.random.default_rng(seed), 0
    for count in _batches(draws, len(difference)):
        signs = generator.integers(0, 2, (count, len(difference)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs @ difference) >= observed * (1 - 1e-12)).sum())
    low, high = _percentiles(difference, level, draws, seed)
    return PairedTest(float(difference.mean()), low, high, (extreme + 1) / (draws + 1))


def code_statistics(outputs: Tensor) -> CodeStatistics:
    """Distinct codes, balance of the bits and quantisation gap of relaxed outputs or codes (B, bits).

    Raises:
        ValueError: as `code_bits`, or no rows.

    Example:
        >>> code_statistics(torch.tensor([[0.5, -1.0], [0.5, -1.0], [1.0, 1.0], [1.0, -1.0]])).unique
        0.5
    """
    bits = code_bits(outputs, "outputs")
    if not len(bits):
        raise ValueError("statistics of codes need at least one code, got none")
    distinct = len(torch.unique(pack_bits(bits), dim=0))
    relaxed = outputs.double() if outputs.dtype != torch.bool else torch.ones(1, dtype=torch.float64)
    gap = float((1 - relaxed.abs()).abs().mean())
    codes = 2 * bits.double() - 1
    return CodeStatistics(distinct / len(bits), codes.mean(0), gap, _bit_correlation(codes))


def _bit_correlation(codes: Tensor) -> float:
    """Mean |correlation| over pairs of different bits of (N, bits) codes in {-1, +1}; 0 where there is one bit."""
    centred, size = codes - codes.mean(0), codes.shape[1]
    norms = centred.norm(dim=0)
    unit = centred / norms.clamp_min(1e-12)
    dead = norms < 1e-9
    correlation = torch.where(dead[:, None] | dead[None, :], 1.0, (unit.T @ unit).abs())
    return float((correlation.sum() - correlation.diagonal().sum()) / max(size * (size - 1), 1))


def _values(values: ArrayLike, name: str) -> Floats:
    column = np.asarray(values, np.float64)
    if column.ndim != 1 or not len(column):
        raise ValueError(f"{name} must hold one value for each query, got shape {column.shape}")
    return column


def _percentiles(column: Floats, level: float, draws: int, seed: int) -> tuple[float, float]:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    generator = np.random.default_rng(seed)
    parts: list[NDArray[np.float64]] = []
    for count in _batches(draws, len(column)):
        parts.append(column[generator.integers(0, len(column), (count, len(column)))].mean(1))  # noqa: PERF401
    low, high = np.quantile(np.concatenate(parts), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _batches(draws: int, size: int) -> list[int]:
    batch = max(1, _DRAWS_AT_ONCE // size)
    return [min(batch, draws - start) for start in range(0, draws, batch)]
