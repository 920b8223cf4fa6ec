"""What an adversarial game needs: gradient reversal with its schedule, and discriminators."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from xmodal.layers.perceptron import perceptron


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:  # noqa: ANN401 - autograd's context
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        return -ctx.strength * gradients[0], None


def reverse_gradient(x: Tensor, strength: float) -> Tensor:
    """The identity, whose gradient is multiplied by -strength (Ganin and Lempitsky, ICML 2015).

    Args:
        x: any tensor.
        strength: lambda, not negative.
    """
    reversed_: Tensor = _Reverse.apply(x, strength)
    return reversed_


def reversal_strength(progress: float) -> float:
    """2 / (1 + exp(-10 p)) - 1: rises from 0 to 1 with the share p of the training that is over (ACMR's code)."""
    return 2 / (1 + math.exp(-10 * progress)) - 1


def reversed_on_schedule(progress: float, *parts: Tensor) -> list[Tensor]:
    """Each part behind a gradient reversal, whose strength follows ACMR's schedule.

    Args:
        progress: share p of the training that is over.
        parts: embeddings that are to fool a discriminator.
    """
    strength = reversal_strength(progress)
    return [reverse_gradient(part, strength) for part in parts]


def discriminator(sizes: Sequence[int], slope: float = 0.2) -> nn.Sequential:
    """Linear layers of the given sizes with LeakyReLU between them, and one logit at the end.

    Args:
        sizes: input size, then the size of every hidden layer.
        slope: of LeakyReLU below 0; 1 leaves the layers linear, as ACMR's code has them.
    """
    hidden = perceptron(sizes, lambda: nn.LeakyReLU(slope))
    return nn.Sequential(*hidden, nn.Linear(sizes[-1], 1), nn.Flatten(0))
