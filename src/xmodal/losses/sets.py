"""Losses on sets of instance vectors, one set for each item (DIMCH, UMoED). Rows of a set are of length 1."""

import torch
from torch import Tensor

from xmodal.losses.pairwise import euclidean


def smooth_chamfer(first: Tensor, second: Tensor, sharpness: float) -> Tensor:
    """How similar the sets of two sides are: each instance finds its best counterparts by a soft maximum of cosines.

    Args:
        first: (N, M, K).
        second: (N', M', K).
        sharpness: a, with which exp(a cos) is summed: the larger, the closer to the maximum.

    Returns:
        (N, N'), the mean of both ways; it may exceed 1 by log(M) / a.
    """
    product = (first.flatten(0, 1) @ second.flatten(0, 1).T) * sharpness
    cosine = product.view(*first.shape[:2], *second.shape[:2])  # (N, M, N', M')
    return (cosine.logsumexp(3).mean(1) + cosine.logsumexp(1).mean(2)) / (2 * sharpness)


def set_discrepancy(first: Tensor, second: Tensor) -> Tensor:
    """Maximum mean discrepancy of all instances of two sides, with the kernel exp(-|x - y| / 2).

    Args:
        first: (N, M, K).
        second: (N', M', K).

    Returns:
        Scalar; 0 where both sides hold the same instances.
    """
    a, b = first.flatten(0, 1), second.flatten(0, 1)
    own, cross, other = (torch.exp(-euclidean(x, y) / 2).mean() for x, y in ((a, a), (a, b), (b, b)))
    return own - 2 * cross + other


def set_diversity(instance: Tensor, *, across: bool = False) -> Tensor:
    """Mean over the pairs of an item's instances of exp(-20 |x - y|^2), mean over items: 0 where they lie apart.

    Args:
        instance: (N, M, K).
        across: sum over the pairs of the whole batch, of other items too, still over the number of pairs of one set,
            as DIMCH is released.

    Returns:
        Scalar.
    """
    count = instance.shape[1] * (instance.shape[1] - 1) / 2
    rows = instance.flatten(0, 1)[None] if across else instance
    close = torch.exp(-20 * (2 - 2 * rows @ rows.mT)).triu(1).sum((1, 2))
    return close.mean() / max(count, 1)
