"""Dropout of input features, against learning few training pairs by heart."""

import torch.nn.functional as F
from torch import Tensor, nn

from xmodal.errors import UserError


class FeatureDropout(nn.Module):
    """While training, whole dimensions are zeroed and the others scaled up: all tokens of an item lose the same ones.

    Independent draws per token would mostly cancel out where a method takes the mean of the tokens.

    Args:
        share: of the dimensions.

    Raises:
        UserError: the share is not in [0, 1).
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        if not 0 <= share < 1:
            raise UserError(f"a share of {share} of the input is dropped: give one from 0, below 1.")
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) features or (B, N, D) tokens, of the same shape afterwards."""
        if x.ndim == 2:
            return F.dropout(x, self.share, self.training)
        return F.dropout1d(x.mT, self.share, self.training).mT
