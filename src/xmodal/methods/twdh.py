"""TwDH: two-step discrete hashing.

"Two-Step Discrete Hashing for Cross-Modal Retrieval", IEEE TMM 2024, doi 10.1109/TMM.2024.3381828; read with the
authors' code (kalenforn/clip-based-cross-modal-hash). Departs from it: the encoders are frozen by default; the matrices
to short codes are solved in closed form and lossless; tied bits are filled alike in every batch; DCHMT's head without
the ReLU before the softmax (docs/methods/twdh.md).
"""

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from xmodal.batch import SIDES, Batch, Features, Side
from xmodal.errors import UserError
from xmodal.layers import SelectHead, head_init, label_centres, short_map
from xmodal.losses import centre_likelihood, label_target
from xmodal.methods.base import RetrievalMethod
from xmodal.optimizers import BertAdam

SHARPNESS = 4.0  # logit of a short bit whose labels agree: a probability of .98


@dataclass(frozen=True)
class TwDHWeights:
    """Weights of TwDH's terms; 0 removes a term.

    Args:
        centre: likelihood of the long target of an item's labels.
        quantization: 1 - mean h^2 of the long codes.
        short: both for the short codes of every length in `lengths`; 0 in the release, which trains the long one only.
    """

    centre: float = 1.0
    quantization: float = 0.5
    short: float = 0.0


class TwDH(RetrievalMethod):
    """A long code that is trained towards label centres, and fixed linear maps from it to short ones.

    The training does not depend on `bits` and is judged by the long code: runs that differ in it only share one
    (`xmodal.lengths`). Evaluations outside of a training are of the short code.

    Args:
        bits: K, length of the code that is evaluated; `long` itself gives the long one.
        long: L, length of the code that is trained; at least one bit for each label.
        lengths: of the short codes that `weights.short` trains.
        hidden: units of the heads' hidden layer.
        init: of the heads, as DCHMT's (`layers.SelectHead`).
        ties: bits on which an item's labels are tied: `filled` by one random code, drawn once, as the release draws it
            anew for every batch; or `open`, and left out of the loss.
        lr: learning rate of the heads.
        trunk_lr: learning rate of trained trunks, the release's of CLIP.
        warmup: share of the steps that warm up.
        weight_decay: decoupled, of every tensor.
        weights: of the terms.
        image_dim: size of an image feature; linked to the data.
        text_dim: size of a text feature; linked to the data.
        num_labels: C; linked to the data.
        standardised: sides whose features the data standardise; linked to the data.
    """

    name = "twdh"
    steady = True
    one_training = True

    fill: Tensor | None

    def __init__(
        self,
        bits: int = 64,
        long: int = 512,
        lengths: tuple[int, ...] = (16, 32, 64),
        hidden: int = 128,
        init: Literal["auto", "fan_in", "release"] = "auto",
        ties: Literal["filled", "open"] = "filled",
        lr: float = 1e-3,
        trunk_lr: float = 1e-5,
        warmup: float = 0.1,
        weight_decay: float = 0.2,
        weights: TwDHWeights = TwDHWeights(),
        image_dim: int = 1280,
        text_dim: int = 384,
        num_labels: int = 24,
        standardised: tuple[Side, ...] = SIDES,
    ) -> None:
        super().__init__("binary")
        self.save_hyperparameters()
        if long < num_labels:
            raise UserError(f"model.long is {long}: give at least one bit for each of the {num_labels} labels.")
        self.weights, self.evaluates_long = weights, bits == long
        self.head = nn.ModuleDict(
            {
                side: SelectHead(size, long, hidden, head_init(init, side, standardised))
                for side, size in zip(SIDES, (image_dim, text_dim), strict=True)
            }
        )
        centre = label_centres(num_labels, long)
        self.register_buffer("centre", centre, persistent=False)  # made alike in every run
        self.register_buffer("fill", label_centres(1, long + 1)[0, 1:] if ties == "filled" else None, persistent=False)
        for length in {bits, *(lengths if weights.short else ())}:
            short = label_centres(num_labels, length)
            self.register_buffer(f"short_{length}", short, persistent=False)
            self.register_buffer(f"map_{length}", short_map(centre, short), persistent=False)

    def on_fit_start(self) -> None:
        """Validate by the long code, whatever `bits` is."""
        self.evaluates_long = True

    def on_fit_end(self) -> None:
        """Evaluate the code of `bits`."""
        self.evaluates_long = self.hparams["bits"] == self.hparams["long"]

    def encode(self, side: Side, features: Features) -> Tensor:
        """(B, bits) relaxed codes, or (B, long) within a training."""
        return self._code(self.head[side](features["pooled"]))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """All terms, means of both sides, over the global batch."""
        logits = self.gather_batch(
            *(cast("SelectHead", self.head[side]).logit(batch[side]["pooled"]) for side in SIDES)
        )
        label, weights = self.gather_rows(batch["label"]), self.weights
        relaxed, terms = [torch.tanh(logit / 2) for logit in logits], dict[str, Tensor]()
        if weights.centre:
            target = label_target(label, self.get_buffer("centre"), self.fill)
            terms["centre"] = torch.stack([centre_likelihood(logit, target) for logit in logits]).mean()
        if weights.quantization:
            terms["quantization"] = 1 - torch.stack(relaxed).square().mean()
        if weights.short:
            parts = [self._short(each, label, length) for each in relaxed for length in self.hparams["lengths"]]
            terms["short"] = torch.stack(parts).sum() / len(relaxed)
        return self.weigh(terms)

    def configure_optimizers(self) -> BertAdam:
        """BertAdam over both heads."""
        h = self.hparams
        return BertAdam(self.parameter_groups(), h["lr"], self.total_steps(), h["warmup"], h["weight_decay"])

    def _short(self, relaxed: Tensor, label: Tensor, length: int) -> Tensor:
        logit = SHARPNESS * relaxed @ self.get_buffer(f"map_{length}")
        target = label_target(label, self.get_buffer(f"short_{length}"))
        return centre_likelihood(logit, target) + 1 - torch.tanh(logit / 2).square().mean()

    def _code(self, relaxed: Tensor) -> Tensor:
        if self.evaluates_long:
            return relaxed
        return torch.tanh(SHARPNESS / 2 * relaxed @ self.get_buffer(f"map_{self.hparams['bits']}"))
