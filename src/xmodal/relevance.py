"""What is relevant to a query: one meaning for the metric, the gallery, saved codes, `xmodal evaluate` and splits."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

import torch
from torch import Tensor

from xmodal.batch import Side

Rule = Literal["label", "finest", "group"]
COLUMNS = ("index", "label", "hierarchy", "group")


@dataclass(frozen=True)
class Relevance:
    """What N pairs are judged by, as queries or as the database that is searched.

    Relevant to a query is an item of the same class in the last layer; without layers, one that shares a label. A
    batch, the states of the metric and a file of codes hold the same columns under the same names. The data module
    fills them by its rule: `finest` gives the layers of a hierarchy, `group` one layer whose classes are the pictures.

    Attributes:
        index: (N,) int64 position of each pair in its dataset.
        label: (N, C) multi-hot, or (N,) int64 class numbers.
        hierarchy: (N, K) int64 class number in each layer, coarsest first.
        group: (N,) int64 number of the picture of each pair, where a picture has several captions.
    """

    index: Tensor
    label: Tensor
    hierarchy: Tensor | None = None
    group: Tensor | None = None

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> "Relevance":
        """Read the columns of a batch or a file, tensors or arrays; others are left alone."""
        return cls(**{name: torch.as_tensor(columns[name]) for name in COLUMNS if name in columns})

    def columns(self) -> dict[str, Tensor]:
        """The columns that there are, by name; `of` reads them back."""
        return {name: column for name, column in vars(self).items() if column is not None}

    @property
    def hash(self) -> str:
        """SHA-256 of the columns and their names, 16 hex digits: equal hashes, equal answers to the same queries."""
        digest = sha256()
        for name, column in self.columns().items():
            digest.update(f"{name} {tuple(column.shape)}\0".encode() + column.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def at(self, rows: Tensor) -> "Relevance":
        """Some of the pairs."""
        return Relevance(**{name: column[rows] for name, column in self.columns().items()})

    @property
    def layers(self) -> Tensor | None:
        """(N, K) class numbers, of which the last decides; None where shared labels decide."""
        return self.label[:, None] if self.hierarchy is None and self.label.ndim == 1 else self.hierarchy

    def relevant(self, database: "Relevance") -> Tensor:
        """(Q, N) whether each item of a database is relevant to each of these queries."""
        own, other = self.layers, database.layers
        if own is not None and other is not None:
            return own[:, -1:] == other[:, -1]
        return self.label.float() @ database.label.float().T > 0

    def identity(self, side: Side) -> Tensor:
        """(N,) number of the item that a pair has on a side: captions of one picture share their image."""
        return self.index if side == "text" or self.group is None else self.group

    def distinct(self, side: Side) -> Tensor | None:
        """Rows of the first pair in the dataset of every item of a side, ascending; None where each has one pair."""
        if side == "text" or self.group is None:
            return None
        order = self.index.argsort()
        order = order[self.group[order].argsort(stable=True)]
        values = self.group[order]
        first = torch.ones_like(values, dtype=torch.bool)
        first[1:] = values[1:] != values[:-1]
        return order[first].sort().values

    def items(self, side: Side) -> tuple[Tensor, Tensor]:
        """Position in the dataset of every different item of a side, rising, and the row of its first pair."""
        distinct = self.distinct(side)
        rows = torch.arange(len(self.index)) if distinct is None else distinct
        rows = rows[self.index[rows].argsort()]
        return self.index[rows], rows

    def itself(self, database: "Relevance", side: Side) -> Tensor:
        """(Q,) row of each query's own item among the different items of a database, -1 where it is not there."""
        asked, there = self.identity(side), database.identity(side)
        values, order = there.sort()
        place = torch.searchsorted(values, asked).clamp(max=len(values) - 1)
        return torch.where(values[place] == asked, order[place], -1)
