"""A whole dataset in memory: features or what a trained trunk reads, labels, and which rows belong to a pair."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from xmodal.batch import SIDES, Side
from xmodal.data.split import Index, Split
from xmodal.encoders import Arrays
from xmodal.encoders.cache import Indexed
from xmodal.errors import UserError
from xmodal.relevance import Relevance, Rule

Pictures = Indexed[Image.Image | None]
HASHED = 4096  # pairs whose inputs a hash is made of, at most


@dataclass(frozen=True)
class Pairs:
    """A whole dataset, features included.

    Args:
        image: `pooled` (N, D), and `tokens`/`mask` where the encoder gives them; the pictures for a trained trunk.
        text: the same for the texts; `ids` (N, L) for a trained trunk.
        label: (N, C) multi-hot.
        label_names: C names.
        hierarchy: (N, K) class index per layer, coarsest first, or None.
        group: (N,) id of the picture of a pair, for pictures with several captions, or None.
        rows: by side (N,) row of the features of each pair, where several pairs share one.
        content: (N,) number of the content of each pair's picture: equal for files of equal bytes; None if unknown.
        marks: (N,) the same, of the bytes alone: equal in other data as well; None where nobody replaces pictures.
        texts: with `marks`, one of every row of the text side.
        pixels: (M,) number of what each picture holds, where a trained trunk reads the pictures; None elsewhere. A
            class of one's own that leaves it out is not told that pictures were replaced between two runs.
    """

    image: Arrays | Pictures
    text: Arrays
    label: NDArray[np.generic]
    label_names: tuple[str, ...]
    hierarchy: NDArray[np.int64] | None = None
    group: Index | None = None
    rows: Mapping[str, Index] = field(default_factory=dict)
    content: Index | None = None
    marks: Index | None = None
    texts: Sequence[str] = ()
    pixels: Index | None = None

    def arrays(self, side: Side) -> Arrays:
        """The features of a side; none where its pictures are raw."""
        found = getattr(self, side)
        return found if isinstance(found, dict) else {}

    def of(self, side: Side, index: Index) -> Index:
        """The rows of a side that belong to pairs."""
        rows = self.rows.get(side)
        return index if rows is None else rows[index]

    def size(self, side: Side, name: str) -> int:
        """The last dimension of an array; 0 where there is none of that name."""
        arrays = self.arrays(side)
        return int(arrays[name].shape[-1]) if name in arrays else 0

    def take(self, side: Side, index: Index, names: Iterable[str]) -> dict[str, Tensor]:
        """Those arrays of a side that are named, at some pairs; features as float32, but float16 tokens as they are."""
        taken = {name: array[self.of(side, index)] for name, array in self.arrays(side).items() if name in set(names)}
        return {
            name: torch.as_tensor(np.asarray(array) if _kept(name, array) else np.asarray(array, np.float32))
            for name, array in taken.items()
        }

    def judged(self, index: Index, rule: Rule) -> Relevance:
        """What some pairs are judged by.

        Raises:
            UserError: the pairs have nothing of the kind that the rule needs.
        """
        hierarchy = None
        if rule == "finest":
            if self.hierarchy is None:
                raise UserError("data.relevance is 'finest', but this dataset has no hierarchy: say 'label'.")
            hierarchy = self.hierarchy[index]
        elif rule == "group":  # a layer of classes that are the pictures
            if self.group is None:
                raise UserError("data.relevance is 'group', but its pictures have one caption each: say 'label'.")
            hierarchy = self.group[index][:, None]
        return Relevance(
            torch.as_tensor(index),
            torch.as_tensor(np.asarray(self.label[index], np.float32)),
            None if hierarchy is None else torch.as_tensor(hierarchy),
            None if self.group is None else torch.as_tensor(self.group[index]),
        )

    def hashes(self, split: Split, rule: Rule, more: Iterable[str] = ()) -> dict[str, str]:
        """Of what queries and database are judged by, of what is learnt from, and of the inputs of all roles.

        Args:
            split: the roles.
            rule: what the evaluation counts as relevant.
            more: names of inputs beside the pooled ones.
        """
        every = np.unique(np.concatenate([split.train, split.val_query, split.query, split.database]))
        some = every[:: len(every) // HASHED + 1]  # all of a large dataset take seconds, in each trial
        return {
            "relevance_hash": self._judged_hash(np.concatenate([split.query, split.database]), rule),
            "training_hash": self._judged_hash(np.concatenate([split.train, split.val_query]), rule),
            "inputs_hash": self._inputs_hash(some, {"pooled", "ids", *more}),
        }

    def _judged_hash(self, index: Index, rule: Rule) -> str:
        """With other pictures or other texts they are other pairs."""
        judged = self.judged(index, rule).hash
        if self.marks is None:
            return judged
        texts = "\0".join(self.texts[row] for row in self.of("text", index)) if self.texts else ""
        return sha256(judged.encode() + self.marks[index].tobytes() + texts.encode()).hexdigest()[:16]

    def moments(self, side: Side, index: Index, *, scaled: bool) -> tuple[Tensor, Tensor]:
        """(D,) mean and deviation of the pooled features of some pairs; 0 and 1 where they are not to be scaled."""
        pooled = np.asarray(self.arrays(side)["pooled"][self.of(side, index)], np.float32)
        mean, deviation = pooled.mean(0), pooled.std(0)
        deviation[deviation < 1e-6 * max(float(deviation.max()), 1e-12)] = 1  # a constant dimension stays constant
        if not scaled:
            mean, deviation = np.zeros_like(mean), np.ones_like(deviation)
        return torch.from_numpy(mean), torch.from_numpy(deviation)

    def _inputs_hash(self, index: Index, names: Iterable[str]) -> str:
        """Of labels and inputs of some pairs: those of another encoder, or encoded on another CPU, differ."""
        found = [torch.as_tensor(self.label[index])]
        for side in SIDES:
            found += self.take(side, index, names).values()
        found += [] if self.pixels is None else [torch.as_tensor(self.pixels[self.of("image", index)])]
        return sha256(b"".join(each.numpy().tobytes() for each in found)).hexdigest()[:16]


def _kept(name: str, array: NDArray[np.generic]) -> bool:
    return name in ("ids", "mask") or (name == "tokens" and array.dtype == np.float16)
