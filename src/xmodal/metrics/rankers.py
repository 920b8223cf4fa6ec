"""From codes or embeddings and labels to rankings, block of queries by block of queries."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xmodal.metrics import kernels_cpu, kernels_torch
from xmodal.metrics.packing import pack_bits, unpack_bits
from xmodal.metrics.ranking import Ints, Ranking, ranking_from_histogram

Array = NDArray[Any]

_LEVEL_BLOCK = 512  # queries whose histograms are held at once
_DENSE_BLOCK = 32  # queries whose distances to the whole database are held at once
_SORTED_PAIRS = 1 << 19  # pairs whose tie groups are held at once
_GPU_PAIRS = 1 << 24  # distances held at once on a GPU
_SCORE_TILE = 1024  # database items in one matrix product, always: equal shapes give equal sums whatever the sharding


@dataclass(frozen=True)
class Relevance:
    """One notion of relevance between queries and database items.

    Attributes:
        query: (Q, C) boolean labels.
        database: (N, C) boolean labels.
        graded: whether the grade counts the shared labels; otherwise it is whether one is shared.
        reverse: relevant is what shares no label (the errors that MAPP penalises).
        stable: the order of the database breaks ties, instead of the expectation over all orders.
    """

    query: Tensor
    database: Tensor
    graded: bool = False
    reverse: bool = False
    stable: bool = False

    @cached_property
    def grades(self) -> int:
        """Number of grades, 0 included."""
        if not self.graded or not len(self.query) or not len(self.database):
            return 2
        return max(2, 1 + min(int(self.query.sum(1).max()), int(self.database.sum(1).max())))

    @cached_property
    def packed(self) -> tuple[Tensor, Tensor]:
        """Labels as int64 words: (Q, V) of the queries and (N, V) of the database."""
        return pack_bits(self.query), pack_bits(self.database)

    @cached_property
    def words(self) -> tuple[Array, Array]:
        """The same for the CPU's kernels: uint64, (Q, V) and (V, N)."""
        query, database = (side.cpu().numpy().view(np.uint64) for side in self.packed)
        return query, np.ascontiguousarray(database.T)


