"""Open_clip trunks: both sides in their joint space, tokens projected there too.

A. Radford et al., "Learning transferable visual models from natural language supervision", ICML 2021, through the
package open_clip_torch.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from xmodal.batch import Features, Raw
from xmodal.encoders.cache import Encode
from xmodal.encoders.image import ImageEncoder, stamp
from xmodal.encoders.text import TextEncoder
from xmodal.encoders.trunk import Trunk, half, located, on_device
from xmodal.errors import UserError


class ClipTower(Trunk):
    """One side of an open_clip model.

    Args:
        tower: its `visual` or its `text`.
    """

    def __init__(self, tower: Any) -> None:  # noqa: ANN401 - open_clip's towers have no common type
        super().__init__()
        self.tower = tower

    @property
    def blocks(self) -> int:
        """See `Trunk`."""
        return len(self.tower.transformer.resblocks)

    def lock(self, count: int) -> None:
        """See `Trunk`."""
        self.tower.lock(self.blocks + 1 - count)  # what stays open: the other blocks and the projection

    def set_checkpointing(self) -> None:
        """See `Trunk`."""
        self.tower.set_grad_checkpointing()


class ClipImage(ClipTower):
    """Pictures: `pooled` is the unit embedding, `tokens` the patches in the joint space."""

    def forward(self, raw: Raw) -> Features:
        """See `Trunk`."""
        if not self.tokens:
            return Features(pooled=F.normalize(self.tower(raw["pixels"]), dim=-1))
        out = self.tower.forward_intermediates(raw["pixels"], indices=1, normalize_intermediates=True, output_fmt="NLC")
        tokens = out["image_intermediates"][-1] @ self.tower.proj
        return Features(pooled=F.normalize(out["image_features"], dim=-1), tokens=tokens)


class ClipText(ClipTower):
    """Texts: `pooled` is the unit embedding, `tokens` the word pieces in the joint space."""

    def forward(self, raw: Raw) -> Features:
        """See `Trunk`."""
        ids = raw["ids"].long()
        padded = F.pad(ids, (0, int(self.tower.context_length) - ids.shape[1]))
        if not self.tokens:
            return Features(pooled=F.normalize(self.tower(padded), dim=-1))
        out = self.tower.forward_intermediates(padded, indices=1, normalize_intermediates=True, output_fmt="NLC")
        last, projection = out["text_intermediates"][-1][:, : ids.shape[1]], self.tower.text_projection
        tokens = projection(last) if isinstance(projection, nn.Module) else last @ projection
        end = ids.argmax(1)  # the end of a text has the highest id
        mask = torch.arange(ids.shape[1], device=ids.device) <= end[:, None]
        return Features(pooled=F.normalize(out["text_features"], dim=-1), tokens=tokens, mask=mask)


class OpenClip:
    """What the two sides share: the choice of the model.

    Args:
        model: a name of open_clip (OpenAI's weights belong to the names in -quickgelu),
            `hf-hub:<organisation>/<repository>`, `local-dir:<folder>`, or the path of a model configuration (.json).
        weights: a tag that open_clip knows (`openai`: it is downloaded), the path of a checkpoint, a checkpoint of this
            suite (.ckpt) whose run trained the trunk, or `random` (seed 0). Not used with `hf-hub:` and `local-dir:`,
            which bring theirs. Paths may start at the checkout.
        batch_size: items per forward pass of the frozen trunk; no influence on the result beyond rounding.
    """

    def __init__(self, model: str = "ViT-B-32-quickgelu", weights: str = "openai", batch_size: int = 64) -> None:
        self.name, self.model, self.weights, self.batch_size = "open_clip", model, weights, batch_size

    def key(self) -> Mapping[str, object]:
        """Everything that changes the encoder's output."""
        paths = {part: located(part) for part in (self.model, self.weights)}
        files = {part: stamp(path) for part, path in paths.items() if path.is_file()}
        return {"encoder": "open_clip", "model": self.model, "weights": self.weights, "files": files, "version": 1}

    def _load(self, *, weights: bool) -> tuple[Any, Any, str]:
        """The model, its picture preprocessing, and its name."""
        import open_clip

        name = self.model
        if name.endswith(".json"):
            path = located(name)
            if not path.is_file():
                raise UserError(f"there is no model configuration {name}: give the path of a .json file of open_clip.")
            open_clip.add_model_config(path)
            name = path.stem
        none = not weights or self.weights == "random" or self.weights.endswith(".ckpt")
        file = located(self.weights)
        logging.disable(
            logging.WARNING if none else logging.NOTSET
        )  # that the weights are random is what was asked for
        pretrained = str(file) if file.is_file() else self.weights
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)  # for `random`; weights that are loaded replace what is drawn here
                model, _, preprocess = open_clip.create_model_and_transforms(
                    name,
                    pretrained=None if none or name.startswith(("hf-hub:", "local-dir:")) else pretrained,
                    load_weights=weights,
                    force_custom_text=True,  # each side is then a module of its own
                )
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(
                f"open_clip has no model {self.model!r} with weights {self.weights!r} here ({error}). Give the path of "
                "a checkpoint in weights, or a folder with `local-dir:`, or let it download once."
            ) from error
        finally:
            logging.disable(logging.NOTSET)
        return model, preprocess, name

    def _finish(self, trunk: Trunk, side: str, *, weights: bool) -> Trunk:
        """The trunk with what a checkpoint of this suite trained."""
        trunk.encoder = self
        if weights and self.weights.endswith(".ckpt"):
            trunk.load(located(self.weights), side)
        return trunk


