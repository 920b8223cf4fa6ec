"""From codes or embeddings and labels to rankings, block of queries by block of queries."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xmodal.metrics import kernels_cpu, kernels_sort, kernels_torch
from xmodal.metrics.criterion import Criterion
from xmodal.metrics.packing import unpack_bits
from xmodal.metrics.ranking import Ints, Ranking, ranking_from_histogram

Array = NDArray[Any]

_LEVEL_BLOCK = 512  # queries whose histograms are held at once, fewer where they have many bins
_LEVEL_BINS = 1 << 24  # bins of their histograms, at most
_LONGEST = 1024  # bits that the GPU's fused kernel counts
_DENSE_BLOCK = 32  # queries whose distances to the whole database are held at once
_SORTED_PAIRS = 1 << 19  # pairs whose tie groups are held at once
_GPU_PAIRS = 1 << 24  # distances held at once on a GPU
_SCORE_TILE = 1024  # database items in one matrix product, always: equal shapes give equal sums whatever the sharding


class Ranker(ABC):
    """Ranks a database for the queries, in one or several directions that share the labels.

    Args:
        query: D tensors (Q, ...), one for each direction.
        database: D tensors (N, ...).
        itself: (Q,) item that is the query itself, which its ranking leaves out, -1 for none; None: no query has one.
            Average precision is that without it; the number of items, and so what is cut off by rank, is not.
    """

    def __init__(self, query: Sequence[Tensor], database: Sequence[Tensor], itself: Tensor | None = None) -> None:
        self.query, self.database, self.itself = query, database, itself
        self.size = len(database[0])
        self.on_cpu = database[0].device.type == "cpu"
        self.dense_block = _DENSE_BLOCK if self.on_cpu else 1 + _GPU_PAIRS // max(self.size, 1)

    def passes(self, criteria: Mapping[str, Criterion]) -> list[tuple[int, dict[str, Criterion]]]:
        """Which notions of relevance to rank together, and by how many queries at a time to bound the memory."""
        return [(self.dense_block, dict(criteria))]

    @abstractmethod
    def near(self, direction: int, rows: slice) -> Tensor:
        """Distances (B, N) of a block of queries: smaller is nearer."""

    def rank(self, rows: slice, criteria: Mapping[str, Criterion]) -> Iterator[tuple[int, dict[str, Ranking]]]:
        """Rank the database for a block of queries: direction and a ranking for each notion of relevance.

        A direction may come in several parts, whose queries follow each other.
        """
        rank, pairs = (partial(_rank_on_cpu, spare=[]), _SORTED_PAIRS) if self.on_cpu else (_rank_on_gpu, _GPU_PAIRS)
        step = max(torch.get_num_threads(), pairs // max(self.size, 1))
        for direction in range(len(self.query)):
            near = self.near(direction, rows)
            itself = torch.full((len(near),), -1, device=near.device) if self.itself is None else self.itself[rows]
            for start in range(0, max(len(near), 1), step):
                part = slice(start, start + step)
                yield direction, rank(near[part], rows.start + start, criteria, itself[part])

    def counterparts(self, rows: slice, groups: tuple[Tensor, Tensor]) -> list[tuple[Ints, Ints, Ints]]:
        """Where the nearest of each query's own counterparts ranks, for each direction: the arguments of `hit_at`.

        Args:
            rows: the block of queries.
            groups: ids (Q,) and (N,) of the pictures; a query's counterparts have its id.
        """
        own = groups[0][rows, None] == groups[1][None, :]
        found = []
        for direction in range(len(self.query)):
            near = self.near(direction, rows).double()
            best = near.masked_fill(~own, torch.inf).amin(1, keepdim=True)
            tied = (near == best) & best.isfinite()
            counts = ((near < best) & best.isfinite(), tied, tied & own)
            closer, items, mine = (count.sum(1).cpu().numpy() for count in counts)
            found.append((closer, items, mine))
        return found


class CodeRanker(Ranker):
    """Ranks packed codes by Hamming distance.

    Args:
        query: D tensors (Q, W) int64 words.
        database: D tensors (N, W) int64 words.
        bits: length of a code.
        itself: see `Ranker`.
    """

    def __init__(
        self, query: Sequence[Tensor], database: Sequence[Tensor], bits: int, itself: Tensor | None = None
    ) -> None:
        super().__init__(query, database, itself)
        self.bits = bits
        if self.on_cpu:
            octets = -(-bits // 8)
            self._query, codes = (
                np.stack([np.ascontiguousarray(words.numpy()).view(np.uint8)[:, :octets] for words in side])
                for side in (query, database)
            )
            self._database = np.ascontiguousarray(codes.swapaxes(1, 2))

    def passes(self, criteria: Mapping[str, Criterion]) -> list[tuple[int, dict[str, Criterion]]]:
        """See `Ranker`; only `stable` needs the order of the items, all else follows from the histogram."""
        levels = {name: criterion for name, criterion in criteria.items() if not criterion.stable}
        ordered = {name: criterion for name, criterion in criteria.items() if criterion.stable}
        bins = len(self.query) * (self.bits + 1) * max((criterion.grades for criterion in levels.values()), default=2)
        block = max(1, min(_LEVEL_BLOCK, _LEVEL_BINS // bins))
        return [(block, levels), *(super().passes(ordered) if ordered else [])]

    def histogram(self, rows: slice, criterion: Criterion) -> Array:
        """Pairs by grade and distance, (D, B, grades, bits + 1) int32: the same integers on every device."""
        if self.on_cpu:
            query, (labels, items) = np.ascontiguousarray(self._query[:, rows]), criterion.words
            labels = labels.view(np.int64) if criterion.by_class else criterion.query.numpy()
            counts = kernels_cpu.histogram(query, self._database, labels[rows], items, self.bits, criterion.grades)
        else:
            pairs = zip(self.query, self.database, strict=True)
            found = torch.stack([self._histogram_on_gpu(query[rows], items, rows, criterion) for query, items in pairs])
            counts = torch.empty(found.shape, dtype=torch.int32, pin_memory=True).copy_(found).numpy()
        counts = counts[:, :, ::-1] if criterion.reverse else counts
        return counts if self.itself is None else self._without_itself(counts, rows, criterion, self.itself[rows])

    def _without_itself(self, counts: Array, rows: slice, criterion: Criterion, itself: Tensor) -> Array:
        """The histogram less the query itself."""
        asked = (itself >= 0).nonzero()[:, 0]
        items = itself[asked]
        grade = criterion.grade(asked + rows.start, items).cpu().numpy()
        row = asked.cpu().numpy()
        for direction, (query, database) in enumerate(zip(self.query, self.database, strict=True)):
            differ = query[rows][asked] ^ database[items]
            level = unpack_bits(differ, self.bits).sum(1).cpu().numpy()
            counts[direction, row, grade, level] -= 1
        return counts

    def _histogram_on_gpu(self, query: Tensor, database: Tensor, rows: slice, criterion: Criterion) -> Tensor:
        query_label, database_label = criterion.query[rows], criterion.database
        if criterion.grades == 2 and self.bits <= _LONGEST and find_spec("triton"):
            from xmodal.metrics import kernels_triton  # here: a CPU needs no triton and pays for no import

            wanted, items = criterion.packed
            labels = 0 if criterion.by_class else query_label.shape[1]
            return kernels_triton.histogram(query, database, wanted[rows], items, self.bits, labels)
        codes = unpack_bits(query, self.bits), unpack_bits(database, self.bits)
        return kernels_torch.histogram(*codes, query_label, database_label, criterion.grades)

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

    def rank(self, rows: slice, criteria: Mapping[str, Criterion]) -> Iterator[tuple[int, dict[str, Ranking]]]:
        """See `Ranker`."""
        if any(criterion.stable for criterion in criteria.values()):
            yield from super().rank(rows, criteria)
            return
        counts = {name: self.histogram(rows, criterion) for name, criterion in criteria.items()}
        for direction in range(len(self.query)):
            yield direction, {n: ranking_from_histogram(count[direction], self.size) for n, count in counts.items()}


class ScoreRanker(Ranker):
    """Ranks float32 embeddings by inner product, exactly: equal scores tie, nothing is rounded.

    Args:
        query: D tensors (Q, dim) float32; normalised for the cosine.
        database: D tensors (N, dim) float32.
        itself: see `Ranker`.
    """

    def __init__(self, query: Sequence[Tensor], database: Sequence[Tensor], itself: Tensor | None = None) -> None:
        super().__init__(query, database, itself)
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
        if self.itself is not None:
            asked = (self.itself[rows] >= 0).nonzero()[:, 0]
            out[asked, self.itself[rows][asked]] = torch.inf
        return out


def _filled(rows: Tensor, count: int) -> Tensor:
    """The rows, with zero rows up to `count`."""
    return rows if len(rows) == count else torch.cat([rows, rows.new_zeros(count - len(rows), rows.shape[1])])


def _rank_on_cpu(
    near: Tensor, first: int, criteria: Mapping[str, Criterion], itself: Tensor, spare: list[kernels_sort.RowRanker]
) -> dict[str, Ranking]:
    """As `Ranker.rank`; `spare` keeps the scratch memory of each thread for the next call."""
    distances, own = near.numpy(), itself.tolist()
    groups: dict[str, list[Any]] = {name: [None] * len(distances) for name in criteria}

    def work(part: slice) -> None:
        ranker = spare.pop() if spare else kernels_sort.RowRanker(distances.shape[1])
        for q in range(part.start, part.stop):
            ranker.sort(distances[q])
            for name, criterion in criteria.items():
                query, database = criterion.words
                ranker.grade(query[first + q], database, criterion.grades, criterion.by_class, criterion.reverse)
                groups[name][q] = ranker.groups(criterion.grades, criterion.stable, own[q])
        spare.append(ranker)

    kernels_cpu.in_threads(work, len(distances))
    size = distances.shape[1]
    return {name: _joined(columns, criteria[name].grades, size) for name, columns in groups.items()}


def _joined(groups: list[Any], grades: int, size: int) -> Ranking:
    offsets = np.cumsum([0, *(len(group[0]) for group in groups)]).astype(np.int64)
    none = (*np.empty((3, 0), np.int64), np.empty(0))
    closer, items, relevant, gain = (np.concatenate([none[c], *(group[c] for group in groups)]) for c in range(4))
    counts = np.reshape([group[4] for group in groups], (len(groups), grades)).astype(np.int64)
    return Ranking(offsets, closer, items, relevant, gain, counts, size)


def _rank_on_gpu(near: Tensor, first: int, criteria: Mapping[str, Criterion], itself: Tensor) -> dict[str, Ranking]:
    ranked, asked = {}, (itself >= 0).nonzero()[:, 0]
    for name, criterion in criteria.items():
        query = criterion.query[first : first + len(near)]
        grade = kernels_torch.shared_labels(query, criterion.database, criterion.grades)
        grade = (grade == 0).long() if criterion.reverse else grade
        grade[asked, itself[asked]] = 0
        ranked[name] = kernels_torch.rank_rows(near, grade, criterion.grades, criterion.stable)
    return ranked