class Ranker(ABC):
    """Ranks a database for the queries, in one or several directions that share the labels.

    Args:
        query: D tensors (Q, ...), one for each direction.
        database: D tensors (N, ...).
    """

    def __init__(self, query: Sequence[Tensor], database: Sequence[Tensor]) -> None:
        self.query, self.database = query, database
        self.size = len(database[0])
        self.on_cpu = database[0].device.type == "cpu"
        self.dense_block = _DENSE_BLOCK if self.on_cpu else 1 + _GPU_PAIRS // max(self.size, 1)

    def passes(self, relevances: Mapping[str, Relevance]) -> list[tuple[int, dict[str, Relevance]]]:
        """Which notions of relevance to rank together, and by how many queries at a time to bound the memory."""
        return [(self.dense_block, dict(relevances))]

    @abstractmethod
    def near(self, direction: int, rows: slice) -> Tensor:
        """Distances (B, N) of a block of queries: smaller is nearer."""

    def rank(self, rows: slice, relevances: Mapping[str, Relevance]) -> Iterator[tuple[int, dict[str, Ranking]]]:
        """Rank the database for a block of queries: direction and a ranking for each notion of relevance.

        A direction may come in several parts, whose queries follow each other.
        """
        rank, pairs = (partial(_rank_on_cpu, spare=[]), _SORTED_PAIRS) if self.on_cpu else (_rank_on_gpu, _GPU_PAIRS)
        step = max(torch.get_num_threads(), pairs // max(self.size, 1))
        for direction in range(len(self.query)):
            near = self.near(direction, rows)
            for start in range(0, max(len(near), 1), step):
                part = near[start : start + step]
                yield direction, rank(part, rows.start + start, relevances)

    def counterparts(self, rows: slice, groups: tuple[Tensor, Tensor]) -> list[tuple[Ints, Ints, Ints]]:
        """Where the nearest of each query's own counterparts ranks, for each direction: the arguments of `hit_at`.

        Args:
            rows: the block of queries.
            groups: ids (Q,) and (N,) of the pictures; a query's counterparts have its id. In the second direction,
                whose database are pictures, one that several captions share counts once.
        """
        own = groups[0][rows, None] == groups[1][None, :]
        found = []
        for direction in range(len(self.query)):
            near = self.near(direction, rows).double()
            if direction == 1:
                near = near.masked_fill(repeated(groups[1]), torch.inf)
            best = near.masked_fill(~own, torch.inf).amin(1, keepdim=True)
            tied = (near == best) & best.isfinite()
            counts = ((near < best) & best.isfinite(), tied, tied & own)
            closer, items, mine = (count.sum(1).cpu().numpy() for count in counts)
            found.append((closer, items, mine))
        return found


def repeated(ids: Tensor) -> Tensor:
    """(N,) True for every id that has occurred before."""
    values, order = ids.sort(stable=True)
    return torch.zeros_like(ids, dtype=torch.bool).index_fill(0, order[1:][values[1:] == values[:-1]], True)


class CodeRanker(Ranker):
    """Ranks packed codes by Hamming distance.

    Args:
        query: D tensors (Q, W) int64 words.
        database: D tensors (N, W) int64 words.
        bits: length of a code.
    """

    def __init__(self, query: Sequence[Tensor], database: Sequence[Tensor], bits: int) -> None:
        super().__init__(query, database)
        self.bits = bits
        if self.on_cpu:
            octets = -(-bits // 8)
            self._query, codes = (
                np.stack([np.ascontiguousarray(words.numpy()).view(np.uint8)[:, :octets] for words in side])
                for side in (query, database)
            )
            self._database = np.ascontiguousarray(codes.swapaxes(1, 2))

    def passes(self, relevances: Mapping[str, Relevance]) -> list[tuple[int, dict[str, Relevance]]]:
        """See `Ranker`; only `stable` needs the order of the items, all else follows from the histogram."""
        levels = {name: relevance for name, relevance in relevances.items() if not relevance.stable}
        ordered = {name: relevance for name, relevance in relevances.items() if relevance.stable}
        return [(_LEVEL_BLOCK, levels), *(super().passes(ordered) if ordered else [])]

    def histogram(self, rows: slice, relevance: Relevance) -> Array:
        """Pairs by grade and distance, (D, B, grades, bits + 1) int32: the same integers on every device."""
        if self.on_cpu:
            query, labels = np.ascontiguousarray(self._query[:, rows]), relevance.query[rows].numpy()
            counts = kernels_cpu.histogram(
                query, self._database, labels, relevance.words[1], self.bits, relevance.grades
            )
        else:
            pairs = zip(self.query, self.database, strict=True)
            found = torch.stack([self._histogram_on_gpu(query[rows], items, rows, relevance) for query, items in pairs])
            counts = torch.empty(found.shape, dtype=torch.int32, pin_memory=True).copy_(found).numpy()
        return counts[:, :, ::-1] if relevance.reverse else counts

    def _histogram_on_gpu(self, query: Tensor, database: Tensor, rows: slice, relevance: Relevance) -> Tensor:
        query_label, database_label = relevance.query[rows], relevance.database
        if relevance.grades == 2 and find_spec("triton"):
            from xmodal.metrics import kernels_triton  # here: a CPU needs no triton and pays for no import

            wanted, items = relevance.packed
            return kernels_triton.histogram(query, database, wanted[rows], items, self.bits, query_label.shape[1])
        codes = unpack_bits(query, self.bits), unpack_bits(database, self.bits)
        return kernels_torch.histogram(*codes, query_label, database_label, relevance.grades)

    def near(self, direction: int, rows: slice) -> Tensor:
        """See `Ranker`."""
        if self.on_cpu:
            queries = self._query[direction, rows]
            out = np.empty((len(queries), self.size), np.int32)
            for query, row in zip(queries, out, strict=True):
                kernels_cpu.distances(query, self._database[direction], row)
            return torch.from_numpy(out)
        query = unpack_bits(self.query[direction][rows], self.bits).float()
        database = unpack_bits(self.database[direction], self.bits).float()
        return (query.sum(1, keepdim=True) + (1 - 2 * query) @ database.T).int()

    def rank(self, rows: slice, relevances: Mapping[str, Relevance]) -> Iterator[tuple[int, dict[str, Ranking]]]:
        """See `Ranker`."""
        if any(relevance.stable for relevance in relevances.values()):
            yield from super().rank(rows, relevances)
            return
        counts = {name: self.histogram(rows, relevance) for name, relevance in relevances.items()}
        for direction in range(len(self.query)):
            yield direction, {n: ranking_from_histogram(count[direction], self.size) for n, count in counts.items()}


class ScoreRanker(Ranker):
    """Ranks float32 embeddings by inner product, exactly: equal scores tie, nothing is rounded.

    Args:
        query: D tensors (Q, dim) float32; normalised for the cosine.
        database: D tensors (N, dim) float32.
    """

    def __init__(self, query: Sequence[Tensor], database: Sequence[Tensor]) -> None:
        super().__init__(query, database)
        self._near: Tensor | None = None
        self._tile = _SCORE_TILE if self.on_cpu else max(self.size, 1)
        self._tiles = [
            [_filled(side[start : start + self._tile], self._tile) for start in range(0, self.size, self._tile)]
            for side in database
        ]

    def near(self, direction: int, rows: slice) -> Tensor:
        """See `Ranker`; every product has the same shape, so that a score depends on its two items alone.

        The memory of the result is used again by the next call.
        """
        query = -self.query[direction][rows]
        block = _DENSE_BLOCK if self.on_cpu else max(len(query), 1)
        if self._near is None or len(self._near) < len(query):
            self._near = query.new_empty(len(query), self.size)
        out = self._near[: len(query)]
        for row in range(0, len(query), block):
            left = _filled(query[row : row + block], block)
            for number, tile in enumerate(self._tiles[direction]):
                part = out[row : row + block, number * self._tile : (number + 1) * self._tile]
                part.copy_((left @ tile.T)[: part.shape[0], : part.shape[1]])
        return out


def _filled(rows: Tensor, count: int) -> Tensor:
    """The rows, with zero rows up to `count`."""
    return rows if len(rows) == count else torch.cat([rows, rows.new_zeros(count - len(rows), rows.shape[1])])


def _rank_on_cpu(
    near: Tensor, first: int, relevances: Mapping[str, Relevance], spare: list[kernels_cpu.RowRanker]
) -> dict[str, Ranking]:
    """As `Ranker.rank`; `spare` keeps the scratch memory of each thread for the next call."""
    distances = near.numpy()
    groups: dict[str, list[Any]] = {name: [None] * len(distances) for name in relevances}

    def work(part: slice) -> None:
        ranker = spare.pop() if spare else kernels_cpu.RowRanker(distances.shape[1])
        for q in range(part.start, part.stop):
            ranker.sort(distances[q])
            for name, relevance in relevances.items():
                query, database = relevance.words
                groups[name][q] = ranker.groups(
                    query[first + q], database, relevance.grades, relevance.reverse, relevance.stable
                )
        spare.append(ranker)

    kernels_cpu.in_threads(work, len(distances))
    size = distances.shape[1]
    return {name: _joined(columns, relevances[name].grades, size) for name, columns in groups.items()}


def _joined(groups: list[Any], grades: int, size: int) -> Ranking:
    offsets = np.cumsum([0, *(len(group[0]) for group in groups)]).astype(np.int64)
    none = (*np.empty((3, 0), np.int64), np.empty(0))
    closer, items, relevant, gain = (np.concatenate([none[c], *(group[c] for group in groups)]) for c in range(4))
    counts = np.reshape([group[4] for group in groups], (len(groups), grades)).astype(np.int64)
    return Ranking(offsets, closer, items, relevant, gain, counts, size)


def _rank_on_gpu(near: Tensor, first: int, relevances: Mapping[str, Relevance]) -> dict[str, Ranking]:
    ranked = {}
    for name, relevance in relevances.items():
        query = relevance.query[first : first + len(near)]
        grade = kernels_torch.shared_labels(query, relevance.database, relevance.grades)
        grade = (grade == 0).long() if relevance.reverse else grade
        ranked[name] = kernels_torch.rank_rows(near, grade, relevance.grades, relevance.stable)
    return ranked
