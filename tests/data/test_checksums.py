"""Features belong to the content of the pictures, whatever their names, sizes and times say."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data import make
from xmodal import data
from xmodal.data.readers import checksums
from xmodal.data.readers.checksums import KEPT, fingerprint
from xmodal.data.readers.files import Files, Photos, Pixels
from xmodal.errors import UserError


def module(root, colour, **options):
    return data.Fashion(root=str(root), image_encoder=colour, query=40, train=200, val=30, **options)


def features(root, colour, **options):
    return np.array(module(root, colour, **options).pairs().image["pooled"], np.float32)


@pytest.fixture
def folder(tmp_path):
    """The pictures as plain files of one size."""
    make.fashion(tmp_path)
    (tmp_path / "images.zip").unlink()
    for row, line in enumerate((tmp_path / "styles.csv").read_text().splitlines()[1:]):
        Image.new("RGB", (4, 4), (row % 256, row // 256, 7)).save(tmp_path / f"{line.split(',')[0]}.jpg", "BMP")
    return tmp_path


def photo(folder, row):
    return folder / f"{(folder / 'styles.csv').read_text().splitlines()[1 + row].split(',')[0]}.jpg"


@pytest.mark.parametrize("settled", [False, True])
def test_exchanged_pictures_of_one_size_are_encoded_anew(folder, colour, settled, monkeypatch):
    if settled:  # as files that lay there for an hour
        for path in folder.glob("*.jpg"):
            os.utime(path, (1, 1))
        time.sleep(0.1)
        monkeypatch.setattr(checksums, "JUST_NOW", 5 * 10**7)
    before = features(folder, colour)
    first, second = photo(folder, 0), photo(folder, 100)
    old = first.read_bytes(), second.read_bytes()
    assert len(old[0]) == len(old[1])
    for path, content in zip((second, first), old, strict=True):
        path.write_bytes(content)
        os.utime(path, (1, 1))  # nor does the time tell
    after = features(folder, colour)
    assert np.array_equal(after[[0, 100]], before[[100, 0]])
    assert not np.array_equal(before[0], before[100])


def test_a_repaired_picture_of_the_same_size_is_no_longer_corrupt(folder, colour):
    path = photo(folder, 3)
    good = path.read_bytes()
    path.write_bytes(bytes(len(good)))
    assert module(folder, colour, max_corrupt=1).describe()["corrupt_images"] == [path.name]
    path.write_bytes(good)
    assert module(folder, colour, max_corrupt=1).describe()["corrupt_images"] == []


def test_the_same_files_elsewhere_have_the_same_features(folder, colour, tmp_path_factory):
    features(folder, colour)
    cache = next(folder.glob("features/mean-*"))
    other = tmp_path_factory.mktemp("other") / "data"
    folder.rename(other)
    for path in other.glob("*.jpg"):
        path.write_bytes(path.read_bytes())
    features(other, colour)
    assert [each.name for each in other.glob("features/mean-*")] == [cache.name]


def test_pictures_that_are_read_otherwise_are_encoded_anew(folder, colour, monkeypatch):
    for version in (1, 2):
        monkeypatch.setattr("xmodal.data.sets.released.DECODING", version)
        features(folder, colour)
        assert sum(each.is_dir() for each in folder.glob("features/mean-*")) == version


def test_a_member_of_a_zip_is_known_by_its_content(tmp_path):
    make.zipped(tmp_path / "a.zip", {f"{k}.jpg": make.jpeg(k) for k in range(3)})

    def found():
        return fingerprint(Photos(Files(tmp_path), ["0.jpg", "1.jpg"], 2), tmp_path / "features")

    before, whole = found(), (tmp_path / "a.zip").read_bytes()
    at = whole.index(make.jpeg(1)[-20:]) if make.jpeg(1)[-20:] in whole else 200
    (tmp_path / "a.zip").write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])  # same size and directory
    assert found() != before
    (tmp_path / "a.zip").write_bytes(whole)
    assert found() == before


def test_files_that_did_not_change_are_not_read_again(tmp_path, monkeypatch):
    for k in range(5):
        (tmp_path / f"{k}.jpg").write_bytes(make.jpeg(k))
    names, read = [f"{k}.jpg" for k in range(5)], []
    monkeypatch.setattr(checksums, "JUST_NOW", 10**8)
    plain = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (read.append(path.name), plain(path))[1])

    def found():
        read.clear()
        return fingerprint(Photos(Files(tmp_path), names), tmp_path / "features")

    first = found()
    assert sorted(read) == names
    time.sleep(0.2)  # until then their times do not tell
    assert [found(), len(read)] == [first, 5]
    assert [found(), len(read)] == [first, 0]
    (tmp_path / "3.jpg").write_bytes(make.jpeg(9))
    assert found() != first
    assert read == ["3.jpg"]
    (tmp_path / "features" / KEPT).write_text("{")  # damaged: read again
    assert found() != first
    assert len(read) == 5
    assert json.loads((tmp_path / "features" / KEPT).read_text())


@pytest.mark.parametrize("row", [0, 1, 57, 99])
def test_every_picture_of_an_array_counts(tmp_path, row):
    pixels = make.pixels(100)
    before = fingerprint(Pixels(pixels.copy(), "drawings"), tmp_path)
    pixels[row, 0, 0, 0] ^= 1
    assert fingerprint(Pixels(pixels, "drawings"), tmp_path) != before


@pytest.mark.parametrize("change", [lambda p: p / 255, lambda p: p.astype(int) - 1, lambda p: p * 300.0])
def test_numbers_that_are_no_levels_are_refused(change):
    with pytest.raises(UserError, match=r"drawings hold .*: pictures are levels from 0 to 255"):
        Pixels(change(make.pixels(5)), "drawings")
