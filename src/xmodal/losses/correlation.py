"""Deep canonical correlation: how much two views share after the best linear maps (Andrew et al., ICML 2013)."""

import torch
from torch import Tensor


def total_correlation(image: Tensor, text: Tensor, regularization: float = 1e-3) -> Tensor:
    """Sum of the canonical correlations of two batches of outputs, || S11^-1/2 S12 S22^-1/2 ||_* , in float64.

    Whitened by Cholesky factors, L1^-1 S12 L2^-T, which has the same singular values: `eigh` has no gradient where
    eigenvalues repeat. The batch must be much larger than the dimension, or independent views seem correlated.

    Args:
        image: (B, d) outputs, not centred.
        text: (B, d) outputs, not centred.
        regularization: r, added to the diagonals of both covariances.

    Returns:
        Scalar in [0, d], float64; a loss is its negative.
    """
    views = [view.double() - view.double().mean(0) for view in (image, text)]
    degrees = max(len(image) - 1, 1)
    diagonal = regularization * torch.eye(image.shape[1], dtype=torch.float64, device=image.device)
    first, second = (torch.linalg.cholesky(view.T @ view / degrees + diagonal) for view in views)
    cross = torch.linalg.solve_triangular(first, views[0].T @ views[1] / degrees, upper=False)
    cross = torch.linalg.solve_triangular(second, cross.T, upper=False)
    total: Tensor = torch.linalg.matrix_norm(cross, ord="nuc")
    return total
