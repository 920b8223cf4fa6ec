"""The self-similarity polynomial loss of X. Wei et al., "Universal weighting metric learning", CVPR 2020 and TPAMI."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from xmodal.losses.metric import hardest_negative

Negatives = Literal["max", "mean", "relative"]

_SOLVED = 1 - 1e-5  # a positive at this score has nothing left to learn


def polynomial_pull(score: Tensor) -> Tensor:
    """P(s) = [0.2 s^2 - 0.7 s + 0.5]_+ of a positive pair: 0.5 at 0, falling to 0 at 1."""
    return F.relu(0.2 * score.square() - 0.7 * score + 0.5)


def polynomial_push(score: Tensor) -> Tensor:
    """Q(s) = [0.9 s^2 - 0.4 s + 0.03]_+ of a negative pair: 0 from 0.0955 to 0.3489, rising above."""
    return F.relu(0.9 * score.square() - 0.4 * score + 0.03)


def polynomial(score: Tensor, positive: Tensor, margin: float = 0.2, negatives: Negatives = "max") -> Tensor:
    """Mean over rows of P(positives) + Q(informative negatives), both directions; each part is clamped by itself.

    A negative of row i is informative where s_ij + margin exceeds the row's lowest positive, a positive where
    s_ij - margin is below the row's highest negative; a row without informative negatives gives 0. With one positive
    per row this is the authors' release; several positives are our extension to class labels.

    Args:
        score: (B, B) in [-1, 1], every image against every text; -inf marks pairs that were not scored.
        positive: (B, B) bool, the pair itself included; the diagonal must be scored.
        margin: m.
        negatives: `max`: Q of the highest informative negative (the release); `mean` over the informative ones;
            `relative`: x + x^2 of x = s_ij + m - lowest positive for the highest negative in place of Q, so that the
            lead counts and not the score (our reading of the relative-similarity variant; its coefficients are ours).

    Returns:
        Scalar.
    """
    return _polynomial(score, positive, margin, negatives) + _polynomial(score.T, positive.T, margin, negatives)


def _polynomial(score: Tensor, positive: Tensor, margin: float, negatives: Negatives) -> Tensor:
    scored = score.isfinite()
    open_ = positive & scored & (score < _SOLVED)  # the positives that can still rise
    lowest = score.masked_fill(~open_, torch.inf).amin(1)  # (B,), inf where all have
    highest = hardest_negative(score, positive)
    informative = ~positive & scored & (score + margin > lowest[:, None])
    pulled = open_ & (score < highest[:, None] + margin)
    active = informative.any(1)
    finite = score.masked_fill(~scored, 0)
    pull = _mean(polynomial_pull(finite), pulled)
    if negatives == "mean":
        push = _mean(polynomial_push(finite), informative)
    else:
        highest, lowest = highest.masked_fill(~active, 0), lowest.masked_fill(~active, 0)
        lead = highest + margin - lowest
        push = polynomial_push(highest) if negatives == "max" else lead + lead.square()
    return (pull + push).masked_fill(~active, 0).sum() / len(score)


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """(B,) mean of each row's chosen values; 0 for a row without any."""
    return values.masked_fill(~chosen, 0).sum(1) / chosen.sum(1).clamp_min(1)
