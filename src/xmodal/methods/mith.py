"""MITH: multi-granularity interactive transformer hashing.

Y. Liu et al., "Multi-Granularity Interactive Transformer Hashing for Cross-modal Retrieval", ACM MM 2023; read with the
authors' code (DarrenZZhang/MITH). Departs from it: frozen encoders; features without a joint space are projected;
text tokens are masked where padded only; the likelihood is not clipped, as it cannot overflow (docs/methods/mith.md).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from xmodal.batch import OTHER, SIDES, Batch, Features, Side
from xmodal.checks import check_tokens
from xmodal.layers import CodeTables, ConceptLearner, ConceptTransformer, JointSpace, aggregate_tokens
from xmodal.losses import info_nce, label_similarity, pairwise_likelihood, sign
from xmodal.methods.base import RetrievalMethod
from xmodal.optimizers import BertAdam


@dataclass(frozen=True)
class MITHWeights:
    """Weights of MITH's terms; 0 removes a term.

    Args:
        token: likelihood of token codes against the tables of the same modality (L_1).
        coarse: likelihood of global codes against the other modality's tables (L_2).
        quantization: distance of both codes' mean to the common code of a pair (L_3).
        contrast: InfoNCE of the global features, and 0.01 times that of the concepts (L_4).
        distillation: token and global codes towards each other (L_5).
    """

    token: float = 1.0
    coarse: float = 10.0
    quantization: float = 8.0
    contrast: float = 50.0
    distillation: float = 1.0


def mith_terms(
    coarse: Mapping[str, Tensor],
    token: Mapping[str, Tensor],
    tables: Mapping[str, Tensor],
    similar: Tensor,
    feature: Mapping[str, Tensor],
    concept: Mapping[str, Tensor],
    wanted: Mapping[str, float],
) -> dict[str, Tensor]:
    """MITH's terms, from both modalities' (N, K) global and token codes.

    Args:
        coarse: (N, K) global codes c of `image` and `text`.
        token: (N, K) token codes tau.
        tables: (n, K) tables `image_coarse`, `image_token`, `text_coarse`, `text_token`, without gradient.
        similar: (N, n) similarity of the batch and the training set.
        feature: (N, D) refined global features.
        concept: (N, K, D) projected concept tokens.
        wanted: weight of each term; those of weight 0 are left out.
    """
    size, terms = coarse["image"].numel(), dict[str, list[Tensor]]()
    if wanted["token"]:
        terms["token"] = [pairwise_likelihood(token[side], tables[f"{side}_token"], similar) for side in SIDES]
    if wanted["coarse"]:
        terms["coarse"] = [pairwise_likelihood(coarse[a], tables[f"{b}_coarse"], similar) for a, b in OTHER.items()]
    if wanted["quantization"]:
        total = 0.99 * (coarse["image"] + coarse["text"]) + 0.01 * (token["image"] + token["text"])
        means = [(coarse[side] + token[side]) / 2 for side in SIDES]
        terms["quantization"] = [(mean - sign(total.detach())).square().sum() / size for mean in means]
    if wanted["contrast"]:
        fine = info_nce(concept["image"], concept["text"])
        terms["contrast"] = [info_nce(feature["image"], feature["text"]), 0.01 * fine]
    if wanted["distillation"]:
        terms["distillation"] = [
            ((c.detach() - t).square().sum() + 0.1 * (c - t.detach()).square().sum()) / len(c)
            for c, t in ((coarse[side], token[side]) for side in SIDES)
        ]
    return {name: torch.stack(parts).sum() for name, parts in terms.items()}


class MITH(RetrievalMethod):
    """A code from the global feature and one from tokens gathered by bit; their sum's sign is the code.

    Args:
        bits: code length K.
        space: `joint`: the features share one space already (CLIP's); `projected`: they do not, and one is learned.
        dim: of the joint space.
        hidden: units of every feed-forward part.
        layers: of the transformers over bits.
        heads: of their attention.
        top: number of concepts a token may serve.
        lr: learning rate.
        trunk_lr: learning rate of trained trunks, the release's of CLIP.
        warmup: share of the steps that warm up.
        weight_decay: decoupled.
        weights: of the terms.
        image_dim: size of an image feature; linked to the data.
        text_dim: size of a text feature; linked to the data.
        image_token_dim: size of an image token; linked to the data.
        text_token_dim: size of a text token; linked to the data.
        num_train: n; linked to the data.
    """

    name = "mith"

    def __init__(
        self,
        bits: int = 64,
        space: Literal["joint", "projected"] = "joint",
        dim: int = 512,
        hidden: int = 2048,
        layers: int = 2,
        heads: int = 8,
        top: int = 8,
        lr: float = 1e-3,
        trunk_lr: float = 2e-6,
        warmup: float = 0.05,
        weight_decay: float = 0.01,
        weights: MITHWeights = MITHWeights(),
        image_dim: int = 512,
        text_dim: int = 512,
        image_token_dim: int = 512,
        text_token_dim: int = 512,
        num_train: int = 1000,
    ) -> None:
        super().__init__("binary")
        self.save_hyperparameters()
        check_tokens(self.name, image_token_dim, text_token_dim)
        self.weights, self.top = weights, top
        widths = {"image": image_dim, "text": text_dim, "image_token": image_token_dim, "text_token": text_token_dim}
        self.space = JointSpace(widths, dim, space)
        self.learner = ConceptLearner(dim, bits, hidden)
        sizes = dim, bits, layers, hidden, heads
        contrasts = bool(weights.contrast)
        self.bits = nn.ModuleDict({side: ConceptTransformer(*sizes, projects=contrasts) for side in SIDES})
        self.tables = CodeTables(
            tuple(f"{side}_{kind}" for side in SIDES for kind in ("coarse", "token")), num_train, bits
        )

    def on_fit_start(self) -> None:
        """Labels of the training set."""
        self.tables.open(self.train_set())

    def encode(self, side: Side, features: Features) -> Tensor:
        """(B, bits) mean of both codes."""
        coarse, token, _, _ = self._encode(side, features)
        return (coarse + token) / 2

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The tables take the batch's codes first; then all terms over the global batch."""
        tables, wanted = self.tables, asdict(self.weights)
        rows = self.gather_rows(tables.rows(batch["index"]))
        image, text = self._encode("image", batch["image"]), self._encode("text", batch["text"])
        both = [self.gather_batch(*each) for each in zip(image, text, strict=True)]
        parts: list[dict[str, Tensor]] = [dict(zip(SIDES, each, strict=True)) for each in both]
        for kind, codes in zip(("coarse", "token"), parts, strict=False):
            for side in SIDES:
                tables.store(f"{side}_{kind}", rows, codes[side])
        similar = label_similarity(tables.label[rows], tables.label)
        coarse, token, feature, concept = parts
        return self.weigh(mith_terms(coarse, token, dict(tables.named_buffers()), similar, feature, concept, wanted))

    def configure_optimizers(self) -> BertAdam:
        """BertAdam over everything that is trained."""
        h = self.hparams
        return BertAdam(self.parameter_groups(), h["lr"], self.total_steps(), h["warmup"], h["weight_decay"])

    def _encode(self, side: Side, features: Features) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, K) global and token codes, (B, D) refined global feature, (B, K, D) concepts."""
        tokens = self.space(f"{side}_token", features["tokens"])
        feature, coarse = self.learner(self.space(side, features["pooled"]))
        score = self.learner(tokens)[1].detach()
        token, concept = self.bits[side](aggregate_tokens(score, tokens, features.get("mask"), self.top)[0])
        return coarse, token, feature, concept
