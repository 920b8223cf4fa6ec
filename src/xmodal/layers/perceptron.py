"""Small trunks over pooled features: perceptrons, and the multi-scale text network of SSAH."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def perceptron(sizes: Sequence[int], activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers of the given sizes, each followed by an activation.

    Args:
        sizes: input size, then the size of every layer.
        activation: ReLU, or Tanh as ACMR's networks have.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers)


class MultiScaleText(nn.Module):
    """The text network of SSAH (Li et al., CVPR 2018): a tag vector next to its own averages at five scales.

    Each scale averages the vector over windows, scales and shifts it (a 1x1 convolution of one channel), applies ReLU
    and is stretched back; the six channels are then read by one layer as wide as the vector.

    Args:
        dim: size D of the tag vector.
        hidden: units of the reading layer.
        out: units of the output.
        windows: of the averages; one that is wider than the vector is cut to it.
    """

    which: Tensor

    def __init__(self, dim: int, hidden: int, out: int, windows: Sequence[int] = (50, 30, 15, 10, 5)) -> None:
        super().__init__()
        self.windows = [min(window, dim) for window in windows]
        self.mix = nn.ModuleList(nn.Conv1d(1, 1, 1) for _ in self.windows)
        self.read = nn.Linear((1 + len(self.windows)) * dim, hidden)
        self.norm = nn.LocalResponseNorm(5, k=2)
        self.out = nn.Linear(hidden, out)
        averages = [torch.arange(dim // window, dtype=torch.float)[None, None] for window in self.windows]
        # which average each place takes when it is stretched back; the gradient of F.interpolate is slow on a GPU
        which = torch.cat([F.interpolate(each, size=dim)[0].long() for each in averages])
        self.register_buffer("which", which, persistent=False)  # (windows, D)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, out)."""
        channels = [x]
        for window, mix, which in zip(self.windows, self.mix, self.which, strict=True):
            averaged = F.relu(mix(F.avg_pool1d(x[:, None], window, window)))[:, 0]  # (B, D // window)
            channels.append(averaged.index_select(1, which))
        read = F.relu(self.read(torch.cat(channels, 1)))  # (B, hidden)
        return F.relu(self.out(self.norm(read[:, :, None])[:, :, 0]))
