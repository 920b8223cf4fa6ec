"""Attention over tokens, over features, over groups, and between two sets of tokens.

A mask is (B, N) bool, True where a token is real; None where every token is.
"""

from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xmodal.batch import Features
from xmodal.layers.dropout import Dropout

Tokens: TypeAlias = tuple[Tensor, Tensor | None]  # (B, N, d) and their mask


class TokenAttention(nn.Module):
    """X + gamma softmax(Q K^T / sqrt(d/8)) V, with gamma 0 at first: the block starts as the identity.

    Args:
        dim: size d of a token.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.inner = max(dim // 8, 1)
        self.query, self.key, self.value = (nn.Linear(dim, out) for out in (self.inner, self.inner, dim))
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, d) -> (B, N, d)."""
        score = self.query(x) @ self.key(x).mT / self.inner**0.5  # (B, N, N)
        if mask is not None:
            score = score.masked_fill(~mask[:, None], -torch.inf)
        out: Tensor = x + self.gamma * score.softmax(2) @ self.value(x)
        return out


class AttentionPooling(nn.Module):
    """sum_n a_n x_n with a = softmax(w^T tanh(W x_n)), as MCSM pools (Peng et al., TIP 2018).

    Args:
        dim: size d of a token.
        dropout: after tanh, while training (MCSM: 0.5).
    """

    def __init__(self, dim: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), Dropout(dropout), nn.Linear(dim, 1))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, d) -> (B, d)."""
        score: Tensor = self.score(x)[..., 0]
        if mask is not None:
            score = score.masked_fill(~mask, -torch.inf)
        return (score.softmax(1)[..., None] * x).sum(1)


class FeatureGate(nn.Module):
    """x + x sigmoid(W x + b): attention over the entries of one vector, as CPAH's mask (Xie et al., TIP 2020).

    Args:
        dim: size of the vector.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, d) -> (B, d)."""
        return x + x * torch.sigmoid(self.gate(x))


class GroupAttention(nn.Module):
    """softmax(u W_Q (P W_K)^T / sqrt(d)) P W_V: a sample attends to the prototypes of groups, never to its partner.

    Args:
        dim: size d of a sample and of a prototype.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(dim, dim, bias=False) for _ in range(3))

    def forward(self, u: Tensor, prototypes: Tensor) -> Tensor:
        """(B, d) and (C, d) -> (B, d)."""
        weight = (self.query(u) @ self.key(prototypes).T / u.shape[1] ** 0.5).softmax(1)  # (B, C)
        out: Tensor = weight @ self.value(prototypes)
        return out


class AttentionBlock(nn.Module):
    """Multi-head attention and a feed-forward part, each added to its input and normalised: LN(x + f(x)).

    Args:
        dim: size d of a token.
        heads: a divisor of d.
        hidden: units of the feed-forward part.
        dropout: on both parts, while training.
        whole: it is given the whole global batch on every process, and not a process's own rows.
    """

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float = 0.0, *, whole: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.feed = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.dropout = nn.Dropout(dropout) if whole else Dropout(dropout)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, d) attending to (B, M, d), whose mask is (B, M) -> (B, N, d)."""
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(x), self.key(context), self.value(context))
        )  # (B, heads, tokens, d / heads)
        seen = None if mask is None else mask[:, None, None]
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        x = self.norms[0](x + self.dropout(self.out(attended.transpose(1, 2).flatten(2))))
        out: Tensor = self.norms[1](x + self.dropout(self.feed(x)))
        return out


class AttendedFeature(nn.Module):
    """DA-GAN's reading of one side: tokens, or a vector as a single token, projected, attended within and pooled.

    Args:
        pooled_dim: size of the vector; read where there are no tokens.
        token_dim: size of a token; 0: the vector is read.
        dim: size of the result.
        dropout: in the attention pooling, while training.
        attends: attend over the tokens and pool them by attention, or gate the vector; otherwise the mean is taken.
    """

    def __init__(self, pooled_dim: int, token_dim: int, dim: int, dropout: float, attends: bool) -> None:
        super().__init__()
        self.reads_tokens = token_dim > 0
        self.project = (
            nn.Sequential(nn.LayerNorm(token_dim), nn.Linear(token_dim, dim))
            if token_dim
            else nn.Sequential(nn.Linear(pooled_dim, dim), nn.ReLU())
        )
        if attends:
            self.attend = TokenAttention(dim) if token_dim else FeatureGate(dim)
            self.pooling = AttentionPooling(dim, dropout) if token_dim else None
        self.attends = attends

    def tokens(self, features: Features) -> Tokens:
        """Intra-attention: (B, N, dim) and their mask; one token where a vector is read."""
        if not self.reads_tokens:
            x = self.project(features["pooled"])
            return (self.attend(x) if self.attends else x)[:, None], None
        x, mask = self.project(features["tokens"]), features.get("mask")
        return (self.attend(x, mask) if self.attends else x), mask

    def pool(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """(B, dim), of length 1, of what `tokens` returned."""
        pooling = self.pooling if self.attends else None
        return F.normalize(masked_mean(tokens, mask) if pooling is None else pooling(tokens, mask))

    def forward(self, features: Features) -> Tensor:
        """(B, dim), of length 1."""
        return self.pool(*self.tokens(features))


def masked_mean(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of the real tokens.

    Args:
        x: (B, N, d).
        mask: (B, N) or None.

    Returns:
        (B, d).
    """
    if mask is None:
        return x.mean(1)
    return (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)
