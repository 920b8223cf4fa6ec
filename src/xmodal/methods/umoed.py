"""UMoED: unified mixture-of-experts decoder, generative hashing.

ACM TOMM 2025, doi 10.1145/3744567; read with the authors' code (kalenforn/clip-based-cross-modal-hash). Departs from
it: the encoders are frozen by default; features without a joint space are projected; padded text tokens are masked; an
item without labels has no gain, not NaN; the third, fused modality, idle in the release, is absent
(docs/methods/umoed.md).
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xmodal.batch import SIDES, Batch, Features, Side
from xmodal.checks import check_tokens
from xmodal.errors import UserError
from xmodal.layers import Dropout, JointSpace, QueryDecoder
from xmodal.losses import graded_triplet, set_diversity
from xmodal.methods.base import RetrievalMethod
from xmodal.optimizers import BertAdam


@dataclass(frozen=True)
class UMoEDWeights:
    """Weights of UMoED's terms; 0 removes a term.

    Args:
        triplet: graded triplets on the inner products of both sides' distributions over words.
        diversity: closeness of the queries' logits within an item.
    """

    triplet: float = 1.0
    diversity: float = 0.8


def umoed_terms(
    image: Tensor, text: Tensor, label: Tensor, weights: UMoEDWeights, temperature: float, margin: float
) -> dict[str, Tensor]:
    """UMoED's terms of weight above 0. The 4 and the 3 are the release's, which counts a third modality that is idle.

    Args:
        image: (N, M, V) logits of the images' queries.
        text: (N, M, V) logits of the texts' queries.
        label: (N, C) multi-hot.
        weights: of the terms.
        temperature: of the softmax over a row of length 1.
        margin: of the triplets.
    """
    unit, terms = [F.normalize(each, dim=2) for each in (image, text)], dict[str, Tensor]()
    if weights.triplet:
        first, second = ((each / temperature).softmax(2).flatten(1) for each in unit)
        distance = 1 - first @ second.T / image.shape[1]
        ways = graded_triplet(distance, label, margin), graded_triplet(distance.T, label, margin)
        terms["triplet"] = (ways[0] + ways[1]) / 4
    if weights.diversity:
        terms["diversity"] = (set_diversity(unit[0]) + set_diversity(unit[1])) / 3
    return terms


class UMoED(RetrievalMethod):
    """One decoder for both sides: each of its queries chooses a word, whose number is that query's bits.

    Args:
        bits: code length K.
        word_bits: bits of a word, a divisor of K: there are K / word_bits queries and 2^word_bits words.
        space: `joint`: the features share one space already (CLIP's); `projected`: they do not, and one is learned.
        dim: of the joint space.
        hidden: units of the decoder's feed-forward parts.
        layers: of the decoder.
        heads: of its attentions.
        experts: of its mixtures.
        slots: of an expert.
        dropout: in the decoder and before the words, while training.
        temperature: of the distributions over words.
        margin: of the triplets.
        lr: learning rate.
        trunk_lr: learning rate of trained trunks, the release's of CLIP.
        warmup: share of the steps that warm up.
        weight_decay: decoupled.
        weights: of the terms.
        image_token_dim: size of an image token; linked to the data.
        text_token_dim: size of a text token; linked to the data.
    """

    name = "umoed"
    steady = True

    def __init__(
        self,
        bits: int = 64,
        word_bits: int = 1,
        space: Literal["joint", "projected"] = "joint",
        dim: int = 512,
        hidden: int = 2048,
        layers: int = 6,
        heads: int = 8,
        experts: int = 8,
        slots: int = 8,
        dropout: float = 0.3,
        temperature: float = 0.3,
        margin: float = 0.1,
        lr: float = 1e-4,
        trunk_lr: float = 1e-5,
        warmup: float = 0.1,
        weight_decay: float = 0.2,
        weights: UMoEDWeights = UMoEDWeights(),
        image_token_dim: int = 512,
        text_token_dim: int = 512,
    ) -> None:
        super().__init__("binary")
        self.save_hyperparameters()
        check_tokens(self.name, image_token_dim, text_token_dim)
        if bits % word_bits or word_bits > 16:
            raise UserError(f"model.word_bits is {word_bits}: give a divisor of the {bits} bits, 16 at most.")
        self.weights = weights
        self.space = JointSpace({"image": image_token_dim, "text": text_token_dim}, dim, space)
        queries = bits // word_bits
        self.decoder = QueryDecoder(dim, queries, layers, heads, hidden, experts, slots, dropout)
        self.word = nn.Sequential(Dropout(dropout), nn.Linear(dim, 2**word_bits))
        self.register_buffer("digit", binary_digits(word_bits), persistent=False)

    def encode(self, side: Side, features: Features) -> Tensor:
        """(B, bits): the likeliest words' digits as -1 or +1, times the words' probabilities."""
        return self.relaxed(self._logits(side, features))

    def relaxed(self, logit: Tensor) -> Tensor:
        """(B, M, V) logits -> (B, bits), whose signs are the code."""
        probability, word = logit.softmax(2).max(2)
        return (self.get_buffer("digit")[word] * probability[:, :, None]).flatten(1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """All terms over the global batch."""
        image, text = self.gather_batch(*(self._logits(side, batch[side]) for side in SIDES))
        label, h = self.gather_rows(batch["label"]), self.hparams
        return self.weigh(umoed_terms(image, text, label, self.weights, h["temperature"], h["margin"]))

    def configure_optimizers(self) -> BertAdam:
        """BertAdam over everything that is trained."""
        h = self.hparams
        return BertAdam(self.parameter_groups(), h["lr"], self.total_steps(), h["warmup"], h["weight_decay"])

    def _logits(self, side: Side, features: Features) -> Tensor:
        """(B, M, V)."""
        out: Tensor = self.word(self.decoder(self.space(side, features["tokens"]), features.get("mask")))
        return out


def binary_digits(count: int) -> Tensor:
    """(2^count, count) the binary digits of every number, most significant first, 0 as -1 and 1 as +1."""
    number = torch.arange(2**count)[:, None]
    return (number >> torch.arange(count - 1, -1, -1) & 1) * 2.0 - 1
