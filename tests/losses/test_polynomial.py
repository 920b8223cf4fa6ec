import numpy as np
import pytest
import torch

from tests.losses.test_pairwise import golden
from xmodal.losses import polynomial, polynomial_pull, polynomial_push

GOLDEN = torch.tensor([[0.6, 0.5, 0.1], [0.2, 0.7, 0.65], [0.3, 0.9, 0.8]], dtype=torch.float64)
PAIR = torch.eye(3, dtype=torch.bool)


def release(score, margin):
    """The authors' loop: one positive per row, skipped when solved or without informative negatives."""
    total = 0.0
    for s in (score, score.T):
        for i in range(len(s)):
            informative = [s[i, j] for j in range(len(s)) if j != i and s[i, j] + margin > s[i, i]]
            if s[i, i] >= 1 - 1e-5 or not informative:
                continue
            worst = max(informative)
            total += max(0, 0.2 * s[i, i] ** 2 - 0.7 * s[i, i] + 0.5)
            total += max(0, 0.9 * worst**2 - 0.4 * worst + 0.03)
    return total / len(score)


def test_polynomials_are_the_published_ones():
    s = torch.tensor([0, 0.25, 0.5, 0.75, 1], dtype=torch.float64)
    assert np.allclose(polynomial_pull(s), [0.5, 0.3375, 0.2, 0.0875, 0])
    assert np.allclose(polynomial_push(s), [0.03, 0, 0.055, 0.23625, 0.53])


def test_golden_value():
    assert float(polynomial(GOLDEN, PAIR, 0.2)) == pytest.approx(0.5525, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_one_positive_per_row_is_the_release(seed):
    score = np.random.default_rng(seed).uniform(-1, 1, (6, 6))
    score[0, 0] = 1.0  # solved
    loss = polynomial(torch.from_numpy(score), torch.eye(6, dtype=torch.bool), 0.2)
    assert float(loss) == pytest.approx(release(score, 0.2), abs=1e-12)


def test_parts_are_clamped_by_themselves():
    """A pull of 0 must not hide a negative push: at (1, .25) both are 0, at (.95, .8) the sum is P + Q."""
    score = torch.tensor([[0.95, 0.8], [0.0, 0.9]], dtype=torch.float64)
    expected = float(polynomial_pull(score[0, 0]) + polynomial_push(score[0, 1])) / 2
    both = expected + float(polynomial_pull(score[1, 1]) + polynomial_push(score[0, 1])) / 2
    assert float(polynomial(score, torch.eye(2) > 0, 0.2)) == pytest.approx(both)


def test_several_positives_share_the_pull():
    score = torch.tensor([[0.5, 0.6, 0.55], [0.6, 0.5, 0.1], [0.1, 0.1, 0.9]], dtype=torch.float64)
    positive = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]]).bool()
    first = (polynomial_pull(score[0, :2]).mean() + polynomial_push(score[0, 2])) / 3
    third = (polynomial_pull(score[2, 2]) * 0) / 3  # no informative negative in row 3; column 3 has one: .55 + .2 < .9
    assert float(polynomial(score, positive, 0.2)) == pytest.approx(float(first + third))


@pytest.mark.parametrize("negatives", ["max", "mean", "relative"])
def test_gradient(negatives):
    score = (0.9 * golden(0.3, 4, 4)).requires_grad_()
    pair = torch.eye(4, dtype=torch.bool)
    assert torch.autograd.gradcheck(lambda x: polynomial(x, pair, 0.2, negatives), score)
    assert torch.autograd.grad(polynomial(score, pair, 0.2, negatives), score)[0].abs().sum() > 0


def test_mean_counts_every_informative_negative():
    score = torch.tensor([[0.6, 0.5, 0.45], [0.0, 0.9, 0.0], [0.0, 0.0, 0.9]], dtype=torch.float64)
    expected = polynomial_pull(score[0, 0]) + polynomial_push(score[0, 1:]).mean()
    assert float(polynomial(score, PAIR, 0.2, "mean")) == pytest.approx(float(expected) / 3)


def test_relative_counts_the_lead():
    score = torch.tensor([[0.6, 0.5], [0.0, 0.9]], dtype=torch.float64)
    expected = float(polynomial_pull(score[0, 0])) + 0.1 + 0.1**2
    assert float(polynomial(score, torch.eye(2) > 0, 0.2, "relative")) == pytest.approx(expected / 2)


def test_unscored_pairs_leave_value_and_gradient_finite():
    score = GOLDEN.clone()
    score[1, 0] = -torch.inf
    score.requires_grad_()
    loss = polynomial(score, PAIR, 0.2)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.5525)  # 0.2 was no informative negative
    assert torch.isfinite(score.grad).all()
