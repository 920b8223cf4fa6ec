"""Ranking of codes on the CPU, compiled with numba: histograms over Hamming levels.

The histogram is integer, so it does not depend on threads, blocks or devices. A pair of items costs a fraction of a
nanosecond for the distance and one memory increment for the count; nothing is sorted, and no matrix of queries x
database exists.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from xmodal.metrics.ranking import Ints, compiled

Words = NDArray[np.uint64]
Array = NDArray[Any]

_TILE = 4096  # database items at a time: their keys, label rows and code bytes stay in the first two caches


def _popcount(typing_context: object, value: types.Type) -> tuple[object, Callable[..., object]]:
    """Number of set bits: the processor's own instruction, which LLVM vectorises."""

    def generate(_context: object, builder: Any, _signature: object, arguments: Any) -> Any:  # noqa: ANN401 - numba's
        return builder.ctpop(arguments[0])

    return value(value), generate


popcount = cast("Callable[[Any], Any]", intrinsic(_popcount))


@compiled
def _histogram(
    query: Array, database: Array, label_start: Ints, label: Ints, classes: Words, words: Words, binary: bool,
    member: Array, shared: Array, near: Array, key: Array, out: Array,
) -> None:  # fmt: skip
    """Count the pairs of (directions, queries) x database by distance and shared labels.

    Args:
        query: (D, Q, bytes) codes of D directions, which share the labels and so the label test.
        database: (D, bytes, N) codes, byte by byte.
        label_start: (Q + 1,) query q has the labels `label[label_start[q]:label_start[q + 1]]`.
        label: (L,) label numbers.
        classes: (Q, L) class numbers in L layers, which are compared instead of labels; L is 0 where there are none.
        words: (V, N) packed labels of the database, or (L, N) its class numbers.
        binary: whether the number of shared labels is cut at 1.
        member: (C, tile) scratch: whether an item has a label, one byte each.
        shared: (tile,) scratch: labels that the query and an item share.
        near: (tile,) scratch: distance.
        key: (tile,) scratch: shared * levels + distance, the bin.
        out: (D, Q, grades, levels) the counts are added here.
    """
    directions, queries, octets = query.shape
    size, grades, levels = words.shape[1], out.shape[2], out.shape[3]
    bins = np.empty((4, grades * levels), np.int32)
    for start in range(0, size, len(near)):
        m = min(len(near), size - start)
        for c in range(len(member)):
            row, place, has = words[c // 64, start : start + m], np.uint64(c % 64), member[c]
            for j in range(m):
                has[j] = (row[j] >> place) & np.uint64(1)
        for q in range(queries):
            shared[:] = 0
            for x in range(label_start[q], label_start[q + 1]):
                has = member[label[x]]
                if binary:
                    for j in range(m):
                        shared[j] |= has[j]
                else:
                    for j in range(m):
                        shared[j] += has[j]
            for x in range(classes.shape[1]):
                row, own = words[x, start : start + m], classes[q, x]
                if binary:
                    for j in range(m):
                        shared[j] |= row[j] == own
                else:
                    for j in range(m):
                        shared[j] += row[j] == own
            for d in range(directions):
                near[:] = 0
                b = 0
                while b + 4 <= octets:  # four bytes at a time keep the sum in registers
                    q0, q1, q2, q3 = query[d, q, b], query[d, q, b + 1], query[d, q, b + 2], query[d, q, b + 3]
                    d0, d1 = database[d, b, start : start + m], database[d, b + 1, start : start + m]
                    d2, d3 = database[d, b + 2, start : start + m], database[d, b + 3, start : start + m]
                    for j in range(m):
                        near[j] += popcount(q0 ^ d0[j]) + popcount(q1 ^ d1[j])
                        near[j] += popcount(q2 ^ d2[j]) + popcount(q3 ^ d3[j])
                    b += 4
                while b < octets:
                    q0, d0 = query[d, q, b], database[d, b, start : start + m]
                    for j in range(m):
                        near[j] += popcount(q0 ^ d0[j])
                    b += 1
                for j in range(m):
                    key[j] = shared[j] * levels + near[j]
                bins[:] = 0
                first, second, third, fourth = bins[0], bins[1], bins[2], bins[3]
                whole = m - m % 4
                for j in range(0, whole, 4):  # four histograms: equal neighbours do not wait for each other
                    first[key[j]] += 1
                    second[key[j + 1]] += 1
                    third[key[j + 2]] += 1
                    fourth[key[j + 3]] += 1
                for j in range(whole, m):
                    first[key[j]] += 1
                for g in range(grades):
                    for level in range(levels):
                        x = g * levels + level
                        out[d, q, g, level] += first[x] + second[x] + third[x] + fourth[x]


def histogram(
    query: Array, database: Array, query_labels: Array, words: Words, bits: int, grades: int
) -> NDArray[np.int32]:
    """Histogram over Hamming distance and shared labels.

    Args:
        query: (D, Q, bytes) uint8 codes.
        database: (D, bytes, N) uint8 codes.
        query_labels: (Q, C) boolean labels, or (Q, L) int64 class numbers in L layers.
        words: (V, N) uint64 packed labels of the database, or (L, N) its class numbers.
        bits: length of a code.
        grades: number of relevance grades; 2 asks only whether a label is shared.

    Returns:
        (D, Q, grades, bits + 1) int32.
    """
    directions, queries, _ = query.shape
    out = np.zeros((directions, queries, grades, bits + 1), np.int32)
    classes = np.ascontiguousarray(query_labels[:, : 0 if query_labels.dtype == bool else None], np.int64)
    query_labels = query_labels[:, : None if query_labels.dtype == bool else 0]
    start = np.concatenate([[0], np.cumsum(query_labels.sum(1))]).astype(np.int64)
    label = np.nonzero(query_labels)[1].astype(np.int64)
    count_type = np.uint8 if grades <= 256 else np.uint16
    near_type = np.uint8 if bits < 2**8 else np.uint16 if bits < 2**16 else np.uint32
    key_type = np.uint16 if (bits + 1) * grades < 2**16 else np.uint32
    tile = min(_TILE, max(words.shape[1], 1))

    def count(part: slice) -> None:
        _histogram(
            query[:, part], database, start[part.start : part.stop + 1], label, classes[part].view(np.uint64), words,
            grades == 2,
            np.empty((query_labels.shape[1], tile), count_type), np.empty(tile, count_type),
            np.empty(tile, near_type), np.empty(tile, key_type), out[:, part],
        )  # fmt: skip

    in_threads(count, queries)
    return out


def in_threads(work: Callable[[slice], None], rows: int) -> None:
    """Run `work` on as many slices of the rows as torch has threads; numba releases the GIL in its kernels."""
    threads = max(1, min(torch.get_num_threads(), rows))
    bounds = np.linspace(0, rows, threads + 1).astype(int)
    parts = [slice(int(a), int(b)) for a, b in pairwise(bounds)]
    if threads == 1:
        work(parts[0])
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, parts))


@compiled
def distances(query: Array, database: Array, out: Array) -> None:
    """Hamming distances of one code (bytes,) from `database` (bytes, N), into `out` (N,) int32."""
    out[:] = 0
    for b in range(len(query)):
        octet, row = query[b], database[b]
        for j in range(len(out)):
            out[j] += popcount(octet ^ row[j])
