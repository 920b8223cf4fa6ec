"""Codes for labels that lie far apart, and the linear map from long ones to short ones (CSQ, TwDH)."""

import scipy.linalg
import torch
from torch import Tensor

DRAWS = 100  # of random codes, where a Hadamard matrix has too few rows or the length is no power of two


def label_centres(count: int, bits: int) -> Tensor:
    """A code for each label, as CSQ makes them (Yuan et al., CVPR 2020); the same in every run.

    Rows of a Hadamard matrix, then their negatives: any two differ in half of the bits at least. Beyond 2 bits labels,
    and where the length is no power of two, the set of random codes whose closest two are the farthest apart.

    Args:
        count: C.
        bits: K.

    Returns:
        (C, K) in {-1, +1}.
    """
    if bits & (bits - 1) == 0 and count <= 2 * bits:
        rows = torch.from_numpy(scipy.linalg.hadamard(bits)).float()
        return torch.cat([rows, -rows])[:count]
    draw = torch.Generator().manual_seed(bits)
    drawn = torch.randint(0, 2, (DRAWS, count, bits), generator=draw).float() * 2 - 1
    agreement = drawn @ drawn.mT - 3 * bits * torch.eye(count)  # the inner product with itself counts for nothing
    return drawn[agreement.flatten(1).amax(1).argmin()]


def short_map(long: Tensor, short: Tensor) -> Tensor:
    """The linear map of smallest norm that takes every long code to its short one, by least squares in float64.

    Args:
        long: (C, L) linearly independent codes.
        short: (C, K) codes.

    Returns:
        (L, K); exact to rounding.
    """
    found: Tensor = torch.linalg.lstsq(long.double(), short.double(), driver="gelsd").solution
    return found.float()
