"""ALSCOR: adversarial learning and deep canonical correlation.

The paper's full text is not public. Its abstract names VisNet and TxtNet under a CCA model, an intra-modal classifier
and a modality classifier; the formulas here are our reconstruction from DCCA (Andrew et al., ICML 2013) and ACMR (Wang
et al., ACM MM 2017). docs/methods/alscor.md says of every line which it is. No reproduction of the paper's tables is
claimed.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam

from xmodal.batch import Batch, Features, Side
from xmodal.errors import UserError
from xmodal.layers import canonical_projections, discriminator, perceptron, reversed_on_schedule
from xmodal.losses import Prediction, discrimination, label_prediction, total_correlation
from xmodal.methods.base import RetrievalMethod


@dataclass(frozen=True)
class ALSCORWeights:
    """Weights of ALSCOR's terms; 0 removes a term and what only it needs.

    Args:
        correlation: minus the mean canonical correlation of the two networks' outputs (alpha, times dim).
        label: label prediction (beta).
        adversarial: the modality classifier behind gradient reversal (the largest lambda is 1).
    """

    correlation: float = 1.0
    label: float = 1.0
    adversarial: float = 1.0


class ALSCOR(RetrievalMethod):
    """VisNet and TxtNet, whose outputs correlate, predict the labels, and hide their modality.

    Args:
        dim: size d of the embedding.
        image_hidden: hidden layers of VisNet.
        text_hidden: hidden layers of TxtNet.
        classifier: of the labels: `shared` by the modalities (ACMR), or one for each.
        prediction: of the labels: `softmax` where they exclude each other, `sigmoid` where they do not.
        regularization: r, on the diagonals of the covariances.
        pairs_per_dim: a batch must hold so many pairs per dimension, or independent views seem correlated; a batch
            that is the whole training set is let through.
        projection: `linear`: rank by the linear canonical variates of the outputs, fitted on the training outputs.
        lr: learning rate.
        weight_decay: L2 penalty of the optimizer.
        weights: of the terms.
        image_dim: size of an image feature; linked to the data.
        text_dim: size of a text feature; linked to the data.
        num_labels: C; linked to the data.
        num_train: n; linked to the data.
    """

    name = "alscor"

    image_mean: Tensor
    text_mean: Tensor
    image_projection: Tensor
    text_projection: Tensor

    def __init__(
        self,
        dim: int = 40,
        image_hidden: tuple[int, ...] = (512, 100),
        text_hidden: tuple[int, ...] = (40, 100),
        classifier: Literal["shared", "separate"] = "shared",
        prediction: Prediction = "softmax",
        regularization: float = 1e-3,
        pairs_per_dim: float = 10.0,
        projection: Literal["none", "linear"] = "none",
        lr: float = 1e-4,
        weight_decay: float = 1e-4,
        weights: ALSCORWeights = ALSCORWeights(),
        image_dim: int = 1280,
        text_dim: int = 384,
        num_labels: int = 24,
        num_train: int = 1000,
    ) -> None:
        super().__init__("real")
        self.save_hyperparameters()
        self.weights, self.dim, self.num_train = weights, dim, num_train
        self.prediction: Prediction = prediction
        self.regularization, self.pairs_per_dim, self.projection = regularization, pairs_per_dim, projection
        self.trunk = nn.ModuleDict(
            {
                "image": perceptron((image_dim, *image_hidden, dim), nn.Tanh),
                "text": perceptron((text_dim, *text_hidden, dim), nn.Tanh),
            }
        )
        heads = [nn.Linear(dim, num_labels) for _ in range(1 if classifier == "shared" else 2)]
        self.label_heads = nn.ModuleList([heads[0], heads[-1]] if weights.label else [])
        self.critic = discriminator((dim, max(dim // 2, 1), max(dim // 4, 1))) if weights.adversarial else None
        if projection == "linear":
            for side in self.trunk:
                self.register_buffer(f"{side}_mean", torch.zeros(dim))
                self.register_buffer(f"{side}_projection", torch.eye(dim))

    def encode(self, side: Side, features: Features) -> Tensor:
        """(B, dim) embeddings."""
        out: Tensor = self.trunk[side](features["pooled"])
        if self.projection == "linear":
            out = (out - getattr(self, f"{side}_mean")) @ getattr(self, f"{side}_projection")
        return out

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Alpha L_cca + beta L_intra + L_mod behind gradient reversal, in one step."""
        image, text, label = self.gather_batch(
            self.trunk["image"](batch["image"]["pooled"]), self.trunk["text"](batch["text"]["pooled"]), batch["label"]
        )
        terms: dict[str, Tensor] = {}
        if self.weights.correlation:
            self._check_size(len(label))
            terms["correlation"] = -total_correlation(image, text, self.regularization).to(image.dtype) / self.dim
        if self.weights.label:
            logits = self.label_heads[0](image), self.label_heads[1](text)
            terms["label"] = torch.stack([label_prediction(each, label, self.prediction) for each in logits]).sum()
        if self.critic is not None:
            hidden = reversed_on_schedule(self.progress(), image, text)
            terms["adversarial"] = discrimination(*map(self.critic, hidden))
        return self.weigh(terms)

    @torch.no_grad()
    def on_validation_epoch_start(self) -> None:
        """Fit the linear canonical variates on the training outputs."""
        if self.projection == "none":
            return
        train = self.train_set()
        outputs = {side: self.trunk[side](train[side]["pooled"]).double() for side in ("image", "text")}
        centred = {side: output - output.mean(0) for side, output in outputs.items()}
        projections = canonical_projections(centred["image"], centred["text"], self.dim, 1e-4)
        for side, projection in zip(centred, projections, strict=False):
            getattr(self, f"{side}_mean").copy_(outputs[side].mean(0))
            getattr(self, f"{side}_projection").copy_(projection)

    def configure_optimizers(self) -> Adam:
        """Adam with betas (0.5, 0.999), no schedule."""
        h = self.hparams
        return Adam(self.parameters(), lr=h["lr"], betas=(0.5, 0.999), weight_decay=h["weight_decay"], fused=True)

    def _check_size(self, pairs: int) -> None:
        needed = min(self.pairs_per_dim * self.dim, self.num_train)
        if pairs < needed:
            raise UserError(
                f"ALSCOR: a batch of {pairs} pairs is too small to correlate {self.dim} dimensions, "
                f"{needed:g} are needed: raise data.batch_size and set data.drop_last=true, or lower dim."
            )
