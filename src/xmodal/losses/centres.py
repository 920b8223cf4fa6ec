"""Losses that pull codes to the centres of their labels (CSQ, TwDH)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def label_target(label: Tensor, centre: Tensor, fill: Tensor | None = None) -> Tensor:
    """Each bit as most centres of an item's labels have it.

    Args:
        label: (N, C) multi-hot.
        centre: (C, K) in {-1, +1}.
        fill: (K,) in {-1, +1}: bits of a tie; none: they stay open.

    Returns:
        (N, K) in {-1, 0, +1}; 0 where a tie stays open, and in all bits of an item without a label.
    """
    most = torch.sign(label @ centre)
    return most if fill is None else torch.where((most == 0) & label.any(1, keepdim=True), fill, most)


def centre_likelihood(logit: Tensor, target: Tensor) -> Tensor:
    """Minus the log likelihood of the target's bits, mean over the bits that it settles.

    With the two probabilities of a bit side by side it is the binary cross-entropy over both, as TwDH's release has it.

    Args:
        logit: (N, K) log of p(+1) / p(-1).
        target: (N, K) in {-1, 0, +1}; 0 counts for nothing.

    Returns:
        Scalar, in nats per bit.
    """
    settled = target.abs()
    return (settled * F.softplus(-target * logit)).sum() / settled.sum().clamp_min(1)
