"""From an embedding back to the input feature, for adversaries within a modality."""

from torch import nn


def decoder(dim: int, out: int) -> nn.Sequential:
    """Linear, batch norm, LeakyReLU 0.2, Linear, as CM-GANs' decoders (Peng et al., TOMM 2019).

    Args:
        dim: size of the embedding and of the hidden layer.
        out: size of the feature that is restored.
    """
    # The norm takes out what a bias before it adds; such a bias would only follow rounding errors.
    return nn.Sequential(nn.Linear(dim, dim, bias=False), nn.BatchNorm1d(dim), nn.LeakyReLU(0.2), nn.Linear(dim, out))
