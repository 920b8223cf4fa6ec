"""timm trunks: each model's own preprocessing, or the whole picture."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from xmodal.encoders import BagOfWords, TimmImage, encode_texts
from xmodal.errors import UserError


def picture(sides):
    """A wide picture: noise in the middle square, one colour beside it."""
    pixels = np.full((64, 160, 3), sides, np.uint8)
    pixels[:, 48:112] = np.random.default_rng(0).integers(256, size=(64, 64, 3))
    return Image.fromarray(pixels)


def test_the_middle_is_cut_out_or_the_whole_picture_is_seen():
    cropped, squashed = TimmImage(size=64).open(), TimmImage(size=64, fit="squash").open()
    black, white = picture(0), picture(255)
    assert np.array_equal(cropped([black])["pooled"], cropped([white])["pooled"])
    assert not np.array_equal(squashed([black])["pooled"], squashed([white])["pooled"])
    assert cropped([black])["tokens"].shape == (1, 4, 1280)


def test_squashed_pixels_are_those_of_pillow():
    encoder = TimmImage(size=64, fit="squash")
    already = picture(9).resize((64, 64), Image.Resampling.BICUBIC)
    encode = encoder.open()
    assert np.array_equal(encode([picture(9)])["tokens"], encode([already])["tokens"])


@pytest.fixture
def vit(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "vit.pth"
    torch.save(timm.create_model("vit_tiny_patch16_224").state_dict(), path)
    return path


def test_a_model_sees_the_size_it_was_trained_for(vit):
    encode = TimmImage(model="vit_tiny_patch16_224", weights=str(vit)).open()
    assert encode([picture(0)])["tokens"].shape == (1, 197, 192)
    with pytest.raises(UserError, match=r"size is 128: vit_tiny_patch16_224 takes pictures of 224 pixels only"):
        TimmImage(model="vit_tiny_patch16_224", weights=str(vit), size=128).open()


def test_tokens_are_places_whatever_the_order_of_axes():
    """Swin's map has the channels last."""
    trunk = TimmImage(model="swin_tiny_patch4_window7_224", weights="random").trunk().eval()
    with torch.inference_mode():
        found = trunk({"pixels": trunk.transform(picture(0))[None]})
    assert found["tokens"].shape == (1, 49, 768)
    assert torch.allclose(found["tokens"].mean(1), found["pooled"], atol=1e-5)
    with pytest.raises(UserError, match="coat_tiny gives no single map"):
        TimmImage(model="coat_tiny", weights="random").open()([picture(0)])


def test_another_file_of_weights_is_another_cache(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"1")
    encoder = TimmImage(model="resnet18", weights=str(path))
    before = encoder.key()
    path.write_bytes(b"12")
    assert encoder.key() != before


def test_the_files_of_a_folder_that_timm_reads_are_part_of_the_key(tmp_path):
    """Weights that were trained anew in a folder of timm gave the features of the old ones, in silence."""
    encoder = TimmImage(model=f"local-dir:{tmp_path}", weights="pretrained", size=64)
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        timm.models.save_for_hf(timm.create_model("resnet10t", num_classes=2), tmp_path)
        found.append((encoder.key(), encoder.open()([picture(0)])["pooled"]))
    (before, old), (now, new) = found
    assert before != now
    assert not np.array_equal(old, new)


def test_everything_that_changes_the_values_is_in_the_key():
    keys = [
        TimmImage(**options).key() for options in ({}, {"size": 64}, {"fit": "squash"}, {"fit": "squash", "size": 64})
    ]
    assert all(one != other for k, one in enumerate(keys) for other in keys[:k])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "resnet18"}, "are those of tf_efficientnet_lite0, not of 'resnet18'"),
        ({"size": 8}, "size is 8: give a number from 32"),
    ],
)
def test_wrong_arguments_say_what_is_right(options, message):
    with pytest.raises(UserError, match=message):
        TimmImage(**options)


def test_weights_that_are_not_there_are_named(tmp_path):
    with pytest.raises(UserError, match=r"no weights for resnet18 .*nowhere\.pth"):
        TimmImage(model="resnet18", weights=str(tmp_path / "nowhere.pth")).open()


class Tokens(BagOfWords):
    fits = False

    def open(self, train):
        return lambda texts: {"pooled": np.ones((len(texts), 2)), "tokens": np.ones((len(texts), 3, 2))}


def test_a_cache_with_tokens_serves_those_who_want_none(tmp_path):
    arguments = (tmp_path, {"dataset": "any"}, Tokens(), ["a", "b"], [], "split")
    encode_texts(*arguments, tokens=True)
    encode_texts(*arguments, tokens=False)
    assert len(list(tmp_path.glob("bow-*"))) == 1
    encode_texts(*arguments[:1], {"dataset": "other"}, *arguments[2:], tokens=False)
    encode_texts(*arguments[:1], {"dataset": "other"}, *arguments[2:], tokens=True)
    assert len(list(tmp_path.glob("bow-*"))) == 3
