"""Features less the mean of the training features, over their deviation."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import Module

from xmodal.batch import Side


class Standardisation(Module):
    """Keeps the moments in the checkpoint of the model.

    Args:
        mean: (D,) of the training features, per dimension.
        deviation: (D,) of the training features, above 0.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.clone())
        self.register_buffer("deviation", deviation.clone())

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, D) standardised features, of the same type as float32 features of the data module."""
        return (pooled.float() - self.mean) / self.deviation


def tell_of_scaling(arguments: Mapping[str, Any], sides: Sequence[Side]) -> None:
    """Say that a method which takes the pooled features of both sides for those of one space gets scaled ones.

    Args:
        arguments: of the method.
        sides: whose features the data standardise, each by itself.
    """
    if sides and arguments.get("space") == "joint" and "image_dim" in arguments:
        keys = " and ".join(f"data.{side}_scaling=none" for side in sides)
        sys.stderr.write(f"model.space is joint, and features of one space are scaled side by side: say {keys}\n")
