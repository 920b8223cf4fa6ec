import pytest
import torch

from xmodal.layers import FeatureDropout


def test_an_items_tokens_lose_the_same_dimensions():
    torch.manual_seed(0)
    drop = FeatureDropout(0.25)
    tokens = drop(torch.ones(3, 5, 400))
    assert torch.equal(tokens, tokens[:, :1].expand_as(tokens))
    assert not torch.equal(tokens[0], tokens[1])
    for x in (tokens, drop(torch.ones(3, 400))):
        assert x.unique().tolist() == pytest.approx([0, 1 / 0.75])
        assert (x == 0).float().mean().item() == pytest.approx(0.25, abs=0.05)


def test_nothing_is_dropped_outside_training():
    x = torch.randn(2, 3, 4)
    assert torch.equal(FeatureDropout(0.9).eval()(x), x)
    assert torch.equal(FeatureDropout(0.0)(x), x)
