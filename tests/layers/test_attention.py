import pytest
import torch

from tests.losses.test_pairwise import golden
from xmodal.layers import (
    AttentionBlock,
    AttentionPooling,
    FeatureGate,
    GroupAttention,
    TokenAttention,
    masked_mean,
)

X = golden(0.3, 3, 5, 8).float()
MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]]).bool()


def filled(value):
    """Tokens whose padding holds a value."""
    return X.masked_fill(~MASK[..., None], value)


def test_token_attention_starts_as_the_identity_and_learns():
    attention = TokenAttention(8)
    assert torch.equal(attention(X, MASK), X)
    attention(X, MASK).square().sum().backward()
    assert attention.gamma.grad.abs() > 0


def test_token_attention_is_the_formula():
    attention = TokenAttention(8).double()
    attention.gamma.data.fill_(0.5)
    x = X[0].double()
    q, k, v = attention.query(x), attention.key(x), attention.value(x)
    expected = x + 0.5 * torch.softmax(q @ k.T / 1**0.5, 1) @ v  # d / 8 = 1
    assert torch.allclose(attention(x[None])[0], expected)


@pytest.mark.parametrize(
    "layer",
    [
        lambda x, m: masked_mean(x, m),
        AttentionPooling(8, dropout=0.0),
        AttentionBlock(8, 2, 16),
        TokenAttention(8),
    ],
)
def test_padding_does_not_matter(layer):
    if isinstance(layer, TokenAttention):
        layer.gamma.data.fill_(1.0)
    if isinstance(layer, AttentionBlock):
        outputs = [layer(X, filled(value), MASK) for value in (0.0, 7.0)]
    else:
        outputs = [layer(filled(value), MASK) for value in (0.0, 7.0)]
    if outputs[0].ndim == 3:
        outputs = [output[MASK] for output in outputs]
    assert torch.allclose(*outputs, atol=1e-6)


def test_pooling_weights_sum_to_one():
    same = X[:, :1].expand(-1, 5, -1)
    assert torch.allclose(AttentionPooling(8, 0.0)(same, MASK), X[:, 0], atol=1e-6)
    assert torch.allclose(masked_mean(X, None), X.mean(1))


def test_block_is_torchs_attention():
    """The same weights in torch.nn.MultiheadAttention give the same attended tokens."""
    block = AttentionBlock(8, 2, 16)
    theirs = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    theirs.in_proj_weight.data = torch.cat([part.weight for part in (block.query, block.key, block.value)])
    theirs.in_proj_bias.data = torch.cat([part.bias for part in (block.query, block.key, block.value)])
    theirs.out_proj.load_state_dict(block.out.state_dict())
    attended, _ = theirs(X, X.flip(1), X.flip(1), key_padding_mask=~MASK)
    x = block.norms[0](X + attended)
    expected = block.norms[1](x + block.feed(x))
    assert torch.allclose(block(X, X.flip(1), MASK), expected, atol=1e-5)


def test_group_attention_picks_a_matching_prototype():
    attention = GroupAttention(4)
    for part in (attention.query, attention.key, attention.value):
        part.weight.data = torch.eye(4)
    prototypes = torch.eye(4)[:3]
    assert torch.allclose(attention(200 * torch.eye(4)[1:2], prototypes), prototypes[1:2])


def test_gate_keeps_between_one_and_two_times():
    x = X[0]
    ratio = FeatureGate(8)(x) / x
    assert ((ratio > 1) & (ratio < 2)).all()
