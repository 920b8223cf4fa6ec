"""PaCo, triplets and InfoNCE: the published golden values, loops in float64 numpy, edges, and gradients."""

import numpy as np
import pytest
import torch

from tests.losses.test_pairwise import LABEL, golden
from xmodal.losses import contrastive, cosine_triplet, info_nce, multilabel_paco, ndcg_gain

D = torch.float64
CODE = torch.tensor([[0.5, -0.5], [0.9, 0.1]], dtype=D)
KEY = torch.tensor([[0.4, -0.6], [0.8, 0.2]], dtype=D)
QUEUE = torch.tensor([[-0.3, 0.3], [0.2, 0.7]], dtype=D)
OWN = torch.tensor([[1, 0, 1], [0, 1, 0]], dtype=D)
QUEUED = torch.tensor([[0, 1, 1], [1, 0, 0]], dtype=D)
LOGIT = torch.tensor([[1, -1, 0.5], [-0.5, 2, 0]], dtype=D)


def paco(code=CODE, temperature=0.05, present=None, queue=QUEUE):
    keys = torch.cat([code, KEY, queue])
    return multilabel_paco(code, keys, OWN, torch.cat([OWN, OWN, QUEUED]), LOGIT, temperature, present=present)


@pytest.mark.parametrize(("temperature", "expected"), [(0.05, 10.964480), (1.0, 1.342512)])
def test_paco_is_the_published_one(temperature, expected):
    assert float(paco(temperature=temperature)) == pytest.approx(expected, abs=1e-6)


def test_an_empty_slot_is_as_no_slot():
    present = torch.tensor([True] * 4 + [False] * 2)
    shorter = multilabel_paco(CODE, torch.cat([CODE, KEY]), OWN, torch.cat([OWN, OWN]), LOGIT)
    assert float(paco(present=present)) == pytest.approx(float(shorter), abs=1e-12)
    assert torch.isfinite(paco(present=present, queue=torch.full_like(QUEUE, 1e6)))


def test_anchors_without_labels_do_not_count():
    label = torch.tensor([[1, 0, 1], [0, 0, 0]], dtype=D)
    keys, labels = torch.cat([CODE, KEY]), torch.cat([label, label])
    both = multilabel_paco(CODE, keys, label, labels, LOGIT, 1.0)
    first = multilabel_paco(CODE[:1], torch.cat([CODE[:1], CODE[1:], KEY]), label[:1], labels, LOGIT[:1], 1.0)
    assert float(both) == pytest.approx(float(first), abs=1e-12)
    none = multilabel_paco(CODE, keys, 0 * label, 0 * labels, LOGIT, 1.0)
    assert float(none) == 0


TRIPLET = (
    torch.tensor([[0.9, -0.8], [0.7, 0.6], [-0.5, 0.9]], dtype=D),
    torch.tensor([[0.8, 0.1], [0.6, -0.7], [-0.4, 0.95]], dtype=D),
    torch.tensor([[1, 0], [0, 1], [1, 1]], dtype=D),
)


def test_triplets_are_the_published_ones():
    h, g, label = TRIPLET
    assert float(cosine_triplet(h, g, label)) == pytest.approx(4.787836, abs=1e-6)
    assert float(cosine_triplet(g, h, label)) == pytest.approx(5.543884, abs=1e-6)


def test_gains_are_the_published_ones():
    label = TRIPLET[2]
    expected = [[0.613147, 0, 0.613147], [0, 0.613147, 0.613147], [0.242076, 0.242076, 0.726229]]
    assert np.allclose(ndcg_gain(label, label), expected, atol=1e-6)
    assert ndcg_gain(torch.zeros(1, 2), label.float()).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("ranked", [False, True])
def test_triplets_against_a_loop(ranked):
    code, other = golden(0.1, 4, 3), golden(0.9, 4, 3)
    unit = [(x / x.norm(dim=1, keepdim=True)).numpy() for x in (code, other)]
    distance, label = 1 - unit[0] @ unit[1].T, LABEL.numpy()
    gain, expected = ndcg_gain(LABEL, LABEL).numpy(), 0.0
    for i in range(4):
        for j in range(4):
            for k in range(4):
                if label[i] @ label[j] > 0 and label[i] @ label[k] == 0:
                    weight = 10 * (gain[i, j] - gain[i, k]) if ranked else 1.0
                    expected += weight * max(0.0, distance[i, j] - distance[i, k] + 0.3)
    assert float(cosine_triplet(code, other, LABEL, ranked=ranked)) == pytest.approx(expected, abs=1e-11)


def test_info_nce_is_the_published_one():
    assert float(info_nce(golden(0.25, 3, 6), golden(0.95, 3, 6))) == pytest.approx(0.283762596248, abs=1e-11)
    assert float(info_nce(golden(1.25, 3, 4, 6), golden(2.05, 3, 4, 6))) == pytest.approx(2.142268881436, abs=1e-11)


def test_info_nce_of_long_sets_is_held_by_blocks(monkeypatch):
    """4,096 bits took 13.6 GB for 45 pairs: the cosines of all concepts of all pairs at once."""
    made, held = [], []
    for at_once in (2**26, 2 * 4 * 4):
        monkeypatch.setattr(contrastive, "AT_ONCE", at_once)
        code, other = golden(1.25, 5, 4, 6).requires_grad_(), golden(2.05, 5, 4, 6)
        with torch.autograd.graph.saved_tensors_hooks(lambda kept: held.append(kept.shape) or kept, lambda kept: kept):
            loss = info_nce(code, other, 0.5)
        made.append((loss.detach(), *torch.autograd.grad(loss, code)))
        assert ((5, 4, 4) in held) == (at_once == 2**26)
        held.clear()
    for whole, blocks in zip(*made, strict=True):
        assert torch.allclose(whole, blocks, rtol=0, atol=1e-12)


def test_gradients():
    code = CODE.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: paco(x, 1.0), code)
    h = TRIPLET[0].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: cosine_triplet(x, TRIPLET[1], TRIPLET[2], ranked=True), h)
    assert torch.autograd.gradcheck(lambda x: info_nce(x, golden(0.95, 3, 6), 0.5), golden(0.25, 3, 6).requires_grad_())
