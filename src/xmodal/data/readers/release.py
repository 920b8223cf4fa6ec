"""What a reader found in a dataset's files, before anything is encoded; and the checks that every reader needs."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodal.data.readers.arrays import finite
from xmodal.data.readers.files import Photos, Pixels
from xmodal.data.readers.listing import MOST
from xmodal.data.split import Index
from xmodal.encoders import Arrays
from xmodal.errors import UserError


@dataclass(frozen=True)
class Release:
    """A dataset as its files give it.

    Args:
        source: the form the files came in, such as `djsrh` or `original`.
        image: features (M, D), the same with tokens, or pictures.
        text: features (M, D), the same with tokens, or strings.
        label: (N, C) multi-hot.
        label_names: C names.
        image_rows: (N,) row of `image` of each pair; None: one row per pair.
        text_rows: the same for `text`.
        hierarchy: (N, K) class per layer, coarsest first.
        group: (N,) id of the picture, where it has several captions.
        roles: official lists of positions, `train`, `val`, `test`.
        notes: what was left out or decided, for the run record.
    """

    source: str
    image: NDArray[Any] | Arrays | Photos | Pixels
    text: NDArray[Any] | Arrays | Sequence[str]
    label: NDArray[np.uint8]
    label_names: tuple[str, ...]
    image_rows: Index | None = None
    text_rows: Index | None = None
    hierarchy: NDArray[np.int64] | None = None
    group: Index | None = None
    roles: Mapping[str, Index] = field(default_factory=dict)
    notes: Mapping[str, object] = field(default_factory=dict)

    @cached_property
    def picture(self) -> Index | None:
        """(N,) number of each pair's picture, by its file name, group or row; None where each pair has its own."""
        rows = np.arange(len(self.label)) if self.image_rows is None else self.image_rows
        if isinstance(self.image, Photos):
            first: dict[str, int] = {}
            shown = np.array([first.setdefault(name, row) for row, name in enumerate(self.image.names)])[rows]
        else:
            shown = rows if self.group is None else self.group
        several = len(np.unique(shown)) < len(shown)
        return np.asarray(shown, np.int64) if several or self.group is not None else None

    def take(self, kept: Index, **notes: object) -> "Release":
        """Only some pairs, in the given order; rows of features and pictures stay where they are."""
        position = np.full(len(self.label), -1)
        position[kept] = np.arange(len(kept))
        roles = {name: position[index][position[index] >= 0] for name, index in self.roles.items()}
        every = np.arange(len(self.label))
        return replace(
            self,
            label=self.label[kept],
            image_rows=(every if self.image_rows is None else self.image_rows)[kept],
            text_rows=(every if self.text_rows is None else self.text_rows)[kept],
            hierarchy=None if self.hierarchy is None else self.hierarchy[kept],
            group=None if self.group is None else self.group[kept],
            roles=roles,
            notes={**self.notes, **notes},
        )

    def labelled(self) -> "Release":
        """Without the pairs that have no label; their number is noted."""
        has = self.label.any(axis=1)
        return self if has.all() else self.take(np.flatnonzero(has), left_out_without_label=int((~has).sum()))


def multi_hot(values: NDArray[Any], what: str, classes: int | None = None) -> NDArray[np.uint8]:
    """(N, C) labels from a multi-hot matrix, or from class numbers (N,), (N, 1) or (1, N) that start at 0 or 1.

    Args:
        values: of the file.
        what: names them in messages.
        classes: C, where the dataset fixes it.

    Raises:
        UserError: anything else, or another number of classes.
    """
    array = finite(np.asarray(values), what)
    if array.ndim == 2 and 1 not in array.shape:
        if not np.isin(array, (0, 1)).all():
            wrong = array[~np.isin(array, (0, 1))][0]
            raise UserError(f"{what} holds {wrong}: multi-hot labels are 0 or 1.")
        label = array.astype(np.uint8)
    else:
        numbers = array.ravel().astype(np.int64)
        if (numbers != array.ravel()).any() or numbers.min() not in (0, 1):
            raise UserError(f"{what} holds classes from {array.min()} to {array.max()}: they count from 0 or from 1.")
        numbers = numbers - numbers.min()
        count = int(numbers.max()) + 1 if classes is None else classes
        if numbers.max() >= count:
            raise UserError(f"{what} holds class {numbers.max() + 1} of {count}: out of range.")
        if count > MOST:
            raise UserError(f"{what} holds the class {array.max()}: {MOST:,} classes are the most.")
        label = np.zeros((len(numbers), count), np.uint8)
        label[np.arange(len(numbers)), numbers] = 1
    if classes is not None and label.shape[1] != classes:
        raise UserError(f"{what} holds {label.shape[1]} labels, the dataset has {classes}: is it another variant?")
    return label


def indicator(rows: Sequence[Iterable[str]], names: Sequence[str]) -> NDArray[np.uint8]:
    """(N, C) which of C names, each there once, occur in every row; other words of a row count for nothing."""
    column = {name: place for place, name in enumerate(names)}
    found = np.zeros((len(rows), len(names)), np.uint8)
    for row, words in enumerate(rows):
        found[row, [column[word] for word in words if word in column]] = 1
    return found


def layers(label: NDArray[np.uint8], sizes: Sequence[int], what: str) -> NDArray[np.int64]:
    """(N, K) class per layer, from labels whose columns are the layers one after another.

    Raises:
        UserError: the columns do not add up, or a pair has not exactly one class of a layer.
    """
    if label.shape[1] != sum(sizes):
        raise UserError(
            f"{what} holds {label.shape[1]} labels, but the layers have {' + '.join(map(str, sizes))}: is it another?"
        )
    parts = np.split(label, np.cumsum(sizes)[:-1], axis=1)
    for number, part in enumerate(parts, 1):
        if wrong := int((part.sum(1) != 1).sum()):
            raise UserError(f"{what}: {wrong} pairs have not exactly one class of layer {number}.")
    return np.stack([part.argmax(1) for part in parts], 1).astype(np.int64)


def off_tree(hierarchy: NDArray[np.int64]) -> tuple[NDArray[np.bool_], dict[tuple[int, int], tuple[int, ...]]]:
    """Which pairs leave the tree, when every class keeps the parent that most of its pairs have.

    Returns:
        (N,) True for a pair that has another parent somewhere, and by (layer from 1, class) the parents of each class
        with several.
    """
    wrong = np.zeros(len(hierarchy), bool)
    several: dict[tuple[int, int], tuple[int, ...]] = {}
    for layer in range(1, hierarchy.shape[1]):
        parents: dict[int, Counter[int]] = defaultdict(Counter)
        for parent, child in hierarchy[:, layer - 1 : layer + 1].tolist():
            parents[child][parent] += 1
        main = {child: min(counts, key=lambda parent: (-counts[parent], parent)) for child, counts in parents.items()}
        several |= {(layer + 1, child): tuple(counts) for child, counts in parents.items() if len(counts) > 1}
        wrong |= np.array([main[child] for child in hierarchy[:, layer].tolist()]) != hierarchy[:, layer - 1]
    return wrong, several
