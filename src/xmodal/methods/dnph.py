"""DNPH: neighbourhood-aware proxies and uniform codes.

"Deep Neighborhood-aware Proxy Hashing with Uniform Distribution Constraint for Cross-modal Retrieval", ACM TOMM 2024,
doi 10.1145/3643639; read with a port of the authors' code (kalenforn/clip-based-cross-modal-hash). Departs from it: the
encoders are frozen by default; the classifier has as many outputs as there are labels, and counts all of an item's;
targets are drawn by the run's own generator (docs/methods/dnph.md).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from xmodal.batch import SIDES, Batch, Features, Side
from xmodal.layers import Dropout, head_init, uniform_linear
from xmodal.losses import label_prediction, nearest_targets, sign, softmax_proxy
from xmodal.methods.base import RetrievalMethod
from xmodal.optimizers import BertAdam


@dataclass(frozen=True)
class DNPHWeights:
    """Weights of DNPH's terms; 0 removes a term and the parameters that only it trains.

    Args:
        proxy: softmax over the distances of a code to all proxies.
        classification: labels predicted from the features; it reaches the codes through trained trunks only.
        uniform: minus the inner product of a code and the random corner dealt to it (alpha).
    """

    proxy: float = 1.0
    classification: float = 1.0
    uniform: float = 0.1


class DNPH(RetrievalMethod):
    """A linear head with dropout and tanh on each side, a proxy per label, and random corners that the codes are dealt.

    Args:
        bits: code length K.
        init: of heads and classifiers: `auto`: `fan_in` where the data standardise a side's features, `release` (He's
            rule for the outputs) where they come as the encoder made them.
        margin: handicap of an item's own proxies.
        labels: of the classification: `softmax`: an item's labels share its weight; `sigmoid`: each by itself;
            `first`: the label of the lowest number alone, as released.
        assignment: corners are dealt to the codes of `each` side by itself, or to `pair`s, by the distance of both
            codes side by side from the corner twice.
        dropout: before the tanh, while training.
        lr: learning rate of heads and classifiers.
        trunk_lr: learning rate of trained trunks, the release's of CLIP.
        proxy_lr: learning rate of the proxies.
        warmup: share of the steps that warm up.
        weight_decay: of all but the proxies, decoupled.
        weights: of the terms.
        image_dim: size of an image feature; linked to the data.
        text_dim: size of a text feature; linked to the data.
        num_labels: C; linked to the data.
        standardised: sides whose features the data standardise; linked to the data.
    """

    name = "dnph"

    def __init__(
        self,
        bits: int = 64,
        init: Literal["auto", "fan_in", "release"] = "auto",
        margin: float = 1.0,
        labels: Literal["softmax", "sigmoid", "first"] = "softmax",
        assignment: Literal["each", "pair"] = "each",
        dropout: float = 0.2,
        lr: float = 1e-3,
        trunk_lr: float = 1e-5,
        proxy_lr: float = 1e-4,
        warmup: float = 0.1,
        weight_decay: float = 0.2,
        weights: DNPHWeights = DNPHWeights(),
        image_dim: int = 1280,
        text_dim: int = 384,
        num_labels: int = 24,
        standardised: tuple[Side, ...] = SIDES,
    ) -> None:
        super().__init__("binary")
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.weights, self.waits = weights, "corners are dealt to codes on the host" if weights.uniform else ""
        self.head, self.classifier = nn.ModuleDict(), nn.ModuleDict()
        for side, size in zip(SIDES, (image_dim, text_dim), strict=True):
            start = head_init(init, side, standardised)
            linear = uniform_linear(size, bits, size if start == "fan_in" else bits)
            self.head[side] = nn.Sequential(linear, Dropout(dropout), nn.Tanh())
            if weights.classification:
                self.classifier[side] = uniform_linear(size, num_labels, size if start == "fan_in" else num_labels)
        self.proxy = nn.Parameter(torch.randn(num_labels, bits) / 8) if weights.proxy else None

    def encode(self, side: Side, features: Features) -> Tensor:
        """(B, bits) relaxed codes."""
        relaxed: Tensor = self.head[side](features["pooled"])
        return relaxed

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One backward over the global batch, then a step of the heads and one of the proxies."""
        codes = self.gather_batch(self.encode("image", batch["image"]), self.encode("text", batch["text"]))
        label, terms = self.gather_rows(batch["label"]), dict[str, Tensor]()
        if self.proxy is not None:
            both = torch.cat([label, label])
            terms["proxy"] = softmax_proxy(torch.cat(codes), self.proxy, both, self.hparams["margin"])
        if self.weights.classification:
            logits = self.gather_batch(*(self.classifier[side](batch[side]["pooled"]) for side in SIDES))
            terms["classification"] = self._classification(logits[0], label) + self._classification(logits[1], label)
        if self.weights.uniform:
            terms["uniform"] = -self._uniform(*codes)
        self.take_step(*self.optimizer_list(), loss=self.weigh(terms))

    def _classification(self, logit: Tensor, label: Tensor) -> Tensor:
        if self.hparams["labels"] != "first":
            return label_prediction(logit, label, self.hparams["labels"])
        return label_prediction(logit, label * (label.cumsum(1) == 1))

    def _uniform(self, image: Tensor, text: Tensor) -> Tensor:
        """Sum over both sides of the mean inner product of a code and its corner; the corners are drawn anew."""
        corner = sign(torch.rand_like(image) - 0.5)
        if self.hparams["assignment"] == "pair":
            dealt = nearest_targets(torch.cat([image, text], 1), torch.cat([corner, corner], 1))[:, : image.shape[1]]
            return ((image + text) * dealt).sum(1).mean()
        dealt_image, dealt_text = nearest_targets(image, corner), nearest_targets(text, corner)
        return (image * dealt_image + text * dealt_text).sum(1).mean()

    def configure_optimizers(self) -> list[Optimizer]:
        """BertAdam over heads, classifiers and trained trunks, plain SGD over the proxies."""
        h = self.hparams
        proxies = [] if self.proxy is None else [SGD([self.proxy], h["proxy_lr"], fused=True)]
        groups = self.parameter_groups(nn.ModuleList([self.head, self.classifier]))
        return [BertAdam(groups, h["lr"], self.total_steps(), h["warmup"], h["weight_decay"]), *proxies]
