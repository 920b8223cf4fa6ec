"""Trunks as modules: the same network frozen, its features cached, or trained inside a model."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xmodal import paths
from xmodal.batch import Features, Raw
from xmodal.errors import UserError


class Trunk(nn.Module, ABC):
    """What an encoder reads, in; `Features`, with gradient, out.

    Attributes:
        transform: a picture -> (3, H, W), or a list of texts -> (B, L) token ids; needs no weights and may be pickled.
        tokens: whether the features hold tokens.
        encoder: what built the trunk; a checkpoint keeps it, and builds the trunk again without its first weights.
    """

    transform: Callable[[Any], Tensor]
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
            UserError: it holds no trunk, or another one.
        """
        # weights_only=False: a checkpoint of this suite also holds the method's dataclasses
        state = torch.load(path, map_location="cpu", weights_only=False).get("state_dict", {})
        own = {key.removeprefix(f"trunks.{side}."): value for key, value in state.items()}
        own = {key: value for key, value in own.items() if f"trunks.{side}.{key}" in state}
        try:
            self.load_state_dict(own)
        except RuntimeError as error:
            raise UserError(
                f"{path} holds no {side} trunk of this model ({str(error)[:200]}): give the checkpoint of a run that "
                "trained one, and the model it trained."
            ) from error


def on_device() -> torch.device:
    """Where frozen trunks run."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def half(features: Features) -> Mapping[str, NDArray[np.generic]]:
    """Features as they are cached: float16, masks as they are."""
    tensors: dict[str, Any] = dict(features)
    return {
        name: (value if value.dtype == torch.bool else value.half()).cpu().numpy() for name, value in tensors.items()
    }


def located(name: str) -> Path:
    """A file as named, or below the checkout, so that experiment files may name `experiments/...` and `runs/...`."""
    return Path(name) if Path(name).is_file() else paths.home() / name
