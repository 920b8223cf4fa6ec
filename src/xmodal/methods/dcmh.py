"""DCMH: deep cross-modal hashing, the likelihood of label similarity against tables of all training codes.

Q.-Y. Jiang and W.-J. Li, "Deep Cross-Modal Hashing", CVPR 2017, https://arxiv.org/abs/1602.02255; read with the
authors' code (jiangqy/DCMH-CVPR2017). Departs from it: the image network's convolutions are a frozen encoder; the image
and the text step of a batch follow each other at once, instead of all image steps of an epoch and then all text steps;
an epoch visits every pair once (docs/methods/dcmh.md).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from xmodal.batch import OTHER, Batch, Features, Side
from xmodal.layers import CodeTables, perceptron
from xmodal.losses import bit_balance, label_similarity, pairwise_likelihood, quantization, sign
from xmodal.methods.base import RetrievalMethod


@dataclass(frozen=True)
class DCMHWeights:
    """Weights of DCMH's terms; 0 removes a term.

    Args:
        likelihood: pairwise likelihood of a modality's outputs against the other modality's table.
        quantization: distance to the discrete codes (gamma).
        balance: bit balance over the training set (eta).
    """

    likelihood: float = 1.0
    quantization: float = 1.0
    balance: float = 1.0


class DCMH(RetrievalMethod):
    """Two networks with linear outputs of `bits` numbers, whose signs are the codes.

    Args:
        bits: code length K.
        image_hidden: hidden layers of the image network; none, as the paper's last layer sits on the CNN's features.
        text_hidden: hidden layers of the text network.
        optimizer: `sgd` as the paper trains from pixels; `adam` for frozen features.
        lr: learning rate at the start.
        final_lr: learning rate of the last epoch; it falls in equal steps.
        weight_decay: L2 penalty of the optimizer.
        weights: of the terms.
        image_dim: size of an image feature; linked to the data.
        text_dim: size of a text feature; linked to the data.
        num_train: n; linked to the data.
    """

    name = "dcmh"

    code: Tensor

    def __init__(
        self,
        bits: int = 64,
        image_hidden: tuple[int, ...] = (),
        text_hidden: tuple[int, ...] = (8192,),
        optimizer: Literal["sgd", "adam"] = "sgd",
        lr: float = 10**-1.5,
        final_lr: float = 1e-6,
        weight_decay: float = 0.0,
        weights: DCMHWeights = DCMHWeights(),
        image_dim: int = 1280,
        text_dim: int = 384,
        num_train: int = 1000,
    ) -> None:
        super().__init__("binary")
        self.save_hyperparameters()
        self.weights = weights
        self.net = nn.ModuleDict(
            {
                side: nn.Sequential(perceptron((dim, *hidden)), nn.Linear((dim, *hidden)[-1], bits))
                for side, dim, hidden in (("image", image_dim, image_hidden), ("text", text_dim, text_hidden))
            }
        )
        for parameter in self.net.parameters():
            nn.init.normal_(parameter, std=0.01)
        self.tables = CodeTables(("image", "text"), num_train, bits)  # F and G
        self.register_buffer("code", torch.zeros(num_train, bits))  # B

    def on_fit_start(self) -> None:
        """Labels of the training set."""
        self.tables.open(self.train_set())

    def on_train_epoch_start(self) -> None:
        """B = sign(F + G), from what the last epoch left in the tables."""
        self.code = sign(self.tables.table("image") + self.tables.table("text"))
        self.log_codes("train", self.code)

    def encode(self, side: Side, features: Features) -> Tensor:
        """(B, bits) outputs, unbounded as in the paper."""
        outputs: Tensor = self.net[side](features["pooled"])
        return outputs

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The image step and the text step; one backward serves both, as they share no parameter."""
        tables, w = self.tables, self.weights
        rows = self.gather_rows(tables.rows(batch["index"]))
        similar = label_similarity(tables.label[rows], tables.label)  # (B, n)
        outputs = {"image": self.encode("image", batch["image"]), "text": self.encode("text", batch["text"])}
        outputs = {side: self.gather_rows(relaxed, gradient=True) for side, relaxed in outputs.items()}
        for side, relaxed in outputs.items():
            tables.store(side, rows, relaxed)
        terms: dict[str, list[Tensor]] = {"likelihood": [], "quantization": [], "balance": []}
        for side, other in OTHER.items():
            relaxed = outputs[side]
            if w.likelihood:
                terms["likelihood"].append(pairwise_likelihood(relaxed, tables.table(other), similar))
            if w.quantization:
                terms["quantization"].append(quantization(relaxed, self.code[rows], tables.size))
            if w.balance:
                rest = tables.table(side).sum(0) - tables.table(side)[rows].sum(0)
                terms["balance"].append(bit_balance(relaxed, rest, tables.size))
        return self.weigh({name: torch.stack(parts).sum() for name, parts in terms.items() if parts})

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LambdaLR]]:
        """One optimizer for both networks; the rate falls linearly from epoch to epoch."""
        h = self.hparams
        kind = SGD if h["optimizer"] == "sgd" else Adam
        optimizer = kind(self.net.parameters(), lr=h["lr"], weight_decay=h["weight_decay"], fused=True)
        last, share = max((self.trainer.max_epochs or 1) - 1, 1), h["final_lr"] / (h["lr"] or 1)
        return [optimizer], [LambdaLR(optimizer, lambda epoch: 1 + (share - 1) * min(epoch / last, 1))]