class OpenClipImage(OpenClip, ImageEncoder):
    """Pictures through open_clip: `pooled` is the unit image embedding, `tokens` the patches in the joint space."""

    def key(self) -> Mapping[str, object]:
        """See `ImageEncoder`."""
        return {**super().key(), "side": "image"}

    def trunk(self, *, weights: bool = True) -> Trunk:
        """See `ImageEncoder`.

        Raises:
            UserError: the weights cannot be found, or the model has no projection of patches into the joint space.
        """
        model, preprocess, _ = self._load(weights=weights)
        if getattr(model.visual, "proj", None) is None:
            raise UserError(f"{self.model} has no projection of its patches: choose a ViT of open_clip.")
        trunk = ClipImage(model.visual)
        trunk.transform = preprocess
        return self._finish(trunk, "image", weights=weights)

    def open(self) -> Encode[Image.Image]:
        """See `ImageEncoder`."""
        trunk = self.trunk().eval().to(on_device())

        @torch.inference_mode()
        def encode(images: list[Image.Image]) -> Mapping[str, NDArray[np.generic]]:
            return half(trunk(Raw(pixels=torch.stack([trunk.transform(image) for image in images]).to(on_device()))))

        return encode


class OpenClipText(OpenClip, TextEncoder):
    """Texts through open_clip: `pooled` is the unit text embedding, `tokens` the word pieces in the joint space.

    Args:
        model: see `OpenClip`.
        weights: see `OpenClip`.
        batch_size: see `OpenClip`.
        max_tokens: longer texts are cut; the two specials count (32 in every CLIP hashing toolbox).
    """

    fits = False

    def __init__(
        self, model: str = "ViT-B-32-quickgelu", weights: str = "openai", batch_size: int = 256, max_tokens: int = 32
    ) -> None:
        super().__init__(model, weights, batch_size)
        self.max_tokens = max_tokens

    def key(self) -> Mapping[str, object]:
        """See `TextEncoder`."""
        return {**super().key(), "side": "text", "max_tokens": self.max_tokens}

    def trunk(self, *, weights: bool = True) -> Trunk:
        """See `TextEncoder`.

        Raises:
            UserError: the weights cannot be found, or the model reads fewer tokens.
        """
        import open_clip

        model, _, name = self._load(weights=weights)
        length = int(model.text.context_length)
        if not 2 < self.max_tokens <= length:
            raise UserError(f"text_encoder.max_tokens is {self.max_tokens}: {self.model} reads from 3 to {length}.")
        trunk = ClipText(model.text)
        trunk.transform = open_clip.get_tokenizer(name, context_length=self.max_tokens)
        return self._finish(trunk, "text", weights=weights)

    def open(self, train: Sequence[str]) -> Encode[str]:
        """See `TextEncoder`; `train` is not used."""
        trunk = self.trunk().eval().to(on_device())

        @torch.inference_mode()
        def encode(texts: list[str]) -> Mapping[str, NDArray[np.generic]]:
            return half(trunk(Raw(ids=trunk.transform(texts).to(on_device()))))

        return encode
