"""DIMCH: diverse instances matching for cross-modal hashing.

IEEE TIP 2025, document 10974482; read with the authors' code (kalenforn/clip-based-cross-modal-hash). Departs from it:
the encoders are frozen by default; features without a joint space are projected; padded text tokens are 0; instances
are pushed apart within an item, not across the batch; an item without labels has no gain, not NaN
(docs/methods/dimch.md).
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xmodal.batch import SIDES, Batch, Features, Side
from xmodal.checks import check_tokens
from xmodal.layers import JointSpace, TokenFilters
from xmodal.losses import graded_triplet, set_discrepancy, set_diversity, sign, smooth_chamfer
from xmodal.methods.base import RetrievalMethod
from xmodal.optimizers import BertAdam


@dataclass(frozen=True)
class DIMCHWeights:
    """Weights of DIMCH's terms; 0 removes a term.

    Args:
        sets: graded triplets on the smooth Chamfer similarity of both sides' sets.
        discrepancy: maximum mean discrepancy of both sides' instances.
        diversity: closeness of the instances of an item.
        codes: graded triplets on the cosines of the codes.
        quantization: mean (h - sign h)^2.
    """

    sets: float = 50.0
    discrepancy: float = 1.0
    diversity: float = 0.3
    codes: float = 50.0
    quantization: float = 1.0


def dimch_terms(
    image: Tensor,
    text: Tensor,
    label: Tensor,
    weights: DIMCHWeights,
    sharpness: float,
    margins: tuple[float, float],
    *,
    across: bool,
) -> dict[str, Tensor]:
    """DIMCH's terms of weight above 0.

    Args:
        image: (N, M, K) instances of the images.
        text: (N, M, K) instances of the texts.
        label: (N, C) multi-hot.
        weights: of the terms.
        sharpness: of the smooth Chamfer similarity.
        margins: of the triplets on sets and on codes.
        across: whether the diversity counts pairs of the whole batch.
    """
    unit, codes = [F.normalize(each, dim=2) for each in (image, text)], [code(each) for each in (image, text)]
    terms = dict[str, Tensor]()
    if weights.sets:
        distance = (1 - smooth_chamfer(unit[0], unit[1], sharpness)).clamp_min(0)
        terms["sets"] = _both_ways(distance, label, margins[0])
    if weights.discrepancy:
        terms["discrepancy"] = set_discrepancy(unit[0], unit[1])
    if weights.diversity:
        terms["diversity"] = torch.stack([set_diversity(each, across=across) for each in unit]).sum()
    if weights.codes:
        distance = (1 - F.normalize(codes[0]) @ F.normalize(codes[1]).T).clamp_min(0)
        terms["codes"] = _both_ways(distance, label, margins[1])
    if weights.quantization:
        terms["quantization"] = torch.stack([(h - sign(h.detach())).square().mean() for h in codes]).mean()
    return terms


def code(instance: Tensor) -> Tensor:
    """(N, M, K) instances -> (N, K) relaxed codes: tanh of their mean."""
    return torch.tanh(instance.mean(1))


def _both_ways(distance: Tensor, label: Tensor, margin: float) -> Tensor:
    return (graded_triplet(distance, label, margin) + graded_triplet(distance.T, label, margin)) / 2


class DIMCH(RetrievalMethod):
    """Each side is a set of M vectors made by filters over its tokens; sets are matched, and their mean is the code.

    Args:
        bits: code length K.
        space: `joint`: the features share one space already (CLIP's); `projected`: they do not, and one is learned.
        dim: of the joint space.
        instances: M.
        image_places: most tokens of an image.
        text_places: most tokens of a text.
        hidden: units of the heads' hidden layer.
        dropout: after it, while training.
        sharpness: of the smooth Chamfer similarity.
        set_margin: of the triplets on sets.
        code_margin: of the triplets on codes.
        diversity: instances are pushed apart within `items`, or across the whole `batch`, as released.
        lr: learning rate.
        trunk_lr: learning rate of trained trunks, the release's of CLIP.
        warmup: share of the steps that warm up.
        weight_decay: decoupled.
        weights: of the terms.
        image_token_dim: size of an image token; linked to the data.
        text_token_dim: size of a text token; linked to the data.
    """

    name = "dimch"
    steady = True

    def __init__(
        self,
        bits: int = 64,
        space: Literal["joint", "projected"] = "joint",
        dim: int = 512,
        instances: int = 8,
        image_places: int = 50,
        text_places: int = 32,
        hidden: int = 256,
        dropout: float = 0.3,
        sharpness: float = 16.0,
        set_margin: float = 0.3,
        code_margin: float = 0.3,
        diversity: Literal["items", "batch"] = "items",
        lr: float = 1e-3,
        trunk_lr: float = 1e-5,
        warmup: float = 0.1,
        weight_decay: float = 0.2,
        weights: DIMCHWeights = DIMCHWeights(),
        image_token_dim: int = 512,
        text_token_dim: int = 512,
    ) -> None:
        super().__init__("binary")
        self.save_hyperparameters()
        check_tokens(self.name, image_token_dim, text_token_dim)
        self.weights = weights
        self.space = JointSpace({"image": image_token_dim, "text": text_token_dim}, dim, space)
        places = {"image": image_places, "text": text_places}
        self.filters = nn.ModuleDict(
            {side: TokenFilters(dim, bits, instances, places[side], hidden, dropout) for side in SIDES}
        )

    def encode(self, side: Side, features: Features) -> Tensor:
        """(B, bits) relaxed codes."""
        return code(self._instances(side, features))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """All terms over the global batch."""
        h = self.hparams
        image, text = self.gather_batch(*(self._instances(side, batch[side]) for side in SIDES))
        margins, across = (h["set_margin"], h["code_margin"]), h["diversity"] == "batch"
        label = self.gather_rows(batch["label"])
        return self.weigh(dimch_terms(image, text, label, self.weights, h["sharpness"], margins, across=across))

    def configure_optimizers(self) -> BertAdam:
        """BertAdam over everything that is trained."""
        h = self.hparams
        return BertAdam(self.parameter_groups(), h["lr"], self.total_steps(), h["warmup"], h["weight_decay"])

    def _instances(self, side: Side, features: Features) -> Tensor:
        """(B, M, K)."""
        out: Tensor = self.filters[side](self.space(side, features["tokens"]), features.get("mask"))
        return out
