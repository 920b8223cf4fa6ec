"""Windows of pictures: what Pillow gives for the same window, on tensors."""

import numpy as np
import pytest
import torch
from PIL import Image

from xmodal.encoders import View, draws


def photo(width, height):
    """Soft colours with an edge."""
    noise = np.random.default_rng(0).integers(256, size=(12, 16, 3), dtype=np.uint8)
    levels = np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)).copy()
    levels[:, width // 3] = 255
    return Image.fromarray(levels)


def by_pillow(picture, window, view):
    left, top, width, height, mirrored = window.tolist()
    box = [left * picture.width, top * picture.height]
    box += [box[0] + width * picture.width, box[1] + height * picture.height]
    found = picture.resize((view.size, view.size), Image.Resampling[view.filter.upper()], box=tuple(box))
    return np.asarray(found)[:, :: -1 if mirrored else 1].astype(int)


@pytest.mark.parametrize(("share", "filtered"), [(1.0, "bicubic"), (0.875, "bilinear"), (None, "bicubic")])
def test_a_window_is_what_pillow_cuts_out_and_resizes(share, filtered):
    view, picture = View(64, share, filtered), photo(200, 150)
    stored = torch.from_numpy(view.store(picture).copy())[None].expand(8, -1, -1, -1)
    window = view.windows(draws(0, 0, 8), torch.tensor([[200, 150]]).expand(8, -1), 0.08, 0.5)
    assert set(window[:, 4].tolist()) == {0.0, 1.0}
    squashed = Image.fromarray(stored[0].permute(1, 2, 0).numpy())
    for row, found in zip(window, view.look(stored, window), strict=True):
        found = found.permute(1, 2, 0).numpy().astype(int)
        assert np.abs(found - by_pillow(squashed, row, view)).max() <= 1  # Pillow rounds between the axes
        assert (
            np.abs(found - by_pillow(picture, row, view)).mean() <= 4
        )  # of 255: the picture has a line one pixel wide


def test_a_window_lies_in_the_picture_and_shows_as_much_as_was_asked():
    sizes = torch.tensor([[500, 375], [300, 400], [64, 64]]).repeat(100, 1)
    numbers = draws(3, 1, 300)
    for share in (1.0, 0.875, None):
        left, top, width, height, _ = View(224, share).windows(numbers, sizes, 0.25, 0.0).unbind(1)
        assert min(left.min(), top.min()) >= 0
        assert max((left + width).max(), (top + height).max()) <= 1 + 1e-6
        if share is None:
            assert torch.equal(width, height)
            assert (width * height).min() >= 0.25
        else:  # a square of pixels
            assert torch.allclose(width * sizes[:, 0], height * sizes[:, 1], rtol=1e-5)


def test_the_whole_picture_is_the_trunks_own_view():
    view, picture = View(48), photo(192, 144)
    stored = torch.from_numpy(view.store(picture).copy())[None]
    window = view.windows(torch.full((1, 4), 0.5), torch.tensor([[192, 144]]), 1.0, 0.0)
    found = view.look(stored, window)[0].permute(1, 2, 0).numpy()
    middle = picture.resize((64, 48), Image.Resampling.BICUBIC).crop((8, 0, 56, 48))
    assert np.abs(found - np.asarray(middle, int)).mean() < 4


def test_numbers_are_a_function_of_seed_epoch_and_row():
    some = draws(2**40, 5, 10)
    assert torch.equal(some, draws(2**40, 5, 1000)[:10])
    assert not torch.equal(some, draws(2**40, 6, 10))
    assert not torch.equal(some, draws(2**40 + 1, 5, 10))
