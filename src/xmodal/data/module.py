"""The data module that every dataset shares: pairs, a protocol's split, frozen features, and loaders on the device."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from lightning import LightningDataModule
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader

from xmodal import paths
from xmodal.batch import Batch, Features
from xmodal.data.loading import EpochSampler, LabelSampler, in_memory_loader
from xmodal.data.protocol import Index, Split
from xmodal.encoders import Arrays, label_embeddings
from xmodal.errors import UserError

Role = Literal["train", "val_query", "val_database", "query", "database"]
Scaling = Literal["none", "standard"]
Relevance = Literal["label", "finest", "group"]


@dataclass(frozen=True)
class Pairs:
    """A whole dataset, features included.

    Args:
        image: `pooled` (N, D), and `tokens`/`mask` where the encoder gives them.
        text: the same for the texts.
        label: (N, C) multi-hot.
        label_names: C names.
        hierarchy: (N, K) class index per layer, coarsest first, or None.
        group: (N,) id of the picture of a pair, for pictures with several captions, or None.
        rows: by side (N,) row of the features of each pair, where several pairs share one.
    """

    image: Arrays
    text: Arrays
    label: NDArray[np.generic]
    label_names: tuple[str, ...]
    hierarchy: NDArray[np.int64] | None = None
    group: Index | None = None
    rows: Mapping[str, Index] = field(default_factory=dict)


class CrossModalDataModule(LightningDataModule):
    """What every dataset shares. A dataset says where its pairs come from (`pairs`) and how they are split (`split`).

    Args:
        root: the dataset's folder; default `$XMODAL_DATA/<name>`, or `data/<name>` in the checkout.
        batch_size: global batch size: it is divided among the devices.
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
    """

    name: str

    def __init__(
        self,
        root: str | None = None,
        batch_size: int = 128,
        seed: int = 0,
        image_scaling: Scaling = "standard",
        text_scaling: Scaling = "standard",
        tokens: bool = False,
        relevance: Relevance = "label",
        per_label: int = 0,
        drop_last: bool = False,
        subset: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise UserError(f"data.batch_size is {batch_size}: give a number from 1.")
        if not 0 <= per_label <= batch_size:
            raise UserError(f"data.per_label is {per_label}: give 0 (no P x K sampling) to batch_size ({batch_size}).")
        if subset and subset < 16:
            raise UserError(f"data.subset is {subset}: give 0 (everything) or a number from 16.")
        self.root = Path(root) if root else paths.data(self.name)
        self.batch_size, self.seed, self.tokens, self.relevance, self.subset = (
            batch_size,
            seed,
            tokens,
            relevance,
            subset,
        )
        self.per_label, self.drop_last = per_label, drop_last
        self.scaling: dict[str, Scaling] = {"image": image_scaling, "text": text_scaling}
        self._on_device: dict[Role, Batch] = {}

    @abstractmethod
    def pairs(self) -> Pairs:
        """Every pair of the dataset, encoded."""

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
    def _pairs(self) -> Pairs:
        return self.pairs()

    @cached_property
    def _split(self) -> Split:
        split = self.split()
        split.check(self._pairs.label)
        return split.head(self.subset) if self.subset else split

    @property
    def image_dim(self) -> int:
        """Size of a pooled image feature."""
        return int(self._pairs.image["pooled"].shape[1])

    @property
    def text_dim(self) -> int:
        """Size of a pooled text feature."""
        return int(self._pairs.text["pooled"].shape[1])

    @property
    def image_token_dim(self) -> int:
        """Size of an image token; 0 where the batches hold none."""
        return self._token_dim(self._pairs.image)

    @property
    def text_token_dim(self) -> int:
        """Size of a text token; 0 where the batches hold none."""
        return self._token_dim(self._pairs.text)

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
            "split_sizes": self._split.sizes(),
            "split_duplicates": sum(self._split.check(self._pairs.label).values()),
            "labels": self.num_labels,
            "query_is_database": bool(np.array_equal(self._split.query, self._split.database)),
        }

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
        """One role as a single batch on the trainer's device (or the CPU without a trainer); moved there once."""
        if role not in self._on_device:
            device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
            self._on_device[role] = self._batch(getattr(self._split, role), device)
        return self._on_device[role]

    def train_set(self) -> Batch:
        """Every training pair as one batch, for methods with a closed form or with tables over the training set."""
        return self.role("train")

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """The batch as it is: its tensors were made on the device."""
        return batch

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
        whole, world = self.role(role), self.trainer.world_size if self.trainer else 1
        size = self.batch_size if shuffle else max(self.batch_size, 2048)
        if size % world:
            raise UserError(f"data.batch_size={size} does not divide among {world} devices.")
        shard = {"seed": self.seed, "rank": self.trainer.global_rank if self.trainer else 0, "world": world}
        if shuffle and self.per_label:
            label = one_hot(whole["hierarchy"][:, -1]) if self.relevance == "finest" else whole["label"]
            return in_memory_loader(whole, LabelSampler(label, size, self.per_label, **shard))
        pairs = len(whole["label"])
        drop_last = shuffle and self.drop_last and pairs > size  # the only batch stays
        sampler = EpochSampler(pairs, size, shuffle=shuffle, drop_last=drop_last, **shard)
        return in_memory_loader(whole, sampler)

    def _batch(self, index: Index, device: torch.device) -> Batch:
        batch = Batch(
            image=self._features("image", index, device),
            text=self._features("text", index, device),
            label=torch.as_tensor(np.asarray(self._pairs.label[index], np.float32), device=device),
            index=torch.as_tensor(index, device=device),
        )
        if self.relevance == "finest":
            if self._pairs.hierarchy is None:
                raise UserError(f"data.relevance is 'finest', but {self.name} has no hierarchy: say 'label'.")
            batch["hierarchy"] = torch.as_tensor(self._pairs.hierarchy[index], device=device)
        if self._pairs.group is not None:
            batch["group"] = torch.as_tensor(self._pairs.group[index], device=device)
        if self.relevance == "group":  # a layer of classes that are the pictures
            if self._pairs.group is None:
                raise UserError(f"data.relevance is 'group', but {self.name} has one caption a picture: say 'label'.")
            batch["hierarchy"] = batch["group"][:, None]
        return batch

    def _features(self, side: Literal["image", "text"], index: Index, device: torch.device) -> Features:
        arrays: Arrays = getattr(self._pairs, side)
        index = self._rows(side, index)
        mean, deviation = self._moments[side]
        pooled = torch.as_tensor(np.asarray(arrays["pooled"][index], np.float32))
        features = Features(pooled=((pooled - mean) / deviation).to(device))
        if self.tokens:
            if "tokens" not in arrays:
                raise UserError(
                    f"data.tokens is true, but the {side} features of {self.name} have no tokens: "
                    f"choose another {side} encoder."
                )
            features["tokens"] = torch.as_tensor(np.asarray(arrays["tokens"][index], np.float32), device=device)
            if "mask" in arrays:
                features["mask"] = torch.as_tensor(np.asarray(arrays["mask"][index]), device=device)
        return features

    def _token_dim(self, arrays: Arrays) -> int:
        return int(arrays["tokens"].shape[2]) if self.tokens and "tokens" in arrays else 0

    def _rows(self, side: str, index: Index) -> Index:
        rows = self._pairs.rows.get(side)
        return index if rows is None else rows[index]

    @cached_property
    def _moments(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Mean and deviation of the pooled training features, (D,) each; 0 and 1 where nothing is scaled."""
        moments = {}
        for side, scaling in self.scaling.items():
            rows = self._rows(side, self._split.train)
            train = np.asarray(getattr(self._pairs, side)["pooled"][rows], np.float32)
            mean, deviation = train.mean(0), train.std(0)
            deviation[deviation < 1e-6 * max(float(deviation.max()), 1e-12)] = 1  # a constant dimension stays constant
            if scaling == "none":
                mean, deviation = np.zeros_like(mean), np.ones_like(deviation)
            moments[side] = (torch.from_numpy(mean), torch.from_numpy(deviation))
        return moments
