"""DA-GAN: adversarial semantic representation with dual attention.

The paper's full text is not public. Its abstract and headings name intra- and inter-modal attention, semantic grouping
of samples, and an intra- and an inter-modal adversarial loss; the formulas here are our reconstruction from its
relatives (CM-GANs, ACMR, AGAH, MCSM, CPAH, DSCMR). docs/methods/dagan.md says of every line which it is. No
reproduction of the paper's tables is claimed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from xmodal.batch import OTHER, SIDES, Batch, Features, Side, chunks, rows_of
from xmodal.errors import UserError
from xmodal.layers import AttendedFeature, AttentionBlock, GroupAttention, Tokens, decoder, discriminator, perceptron
from xmodal.losses import Prediction, discrimination, fooling, label_prediction, label_similarity, ranking_hinge
from xmodal.methods.base import RetrievalMethod

Sides: TypeAlias = Mapping[Side, Tensor]


@dataclass(frozen=True)
class DAGANWeights:
    """Weights of DA-GAN's terms; 0 removes a term and what only it needs.

    Args:
        label: label prediction by the shared classifier (L_cls).
        ranking: hinge over positives and hardest negatives (L_rank, alpha).
        inter: fooling the modality discriminator (L_Ginter, beta_1).
        intra: fooling the discriminators of real and decoded features (L_Gintra, beta_2).
        pair: a branch that sees both sides of a pair while training, and teaches the embeddings; off by default.
    """

    label: float = 1.0
    ranking: float = 1.0
    inter: float = 0.1
    intra: float = 0.1
    pair: float = 0.0


class DAGAN(RetrievalMethod):
    """Attended features of one modality and of the other's group prototypes, trained against two kinds of critics.

    With `data.tokens` a side attends over its tokens, without over the entries of its pooled feature.

    Args:
        dim: size d of the embedding.
        features: size d_h of the attended features and of the prototypes.
        hidden: units of each modality's layer before the shared one.
        intra_attention: `self`: over tokens (or a gate on the vector); `none`: the mean of the tokens (or the vector).
        inter_attention: `group`: over the other modality's prototypes; `none`: the feature alone.
        keep: lambda, share of the own feature beside the prototypes' (AGAH: 0.8).
        dropout: in the attention pooling of tokens, while training (MCSM: 0.5).
        margin: mu of the ranking hinge, on the cosine.
        prediction: of the labels: `softmax` where they exclude each other, `sigmoid` where they do not.
        generator_steps: k_G, per step of the critics (CM-GANs: 5).
        lr: learning rate of the generator.
        critic_lr: learning rate of the critics.
        weights: of the terms.
        image_dim: size of an image feature; linked to the data.
        text_dim: size of a text feature; linked to the data.
        image_token_dim: size of an image token, 0 without tokens; linked to the data.
        text_token_dim: size of a text token, 0 without tokens; linked to the data.
        num_labels: C; linked to the data.
    """

    name = "dagan"
    steady = True

    image_prototypes: Tensor
    text_prototypes: Tensor

    def __init__(
        self,
        dim: int = 1024,
        features: int = 512,
        hidden: int = 2048,
        intra_attention: Literal["self", "none"] = "self",
        inter_attention: Literal["group", "none"] = "group",
        keep: float = 0.8,
        dropout: float = 0.5,
        margin: float = 0.1,
        prediction: Prediction = "softmax",
        generator_steps: int = 1,
        lr: float = 1e-4,
        critic_lr: float = 1e-4,
        weights: DAGANWeights = DAGANWeights(),
        image_dim: int = 1280,
        text_dim: int = 384,
        image_token_dim: int = 0,
        text_token_dim: int = 0,
        num_labels: int = 24,
    ) -> None:
        super().__init__("real")
        self.save_hyperparameters()
        if generator_steps < 1:
            raise UserError(f"DA-GAN: generator_steps is {generator_steps}: give a whole number from 1.")
        self.automatic_optimization = False
        self.weights, self.keep, self.margin, self.generator_steps = weights, keep, margin, generator_steps
        self.read, self.own, self.group, self.pair = (nn.ModuleDict() for _ in range(4))
        self.decode, self.intra_critic = nn.ModuleDict(), nn.ModuleDict()
        sizes = {"image": (image_dim, image_token_dim), "text": (text_dim, text_token_dim)}
        for side, (pooled_dim, token_dim) in sizes.items():
            self.read[side] = AttendedFeature(pooled_dim, token_dim, features, dropout, intra_attention == "self")
            if inter_attention == "group":
                self.group[side] = GroupAttention(features)
                self.register_buffer(f"{side}_prototypes", F.normalize(torch.randn(num_labels, features)))
            self.own[side] = perceptron((features, hidden))
            if weights.pair:
                self.pair[side] = AttentionBlock(features, 1, features)
            if weights.intra:
                self.decode[side], self.intra_critic[side] = decoder(dim, pooled_dim), discriminator((pooled_dim,))
        self.common = nn.Linear(hidden, dim)
        if weights.label or weights.pair:
            self.label_head = nn.Linear(dim, num_labels)
        self.inter_critic = discriminator((dim, max(dim // 2, 1), max(dim // 4, 1))) if weights.inter else None

    def on_train_epoch_start(self) -> None:
        """Group prototypes p_c of the training set: the mean attended feature of the pairs with label c, normalised.

        At the start of an epoch rather than at its end: a checkpoint then holds exactly the state that was validated.
        """
        if not self.group:
            return
        train = self.train_set()
        self.eval()
        for side in SIDES:
            buffer: Tensor = getattr(self, f"{side}_prototypes")
            buffer.zero_()
            with torch.no_grad():
                for rows in chunks(len(train["label"])):
                    buffer += train["label"][rows].T @ self.read[side](rows_of(train[side], rows))
            buffer.copy_(F.normalize(buffer))
        self.train()

    def encode(self, side: Side, features: Features) -> Tensor:
        """(B, dim) embeddings, from one side and the prototypes of the other side's training items."""
        return self._represent(side, self.read[side](features))

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """A step of the critics, then `generator_steps` steps of the rest (Algorithm 1)."""
        generator, *critics = self.optimizer_list()
        raw = dict(zip(SIDES, self.gather_batch(*(batch[side]["pooled"] for side in SIDES)), strict=True))
        (label,) = self.gather_batch(batch["label"])
        for step in range(self.generator_steps):
            readers = {side: cast("AttendedFeature", self.read[side]) for side in SIDES}
            tokens = {side: reader.tokens(batch[side]) for side, reader in readers.items()}
            pooled = {side: reader.pool(*tokens[side]) for side, reader in readers.items()}
            every = self.gather_batch(*pooled.values())
            output = {side: self._represent(side, feature) for side, feature in zip(SIDES, every, strict=True)}
            for critic in critics if step == 0 else ():
                with self.toggled_optimizer(critic):
                    loss = self._criticise({side: embedding.detach() for side, embedding in output.items()}, raw)
                    self.take_step(critic, loss=loss)
                self.note({"critic": loss})
            with self.toggled_optimizer(generator):
                terms = self._terms(output, label)
                if self.pair:
                    terms["pair"] = self._teach(tokens, pooled, output, label)
                self.take_step(generator, loss=self.weigh(terms))

    def configure_optimizers(self) -> list[Optimizer]:
        """Adam with betas (0.5, 0.999) for the generator, and another for the critics if there are any."""
        parts = {name: list(part.parameters()) for name, part in self.named_children()}
        critics = parts.pop("intra_critic") + parts.pop("inter_critic", [])
        rest = [parameter for part in parts.values() for parameter in part]
        groups = [(rest, self.hparams["lr"]), (critics, self.hparams["critic_lr"])]
        return [Adam(group, lr=lr, betas=(0.5, 0.999), fused=True) for group, lr in groups if group]

    def _represent(self, side: Side, u: Tensor) -> Tensor:
        """Inter-attention over the other modality's prototypes, then the common representation s."""
        if self.group:
            prototypes = self.text_prototypes if side == "image" else self.image_prototypes
            u = self.keep * u + (1 - self.keep) * self.group[side](u, prototypes)
        return cast("Tensor", self.common(self.own[side](u)))

    def _criticise(self, output: Sides, raw: Sides) -> Tensor:
        """L_Dinter + L_Dintra."""
        loss = torch.zeros_like(output["image"][0, 0])
        if self.inter_critic is not None:
            loss = loss + discrimination(self.inter_critic(output["image"]), self.inter_critic(output["text"]))
        for side in SIDES if self.intra_critic else ():
            fake = self.decode[side](output[side]).detach()
            loss = loss + discrimination(self.intra_critic[side](raw[side]), self.intra_critic[side](fake))
        return loss

    def _terms(self, output: Sides, label: Tensor) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        if self.weights.label:
            terms["label"] = self._predict(output["image"], label) + self._predict(output["text"], label)
        if self.weights.ranking:
            cosine = F.normalize(output["image"]) @ F.normalize(output["text"]).T
            terms["ranking"] = ranking_hinge(cosine, label_similarity(label, label) > 0, self.margin)
        if self.inter_critic is not None:  # the labels exchanged: the non-saturating side of the game
            terms["inter"] = discrimination(self.inter_critic(output["text"]), self.inter_critic(output["image"]))
        if self.intra_critic:
            fakes = (self.intra_critic[side](self.decode[side](output[side])) for side in SIDES)
            terms["intra"] = sum((fooling(fake) for fake in fakes), label.new_zeros(()))
        return terms

    def _teach(self, tokens: Mapping[Side, Tokens], pooled: Sides, output: Sides, label: Tensor) -> Tensor:
        """Pair attention: a branch that reads the partner's tokens learns the labels, and the embeddings follow it.

        What it reads has length 1, as u has: normalised layers give length sqrt(d_h), which lambda could not weigh.
        """
        loss = label.new_zeros(())
        for side, other in OTHER.items():
            attended = F.normalize(self.pair[side](pooled[side][:, None], *tokens[other])[:, 0])
            (u,) = self.gather_batch(self.keep * pooled[side] + (1 - self.keep) * attended)
            teacher = self.common(self.own[side](u))
            loss = loss + self._predict(teacher, label)
            loss = loss + (output[side] - teacher.detach()).square().sum(1).mean()
        return loss

    def _predict(self, output: Tensor, label: Tensor) -> Tensor:
        return label_prediction(self.label_head(output), label, self.hparams["prediction"])
