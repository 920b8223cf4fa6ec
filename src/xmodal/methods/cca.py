"""CCA: linear canonical correlation analysis, the closed-form baseline.

H. Hotelling, "Relations between two sets of variates", Biometrika 1936; for image-text retrieval N. Rasiwasia et al.,
"A new approach to cross-modal multimedia retrieval", ACM MM 2010. Nothing departs from the source; the codes of the
binary form are the signs of the canonical variates.
"""

import torch
from torch import Tensor

from xmodal.batch import Batch, Features, Side
from xmodal.errors import UserError
from xmodal.layers import canonical_projections
from xmodal.methods.base import RetrievalMethod


class CCA(RetrievalMethod):
    """Canonical variates of both views, ranked by cosine (`dim`) or by the Hamming distance of their signs (`bits`).

    Args:
        bits: code length of the binary form; give either `bits` or `dim`.
        dim: number of components of the real-valued form.
        regularization: added to the diagonals of both covariance matrices.
        image_dim: size of an image feature; linked to the data.
        text_dim: size of a text feature; linked to the data.
    """

    name = "cca"
    supervised = False

    image_mean: Tensor
    text_mean: Tensor
    image_projection: Tensor
    text_projection: Tensor
    correlation: Tensor

    def __init__(
        self,
        bits: int | None = None,
        dim: int | None = None,
        regularization: float = 1e-5,
        image_dim: int = 1280,
        text_dim: int = 384,
    ) -> None:
        if (bits is None) == (dim is None):
            raise UserError(f"{self.name} takes either bits (codes: the signs) or dim (embeddings), and not both.")
        super().__init__("binary" if bits else "real")
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.components, self.regularization = bits or dim or 0, regularization
        for side, size in (("image", image_dim), ("text", text_dim)):
            self.register_buffer(f"{side}_mean", torch.zeros(size))
            self.register_buffer(f"{side}_projection", torch.zeros(size, self.components))
        self.register_buffer("correlation", torch.zeros(self.components))

    def on_fit_start(self) -> None:
        """The whole training, in closed form."""
        train = self.train_set()
        image, text = train["image"]["pooled"].double(), train["text"]["pooled"].double()
        means = image.mean(0), text.mean(0)
        projections = canonical_projections(image - means[0], text - means[1], self.components, self.regularization)
        buffers = self.image_mean, self.text_mean, self.image_projection, self.text_projection, self.correlation
        for buffer, value in zip(buffers, (*means, *projections), strict=True):
            buffer.copy_(value)

    def encode(self, side: Side, features: Features) -> Tensor:
        """(B, K) canonical variates."""
        mean, projection = (getattr(self, f"{side}_{part}") for part in ("mean", "projection"))
        variates: Tensor = (features["pooled"] - mean) @ projection
        return variates

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Nothing is left to learn."""

    def configure_optimizers(self) -> None:
        """No gradient step is taken."""
