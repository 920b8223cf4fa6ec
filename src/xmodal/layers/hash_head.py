"""Heads that turn features into relaxed codes."""

import math

import torch
from torch import Tensor, nn


class SelectHead(nn.Module):
    """DCHMT's head: each bit is a softmax over two outputs, of which the larger one is selected.

    Args:
        dim: size of the feature.
        bits: K.
        hidden: units of the layer between.
    """

    def __init__(self, dim: int, bits: int, hidden: int = 128) -> None:
        super().__init__()
        self.reduce, self.select = nn.Linear(dim, hidden), nn.Linear(hidden, 2 * bits)
        for layer, outputs in ((self.reduce, hidden), (self.select, 2)):  # every bit's pair is drawn by itself
            nn.init.uniform_(layer.weight, -math.sqrt(6 / outputs), math.sqrt(6 / outputs))
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
