"""Label co-occurrence graph and its convolution, as ML-GCN (Chen et al., CVPR 2019) and SCAHN build them."""

import warnings
from typing import cast

import torch
from torch import Tensor, nn


def label_graph(label: Tensor, threshold: float = 0.4, share: float = 0.25) -> Tensor:
    """Normalised adjacency of the labels: binarised conditional probabilities, re-weighted, with self-loops.

    P_ab = p(b | a) with a zero diagonal; A_ab = 1 where P_ab >= threshold; A <- share A / column sums + I;
    the result is D^-1/2 A^T D^-1/2 with D the row sums of A.

    Args:
        label: (n, C) multi-hot, of the training pairs.
        threshold: t, on the conditional probability.
        share: of a label's neighbours together against its own 1.

    Returns:
        (C, C).
    """
    together = label.T @ label
    probability = together.fill_diagonal_(0) / label.sum(0).clamp_min(1)[:, None]
    edges = (probability >= threshold).to(label.dtype)
    adjacency = share * edges / (edges.sum(0) + 1e-6) + torch.eye(len(edges), dtype=label.dtype, device=label.device)
    scale = adjacency.sum(1).rsqrt()
    return scale[:, None] * adjacency.T * scale[None, :]


class LabelGCN(nn.Module):
    """Two graph convolutions over the labels: A LeakyReLU(A E W_0) W_1, a classifier's weights out of label features.

    `open` gives it the graph and the features, which are constants of the training set and not of a checkpoint.

    Args:
        size: of a label's feature.
        hidden: between the two convolutions.
        dim: of the result.
    """

    edges: Tensor
    strength: Tensor
    feature: Tensor

    def __init__(self, size: int, hidden: int, dim: int) -> None:
        super().__init__()
        with warnings.catch_warnings():  # imported here: it takes seconds and warns
            warnings.filterwarnings("ignore", "`torch.jit")  # of another category in each version
            from torch_geometric.nn import GCNConv
        plain = {"bias": False, "normalize": False, "add_self_loops": False}  # the graph is normalised already
        self.first, self.second = GCNConv(size, hidden, **plain), GCNConv(hidden, dim, **plain)
        self.register_buffer("edges", torch.zeros(2, 0, dtype=torch.int64), persistent=False)
        for name in ("strength", "feature"):
            self.register_buffer(name, torch.zeros(0), persistent=False)

    def open(self, adjacency: Tensor, feature: Tensor) -> None:
        """Set the (C, C) adjacency and the (C, size) features."""
        self.edges = adjacency.T.nonzero().T  # an edge runs from the source j to the target i
        self.strength, self.feature = adjacency.T[self.edges[0], self.edges[1]], feature

    def forward(self) -> Tensor:
        """(C, dim)."""
        hidden = nn.functional.leaky_relu(self.first(self.feature, self.edges, self.strength), 0.2)
        return cast("Tensor", self.second(hidden, self.edges, self.strength))
