"""Linear canonical correlation analysis in closed form."""

import torch
from torch import Tensor

from xmodal.errors import UserError


def canonical_projections(
    image: Tensor, text: Tensor, dim: int, regularization: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Projections of largest correlation of two centred views (Hotelling 1936), by Cholesky whitening and an SVD.

    Args:
        image: (N, P) centred features.
        text: (N, Q) centred features.
        dim: number of components.
        regularization: added to the diagonals of both covariances.

    Returns:
        (P, dim) and (Q, dim) projections with unit variance, and (dim,) canonical correlations, falling; float64.

    Raises:
        UserError: more components than dimensions, or a covariance that the regularisation leaves singular.
    """
    if not 1 <= dim <= min(image.shape[1], text.shape[1]):
        raise UserError(
            f"CCA of {image.shape[1]}-d images and {text.shape[1]}-d texts has "
            f"1 to {min(image.shape[1], text.shape[1])} components, not {dim}."
        )
    x, y, samples = image.double(), text.double(), len(image) - 1
    x_factor, y_factor = (_whitener(view.T @ view / samples, regularization) for view in (x, y))
    cross = torch.linalg.solve_triangular(x_factor, x.T @ y / samples, upper=False)
    cross = torch.linalg.solve_triangular(y_factor, cross.T, upper=False).T  # L_x^-1 S_xy L_y^-T
    driver = "gesvd" if cross.is_cuda else None  # the default, Jacobi's method, does not converge on some, and says so
    left, correlation, right = torch.linalg.svd(cross, full_matrices=False, driver=driver)
    x_projection = torch.linalg.solve_triangular(x_factor.T, left[:, :dim], upper=True)
    y_projection = torch.linalg.solve_triangular(y_factor.T, right.T[:, :dim], upper=True)
    return x_projection, y_projection, correlation[:dim]


def _whitener(covariance: Tensor, regularization: float) -> Tensor:
    factor, failed = torch.linalg.cholesky_ex(
        covariance + regularization * torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    )
    if failed:
        raise UserError(f"a covariance is singular with regularization={regularization}: give a larger one.")
    whitener: Tensor = factor
    return whitener
