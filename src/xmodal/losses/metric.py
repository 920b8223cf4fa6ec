"""Losses on distances of embeddings: paired distances, and hinges over triplets."""

import torch
import torch.nn.functional as F
from torch import Tensor


def mean_distance(rows: Tensor, others: Tensor) -> Tensor:
    """Mean over rows of the Euclidean distance, not squared (DSCMR, J1 and J3); its slope at 0 is finite.

    Args:
        rows: (B, d).
        others: (B, d).

    Returns:
        Scalar.
    """
    return ((rows - others).square().sum(1) + 1e-12).sqrt().mean()


def hardest_negative(score: Tensor, positive: Tensor) -> Tensor:
    """The largest score of each row among what is not positive.

    Args:
        score: (N, M); -inf marks pairs that were not scored.
        positive: (N, M) bool.

    Returns:
        (N,); -inf for a row without a negative.
    """
    return score.masked_fill(positive, -torch.inf).amax(1)


def ranking_hinge(score: Tensor, positive: Tensor, margin: float) -> Tensor:
    """[margin - s_ij + max_k s_ik]_+ over positives j and negatives k of row i, in both directions.

    The mean over a row's positives, then over all rows; a row without a negative gives 0. With `positive` the
    diagonal it is the loss of VSE++ (Faghri et al., BMVC 2018).

    Args:
        score: (B, B) similarity of every image to every text, such as the cosine; -inf where it was not computed.
        positive: (B, B) bool, the pair itself included.
        margin: by which a positive has to lead.

    Returns:
        Scalar, the sum of both directions.
    """
    return _ranking_hinge(score, positive, margin) + _ranking_hinge(score.T, positive.T, margin)


def _ranking_hinge(score: Tensor, positive: Tensor, margin: float) -> Tensor:
    counted = positive & score.isfinite()
    hinge = F.relu(margin - score + hardest_negative(score, positive)[:, None])
    return (hinge.masked_fill(~counted, 0).sum(1) / counted.sum(1).clamp_min(1)).mean()


def hardest_other(raw: Tensor, positive: Tensor) -> Tensor:
    """For each row the most similar other row by the cosine of the raw features that is not positive (ACMR's mining).

    Args:
        raw: (B, D) input features.
        positive: (B, B) bool.

    Returns:
        (B,) row numbers; a row without a negative names itself.
    """
    unit = F.normalize(raw)
    score = (unit @ unit.T).masked_fill(positive, -torch.inf)
    own = torch.arange(len(raw), device=raw.device)
    return torch.where(score.amax(1).isfinite(), score.argmax(1), own)


def squared_triplet(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float, factor: float) -> Tensor:
    """Mean over rows of [margin + factor phi(a, p) - phi(a, n)]_+ with phi half the squared distance (ACMR, L_imi).

    The authors' release applies the hinge to the sums over the batch: the same function of one flattened row.

    Args:
        anchor: (B, d).
        positive: (B, d).
        negative: (B, d).
        margin: of the hinge.
        factor: weight of the positive distance.

    Returns:
        Scalar.
    """
    near, far = ((anchor - other).square().sum(1) / 2 for other in (positive, negative))
    return F.relu(margin + factor * near - far).mean()


def repulsion(rows: Tensor, others: Tensor, positive: Tensor, margin: float) -> Tensor:
    """Mean over all pairs of [margin - ||v_i - w_j||^2]_+ where the pair is not positive (ACMR, contrastive form).

    Args:
        rows: (N, d).
        others: (M, d).
        positive: (N, M) bool.
        margin: squared distance beyond which a pair is left alone.

    Returns:
        Scalar.
    """
    squared = (rows[:, None] - others[None]).square().sum(2)
    return F.relu(margin - squared).masked_fill(positive, 0).mean()


def hard_pairs(score: Tensor, positive: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The matching pairs of a batch, and the highest negatives of each row and column, for a score that costs more.

    The matching pairs come first. The sizes do not depend on the scores, so that no device has to wait for them.

    Args:
        score: (B, B) of cheap scores.
        positive: (B, B) bool, True on the diagonal at least.
        count: negatives of each row and of each column; 0, or B and more: every pair of the batch.

    Returns:
        Rows and columns (P,), and bool (P,): True where a pair was listed before.
    """
    size, each = len(score), torch.arange(len(score), device=score.device)
    if not 0 < count < size:
        rows, shift = each.repeat(size), each.repeat_interleave(size)
        return rows, (rows + shift) % size, torch.zeros_like(rows, dtype=torch.bool)
    hard = score.masked_fill(positive, -torch.inf)
    by_row, by_column = (hard.topk(count, side).indices for side in (1, 0))  # (B, k) and (k, B)
    rows = torch.cat([each, each.repeat_interleave(count), by_column.flatten()])
    columns = torch.cat([each, by_row.flatten(), each.repeat(count)])
    pair = torch.eye(size, dtype=torch.bool, device=score.device)
    listed = pair.scatter(1, by_row, True)
    again = torch.zeros_like(each, dtype=torch.bool), pair.gather(1, by_row), listed.gather(0, by_column)
    return rows, columns, torch.cat([part.flatten() for part in again])
