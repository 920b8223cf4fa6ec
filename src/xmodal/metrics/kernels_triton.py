"""The histogram of `kernels_cpu` fused into one GPU kernel: distance, label test and count without leaving the chip."""

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

_TILE = 1024  # database items at a time
_PARTS = 8  # programs that share a pair of queries, each a part of the database


@triton.jit  # type: ignore[untyped-decorator] # triton has no type information
def _popcount(word: tl.tensor) -> tl.tensor:
    word = word - ((word >> 1) & 0x55555555)
    word = (word & 0x33333333) + ((word >> 2) & 0x33333333)
    word = (word + (word >> 4)) & 0x0F0F0F0F
    return (word * 0x01010101) >> 24


@triton.jit  # type: ignore[untyped-decorator]
def _tile_counts(
    query: tl.tensor, database: tl.tensor, query_label: tl.tensor, database_label: tl.tensor, row: int, start: int,
    items: int, WORDS: tl.constexpr, LABEL_WORDS: tl.constexpr, BINS: tl.constexpr, TILE: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    item = start + tl.arange(0, TILE)
    there = item < items
    near = tl.zeros((TILE,), tl.uint32)
    for w in tl.static_range(WORDS):
        code = tl.load(query + row * WORDS + w) ^ tl.load(database + w * items + item, mask=there, other=0)
        near += _popcount(code.to(tl.uint32, bitcast=True))
    shared = tl.zeros((TILE,), tl.int32)
    for v in tl.static_range(LABEL_WORDS):
        wanted = tl.load(query_label + row * LABEL_WORDS + v)
        shared |= wanted & tl.load(database_label + v * items + item, mask=there, other=0)
    key = near.to(tl.int32) * 2 + (shared != 0).to(tl.int32)
    return tl.histogram(tl.where(there, key, BINS - 1), BINS)  # the last bin is nobody's


@triton.jit  # type: ignore[untyped-decorator]
def _count(
    query: tl.tensor, database: tl.tensor, query_label: tl.tensor, database_label: tl.tensor, out: tl.tensor,
    queries: int, items: int, WORDS: tl.constexpr, LABEL_WORDS: tl.constexpr, BINS: tl.constexpr, TILE: tl.constexpr,
    PARTS: tl.constexpr,
) -> None:  # fmt: skip
    first, part = tl.program_id(0) * 2, tl.program_id(1)
    second = tl.minimum(first + 1, queries - 1)  # two queries for each tile that is read: the cache's rate is the limit
    ones = tl.zeros((BINS,), tl.int32)
    twos = tl.zeros((BINS,), tl.int32)
    for start in range(part * TILE, items, PARTS * TILE):
        ones += _tile_counts(
            query, database, query_label, database_label, first, start, items, WORDS, LABEL_WORDS, BINS, TILE
        )
        twos += _tile_counts(
            query, database, query_label, database_label, second, start, items, WORDS, LABEL_WORDS, BINS, TILE
        )
    bins = tl.arange(0, BINS)
    tl.store(out + (first * PARTS + part) * BINS + bins, ones)
    tl.store(out + (second * PARTS + part) * BINS + bins, twos)


def histogram(
    query: Tensor, database: Tensor, query_labels: Tensor, database_labels: Tensor, bits: int, labels: int
) -> NDArray[np.int32]:
    """Histogram over Hamming distance and relevance.

    Args:
        query: (Q, W) int64 packed codes.
        database: (N, W) int64 packed codes.
        query_labels: (Q, V) int64 packed labels.
        database_labels: (N, V) int64 packed labels.
        bits: length of a code.
        labels: number of labels.

    Returns:
        (Q, 2, bits + 1) int32: irrelevant and relevant items at each distance.
    """
    bins = triton.next_power_of_2(2 * (bits + 1) + 1)
    codes, items = _halves(query, bits), _halves(database, bits).T.contiguous()
    wanted, item_labels = _halves(query_labels, labels), _halves(database_labels, labels).T.contiguous()
    out = torch.empty(len(query), _PARTS, bins, dtype=torch.int32, device=query.device)
    _count[(-(-len(query) // 2), _PARTS)](
        codes, items, wanted, item_labels, out, len(query), len(database), codes.shape[1], wanted.shape[1], bins,
        _TILE, _PARTS,
    )  # fmt: skip
    counts = out.sum(1, dtype=torch.int32)[:, : 2 * (bits + 1)].view(len(query), bits + 1, 2)
    host = torch.empty(len(query), 2, bits + 1, dtype=torch.int32, pin_memory=query.is_cuda)
    return host.copy_(counts.transpose(1, 2)).numpy()


def _halves(words: Tensor, columns: int) -> Tensor:
    """The 32-bit words that hold the first columns: the GPU's registers are that wide."""
    return words.contiguous().view(torch.int32)[:, : -(-columns // 32)].contiguous()
