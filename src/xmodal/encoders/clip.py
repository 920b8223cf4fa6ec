"""Frozen open_clip trunks: both sides in their joint space, tokens projected there too.

A. Radford et al., "Learning transferable visual models from natural language supervision", ICML 2021, through the
package open_clip_torch.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from xmodal.encoders.cache import Encode
from xmodal.encoders.image import ImageEncoder, stamp
from xmodal.encoders.text import TextEncoder
from xmodal.errors import UserError


class OpenClip:
    """What the two sides share: the choice of the model.

    Args:
        model: a name of open_clip (`ViT-B-32`), `hf-hub:<organisation>/<repository>`, `local-dir:<folder>`, or the path
            of a model configuration (.json).
        weights: a tag that open_clip knows (`openai`: it is downloaded), the path of a checkpoint, or `random` (for
            tests: seed 0). Not used with `hf-hub:` and `local-dir:`, which bring theirs.
        batch_size: items per forward pass; no influence on the result beyond rounding.
    """

    def __init__(self, model: str = "ViT-B-32", weights: str = "openai", batch_size: int = 64) -> None:
        self.name, self.model, self.weights, self.batch_size = "open_clip", model, weights, batch_size

    def key(self) -> Mapping[str, object]:
        """Everything that changes the encoder's output."""
        files = {part: stamp(Path(part)) for part in (self.model, self.weights) if Path(part).is_file()}
        return {"encoder": "open_clip", "model": self.model, "weights": self.weights, "files": files, "version": 1}

    def _load(self) -> tuple[Any, Any, str]:
        """The model in evaluation mode, its picture preprocessing, and its name."""
        import open_clip

        name = self.model
        if name.endswith(".json"):
            if not Path(name).is_file():
                raise UserError(f"there is no model configuration {name}: give the path of a .json file of open_clip.")
            open_clip.add_model_config(Path(name))
            name = Path(name).stem
        brings = name.startswith(("hf-hub:", "local-dir:"))
        pretrained = None if brings or self.weights == "random" else self.weights
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)  # for `random`; weights that are loaded replace what is drawn here
                model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=pretrained)
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(
                f"open_clip has no model {self.model!r} with weights {self.weights!r} here ({error}). Give the path of "
                "a checkpoint in weights, or a folder with `local-dir:`, or let it download once."
            ) from error
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return model.eval().to(device), preprocess, name


class OpenClipImage(OpenClip, ImageEncoder):
    """Pictures through open_clip: `pooled` is the unit image embedding, `tokens` the patches in the joint space."""

    def key(self) -> Mapping[str, object]:
        """See `ImageEncoder`."""
        return {**super().key(), "side": "image"}

    def open(self) -> Encode[Image.Image]:
        """See `ImageEncoder`.

        Raises:
            UserError: the weights cannot be found, or the model has no projection of patches into the joint space.
        """
        model, preprocess, _ = self._load()
        device = next(model.parameters()).device
        projection = getattr(model.visual, "proj", None)
        if projection is None:
            raise UserError(f"{self.model} has no projection of its patches: choose a ViT of open_clip.")

        @torch.inference_mode()
        def encode(images: list[Image.Image]) -> Mapping[str, NDArray[np.generic]]:
            pixels = torch.stack([preprocess(image) for image in images]).to(device)
            out = model.forward_intermediates(
                image=pixels, image_indices=1, normalize_intermediates=True, image_output_fmt="NLC"
            )
            return {
                "pooled": _half(out["image_features"]),
                "tokens": _half(out["image_intermediates"][-1] @ projection),
            }

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
        self, model: str = "ViT-B-32", weights: str = "openai", batch_size: int = 256, max_tokens: int = 32
    ) -> None:
        super().__init__(model, weights, batch_size)
        self.max_tokens = max_tokens

    def key(self) -> Mapping[str, object]:
        """See `TextEncoder`."""
        return {**super().key(), "side": "text", "max_tokens": self.max_tokens}

    def open(self, train: Sequence[str]) -> Encode[str]:
        """See `TextEncoder`; `train` is not used.

        Raises:
            UserError: the weights cannot be found, or the model reads fewer tokens.
        """
        import open_clip

        model, _, name = self._load()
        device = next(model.parameters()).device
        tower = getattr(model, "text", model)
        projection, length = tower.text_projection, int(tower.context_length)
        if not 2 < self.max_tokens <= length:
            raise UserError(f"text_encoder.max_tokens is {self.max_tokens}: {self.model} reads from 3 to {length}.")
        tokenize = open_clip.get_tokenizer(name, context_length=self.max_tokens)

        @torch.inference_mode()
        def encode(texts: list[str]) -> Mapping[str, NDArray[np.generic]]:
            ids = torch.zeros(len(texts), length, dtype=torch.long, device=device)
            ids[:, : self.max_tokens] = tokenize(texts).to(device)
            out = model.forward_intermediates(text=ids, text_indices=1, normalize_intermediates=True)
            last = out["text_intermediates"][-1][:, : self.max_tokens]
            tokens = projection(last) if isinstance(projection, torch.nn.Module) else last @ projection
            end = ids.argmax(1)  # the end of a text has the highest id
            mask = torch.arange(self.max_tokens, device=device) <= end[:, None]
            return {"pooled": _half(out["text_features"]), "tokens": _half(tokens), "mask": mask.cpu().numpy()}

        return encode


def _half(values: Tensor) -> NDArray[np.generic]:
    array: NDArray[np.generic] = values.half().cpu().numpy()
    return array
