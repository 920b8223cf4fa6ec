"""DJSRH: deep joint-semantics reconstructing hashing, without labels.

S. Su et al., "Deep Joint-Semantics Reconstructing Hashing for Large-Scale Unsupervised Cross-Modal Retrieval", ICCV
2019; read with the authors' code (zs-zhong/DJSRH). Departs from it: both trunks are frozen (the release trains
AlexNet); centred features are compared by plain cosines; the second-order term is divided by the pairs there are
(docs/methods/djsrh.md).
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD

from xmodal.batch import SIDES, Batch, Features, Side
from xmodal.layers import perceptron
from xmodal.losses import joint_similarity
from xmodal.methods.base import RetrievalMethod


@dataclass(frozen=True)
class DJSRHWeights:
    """Weights of DJSRH's terms; 0 removes a term.

    Args:
        cross: cosines of image and text codes towards the joint similarity.
        image: the same of image and image (lambda 1).
        text: the same of text and text (lambda 2).
    """

    cross: float = 1.0
    image: float = 0.1
    text: float = 0.1


class DJSRH(RetrievalMethod):
    """Codes whose cosines reconstruct how similar the frozen features of both sides are; no label is read.

    Args:
        bits: code length K.
        image_hidden: hidden layers of the image head; none in the release, whose AlexNet is trained.
        text_hidden: hidden layers of the text head.
        balance: beta, the images' share of the joint similarity.
        second_order: eta, share of the similarity of two items' similarities to all others.
        scale: mu, of the joint similarity.
        affinity: of a side's features: `shifted`: 2 cos - 1, for features without negative numbers, as released;
            `cosine`, for features of mean 0; `auto`: the latter where the data standardise a side.
        image_lr: learning rate of the image head.
        text_lr: learning rate of the text head.
        momentum: of SGD.
        weight_decay: of every tensor.
        weights: of the terms.
        image_dim: size of an image feature; linked to the data.
        text_dim: size of a text feature; linked to the data.
        standardised: sides whose features the data standardise; linked to the data.
    """

    name = "djsrh"
    supervised = False

    def __init__(
        self,
        bits: int = 64,
        image_hidden: tuple[int, ...] = (),
        text_hidden: tuple[int, ...] = (4096,),
        balance: float = 0.9,
        second_order: float = 0.4,
        scale: float = 1.5,
        affinity: Literal["auto", "shifted", "cosine"] = "auto",
        image_lr: float = 1e-3,
        text_lr: float = 1e-2,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        weights: DJSRHWeights = DJSRHWeights(),
        image_dim: int = 1280,
        text_dim: int = 384,
        standardised: tuple[Side, ...] = SIDES,
    ) -> None:
        super().__init__("binary")
        self.save_hyperparameters()
        self.weights = weights
        sizes = {"image": (image_dim, *image_hidden), "text": (text_dim, *text_hidden)}
        self.head = nn.ModuleDict(
            {side: nn.Sequential(perceptron(sizes[side]), nn.Linear(sizes[side][-1], bits)) for side in SIDES}
        )
        raw = {"auto": set(SIDES) - set(standardised), "shifted": SIDES, "cosine": ()}[affinity]
        self.shifted = {side: side in raw for side in SIDES}

    def encode(self, side: Side, features: Features) -> Tensor:
        """(B, bits) relaxed codes."""
        return torch.tanh(self.head[side](features["pooled"]))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """All terms over the global batch; the tanh grows steeper with the root of the epoch."""
        h, steepness = self.hparams, (self.current_epoch + 1) ** 0.5
        feature = {side: self.gather_rows(batch[side]["pooled"]) for side in SIDES}
        target = joint_similarity(feature, self.shifted, h["balance"], h["second_order"]) * h["scale"]
        relaxed = {side: torch.tanh(steepness * self.head[side](batch[side]["pooled"])) for side in SIDES}
        code = {side: F.normalize(self.gather_rows(relaxed[side], gradient=True)) for side in SIDES}
        pairs: dict[str, tuple[Side, Side]]
        pairs = {"cross": ("image", "text"), "image": ("image", "image"), "text": ("text", "text")}
        terms = {
            name: F.mse_loss(code[first] @ code[second].T, target)
            for name, (first, second) in pairs.items()
            if getattr(self.weights, name)
        }
        return self.weigh(terms)

    def configure_optimizers(self) -> SGD:
        """SGD with momentum, each head at its own rate."""
        h = self.hparams
        groups = [{"params": list(self.head[side].parameters()), "lr": h[f"{side}_lr"]} for side in SIDES]
        return SGD(groups, momentum=h["momentum"], weight_decay=h["weight_decay"], fused=True)
