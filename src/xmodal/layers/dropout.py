"""Dropout that is the same on any number of processes, of activations and of whole dimensions of input features."""

import sys

import torch.nn.functional as F
from torch import Tensor, nn

from xmodal.errors import UserError
from xmodal.layers.gather import Shard

ALONE = (
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.MultiheadAttention),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
)  # torch's own, which know the rows of their process only


class Dropout(nn.Dropout):
    """Dropout of the rows of a process: the mask is drawn for the global batch, and each process takes its own rows.

    The processes draw from generators in the same state, so that one process and several have the same masks. What
    every process computes from the whole batch is left to `nn.Dropout` itself.

    Args:
        share: that is zeroed while training.
        dim: of the input that counts the rows of the batch.

    Raises:
        UserError: the share is not in [0, 1).
    """

    def __init__(self, share: float, dim: int = 0) -> None:
        if not 0 <= share < 1:
            raise UserError(f"a share of {share} is dropped: give one from 0, below 1.")
        super().__init__(share)
        self.dim, self.shard = dim, Shard()

    def forward(self, x: Tensor) -> Tensor:
        """Of any shape, the same afterwards."""
        if not self.training or self.shard.world == 1:
            return F.dropout(x, self.p, self.training)
        ones = x.new_ones(*x.shape[: self.dim], self.shard.size, *x.shape[self.dim + 1 :])
        return x * self.shard.of(F.dropout(ones, self.p), self.dim)


class FeatureDropout(Dropout):
    """While training, whole dimensions are zeroed and the others scaled up: all tokens of an item lose the same ones.

    Independent draws per token would mostly cancel out where a method takes the mean of the tokens.

    Args:
        share: of the dimensions.
    """

    def __init__(self, share: float) -> None:
        super().__init__(share)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) features or (B, N, D) tokens, of the same shape afterwards."""
        if x.ndim == 2:
            return super().forward(x)
        if not self.training or self.shard.world == 1:
            return F.dropout1d(x.mT, self.p, self.training).mT
        ones = x.new_ones(self.shard.size, x.shape[2], 1)
        return x * self.shard.of(F.dropout1d(ones, self.p)).mT


def tell_of_own_rows(module: nn.Module, name: str) -> None:
    """Say which parts of a method of one's own, or of trained trunks, make numbers depend on that of the processes."""
    rates = ("p", "dropout", "drop_prob", "prob")
    found = {
        type(each).__name__
        for each in module.modules()
        if (type(each) in ALONE or type(each).__name__ in ("DropPath", "PatchDropout"))  # timm's and open_clip's
        and next((getattr(each, rate) for rate in rates if hasattr(each, rate)), 1)
    }
    if found and not type(module).__module__.startswith("xmodal."):
        sys.stderr.write(
            f"{name} {' and '.join(sorted(found))}, for the rows of each process alone: another number of devices "
            "gives other numbers (xmodal.layers.Dropout does not)\n"
        )
