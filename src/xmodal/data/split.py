"""A protocol's resolved index lists, their hash, and the checks that every split must pass."""

import hashlib
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from xmodal.errors import UserError

Index = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Positions of the pairs in the dataset, one list per role.

    `database` either equals `query` (the gallery is the other modality of the query pairs themselves, as real-valued
    methods are usually reported) or is disjoint from it and holds `train` (as hashing methods are). `val_query` and
    `val_database` mirror that within the training pool.

    Args:
        train: pairs that parameters are learnt from.
        val_query: queries of the validation, never trained on.
        val_database: what they are searched in.
        query: queries of the test, opened once.
        database: what they are searched in.
    """

    train: Index
    val_query: Index
    val_database: Index
    query: Index
    database: Index

    @property
    def hash(self) -> str:
        """SHA-256 over the names and the values of the five lists: equal hashes, equal splits."""
        digest = hashlib.sha256()
        for field in fields(self):
            digest.update(field.name.encode() + b"\0" + getattr(self, field.name).astype("<i8").tobytes() + b"\0")
        return digest.hexdigest()

    def sizes(self) -> dict[str, int]:
        """Number of pairs per role."""
        return {field.name: len(getattr(self, field.name)) for field in fields(self)}

    def check(
        self, label: NDArray[np.generic], group: Index | None = None, *, by_picture: bool = False
    ) -> dict[str, int]:
        """Refuse a split that would leak or that cannot be scored.

        Args:
            label: (N, C) multi-hot labels of the whole dataset.
            group: (N,) picture of each pair, where a picture has several captions: roles may not share one.
            by_picture: relevant is what shows or describes the same picture.

        Returns:
            What is allowed but worth knowing: duplicate positions per role.

        Raises:
            UserError: a position outside the dataset, an empty role, a leak between roles, a pair without a label, or
                queries to which nothing is relevant.
        """
        duplicates = {}
        for field in fields(self):
            index = getattr(self, field.name)
            if len(index) == 0:
                raise UserError(f"the split's {field.name} is empty: ask for more pairs or another protocol.")
            if index.min() < 0 or index.max() >= len(label):
                raise UserError(
                    f"the split's {field.name} names pair {int(index.max())}, but the dataset holds {len(label)}."
                )
            duplicates[field.name] = len(index) - len(np.unique(index))
        held_out = np.union1d(self.query, self.val_query)
        _disjoint("train", self.train, "query and val_query", held_out, group)
        _disjoint("val_database", self.val_database, "query", self.query, group)
        _disjoint("query", self.query, "val_query", self.val_query, group)
        for name, query, database in (
            ("test", self.query, self.database),
            ("validation", self.val_query, self.val_database),
        ):
            if np.array_equal(query, database):
                continue
            _disjoint(f"{name} query", query, f"{name} database", database, group)
            if missing := len(np.setdiff1d(self.train, database)):
                raise UserError(f"{missing} training pairs are missing from the {name} database.")
            if not (by_picture or (label[query].any(axis=0) & label[database].any(axis=0)).any()):
                raise UserError(
                    f"no {name} query shares a label with the pairs that are searched, so that every score would be 0: "
                    "choose another protocol, or labels that more pairs have."
                )
        if by_picture and group is not None and not np.isin(group[self.query], group[self.database]).any():
            raise UserError(
                "data.relevance is 'group', but no query's picture is in the database of this protocol, and nothing "
                "else is relevant: choose a protocol whose queries are searched in their own pairs, or say 'label'."
            )
        used = np.unique(np.concatenate([getattr(self, field.name) for field in fields(self)]))
        if empty := int((~label[used].any(axis=1)).sum()):
            raise UserError(f"{empty} pairs of the split have no label: drop them in the dataset's reader.")
        return duplicates

    def shared(self, content: Index | None) -> int:
        """Test and validation queries whose picture has the content (N,) of one in `train`; 0 where it is unknown."""
        if content is None:
            return 0
        return int(np.isin(content[np.concatenate([self.query, self.val_query])], content[self.train]).sum())

    def head(self, pairs: int) -> "Split":
        """A small split for smoke tests: half of `pairs` for training, a quarter each for validation and test."""
        train, val_query, query = self.train[: pairs // 2], self.val_query[: pairs // 4], self.query[: pairs // 4]
        same = np.array_equal(self.query, self.database)
        return Split(train, val_query, val_query if same else train, query, query if same else train)


def _disjoint(name: str, index: Index, other_name: str, other: Index, group: Index | None) -> None:
    if shared := len(np.intersect1d(index, other)):
        raise UserError(f"the split leaks: {shared} pairs are in both {name} and {other_name}.")
    if group is not None and (shared := len(np.intersect1d(group[index], group[other]))):
        raise UserError(
            f"the split leaks: {shared} pictures have captions in both {name} and {other_name}. Keep the captions of a "
            "picture together."
        )


class Drawing:
    """Draws that keep the captions of a picture together; without such pictures, draws of single pairs.

    Args:
        size: number of pairs.
        group: (N,) picture of each pair, where a picture has several captions; None: every pair has its own.
    """

    def __init__(self, size: int, group: Index | None = None) -> None:
        pictures = None if group is None else np.unique(group, return_inverse=True)[1]
        self.picture = np.arange(size) if pictures is None else pictures
        self.pictures = size if pictures is None else int(pictures.max(initial=-1)) + 1

    def pairs(self, order: Index) -> Index:
        """The pairs of all pictures, picture by picture in this order (a permutation of the pictures)."""
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        return np.argsort(place[self.picture], kind="stable")

    def cut(self, index: Index, count: int) -> int:
        """Where to cut pairs that lie picture by picture: at least `count` of them, and whole pictures."""
        if not 0 < count < len(index):
            return count
        picture = self.picture[index]
        ends = np.flatnonzero(picture[1:] != picture[:-1]) + 1
        return int(ends[np.searchsorted(ends, count)]) if len(ends) and count <= ends[-1] else len(index)


def make_split(
    pool: Index,
    query: Index,
    val: int,
    seed: int,
    database: str,
    rest: Index | None = None,
    group: Index | None = None,
) -> Split:
    """Cut `val` validation pairs out of the training pool and lay out the roles.

    Args:
        pool: pairs that may be trained on.
        query: test pairs.
        val: number of validation pairs, drawn from `pool` by `numpy.random.default_rng(seed)`; a few more where
            pictures have several captions.
        seed: of that draw; belongs to the protocol, not to the run.
        database: `test`: the queries' own pairs are the gallery; `train`: everything but the queries is.
        rest: further pairs of the database that are not trained on.
        group: (N,) picture of each pair of the dataset, where a picture has several captions.

    Raises:
        UserError: `val` does not leave a training set.
    """
    drawing = Drawing(len(pool), None if group is None else group[pool])
    order = drawing.pairs(np.random.default_rng(seed).permutation(drawing.pictures))
    cut = drawing.cut(order, val)
    if not 0 < cut < len(pool):
        raise UserError(f"val={val} of {len(pool)} training pairs: give a number from 1 to {len(pool) - 1}.")
    val_query, train = np.sort(pool[order[:cut]]), np.sort(pool[order[cut:]])
    if database == "test":
        return Split(train, val_query, val_query, query, query)
    others = pool if rest is None else np.concatenate([pool, rest])
    return Split(train, val_query, train, query, np.sort(others))
