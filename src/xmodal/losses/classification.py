"""Losses on predicted labels."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def fused_label_prediction(image: Tensor, text: Tensor, label: Tensor) -> Tensor:
    """Binary cross-entropy of both modalities' mean prediction, (sigmoid(a) + sigmoid(b)) / 2, from the logits.

    Args:
        image: (B, C) logits a.
        text: (B, C) logits b.
        label: (B, C) multi-hot.

    Returns:
        Scalar, mean over pairs and labels.
    """
    present = torch.logaddexp(F.logsigmoid(image), F.logsigmoid(text)) - math.log(2)
    absent = torch.logaddexp(F.logsigmoid(-image), F.logsigmoid(-text)) - math.log(2)
    return -(label * present + (1 - label) * absent).mean()
