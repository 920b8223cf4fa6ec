import math

import numpy as np
import pytest
import torch

from tests.losses.test_pairwise import golden
from xmodal.losses import discrimination, fooling


def test_modality_loss_is_the_published_one():
    """Golden step of ACMR: two outputs and a softmax, images class 1, texts class 0."""
    image, text = golden(0.2, 4, 2), golden(1.2, 4, 2)
    loss = discrimination(image[:, 1] - image[:, 0], text[:, 1] - text[:, 0])
    assert float(loss) == pytest.approx(1.473333890188, abs=1e-11)


def test_against_numpy():
    first, second = golden(0.3, 5), golden(0.8, 3)
    p, q = (1 / (1 + np.exp(-logit.numpy())) for logit in (first, second))
    assert float(discrimination(first, second)) == pytest.approx(-np.log(p).mean() - np.log(1 - q).mean())
    assert float(fooling(second)) == pytest.approx(-np.log(q).mean())


def test_a_blind_discriminator_pays_two_bits():
    assert float(discrimination(torch.zeros(3), torch.zeros(4))) == pytest.approx(2 * math.log(2))


def test_gradients():
    logit = golden(0.3, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: discrimination(x, golden(0.8, 3)), logit)
    assert torch.autograd.gradcheck(lambda x: discrimination(golden(0.8, 3), x), logit)
    assert torch.autograd.gradcheck(fooling, logit)


def test_extreme_logits_stay_finite():
    far = torch.tensor([1e4])
    assert float(discrimination(-far, far)) == pytest.approx(2e4)
