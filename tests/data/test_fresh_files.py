"""Ten files of forms that no other test has: what programs of this field write without anybody asking for it."""

import csv
import gzip
import io
import json
import tarfile

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import scipy.io
import torch
from PIL import Image

from tests.records.records import write_run
from tests.test_evaluate import arrays, expected  # noqa: F401 - fixtures
from xmodal.checkpoint import DamagedError, read_checkpoint
from xmodal.commands.evaluate import evaluate_file
from xmodal.data.readers.listing import read_listing
from xmodal.data.sets.captions import _rows
from xmodal.encoders import open_picture
from xmodal.errors import UserError
from xmodal.records.setups import collect

LABELS = [("bird", "red"), ("cat",)]


def listed(path):
    found = read_listing(path, label="label", separator="|")
    return [name.rpartition("/")[2] for name in found.files], found.texts, found.labels


def test_codes_of_another_byte_order_and_axis_order(tmp_path, arrays, expected):  # noqa: F811
    path = tmp_path / "codes.npz"
    np.savez(
        path,
        **{
            name: np.asfortranarray(array.astype(">f8" if "label" not in name else ">i8"))
            for name, array in arrays.items()
        },
    )
    assert evaluate_file(path).metrics["map_i2t"] == pytest.approx(expected["map_i2t"], abs=1e-12)


def test_logical_arrays_of_matlab_in_both_versions(tmp_path, arrays, expected):  # noqa: F811
    logical = {name: array > 0 for name, array in arrays.items()}
    scipy.io.savemat(tmp_path / "v5.mat", logical)
    with h5py.File(tmp_path / "v73.mat", "w", userblock_size=512) as file:
        for name, array in logical.items():
            made = file.create_dataset(name, data=array.T.astype(np.uint8))
            made.attrs["MATLAB_class"] = np.bytes_("logical")
            made.attrs["MATLAB_int_decode"] = np.int32(1)
    for name in ("v5.mat", "v73.mat"):
        assert evaluate_file(tmp_path / name).metrics["map_i2t"] == pytest.approx(expected["map_i2t"], abs=1e-12)


def test_arrays_within_a_struct_of_matlab_are_found_or_named(tmp_path, arrays):  # noqa: F811
    scipy.io.savemat(tmp_path / "struct.mat", {"result": arrays})
    with pytest.raises(UserError, match=r"struct\.mat") as caught:
        evaluate_file(tmp_path / "struct.mat")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("first", ["sep=;\r\n", "\ufeffsep=;\r\n"])
def test_the_first_line_that_excel_asks_for_is_no_header(tmp_path, first):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=";").writerows(
        [("file", "text", "label"), ("1.jpg", "an owl; red", "bird|red"), ("2.jpg", "a cat", "cat")]
    )
    (tmp_path / "pairs.csv").write_text(first + text.getvalue(), encoding="utf-8", newline="")
    assert listed(tmp_path / "pairs.csv") == (["1.jpg", "2.jpg"], ["an owl; red", "a cat"], LABELS)


