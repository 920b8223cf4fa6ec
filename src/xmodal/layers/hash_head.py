"""Heads that turn features into relaxed codes."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from xmodal.batch import Side

Init = Literal["fan_in", "release"]


def head_init(init: Literal["auto", "fan_in", "release"], side: Side, standardised: Sequence[Side]) -> Init:
    """How a head's weights start: `auto` is `fan_in` where the data standardise a side's features, else `release`.

    Releases draw for features as CLIP makes them, of norm 10; those of variance 1 in every dimension would saturate.
    """
    return init if init != "auto" else "fan_in" if side in standardised else "release"


def uniform_linear(inputs: int, outputs: int, count: float) -> nn.Linear:
    """A linear layer with weights from +-sqrt(6 / count), He's rule for `count` units, and biases 0."""
    layer, bound = nn.Linear(inputs, outputs), math.sqrt(6 / count)
    nn.init.uniform_(layer.weight, -bound, bound)
    nn.init.zeros_(layer.bias)
    return layer


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

    def __init__(self, dim: int, bits: int, hidden: int = 128, init: Init = "fan_in") -> None:
        super().__init__()
        self.reduce, self.select = (
            nn.Linear(dim, hidden),
            nn.Linear(hidden, 2 * bits),
        )  # then the draws
        for layer, outputs in ((self.reduce, hidden), (self.select, 2)):
            bound = math.sqrt(6 / (layer.in_features if init == "fan_in" else outputs))
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.zeros_(layer.bias)

    def logit(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, bits): the log of p_1 / p_0 of every pair."""
        pair: Tensor = self.select(torch.relu(self.reduce(x))).unflatten(1, (-1, 2))
        return pair[..., 1] - pair[..., 0]

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, bits) in (-1, 1): p_1 - p_0 of every pair; a tie is 0, whose sign is +1 as everywhere."""
        return torch.tanh(self.logit(x) / 2)  # the difference of a softmax over two


def tanh_head(dim: int, bits: int, hidden: int) -> nn.Sequential:
    """Linear, ReLU, Linear, tanh.

    Args:
        dim: size of the feature.
        bits: K.
        hidden: units of the layer between.
    """
    return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, bits), nn.Tanh())
