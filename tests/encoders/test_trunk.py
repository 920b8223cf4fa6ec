"""The patch embedding of a trained trunk as a matrix product."""

import pytest
import torch
from torch import nn

from xmodal.data.raw import TrunkTraining
from xmodal.encoders import PatchProduct, TimmImage


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
