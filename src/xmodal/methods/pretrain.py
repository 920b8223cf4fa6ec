"""Contrastive pretraining of a dual encoder: pictures and texts that belong together are close, all others are not.

The loss of CLIP (A. Radford et al., "Learning transferable visual models from natural language supervision", ICML 2021)
on trunks of any size, for datasets where no CLIP weights are at hand. What comes out is a small dual encoder trained
by this suite on a dataset's training pairs, not CLIP; its checkpoint may serve as the weights of OpenClipImage and
OpenClipText (docs/methods/pretrain.md).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xmodal.batch import Batch, Features, Side
from xmodal.layers import JointSpace
from xmodal.losses import info_nce
from xmodal.methods.base import RetrievalMethod
from xmodal.optimizers import BertAdam


@dataclass(frozen=True)
class PretrainWeights:
    """There is one term.

    Args:
        contrast: symmetric InfoNCE over the pairs of the global batch.
    """

    contrast: float = 1.0


class Pretrain(RetrievalMethod):
    """The unit embeddings of both sides, trained by InfoNCE with a learned temperature.

    Args:
        dim: size of the embedding; with `space="joint"` that of the trunks' own.
        space: `joint`: the trunks' features are the embeddings; `projected`: a linear layer makes them, for trunks
            without a joint space, or frozen ones.
        lr: learning rate of the temperature and of the projections.
        trunk_lr: learning rate of the trunks.
        warmup: share of the steps that warm up.
        weight_decay: decoupled.
        image_dim: size of an image feature; linked to the data.
        text_dim: size of a text feature; linked to the data.
    """

    name = "pretrain"
    supervised = False
    steady = True

    def __init__(
        self,
        dim: int = 512,
        space: Literal["joint", "projected"] = "joint",
        lr: float = 1e-3,
        trunk_lr: float = 5e-4,
        warmup: float = 0.1,
        weight_decay: float = 0.2,
        image_dim: int = 512,
        text_dim: int = 512,
    ) -> None:
        super().__init__("real")
        self.save_hyperparameters()
        self.weights = PretrainWeights()
        self.space = JointSpace({"image": image_dim, "text": text_dim}, dim, space)
        self.scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # CLIP's, the logarithm of 1 / temperature

    def encode(self, side: Side, features: Features) -> Tensor:
        """(B, dim) unit embeddings."""
        return F.normalize(self.space(side, features["pooled"]))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """InfoNCE over the global batch."""
        image, text = self.gather_batch(self.encode("image", batch["image"]), self.encode("text", batch["text"]))
        temperature = (-self.scale.clamp(max=math.log(100))).exp()  # CLIP clips it there
        return self.weigh({"contrast": info_nce(image, text, temperature)})

    def configure_optimizers(self) -> BertAdam:
        """BertAdam, the trunks at their own rate."""
        h = self.hparams
        return BertAdam(self.parameter_groups(), h["lr"], self.total_steps(), h["warmup"], h["weight_decay"])
