"""DenseCLIP's context decoder (Rao et al., CVPR 2022): text features ask an image's tokens."""

import math
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from xmodal.errors import UserError
from xmodal.layers.dropout import Dropout


class ContextDecoder(nn.Module):
    """Pre-norm decoder blocks in a narrower width; the result is what is added to the queries.

    Args:
        dim: size C of queries, of memory and of the result.
        width: inside.
        layers: number of blocks.
        heads: of the attentions.
        dropout: while training.
        isolated: each query attends to itself only, so that no result depends on which others are asked with it.

    Raises:
        UserError: heads do not divide the width.
    """

    def __init__(
        self, dim: int, width: int = 256, layers: int = 3, heads: int = 4, dropout: float = 0.1, *, isolated: bool
    ) -> None:
        super().__init__()
        if width % heads:
            raise UserError(f"width is {width}: give a multiple of {heads}.")
        self.memory = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, width), nn.LayerNorm(width))
        self.query = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, width))
        self.blocks = nn.ModuleList(_Block(width, heads, dropout, isolated) for _ in range(layers))
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, query: Tensor, memory: Tensor) -> Tensor:
        """(B, Q, C) queries and (B, M, C) memory -> (B, Q, C)."""
        x, memory = self.query(query), self.memory(memory)
        for block in self.blocks:
            x = block(x, memory)
        out: Tensor = self.out(x)
        return out


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float, isolated: bool) -> None:
        super().__init__()
        self.own = None if isolated else MultiHeadAttention(width, heads, dropout)
        if isolated:  # attention over a single position gives its value
            self.alone = nn.Sequential(nn.Linear(width, width, bias=False), nn.Linear(width, width), Dropout(dropout))
        self.cross = MultiHeadAttention(width, heads, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), Dropout(dropout), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        normed = self.norms[0](x)
        x = x + (self.alone(normed) if self.own is None else self.own(normed, normed))
        x = x + self.cross(self.norms[1](x), memory)
        grown: Tensor = x + self.feed(self.norms[2](x))
        return grown


class MultiHeadAttention(nn.Module):
    """Multi-head attention of one set of tokens to another.

    Args:
        width: of a token.
        heads: a divisor of it.
        dropout: of the result, while training.
        bias: on query, key and value.

    Raises:
        UserError: heads is no divisor of width.
    """

    def __init__(self, width: int, heads: int, dropout: float, *, bias: bool = False) -> None:
        super().__init__()
        if width % heads:
            raise UserError(
                f"a token has {width} numbers and its attention {heads} heads: give a size that heads divides."
            )
        self.q, self.k, self.v = (nn.Linear(width, width, bias=bias) for _ in range(3))
        self.project, self.heads, self.dropout = nn.Linear(width, width), heads, Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, width) attending to (B, M, width), whose mask is (B, M), True where a token is real."""
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.q(x), self.k(memory), self.v(memory))
        )
        seen = None if mask is None else mask[:, None, None]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).flatten(2)
        attended: Tensor = self.dropout(self.project(out))
        return attended


class _OfOneLength(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 10 * F.normalize(x, dim=-1)  # about what CLIP's projection leaves, in which releases read both


class JointSpace(nn.Module):
    """Pooled features and tokens of both sides in one space.

    Args:
        sizes: of the features by name, such as `image` and `image_token`.
        dim: of the joint space.
        kind: `joint`: they share this space already (CLIP's) and pass unchanged, or, where there are both pooled
            features and tokens, at one length (pooled features come at length 1, CLIP's tokens at about 10);
            `projected`: normalised and projected, by layers that are trained with the method.

    Raises:
        UserError: `joint` features of another size.
    """

    def __init__(self, sizes: dict[str, int], dim: int, kind: Literal["joint", "projected"]) -> None:
        super().__init__()
        if kind == "joint" and set(sizes.values()) != {dim}:
            found = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise UserError(f"space is 'joint' with dim={dim}, but the features are {found}: say space='projected'.")
        given = _OfOneLength if any(name.endswith("_token") for name in sizes) else nn.Identity
        self.layers = nn.ModuleDict(
            {
                name: given() if kind == "joint" else nn.Sequential(nn.LayerNorm(size), nn.Linear(size, dim))
                for name, size in sizes.items()
            }
        )

    def forward(self, name: str, features: Tensor) -> Tensor:
        """(..., size) features of a name -> (..., dim)."""
        out: Tensor = self.layers[name](features)
        return out


def token_scores(tokens: Tensor, query: Tensor) -> Tensor:
    """Pixel-text score map: cosines of (B, N, C) tokens and (B, Q, C) queries, (B, Q, N)."""
    return F.normalize(query, dim=-1) @ F.normalize(tokens, dim=-1).mT


def score_pool(scores: Tensor, kind: str) -> Tensor:
    """(..., N) -> (...): `logsumexp` (of the mean of exponentials, a soft maximum), `mean` or `max`."""
    if kind == "mean":
        return scores.mean(-1)
    if kind == "max":
        return scores.max(-1).values
    return scores.logsumexp(-1) - math.log(scores.shape[-1])
