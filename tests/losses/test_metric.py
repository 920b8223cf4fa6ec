import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.losses.test_pairwise import LABEL, golden
from xmodal.losses import (
    hardest_other,
    label_prediction,
    label_similarity,
    mean_distance,
    pairwise_likelihood,
    ranking_hinge,
    repulsion,
    squared_triplet,
)

CLASSES = torch.tensor([0, 1, 0, 2])
ONE_HOT = torch.eye(3, dtype=torch.float64)[CLASSES]
SIMILAR = label_similarity(ONE_HOT, ONE_HOT)
IMAGE, TEXT = golden(0.45, 4, 5), golden(1.05, 4, 5)


def test_dscmr_is_the_published_one():
    """The golden step of DSCMR: J1, J2, J3."""
    first = mean_distance(golden(0.65, 4, 3), ONE_HOT) + mean_distance(golden(1.65, 4, 3), ONE_HOT)
    u, v = F.normalize(IMAGE), F.normalize(TEXT)
    second = sum(pairwise_likelihood(a, b, SIMILAR) for a, b in ((u, u), (u, v), (v, v)))
    third = mean_distance(IMAGE, TEXT)
    assert float(first) == pytest.approx(3.285827695138, abs=1e-10)
    assert float(second) == pytest.approx(2.115613406107, abs=1e-11)
    assert float(third) == pytest.approx(0.911687965910, abs=1e-11)
    assert float(first + 1e-3 * second + 0.1 * third) == pytest.approx(3.379112105135, abs=1e-10)


def test_acmr_is_the_published_one():
    """The golden step of the release, whose hinge is on the batch's sums: one flattened row of ours."""
    flat = [rows.reshape(1, -1) for rows in (IMAGE, TEXT, TEXT[[1, 2, 3, 1]], IMAGE[[1, 0, 1, 0]])]
    triplet = squared_triplet(flat[0], flat[1], flat[2], 0.1, 5) + squared_triplet(flat[1], flat[0], flat[3], 0.1, 5)
    label = label_prediction(golden(0.65, 4, 3), ONE_HOT) + label_prediction(golden(1.65, 4, 3), ONE_HOT)
    assert float(triplet) == pytest.approx(1.822096142380, abs=1e-11)
    assert float(label) == pytest.approx(2.799369347514, abs=1e-11)
    assert float(100 * label + triplet) == pytest.approx(281.759030893763, abs=1e-9)


def test_triplets_are_per_row():
    near, far = ((IMAGE - other).square().sum(1) / 2 for other in (TEXT, TEXT[[1, 2, 3, 1]]))
    expected = np.maximum(0, 0.1 + 5 * near.numpy() - far.numpy()).mean()
    assert float(squared_triplet(IMAGE, TEXT, TEXT[[1, 2, 3, 1]], 0.1, 5)) == pytest.approx(expected)


def test_the_hardest_other_has_another_class():
    raw = torch.tensor([[1.0, 0.1], [1.0, 0.0], [1.0, 0.11], [0.0, 1.0]])
    assert hardest_other(raw, SIMILAR > 0).tolist() == [1, 0, 1, 2]
    assert hardest_other(raw, torch.ones(4, 4, dtype=torch.bool)).tolist() == [0, 1, 2, 3]


def test_ranking_hinge_against_loops():
    score, positive, margin = golden(0.2, 4, 4), SIMILAR > 0, 0.3
    expected = 0.0
    for s, p in ((score.numpy(), positive.numpy()), (score.T.numpy(), positive.T.numpy())):
        for i in range(4):
            worst = max(s[i, k] for k in range(4) if not p[i, k])
            expected += np.mean([max(0, margin - s[i, j] + worst) for j in range(4) if p[i, j]]) / 4
    assert float(ranking_hinge(score, positive, margin)) == pytest.approx(expected)


def test_ranking_hinge_by_hand():
    """VSE++ on two pairs: rows give .2 - .5 + .6 and 0, columns .0 and .2 - .9 + .6 -> 0."""
    score = torch.tensor([[0.5, 0.6], [0.1, 0.9]])
    assert float(ranking_hinge(score, torch.eye(2) > 0, 0.2)) == pytest.approx(0.3 / 2)


def test_a_row_without_a_negative_gives_nothing():
    score = golden(0.2, 4, 4).requires_grad_()
    loss = ranking_hinge(score, torch.ones(4, 4, dtype=torch.bool), 0.3)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not score.grad.any()


def test_unscored_pairs_do_not_count():
    score, pair = golden(0.2, 4, 4), torch.eye(4) > 0
    hidden = score.masked_fill(SIMILAR.bool() & ~pair, -torch.inf).requires_grad_()
    loss = ranking_hinge(hidden, pair, 0.3)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(hidden.grad).all()


def test_repulsion_by_hand():
    rows, others = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.2, 0.0], [3.0, 0.0], [0.1, 0.0]])
    positive = torch.tensor([[False, False, True]])
    assert float(repulsion(rows, others, positive, 0.1)) == pytest.approx((0.1 - 0.04) / 3)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_label_prediction_against_numpy(kind):
    logit = golden(0.4, 4, 3).numpy()
    label = LABEL.numpy()
    if kind == "softmax":
        log = logit - np.log(np.exp(logit).sum(1, keepdims=True))
        expected = -(label / label.sum(1, keepdims=True) * log).sum() / 4
    else:
        p = 1 / (1 + np.exp(-logit))
        expected = -(label * np.log(p) + (1 - label) * np.log(1 - p)).sum() / 4
    assert float(label_prediction(torch.from_numpy(logit), LABEL, kind)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: mean_distance(x, TEXT),
        lambda x: ranking_hinge(x @ TEXT.T, SIMILAR > 0, 0.3),
        lambda x: squared_triplet(x, TEXT, TEXT[[1, 2, 3, 1]], 0.1, 5),
        lambda x: repulsion(x, TEXT, SIMILAR > 0, 1.7),
        lambda x: label_prediction(x[:, :3], LABEL),
        lambda x: label_prediction(x[:, :3], LABEL, "sigmoid"),
    ],
)
def test_gradients(loss):
    assert torch.autograd.gradcheck(loss, IMAGE.clone().requires_grad_())


def test_a_distance_of_zero_has_a_gradient():
    rows = torch.zeros(2, 3, requires_grad=True)
    mean_distance(rows, torch.zeros(2, 3)).backward()
    assert torch.isfinite(rows.grad).all()
