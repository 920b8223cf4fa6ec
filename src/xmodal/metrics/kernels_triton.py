"""The histogram of `kernels_cpu` fused into one GPU kernel: distance, label test and count without leaving the chip."""

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE = 1024  # database items at a time
_PARTS = 8  # programs that share a pair of queries, each a part of the database
_FEWEST_BINS = 64


@triton.jit  # type: ignore[untyped-decorator] # triton has no type information
def _popcount(word: tl.tensor) -> tl.tensor:
    word = word - ((word >> 1) & 0x55555555)
    word = (word & 0x33333333) + ((word >> 2) & 0x33333333)
    word = (word + (word >> 4)) & 0x0F0F0F0F
    return (word * 0x01010101) >> 24


@triton.jit  # type: ignore[untyped-decorator]
def _tile(
    query: tl.tensor, database: tl.tensor, query_label: tl.tensor, database_label: tl.tensor, row: int, start: int,
    items: int, BITS: tl.constexpr, WORDS: tl.constexpr, LABEL_WORDS: tl.constexpr, CLASSES: tl.constexpr,
    BINS: tl.constexpr, TILE: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:  # fmt: skip
    item = start + tl.arange(0, TILE)
    there = item < items
    near = tl.zeros((TILE,), tl.uint32)
    for w in tl.static_range(WORDS):
        code = tl.load(query + row * WORDS + w) ^ tl.load(database + w * items + item, mask=there, other=0)
        near += _popcount(code.to(tl.uint32, bitcast=True))
    shared = tl.zeros((TILE,), tl.int32)
    for v in tl.static_range(LABEL_WORDS):
        wanted = tl.load(query_label + row * LABEL_WORDS + v)
        if CLASSES:  # numbers from 0
            label = tl.load(database_label + v * items + item, mask=there, other=-1)
            shared |= (wanted == label).to(tl.int32)
        else:
            shared |= wanted & tl.load(database_label + v * items + item, mask=there, other=0)
    relevant = (shared != 0).to(tl.int32)
    key = near.to(tl.int32) * 2 + relevant
    return tl.histogram(key, BINS, mask=there & (key < 2 * BITS)), relevant


@triton.jit  # type: ignore[untyped-decorator]
def _count(
    query: tl.tensor, database: tl.tensor, query_label: tl.tensor, database_label: tl.tensor, out: tl.tensor,
    queries: int, items: int, BITS: tl.constexpr, WORDS: tl.constexpr, LABEL_WORDS: tl.constexpr,
    CLASSES: tl.constexpr, BINS: tl.constexpr, TILE: tl.constexpr, PARTS: tl.constexpr,
) -> None:  # fmt: skip
    first, part = tl.program_id(0) * 2, tl.program_id(1)
    second = tl.minimum(first + 1, queries - 1)  # two queries for each tile: reading it costs as much as counting
    count_a, count_b = tl.zeros((BINS,), tl.int32), tl.zeros((BINS,), tl.int32)
    found_a, found_b = tl.zeros((TILE,), tl.int32), tl.zeros((TILE,), tl.int32)
    for start in range(part * TILE, items, PARTS * TILE):
        count, found = _tile(
            query, database, query_label, database_label, first, start, items, BITS, WORDS, LABEL_WORDS, CLASSES,
            BINS, TILE,
        )  # fmt: skip
        count_a, found_a = count_a + count, found_a + found
        count, found = _tile(
            query, database, query_label, database_label, second, start, items, BITS, WORDS, LABEL_WORDS, CLASSES,
            BINS, TILE,
        )  # fmt: skip
        count_b, found_b = count_b + count, found_b + found
    bins = tl.arange(0, BINS)
    out_a, out_b = out + (first * PARTS + part) * (BINS + 1), out + (second * PARTS + part) * (BINS + 1)
    tl.store(out_a + bins, count_a)
    tl.store(out_b + bins, count_b)
    tl.store(out_a + BINS, tl.sum(found_a))
    tl.store(out_b + BINS, tl.sum(found_b))


def histogram(
    query: Tensor, database: Tensor, query_labels: Tensor, database_labels: Tensor, bits: int, labels: int
) -> Tensor:
    """Histogram over Hamming distance and relevance.

    The last level, where all bits differ, is what the others leave of the totals: without it the usual lengths fit into
    half as many bins, and a bin costs a popcount for every warp of pairs.

    Args:
        query: (Q, W) int64 packed codes.
        database: (N, W) int64 packed codes.
        query_labels: (Q, V) int64 packed labels, or (Q, L) class numbers of L layers, counted from 0.
        database_labels: (N, V) int64 packed labels, or (N, L) class numbers.
        bits: length of a code.
        labels: number of labels; 0 for class numbers.

    Returns:
        (Q, 2, bits + 1) int32: irrelevant and relevant items at each distance.
    """
    bins = max(_FEWEST_BINS, triton.next_power_of_2(2 * bits))
    codes, items = _halves(query, bits), _halves(database, bits).T.contiguous()
    if labels:
        wanted, item_labels = _halves(query_labels, labels), _halves(database_labels, labels).T.contiguous()
    else:
        wanted, item_labels = query_labels.int().contiguous(), database_labels.int().T.contiguous()
    out = torch.empty(len(query), _PARTS, bins + 1, dtype=torch.int32, device=query.device)
    _count[(-(-len(query) // 2), _PARTS)](
        codes, items, wanted, item_labels, out, len(query), len(database), bits, codes.shape[1], wanted.shape[1],
        labels == 0, bins, _TILE, _PARTS,
    )  # fmt: skip
    out = out.sum(1, dtype=torch.int32)
    counts, found = out[:, : 2 * bits].view(len(query), bits, 2), out[:, bins]
    last = torch.stack([len(database) - found, found], 1) - counts.sum(1, dtype=torch.int32)
    return torch.cat([counts, last[:, None]], 1).transpose(1, 2)


def _halves(words: Tensor, columns: int) -> Tensor:
    """The 32-bit words that hold the first columns: the GPU's registers are that wide."""
    return words.contiguous().view(torch.int32)[:, : -(-columns // 32)].contiguous()
