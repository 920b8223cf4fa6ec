"""Raw pictures and token ids for trunks that are trained inside the model."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from xmodal.batch import Batch, Raw, Side
from xmodal.data.loading import EpochSampler, LabelSampler, on_device_of, take
from xmodal.data.split import Index
from xmodal.encoders import ImageEncoder, PatchProduct, SharedBatchNorm, TextEncoder, Trunk, View, draws
from xmodal.errors import UserError

Read = Callable[[str, Index], tuple[Tensor, Tensor]]  # see `RawPairs`


@dataclass(frozen=True)
class TrunkTraining:
    """Which trunks are trained inside the model, and how. The others are frozen, and their features cached.

    Args:
        sides: `none`, `image`, `text` or `both`.
        frozen_layers: what comes before the first block, and so many blocks (stages of a convolutional network), stay
            as they are; 0 trains everything.
        checkpointing: compute activations again in the backward pass, which saves memory and costs time.
        crop: the least share of its area that a random crop leaves of a training picture; 1 shows whole pictures.
        flip: probability that a training picture is mirrored.
        workers: processes that decode pictures, no influence on the result; default: one per core, at most 16.
        cache: keep decoded pictures on disk, so that each is decoded once, as long as there is room.
        record: record training steps on a GPU as CUDA graphs, for GPUs that wait for launches.
        compile: let `torch.compile` fuse the blocks of the trunks; the first step of a run then takes up to a minute.
        resident: gone; pictures stay on the device by themselves where they fit.

    Raises:
        UserError: a value out of range, or one that acts on nothing.
    """

    sides: Literal["none", "image", "text", "both"] = "none"
    frozen_layers: int = 0
    checkpointing: bool = False
    crop: float = 1.0
    flip: float = 0.0
    workers: int | None = None
    cache: bool = True
    record: bool = True
    compile: bool | Literal["none", "default", "reduce-overhead", "max-autotune"] = False
    resident: bool | None = None

    def __post_init__(self) -> None:
        if self.resident is not None:
            raise UserError(
                "data.trunk.resident is gone: decoded pictures are kept on disk (data.trunk.cache) and stay on the "
                "device by themselves where they fit, with crops and mirroring too."
            )
        if isinstance(self.compile, str):
            raise UserError(
                f"data.trunk.compile is {self.compile!r}: give true or false; steps are recorded as CUDA graphs "
                "(data.trunk.record) either way."
            )
        for name, value, good, allowed in (
            ("crop", self.crop, 0 < self.crop <= 1, "a share above 0, up to 1"),
            ("flip", self.flip, 0 <= self.flip <= 1, "a probability from 0 to 1"),
            ("workers", self.workers, self.workers is None or self.workers >= 0, "0 (none) or more"),
        ):
            if not good:
                raise UserError(f"data.trunk.{name} is {value}: give {allowed}.")
        plain = TrunkTraining if self.sides == "none" else None
        for name in ("frozen_layers", "checkpointing", "crop", "flip", "workers", "cache", "record", "compile"):
            if plain and getattr(self, name) != getattr(plain, name):
                raise UserError(f"data.trunk.{name} acts on trained trunks: say which with data.trunk.sides.")
        if self.sides == "text" and (self.crop, self.flip, self.workers, self.cache) != (1.0, 0.0, None, True):
            raise UserError(
                "data.trunk.crop, flip, workers and cache act on pictures: say data.trunk.sides=both or image."
            )

    @property
    def augments(self) -> bool:
        """Whether training pictures are changed at random."""
        return (self.crop, self.flip) != (1.0, 0.0)

    def trains(self, side: Side) -> bool:
        """Whether the trunk of a side is trained."""
        return self.sides in (side, "both")

    def processes(self, world: int) -> int:
        """How many worker processes each of `world` processes may have."""
        return max(min(os.cpu_count() or 1, 16) // world, 1) if self.workers is None else self.workers

    def build(self, encoder: ImageEncoder | TextEncoder, *, tokens: bool) -> Trunk:
        """A trunk ready to be trained.

        Args:
            encoder: with its weights.
            tokens: whether its features hold tokens.

        Raises:
            UserError: it cannot be trained, its weights are missing, or it has too few layers.
        """
        trunk = encoder.trunk()
        trunk.tokens = tokens
        trunk.freeze(self.frozen_layers)
        if self.checkpointing:
            trunk.set_checkpointing()
            SharedBatchNorm.count_once(trunk)
        PatchProduct.replace_in(trunk)
        if self.compile:
            trunk.compile_blocks()
        return trunk.to(memory_format=torch.channels_last)  # what convolutions are fastest in


@dataclass(frozen=True)
class Reader:
    """How a side is read for its trunk, without the trunk.

    Args:
        transform: see `Trunk`.
        view: see `Trunk`.
        sizes: of the trunk's features, by name.
    """

    transform: Callable[[Any], Tensor]
    view: View | None
    sizes: dict[str, int]

    @classmethod
    def of(cls, trunk: Trunk, side: Side) -> "Reader":
        """What a trunk reads, and the sizes that come out, found by running it once."""
        if side == "image":
            raw = Raw(pixels=trunk.transform(Image.new("RGB", (64, 64)))[None])
        else:
            raw = Raw(ids=trunk.transform([""]))
        modes = [(module, module.training) for module in trunk.modules()]
        with torch.inference_mode(), torch.compiler.set_stance("force_eager"):
            features: dict[str, Any] = dict(trunk.eval()(raw))
        for module, mode in modes:
            module.training = mode
        return cls(trunk.transform, trunk.view, {name: value.shape[-1] for name, value in features.items()})


class RawPairs(Dataset[Batch]):
    """The pairs of a role; indexing with positions gives a batch whose pictures are decoded, read, or on the device.

    Args:
        whole: every pair of the role; the image side is empty.
        rows: (n,) row of the picture of each pair.
        read: gives pictures, (B, 3, H, W), and their widths and heights, (B, 2), for a form and rows.
        sampler: gives the positions; its epoch and seed decide the augmentation.
        view: of the trunk, where pictures are augmented; None: they are not.
        training: how.
    """

    def __init__(
        self,
        whole: Batch,
        rows: Index,
        read: Read,
        sampler: EpochSampler | LabelSampler,
        view: View | None = None,
        training: TrunkTraining | None = None,
    ) -> None:
        self.whole, self.rows, self.read, self.sampler = whole, rows, read, sampler
        self.view, self.training, self.drawn = view, training, (-1, torch.empty(0))

    def __getitem__(self, positions: Tensor) -> Batch:
        batch: Batch = take(self.whole, on_device_of(self.whole["label"], positions))
        some = positions.numpy() if len(positions) else np.zeros(1, np.int64)  # without a pair the shape is wanted
        pixels, sizes = self.read("wide" if self.view else "whole", self.rows[some])
        pixels, sizes = pixels[: len(positions)], sizes[: len(positions)]
        raw = Raw(pixels=pixels)
        if self.view and self.training:
            draws = self._draws()[self.whole_index[positions]]
            window = self.view.windows(draws, sizes, self.training.crop, self.training.flip)
            raw["window"] = on_device_of(self.whole["label"], window)
        return {**batch, "image": raw}  # type: ignore[typeddict-item]

    @cached_property
    def whole_index(self) -> Tensor:
        """(n,) position in the dataset of each pair, on the host."""
        return self.whole["index"].cpu()

    def _draws(self) -> Tensor:
        """The random numbers of the sampler's epoch, a function of seed, epoch and position in the dataset."""
        epoch = self.sampler.epoch
        if self.drawn[0] != epoch:
            self.drawn = epoch, draws(self.sampler.seed, epoch, int(self.whole_index.max()) + 1)
        return self.drawn[1]

    def __len__(self) -> int:
        return len(self.rows)


class Resident:
    """Pictures on the device, and their sizes on the host.

    Args:
        read: where they come from.
        form: `whole` or `wide`.
        rows: of the pictures that are wanted.
        device: where they are to lie.
    """

    def __init__(self, read: Read, form: str, rows: Index, device: torch.device) -> None:
        self.place = np.full(int(rows.max()) + 1, -1, np.int64)
        unique = np.unique(rows)
        self.place[unique] = np.arange(len(unique))
        sizes = []
        for start in range(0, len(unique), 256):
            some, size = read(form, unique[start : start + 256])
            if not start:
                self.pixels = torch.empty((len(unique), *some.shape[1:]), dtype=some.dtype, device=device)
            self.pixels[start : start + len(some)] = some.to(device)
            sizes.append(size)
        self.sizes = torch.cat(sizes)

    def read(self, form: str, rows: Index) -> tuple[Tensor, Tensor]:
        """See `RawPairs`; there is one form only."""
        places = torch.from_numpy(self.place[rows])
        return self.pixels.index_select(0, on_device_of(self.pixels, places)), self.sizes[places]