def test_columns_of_categories_and_long_texts_in_parquet(tmp_path):
    table = pyarrow.table(
        {
            "file": pyarrow.array(["1.jpg", "2.jpg"], pyarrow.large_string()),
            "text": pyarrow.array(["an owl", "a cat"]).dictionary_encode(),
            "label": pyarrow.array(["bird|red", "cat"]).dictionary_encode(),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "pairs.parquet", compression="zstd", version="1.0")
    assert listed(tmp_path / "pairs.parquet") == (["1.jpg", "2.jpg"], ["an owl", "a cat"], LABELS)


def test_a_compressed_table_is_read_or_named(tmp_path):
    path = tmp_path / "pairs.csv.gz"
    path.write_bytes(gzip.compress(b"file,text,label\n1.jpg,an owl,bird|red\n2.jpg,a cat,cat\n"))
    with pytest.raises(UserError, match=r"pairs\.csv\.gz") as caught:
        listed(path)
    assert "\n" not in str(caught.value)


def test_pictures_of_printers_and_of_the_web():
    ramp = np.tile(np.arange(0, 250, 10, dtype=np.uint8), (9, 1))
    colour = Image.fromarray(np.stack([ramp, ramp[:, ::-1], ramp], 2))
    for form, made in (("TIFF", colour.convert("CMYK")), ("GIF", colour.convert("P")), ("PNG", colour.convert("LA"))):
        buffer = io.BytesIO()
        more = (
            {"save_all": True, "append_images": [made.transpose(Image.Transpose.FLIP_TOP_BOTTOM)]}
            if form == "GIF"
            else {}
        )
        made.save(buffer, form, **more)
        opened = open_picture(buffer.getvalue())
        assert opened.mode == "RGB"
        assert np.array_equal(np.asarray(opened), np.asarray(made.convert("RGB")))


def test_a_bare_tensor_and_a_file_of_safetensors_are_no_checkpoints(tmp_path):
    torch.save(torch.zeros(3), tmp_path / "tensor.ckpt")
    header = json.dumps({"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "safe.ckpt").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    for name in ("tensor.ckpt", "safe.ckpt"):
        with pytest.raises(DamagedError, match="is damaged or no checkpoint of this suite") as caught:
            read_checkpoint(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b"\xff\xfe" + '{"method": "dmsf"}'.encode("utf-16-le"),
        b"3",
        b"null",
        b'{"size": ' + b"9" * 5000 + b"}",
    ],
    ids=["deep", "utf-16", "number", "null", "digits"],
)
def test_a_record_that_is_no_record_is_left_out(tmp_path, content):
    whole, bad = write_run(tmp_path / "runs"), write_run(tmp_path / "runs", seed=1)
    (bad / "result.json").write_bytes(content)
    records, broken = collect(tmp_path / "runs")
    assert [record["path"] for record in records] == [str(whole / "result.json")]
    assert len(broken) == 1
    assert str(bad / "result.json") in broken[0]
    assert "\n" not in broken[0]


def test_lines_of_json_with_numbers_and_blank_lines(tmp_path):
    rows = [{"file": "1.jpg", "text": 12, "label": [3, 4]}, {"file": "2.jpg", "text": "a\u2028b", "label": [3]}]
    (tmp_path / "pairs.jsonl").write_text(
        "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n\n", encoding="utf-8-sig"
    )
    assert listed(tmp_path / "pairs.jsonl") == (["1.jpg", "2.jpg"], ["12", "a\u2028b"], [("3", "4"), ("3",)])


def test_lists_of_json_objects_are_rows_in_several_files_too(tmp_path):
    for role, names in (("train", "aab"), ("test", "cd")):
        rows = [{"id": ord(name), "image": f"{name}.jpg", "caption": f"{name} {k}"} for k, name in enumerate(names)]
        (tmp_path / f"{role}.json").write_text(json.dumps(rows))
    found = read_listing(tmp_path, split="split")
    assert (found.files, found.texts) == (["c.jpg", "d.jpg", "a.jpg", "b.jpg"], ["c 0", "d 1", "a 0", "a 1", "b 2"])
    assert found.splits == ["test"] * 2 + ["train"] * 3


def test_a_caption_of_coco_in_two_files_is_one(tmp_path):
    for name, captions in (("all", "ab"), ("some", "b")):
        marks = [{"id": ord(each), "image_id": 7, "caption": each} for each in captions]
        content = {"images": [{"id": 7, "file_name": "7.jpg"}], "annotations": marks}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert read_listing(tmp_path).texts == ["a", "b"]


@pytest.mark.parametrize("numbers", [range(4), [0, 0, 0, 0], [None] * 4, ()])
def test_captions_of_one_number_are_those_of_their_texts(tmp_path, numbers):
    for language in ("de", "en", "en copy"):
        marks = [{"image_id": k // 2, "caption": f"{language[:2]} {k}"} for k in range(4)]
        marks = [{**mark, "id": number} for mark, number in zip(marks, numbers, strict=True)] if numbers else marks
        images = [{"id": k, "file_name": f"{k}.jpg"} for k in range(2)]
        (tmp_path / f"{language}.json").write_text(json.dumps({"images": images, "annotations": marks}))
    texts = read_listing(tmp_path).texts
    assert texts == ["de 0", "de 1", "en 0", "en 1", "de 2", "de 3", "en 2", "en 3"]


def shard(path, *names):
    with tarfile.open(path, "w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    return path


def test_the_mask_of_a_picture_in_a_shard_is_not_the_picture(tmp_path):
    found = read_listing(shard(tmp_path / "s.tar", "0.depth.png", "0.jpg", "0.mask.png", "0.txt"))
    assert found.files == ["s.tar/0.jpg"]
    with pytest.raises(UserError, match=r"two pictures of one key, s\.tar/0\.jpg and s\.tar/0\.png: keep one"):
        read_listing(shard(tmp_path / "s.tar", "0.png", "0.jpg", "0.txt"))


def test_the_number_of_a_comment_is_none_of_its_words(tmp_path):
    text = "image_name,comment_number,comment\n1.jpg, 0, 2 men, in a car .\n1.jpg, 1   A car .\n"
    assert _rows(text, "captions.txt") == [("1.jpg", "2 men, in a car ."), ("1.jpg", "A car .")]
    assert _rows("image,caption\n1.jpg,2 men, in a car .\n", "captions.txt") == [("1.jpg", "2 men, in a car .")]
