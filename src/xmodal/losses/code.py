"""Losses on the codes themselves: quantisation, bit balance, and the discrete step under graph regularisation."""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]


def sign(relaxed: Tensor) -> Tensor:
    """Turn relaxed codes into codes in {-1, +1}; zero becomes +1 everywhere in the suite."""
    return torch.where(relaxed >= 0, 1.0, -1.0).to(relaxed.dtype)


def quantization(relaxed: Tensor, code: Tensor, size: int) -> Tensor:
    """||B - H||_F^2 / (b n), with the scaling of DCMH's code; no gradient reaches the codes.

    Args:
        relaxed: (b, K) network outputs H in (-1, 1).
        code: (b, K) codes B in {-1, +1}.
        size: number n of training pairs.

    Returns:
        Scalar.
    """
    return (code.detach() - relaxed).square().sum() / (len(relaxed) * size)


def bit_balance(relaxed: Tensor, rest: Tensor, size: int) -> Tensor:
    """||sum of all codes||^2 / (b n): every bit should be +1 for half of the training set (DCMH, Eq. 1, last term).

    Args:
        relaxed: (b, K) outputs of this batch, with gradient.
        rest: (K,) sum of the stored outputs of the other training pairs, without gradient.
        size: number n of training pairs.

    Returns:
        Scalar.
    """
    return (relaxed.sum(0) + rest.detach()).square().sum() / (len(relaxed) * size)


def nearest_targets(relaxed: Tensor, target: Tensor) -> Tensor:
    """Deal target codes out, one to each item, so that the sum of all Euclidean distances is least (Hungarian method).

    The assignment is found on the host: on another device the step waits for it.

    Args:
        relaxed: (N, K) relaxed codes, or (N, K') outputs side by side with targets that are repeated likewise.
        target: (N, K) codes in {-1, +1}.

    Returns:
        (N, K) the targets in the order of the items, without gradient.

    Raises:
        torch.linalg.LinAlgError: a code is infinite or not a number.
    """
    distance = torch.cdist(relaxed.detach(), target, compute_mode="donot_use_mm_for_euclid_dist").cpu()
    if not distance.isfinite().all():
        raise LinAlgError("the codes are not finite, so that they have no nearest targets")
    _, columns = linear_sum_assignment(distance.numpy())
    return target[torch.from_numpy(columns).to(target.device)]


def normalised_laplacian(similar: Tensor) -> Tensor:
    """I - D^-1/2 S D^-1/2 with D the row sums of S; an isolated row keeps its 1 on the diagonal.

    Args:
        similar: (N, N) symmetric, not negative.

    Returns:
        (N, N) positive semi-definite, eigenvalues in [0, 2].
    """
    degree = similar.sum(1)
    scale = torch.where(degree > 0, degree.clamp_min(1e-12).rsqrt(), 0.0)
    return (
        torch.eye(len(similar), dtype=similar.dtype, device=similar.device) - scale[:, None] * similar * scale[None, :]
    )


def graph_factor(similar: Tensor, strength: float) -> Tensor:
    """Cholesky factor of 2 I + strength * Laplacian, computed once for a training set.

    Args:
        similar: (N, N) similarity of the training pairs.
        strength: eta / gamma, graph weight over quantisation weight.

    Returns:
        (N, N) lower triangular.
    """
    laplacian = normalised_laplacian(similar)
    factor: Tensor = torch.linalg.cholesky(
        strength * laplacian + 2 * torch.eye(len(laplacian), dtype=laplacian.dtype, device=laplacian.device)
    )
    return factor


def graph_codes(factor: Tensor, total: Tensor) -> Tensor:
    """B = sign((2 I + eta/gamma Lap)^-1 (F + G)): minimises quantisation plus graph term over B, relaxed and signed.

    Args:
        factor: (N, N) from `graph_factor`.
        total: (N, K) sum F + G of both modalities' relaxed codes.

    Returns:
        (N, K) codes in {-1, +1}.
    """
    return sign(torch.cholesky_solve(total, factor))
