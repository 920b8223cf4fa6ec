"""Trained trunks: the patch embedding as a matrix product, and shards without a pair; compiled and in stages."""

from functools import partialmethod

import pytest
import torch
from PIL import Image
from timm.layers import BatchNormAct2d
from torch import nn

from xmodal.data.raw import TrunkTraining
from xmodal.encoders import OpenClipImage, OpenClipText, PatchProduct, SharedBatchNorm, TimmImage


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sides", [(32, 48), (35, 61)])  # a border that fills no patch is left out
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_it_gives_what_the_convolution_gives(bias, sides, layout):
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(2, 3, *sides, generator=generator, dtype=torch.float64)
    convolution = nn.Conv2d(3, 5, (8, 16), (8, 16), bias=bias, dtype=torch.float64).to(memory_format=layout)
    want = convolution(pictures)
    product = PatchProduct(convolution)
    torch.testing.assert_close(product(pictures), want)
    assert product.state_dict().keys() == convolution.state_dict().keys()
    outward = torch.randn(want.shape, generator=generator, dtype=torch.float64)
    found, expected = (
        torch.autograd.grad((module(pictures) * outward).sum(), convolution.weight)[0]
        for module in (product, convolution)
    )
    torch.testing.assert_close(found, expected)


def test_only_patches_that_do_not_overlap_are_replaced():
    kept = nn.Sequential(nn.Conv2d(3, 3, 8, 4), nn.Conv2d(3, 3, 8, 8, padding=1), nn.Conv2d(3, 3, 2, 2))
    model = nn.Sequential(*kept, nn.Conv2d(3, 3, 8, 8, groups=3), nn.Conv2d(3, 3, 8, 8))
    PatchProduct.replace_in(model)
    assert [type(each) for each in model] == [nn.Conv2d] * 4 + [PatchProduct]


def test_a_trained_trunk_has_one_and_keeps_its_names():
    encoder = TimmImage("test_vit", "random", size=160)
    trained, frozen = TrunkTraining("image").build(encoder, tokens=True), encoder.trunk()
    assert any(isinstance(each, PatchProduct) for each in trained.modules())
    assert not any(isinstance(each, PatchProduct) for each in frozen.modules())
    assert trained.state_dict().keys() == frozen.state_dict().keys()
    raw = {"pixels": torch.randint(0, 256, (2, 3, 160, 160), dtype=torch.uint8)}
    torch.testing.assert_close(trained.eval()(raw)["pooled"], frozen.eval()(raw)["pooled"])


NORMS = {
    "1d": (lambda: nn.BatchNorm1d(3, momentum=None), (8, 3)),
    "2d": (lambda: nn.BatchNorm2d(3, affine=False), (4, 3, 5, 2)),
    "with an activation": (lambda: BatchNormAct2d(3), (4, 3, 5, 2)),
}


@pytest.mark.parametrize("name", NORMS)
def test_a_shared_norm_of_one_process_is_the_norm(name):
    """Of several: tests/methods/test_processes.py."""
    made, shape = NORMS[name]
    plain, shared = (nn.Sequential(made().double()) for _ in range(2))
    SharedBatchNorm.replace_in(shared, lambda row: row)
    assert isinstance(shared[0], SharedBatchNorm)
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        inputs = [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2)]
        inputs[1].data = inputs[0].data
        outputs = [norm(each) for norm, each in zip((plain, shared), inputs, strict=True)]
        torch.testing.assert_close(*outputs)
        for output in outputs:
            output.square().mean().backward()
        torch.testing.assert_close(*(each.grad for each in inputs))
    torch.testing.assert_close(shared.state_dict(), plain.state_dict())
    torch.testing.assert_close(shared.eval()(inputs[0]), plain.eval()(inputs[0]))


@pytest.mark.parametrize("shared", [False, True])
def test_what_is_computed_again_is_not_counted_twice(shared):
    """Running statistics of batch norms, where activations are computed again in the backward pass."""
    pixels, found = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8), []
    trunks = [
        TrunkTraining("image", checkpointing=each).build(TimmImage("test_resnet", "random", size=32), tokens=False)
        for each in (False, True)
    ]
    trunks[1].load_state_dict(trunks[0].state_dict())
    for trunk in trunks:
        with torch.inference_mode():
            trunk.eval()({"pixels": pixels})
        if shared:
            SharedBatchNorm.replace_in(trunk, lambda row: row)
        for _ in range(2):
            trunk.train()({"pixels": pixels})["pooled"].square().mean().backward()
        buffers = {key: value for key, value in trunk.named_buffers() if "num_batches" not in key}
        found.append((buffers, trunk.eval()({"pixels": pixels})["pooled"]))
    torch.testing.assert_close(*found)


