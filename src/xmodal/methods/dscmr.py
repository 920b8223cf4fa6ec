"""DSCMR: deep supervised cross-modal retrieval.

L. Zhen, P. Hu, X. Wang and D. Peng, "Deep supervised cross-modal retrieval", CVPR 2019; release penghu-cs/DSCMR.
Departs from the release: training pairs are shuffled, the epoch is chosen on validation pairs and not on the test set,
square roots have a finite slope at 0, and the similarity of multi-label pairs is 1 or 0 (docs/methods/dscmr.md).
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam

from xmodal.batch import Batch, Features, Side
from xmodal.layers import perceptron
from xmodal.losses import label_similarity, mean_distance, pairwise_likelihood
from xmodal.methods.base import RetrievalMethod


@dataclass(frozen=True)
class DSCMRWeights:
    """Weights of DSCMR's terms; 0 removes a term and what only it needs.

    Args:
        label: distance of the predicted labels to the given ones (J1).
        pairwise: likelihood of the similarities within and across the modalities (J2, alpha).
        invariance: distance of the two embeddings of a pair (J3, beta).
    """

    label: float = 1.0
    pairwise: float = 1e-3
    invariance: float = 0.1


class DSCMR(RetrievalMethod):
    """A layer per modality, then a common layer and a common linear classifier that both share.

    Args:
        dim: size of the embedding, the common layer.
        hidden: units of each modality's layer.
        lr: learning rate.
        weights: of the terms.
        image_dim: size of an image feature; linked to the data.
        text_dim: size of a text feature; linked to the data.
        num_labels: C; linked to the data.
    """

    name = "dscmr"

    def __init__(
        self,
        dim: int = 1024,
        hidden: int = 2048,
        lr: float = 1e-4,
        weights: DSCMRWeights = DSCMRWeights(),
        image_dim: int = 1280,
        text_dim: int = 384,
        num_labels: int = 24,
    ) -> None:
        super().__init__("real")
        self.save_hyperparameters()
        self.weights = weights
        self.trunk = nn.ModuleDict({"image": perceptron((image_dim, hidden)), "text": perceptron((text_dim, hidden))})
        self.common = nn.Linear(hidden, dim)
        self.label_head = nn.Linear(dim, num_labels) if weights.label else None

    def encode(self, side: Side, features: Features) -> Tensor:
        """(B, dim) embeddings."""
        out: Tensor = self.common(self.trunk[side](features["pooled"]))
        return out

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """L = J1 + alpha J2 + beta J3."""
        w = self.weights
        image, text, label = self.gather_batch(
            self.encode("image", batch["image"]), self.encode("text", batch["text"]), batch["label"]
        )
        terms: dict[str, Tensor] = {}
        if self.label_head is not None:
            terms["label"] = mean_distance(self.label_head(image), label) + mean_distance(self.label_head(text), label)
        if w.pairwise:
            u, v, similar = F.normalize(image), F.normalize(text), label_similarity(label, label)
            terms["pairwise"] = (
                pairwise_likelihood(u, u, similar)
                + pairwise_likelihood(u, v, similar)
                + pairwise_likelihood(v, v, similar)
            )
        if w.invariance:
            terms["invariance"] = mean_distance(image, text)
        return self.weigh(terms)

    def configure_optimizers(self) -> Adam:
        """Adam with betas (0.5, 0.999), no schedule."""
        return Adam(self.parameters(), lr=self.hparams["lr"], betas=(0.5, 0.999), fused=True)
