"""Decoded pictures on disk: each is decoded once, and what is there is always of the picture that is there."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import PILToTensor

from xmodal.data import store as module
from xmodal.data.readers.files import Files, Photos
from xmodal.data.store import PictureForms, PixelStore
from xmodal.encoders import View
from xmodal.errors import UserError

ROWS = np.arange(40)


class Killed(BaseException):
    """Stands for a kill."""


class Drawn:
    """40 pictures of noise; counts how often one is decoded, and dies at one."""

    def __init__(self):
        self.seeds, self.decoded, self.deadly, self.strict = list(range(40)), [], None, False

    def __len__(self):
        return 40

    def __getitem__(self, row):
        if row == self.deadly:
            raise Killed
        self.decoded.append(row)
        if self.seeds[row] is None:
            if self.strict:
                raise UserError(f"{row}.jpg is damaged")
            return None
        noise = np.random.default_rng(self.seeds[row]).integers(256, size=(16, 16, 3), dtype=np.uint8)
        return Image.fromarray(noise)


def opened(folder, pictures):
    marks = np.array([1 + (seed or 0) for seed in pictures.seeds], np.uint64)
    return PixelStore(folder, {"dataset": "drawn"}, PictureForms(pictures, small, View(16)), marks)


def small(picture):
    return PILToTensor()(picture.resize((16, 16)))


def test_every_picture_is_decoded_once_for_both_forms_and_every_run(tmp_path):
    pictures = Drawn()
    wanted = {"whole": ROWS, "wide": ROWS[10:20]}
    opened(tmp_path, pictures).fill(wanted, 0)
    assert pictures.decoded == list(range(40))
    again = opened(tmp_path, pictures)
    again.fill(wanted, 0)
    assert len(pictures.decoded) == 40
    for form, rows in wanted.items():
        pixels, sizes = again.read(form, rows)
        fresh, _ = again.forms.read(form, rows)
        assert torch.equal(pixels, fresh)
        assert sizes.tolist() == [[16, 16]] * len(rows)


def test_picture_files_are_decoded_as_a_viewer_shows_them(tmp_path):
    """Trained trunks see what frozen ones see: turned by EXIF, and 16-bit grey with all its levels."""
    halves, exif = np.zeros((60, 80, 3), np.uint8), Image.Exif()
    halves[:, :40, 0], halves[:, 40:, 2], exif[274] = 255, 255, 6  # red on the left, to be turned clockwise
    Image.fromarray(halves).save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(np.tile(np.linspace(0, 65535, 80).astype(np.uint16), (60, 1))).save(tmp_path / "ramp.png")
    photos = Photos(Files(tmp_path), ["turned.jpg", "ramp.png"])
    store = PixelStore(tmp_path / "store", {}, PictureForms(photos, small, View(16)), np.array([1, 2], np.uint64))
    store.fill({"whole": ROWS[:2]}, 0)
    (turned, ramp), sizes = store.read("whole", ROWS[:2])
    assert sizes.tolist() == [[60, 80], [80, 60]]
    assert turned[0, :6].min() > 200 > 60 > turned[0, 10:].max()
    assert len(ramp.unique()) == 16


def test_only_a_picture_that_changed_is_decoded_again(tmp_path):
    pictures = Drawn()
    opened(tmp_path, pictures).fill({"whole": ROWS}, 0)
    pictures.seeds[7], pictures.decoded = 99, []
    store = opened(tmp_path, pictures)
    store.fill({"whole": ROWS}, 0)
    assert pictures.decoded == [7]
    assert torch.equal(store.read("whole", ROWS)[0], store.forms.read("whole", ROWS)[0])


def test_pictures_that_another_run_has_replaced_are_not_read(tmp_path):
    """Two tables of one name and as many rows, such as two folds: each run read the other's pictures."""
    pictures, others = Drawn(), Drawn()
    others.seeds[7] = 99
    store = opened(tmp_path, pictures)
    store.fill({"whole": ROWS}, 0)
    opened(tmp_path, others).fill({"whole": ROWS}, 0)
    store.read("whole", ROWS[:7])
    with pytest.raises(UserError, match="another run has replaced pictures"):
        store.read("whole", ROWS[5:8])


def test_a_killed_run_leaves_no_wrong_picture_and_the_next_one_goes_on(tmp_path):
    pictures = Drawn()
    pictures.deadly = 35
    with pytest.raises(Killed):
        opened(tmp_path, pictures).fill({"whole": ROWS}, 0)
    pictures.deadly, pictures.decoded = None, []
    store = opened(tmp_path, pictures)
    store.fill({"whole": ROWS}, 0)
    assert pictures.decoded == list(range(32, 40))  # the batch that was not finished
    assert torch.equal(store.read("whole", ROWS)[0], store.forms.read("whole", ROWS)[0])


@pytest.mark.parametrize("left", [0, 1000, None])
def test_a_copy_that_ended_early_is_decoded_again(tmp_path, left):
    """A full disk cuts the pixels, which come after the marks: what lacks read as black pictures, in silence."""
    pictures = Drawn()
    store = opened(tmp_path, pictures)
    store.fill({"whole": ROWS}, 0)
    cut = store.folder / "whole.bin"
    kept = cut.read_bytes()[:left]
    cut.unlink()
    if left is not None:
        cut.write_bytes(kept)
    store = opened(tmp_path, pictures)
    store.fill({"whole": ROWS}, 0)
    assert torch.equal(store.read("whole", ROWS)[0], store.forms.read("whole", ROWS)[0])


def test_a_corrupt_picture_is_refused_or_left_out_and_remembered(tmp_path):
    pictures = Drawn()
    pictures.seeds[3], pictures.strict = None, True
    for _ in range(2):  # refused every time
        with pytest.raises(UserError, match=r"3.jpg is damaged"):
            opened(tmp_path, pictures).fill({"whole": ROWS}, 0)
    pictures.strict = False
    opened(tmp_path, pictures).fill({"whole": ROWS}, 0)
    pictures.decoded = []
    store = opened(tmp_path, pictures)
    store.fill({"whole": ROWS}, 0)
    assert pictures.decoded == []
    assert np.flatnonzero(store.missing).tolist() == [3]


def test_the_store_asks_for_the_room_that_it_needs_and_says_a_full_disk(tmp_path, monkeypatch):
    store = opened(tmp_path, Drawn())
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=module.SPARE + 1000))
    side = store.forms.view.stored
    assert store.room({"whole": ROWS, "wide": ROWS[:2]}) == (40 * 3 * 16 * 16 + 2 * 3 * side * side, 1000)
    monkeypatch.setattr(module.os, "pwrite", lambda *_: 0)
    with pytest.raises(UserError, match="no space left"):
        store.fill({"whole": ROWS}, 0)
