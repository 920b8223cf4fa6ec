"""Attention-based cross-modal deep adversarial metric learning (thesis).

The full text is not public. Its abstract names a self-attention module within a modality, a cross-attention module
between them, modality adversarial learning and the self-similarity polynomial loss; the loss is that of its authors'
release (Wei et al.), the networks are our reconstruction from MMCA, SAEM and ACMR.
docs/methods/attention_adversarial.md says of every line which it is. No reproduction of the thesis's tables is claimed.
"""

import os
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import StepLR

from xmodal.batch import SIDES, Batch, Features, Side, chunks, rows_of
from xmodal.errors import UserError
from xmodal.layers import AttentionBlock, discriminator, masked_mean, reversed_on_schedule
from xmodal.losses import Negatives, discrimination, hard_pairs, label_similarity, polynomial, ranking_hinge
from xmodal.methods.base import RetrievalMethod
from xmodal.methods.reranking import Encoded, check_size, reranked_metrics

Tokens: TypeAlias = tuple[Tensor, Tensor]
SEARCHED = 50  # first hits that a search re-ranks where a test re-ranks all


@dataclass(frozen=True)
class AttentionAdversarialWeights:
    """Weights of the terms; 0 removes a term and what only it needs.

    Args:
        metric: the metric loss on the scores that the cross-attention completes; without cross-attention there are
            none, and the term is left out.
        base: the metric loss on the cosines of the single-modality embeddings (eta).
        adversarial: the modality classifier behind gradient reversal (the largest lambda).
    """

    metric: float = 1.0
    base: float = 1.0
    adversarial: float = 0.1


