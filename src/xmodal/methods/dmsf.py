"""DMSF: deep multi-label semantic fusion hashing with graph regularisation.

The paper's full text is not public. Its abstract names two networks, multi-label semantic fusion, inter- and
intra-modal pairwise losses and graph regularisation; the formulas here are our reconstruction from its relatives
(DCMH, PRDH, TDH, SSAH, AGAH). docs/methods/dmsf.md says of every line which it is. No reproduction of the paper's
tables is claimed.
"""

from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import ExponentialLR

from xmodal.batch import Batch, Features, Side
from xmodal.errors import UserError
from xmodal.layers import CodeTables, Dropout, MultiScaleText, perceptron
from xmodal.losses import (
    Similarity,
    bit_balance,
    fused_label_prediction,
    graph_codes,
    graph_factor,
    label_similarity,
    pairwise_likelihood,
    quantization,
    sign,
)
from xmodal.methods.base import RetrievalMethod


@dataclass(frozen=True)
class DMSFWeights:
    """Weights of DMSF's terms; 0 removes a term and what only it needs.

    Args:
        inter: pairwise likelihood of a modality's codes against the other modality's table.
        intra: the same within a modality (alpha).
        label: label prediction of each modality (beta).
        fused_label: label prediction of the mean of both modalities' predictions.
        quantization: distance to the discrete codes (gamma).
        graph: normalised graph regularisation of the discrete codes (eta); acts through `quantization`.
        balance: bit balance (mu).
        label_net: the third network of `fusion="labelnet"`; not used by the other fusions.
    """

    inter: float = 1.0
    intra: float = 1.0
    label: float = 1.0
    fused_label: float = 1.0
    quantization: float = 1.0
    graph: float = 0.1
    balance: float = 0.0
    label_net: float = 1.0


