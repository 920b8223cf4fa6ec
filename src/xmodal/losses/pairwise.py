"""Pairwise similarity losses on hash codes: the likelihood of DCMH and the relatives of DMSF."""

import math
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from xmodal.batch import SIDES, Side

Similarity = Literal["shared", "dice", "cosine"]
NO_DISTANCE = 1e-13  # squared, against the rows' own squares: below float32's resolution, above float64's rounding


def label_similarity(label: Tensor, other: Tensor, kind: Similarity = "shared") -> Tensor:
    """How similar two sets of labelled items are.

    Args:
        label: (N, C) multi-hot.
        other: (M, C) multi-hot.
        kind: `shared`: 1 where the rows share a label, else 0 (DCMH and all its relatives); `dice`:
            2 |a and b| / |a or b| in [0, 2] (MLSPH); `cosine` of the label vectors, in [0, 1] (MESDCH).

    Returns:
        (N, M) float.
    """
    common = label @ other.T
    if kind == "shared":
        return (common > 0).to(label.dtype)
    sizes = label.sum(1)[:, None], other.sum(1)[None, :]
    if kind == "dice":
        return 2 * common / (sizes[0] + sizes[1] - common).clamp_min(1)
    return common / (sizes[0] * sizes[1]).clamp_min(1).sqrt()


def joint_similarity(
    feature: Mapping[Side, Tensor], shifted: Mapping[Side, bool], balance: float, second_order: float
) -> Tensor:
    """DJSRH's joint-semantics affinity of N pairs, from the features of both sides, without labels.

    S = balance S_image + (1 - balance) S_text of cosines; then (1 - second_order) S + second_order S S^T / N.

    Args:
        feature: (N, D) of each side.
        shifted: sides whose cosines are never negative: 2 cos - 1 then takes the place of cos.
        balance: the images' share.
        second_order: share of how alike two pairs are to all others.

    Returns:
        (N, N).
    """
    unit = {side: F.normalize(feature[side]) for side in SIDES}
    cosine = {side: unit[side] @ unit[side].T for side in SIDES}
    image, text = (2 * cosine[side] - 1 if shifted[side] else cosine[side] for side in SIDES)
    total = balance * image + (1 - balance) * text
    return (1 - second_order) * total + second_order * total @ total.T / len(total)


def pairwise_likelihood(code: Tensor, other: Tensor, similar: Tensor) -> Tensor:
    """Mean over all pairs of softplus(T) - S T with T = 1/2 <code_i, other_j>: minus the log likelihood of DCMH, Eq. 1.

    Args:
        code: (N, K) relaxed codes.
        other: (M, K) relaxed codes.
        similar: (N, M) similarity in [0, 1].

    Returns:
        Scalar, in nats per pair.
    """
    theta = 0.5 * code @ other.T
    return (F.softplus(theta) - similar * theta).mean()


def euclidean(first: Tensor, second: Tensor) -> Tensor:
    """(N, K), (N', K) -> (N, N') distances; the slope at a distance of 0 is 0.

    An expanded product in float64 knows its zeros, and is a matrix product. `torch.cdist` without one is exact as well,
    but takes far longer on CUDA, where its backward pass holds N N' K numbers.
    """
    x, y = first.double(), second.double()
    size = x.square().sum(1, keepdim=True) + y.square().sum(1)
    squared = torch.addmm(size, x, y.T, alpha=-2)
    apart = squared > NO_DISTANCE * size
    squared = torch.where(apart, squared, 1).to(first.dtype)
    return torch.where(apart, squared.sqrt(), 0)


def distance_margin(code: Tensor, other: Tensor, similar: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """DCHMT's contrastive loss on soft codes: similar pairs together, the others at least `margin` apart.

    A bit in (-1, 1) stands for the pair of probabilities ((1 - h) / 2, (1 + h) / 2); distances are Euclidean over all
    2 K probabilities, that is |h - h'| / sqrt(2). Complementary codes of K bits are sqrt(2 K) apart.

    Args:
        code: (N, K) relaxed codes.
        other: (M, K) relaxed codes.
        similar: (N, M), 1 where a pair shares a label, else 0.
        margin: of the pairs that share none.

    Returns:
        Two scalars, mean S d^2 and mean (1 - S) relu(margin - d)^2, both over all N M pairs.
    """
    distance = euclidean(code, other) / math.sqrt(2)
    return (similar * distance.square()).mean(), ((1 - similar) * (margin - distance).clamp_min(0).square()).mean()
