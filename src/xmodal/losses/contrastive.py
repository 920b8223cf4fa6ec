"""Contrastive losses on codes: multi-label PaCo and triplets (SCAHN), InfoNCE (MITH)."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

AT_ONCE = 2**26  # cosines that `info_nce` holds at a time


def multilabel_paco(
    code: Tensor,
    key: Tensor,
    label: Tensor,
    key_label: Tensor,
    class_logit: Tensor,
    temperature: float = 0.05,
    alpha: float = 0.07,
    beta: float = 1.0,
    gamma: float = 1.0,
    present: Tensor | None = None,
) -> Tensor:
    """Parametric contrastive loss (Cui et al., ICCV 2021) for several labels, as SCAHN's release states it.

    With z_ij = <code_i, key_j> / T, class logits c_i and positives m_ij = 1 where i and j share a label:
    minus the mean over i of the (beta l_i, alpha m_i)-weighted mean of log p over all C + M entries, where
    log p = entry - log(sum_c exp c_ic + gamma sum_j exp z_ij). The anchor's own row of `code` is among neither.

    Args:
        code: (N, K) anchors with gradient.
        key: (M, K) contrasts whose first N rows are the anchors themselves; then detached keys and a queue.
        label: (N, C) multi-hot, of the anchors.
        key_label: (M, C) multi-hot, of the contrasts.
        class_logit: (N, C) of a linear classifier on the anchors' features.
        temperature: T.
        alpha: weight of a positive contrast.
        beta: weight of a positive class.
        gamma: share of the contrasts in the normaliser.
        present: (M,) bool, False where a queue's slot is still empty.

    Returns:
        Scalar, in nats; the mean is over the anchors that have any positive entry.
    """
    own = torch.zeros(code.shape[0], key.shape[0], dtype=torch.bool, device=code.device)
    own.fill_diagonal_(fill_value=True)
    absent = own if present is None else own | ~present[None, :]
    contrast = (code @ key.T / temperature).masked_fill(absent, -torch.inf)  # (N, M)
    positive = (label @ key_label.T > 0).to(code.dtype).masked_fill(absent, 0)
    log_gamma = math.log(gamma) if gamma else -math.inf
    normaliser = torch.cat([class_logit, contrast + log_gamma], 1).logsumexp(1, keepdim=True)
    log_class, log_contrast = class_logit - normaliser, (contrast - normaliser).masked_fill(absent, 0)
    total = beta * (label * log_class).sum(1) + alpha * (positive * log_contrast).sum(1)
    weight = beta * label.sum(1) + alpha * positive.sum(1)
    some = weight > 0
    return -(total / torch.where(some, weight, 1)).sum() / some.sum().clamp_min(1)


def ndcg_gain(label: Tensor, other: Tensor) -> Tensor:
    """(2^|l_i and l_j| - 1) / Z_i with Z_i the ideal DCG of row i: the weight of a pair in DADH's and SCAHN's triplets.

    Args:
        label: (N, C) multi-hot.
        other: (M, C) multi-hot.

    Returns:
        (N, M); a row that shares no label with any is 0.
    """
    gain = torch.exp2(label @ other.T) - 1
    discount = torch.log2(torch.arange(gain.shape[1], device=gain.device, dtype=gain.dtype) + 2)
    ideal = (gain.sort(dim=1, descending=True).values / discount).sum(1, keepdim=True)
    return gain / torch.where(ideal > 0, ideal, 1)


def cosine_triplet(code: Tensor, other: Tensor, label: Tensor, margin: float = 0.3, *, ranked: bool = False) -> Tensor:
    """Sum over all (i, j, k) of S_ij (1 - S_ik) relu(d_ij - d_ik + margin), d = 1 - cos (DADH; SCAHN's alternative).

    Args:
        code: (N, K) anchors.
        other: (N, K) the other modality's codes of the same pairs.
        label: (N, C) multi-hot.
        margin: of the cosine distances.
        ranked: weight each triplet by ten times the difference of the pairs' `ndcg_gain`.

    Returns:
        Scalar; a sum, as in the release.
    """
    distance = 1 - F.normalize(code) @ F.normalize(other).T
    similar = (label @ label.T > 0).to(code.dtype)
    hinge = (distance[:, :, None] - distance[:, None, :] + margin).clamp_min(0)
    weight = similar[:, :, None] * (1 - similar[:, None, :])
    if ranked:
        gain = ndcg_gain(label, label)
        weight = 10 * weight * (gain[:, :, None] - gain[:, None, :])
    return (weight * hinge).sum()


def graded_triplet(distance: Tensor, label: Tensor, margin: float) -> Tensor:
    """Mean over the active triplets of `ndcg_gain`_ij [d_ij - d_ik + margin]_+, j relevant to i and k not (DIMCH).

    A row's negatives are sorted once, so that memory grows with N^2 and not with the number of triplets.

    Args:
        distance: (N, N) from each anchor to the other side's items of the same pairs.
        label: (N, C) multi-hot.
        margin: by which a negative should be farther away.

    Returns:
        Scalar; 0 where no triplet is active.
    """
    similar, reach = label @ label.T > 0, (distance + margin).contiguous()
    negative = distance.masked_fill(similar, torch.inf).sort(1).values
    within = torch.searchsorted(negative.detach(), reach.detach())  # (N, N) how many negatives are closer than that
    sums = F.pad(negative.masked_fill(negative.isinf(), 0).cumsum(1), (1, 0))  # (N, N + 1)
    hinges = within * reach - sums.gather(1, within)
    return (ndcg_gain(label, label) * hinges).sum() / (within * similar).sum().clamp_min(1)


def info_nce(code: Tensor, other: Tensor, temperature: float | Tensor = 0.07) -> Tensor:
    """Symmetric InfoNCE of rows that belong together: half of each direction's mean cross-entropy.

    Of sets whose cosines would take more than `AT_ONCE` numbers, a block at a time is held, and computed again in the
    backward pass: memory then grows with N and no longer with N^2.

    Args:
        code: (..., N, D); normalised here.
        other: (..., N, D); normalised here.
        temperature: of the cosines; a scalar that may be learned.

    Returns:
        Scalar, in nats, mean over rows and leading dimensions.
    """
    size = max(AT_ONCE // max(math.prod(code.shape[1:-1]) * code.shape[-2], 1), 1)
    if code.ndim > 2 and len(code) > size:
        again = partial(checkpoint, info_nce, use_reentrant=False, preserve_rng_state=False)
        parts = [slice(start, start + size) for start in range(0, len(code), size)]
        sums = [len(code[part]) * again(code[part], other[part], temperature) for part in parts]
        return torch.stack(sums).sum() / len(code)
    logit = F.normalize(code, dim=-1) @ F.normalize(other, dim=-1).mT / temperature
    forth, back = logit.log_softmax(-1), logit.log_softmax(-2)
    return -0.5 * (forth + back).diagonal(dim1=-2, dim2=-1).mean()
