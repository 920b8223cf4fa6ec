"""SCAHN: semantic structure enhanced contrastive adversarial hash network.

M. Liang et al., "Semantic Structure Enhanced Contrastive Adversarial Hash Network for Cross-media Representation
Learning", ACM MM 2022, doi 10.1145/3503161.3548391. The paper's text is not public; everything is written from the
authors' released code. Departs from it: frozen encoders; label names are embedded by MiniLM instead of GloVe; the
quirks of the release are options whose defaults are the clean form (docs/methods/scahn.md; ablations/as_released.yaml
sets them as released). No reproduction of the paper's tables is claimed.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from xmodal.batch import OTHER, SIDES, Batch, Features, Side
from xmodal.checks import check_tokens
from xmodal.layers import (
    CodeDiscriminators,
    CodeQueue,
    FeatureDropout,
    LabelGCN,
    RegionTransformer,
    TokenTransformer,
    label_graph,
)
from xmodal.losses import cosine_triplet, multilabel_paco
from xmodal.methods.base import RetrievalMethod


@dataclass(frozen=True)
class SCAHNWeights:
    """Weights of SCAHN's terms, all 1 in the release; 0 removes a term and what only it needs.

    Args:
        classification: labels predicted from both features.
        inter: contrast of a modality's codes with the other modality's.
        intra: contrast within a modality; there is none with `contrast="triplet"`.
        adversarial: each modality's codes should pass for the other's.
    """

    classification: float = 1.0
    inter: float = 1.0
    intra: float = 1.0
    adversarial: float = 1.0


def scahn_rate(epoch: float, warmup: float, period: float) -> float:
    """Share of the learning rate: linear over the warm-up, times exp(-0.9) after every period; all in epochs."""
    return math.exp(-0.9 * math.floor(epoch / period + 1e-9)) * min(epoch / warmup if warmup else 1.0, 1.0)


class SCAHN(RetrievalMethod):
    """Token transformers whose features are classified by a graph over the labels and hashed into contrasted codes.

    Args:
        bits: code length K.
        image_branch: `patches`: tokens as they are; `regions`: tokens with their boxes (grid cells) through four more
            transformer blocks, the release's branch for detected regions.
        classifier: `gcn`: the label graph gives the classifier's weights; `linear`: they are free.
        label_features: of the graph's nodes: `names`: embedded label names; `one_hot`: nothing is known of a label.
        classification: cross-entropy of `logits`, or of a `double_sigmoid` as released.
        contrast: `paco`, or the release's alternatives `triplet` and `ranked_triplet` (between modalities only).
        codes: that are contrasted: divided by sqrt(K) (`scaled`: binary ones have length 1, and larger
            outputs are contrasted more sharply), of length 1 (`normalised`), or as they are (`raw`), as released.
        pooling: mean over the `real` tokens, or over `all`, padding included, as released.
        queue: number of past codes per modality.
        queue_start: `empty`, or full of `noise` as released.
        discriminators: `dual`: one per modality, that takes its own modality for real; `single`: one for both.
        temperature: of the contrast.
        alpha: weight of a positive code in the contrast.
        threshold: of the label graph.
        margin: of the triplets.
        dim: of the features.
        layers: transformer blocks on each side; 0: the mean of the tokens.
        hidden: units of the blocks' feed-forward parts.
        region_layers: transformer blocks of `image_branch="regions"`.
        dropout: in the blocks.
        input_dropout: share of the tokens' dimensions that is zeroed while training; 0 in the release.
        lr: learning rate of everything but the next two.
        gcn_lr: of the label graph; the release has 0.2.
        discriminator_lr: of the discriminators.
        warmup: in epochs; 1,000 steps of 312 a epoch in the release.
        decay_every: the rates fall by exp(-0.9) every so many epochs.
        weights: of the terms.
        image_token_dim: size of an image token; linked to the data.
        text_token_dim: size of a text token; linked to the data.
        num_labels: C; linked to the data.
        label_dim: size of an embedded label name.
    """

    name = "scahn"
    steady = True

    def __init__(
        self,
        bits: int = 64,
        image_branch: Literal["patches", "regions"] = "patches",
        classifier: Literal["gcn", "linear"] = "gcn",
        label_features: Literal["names", "one_hot"] = "names",
        classification: Literal["logits", "double_sigmoid"] = "logits",
        contrast: Literal["paco", "triplet", "ranked_triplet"] = "paco",
        codes: Literal["scaled", "normalised", "raw"] = "scaled",
        pooling: Literal["real", "all"] = "real",
        queue: int = 1024,
        queue_start: Literal["empty", "noise"] = "empty",
        discriminators: Literal["dual", "single"] = "dual",
        temperature: float = 0.05,
        alpha: float = 0.07,
        threshold: float = 0.4,
        margin: float = 0.3,
        dim: int = 1024,
        layers: int = 2,
        hidden: int = 2048,
        region_layers: int = 4,
        dropout: float = 0.1,
        input_dropout: float = 0.0,
        lr: float = 4e-5,
        gcn_lr: float = 1e-3,
        discriminator_lr: float = 1e-4,
        warmup: float = 1000 / 312,
        decay_every: float = 10.0,
        weights: SCAHNWeights = SCAHNWeights(),
        image_token_dim: int = 1280,
        text_token_dim: int = 384,
        num_labels: int = 24,
        label_dim: int = 384,
    ) -> None:
        super().__init__("binary")
        self.save_hyperparameters()
        self.automatic_optimization = False
        check_tokens(self.name, image_token_dim, text_token_dim)
        self.weights, self.paco = weights, contrast == "paco" and bool(weights.inter or weights.intra)
        self.drop, self.branch = FeatureDropout(input_dropout), nn.ModuleDict()
        for side, size in (("image", image_token_dim), ("text", text_token_dim)):
            self.branch[side] = TokenTransformer(size, dim, layers, 4, hidden, dropout, padding=pooling == "all")
        self.regions = (
            RegionTransformer(image_token_dim, region_layers, 4, hidden, dropout) if image_branch == "regions" else None
        )
        self.hash = nn.ModuleDict({side: nn.Linear(dim, bits) for side in SIDES})
        for layer in self.hash.values():
            nn.init.kaiming_uniform_(cast("nn.Linear", layer).weight, nonlinearity="relu")
        node = label_dim if label_features == "names" else num_labels
        if weights.classification and classifier == "gcn":
            self.graph = LabelGCN(node, 256, dim)
        elif weights.classification:
            self.classifier = nn.Linear(dim, num_labels, bias=False)
        if self.paco:
            self.class_head = nn.Linear(dim, num_labels)
            filled = queue_start == "noise"
            self.queue = nn.ModuleDict({side: CodeQueue(queue, bits, num_labels, filled=filled) for side in SIDES})
        if weights.adversarial:
            self.critic = CodeDiscriminators(bits, discriminators)

    def on_fit_start(self) -> None:
        """The label graph of the training set."""
        if hasattr(self, "graph"):
            label, h = self.train_set()["label"], self.hparams
            one_hot = torch.eye(label.shape[1], device=label.device)
            feature = self.label_embeddings() if h["label_features"] == "names" else one_hot
            self.graph.open(label_graph(label, h["threshold"]), feature)

    def encode(self, side: Side, features: Features) -> Tensor:
        """(B, bits) relaxed codes."""
        return self._hash(side, self._feature(side, features))

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """The networks' step, then the discriminators' on the codes of the same forward pass."""
        main, *critics = self.optimizer_list()
        w, label = self.weights, self.gather_rows(batch["label"])
        feature = {"image": self._feature("image", batch["image"]), "text": self._feature("text", batch["text"])}
        feature = {side: self.gather_rows(f, gradient=True) for side, f in feature.items()}
        relaxed = {side: self._hash(side, f) for side, f in feature.items()}
        terms = self._contrast(feature, relaxed, label)
        if w.classification:
            terms["classification"] = torch.stack([self._classification(f, label) for f in feature.values()]).sum()
        with self.toggled_optimizer(main):
            if critics:  # only the hash layers feel the discriminators
                terms["adversarial"] = self.critic.fooling({s: self._hash(s, f.detach()) for s, f in feature.items()})
            self.take_step(main, loss=self.weigh(terms), max_norm=2.0)
        for critic in critics:
            with self.toggled_optimizer(critic):
                loss = self.critic.discrimination({side: h.detach() for side, h in relaxed.items()})
                self.take_step(critic, loss=loss)
            self.note({"discriminator": loss})

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:  # noqa: ANN401 - Lightning's own
        """The rates go on by a step."""
        found: Any = self.lr_schedulers()
        for schedule in found if isinstance(found, list) else [found]:
            schedule.step()

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LambdaLR]]:
        """Adam over the networks, the graph with its own rate, and Adam over the discriminators."""
        h = self.hparams
        parts = {name: list(part.parameters()) for name, part in self.named_children()}
        critic, graph = parts.pop("critic", []), parts.pop("graph", [])
        main = [parameter for part in parts.values() for parameter in part]
        optimizers: list[Optimizer] = [  # not fused: Lightning clips no gradients of a fused one under bf16-mixed
            Adam([{"params": main, "lr": h["lr"]}, {"params": graph, "lr": h["gcn_lr"]}]),
            *([Adam(critic, h["discriminator_lr"], betas=(0.5, 0.9), weight_decay=1e-4, fused=True)] if critic else []),
        ]
        per_epoch = self.total_steps() / max(self.trainer.max_epochs or 1, 1)
        return optimizers, [
            LambdaLR(each, lambda step: scahn_rate(step / per_epoch, h["warmup"], h["decay_every"]))
            for each in optimizers
        ]

    def _feature(self, side: Side, features: Features) -> Tensor:
        tokens = self.drop(features["tokens"])
        if side == "image" and self.regions is not None:
            tokens = self.regions(tokens)
        return cast("Tensor", self.branch[side](tokens, features.get("mask")))

    def _hash(self, side: str, feature: Tensor) -> Tensor:
        return torch.tanh(cast("Tensor", self.hash[side](feature)))

    def _classification(self, feature: Tensor, label: Tensor) -> Tensor:
        logit = feature @ self.graph().T if hasattr(self, "graph") else self.classifier(feature)
        if self.hparams["classification"] == "double_sigmoid":
            logit = logit.sigmoid()
        return F.binary_cross_entropy_with_logits(logit, label)

    def _contrast(self, feature: dict[str, Tensor], relaxed: dict[str, Tensor], label: Tensor) -> dict[str, Tensor]:
        """The terms `inter` and `intra`, each the sum over both directions; then the codes are queued."""
        h, w = self.hparams, self.weights
        if not self.paco and not w.inter:
            return {}
        if not self.paco:
            ranked = h["contrast"] == "ranked_triplet"
            losses = [
                cosine_triplet(relaxed[a], relaxed[b], label, h["margin"], ranked=ranked) for a, b in OTHER.items()
            ]
            return {"inter": torch.stack(losses).sum()}
        if h["codes"] == "scaled":
            relaxed = {side: code / code.shape[1] ** 0.5 for side, code in relaxed.items()}
        elif h["codes"] == "normalised":
            relaxed = {side: F.normalize(code) for side, code in relaxed.items()}
        terms: dict[str, Tensor] = {}
        for term, weight in (("inter", w.inter), ("intra", w.intra)):
            losses = []
            for side, other in OTHER.items() if weight else ():
                source = other if term == "inter" else side
                code, queue = relaxed[side], cast("CodeQueue", self.queue[source])
                key, key_label, present = queue.extend(torch.cat([code, relaxed[source].detach()]), label.repeat(2, 1))
                logit, options = self.class_head(feature[side]), (h["temperature"], h["alpha"])
                losses.append(multilabel_paco(code, key, label, key_label, logit, *options, present=present))
            if losses:
                terms[term] = torch.stack(losses).sum()
        for side in SIDES:
            cast("CodeQueue", self.queue[side]).push(relaxed[side], label)
        return terms
