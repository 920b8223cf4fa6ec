"""A notion of relevance as the rankers need it: labels or class numbers, and how sharing them is graded."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xmodal.metrics.packing import pack_bits

Array = NDArray[Any]


@dataclass(frozen=True)
class Criterion:
    """One notion of relevance between queries and database items.

    Attributes:
        query: (Q, C) boolean labels, or (Q, L) int64 class numbers of L layers.
        database: (N, C) boolean labels, or (N, L) int64 class numbers.
        graded: whether the grade counts the shared labels or layers; otherwise it is whether one is shared.
        reverse: relevant is what shares none (the errors that MAPP penalises).
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
        if self.by_class:
            return 1 + self.query.shape[1]
        return max(2, 1 + min(int(self.query.sum(1).max()), int(self.database.sum(1).max())))

    @property
    def by_class(self) -> bool:
        """Whether class numbers are compared, instead of labels."""
        return self.query.dtype != torch.bool

    @cached_property
    def packed(self) -> tuple[Tensor, Tensor]:
        """Labels, or class numbers counted from 0, as int64 words: (Q, V) of the queries and (N, V) of the database."""
        if not self.by_class:
            return pack_bits(self.query), pack_bits(self.database)
        numbers = torch.unique(torch.cat([self.query, self.database]), return_inverse=True)[1]
        return numbers[: len(self.query)], numbers[len(self.query) :]

    @cached_property
    def words(self) -> tuple[Array, Array]:
        """The same for the CPU's kernels: uint64, (Q, V) and (V, N)."""
        query, database = (np.ascontiguousarray(side.cpu().numpy()).view(np.uint64) for side in self.packed)
        return query, np.ascontiguousarray(database.T)

    def grade(self, rows: Tensor, items: Tensor) -> Tensor:
        """(P,) grade of single pairs of a query and an item, int64."""
        query, database = self.query[rows], self.database[items]
        shared = (query == database).sum(1) if self.by_class else (query & database).sum(1)
        found = shared if self.grades > 2 else shared.clamp(max=1)
        return (found == 0).long() if self.reverse else found
