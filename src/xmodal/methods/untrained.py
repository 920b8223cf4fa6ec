"""What the trunks know before any training: their own embeddings, as they are or as signs; the floor of every table.

Joint spaces such as CLIP's (A. Radford et al., "Learning transferable visual models from natural language supervision",
ICML 2021) are ranked as zero-shot retrieval ranks them. Other sizes than the trunks' own come from a random projection
shared by both sides, codes from its signs (M. Charikar, "Similarity estimation techniques from rounding algorithms",
STOC 2002).
"""

from typing import Literal

import torch

from xmodal.errors import UserError
from xmodal.methods.cca import CCA


class Untrained(CCA):
    """Both sides' features, projected by one random matrix where another size is asked for; nothing is learned.

    Args:
        bits: code length of the binary form; give either `bits` or `dim`.
        dim: size of the embedding; the features' own size leaves them as they are.
        space: `joint`: both sides share one space (CLIP's); `none`: they do not, each side gets a matrix of its own,
            and what is left is chance.
        centre: `train` subtracts the mean of the training features of each side, which in joint spaces often lie apart.
        image_dim: size of an image feature; linked to the data.
        text_dim: size of a text feature; linked to the data.
    """

    name = "untrained"
    supervised = False

    def __init__(
        self,
        bits: int | None = None,
        dim: int | None = None,
        space: Literal["joint", "none"] = "joint",
        centre: Literal["none", "train"] = "none",
        image_dim: int = 512,
        text_dim: int = 512,
    ) -> None:
        super().__init__(bits, dim, image_dim=image_dim, text_dim=text_dim)
        if space == "joint" and image_dim != text_dim:
            raise UserError(
                f"features of {image_dim} and {text_dim} numbers share no space: give encoders of one, such as "
                "OpenClipImage and OpenClipText, or say model.space=none, which scores chance."
            )
        sizes = (image_dim,) if space == "joint" else (image_dim, text_dim)
        drawn = [
            torch.eye(size) if size == self.components else torch.randn(size, self.components) / size**0.5
            for size in sizes
        ]
        self.image_projection.copy_(drawn[0])
        self.text_projection.copy_(drawn[-1])

    def on_fit_start(self) -> None:
        """Means, where they are asked for."""
        if self.hparams["centre"] == "train":
            train = self.train_set()
            self.image_mean.copy_(train["image"]["pooled"].double().mean(0))
            self.text_mean.copy_(train["text"]["pooled"].double().mean(0))
