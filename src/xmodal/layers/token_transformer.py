"""Transformers over the tokens of an image or a text."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xmodal.errors import UserError
from xmodal.layers.attention import masked_mean
from xmodal.layers.dropout import Dropout


def quick_gelu(x: Tensor) -> Tensor:
    """X sigmoid(1.702 x), CLIP's activation."""
    return x * torch.sigmoid(1.702 * x)


def transformer(
    dim: int, layers: int, hidden: int, heads: int, dropout: float, activation: Callable[[Tensor], Tensor] = F.relu
) -> nn.TransformerEncoder:
    """Pre-norm encoder blocks over (B, N, dim).

    Args:
        dim: size of a token.
        layers: number of blocks.
        hidden: units of a block's feed-forward part.
        heads: of the attention.
        dropout: everywhere in a block, while training.
        activation: of a block's feed-forward part.

    Raises:
        UserError: the heads do not divide the size of a token.
    """
    if dim % heads:
        raise UserError(f"tokens of {dim} numbers do not go into {heads} heads: give a dim that heads divides.")
    kind = _Block if dropout else nn.TransformerEncoderLayer
    block = kind(dim, heads, hidden, dropout, activation, batch_first=True, norm_first=True)
    return nn.TransformerEncoder(block, layers, enable_nested_tensor=False)


class _Block(nn.TransformerEncoderLayer):
    """Trains with masks that are the same on any number of processes, those of the attention included."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(dim, heads, hidden, dropout, *args, **kwargs)
        self.attention_dropout, self.dropout, self.dropout2 = (Dropout(dropout) for _ in range(3))
        self.dropout1 = Dropout(dropout, dim=1)

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """(B, N, dim), and (B, N) with -inf where a token is padded; there is no `src_mask`."""
        if not len(src) and not self.training:  # the kernels do not take an empty batch with a mask
            return src
        if not self.training:
            return super().forward(src, src_mask, src_key_padding_mask, is_causal)
        own = self.self_attn
        stacked = F.linear(self.norm1(src).transpose(0, 1), own.in_proj_weight, own.in_proj_bias)  # (N, B, 3 dim)
        query, key, value = stacked.reshape(
            *stacked.shape[:2], 3, own.num_heads, src.shape[2] // own.num_heads
        ).permute(2, 1, 3, 0, 4)  # (B, heads, N, d)
        scale = query.shape[3] ** -0.25
        score = (query * scale) @ (key * scale).mT
        if src_key_padding_mask is not None:
            score = score + src_key_padding_mask[:, None, None]
        attended = self.attention_dropout(score.softmax(3)) @ value
        x = src + self.dropout1(own.out_proj(attended.permute(2, 0, 1, 3).flatten(2))).transpose(0, 1)
        fed = self.linear2(self.dropout(self.activation(self.linear1(self.norm2(x)))))
        out: Tensor = x + self.dropout2(fed)
        return out


class TokenTransformer(nn.Module):
    """SCAHN's branch: a linear map of the tokens, transformer blocks, the mean over the tokens, L2-normalised.

    Args:
        size: of a token that comes in.
        dim: of a token inside, and of the result.
        layers: number of blocks; 0 leaves the mean of the mapped tokens.
        heads: of the attention.
        hidden: units of a block's feed-forward part.
        dropout: in the blocks, while training.
        padding: whether the mean counts padded positions too, as the release does.
    """

    def __init__(
        self, size: int, dim: int, layers: int, heads: int, hidden: int, dropout: float, *, padding: bool = False
    ) -> None:
        super().__init__()
        self.map, self.padding = nn.Linear(size, dim), padding
        self.blocks = transformer(dim, layers, hidden, heads, dropout) if layers else None

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, size) tokens and (B, N) mask, True where real -> (B, dim) of length 1."""
        x = self.map(tokens)
        if self.blocks is not None:
            x = self.blocks(x, src_key_padding_mask=None if mask is None else ~mask)
        return F.normalize(masked_mean(x, None if self.padding else mask))


class RegionTransformer(nn.Module):
    """SCAHN's reading of image regions: features with their boxes through two layers, then transformer blocks.

    Without a detector the regions are the cells of a square grid of tokens.

    Args:
        size: of a region's feature, kept throughout.
        layers: number of blocks.
        heads: of the attention.
        hidden: units of a block's feed-forward part.
        dropout: in the blocks, while training.
    """

    def __init__(self, size: int, layers: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.mix = nn.Sequential(nn.Linear(size + 5, size), nn.ReLU(), nn.Linear(size, size))
        self.blocks = transformer(size, layers, hidden, heads, dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, size) -> (B, N, size)."""
        boxes = grid_boxes(tokens.shape[1]).to(tokens).expand(len(tokens), -1, -1)
        x: Tensor = self.blocks(self.mix(torch.cat([tokens, boxes], 2)))
        return x


def grid_boxes(count: int) -> Tensor:
    """(count, 5) x1, y1, x2, y2 and area of grid cells in row order, in shares of the image.

    The grid is the squarest one that has so many cells.
    """
    rows = next(rows for rows in range(math.isqrt(count), 0, -1) if count % rows == 0)
    columns = count // rows
    y, x = (part.flatten() for part in torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"))
    corners = [x / columns, y / rows, (x + 1) / columns, (y + 1) / rows, torch.full((count,), 1 / count)]
    return torch.stack(corners, 1)
