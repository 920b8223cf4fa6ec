"""Losses on predicted labels."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Prediction = Literal["softmax", "sigmoid"]


def label_prediction(logit: Tensor, label: Tensor, kind: Prediction = "softmax") -> Tensor:
    """Minus the log likelihood of the labels of a pair, mean over pairs.

    Args:
        logit: (B, C).
        label: (B, C) multi-hot.
        kind: `softmax`: the labels exclude each other (ACMR, L_imd); several labels of a pair share its weight.
            `sigmoid`: every label is predicted by itself, binary cross-entropy summed over the labels.

    Returns:
        Scalar, in nats per pair.
    """
    if kind == "softmax":
        return F.cross_entropy(logit, label / label.sum(1, keepdim=True).clamp_min(1))
    return F.binary_cross_entropy_with_logits(logit, label, reduction="sum") / len(logit)


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
