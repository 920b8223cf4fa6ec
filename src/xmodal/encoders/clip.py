"""Open_clip trunks: both sides in their joint space, tokens projected there too.

A. Radford et al., "Learning transferable visual models from natural language supervision", ICML 2021, through the
package open_clip_torch.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from xmodal.batch import Features, Raw
from xmodal.encoders.cache import Encode
from xmodal.encoders.image import ImageEncoder, encode_by, stamp
from xmodal.encoders.text import TextEncoder
from xmodal.encoders.trunk import PictureTrunk, Trunk, files_of, half, located, on_device
from xmodal.encoders.view import View
from xmodal.errors import UserError


class ClipTower(Trunk):
    """One side of an open_clip model, its `visual` or its `text`."""

    tower: Any

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

    def compile_blocks(self) -> None:
        """See `Trunk`; the blocks are alike, so that one is compiled for all, in a third of the time of the whole."""
        for block in self.tower.transformer.resblocks:
            block.compile()


class ClipImage(ClipTower, PictureTrunk):
    """Pictures: `pooled` is the unit embedding, `tokens` the patches in the joint space, if the projection is theirs.

    Args:
        tower: the `visual` of an open_clip model.
        mean: of the levels from 0 to 255, by colour.
        deviation: the same.
    """

    def __init__(self, tower: Any, mean: Tensor, deviation: Tensor) -> None:  # noqa: ANN401 - open_clip has no type
        super().__init__(mean, deviation)
        self.tower = tower
        tower.output_tokens = False  # CoCa's decoder reads them
        self.patches = getattr(tower, "attn_pool", None) is None  # CoCa projects what attention has pooled

    def forward(self, raw: Raw) -> Features:
        """See `Trunk`."""
        if not (self.tokens and self.patches):
            return Features(pooled=F.normalize(self.tower(self.pixels(raw)), dim=-1))
        out = self.tower.forward_intermediates(
            self.pixels(raw), indices=1, normalize_intermediates=True, output_fmt="NLC"
        )
        tokens = out["image_intermediates"][-1] @ self.tower.proj
        return Features(pooled=F.normalize(out["image_features"], dim=-1), tokens=tokens)


class ClipText(ClipTower):
    """Texts: `pooled` is the unit embedding, `tokens` the word pieces in the joint space, if it pools as CLIP does.

    Args:
        tower: the `text` of an open_clip model.
        padding: the id that its tokenizer puts behind a text; SigLIP's is no 0, and read.
    """

    def __init__(self, tower: Any, padding: int) -> None:  # noqa: ANN401 - open_clip's towers have no common type
        super().__init__()
        self.tower, self.padding = tower, padding
        tower.output_tokens = False  # see `ClipImage`
        mask = getattr(tower, "attn_mask", None)
        self.ends = tower.pool_type == "argmax"  # the end of a text has the highest id, as in CLIP's vocabulary
        causal = mask is not None and bool((mask == float("-inf")).triu(1).any())
        self.causal = causal and self.ends and getattr(tower, "cls_emb", None) is None

    def forward(self, raw: Raw) -> Features:
        """See `Trunk`."""
        ids = raw["ids"].long()
        padded = self._padded(ids)
        if not (self.tokens and self.ends):
            return Features(pooled=F.normalize(self.tower(padded), dim=-1))
        out = self.tower.forward_intermediates(padded, indices=1, normalize_intermediates=True, output_fmt="NLC")
        last, projection = out["text_intermediates"][-1][:, : ids.shape[1]], self.tower.text_projection
        tokens = projection(last) if isinstance(projection, nn.Module) else last @ projection
        end = ids.argmax(1)
        mask = torch.arange(ids.shape[1], device=ids.device) <= end[:, None]
        return Features(pooled=F.normalize(out["text_features"], dim=-1), tokens=tokens, mask=mask)

    def _padded(self, ids: Tensor) -> Tensor:
        """As many tokens as the tower asks for: no more than there are where a token only sees those before it."""
        if not self.causal:
            return F.pad(ids, (0, int(self.tower.context_length) - ids.shape[1]), value=self.padding)
        if (length := ids.shape[1]) != len(self.tower.attn_mask):
            with torch.inference_mode(mode=False):  # a later training step keeps it for its backward pass
                self.tower.attn_mask = torch.full((length, length), float("-inf"), device=ids.device).triu(1)
        return ids


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
        found = {part: files_of(part) for part in (self.model, self.weights)}
        files = {part: " ".join(map(stamp, paths)) for part, paths in found.items() if paths}
        return {"encoder": "open_clip", "model": self.model, "weights": self.weights, "files": files, "version": 1}

    def _load(self, *, weights: bool) -> tuple[Any, str]:
        """The model, and its name."""
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
                model, _, _ = open_clip.create_model_and_transforms(
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
        return model, name

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
        model, _ = self._load(weights=weights)
        if getattr(model.visual, "proj", None) is None:
            raise UserError(f"{self.model} has no projection of its patches: choose a ViT of open_clip.")
        transform, view, mean, deviation = _levels(model)
        trunk = ClipImage(model.visual, mean, deviation)
        trunk.transform, trunk.view = transform, view
        return self._finish(trunk, "image", weights=weights)

    def open(self) -> Encode[Image.Image]:
        """See `ImageEncoder`."""
        return encode_by(self.trunk())


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
        version = {"version": 2} if "siglip" in self.model.lower() else {}  # 2: padded as its tokenizer pads
        return {**super().key(), "side": "text", "max_tokens": self.max_tokens, **version}

    def trunk(self, *, weights: bool = True) -> Trunk:
        """See `TextEncoder`.

        Raises:
            UserError: the weights cannot be found, the tower is none of open_clip's own, or it reads fewer tokens.
        """
        import open_clip

        model, name = self._load(weights=weights)
        if not hasattr(model.text, "pool_type"):
            raise UserError(
                f"{self.model} reads texts by a tower of Hugging Face: choose a model whose towers are open_clip's own."
            )
        length = int(model.text.context_length)
        if not 2 < self.max_tokens <= length:
            raise UserError(f"text_encoder.max_tokens is {self.max_tokens}: {self.model} reads from 3 to {length}.")
        tokenizer = open_clip.get_tokenizer(name, context_length=self.max_tokens)
        trunk = ClipText(model.text, padding=int(tokenizer([""])[0, -1]))
        trunk.transform = tokenizer
        return self._finish(trunk, "text", weights=weights)

    def open(self, train: Sequence[str]) -> Encode[str]:
        """See `TextEncoder`; `train` is not used."""
        trunk = self.trunk().eval().to(on_device())

        @torch.inference_mode()
        def encode(texts: list[str]) -> Mapping[str, NDArray[np.generic]]:
            return half(trunk(Raw(ids=trunk.transform(texts).to(on_device()))))

        return encode


class Levels:
    """open_clip's own preparation of a picture without its last step, the normalisation.

    Args:
        prepare: a picture -> (3, H, W) from 0 to 1.
    """

    def __init__(self, prepare: Callable[[Image.Image], Tensor]) -> None:
        self.prepare = prepare

    def __repr__(self) -> str:
        return repr(self.prepare)

    def __call__(self, picture: Image.Image) -> Tensor:
        """(3, H, W) uint8."""
        return (self.prepare(picture) * 255).round().to(torch.uint8)


def _levels(model: Any) -> tuple[Levels, View | None, Tensor, Tensor]:  # noqa: ANN401 - an open_clip model
    """The preparation, how it looks at a picture, and mean and deviation of the levels."""
    from open_clip import get_model_preprocess_cfg, image_transform

    config = get_model_preprocess_cfg(model)
    size, mode, filtered = config["size"], config["resize_mode"], config["interpolation"]
    mean, deviation = (255 * torch.tensor(config[name]).view(3, 1, 1) for name in ("mean", "std"))
    plain = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "interpolation": filtered, "resize_mode": mode}
    prepare = image_transform(size, is_train=False, fill_color=config.get("fill_color", 0), **plain)
    side: int = size if isinstance(size, int) else size[0]
    square = isinstance(size, int) or size[0] == size[1]
    view = View(side, 1.0 if mode == "shortest" else None, filtered)
    return Levels(prepare), view if square and mode in ("shortest", "squash") else None, mean, deviation
