"""Ranking on the CPU, compiled with numba: histograms over Hamming levels, and exact sorting of scores.

The histogram is integer, so it does not depend on threads, blocks or devices. A pair of items costs a fraction of a
nanosecond for the distance and one memory increment for the count; nothing is sorted, and no matrix of queries x
database exists.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Protocol, cast

import numpy as np
import torch
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from xmodal.metrics.ranking import Floats, Ints, compiled

Words = NDArray[np.uint64]
Array = NDArray[Any]

_TILE = 4096  # database items at a time: their keys, label rows and code bytes stay in the first two caches
_DIGIT = 11  # bits a radix pass sorts by; three passes order 32-bit keys


class _Builder(Protocol):
    def ctpop(self, value: object) -> object: ...


def _popcount(typing_context: object, value: types.Type) -> tuple[object, Callable[..., object]]:
    """Number of set bits: the processor's own instruction, which LLVM vectorises."""

    def generate(_context: object, builder: _Builder, _signature: object, arguments: tuple[object, ...]) -> object:
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
def _shared_labels(query: Words, words: Words, grades: int, by_class: bool, reverse: bool, out: Array) -> None:
    """Relevance grade of every item of `words` (V, N) for one query (V,), into `out` (N,)."""
    out[:] = 0
    for v in range(len(query)):
        wanted, row = query[v], words[v]
        if by_class:
            for j in range(len(out)):
                out[j] += row[j] == wanted
        else:
            for j in range(len(out)):
                out[j] += popcount(wanted & row[j])
    if grades == 2:
        for j in range(len(out)):
            out[j] = out[j] > 0
    if reverse:
        for j in range(len(out)):
            out[j] = out[j] == 0


@compiled
def distances(query: Array, database: Array, out: Array) -> None:
    """Hamming distances of one code (bytes,) from `database` (bytes, N), into `out` (N,) int32."""
    out[:] = 0
    for b in range(len(query)):
        octet, row = query[b], database[b]
        for j in range(len(out)):
            out[j] += popcount(octet ^ row[j])


@compiled
def _sort(near: Array, keys: Words, spare: Words, count: Array) -> Words:
    """Stable radix sort of item numbers by `near` (N,) uint32: keys hold (near << 32 | item), nearest first."""
    n, mask = len(near), np.uint64(count.shape[1] - 1)
    count[:] = 0
    for j in range(n):
        key = (np.uint64(near[j]) << np.uint64(32)) | np.uint64(j)
        keys[j] = key
        for p in range(3):
            count[p, (key >> np.uint64(32 + p * _DIGIT)) & mask] += 1
    for p in range(3):
        shift, ends = np.uint64(32 + p * _DIGIT), count[p]
        if n == 0 or ends[(keys[0] >> shift) & mask] == n:
            continue  # one digit for all: already in order
        place = 0
        for x in range(len(ends)):
            size = ends[x]
            ends[x] = place
            place += size
        for j in range(n):
            key = keys[j]
            digit = (key >> shift) & mask
            spare[ends[digit]] = key
            ends[digit] += 1
        keys, spare = spare, keys
    return keys


@compiled
def _groups(
    keys: Words, grade: Array, stable: bool, closer: Ints, items: Ints, relevant: Ints, gain: Floats, grades: Ints
) -> int:
    """Write the tie groups with relevant items of one sorted query; returns their number."""
    n, written, j = len(keys), 0, 0
    grades[:] = 0
    gains = 2.0 ** np.arange(len(grades)) - 1.0
    while j < n:
        start, level, hits, gained = j, keys[j] >> np.uint64(32), 0, 0.0
        while j < n and keys[j] >> np.uint64(32) == level:
            g = grade[keys[j] & np.uint64(0xFFFFFFFF)]
            grades[g] += 1
            j += 1
            if g > 0:
                hits += 1
                gained += gains[g]
            if stable:
                break
        if hits > 0:
            closer[written], items[written], relevant[written], gain[written] = start, j - start, hits, gained
            written += 1
    return written


@compiled
def _image(near: Array, out: Array) -> None:
    """Order-preserving uint32 image of float32 numbers, given as their bits; -0.0 and 0.0 are one."""
    for j in range(len(out)):
        bits = near[j]
        if bits == np.uint32(0x80000000):
            bits = np.uint32(0)
        out[j] = ~bits if bits >> np.uint32(31) else bits | np.uint32(0x80000000)


class RowRanker:
    """Sorts one query after another, with scratch memory that is taken once.

    Args:
        size: number of database items.
    """

    def __init__(self, size: int) -> None:
        self._near = np.empty(size, np.uint32)
        self._keys, self._spare = np.empty(size, np.uint64), np.empty(size, np.uint64)
        self._count = np.zeros((3, 2**_DIGIT), np.int32)
        self._grade = np.empty(size, np.uint16)
        self._closer, self._items, self._relevant = (np.empty(size, np.int64) for _ in range(3))
        self._gain = np.empty(size)
        self._order = self._keys

    def sort(self, near: Array) -> None:
        """Order the items by their distance (N,), float32 or non-negative int32."""
        if near.dtype == np.float32:
            _image(near.view(np.uint32), self._near)
        else:
            self._near[:] = near
        self._order = _sort(self._near, self._keys, self._spare, self._count)

    def grade(self, query: Words, words: Words, grades: int, by_class: bool, reverse: bool) -> None:
        """Set the relevance of every item.

        Args:
            query: (V,) labels, or class numbers, of the query.
            words: (V, N) those of the database.
            grades: number of grades; 2 asks only whether one is shared.
            by_class: whether class numbers are compared, instead of labels.
            reverse: relevant is what shares none.
        """
        _shared_labels(query, words, grades, by_class, reverse, self._grade)

    def groups(self, grades: int, stable: bool, itself: int = -1) -> tuple[Ints, Ints, Ints, Floats, Ints]:
        """Closer, items, relevant, gain of the tie groups in the sorted order, and the number of items of each grade.

        Args:
            grades: number of grades.
            stable: the order of the items breaks ties.
            itself: an item that is not relevant whatever its labels; -1 for none.
        """
        if itself >= 0:
            self._grade[itself] = 0
        counts = np.zeros(grades, np.int64)
        columns = (self._closer, self._items, self._relevant)
        written = _groups(self._order, self._grade, stable, *columns, self._gain, counts)
        closer, items, relevant = (column[:written].copy() for column in columns)
        return closer, items, relevant, self._gain[:written].copy(), counts
