"""DSPH: semantic-aware proxy hashing for multi-label retrieval.

Y. Huo et al., "Deep Semantic-Aware Proxy Hashing for Multi-Label Cross-Modal Retrieval", IEEE TCSVT 2024; read with the
authors' code (QinLab-WFU/DSPH). Departs from it: the encoders are frozen by default; means over no pairs are 0, not
NaN; the proxies draw from the run's own seed (docs/methods/dsph.md).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from xmodal.batch import Batch, Features, Side
from xmodal.layers import Dropout, perceptron
from xmodal.losses import code_margin, irrelevant_pairs, multilabel_proxy
from xmodal.methods.base import RetrievalMethod
from xmodal.optimizers import BertAdam


@dataclass(frozen=True)
class DSPHWeights:
    """Weights of DSPH's terms; 0 removes a term (and, without `proxy`, the proxies).

    Args:
        proxy: cosine of a code to the proxies of its labels, and to the others.
        irrelevant: pairs of multi-label items that share no label (alpha).
    """

    proxy: float = 1.0
    irrelevant: float = 0.8


class DSPH(RetrievalMethod):
    """A linear head with dropout and tanh on each side, and one learned proxy per label shared by both.

    Args:
        bits: code length K.
        zeta: the cosine below which negatives cost nothing; none: from the table of best linear codes, by K and C.
        image_hidden: hidden layers of the image head; none in the paper, whose encoders are trained.
        text_hidden: hidden layers of the text head; none in the paper.
        dropout: before the tanh, while training.
        lr: learning rate of the heads.
        trunk_lr: learning rate of trained trunks, the release's of CLIP.
        proxy_lr: learning rate of the proxies.
        warmup: share of the steps that warm up.
        weight_decay: of the heads, decoupled.
        proxy_weight_decay: of the proxies.
        weights: of the terms.
        image_dim: size of an image feature; linked to the data.
        text_dim: size of a text feature; linked to the data.
        num_labels: C; linked to the data.
    """

    name = "dsph"
    steady = True

    def __init__(
        self,
        bits: int = 64,
        zeta: float | None = None,
        image_hidden: tuple[int, ...] = (),
        text_hidden: tuple[int, ...] = (),
        dropout: float = 0.2,
        lr: float = 1e-3,
        trunk_lr: float = 1e-5,
        proxy_lr: float = 0.02,
        warmup: float = 0.1,
        weight_decay: float = 0.2,
        proxy_weight_decay: float = 5e-4,
        weights: DSPHWeights = DSPHWeights(),
        image_dim: int = 1280,
        text_dim: int = 384,
        num_labels: int = 24,
    ) -> None:
        super().__init__("binary")
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.weights, self.zeta = weights, code_margin(bits, num_labels) if zeta is None else zeta
        heads = {"image": (image_dim, *image_hidden), "text": (text_dim, *text_hidden)}
        self.head = nn.ModuleDict(
            {
                side: nn.Sequential(perceptron(sizes), nn.Linear(sizes[-1], bits), Dropout(dropout), nn.Tanh())
                for side, sizes in heads.items()
            }
        )
        self.proxy = nn.Parameter(torch.randn(num_labels, bits) * (2 / num_labels) ** 0.5) if weights.proxy else None

    def encode(self, side: Side, features: Features) -> Tensor:
        """(B, bits) relaxed codes."""
        relaxed: Tensor = self.head[side](features["pooled"])
        return relaxed

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One backward over the global batch, then a step of the heads and one of the proxies."""
        image, text = self.gather_batch(self.encode("image", batch["image"]), self.encode("text", batch["text"]))
        label, terms = self.gather_rows(batch["label"]), dict[str, Tensor]()
        if self.proxy is not None:
            parts = [multilabel_proxy(h, self.proxy, label, self.zeta) for h in (image, text)]
            terms["proxy"] = torch.stack(parts).sum()
        if self.weights.irrelevant:
            terms["irrelevant"] = irrelevant_pairs(image, text, label, self.zeta)
        self.take_step(*self.optimizer_list(), loss=self.weigh(terms))

    def configure_optimizers(self) -> list[Optimizer]:
        """BertAdam over the heads and trained trunks, SGD with momentum over the proxies."""
        h = self.hparams
        heads = BertAdam(self.parameter_groups(self.head), h["lr"], self.total_steps(), h["warmup"], h["weight_decay"])
        if self.proxy is None:
            return [heads]
        return [heads, SGD([self.proxy], h["proxy_lr"], momentum=0.9, weight_decay=h["proxy_weight_decay"], fused=True)]
