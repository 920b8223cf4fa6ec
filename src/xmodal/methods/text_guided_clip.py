"""Text-guided image semantic fusion on CLIP-like tokens.

Gu and Liu, "Cross-modal hash retrieval based on text-guided image semantic fusion", Computer Science 2023, 50(11A). The
paper's full text is not public. Its abstract names pixel-text matching, text queries through a transformer decoder,
scores that guide the image feature, and a binary cross-entropy; the formulas here are our reconstruction on DenseCLIP's
decoder and DCHMT's training (docs/methods/text_guided_clip.md says of every line which). No reproduction of the paper's
tables is claimed. Where the features are not CLIP's, the run is this method on other encoders, and is called so.
"""

from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xmodal.batch import Batch, Features, Side
from xmodal.errors import UserError
from xmodal.layers import ContextDecoder, FeatureDropout, JointSpace, SelectHead, score_pool, tanh_head, token_scores
from xmodal.losses import label_similarity, pairwise_likelihood, sign
from xmodal.methods.base import RetrievalMethod
from xmodal.optimizers import BertAdam


@dataclass(frozen=True)
class TextGuidedCLIPWeights:
    """Weights of the terms; 0 removes a term.

    Args:
        similarity: pairwise likelihood of image codes against text codes.
        matching: binary cross-entropy of the scores (lambda_1).
        quantization: distance to the common code of a pair (lambda_2).
        intra: pairwise likelihood within each modality (lambda_3).
    """

    similarity: float = 1.0
    matching: float = 1.0
    quantization: float = 0.1
    intra: float = 0.5


