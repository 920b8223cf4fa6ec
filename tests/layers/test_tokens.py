import pytest
import torch

from xmodal.layers import CodeQueue, RegionTransformer, TokenTransformer
from xmodal.layers.token_transformer import grid_boxes


def branch(**changes):
    torch.manual_seed(0)
    return TokenTransformer(5, 8, 1, 2, 16, 0.0, **changes).eval()


@pytest.mark.parametrize("training", [False, True])
def test_masked_tokens_change_nothing(training):
    tokens, mask = torch.randn(3, 6, 5), torch.arange(6) < torch.tensor([[2], [6], [4]])
    network = branch().train(training)
    noisy = torch.where(mask[:, :, None], tokens, 100.0)
    assert torch.allclose(network(tokens, mask), network(noisy, mask), atol=1e-5)
    assert torch.allclose(network(tokens, mask)[0], network(tokens[:1, :2])[0], atol=1e-5)
    assert torch.allclose(network(tokens, mask).norm(dim=1), torch.ones(3), atol=1e-5)


def test_the_released_mean_counts_padding():
    tokens, mask = torch.randn(1, 6, 5), torch.arange(6)[None] < 2
    assert not torch.allclose(branch(padding=True)(tokens, mask), branch()(tokens, mask), atol=1e-3)


def test_grid_cells():
    boxes = grid_boxes(6)  # 2 rows of 3
    assert torch.allclose(boxes[4], torch.tensor([1 / 3, 0.5, 2 / 3, 1.0, 1 / 6]))
    assert RegionTransformer(4, 1, 2, 8, 0.0)(torch.randn(2, 6, 4)).shape == (2, 6, 4)


def test_a_queue_forgets_the_oldest():
    queue = CodeQueue(3, 1, 1)
    assert not queue.present.any()
    for start in (0, 2):
        code = torch.tensor([[start], [start + 1.0]])
        queue.push(code, code)
    assert queue.code.flatten().tolist() == [3, 1, 2]
    assert int(queue.pointer) == 1
    queue.push(torch.arange(10.0, 15)[:, None], torch.zeros(5, 1))
    assert sorted(queue.code.flatten().tolist()) == [12, 13, 14]


def test_a_released_queue_starts_full_of_noise():
    queue = CodeQueue(4, 8, 3, filled=True)
    assert queue.present.all()
    assert torch.allclose(queue.code.norm(dim=1), torch.ones(4))
    CodeQueue(0, 8, 3).push(torch.ones(2, 8), torch.ones(2, 3))  # no slot: nothing to do
