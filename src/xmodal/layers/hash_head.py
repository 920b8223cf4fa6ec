"""Heads that turn features into relaxed codes."""

import math
from typing import Literal

import torch
from torch import Tensor, nn


class SelectHead(nn.Module):
    """DCHMT's head: each bit is a softmax over two outputs, of which the larger one is selected.

    Args:
        dim: size of the feature.
        bits: K.
        hidden: units of the layer between.
        init: every weight is drawn from (-sqrt(6 / n), sqrt(6 / n)); n is the number of a layer's inputs (`fan_in`: He
            et al., ICCV 2015; the outputs of standardised features have variance 1), or of its outputs, two for every
            bit (`release`: DCHMT's code, meant for CLIP's features of norm 10).
    """

    def __init__(self, dim: int, bits: int, hidden: int = 128, init: Literal["fan_in", "release"] = "fan_in") -> None:
        super().__init__()
        self.reduce, self.select = nn.Linear(dim, hidden), nn.Linear(hidden, 2 * bits)
        for layer, outputs in ((self.reduce, hidden), (self.select, 2)):
            bound = math.sqrt(6 / (layer.in_features if init == "fan_in" else outputs))
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, bits) in (-1, 1): p_1 - p_0 of every pair; a tie is 0, whose sign is +1 as everywhere."""
        pair = self.select(torch.relu(self.reduce(x))).unflatten(1, (-1, 2))
        return torch.tanh((pair[..., 1] - pair[..., 0]) / 2)  # the difference of a softmax over two


def tanh_head(dim: int, bits: int, hidden: int) -> nn.Sequential:
    """Linear, ReLU, Linear, tanh.

    Args:
        dim: size of the feature.
        bits: K.
        hidden: units of the layer between.
    """
    return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, bits), nn.Tanh())
