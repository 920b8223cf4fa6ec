"""Features less the mean of the training features, over their deviation."""

from torch import Tensor
from torch.nn import Module


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
