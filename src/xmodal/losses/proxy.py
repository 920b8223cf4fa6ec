"""Losses against learned class proxies (DSPH, DNPH), and the margin that coding theory gives."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from xmodal.errors import UserError

# Largest minimum distance d of a binary linear [K, k] code, the lower bounds of the table of best known linear codes
# (M. Grassl, codetables.de), for k = 1, 2, ...
MINIMUM_DISTANCE = {
    8: (8, 5, 4, 4, 2, 2, 2, 1),
    12: (12, 8, 6, 6, 4, 4, 4, 3, 2, 2),
    16: (16, 10, 8, 8, 8, 6, 6, 5, 4, 4),
    24: (24, 16, 13, 12, 12, 10, 10, 8, 8, 8),
    32: (32, 21, 18, 16, 16, 16, 14, 13, 12, 12),
    48: (48, 32, 27, 24, 24, 24, 22, 22, 20, 20),
    64: (64, 42, 36, 33, 32, 32, 32, 29, 28, 28),
    96: (96, 64, 54, 50, 48, 48, 48, 46, 44, 44),
    128: (128, 85, 72, 68, 64, 64, 64, 64, 60, 60),
    256: (256, 170, 146, 136, 131, 128, 128, 128, 128, 124),
}


def code_margin(bits: int, num_labels: int) -> float:
    """DSPH's zeta = 1 - 2 d / K: the cosine of the closest two of C well spread codes, C <= 2^k.

    Args:
        bits: K.
        num_labels: C, the number of proxies.

    Raises:
        UserError: the table has no code for these sizes.
    """
    k, distances = math.ceil(math.log2(num_labels)) if num_labels > 1 else 0, MINIMUM_DISTANCE.get(bits, ())
    if not 1 <= k <= len(distances):
        raise UserError(
            f"DSPH's margin is known for bits in {sorted(MINIMUM_DISTANCE)} and 2 to 1024 labels (at most 2^bits), not "
            f"for {bits} bits and {num_labels} labels: give model.zeta, such as 0."
        )
    return 1 - 2 * distances[k - 1] / bits


def multilabel_proxy(code: Tensor, proxy: Tensor, label: Tensor, zeta: float) -> Tensor:
    """Mean 1 - cos to the proxies of an item's labels, plus mean relu(cos - zeta) to all other proxies.

    Args:
        code: (N, K) relaxed codes.
        proxy: (C, K), one for each label.
        label: (N, C) multi-hot.
        zeta: margin, a cosine.

    Returns:
        Scalar; either mean is 0 where the batch has no such pair.
    """
    cosine = F.normalize(code) @ F.normalize(proxy).T  # (N, C)
    pulled = (label * (1 - cosine)).sum() / label.sum().clamp_min(1)
    pushed = ((1 - label) * (cosine - zeta).clamp_min(0)).sum() / (1 - label).sum().clamp_min(1)
    return pulled + pushed


def softmax_proxy(code: Tensor, proxy: Tensor, label: Tensor, margin: float) -> Tensor:
    """DNPH's proxy loss: minus the log share of an item's own proxies, softmax over minus their distances.

    D_ic = |u(h_i) - u(P_c)|^2 + margin y_ic with u(x) = x / |x|: own proxies compete with a handicap.

    Args:
        code: (N, K) relaxed codes.
        proxy: (C, K), one for each label.
        label: (N, C) multi-hot.
        margin: added to the distances of an item to the proxies of its own labels.

    Returns:
        Scalar, in nats: the sum over an item's labels, mean over items.
    """
    distance = 2 - 2 * F.normalize(code) @ F.normalize(proxy).T + margin * label
    return -(label * (-distance).log_softmax(1)).sum() / len(code)


def irrelevant_pairs(image: Tensor, text: Tensor, label: Tensor, zeta: float) -> Tensor:
    """DSPH's second term: items of several labels that share none are pushed below the margin, in all three pairings.

    Args:
        image: (N, K) relaxed codes.
        text: (N, K) relaxed codes.
        label: (N, C) multi-hot.
        zeta: margin, a cosine.

    Returns:
        Scalar, mean over those ordered pairs of the sum of relu(cos - zeta) over the pairings; 0 without any.
    """
    several = label.sum(1) > 1
    pairs = several[:, None] & several[None, :] & (label @ label.T == 0)
    u, v = F.normalize(image), F.normalize(text)
    excess = sum(((a @ b.T - zeta).clamp_min(0) for a, b in ((u, u), (v, v), (u, v))), torch.zeros_like(u[:1, :1]))
    return (pairs * excess).sum() / pairs.sum().clamp_min(1)
