"""ACMR: adversarial cross-modal retrieval.

B. Wang, Y. Yang, X. Xu, A. Hanjalic and H. T. Shen, "Adversarial cross-modal retrieval", ACM MM 2017; release
sunpeng981712364/ACMR_demo. Departs from the release, in which neither the adversary nor the label classifier reaches
the embeddings: one joint update with gradient reversal, hinges per pair and not on batch totals, squared distances in
the contrastive form, and ranking by cosine as everywhere in this suite (docs/methods/acmr.md).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Adam

from xmodal.batch import Batch, Features, Side
from xmodal.layers import discriminator, perceptron, reversed_on_schedule
from xmodal.losses import (
    Prediction,
    discrimination,
    hardest_other,
    label_prediction,
    label_similarity,
    repulsion,
    squared_triplet,
)
from xmodal.methods.base import RetrievalMethod


@dataclass(frozen=True)
class ACMRWeights:
    """Weights of ACMR's terms; 0 removes a term and what only it needs.

    Args:
        label: label prediction, shared by the modalities (L_imd; 100 on Wikipedia, 50 on NUS-WIDE).
        triplet: invariance by triplets (L_imi, the Wikipedia form).
        similar: distance of the two embeddings of a pair (the NUS-WIDE form; 1 there).
        dissimilar: repulsion of pairs of other classes (the NUS-WIDE form; 0.2 there).
        adversarial: the modality classifier behind gradient reversal (L_adv).
    """

    label: float = 100.0
    triplet: float = 1.0
    similar: float = 0.0
    dissimilar: float = 0.0
    adversarial: float = 1.0


class ACMR(RetrievalMethod):
    """Tanh networks whose embeddings predict the labels, lie near their pair, and hide their modality.

    Args:
        dim: size of the embedding.
        image_hidden: hidden layers of the image network.
        text_hidden: hidden layers of the text network.
        margin: of the hinges.
        positive_factor: weight of the positive distance in the triplets.
        prediction: of the labels: `softmax` where they exclude each other, `sigmoid` where they do not.
        lr: learning rate.
        weights: of the terms.
        image_dim: size of an image feature; linked to the data.
        text_dim: size of a text feature; linked to the data.
        num_labels: C; linked to the data.
    """

    name = "acmr"

    def __init__(
        self,
        dim: int = 40,
        image_hidden: tuple[int, ...] = (512, 100),
        text_hidden: tuple[int, ...] = (40, 100),
        margin: float = 0.1,
        positive_factor: float = 5.0,
        prediction: Prediction = "softmax",
        lr: float = 1e-4,
        weights: ACMRWeights = ACMRWeights(),
        image_dim: int = 1280,
        text_dim: int = 384,
        num_labels: int = 24,
    ) -> None:
        super().__init__("real")
        self.save_hyperparameters()
        self.weights, self.margin, self.positive_factor = weights, margin, positive_factor
        self.prediction: Prediction = prediction
        self.trunk = nn.ModuleDict(
            {
                "image": perceptron((image_dim, *image_hidden, dim), nn.Tanh),
                "text": perceptron((text_dim, *text_hidden, dim), nn.Tanh),
            }
        )
        self.label_head = nn.Linear(dim, num_labels) if weights.label else None
        self.critic = discriminator((dim, max(dim // 2, 1), max(dim // 4, 1)), slope=1) if weights.adversarial else None
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def encode(self, side: Side, features: Features) -> Tensor:
        """(B, dim) embeddings in (-1, 1)."""
        out: Tensor = self.trunk[side](features["pooled"])
        return out

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """L_emb and L_adv in one update; the reversal gives the embeddings -lambda L_adv."""
        w = self.weights
        image, text, label, raw_image, raw_text = self.gather_batch(
            self.encode("image", batch["image"]),
            self.encode("text", batch["text"]),
            batch["label"],
            batch["image"]["pooled"],
            batch["text"]["pooled"],
        )
        positive = label_similarity(label, label) > 0
        terms: dict[str, Tensor] = {}
        if self.label_head is not None:
            logits = (self.label_head(each) for each in (image, text))
            terms["label"] = torch.stack([label_prediction(each, label, self.prediction) for each in logits]).sum()
        if w.triplet:
            far_text, far_image = text[hardest_other(raw_image, positive)], image[hardest_other(raw_text, positive)]
            terms["triplet"] = squared_triplet(
                image, text, far_text, self.margin, self.positive_factor
            ) + squared_triplet(text, image, far_image, self.margin, self.positive_factor)
        if w.similar:
            terms["similar"] = (image - text).square().sum().add(1e-12).sqrt()  # Frobenius norm, as the release has it
        if w.dissimilar:
            terms["dissimilar"] = repulsion(image, text, positive, self.margin)
        if self.critic is not None:
            hidden = reversed_on_schedule(self.progress(), image, text)
            terms["adversarial"] = discrimination(*map(self.critic, hidden))
        return self.weigh(terms)

    def configure_optimizers(self) -> Adam:
        """Adam with betas (0.5, 0.999), no schedule."""
        return Adam(self.parameters(), lr=self.hparams["lr"], betas=(0.5, 0.999), fused=True)
