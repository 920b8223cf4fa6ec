"""Concepts of MITH (Liu et al., ACM MM 2023): scores per bit, tokens gathered by bit, a transformer over bits."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xmodal.layers.token_transformer import quick_gelu, transformer


class ConceptLearner(nn.Module):
    """Residual MLP blocks, and one score in (-1, 1) per concept, that is per bit.

    Args:
        dim: of the features.
        bits: K.
        hidden: units of a block.
        layers: number of blocks.
    """

    def __init__(self, dim: int, bits: int, hidden: int, layers: int = 2) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
            for _ in range(layers)
        )
        self.concept = nn.Linear(dim, bits, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(..., dim) -> the refined (..., dim) and the scores (..., K)."""
        for block in self.blocks:
            x = x + block(x)
        return x, torch.tanh(self.concept(x))


def aggregate_tokens(score: Tensor, tokens: Tensor, mask: Tensor | None = None, top: int = 8) -> tuple[Tensor, Tensor]:
    """Localised token aggregation: each concept's softmax over the tokens that name it among their best.

    Args:
        score: (B, L, K) of each token for each concept; only positive ones count, and only a token's `top` largest.
        tokens: (B, L, D).
        mask: (B, L) bool, True where a token is real.
        top: number of concepts that a token may serve; of fewer concepts all.

    Returns:
        (B, K, D) sums of tokens, 0 for a concept without any, and (B, L, K) the weights.
    """
    least = score.topk(min(top, score.shape[2]), dim=2).values[..., -1:]
    kept = (score > 0) & (score >= least)
    if mask is not None:
        kept = kept & mask[:, :, None]
    weight = score.masked_fill(~kept, -torch.inf).softmax(1)
    weight = torch.where(kept, weight, 0)  # a column without any is NaN after the softmax
    return weight.mT @ tokens, weight


class ConceptTransformer(nn.Module):
    """A transformer over the K aggregated tokens; each gives its bit.

    Args:
        dim: of a token.
        bits: K.
        layers: number of blocks.
        hidden: units of a block's feed-forward part.
        heads: of the attention.
        projects: project the second output; False where nothing reads it, so that no parameter is idle.
    """

    position: Tensor

    def __init__(self, dim: int, bits: int, layers: int, hidden: int, heads: int, *, projects: bool = True) -> None:
        super().__init__()
        angle = torch.arange(bits)[:, None] / 10_000 ** (torch.arange(0, dim, 2) / dim)
        position = torch.stack([angle.sin(), angle.cos()], 2).flatten(1)[:, :dim] / math.sqrt(dim)
        self.register_buffer("position", position, persistent=False)
        self.blocks = transformer(dim, layers, hidden, heads, 0.0, quick_gelu) if layers else nn.Identity()
        self.bit = nn.Parameter(torch.empty(bits, dim).uniform_(-1 / math.sqrt(dim), 1 / math.sqrt(dim)))
        self.bias = nn.Parameter(torch.zeros(bits))
        self.project = nn.Linear(dim, dim) if projects else nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K, dim) -> (B, K) relaxed codes and (B, K, dim) of length 1, for the contrast of concepts."""
        x = self.blocks(x + self.position)
        return torch.tanh((x * self.bit).sum(2) + self.bias), F.normalize(self.project(x), dim=-1)
