"""Discriminators that tell image codes from text codes (SCAHN)."""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xmodal.layers.perceptron import perceptron


class CodeDiscriminators(nn.Module):
    """One small network per modality that takes its own modality's codes for real, or one for both modalities.

    Args:
        bits: K.
        kind: `dual`: one per modality; `single`: one, for which images are real and texts are fake.
        hidden: units.
    """

    def __init__(self, bits: int, kind: Literal["dual", "single"], hidden: int = 512) -> None:
        super().__init__()
        sides = ("image", "text") if kind == "dual" else ("image",)
        self.nets = nn.ModuleDict(
            {side: nn.Sequential(perceptron((bits, hidden)), nn.Linear(hidden, 1)) for side in sides}
        )

    def fooling(self, relaxed: Mapping[str, Tensor]) -> Tensor:
        """- log D_v(h_t) - log D_t(h_v); a single one is told the opposite of what it learns.

        Args:
            relaxed: (B, K) codes of `image` and `text`.
        """
        image = self.nets["image"]
        other = self.nets["text"](relaxed["image"]) if len(self.nets) == 2 else -image(relaxed["image"])
        return _call(image(relaxed["text"])) + _call(other)

    def discrimination(self, relaxed: Mapping[str, Tensor]) -> Tensor:
        """The discriminators' own loss: each one's modality is real, the other is fake.

        Args:
            relaxed: (B, K) codes of `image` and `text`, without gradient.
        """
        losses = []
        for side, net in self.nets.items():
            other = "text" if side == "image" else "image"
            losses += [_call(net(relaxed[side])), _call(-net(relaxed[other]))]
        return torch.stack(losses).sum()


def _call(logit: Tensor) -> Tensor:
    """- E log sigmoid(logit): the cost of not being called real; of not being called fake for -logit."""
    return F.softplus(-logit).mean()
