"""Raw pictures and token ids for trunks that are trained inside the model."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from xmodal.batch import Batch, Raw, Side
from xmodal.data.loading import EpochSampler, LabelSampler, batch_loader, take
from xmodal.data.pairs import Pictures
from xmodal.data.protocol import Index
from xmodal.encoders import ImageEncoder, PatchProduct, TextEncoder, Trunk
from xmodal.errors import UserError


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
        compile: let `torch.compile` fuse the trunks, in one of its modes; the first steps of a run then take a minute.
            `reduce-overhead` also records them as CUDA graphs, for GPUs that wait for launches.
        resident: decode the training and validation pictures once and keep their pixels on the device: 150 kB each at
            224 px with TimmImage, 600 kB with OpenClipImage.

    Raises:
        UserError: a value out of range, or one that acts on nothing.
    """

    sides: Literal["none", "image", "text", "both"] = "none"
    frozen_layers: int = 0
    checkpointing: bool = False
    crop: float = 1.0
    flip: float = 0.0
    workers: int | None = None
    compile: Literal["none", "default", "reduce-overhead", "max-autotune"] = "none"
    resident: bool = False

    def __post_init__(self) -> None:
        for name, value, good, allowed in (
            ("crop", self.crop, 0 < self.crop <= 1, "a share above 0, up to 1"),
            ("flip", self.flip, 0 <= self.flip <= 1, "a probability from 0 to 1"),
            ("workers", self.workers, self.workers is None or self.workers >= 0, "0 (none) or more"),
        ):
            if not good:
                raise UserError(f"data.trunk.{name} is {value}: give {allowed}.")
        plain = TrunkTraining if self.sides == "none" else None
        for name in ("frozen_layers", "checkpointing", "crop", "flip", "workers", "compile", "resident"):
            if plain and getattr(self, name) != getattr(plain, name):
                raise UserError(f"data.trunk.{name} acts on trained trunks: say which with data.trunk.sides.")
        if self.sides == "text" and (self.crop, self.flip, self.workers, self.resident) != (1.0, 0.0, None, False):
            raise UserError(
                "data.trunk.crop, flip, workers and resident act on pictures: say data.trunk.sides=both or image."
            )
        if self.resident and (self.crop, self.flip) != (1.0, 0.0):
            raise UserError("data.trunk.crop and flip act when a picture is decoded: say data.trunk.resident=false.")

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
        PatchProduct.replace_in(trunk)
        if self.compile != "none":
            trunk.compile(mode=self.compile)
        return trunk.to(memory_format=torch.channels_last)  # what convolutions are fastest in

    def augment(self, picture: Image.Image, seed: tuple[int, int, int]) -> Image.Image:
        """A random crop of the picture's own shape, mirrored or not; a function of (seed, epoch, index) only."""
        draws = np.random.default_rng(seed)
        side = float(np.sqrt(draws.uniform(self.crop, 1)))
        width, height = (max(round(side * length), 1) for length in picture.size)
        left, top = draws.integers(picture.width - width + 1), draws.integers(picture.height - height + 1)
        flipped = draws.random() < self.flip
        if (width, height) != picture.size:
            picture = picture.crop((int(left), int(top), int(left) + width, int(top) + height))
        return ImageOps.mirror(picture) if flipped else picture


@dataclass(frozen=True)
class Reader:
    """How a side is read for its trunk, without the trunk.

    Args:
        transform: see `Trunk`.
        sizes: of the trunk's features, by name.
    """

    transform: Callable[[Any], Tensor]
    sizes: dict[str, int]

    @classmethod
    def of(cls, trunk: Trunk, side: Side) -> "Reader":
        """What a trunk reads, and the sizes that come out, found by running it once."""
        if side == "image":
            raw = Raw(pixels=trunk.transform(Image.new("RGB", (64, 64)))[None])
        else:
            raw = Raw(ids=trunk.transform([""]))
        with torch.inference_mode():
            features: dict[str, Any] = dict(trunk.eval().forward(raw))  # not the compiled call
        return cls(trunk.transform, {name: value.shape[-1] for name, value in features.items()})


class RawPairs(Dataset[Batch]):
    """The pairs of a role; indexing with positions decodes the pictures of a batch, in a worker process.

    Args:
        whole: every pair of the role on the CPU; the image side is empty.
        rows: (n,) row of the picture of each pair.
        pictures: decoded when they are indexed; files and handles are opened by the process that reads.
        transform: see `Trunk`.
        sampler: gives the positions; its epoch and seed decide the augmentation.
        training: how training pictures are augmented; None: they are not.
    """

    def __init__(
        self,
        whole: Batch,
        rows: Index,
        pictures: Pictures,
        transform: Callable[[Image.Image], Tensor],
        sampler: EpochSampler | LabelSampler,
        training: TrunkTraining | None = None,
    ) -> None:
        self.whole, self.rows, self.pictures, self.transform = whole, rows, pictures, transform
        self.sampler, self.training = sampler, training

    def __getitem__(self, positions: Tensor) -> Batch:
        batch: Batch = take(self.whole, positions)
        some = positions.tolist() or [0]  # a device without a pair of its own still needs to know the shape
        pixels = [self._pixels(int(self.rows[position]), int(self.whole["index"][position])) for position in some]
        return {**batch, "image": Raw(pixels=torch.stack(pixels)[: len(positions)])}  # type: ignore[typeddict-item]

    def __len__(self) -> int:
        return len(self.rows)

    def decoded(self, workers: int, device: torch.device) -> Raw:
        """The pixels of all pairs, (n, 3, H, W), on a device."""
        pixels, done = torch.empty(0), 0
        for batch in batch_loader(self, EpochSampler(len(self), 256), workers):
            some = batch["image"]["pixels"]
            if not done:
                pixels = torch.empty((len(self), *some.shape[1:]), dtype=some.dtype, device=device)
            pixels[done : done + len(some)] = some.to(device)
            done += len(some)
        return Raw(pixels=pixels)

    def _pixels(self, row: int, index: int) -> Tensor:
        picture = self.pictures[row]
        if picture is None:
            raise UserError(f"picture {row} could be read when the files were checked and cannot be read now.")
        if self.training:
            picture = self.training.augment(picture, (self.sampler.seed, self.sampler.epoch, index))
        return self.transform(picture)
