"""Trunks as modules: the same network frozen, its features cached, or trained inside a model."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from xmodal import paths
from xmodal.batch import Features, Raw
from xmodal.checkpoint import read_checkpoint
from xmodal.encoders.batch_norm import SharedBatchNorm
from xmodal.encoders.view import View
from xmodal.errors import UserError


class Trunk(nn.Module, ABC):
    """What an encoder reads, in; `Features`, with gradient, out.

    Attributes:
        transform: a picture -> (3, H, W) uint8, or a list of texts -> (B, L) token ids; needs no weights and may be
            pickled.
        view: how a picture's trunk looks at it; None where random windows cannot be made for it.
        tokens: whether the features hold tokens.
        encoder: what built the trunk; a checkpoint keeps it, and builds the trunk again without its first weights.
    """

    transform: Callable[[Any], Tensor]
    view: View | None = None
    tokens: bool = True
    encoder: Any

    @abstractmethod
    def forward(self, raw: Raw) -> Features:
        """Features of B inputs."""

    @property
    @abstractmethod
    def blocks(self) -> int:
        """Number of its blocks, or of the stages of a convolutional network."""

    @abstractmethod
    def lock(self, count: int) -> None:
        """Keep what comes before the first block, and the first `count` blocks, as they are."""

    @abstractmethod
    def set_checkpointing(self) -> None:
        """Compute activations again in the backward pass instead of keeping them."""

    def compile_blocks(self) -> None:
        """Let `torch.compile` fuse the trunk."""
        self.compile()

    def freeze(self, count: int) -> None:
        """As `lock`; 0 freezes nothing.

        Raises:
            UserError: there are not more blocks than that.
        """
        if not 0 <= count < self.blocks:
            raise UserError(
                f"data.trunk.frozen_layers is {count}: {type(self).__name__} has {self.blocks} blocks here; give a "
                "smaller number, or leave the trunk frozen with data.trunk.sides=none."
            )
        if count:
            self.lock(count)

    def features(self, raw: Raw) -> Features:
        """As `forward`, but an empty shard has features as well, of shape (0, ...), with a gradient of zeros.

        Others' models may refuse it: they see one row of zeros, of which nothing is kept, no batch statistics either.
        Those of the other processes are gathered here too.
        """
        rows: dict[str, Any] = dict(raw)
        full, training = all(map(len, rows.values())), self.training
        shared = [each for each in self.modules() if isinstance(each, SharedBatchNorm)]
        for each in shared:
            each.counts = full  # until the next batch: the backward pass may compute this one again
        if full:
            return cast("Features", self(raw))
        shared = [each for each in shared if each.training]
        self.eval()
        for each in shared:
            each.training = True
        made = self({name: value.new_zeros(1, *value.shape[1:]) for name, value in rows.items()})
        self.train(training)
        return cast("Features", {name: value[:0] for name, value in made.items()})

    def train(self, mode: bool = True) -> "Trunk":
        """Training mode; batch statistics of frozen layers stay as they are."""
        super().train(mode)
        for module in self.modules():
            own = list(module.parameters(recurse=False))
            if own and not any(parameter.requires_grad for parameter in own):
                module.eval()
        return self

    def load(self, path: Path, side: str) -> None:
        """Take the weights of the trunk of one side from a checkpoint of this suite.

        Raises:
            UserError: it is no checkpoint of this suite, or holds no trunk, or another one.
        """
        state = read_checkpoint(path)["state_dict"]
        own = {key.removeprefix(f"trunks.{side}."): value for key, value in state.items()}
        own = {key: value for key, value in own.items() if f"trunks.{side}.{key}" in state}
        try:
            self.load_state_dict(own)
        except RuntimeError as error:
            raise UserError(
                f"{path} holds no {side} trunk of this model ({str(error)[:200]}): give the checkpoint of a run that "
                "trained one, and the model it trained."
            ) from error


class PictureTrunk(Trunk):
    """A trunk of pictures, which come as levels from 0 to 255 and are normalised where they are computed with.

    Args:
        mean: of the levels, by colour or of all.
        deviation: the same.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean, persistent=False)  # on the device: no step waits for a copy
        self.register_buffer("deviation", deviation, persistent=False)

    def pixels(self, raw: Raw) -> Tensor:
        """(B, 3, H, W) normalised; windows are cut out where there are any."""
        levels = raw["pixels"]
        if "window" in raw and self.view is not None:
            levels = self.view.look(levels, raw["window"])
        return (levels.float() - self.mean) / self.deviation


class PatchProduct(nn.Module):
    """A convolution whose patches do not overlap, as one matrix product of them: cuDNN's takes several times as long.

    Args:
        convolution: whose parameters it takes over, under their names.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias, self.side = convolution.weight, convolution.bias, convolution.kernel_size

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out, H // h, W // w)."""
        height, width = self.side
        rows, columns = pictures.shape[2] // height, pictures.shape[3] // width
        pictures = pictures[:, :, : rows * height, : columns * width]
        patches = pictures.reshape(*pictures.shape[:2], rows, height, columns, width)
        patches = patches.permute(0, 2, 4, 3, 5, 1).flatten(3)  # colours last, as channels-last weights lie in memory
        return F.linear(patches, self.weight.permute(0, 2, 3, 1).flatten(1), self.bias).permute(0, 3, 1, 2)

    @classmethod
    def replace_in(cls, model: nn.Module) -> None:
        """Replace the patch embeddings of a model; the strided convolutions of other networks stay."""
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if type(child) is nn.Conv2d and cls._is_embedding(child):  # others may pad as they go
                    setattr(parent, name, cls(child))

    @staticmethod
    def _is_embedding(convolution: nn.Conv2d) -> bool:
        plain = (convolution.padding, convolution.dilation, convolution.groups) == ((0, 0), (1, 1), 1)
        return plain and convolution.kernel_size == convolution.stride and min(convolution.kernel_size) >= 8


def on_device() -> torch.device:
    """Where frozen trunks run."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def half(features: Features) -> Mapping[str, NDArray[np.generic]]:
    """Features as they are cached: float16, masks as they are."""
    tensors: dict[str, Any] = dict(features)
    return {
        name: (value if value.dtype == torch.bool else value.half()).cpu().numpy() for name, value in tensors.items()
    }


def files_of(name: str) -> list[Path]:
    """The files of a model or of weights as configurations name them, `local-dir:` folders too; none of a mere tag."""
    if name.startswith("local-dir:"):
        return sorted(each for each in Path(name.removeprefix("local-dir:")).rglob("*") if each.is_file())
    return [file] if (file := located(name)).is_file() else []


def located(name: str) -> Path:
    """A file as named, or below the checkout, so that experiment files may name `experiments/...` and `runs/...`."""
    file = Path(name)
    return file if file.is_file() or file.is_absolute() else paths.found(paths.home() / file)