def test_a_shard_without_a_pair_does_not_count_either_where_it_is_computed_again():
    """Of two processes the other one has pairs; what is gathered in the backward pass is what was in the forward."""
    rows = []
    trunk = TrunkTraining("image", checkpointing=True).build(TimmImage("test_resnet", "random", size=32), tokens=False)
    SharedBatchNorm.replace_in(trunk, lambda row: rows.append(row.detach()) or torch.cat([row, torch.ones_like(row)]))
    features = trunk.train().features({"pixels": torch.zeros(0, 3, 32, 32, dtype=torch.uint8)})
    forward = len(rows)
    features["pooled"].sum().backward()
    assert len(rows) > forward
    assert not any(row.any() for row in rows)
    trunk.features({"pixels": torch.zeros(2, 3, 32, 32, dtype=torch.uint8)})
    assert rows[-1].any()


SMALL = "experiments/pretrain/small-clip.json"
EMPTY = {
    "timm": (TimmImage("resnet18", "random", size=32), {"pixels": torch.zeros(0, 3, 32, 32, dtype=torch.uint8)}),
    "open_clip": (OpenClipImage(SMALL, "random"), {"pixels": torch.zeros(0, 3, 64, 64, dtype=torch.uint8)}),
    "open_clip text": (OpenClipText(SMALL, "random"), {"ids": torch.zeros(0, 7, dtype=torch.int32)}),
}


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("name", EMPTY)
def test_a_shard_without_a_pair_has_features_and_a_gradient_of_zeros(name, tokens):
    """On several devices the last batch of an epoch may be smaller than they are many; a resnet ends in one pixel."""
    encoder, raw = EMPTY[name]
    trunk = TrunkTraining("both").build(encoder, tokens=tokens)
    trunk.train()
    before = {key: value.clone() for key, value in trunk.state_dict().items()}
    features = trunk.features(raw)
    full = trunk.features({key: value.new_zeros(2, *value.shape[1:]) for key, value in raw.items()})
    assert features.keys() == full.keys()
    for key, value in features.items():
        assert value.shape == (0, *full[key].shape[1:])
        assert value.dtype == full[key].dtype
    sum(value.sum() for key, value in features.items() if key != "mask").backward()
    used = [parameter for parameter in trunk.parameters() if parameter.grad is not None]
    assert len(used) > 5
    assert not any(parameter.grad.any() for parameter in used)
    empty = TrunkTraining("both").build(encoder, tokens=tokens).train()
    empty.features(raw)
    assert all(torch.equal(value, before[key]) for key, value in empty.state_dict().items())
    assert empty.training


def test_a_compiled_trunk_gives_the_same_features(monkeypatch):
    monkeypatch.setattr(
        torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend="eager", fullgraph=True)
    )
    encoder, pixels = TimmImage("test_vit", "random", size=160), torch.zeros(2, 3, 160, 160, dtype=torch.uint8)
    found = [
        TrunkTraining("image", compile=each).build(encoder, tokens=True)({"pixels": pixels}) for each in (False, True)
    ]
    assert torch.equal(found[0]["pooled"], found[1]["pooled"])
    assert torch.equal(found[0]["tokens"], found[1]["tokens"])


def test_a_convolutional_trunk_is_trained_by_stages(tmp_path):
    encoder = TimmImage("test_resnet", "random", size=32)
    trunk = TrunkTraining("image", frozen_layers=2, checkpointing=True).build(encoder, tokens=True).train()
    still = {name for name, parameter in trunk.named_parameters() if not parameter.requires_grad}
    stages = {name.split(".")[1] for name in still}
    assert stages == {"conv1", "bn1", "layer1", "layer2"}
    assert not trunk.model.bn1.training
    assert trunk.model.layer4.training
    pixels = torch.stack([trunk.transform(Image.new("RGB", (50, 40), (9, 9, shade))) for shade in (3, 200)])
    features = trunk({"pixels": pixels})
    assert features["tokens"].shape[2] == features["pooled"].shape[1]
    features["pooled"].square().mean().backward()
    assert not [name for name, each in trunk.named_parameters() if each.requires_grad and each.grad is None]
