"""Picture files as people have them: what a viewer shows is what the trunks see."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.data import make
from xmodal.encoders import open_picture
from xmodal.errors import UserError


def saved(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def halves(width=80, height=60):
    """Red on the left, blue on the right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0], pixels[:, width // 2 :, 2] = 255, 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_applied(form):
    exif = Image.Exif()
    exif[274] = 6  # a camera held upright: turn clockwise
    picture = open_picture(saved(halves(), form, exif=exif))
    assert picture.size == (60, 80)
    top, bottom = (np.asarray(picture)[row].mean(0) for row in (10, 70))
    assert top[0] > 200 > 60 > top[2]  # what was on the left is now above
    assert bottom[2] > 200 > 60 > bottom[0]


def test_damaged_exif_data_do_not_turn_a_picture():
    content = saved(halves(), "JPEG", exif=b"Exif\0\0no such thing")
    assert open_picture(content).size == (80, 60)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_keeps_its_levels(form):
    ramp = np.tile(np.linspace(0, 65535, 80).astype(np.uint16), (60, 1))
    picture = np.asarray(open_picture(saved(Image.fromarray(ramp), form)))
    assert np.array_equal(picture, np.repeat((ramp // 256).astype(np.uint8)[:, :, None], 3, 2))
    assert len(np.unique(picture)) == 80


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_other_modes_become_rgb(mode):
    form = "TIFF" if mode == "CMYK" else "PNG"
    content = saved(halves().convert(mode), form)
    assert np.array_equal(open_picture(content), Image.open(io.BytesIO(content)).convert("RGB"))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_grey_levels_of_unknown_range_are_refused(dtype):
    content = saved(Image.fromarray(np.ones((4, 4), dtype)), "TIFF")
    with pytest.raises(UserError, match="grey levels of an unknown range"):
        open_picture(content)


@pytest.mark.parametrize("content", [b"", b"no picture", make.jpeg(0)[:300], saved(halves(), "PNG")[:60]])
def test_what_is_no_picture_is_refused(content):
    with pytest.raises(UserError):
        open_picture(content)


def test_more_pixels_than_pillow_takes_are_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match="exceeds limit"):
        open_picture(saved(halves(), "PNG"))
