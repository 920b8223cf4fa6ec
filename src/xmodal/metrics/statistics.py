"""The health of a set of codes."""

from typing import NamedTuple

import torch
from torch import Tensor

from xmodal.metrics.packing import code_bits, pack_bits


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
        if items < 2 or (count > 1 and count >= 0.01 * min(items, 2**bits)):
            return ""
        if self.quantization_gap < 0.01:
            cause = "every output is saturated, so no gradient is left: lower the learning rate or scale the features"
        elif self.quantization_gap > 0.9:
            cause = "every output is near 0: a term that pulls the codes together outweighs those that tell them apart"
        else:
            cause = "all items get nearly one output: the features may be constant, or the learning rate too large"
        return f"{count} distinct codes of {items} items; {cause}."


def code_statistics(outputs: Tensor) -> CodeStatistics:
    """Distinct codes, balance of the bits and quantisation gap of relaxed outputs or codes (B, bits).

    Raises:
        ValueError: as `code_bits`, or no rows.

    Examples:
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
