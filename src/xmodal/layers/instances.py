"""Sets of instance vectors out of tokens: DIMCH's token filters, UMoED's queries over a decoder with Soft-MoE."""

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xmodal.errors import UserError
from xmodal.layers.context_decoder import MultiHeadAttention
from xmodal.layers.dropout import Dropout
from xmodal.layers.hash_head import uniform_linear


class TokenFilters(nn.Module):
    """DIMCH's head: each instance is a filter over the places of the tokens, 3 wide along their features.

    A padded token is 0 for every filter. Filters have weights for `places` tokens; an item may have fewer.

    Args:
        dim: of a token.
        bits: K, size of an instance.
        instances: M.
        places: most tokens that an item may have.
        hidden: units of the layer between.
        dropout: after it, while training.
    """

    def __init__(self, dim: int, bits: int, instances: int, places: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.filter = nn.Parameter(torch.randn(instances, places, 3) * math.sqrt(2 / (3 * places)))
        self.bias = nn.Parameter(torch.zeros(instances))
        self.head = nn.Sequential(
            uniform_linear(dim, hidden, hidden), nn.ReLU(), Dropout(dropout), uniform_linear(hidden, bits, bits)
        )

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, dim) and (B, N), True where a token is real -> (B, M, K).

        Raises:
            UserError: there are more tokens than places.
        """
        count, places = tokens.shape[1], self.filter.shape[1]
        if count > places:
            raise UserError(f"an item has {count} tokens, and the filters {places} places: give so many.")
        real = tokens if mask is None else tokens * mask[:, :, None]
        out: Tensor = self.head(F.conv1d(real, self.filter[:, :count], self.bias, padding=1).relu())
        return out


class SoftMoE(nn.Module):
    """Experts that read soft mixtures of an item's rows (Puigcerver et al., ICLR 2024).

    Args:
        inputs: size of a row.
        outputs: size of a row afterwards.
        experts: n, each an affine map.
        slots: p mixtures for each expert.
    """

    def __init__(self, inputs: int, outputs: int, experts: int, slots: int) -> None:
        super().__init__()
        bound, self.shape = 1 / math.sqrt(inputs), (experts, slots)
        self.slot = nn.Parameter(torch.randn(inputs, experts * slots) * bound)
        self.weight = nn.Parameter(torch.empty(experts, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(experts, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """(B, M, inputs) -> (B, M, outputs)."""
        score = x @ self.slot  # (B, M, n p)
        mixed = (score.softmax(1).mT @ x).reshape(len(x), *self.shape, x.shape[2])  # (B, n, p, inputs)
        answer: Tensor = mixed @ self.weight + self.bias
        return score.softmax(2) @ answer.flatten(1, 2)


class QueryDecoder(nn.Module):
    """Learned queries ask an item's tokens; post-norm blocks that start alike, with Soft-MoE in the feed-forward part.

    Args:
        dim: of a token and of a query.
        queries: M.
        layers: number of blocks.
        heads: of the attentions.
        hidden: units of the feed-forward part.
        experts: of a block.
        slots: of an expert.
        dropout: on every branch and in the feed-forward part, while training.
    """

    def __init__(
        self, dim: int, queries: int, layers: int, heads: int, hidden: int, experts: int, slots: int, dropout: float
    ) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(queries, dim))
        first = _Block(dim, heads, hidden, experts, slots, dropout)
        self.blocks = nn.ModuleList(copy.deepcopy(first) for _ in range(layers))

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, dim) and (B, N), True where a token is real -> (B, M, dim)."""
        x = self.query.expand(len(tokens), -1, -1)
        for block in self.blocks:
            x = block(x, tokens, mask)
        return x


class _Block(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int, experts: int, slots: int, dropout: float) -> None:
        super().__init__()
        self.own, self.cross = (MultiHeadAttention(dim, heads, dropout, bias=True) for _ in range(2))
        self.feed = nn.Sequential(
            nn.Linear(dim, hidden),
            nn.ReLU(),
            Dropout(dropout),
            SoftMoE(hidden, dim, experts, slots),
            Dropout(dropout),
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        x = self.norms[0](x + self.own(x, x))
        x = self.norms[1](x + self.cross(x, tokens, mask))
        out: Tensor = self.norms[2](x + self.feed(x))
        return out
