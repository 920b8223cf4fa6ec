"""Cross-modal deep hierarchical adversarial metric learning (thesis; its journal form is DHMML, TNNLS).

The full texts are not public. The abstracts name a sub-network per label layer, classification across layers and an
adversary on the modality; the formulas here are our reconstruction (weights of the layers from HiCHNet, the adversary
from ACMR). docs/methods/hierarchical_adversarial.md says of every line which it is. No reproduction of their tables is
claimed.
"""

from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam

from xmodal.batch import Batch, Features, Side
from xmodal.errors import UserError
from xmodal.layers import Dropout, discriminator, perceptron, reversed_on_schedule
from xmodal.losses import discrimination
from xmodal.methods.base import RetrievalMethod


@dataclass(frozen=True)
class HierarchicalAdversarialWeights:
    """Weights of the terms; 0 removes a term and what only it needs.

    Args:
        label: each layer's classification from its own sub-network, weighted by `layer_weights` (mu_kk).
        cross: classification of every other layer (mu_kl, k != l).
        adversarial: the modality classifiers, one per layer (the largest lambda).
        pair: squared distance of the two embeddings of a pair (rho).
    """

    label: float = 1.0
    cross: float = 0.1
    adversarial: float = 0.1
    pair: float = 0.0


class HierarchicalAdversarial(RetrievalMethod):
    """A sub-network per label layer and modality; similarity is the layers' weighted sum of cosines.

    That sum is the cosine of one embedding, the normalised parts side by side, each times the root of its weight: so
    everything that ranks by cosine ranks by it.

    Args:
        dim: size d of each layer's embedding.
        base: hidden layers of each modality's trunk, before the sub-networks.
        hidden: units of a sub-network's hidden layer.
        dropout: in the sub-networks, while training.
        layers: `all` label layers, or the `finest` alone (the flat variant: one sub-network).
        layer_weights: of the classification (omega) and of the similarity (w), coarsest layer first; the flat variant
            uses the last.
        retrieval: similarity by all layers, `weighted`, or by the `finest` or the `coarsest` alone.
        structure: `parallel` sub-networks, or `chained`: a layer also sees the embedding of the one above it.
        adversary: `reversal` of the gradient with ACMR's schedule, or `alternating` steps.
        lr: learning rate.
        weights: of the terms.
        image_dim: size of an image feature; linked to the data.
        text_dim: size of a text feature; linked to the data.
        layer_sizes: number of classes per label layer; linked to the data.
    """

    name = "hierarchical_adversarial"

    def __init__(
        self,
        dim: int = 512,
        base: tuple[int, ...] = (4096,),
        hidden: int = 1024,
        dropout: float = 0.5,
        layers: Literal["all", "finest"] = "all",
        layer_weights: tuple[float, ...] = (0.2, 0.8),
        retrieval: Literal["weighted", "finest", "coarsest"] = "weighted",
        structure: Literal["parallel", "chained"] = "parallel",
        adversary: Literal["reversal", "alternating"] = "reversal",
        lr: float = 1e-4,
        weights: HierarchicalAdversarialWeights = HierarchicalAdversarialWeights(),
        image_dim: int = 1280,
        text_dim: int = 384,
        layer_sizes: tuple[int, ...] = (),
    ) -> None:
        super().__init__("real")
        self.save_hyperparameters()
        if not layer_sizes:
            raise UserError(
                "hierarchical_adversarial needs label layers: a dataset with a hierarchy, such as emoji, "
                "and data.relevance=finest."
            )
        first = 0 if layers == "all" else len(layer_sizes) - 1
        if len(layer_weights) != len(layer_sizes) or min(layer_weights[first:]) <= 0:
            raise UserError(
                f"hierarchical_adversarial: layer_weights is {list(layer_weights)}: give {len(layer_sizes)} numbers "
                "above 0, one per label layer, coarsest first."
            )
        self.first, sizes = first, layer_sizes[first:]
        self.layer_weights, self.retrieval = layer_weights[first:], retrieval
        self.weights, self.chained = weights, structure == "chained"
        self.alternates = adversary == "alternating" and bool(weights.adversarial)
        self.automatic_optimization = not self.alternates
        self.trunk = nn.ModuleDict({"image": perceptron((image_dim, *base)), "text": perceptron((text_dim, *base))})
        self.subnets = nn.ModuleDict()
        for side, raw in (("image", image_dim), ("text", text_dim)):
            widths = [(base[-1] if base else raw) + (dim if self.chained and k else 0) for k in range(len(sizes))]
            self.subnets[side] = nn.ModuleList(
                nn.Sequential(*perceptron((width, hidden)), Dropout(dropout), nn.Linear(hidden, dim))
                for width in widths
            )
        kept = [
            (k, other)
            for k in range(len(sizes))
            for other in range(len(sizes))
            if (weights.label if k == other else weights.cross)
        ]
        self.heads = nn.ModuleDict({f"{k}_{other}": nn.Linear(dim, sizes[other]) for k, other in kept})
        critics = sizes if weights.adversarial else ()
        self.critics = nn.ModuleList(discriminator((dim, max(dim // 2, 1), max(dim // 4, 1)), slope=0) for _ in critics)

    def encode(self, side: Side, features: Features) -> Tensor:
        """(B, K dim) embeddings whose cosine is the weighted mean of the layers' cosines."""
        layers = self._layers(side, features)
        if self.retrieval != "weighted":
            return layers[-1 if self.retrieval == "finest" else 0]
        return torch.cat([weight**0.5 * u for weight, u in zip(self.layer_weights, layers, strict=True)], 1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        """One joint step behind gradient reversal, or a step of the critics and one of the rest."""
        pieces = self._layers("image", batch["image"]), self._layers("text", batch["text"])
        image, text, classes = self.gather_batch(*(torch.stack(each, 1) for each in pieces), batch["hierarchy"])
        classes = classes[:, self.first :]
        terms = self._classification(image, text, classes)
        if self.weights.pair:
            terms["pair"] = (image - text).square().sum(2).mean(0).sum()
        if not self.alternates:
            if self.critics:
                terms["adversarial"] = self._discrimination(*reversed_on_schedule(self.progress(), image, text))
            return self.weigh(terms)
        learner, critic = self.optimizer_list()
        with self.toggled_optimizer(critic):
            loss = self._discrimination(image.detach(), text.detach())
            self.take_step(critic, loss=loss)
        self.note({"critic": loss})
        with self.toggled_optimizer(learner):
            terms["adversarial"] = self._discrimination(text, image)
            self.take_step(learner, loss=self.weigh(terms))
        return None

    def configure_optimizers(self) -> Adam | list[Adam]:
        """Adam; a second one for the critics where they step by themselves."""
        lr = self.hparams["lr"]
        if not self.alternates:
            return Adam(self.parameters(), lr=lr, fused=True)
        rest = [*self.trunk.parameters(), *self.subnets.parameters(), *self.heads.parameters()]
        return [Adam(rest, lr=lr, fused=True), Adam(self.critics.parameters(), lr=lr, fused=True)]

    def _layers(self, side: Side, features: Features) -> list[Tensor]:
        """(B, dim) normalised embeddings of every layer, coarsest first."""
        base: Tensor = self.trunk[side](features["pooled"])
        found: list[Tensor] = []
        for subnet in cast("nn.ModuleList", self.subnets[side]):
            seen = torch.cat([base, found[-1]], 1) if self.chained and found else base
            found.append(F.normalize(subnet(seen)))
        return found

    def _classification(self, image: Tensor, text: Tensor, classes: Tensor) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        for name, head in self.heads.items():
            k, other = map(int, name.split("_"))
            own = k == other
            entropy = F.cross_entropy(head(image[:, k]), classes[:, other]) + F.cross_entropy(
                head(text[:, k]), classes[:, other]
            )
            term = "label" if own else "cross"
            terms[term] = terms.get(term, 0) + (self.layer_weights[k] if own else 1.0) * entropy
        return terms

    def _discrimination(self, image: Tensor, text: Tensor) -> Tensor:
        """L_adv summed over the layers, from (B, K, dim) each."""
        parts = (discrimination(critic(image[:, k]), critic(text[:, k])) for k, critic in enumerate(self.critics))
        return sum(parts, image.new_zeros(()))
