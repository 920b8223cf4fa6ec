"""Named protocols: how the literature cuts a dataset into queries, training pairs and database, as read in its code.

A recipe fixes the test roles exactly. Validation pairs, which no published recipe has, are cut out of its training
pairs, so that nothing is chosen on the queries.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from xmodal.data.split import Drawing, Index, Split, make_split
from xmodal.errors import UserError

Roles = Mapping[str, Index]


class Recipe(Protocol):
    """A named protocol."""

    @property
    def words(self) -> str:
        """What it does and where it was read, for lists."""

    def split(self, label: NDArray[np.generic], roles: Roles, val: int, group: Index | None = None) -> Split:
        """The index lists over a dataset.

        Args:
            label: (N, C) multi-hot labels.
            roles: official lists of positions that the release brings (`train`, `val`, `test`).
            val: validation pairs to cut out of the training pairs.
            group: (N,) picture of each pair, where a picture has several captions: they stay together, so that a role
                has a few pairs more than asked for.

        Raises:
            UserError: the dataset is not the one the recipe was written for, or is too small.
        """


@dataclass(frozen=True)
class Cut:
    """Queries, then training pairs, then the rest of the database, along an order.

    Args:
        words: see `Recipe`.
        query: number of queries.
        train: number of training pairs; None: every pair that is not a query.
        order: `file`: as the files have it; `legacy`: `numpy.random.RandomState(seed).permutation` (what
            `numpy.random.seed` gives); `modern`: `numpy.random.default_rng(seed).permutation`.
        seed: of the permutation.
        last: the queries are the last of the order, and the training pairs still its first.
        size: number of pairs the recipe was written for; None: any.
    """

    words: str
    query: int
    train: int | None
    order: Literal["file", "legacy", "modern"] = "file"
    seed: int = 0
    last: bool = False
    size: int | None = None

    def split(self, label: NDArray[np.generic], roles: Roles, val: int, group: Index | None = None) -> Split:
        """See `Recipe`."""
        pairs = _sized(len(label), self.size)
        drawing = Drawing(pairs, group)
        order = np.arange(drawing.pictures)
        if self.order == "legacy":
            order = np.random.RandomState(self.seed).permutation(drawing.pictures)
        elif self.order == "modern":
            order = np.random.default_rng(self.seed).permutation(drawing.pictures)
        order = drawing.pairs(order)
        train = pairs - self.query if self.train is None else self.train
        if self.query < 1 or train < 2 or self.query + train > pairs:
            raise UserError(
                f"the protocol takes {self.query} queries and {train} training pairs, but there are {pairs} pairs: "
                "choose another protocol, or smaller data.query and data.train."
            )
        if self.last:
            query = order[pairs - drawing.cut(order[::-1], self.query) :]
            others = order[: pairs - len(query)]
        else:
            query, others = np.split(order, [drawing.cut(order, self.query)])
        cut = drawing.cut(others, min(train, len(others)))
        pool, rest = others[:cut], others[cut:]
        return make_split(pool, np.sort(query), val, seed=0, database="train", rest=rest, group=group)


@dataclass(frozen=True)
class Drawn:
    """Queries drawn from all pairs, whatever their number, as for a folder of one's own.

    Args:
        words: see `Recipe`.
        query: number of queries; a few more where pictures have several captions.
        database: `test`: the queries' own pairs are the gallery; `train`: everything that is not a query.
    """

    words: str
    query: int
    database: Literal["test", "train"]

    def split(self, label: NDArray[np.generic], roles: Roles, val: int, group: Index | None = None) -> Split:
        """See `Recipe`."""
        drawing = Drawing(len(label), group)
        order = drawing.pairs(np.random.default_rng(0).permutation(drawing.pictures))
        query, pool = np.split(order, [drawing.cut(order, self.query)])
        return make_split(np.sort(pool), np.sort(query), val, seed=1, database=self.database, group=group)


@dataclass(frozen=True)
class PerLabel:
    """Queries and training pairs drawn label by label among the pairs that no earlier label took, as DJSRH does.

    Args:
        words: see `Recipe`.
        train: number of training pairs.
        size: number of pairs the recipe was written for.
        first: queries of the first label; as many times 2.5 are drawn for training.
        each: queries of each other label; as many times 2.5 are drawn for training.
        seed: of the draws; the authors' code sets none, so their lists cannot be had again.
    """

    words: str
    train: int = 5000
    size: int | None = None
    first: int = 160
    each: int = 80
    seed: int = 0

    def split(self, label: NDArray[np.generic], roles: Roles, val: int, group: Index | None = None) -> Split:
        """See `Recipe`."""
        pairs = _sized(len(label), self.size)
        if group is not None and len(np.unique(group)) < pairs:
            raise UserError(
                "this protocol draws single pairs and would tear the captions of a picture apart: choose another."
            )
        random = np.random.RandomState(self.seed)
        taken, query, pool = np.zeros(pairs, bool), [], []
        for column in range(label.shape[1]):
            index = random.permutation(np.flatnonzero(label[:, column]))
            index, queries = index[~taken[index]], self.each if column else self.first
            query.append(index[:queries])
            pool.append(index[queries : queries + 5 * queries // 2])
            taken[index[: queries + 5 * queries // 2]] = True
        rest = random.permutation(np.flatnonzero(~taken))
        drawn = np.concatenate(pool)
        fill = max(self.train - len(drawn), 0)
        train, others = np.concatenate([drawn, rest[:fill]]), rest[fill:]
        return make_split(train, np.sort(np.concatenate(query)), val, seed=0, database="train", rest=others)


@dataclass(frozen=True)
class Official:
    """The lists that the release brings: its test pairs are the queries; its validation pairs, if any, the validation.

    Args:
        words: see `Recipe`.
        database: `test`: the gallery is the queries' own pairs; `train`: the training pairs; `others`: those and the
            validation pairs.
        size: number of pairs in all lists; None: any.
    """

    words: str
    database: Literal["test", "train", "others"] = "test"
    size: int | None = None

    def split(self, label: NDArray[np.generic], roles: Roles, val: int, group: Index | None = None) -> Split:
        """See `Recipe`."""
        if "train" not in roles or "test" not in roles:
            raise UserError("these files bring no official lists of training and test pairs: choose another protocol.")
        _sized(sum(map(len, roles.values())), self.size)
        train, test = np.sort(roles["train"]), np.sort(roles["test"])
        if "val" not in roles:
            return make_split(train, test, val, seed=0, database=self.database, group=group)
        held = np.sort(roles["val"])
        if self.database == "test":
            return Split(train, held, held, test, test)
        return Split(train, held, train, test, train if self.database == "train" else np.union1d(train, held))


def _sized(pairs: int, size: int | None) -> int:
    if size is not None and pairs != size:
        raise UserError(
            f"the protocol was written for {size:,} pairs, but these files hold {pairs:,}: choose another protocol, "
            "such as `xmodal`, which takes any number."
        )
    return pairs