class AttentionAdversarial(RetrievalMethod):
    """Embeddings from self-attended tokens, and a cross-attention score that re-ranks their first hits.

    The embeddings alone are validated, indexed and ranked; a test also reports `reranked_*`, where the score of the
    cross-attention re-orders the first `rerank` hits. With `data.tokens` a side attends over its tokens, without over
    `slots` tokens that a layer makes of its pooled feature.

    Args:
        dim: size of a token and of the embedding.
        heads: of the attention; a divisor of dim.
        hidden: units of the feed-forward parts.
        slots: tokens that a pooled feature is turned into.
        self_layers: layers of self-attention; 0 leaves the tokens as projected.
        cross: `co`: each side attends to the other; `joint`: one block over both sides' tokens; `none`.
        cross_share: alpha, of the cross-attention's score beside the embeddings' cosine.
        candidates: while training, the cross-attention scores so many of the hardest pairs of each row and column; 0
            scores all pairs of the batch, which costs the square of its size.
        rerank: so many first hits are re-ranked in a test; 0 re-ranks all, one forward pass for every pair.
        loss: `polynomial`, or the hinge of VSE++ (`triplet`).
        negatives: of the polynomial loss: `max`, `mean` or `relative`.
        positives: `pair`: the pair itself; `label`: every pair with a shared label.
        margin: of the loss.
        dropout: in the attention blocks, while training.
        lr: learning rate; a tenth after half of the epochs, and a hundredth in the last of an odd number.
        weights: of the terms.
        image_dim: size of an image feature; linked to the data.
        text_dim: size of a text feature; linked to the data.
        image_token_dim: size of an image token, 0 without tokens; linked to the data.
        text_token_dim: size of a text token, 0 without tokens; linked to the data.
    """

    name = "attention_adversarial"

    def __init__(
        self,
        dim: int = 1024,
        heads: int = 8,
        hidden: int = 2048,
        slots: int = 8,
        self_layers: int = 1,
        cross: Literal["co", "joint", "none"] = "co",
        cross_share: float = 1.0,
        candidates: int = 0,
        rerank: int = 50,
        loss: Literal["polynomial", "triplet"] = "polynomial",
        negatives: Negatives = "max",
        positives: Literal["pair", "label"] = "pair",
        margin: float = 0.2,
        dropout: float = 0.1,
        lr: float = 2e-4,
        weights: AttentionAdversarialWeights = AttentionAdversarialWeights(),
        image_dim: int = 1280,
        text_dim: int = 384,
        image_token_dim: int = 0,
        text_token_dim: int = 0,
    ) -> None:
        super().__init__("real")
        self.save_hyperparameters()
        if dim % heads:
            raise UserError(f"attention_adversarial: dim is {dim} and heads {heads}: give a dim that heads divides.")
        if min(candidates, rerank, self_layers) < 0:
            raise UserError("attention_adversarial: candidates, rerank and self_layers are whole numbers from 0.")
        self.weights, self.cross_share, self.candidates, self.rerank = weights, cross_share, candidates, rerank
        self.loss, self.positives, self.margin = loss, positives, margin
        self.negatives: Negatives = negatives
        self.reranked: dict[str, str] = {}  # what each re-ranked metric means, once a test has computed them
        self.project, self.attend, self.cross = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        sizes = {"image": (image_token_dim, image_dim), "text": (text_token_dim, text_dim)}
        self.reads_tokens = {side: token_dim > 0 for side, (token_dim, _) in sizes.items()}
        for side, (token_dim, pooled_dim) in sizes.items():
            self.project[side] = (
                nn.Sequential(nn.LayerNorm(token_dim), nn.Linear(token_dim, dim))
                if token_dim
                else nn.Sequential(nn.Linear(pooled_dim, slots * dim), nn.Unflatten(1, (slots, dim)))
            )
            self.attend[side] = nn.ModuleList(AttentionBlock(dim, heads, hidden, dropout) for _ in range(self_layers))
        if weights.metric and cross != "none":
            for name in ("image", "text") if cross == "co" else ("joint",):
                self.cross[name] = AttentionBlock(dim, heads, hidden, dropout, whole=True)
        self.reranks = (rerank or SEARCHED) if self.cross else 0
        halves = (dim, max(dim // 2, 1), max(dim // 4, 1))
        self.critic = discriminator(halves, slope=0) if weights.adversarial else None

    def setup(self, stage: str) -> None:
        """Make sure that a test can hold its second stage.

        Raises:
            UserError: it cannot.
        """
        if self.cross:
            device, sizes = self.trainer.strategy.root_device, self.data().describe()["split_sizes"]
            pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            check_size(
                sizes["query"],
                sizes["database"],
                torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else pages,
            )

    def encode(self, side: Side, features: Features) -> Tensor:
        """(B, dim) embeddings i0 or c0, of length 1."""
        return _pooled(*self._tokens(side, features))

    def pair_scores(self, image: Features, text: Features) -> Tensor:
        """(P,) scores S of P pairs, in [-1, 1]."""
        sides = (self._tokens("image", image), self._tokens("text", text))
        return self._score(*(Encoded(_pooled(*tokens), *tokens) for tokens in sides))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """L_metric(S) + eta L_metric(i0 c0^T) + L_adv behind gradient reversal."""
        images = self._gathered(*self._tokens("image", batch["image"]))
        texts = self._gathered(*self._tokens("text", batch["text"]))
        (label,) = self.gather_batch(batch["label"])
        pair = torch.eye(len(label), dtype=torch.bool, device=label.device)
        positive = pair if self.positives == "pair" else pair | (label_similarity(label, label) > 0)
        image, text = _pooled(*images), _pooled(*texts)
        cosine = image @ text.T
        seen = [(image, text)]
        terms: dict[str, Tensor] = {}
        if self.cross:
            rows, columns, again = hard_pairs(cosine.detach(), positive, self.candidates)
            crossed = self._crossed((images[0][rows], images[1][rows]), (texts[0][columns], texts[1][columns]))
            combined = self._combined(cosine[rows, columns], *crossed)
            score = combined.new_full(cosine.shape, -torch.inf)
            score[rows, columns] = torch.where(again, combined.detach(), combined)  # the gradient counts once
            terms["metric"] = self._metric(score, positive)
            seen.append((crossed[0][: len(pair)], crossed[1][: len(pair)]))  # the adversary sees the pairs themselves
        if self.weights.base:
            terms["base"] = self._metric(cosine, positive)
        if self.critic is not None:
            hidden = reversed_on_schedule(self.progress(), *(torch.cat(each) for each in zip(*seen, strict=True)))
            terms["adversarial"] = discrimination(*map(self.critic, hidden))
        return self.weigh(terms)

    def on_test_epoch_end(self) -> None:
        """Also report what the cross-attention's score makes of the first hits, under `test/reranked_*`."""
        super().on_test_epoch_end()
        if not self.cross:
            return
        query, database = (self._encoded(self.data().role(role)) for role in ("query", "database"))
        rank, world = self.trainer.global_rank, self.trainer.world_size
        values, words = reranked_metrics(self._score, query, database, self.rerank, rank, world)
        self.reranked = {f"test/{name}": text for name, text in words.items()}
        self.results |= {f"test/{name}": value for name, value in values.items()}
        self.log_dict({f"test/{name}": value for name, value in values.items()})

    def conventions(self) -> dict[str, str]:
        """What each test metric means, in words."""
        return super().conventions() | self.reranked

    def configure_optimizers(self) -> tuple[list[Optimizer], list[StepLR]]:
        """Adam; a tenth of the rate after every half of the epochs, rounded down: the last of 15 has a hundredth."""
        optimizer = Adam(self.parameters(), lr=self.hparams["lr"])  # Lightning clips no gradients of a fused one
        return [optimizer], [StepLR(optimizer, max((self.trainer.max_epochs or 1) // 2, 1))]

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm of all gradients together to 2, as the release does, where the trainer has no other limit."""
        limit = 2.0 if gradient_clip_val is None else gradient_clip_val
        self.clip_gradients(optimizer, limit, gradient_clip_algorithm or "norm")

    def _tokens(self, side: Side, features: Features) -> Tokens:
        """Self-attended tokens (B, N, dim) and their mask (B, N)."""
        reads = self.reads_tokens[side]
        x: Tensor = self.project[side](features["tokens"] if reads else features["pooled"])
        mask = features.get("mask") if reads else None
        if mask is None:
            mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        for block in cast("nn.ModuleList", self.attend[side]):
            x = block(x, x, mask)
        return x, mask

    def _crossed(self, images: Tokens, texts: Tokens) -> tuple[Tensor, Tensor]:
        """i1 and c1, (P, dim) each, of P image-text pairs; they depend on both sides."""
        (image, image_mask), (text, text_mask) = images, texts
        if "joint" in self.cross:
            both, mask = torch.cat([image, text], 1), torch.cat([image_mask, text_mask], 1)
            image, text = self.cross["joint"](both, both, mask).split([image.shape[1], text.shape[1]], 1)
        else:
            image, text = self.cross["image"](image, text, text_mask), self.cross["text"](text, image, image_mask)
        return _pooled(image, image_mask), _pooled(text, text_mask)

    def _combined(self, cosine: Tensor, image: Tensor, text: Tensor) -> Tensor:
        """S = (i0 c0 + alpha i1 c1) / (1 + alpha) of P pairs, in [-1, 1], where the polynomials are defined."""
        return (cosine + self.cross_share * (image * text).sum(1)) / (1 + self.cross_share)

    def _score(self, image: Encoded, text: Encoded) -> Tensor:
        cosine = (image.embedding * text.embedding).sum(1)
        return self._combined(cosine, *self._crossed(image[1:], text[1:]))

    def _encoded(self, batch: Batch) -> tuple[Batch, dict[str, Encoded]]:
        sides: dict[str, Encoded] = {}
        for side in SIDES:
            parts = [self._tokens(side, rows_of(batch[side], chosen)) for chosen in chunks(len(batch["label"]))]
            tokens, mask = (torch.cat(part) for part in zip(*parts, strict=True))
            sides[side] = Encoded(_pooled(tokens, mask), tokens, mask)
        return batch, sides

    def _metric(self, score: Tensor, positive: Tensor) -> Tensor:
        if self.loss == "triplet":
            return ranking_hinge(score, positive, self.margin)
        return polynomial(score, positive, self.margin, self.negatives)

    def _gathered(self, tokens: Tensor, mask: Tensor) -> Tokens:
        every, real = self.gather_batch(tokens, mask)
        return every, real


def _pooled(tokens: Tensor, mask: Tensor) -> Tensor:
    return F.normalize(masked_mean(tokens, mask))
