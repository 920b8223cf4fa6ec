import copy

import pytest
import torch

from xmodal.errors import UserError
from xmodal.optimizers import BertAdam, warmup_cosine


def test_steps_are_the_published_ones():
    p = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
    optimizer, values = BertAdam([p], 1e-3, total_steps=20), []
    for gradient in (0.3, -2.0, 0.7, 0.1):
        p.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        values.append(p.item())
    assert values == pytest.approx([0.5, 0.500197411831, 0.500076044976, 0.499906641651], abs=1e-12)


def test_the_rate_is_the_published_one():
    rates = [warmup_cosine(step / 20, 0.1) for step in range(4)]
    assert rates == pytest.approx([0, 0.5, 0.9755282581, 0.9455032621], abs=1e-10)
    assert warmup_cosine(1.0, 0.1) == pytest.approx(0)


def test_a_resumed_optimizer_goes_on():
    def steps(optimizer, p, count):
        for number in range(count):
            p.grad = torch.full_like(p, float(number + 1))
            optimizer.step()

    p = torch.nn.Parameter(torch.ones(3))
    first = BertAdam([p], 0.1, total_steps=8)
    steps(first, p, 3)
    q = torch.nn.Parameter(p.detach().clone())
    second = BertAdam([q], 0.1, total_steps=8)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    steps(first, p, 2)
    steps(second, q, 2)
    assert torch.equal(p, q)


@pytest.mark.parametrize("wrong", [{"lr": -1.0}, {"total_steps": 0}, {"warmup": 1.0}])
def test_arguments_out_of_range_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        BertAdam([torch.nn.Parameter(torch.ones(1))], **{"lr": 1e-3, "total_steps": 5, **wrong})


def test_scaled_gradients_are_unscaled_before_they_are_clipped():
    def moved(scaler):
        p = torch.nn.Parameter(torch.ones(4))
        optimizer = BertAdam([p], 1e-2, total_steps=8)
        for _ in range(4):
            optimizer.zero_grad()
            scaler.scale((p * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum()).backward()
            scaler.step(optimizer)
            scaler.update()
        return p.detach()

    plain, scaled = (moved(torch.amp.GradScaler("cpu", enabled=enabled)) for enabled in (False, True))
    assert torch.allclose(plain, scaled, atol=1e-6)
    assert not torch.allclose(plain, torch.ones(4), atol=1e-3)


def test_gradients_that_are_clipped_together_are_clipped_each_by_itself():
    """What is done on a GPU, where a launch for every tensor takes longer than the work."""
    draws = torch.Generator().manual_seed(0)
    shapes = ((3, 5), (70, 80), (1,), (4, 3, 2, 2))
    tensors = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]
    tensors[3] = torch.nn.Parameter(torch.zeros(shapes[3]).to(memory_format=torch.channels_last))
    optimizer = BertAdam(tensors, 1e-3, 10)
    gradients = [torch.randn(shape, generator=draws) * size for shape, size in zip(shapes, (1, 3, 0.1, 2), strict=True)]
    for _ in range(2):  # the second time in the same buffer
        for tensor, gradient in zip(tensors, gradients, strict=True):
            tensor.grad = gradient.clone()
        optimizer._clip_together(tensors, 1.0)
        for tensor, gradient in zip(tensors, gradients, strict=True):
            torch.testing.assert_close(tensor.grad, gradient * min(1, 1 / (float(gradient.norm()) + 1e-6)))
