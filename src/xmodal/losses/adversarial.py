"""Losses of adversarial games, on one logit per row: positive says "of the first kind".

A discriminator with two outputs and a softmax is the same thing: its logit is the difference of the outputs.
"""

import torch.nn.functional as F
from torch import Tensor


def discrimination(first: Tensor, second: Tensor) -> Tensor:
    """-mean log D(first) - mean log(1 - D(second)): image against text (ACMR, L_adv), or real against fake (CM-GANs).

    With the arguments exchanged it is the non-saturating loss of what is to fool the discriminator from both sides.

    Args:
        first: logits of the rows that the discriminator should accept.
        second: logits of the rows that it should refuse.

    Returns:
        Scalar, in nats; 2 log 2 where the discriminator is blind.
    """
    return F.softplus(-first).mean() + F.softplus(second).mean()


def fooling(fake: Tensor) -> Tensor:
    """-mean log D(fake): the non-saturating loss of a generator (CM-GANs, intra-modality part).

    Args:
        fake: logits of the generated rows.

    Returns:
        Scalar, in nats.
    """
    return F.softplus(-fake).mean()
