"""The k nearest codes of all, in the time that the memory takes to deliver them; FAISS's scan takes three times that.

A tile of codes is first asked whether any is nearer than the k-th so far: a loop without a branch or a store, which the
processor does on vectors. Only a tile that holds one is looked at code by code.
"""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xmodal.metrics.kernels_cpu import popcount
from xmodal.metrics.ranking import compiled

Array = NDArray[Any]
TILE = 512  # codes; 4 kB of 64 bits stay in the first cache while the queries of a block pass
HELD = 1 << 21  # places of a block's lists, 16 MB
ALONE = 1 << 20  # codes that one thread scans faster than it starts another


@compiled
def _scan(words: Array, queries: Array, first: int, k: int, lists: Array, counts: Array) -> None:
    """List the k nearest codes of a range for each query, and some that were among them for a while.

    Args:
        words: (n, W) uint64 codes of the range.
        queries: (B, W) uint64.
        first: row of the first code.
        k: hits that are wanted.
        lists: (B, levels, k) int64 rows by distance, ascending.
        counts: (B, levels) int64, 0: how many rows there are.
    """
    size, width = words.shape
    limits = np.full(len(queries), counts.shape[1])  # distance from which nothing is wanted any more
    below = np.zeros(len(queries), np.int64)  # rows that are listed below it
    for start in range(0, size, TILE):
        stop = min(start + TILE, size)
        for b in range(len(queries)):
            query, limit, nearer = queries[b], limits[b], np.int64(0)
            if width == 1:
                q = query[0]
                for j in range(start, stop):
                    nearer |= np.int64(popcount(words[j, 0] ^ q)) - limit  # negative where one is nearer
            elif width == 2:
                q, r = query[0], query[1]
                for j in range(start, stop):
                    nearer |= np.int64(popcount(words[j, 0] ^ q) + popcount(words[j, 1] ^ r)) - limit
            else:
                nearer = np.int64(-1)
            if nearer >= 0:
                continue
            for j in range(start, stop):
                level = np.int64(0)
                for w in range(width):
                    level += np.int64(popcount(words[j, w] ^ query[w]))
                if level >= limit:
                    continue
                lists[b, level, counts[b, level]] = first + j
                counts[b, level] += 1
                below[b] += 1
                while below[b] >= k:  # later rows of the same distance have higher numbers
                    limit -= 1
                    below[b] -= counts[b, limit]
            limits[b] = limit


@compiled
def _merge(lists: Array, counts: Array, rows: Array, distances: Array) -> None:
    """The first k of several ranges: `lists` (T, B, levels, k) and `counts` (T, B, levels) into (B, k) each."""
    ranges, queries, levels = counts.shape
    for b in range(queries):
        place = 0
        for level in range(levels):
            for t in range(ranges):
                for c in range(min(counts[t, b, level], rows.shape[1] - place)):
                    rows[b, place], distances[b, place] = lists[t, b, level, c], level
                    place += 1
            if place == rows.shape[1]:
                break


@compiled
def ordered(distances: Array, rows: Array, counts: Array) -> None:
    """Put hits in the order (distance, row), in place, and count them.

    FAISS orders equal distances as it meets them, and marks a place without a hit by row -1 (HNSW by -2**31 too).

    Args:
        distances: (B, k) int32, nearly in order.
        rows: (B, k) int64; -1 behind the hits, afterwards.
        counts: (B,) int64, becomes the hits of each query.
    """
    for b in range(len(rows)):
        kept = 0
        for place in range(rows.shape[1]):
            row, distance = rows[b, place], distances[b, place]
            if row < 0:
                continue
            to = kept
            while to > 0 and (
                distances[b, to - 1] > distance or (distances[b, to - 1] == distance and rows[b, to - 1] > row)
            ):
                distances[b, to], rows[b, to] = distances[b, to - 1], rows[b, to - 1]
                to -= 1
            distances[b, to], rows[b, to] = distance, row
            kept += 1
        rows[b, kept:] = -1
        counts[b] = kept


def nearest(codes: Array, queries: Array, k: int) -> tuple[Array, Array]:
    """The k nearest rows of each query, in the order (distance, row).

    Args:
        codes: (N, bytes) uint8, bytes a multiple of 8; may be a memory map.
        queries: (B, bytes) uint8.
        k: hits, from 1 to N.

    Returns:
        (B, k) int64 rows and (B, k) int32 distances.
    """
    words, asked = codes.view(np.uint64), np.ascontiguousarray(queries).view(np.uint64)
    levels, threads = 64 * words.shape[1] + 1, torch.get_num_threads() if len(codes) > ALONE else 1
    bounds = np.linspace(0, len(words), threads + 1).astype(np.int64).tolist()
    rows, distances = np.empty((len(asked), k), np.int64), np.empty((len(asked), k), np.int32)
    step = max(1, HELD // (levels * k * threads))
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(asked), step):
            block = slice(start, start + step)
            counts = np.zeros((threads, len(asked[block]), levels), np.int64)
            lists = np.empty((*counts.shape, k), np.int64)
            work = [
                (words[low:high], asked[block], low, k, lists[t], counts[t])
                for t, (low, high) in enumerate(pairwise(bounds))
            ]
            list(pool.map(lambda each: _scan(*each), work)) if threads > 1 else _scan(*work[0])
            _merge(lists, counts, rows[block], distances[block])
    return rows, distances