class DMSF(RetrievalMethod):
    """Two networks whose features are fused with label semantics, trained against tables of all training codes.

    Args:
        bits: code length K.
        fusion: how label semantics enter the features: `attention` adds the predicted labels' semantics (default),
            `concat` appends the predictions, `labelnet` trains a third network on the labels that guides the codes,
            `none` leaves the features alone.
        fusion_keep: lambda of `attention`: share of the feature that is kept (AGAH: 0.8).
        similarity: of label sets; `shared` is the literature's.
        image_hidden: hidden layers of the image network before its feature layer; none, as DCMH does on CNN features.
        text_net: `multiscale`: SSAH's, for tag vectors; `mlp`: one hidden layer, for sentence features.
        text_hidden: hidden units of the text network.
        features: size of the feature layer.
        dropout: on the features, while training.
        optimizer: `adam` for frozen features, `sgd` as DCMH trains end to end.
        image_lr: learning rate of the image network.
        text_lr: learning rate of the text network (and of the label network).
        lr_decay: the rates fall geometrically to this share of themselves over the training.
        weight_decay: L2 penalty of the optimizer.
        weights: of the terms.
        image_dim: size of an image feature; linked to the data.
        text_dim: size of a text feature; linked to the data.
        num_labels: C; linked to the data.
        num_train: n; linked to the data.
    """

    name = "dmsf"

    code: Tensor
    semantics: Tensor
    semantic_sum: Tensor
    factor: Tensor

    def __init__(
        self,
        bits: int = 64,
        fusion: Literal["none", "concat", "attention", "labelnet"] = "attention",
        fusion_keep: float = 0.8,
        similarity: Similarity = "shared",
        image_hidden: tuple[int, ...] = (),
        text_net: Literal["multiscale", "mlp"] = "multiscale",
        text_hidden: int = 4096,
        features: int = 512,
        dropout: float = 0.0,
        optimizer: Literal["adam", "sgd"] = "adam",
        image_lr: float = 1e-4,
        text_lr: float = 1e-4,
        lr_decay: float = 0.01,
        weight_decay: float = 0.0,
        weights: DMSFWeights = DMSFWeights(),
        image_dim: int = 1280,
        text_dim: int = 384,
        num_labels: int = 24,
        num_train: int = 1000,
    ) -> None:
        super().__init__("binary")
        self.save_hyperparameters()
        if weights.graph and not weights.quantization:
            raise UserError(
                "DMSF: the graph term acts through the quantisation: give weights.quantization > 0, or graph = 0."
            )
        self.weights, self.fusion, self.fusion_keep, self.similarity = weights, fusion, fusion_keep, similarity
        sizes = text_dim, text_hidden, features
        text_trunk = MultiScaleText(*sizes) if text_net == "multiscale" else perceptron(sizes)
        self.trunk = nn.ModuleDict({"image": perceptron((image_dim, *image_hidden, features)), "text": text_trunk})
        self.dropout = Dropout(dropout)
        self.predicts = bool(weights.label or weights.fused_label) or fusion in ("concat", "attention")
        width = features + (num_labels if fusion == "concat" else 0)
        self.hash = nn.ModuleDict({side: nn.Linear(width, bits) for side in self.trunk})
        self.label_head = nn.ModuleDict({side: nn.Linear(features, num_labels) for side in self.trunk if self.predicts})
        if fusion == "labelnet":
            self.label_net = perceptron((num_labels, 4096, 512))
            self.label_net_hash, self.label_net_head = nn.Linear(512, bits), nn.Linear(512, num_labels)
        sides = ("image", "text", "guide") if fusion == "labelnet" else ("image", "text")
        self.tables = CodeTables(sides, num_train, bits)  # F, G (and the label network's codes)
        self.register_buffer("code", torch.zeros(num_train, bits))  # B
        self.register_buffer("semantics", torch.zeros(num_labels, features))  # M; zero in the first epoch
        self.register_buffer("semantic_sum", torch.zeros(num_labels, features))  # what M will be in the next
        self.register_buffer("factor", torch.zeros(0), persistent=False)  # of the training set's graph

    def on_fit_start(self) -> None:
        """Labels of the training set, and the factorised graph, once."""
        self.tables.open(self.train_set())
        if self.weights.graph:
            similar = label_similarity(self.tables.label, self.tables.label, self.similarity)
            self.factor = graph_factor(similar, self.weights.graph / self.weights.quantization)

    def on_train_epoch_start(self) -> None:
        """The discrete step (Eq. 2.6 (3)) and the class semantics, from what the last epoch left in the tables.

        At the start of an epoch rather than at its end: a checkpoint then holds exactly the state that was validated.
        """
        mean = self.tables.table("image") + self.tables.table("text")
        if self.weights.quantization:
            self.code = graph_codes(self.factor, mean) if self.weights.graph else sign(mean)
            self.log_codes("train", self.code)
        self.semantics = F.normalize(self.semantic_sum)
        self.semantic_sum = torch.zeros_like(self.semantic_sum)

    def encode(self, side: Side, features: Features) -> Tensor:
        """(B, bits) relaxed codes."""
        return self._codes(side, *self._predict(side, features))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Image step and text step of the alternation in one backward: they share no parameter."""
        rows, size, w = self.gather_rows(self.tables.rows(batch["index"])), self.tables.size, self.weights
        label = self.tables.label[rows]
        similar = label_similarity(label, self.tables.label, self.similarity)  # (B, n)
        image_feature, image_logit = self.gather_batch(*self._predict("image", batch["image"]))
        text_feature, text_logit = self.gather_batch(*self._predict("text", batch["text"]))
        image, text = self._codes("image", image_feature, image_logit), self._codes("text", text_feature, text_logit)
        self.tables.store("image", rows, image)
        self.tables.store("text", rows, text)
        self.semantic_sum += label.T @ (image_feature + text_feature).detach()
        image_table, text_table = self.tables.table("image"), self.tables.table("text")
        terms: dict[str, Tensor] = {}
        if w.inter:
            crossed = pairwise_likelihood(text, image_table, similar)
            terms["inter"] = pairwise_likelihood(image, text_table, similar) + crossed
        if w.intra:
            own = pairwise_likelihood(text, text_table, similar)
            terms["intra"] = pairwise_likelihood(image, image_table, similar) + own
        if w.label:
            bce = F.binary_cross_entropy_with_logits
            terms["label"] = bce(image_logit, label) + bce(text_logit, label)
        if w.fused_label:
            terms["fused_label"] = fused_label_prediction(image_logit, text_logit, label)
        if w.quantization:
            code = self.code[rows]
            terms["quantization"] = quantization(image, code, size) + quantization(text, code, size)
        if w.balance:
            tables = (image, image_table), (text, text_table)
            balances = [bit_balance(h, table.sum(0) - table[rows].sum(0), size) for h, table in tables]
            terms["balance"] = torch.stack(balances).sum()
        if self.fusion == "labelnet" and w.label_net:
            feature = self.label_net(label)
            guide = torch.tanh(self.label_net_hash(feature))
            self.tables.store("guide", rows, guide)
            guided = (pairwise_likelihood(h, self.tables.table("guide"), similar) for h in (image, text, guide))
            terms["label_net"] = sum(guided, F.binary_cross_entropy_with_logits(self.label_net_head(feature), label))
        return self.weigh(terms)

    def configure_optimizers(self) -> tuple[list[Optimizer], list[ExponentialLR]]:
        """One optimizer with a rate per network; both fall geometrically, once an epoch."""
        h = self.hparams
        image = {name: each for name, each in self.named_parameters() if name.split(".")[1] == "image"}
        others = [each for name, each in self.named_parameters() if name not in image]
        groups = [{"params": list(image.values()), "lr": h["image_lr"]}, {"params": others, "lr": h["text_lr"]}]
        kind = Adam if h["optimizer"] == "adam" else SGD
        optimizer = kind(groups, lr=h["text_lr"], weight_decay=h["weight_decay"], fused=True)
        return [optimizer], [ExponentialLR(optimizer, h["lr_decay"] ** (1 / max(self.trainer.max_epochs or 1, 1)))]

    def _predict(self, side: Side, features: Features) -> tuple[Tensor, Tensor]:
        """(B, features) and the logits of the labels (B, C); (B, 0) where nothing is predicted."""
        feature = self.dropout(self.trunk[side](features["pooled"]))
        return feature, self.label_head[side](feature) if self.predicts else feature[:, :0]

    def _codes(self, side: Side, feature: Tensor, logit: Tensor) -> Tensor:
        """Multi-label semantic fusion, then the hash head."""
        if self.fusion == "concat":
            feature = torch.cat([feature, logit.sigmoid()], 1)
        elif self.fusion == "attention":
            share = F.logsigmoid(logit).softmax(1)  # p_c / sum of p, also where every p is tiny
            feature = self.fusion_keep * feature + (1 - self.fusion_keep) * share @ self.semantics
        return torch.tanh(cast("Tensor", self.hash[side](feature)))
