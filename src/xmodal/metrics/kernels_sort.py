"""Ranking of single queries on the CPU, compiled with numba: an exact radix sort of scores, and groups of ties."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodal.metrics.kernels_cpu import popcount
from xmodal.metrics.ranking import Floats, Ints, compiled

Words = NDArray[np.uint64]
Array = NDArray[Any]

_DIGIT = 11  # bits a radix pass sorts by; three passes order 32-bit keys


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
