"""From an embedding back to the input feature, for adversaries within a modality."""

import torch.nn.functional as F
from torch import Tensor, nn


class _BatchNorm(nn.BatchNorm1d):
    """Batch norm; a batch of a single pair, such as an epoch may end with, is normalised by the running statistics."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name
        if len(input) > 1:
            return super().forward(input)
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def decoder(dim: int, out: int) -> nn.Sequential:
    """Linear, batch norm, LeakyReLU 0.2, Linear, as CM-GANs' decoders (Peng et al., TOMM 2019).

    Args:
        dim: size of the embedding and of the hidden layer.
        out: size of the feature that is restored.
    """
    # The norm takes out what a bias before it adds; such a bias would only follow rounding errors.
    return nn.Sequential(nn.Linear(dim, dim, bias=False), _BatchNorm(dim), nn.LeakyReLU(0.2), nn.Linear(dim, out))
