"""DCHMT (also spelled DCMHT): differentiable selection of every bit on CLIP-like features.

J. Tu et al., "Differentiable Cross-modal Hashing via Multimodal Transformers", ACM MM 2022; read with the authors' code
(kalenforn/DCHMT). Departs from it: the encoders are frozen; a tied pair decodes to +1, not to -1; the ReLU that a later
port puts before the softmax is left out (docs/methods/dcmht.md).
"""

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from xmodal.batch import SIDES, Batch, Features, Side
from xmodal.layers import SelectHead, head_init
from xmodal.losses import distance_margin, label_similarity
from xmodal.methods.base import RetrievalMethod
from xmodal.optimizers import BertAdam


@dataclass(frozen=True)
class DCMHTWeights:
    """Weights of DCHMT's terms; 0 removes a term.

    Args:
        inter: similar image-text pairs together, the others a margin apart.
        intra: the same for image-image and text-text pairs.
        quantization: 1 - mean h^2; 0.001 in the later port, absent in the original.
    """

    inter: float = 1.0
    intra: float = 1.0
    quantization: float = 0.0


class DCMHT(RetrievalMethod):
    """A selection head on each side's pooled feature, trained by distances between soft codes.

    Args:
        bits: code length K.
        hidden: units of the heads' hidden layer.
        init: of the heads (`layers.SelectHead`): `auto`: `fan_in` where the data standardise a side's features,
            `release` where they come as the encoder made them (the release's have norm 10, those of `OpenClipImage` 1).
        margin: vartheta: pairs that share no label should be sqrt(2 K vartheta) apart.
        lr: learning rate of the heads.
        trunk_lr: learning rate of trained trunks, the release's of CLIP.
        warmup: share of the steps that warm up.
        weight_decay: decoupled, of every tensor.
        weights: of the terms.
        image_dim: size of an image feature; linked to the data.
        text_dim: size of a text feature; linked to the data.
        standardised: sides whose features the data standardise; linked to the data.
    """

    name = "dcmht"
    steady = True

    def __init__(
        self,
        bits: int = 64,
        hidden: int = 128,
        init: Literal["auto", "fan_in", "release"] = "auto",
        margin: float = 0.5,
        lr: float = 1e-3,
        trunk_lr: float = 1e-5,
        warmup: float = 0.1,
        weight_decay: float = 0.2,
        weights: DCMHTWeights = DCMHTWeights(),
        image_dim: int = 1280,
        text_dim: int = 384,
        standardised: tuple[Side, ...] = SIDES,
    ) -> None:
        super().__init__("binary")
        self.save_hyperparameters()
        self.weights, self.margin = weights, math.sqrt(2 * bits * margin)
        self.head = nn.ModuleDict()
        for side, size in zip(SIDES, (image_dim, text_dim), strict=True):
            self.head[side] = SelectHead(size, bits, hidden, head_init(init, side, standardised))

    def encode(self, side: Side, features: Features) -> Tensor:
        """(B, bits) relaxed codes."""
        relaxed: Tensor = self.head[side](features["pooled"])
        return relaxed

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """All terms over the global batch."""
        image, text = self.gather_batch(self.encode("image", batch["image"]), self.encode("text", batch["text"]))
        label, terms = self.gather_rows(batch["label"]), dict[str, Tensor]()
        similar = label_similarity(label, label)
        if self.weights.inter:
            terms["inter"] = sum(distance_margin(image, text, similar, self.margin), image.new_zeros(()))
        if self.weights.intra:
            pairs = (part for h in (image, text) for part in distance_margin(h, h, similar, self.margin))
            terms["intra"] = sum(pairs, image.new_zeros(()))
        if self.weights.quantization:
            terms["quantization"] = 1 - (image.square().mean() + text.square().mean()) / 2
        return self.weigh(terms)

    def configure_optimizers(self) -> BertAdam:
        """BertAdam over both heads."""
        h = self.hparams
        return BertAdam(self.parameter_groups(), h["lr"], self.total_steps(), h["warmup"], h["weight_decay"])
