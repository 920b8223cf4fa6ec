"""Text files and file names as people have them."""

import numpy as np
import pytest

from tests.data import make
from xmodal import data
from xmodal.commands import datasets
from xmodal.data.readers.files import Files, Photos
from xmodal.data.readers.text import csv_rows, decoded, split_lines
from xmodal.errors import UserError

SENTENCE = "un caf\u00e9 \u00e0 la plage"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1"])
def test_encodings(encoding):
    assert decoded(SENTENCE.encode(encoding), "it") == SENTENCE


def test_one_line_of_another_encoding_spoils_no_others():
    text = f"{SENTENCE}\n".encode("utf-8-sig") + f"{SENTENCE}\n".encode("latin-1") + SENTENCE.encode()
    assert decoded(text, "it") == "\n".join([SENTENCE] * 3)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_named(encoding):
    with pytest.raises(UserError, match="captions looks like UTF-16 without a mark: save it as UTF-8"):
        decoded(SENTENCE.encode(encoding), "captions")


def test_damaged_utf_16_is_named():
    with pytest.raises(UserError, match="begins as utf-16 and is damaged"):
        decoded("abc".encode("utf-16") + b"\xd8", "it")


def test_lines_end_at_line_ends_only():
    text = decoded("a\x0cb\u2028c\x85d\x1ce\r\nf\rg\n\nh\n".encode(), "it")
    assert split_lines(text) == ["a\x0cb\u2028c\x85d\x1ce", "f", "g", "", "h"]
    assert split_lines("") == []


def test_an_open_quote_is_reported_with_its_line():
    good = 'image,caption\na.jpg,"A man, two"\nb.jpg,a "big" dog\nc.jpg,"two\nlines"\nd.jpg,5" wide\n'
    found = csv_rows(good, "it")
    assert found[1:] == [
        ["a.jpg", "A man, two"],
        ["b.jpg", 'a "big" dog'],
        ["c.jpg", "two\nlines"],
        ["d.jpg", '5" wide'],
    ]
    for line, text in (
        (3, 'x,y\na.jpg,b\nb.jpg," alone\nc.jpg,d\n'),
        (2, 'x,y\na.jpg," alone\nb.jpg,says "yes"\n'),
        (2, 'x,y\na.jpg,"b'),
    ):
        with pytest.raises(UserError, match=f"a quote opens in line {line} and does not close"):
            csv_rows(text, "it")
    with pytest.raises(UserError, match="line 2: field larger than field limit"):
        csv_rows("x,y\na.jpg," + "word " * 40000, "it")


def flickr(root, captions):
    (root / "Flickr8k.token.txt").write_bytes(captions)
    for k in range(6):
        (root / f"{k}.jpg").write_bytes(make.jpeg(k))
    for name, rows in zip(data.Flickr8k.lists, ((0, 1, 2, 3), (4,), (5,)), strict=True):
        (root / name).write_text("".join(f"{k}.jpg\n" for k in rows))
    return data.Flickr8k(root=str(root)).release


@pytest.mark.parametrize(
    ("caption", "encoding"),
    [
        (SENTENCE, "latin-1"),
        (SENTENCE, "utf-16"),
        ("a\x0cb", "utf-8"),
        ("a dog\u2028on a beach", "utf-8"),
        ("", "utf-8"),
    ],
)
def test_captions(tmp_path, caption, encoding):
    rows = [f"{k}.jpg#{j}\t{caption if (k, j) == (2, 1) else 'a dog runs'}\n" for k in range(6) for j in range(5)]
    release = flickr(tmp_path, "".join(rows).encode(encoding))
    assert len(release.text) == 30
    assert release.text[11] == caption


def scan(root, line, encoding="utf-8", value=0.0):
    for part, count in (("train", 8), ("dev", 2), ("test", 2)):
        regions = np.ones((count, 3, 4), np.float32)
        regions[1, 2, 3] = value if part == "test" else 0
        np.save(root / f"{part}_ims.npy", regions)
        rows = ["a dog runs"] * 5 * count
        rows[7] = line
        (root / f"{part}_caps.txt").write_bytes(("\n".join(rows) + "\n").encode(encoding))
    return data.Flickr8k(root=str(root)).release


@pytest.mark.parametrize(("line", "encoding"), [(SENTENCE, "latin-1"), ("a dog\x0con a beach", "utf-8"), ("", "utf-8")])
def test_captions_of_scan(tmp_path, line, encoding):
    release = scan(tmp_path, line, encoding)
    assert len(release.text) == 60
    assert release.text[7] == line


def test_regions_that_are_no_numbers(tmp_path):
    with pytest.raises(UserError, match=r"test_ims\.npy .* holds nan in row 1"):
        scan(tmp_path, "a dog", value=np.nan)


def test_the_case_of_a_name_need_not_agree(tmp_path):
    make.zipped(tmp_path / "a.zip", {"im1.JPG": make.jpeg(1)})
    (tmp_path / "IM2.jpg").write_bytes(make.jpeg(2))
    photos = Photos(Files(tmp_path), ["im1.jpg", "im2.jpg"])
    assert [photos[k].size for k in range(2)] == [(20, 16)] * 2
    (tmp_path / "im2.jpg").write_bytes(make.jpeg(3, (9, 9)))  # now one agrees
    assert Photos(Files(tmp_path), ["im2.jpg"])[0].size == (9, 9)
    (tmp_path / "im3.JPG").write_bytes(make.jpeg(2))
    (tmp_path / "Im3.jpg").write_bytes(make.jpeg(2))
    with pytest.raises(UserError, match=r"'im3\.jpg' may be"):
        Files(tmp_path).find("im3.jpg")


def test_a_name_that_no_file_can_have_is_of_none(tmp_path):
    assert Files(tmp_path).find("a\0.tar/1.jpg") is None


def test_a_zip_may_have_backslashes(tmp_path):
    make.zipped(tmp_path / "a.zip", {"photos\\1.jpg": make.jpeg(1)})
    assert Photos(Files(tmp_path), ["photos/1.jpg"])[0].size == (20, 16)


@pytest.mark.parametrize("name", ["1.jpg", "a.zip", "data.mat", "styles.csv"])
def test_a_link_that_leads_nowhere_is_one_line(tmp_path, monkeypatch, capsys, name):
    modules = [data.Fashion, data.IAPRTC12, data.FashionVC, data.XMediaNet]
    for module in modules:
        (tmp_path / module.name).mkdir()
        (tmp_path / module.name / name).symlink_to(tmp_path / "nowhere")
        with pytest.raises(UserError):
            _ = module(root=str(tmp_path / module.name)).release
    monkeypatch.setenv("XMODAL_DATA", str(tmp_path))
    assert datasets.main([]) == 0
    assert capsys.readouterr().out.count(f"{name}, a link to {tmp_path / 'nowhere'}, cannot be read") == len(modules)


def test_a_folder_that_holds_itself_is_one_line(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "again").symlink_to(tmp_path / "deep")
    with pytest.raises(UserError, match="is a link to a folder that it lies in"):
        Files(tmp_path)