class TextGuidedCLIP(RetrievalMethod):
    """Texts ask every image's tokens; the scores teach the image's features, which are hashed without any text.

    Args:
        bits: code length K.
        guidance: who asks: `batch`: every text of the batch (the reading that cannot leak, default); `paired`: the own
            text, or, half of the time and always outside training, the image's own global feature; `prompt`: the names
            of the labels, as DenseCLIP asks.
        matching: scores of image tokens and texts (`pixel`), or of global features only (`image`).
        score: how a score map becomes one number.
        feature: `guided`: global feature plus what the scores select; `global`: the global feature alone.
        head: `tanh`: two layers; `select`: DCHMT's.
        space: `joint`: the features share one space already (CLIP's); `projected`: they do not, and one is learned.
        dim: of the joint space.
        width: inside the decoder.
        layers: of the decoder; 0: queries as they are.
        dropout: in the decoder.
        input_dropout: share of the dimensions of features and tokens that is zeroed while training; ours.
        temperature: of the scores.
        lr: learning rate.
        trunk_lr: learning rate of trained trunks (DCHMT's of CLIP).
        warmup: share of the steps that warm up.
        weight_decay: decoupled.
        weights: of the terms.
        image_dim: size of an image feature; linked to the data.
        text_dim: size of a text feature; linked to the data.
        image_token_dim: size of an image token; linked to the data.
        num_labels: C; linked to the data.
        label_dim: size of an embedded label name; read by `guidance="prompt"`.
    """

    name = "text_guided_clip"

    label_feature: Tensor

    def __init__(
        self,
        bits: int = 64,
        guidance: Literal["batch", "paired", "prompt"] = "batch",
        matching: Literal["pixel", "image"] = "pixel",
        score: Literal["logsumexp", "mean", "max"] = "logsumexp",
        feature: Literal["guided", "global"] = "guided",
        head: Literal["tanh", "select"] = "tanh",
        space: Literal["joint", "projected"] = "joint",
        dim: int = 512,
        width: int = 256,
        layers: int = 3,
        dropout: float = 0.1,
        input_dropout: float = 0.0,
        temperature: float = 0.07,
        lr: float = 1e-3,
        trunk_lr: float = 1e-5,
        warmup: float = 0.1,
        weight_decay: float = 0.2,
        weights: TextGuidedCLIPWeights = TextGuidedCLIPWeights(),
        image_dim: int = 512,
        text_dim: int = 512,
        image_token_dim: int = 512,
        num_labels: int = 24,
        label_dim: int = 384,
    ) -> None:
        super().__init__("binary")
        self.save_hyperparameters()
        if not image_token_dim:
            raise UserError("text_guided_clip reads image tokens: set data.tokens=true and an image encoder with them.")
        self.weights, self.guidance, self.matching, self.feature = weights, guidance, matching, feature
        self.score, self.temperature = score, temperature
        sizes = {"image": image_dim, "text": text_dim}
        self.asks = feature == "guided" or (matching == "pixel" and bool(weights.matching) and guidance != "paired")
        self.drop = FeatureDropout(input_dropout)
        self.space = JointSpace(sizes | ({"image_token": image_token_dim} if self.asks else {}), dim, space)
        if layers and self.asks:
            self.decoder = ContextDecoder(dim, width, layers, 4, dropout, isolated=guidance != "prompt")
            self.gamma = nn.Parameter(torch.full((dim,), 1e-4))
        if weights.matching:
            self.scale, self.shift = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(()))  # a and b
        if guidance == "prompt" and (weights.matching or feature == "guided"):
            self.prompt, self.context = nn.Linear(label_dim, dim), nn.Parameter(torch.zeros(num_labels, dim))
            self.register_buffer("label_feature", torch.zeros(num_labels, label_dim))
        if feature == "guided" and guidance != "batch":
            self.fuse = nn.Linear(2 * dim if guidance == "paired" else dim + num_labels, dim)
        self.norm = nn.LayerNorm(dim)
        build = (lambda: tanh_head(dim, bits, dim)) if head == "tanh" else (lambda: SelectHead(dim, bits))
        self.head = nn.ModuleDict({side: build() for side in ("image", "text")})

    def on_fit_start(self) -> None:
        """The label names that `guidance="prompt"` asks with; they belong to the model and to its checkpoint."""
        if hasattr(self, "prompt"):
            self.label_feature.copy_(self.label_embeddings())

    def encode(self, side: Side, features: Features) -> Tensor:
        """(B, bits) relaxed codes; of an image, no text is looked at."""
        found = self._image(*self._tokens(features)) if side == "image" else self._text(features)
        return self._hash(side, found)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """All terms over the global batch; under DDP each process scores its own images against all texts."""
        pooled, tokens = self._tokens(batch["image"])
        own = self._text(batch["text"])
        feature = self._image(pooled, tokens, own if self.guidance == "paired" else None)
        image = self.gather_rows(self._hash("image", feature), gradient=True)
        text = self.gather_rows(self._hash("text", own), gradient=True)
        label, w, terms = self.gather_rows(batch["label"]), self.weights, dict[str, Tensor]()
        similar = label_similarity(label, label)
        if w.similarity:
            terms["similarity"] = pairwise_likelihood(image, text, similar)
        if w.matching:
            terms["matching"] = self._matching(pooled, tokens, own, feature, batch["label"], label)
        if w.quantization:
            code = sign(image + text).detach()
            terms["quantization"] = (image - code).square().mean() + (text - code).square().mean()
        if w.intra:
            terms["intra"] = pairwise_likelihood(image, image, similar) + pairwise_likelihood(text, text, similar)
        return self.weigh(terms)

    def configure_optimizers(self) -> BertAdam:
        """BertAdam over everything that is trained, the trunks at their own rate."""
        h = self.hparams
        return BertAdam(self.parameter_groups(), h["lr"], self.total_steps(), h["warmup"], h["weight_decay"])

    def _tokens(self, image: Features) -> tuple[Tensor, Tensor]:
        """(B, C) global features and (B, N, C) tokens in the joint space."""
        tokens = image["tokens"]
        pooled = self.space("image", self.drop(image["pooled"]))
        return pooled, self.space("image_token", self.drop(tokens)) if self.asks else tokens

    def _text(self, text: Features) -> Tensor:
        """(B, C) features in the joint space."""
        return cast("Tensor", self.space("text", self.drop(text["pooled"])))

    def _hash(self, side: Side, feature: Tensor) -> Tensor:
        return cast("Tensor", self.head[side](feature))

    def _scores(self, pooled: Tensor, tokens: Tensor, query: Tensor) -> Tensor:
        """(B, Q, N) scores over the temperature, of queries that have asked the tokens: t + gamma Dec(t, [z', z])."""
        if hasattr(self, "decoder"):
            memory = torch.cat([pooled[:, None], tokens], 1)
            query = query + self.gamma * self.decoder(query, memory)
        return token_scores(tokens, query) / self.temperature

    def _prompt_scores(self, pooled: Tensor, tokens: Tensor) -> Tensor:
        """(B, C labels, N) scores of the label names."""
        return self._scores(pooled, tokens, self._prompts().expand(len(tokens), -1, -1))

    def _prompts(self) -> Tensor:
        return cast("Tensor", self.prompt(self.label_feature) + self.context)

    def _image(self, pooled: Tensor, tokens: Tensor, text: Tensor | None = None) -> Tensor:
        """(B, C) image feature; `text` is the pairs' own, in training with `guidance="paired"` only."""
        if self.feature == "global":
            selected = torch.zeros_like(pooled)
        elif self.guidance == "prompt":
            scores = self._prompt_scores(pooled, tokens) * self.temperature  # (B, labels, N) cosines
            selected = self.fuse(torch.cat([tokens, scores.mT], 2)).mean(1)
        else:
            query = pooled
            if text is not None:
                mine = self.shard.of(torch.rand(self.shard.size, 1, device=text.device)) < 0.5
                query = torch.where(mine, text, pooled)
            scores = self._scores(pooled, tokens, query[:, None])  # (B, 1, N)
            selected = (scores.softmax(2) @ tokens)[:, 0]
            if self.guidance == "paired":
                mean = tokens.mean(1) * scores.mean(2) * self.temperature
                selected = self.fuse(torch.cat([selected, mean], 1))
        return cast("Tensor", self.norm(pooled + selected))

    def _matching(
        self, pooled: Tensor, tokens: Tensor, own: Tensor, feature: Tensor, label: Tensor, all_label: Tensor
    ) -> Tensor:
        """Binary cross-entropy of this process's images against all texts, or against the labels."""
        if self.guidance == "prompt":
            if self.matching == "pixel":
                image = score_pool(self._prompt_scores(pooled, tokens), self.score)
            else:
                image = token_scores(self._prompts()[None], pooled[:, None])[:, 0] / self.temperature
            text = token_scores(self._prompts()[None], own[:, None])[:, 0] / self.temperature
            return self._bce(image, label) + self._bce(text, label)
        text, target = self.gather_rows(own, gradient=True), label_similarity(label, all_label)
        if self.guidance == "batch" and self.matching == "pixel":
            score = score_pool(self._scores(pooled, tokens, text.expand(len(tokens), -1, -1)), self.score)
        else:  # the literal fusion knows no score of a foreign text: its fused feature is matched
            score = F.normalize(feature if self.guidance == "paired" else pooled) @ F.normalize(text).T
            score = score / self.temperature
        return self._bce(score, target)

    def _bce(self, score: Tensor, target: Tensor) -> Tensor:
        """Over the global batch, of which a process has some rows or none; DDP takes the mean over the processes."""
        total = F.binary_cross_entropy_with_logits(self.scale * score + self.shift, target, reduction="sum")
        return total / (self.shard.size * score.shape[1] / self.shard.world)
