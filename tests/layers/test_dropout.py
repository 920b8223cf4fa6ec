from types import SimpleNamespace

import pytest
import torch
from open_clip.transformer import PatchDropout
from timm.layers import DropPath
from timm.models.swin_transformer import SwinTransformer
from torch import nn

from xmodal.errors import UserError
from xmodal.layers import Dropout, FeatureDropout, Shard, transformer
from xmodal.methods import RetrievalMethod


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


@pytest.mark.parametrize("kind", [Dropout, FeatureDropout])
@pytest.mark.parametrize("shape", [(7, 40), (7, 5, 40)])
@pytest.mark.parametrize("world", [2, 3, 8])
def test_the_mask_of_a_row_is_that_of_one_process(kind, shape, world):
    def dropped(x, shard):
        torch.manual_seed(0)
        drop = kind(0.5)
        drop.shard = shard
        return drop(x), torch.rand(1)

    x = torch.randn(shape)
    expected, following = dropped(x, Shard())
    for rank in range(world):
        found, drawn = dropped(x[rank::world], Shard(rank, world, 7))
        assert torch.equal(found, expected[rank::world])
        assert torch.equal(drawn, following)  # the generators stay together


def test_a_share_out_of_range_is_refused():
    with pytest.raises(UserError, match=r"a share of 1.0 is dropped: give one from 0, below 1"):
        Dropout(1.0)


def block(dropout):
    torch.manual_seed(0)
    return transformer(16, 2, 32, 2, dropout)


def test_a_block_draws_and_computes_what_torchs_own_does():
    own = block(0.2)
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, 0.2, batch_first=True, norm_first=True)
    plain = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    x, mask = torch.randn(3, 5, 16), torch.arange(5) >= torch.tensor([[5], [3], [1]])
    found = []
    for model in (own, plain):
        torch.manual_seed(1)
        out = model(x, src_key_padding_mask=mask)
        out.square().sum().backward()
        found.append([out, *(parameter.grad for parameter in model.parameters())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("training", [True, False])
def test_a_block_takes_an_empty_batch_and_gives_every_parameter_a_gradient(training):
    model = block(0.2).train(training)
    out = model(torch.zeros(0, 5, 16), src_key_padding_mask=torch.zeros(0, 5, dtype=torch.bool))
    assert out.shape == (0, 5, 16)
    if training:
        out.sum().backward()
        assert all(parameter.grad is not None and not parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (nn.Dropout(0.5), "torch's Dropout, for the rows"),
        (nn.TransformerEncoderLayer(8, 2, 8, dropout=0.1), "torch's Dropout and MultiheadAttention, for the rows"),
        (nn.BatchNorm1d(4), "torch's BatchNorm1d, for the rows"),
        (nn.Dropout(0.0), ""),
        (Dropout(0.5), ""),
    ],
)
def test_a_method_of_ones_own_says_what_draws_on_each_process_alone(part, said, capsys):
    class Own(RetrievalMethod):
        name = "own"

    for world in (1, 2):
        method = Own("real")
        method.part = part
        method.trainer = SimpleNamespace(global_rank=0, world_size=world)
        method.setup("fit")
        err = capsys.readouterr().err
        assert (said if world == 2 else "") in err
        assert bool(err) == (world == 2 and bool(said))


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (lambda: SwinTransformer(img_size=32, patch_size=4, window_size=4, embed_dim=8, depths=(1, 1)), "DropPath"),
        (lambda: nn.Sequential(PatchDropout(0.5), nn.BatchNorm2d(4)), "PatchDropout"),  # the norm is replaced
        (lambda: nn.Sequential(PatchDropout(0.0), DropPath(0.0)), ""),
    ],
)
def test_a_trained_trunk_says_what_draws_on_each_process_alone(part, said, capsys):
    """Swin has DropPath if nothing is said; a configuration of open_clip may ask for PatchDropout."""

    class Own(RetrievalMethod):
        name = "own"

    for world in (1, 2):
        method = Own("real")
        method.hparams["trunk_lr"] = 1e-3
        data = SimpleNamespace(moments={}, standardised=(), trunks=lambda: {"image": part()})
        method.trainer = SimpleNamespace(global_rank=0, world_size=world, datamodule=data)
        method.setup("fit")
        want = world == 2 and said
        assert bool(err := capsys.readouterr().err) == bool(want)
        assert (f"a trained trunk has {said}, for the rows of each process alone" if want else "") in err
