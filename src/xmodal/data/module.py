"""The data module that every dataset shares: pairs, a protocol's split, features or raw inputs, and their loaders."""

import sys
from abc import abstractmethod
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader

from xmodal import paths
from xmodal.batch import SIDES, Batch, Features, Side
from xmodal.data.loading import EpochSampler, LabelSampler, batch_loader, in_memory_loader
from xmodal.data.pairs import Pairs
from xmodal.data.raw import RawPairs, Resident, TrunkTraining
from xmodal.data.split import Index, Split
from xmodal.data.trunk_inputs import Role, TrunkInputs
from xmodal.encoders import label_embeddings
from xmodal.errors import UserError
from xmodal.relevance import Relevance, Rule

__all__ = ["CrossModalDataModule", "Pairs", "Rule"]

Scaling = Literal["none", "standard"]


class CrossModalDataModule(TrunkInputs):
    """What every dataset shares. A dataset says where its pairs come from (`pairs`) and how they are split (`split`).

    Args:
        root: the dataset's folder; default `$XMODAL_DATA/<name>`, or `data/<name>` in the checkout.
        batch_size: global batch size: the devices take equal shares of it, to within one pair.
        seed: of the shuffle; the CLI links it to `seed_everything`.
        image_scaling: `standard` subtracts the training mean and divides by the training deviation, per dimension.
        text_scaling: the same for the texts.
        tokens: also load token features, for methods that attend to them.
        relevance: what the evaluation counts as relevant: `label`: at least one shared label; `finest`: the same
            class of the finest layer, for datasets with a hierarchy, whose batches then hold it; `group`: the same
            picture, for datasets with several captions of one.
        per_label: K of P x K sampling: a training batch is drawn as K pairs of each of batch_size / K random labels
            (classes of the finest layer where relevance is `finest`); 0 shuffles all pairs.
        drop_last: leave out a last training batch that is not full, for losses that need large batches.
        subset: keep so many pairs only (half train, a quarter validation, a quarter test); 0 keeps all.
        trunk: which trunks are trained inside the model, on raw pictures and token ids, and how.
    """

    name: str
    labels_from: ClassVar[str | None] = None  # argument without which there are no labels; None: there always are some

    def __init__(
        self,
        root: str | None = None,
        batch_size: int = 128,
        seed: int = 0,
        image_scaling: Scaling = "standard",
        text_scaling: Scaling = "standard",
        tokens: bool = False,
        relevance: Rule = "label",
        per_label: int = 0,
        drop_last: bool = False,
        subset: int = 0,
        trunk: TrunkTraining = TrunkTraining(),
    ) -> None:
        super().__init__(trunk, tokens=tokens)
        if batch_size < 1:
            raise UserError(f"data.batch_size is {batch_size}: give a number from 1.")
        if not 0 <= per_label <= batch_size:
            raise UserError(f"data.per_label is {per_label}: give 0 (no P x K sampling) to batch_size ({batch_size}).")
        if subset and subset < 16:
            raise UserError(f"data.subset is {subset}: give 0 (everything) or a number from 16.")
        if per_label and trunk.compile:  # compiled by the sizes before, which a resumed run has not seen
            raise UserError("data.trunk.compile is for batches of one size, which per_label has not: say false.")
        self.root, self.batch_size, self.seed = Path(root) if root else paths.data(self.name), batch_size, seed
        self.relevance, self.subset, self.per_label, self.drop_last = relevance, subset, per_label, drop_last
        self.scaling: dict[Side, Scaling] = {"image": image_scaling, "text": text_scaling}
        for side, kind in self.scaling.items():
            if trunk.trains(side) and kind != "none":
                raise UserError(f"data.{side}_scaling is {kind!r}: features of a trained trunk change, say 'none'.")
        self._on_device: dict[Role, Batch] = {}

    @abstractmethod
    def split(self) -> Split:
        """The protocol's index lists over the whole dataset."""

    def picture(self, position: int) -> Image.Image | None:
        """The image at a position, for galleries; None where only features are at hand."""
        return None

    def caption(self, position: int) -> str:
        """The text at a position, for galleries; empty where only features are at hand."""
        return ""

    @cached_property
    def _split(self) -> Split:
        split, pairs = self.split(), self._pairs
        split.check(pairs.label, pairs.group, by_picture=self.relevance == "group")
        if same := split.shared(pairs.content):
            sys.stderr.write(f"{self.name}: {same} queries show a picture that is also trained on under another name\n")
        return split.head(self.subset) if self.subset else split

    def judged(self, index: Index) -> Relevance:
        """By what the evaluation judges some pairs, as queries or as a database."""
        return self._pairs.judged(index, self.relevance)

    def positions(self, role: Role) -> Index:
        """Positions in the dataset of the pairs of a role."""
        return cast("Index", getattr(self._split, role))

    def training_texts(self) -> list[str]:
        """Every different training text, for an encoder that learns a vocabulary; as they were when it learnt."""
        train = self.split().train
        _, first = np.unique(self._pairs.of("text", train), return_index=True)
        return [self.caption(int(position)) for position in train[first]]

    def _size(self, side: Side, name: str) -> int:
        if side in self._readers:
            return self._readers[side].sizes.get(name, 0)
        return self._pairs.size(side, name)

    @property
    def image_dim(self) -> int:
        """Size of a pooled image feature."""
        return self._size("image", "pooled")

    @property
    def text_dim(self) -> int:
        """Size of a pooled text feature."""
        return self._size("text", "pooled")

    @property
    def image_token_dim(self) -> int:
        """Size of an image token; 0 where the batches hold none."""
        return self._size("image", "tokens") if self.tokens else 0

    @property
    def text_token_dim(self) -> int:
        """Size of a text token; 0 where the batches hold none."""
        return self._size("text", "tokens") if self.tokens else 0

    @property
    def num_labels(self) -> int:
        """Number of labels C."""
        return int(self._pairs.label.shape[1])

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Number of classes per layer, coarsest first; empty where batches hold no hierarchy."""
        if self.relevance != "finest" or self._pairs.hierarchy is None:
            return ()
        return tuple(int(size) for size in self._pairs.hierarchy.max(0) + 1)

    @property
    def standardised(self) -> tuple[Side, ...]:
        """Sides whose features have mean 0 and deviation 1 in every dimension over the training pairs."""
        return tuple(side for side in SIDES if self.scaling[side] == "standard")

    @property
    def num_train(self) -> int:
        """Number of training pairs."""
        return len(self._split.train)

    def label_embeddings(self) -> Tensor:
        """(C, 384) word vectors of the labels' names, for methods that start from GloVe vectors."""
        return torch.from_numpy(label_embeddings(self._pairs.label_names))

    def describe(self) -> dict[str, Any]:
        """What a run record says of the data: name, protocol hash, sizes and duplicates."""
        return {
            "dataset": self.name,
            "relevance": self.relevance,
            "split_hash": self._split.hash,
            **self._hashes,
            "split_sizes": self._split.sizes(),
            "split_duplicates": sum(self._split.check(self._pairs.label, self._pairs.group).values()),
            "split_same_content": self._split.shared(self._pairs.content),
            "labels": self.num_labels,
            "query_is_database": bool(np.array_equal(self._split.query, self._split.database)),
        }

    @cached_property
    def _hashes(self) -> dict[str, str]:
        brought = self.tokens and not hasattr(self, "image_encoder")  # those of an encoder come with what it pools
        return self._pairs.hashes(self._split, self.relevance, ("tokens", "mask") if brought else ())

    @classmethod
    def prepare(cls, root: str | None = None, **options: Any) -> Self:  # noqa: ANN401 - arguments of the dataset
        """Check, convert and encode the dataset once; `xmodal prepare` calls it."""
        module = cls(root=root, **options)
        module.prepare_data()
        return module

    def prepare_data(self) -> None:
        """Encode and cache; Lightning calls it on one process per machine."""
        _ = self._pairs

    def role(self, role: Role) -> Batch:
        """One role as a single batch on the trainer's device (or the CPU without a trainer); moved there once.

        Tokens are float16 where they were cached so, half the memory; `single` and every loader make them float32. A
        side whose trunk is trained has no features here: pictures are left out, texts are token ids.
        """
        if role not in self._on_device:
            self._on_device[role] = self._batch(self.positions(role), self._device)
        return self._on_device[role]

    def batches(self, role: Role) -> Iterable[Batch]:
        """One role in order and whole on every process, in the batches of an evaluation."""
        loader = self._batches(role, EpochSampler(len(self.positions(role)), self._evaluation_size))
        return (self.transfer_batch_to_device(batch, self._device, 0) for batch in loader)

    @property
    def _evaluation_size(self) -> int:
        if self.trunk.sides == "none":
            return max(self.batch_size, 2048)
        return max(self.batch_size, 1024) if self._device.type == "cuda" else self.batch_size

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Raw inputs are moved; features were made on the device."""
        if self.trunk.sides == "none":
            return batch
        return cast("Batch", super().transfer_batch_to_device(batch, device, dataloader_idx))

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """The model's trunks make features of raw inputs."""
        if self.trunk.sides == "none" or self.trainer is None:
            return batch
        method: Any = self.trainer.lightning_module
        return cast("Batch", method.with_features(batch))

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled training batches."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        """Validation queries, then the database they are searched in."""
        return [self._loader("val_query"), self._loader("val_database")]

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        """Test queries, then the database they are searched in."""
        return [self._loader("query"), self._loader("database")]

    def _loader(self, role: Role, *, shuffle: bool = False) -> DataLoader[Batch]:
        pairs, world = len(self.positions(role)), self.trainer.world_size if self.trainer else 1
        size = self.batch_size if shuffle else self._evaluation_size
        shard = {"seed": self.seed, "rank": self.trainer.global_rank if self.trainer else 0, "world": world}
        if shuffle and self.per_label:
            whole = self.role(role)
            label = one_hot(whole["hierarchy"][:, -1]) if self.relevance == "finest" else whole["label"]
            return self._batches(role, LabelSampler(label, size, self.per_label, **shard), shuffle=True)
        drop_last = shuffle and self.drop_last and pairs > size  # the only batch stays
        sampler = EpochSampler(pairs, size, shuffle=shuffle, drop_last=drop_last, **shard)
        return self._batches(role, sampler, shuffle=shuffle)

    def _batches(self, role: Role, sampler: EpochSampler | LabelSampler, *, shuffle: bool = False) -> DataLoader[Batch]:
        if not self.trunk.trains("image"):
            return in_memory_loader(self.role(role), sampler)
        index, view = self.positions(role), self._readers["image"].view
        rows, form = self._pairs.of("image", index), "wide" if shuffle and self.trunk.augments else "whole"
        if form == "wide" and view is None:
            raise UserError("data.trunk.crop and flip need a trunk that sees the middle of a picture or all of it.")
        read, workers = self._source(role, rows, form)
        resident = isinstance(getattr(read, "__self__", None), Resident)
        whole = self.role(role) if resident else self._batch(index, torch.device("cpu"))  # workers must not touch it
        augment = (view, self.trunk) if form == "wide" else ()
        return batch_loader(RawPairs(whole, rows, read, sampler, *augment), sampler, workers)

    def _batch(self, index: Index, device: torch.device) -> Batch:
        sides = {side: self._features(side, index, device) for side in SIDES}
        columns = self.judged(index).columns()
        return cast("Batch", sides | {name: column.to(device) for name, column in columns.items()})

    def _features(self, side: Side, index: Index, device: torch.device) -> Features:
        if self.tokens and not self._size(side, "tokens"):
            raise UserError(
                f"data.tokens is true, but the {side} features of {self.name} have no tokens: "
                f"choose another {side} encoder."
            )
        if side == "image" and self.trunk.trains(side):
            return cast("Features", {})  # the loader adds the pictures
        kept = {"pooled", "ids"} | ({"tokens", "mask"} if self.tokens else set())
        arrays = self._pairs.take(side, index, kept)
        if "pooled" in arrays:
            mean, deviation = self.moments[side]
            arrays["pooled"].sub_(mean).div_(deviation)  # a copy of the rows
        return cast("Features", {name: array.to(device) for name, array in arrays.items()})

    @cached_property
    def moments(self) -> dict[Side, tuple[Tensor, Tensor]]:
        """Mean and deviation of the pooled training features, (D,) each; 0 and 1 where nothing is scaled."""
        return {
            side: self._pairs.moments(side, self._split.train, scaled=scaling == "standard")
            for side, scaling in self.scaling.items()
            if not self.trunk.trains(side)
        }
