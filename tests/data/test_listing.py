"""Tables of one's own, in every form: the same pairs, and one line for what is wrong."""

import csv
import io
import json
import tarfile
import time

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from tests.data.make import jpeg
from xmodal.data.readers.archives import ROWS as ROWS_OPEN
from xmodal.data.readers.files import Files, Photos
from xmodal.data.readers.listing import read_listing
from xmodal.data.readers.tables import read_table
from xmodal.errors import UserError

ROWS = [
    {"file": "1.jpg", "text": "a red owl", "label": "bird|red", "split": "train"},
    {"file": "2.jpg", "text": 'a "blue", cat', "label": "cat", "split": "dev"},
    {"file": "3.jpg", "text": "ein grüner Hund", "label": "dog|green", "split": "test"},
]


def write_csv(path, rows=ROWS, **options):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], **options)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write(folder, form):
    if form in ("csv", "tsv"):
        return write_csv(folder / f"pairs.{form}", delimiter="\t" if form == "tsv" else ",")
    if form == "semicolon":
        return write_csv(folder / "pairs.csv", delimiter=";")
    if form == "jsonl":
        path = folder / "pairs.jsonl"
        path.write_text("\n".join(json.dumps({**row, "label": row["label"].split("|")}) for row in ROWS))
        return path
    if form == "parquet":
        table = pyarrow.Table.from_pylist([{**row, "label": row["label"].split("|")} for row in ROWS])
        pyarrow.parquet.write_table(table, folder / "pairs.parquet")
        return folder / "pairs.parquet"
    path = folder / "pairs-000.tar"
    with tarfile.open(path, "w") as archive:
        for row in ROWS:
            stem = row["file"][0]
            parts = {
                "jpg": jpeg(int(stem)),
                "txt": row["text"].encode(),
                "json": json.dumps({"label": row["label"].split("|"), "split": row["split"]}).encode(),
            }
            for ending, content in parts.items():
                member = tarfile.TarInfo(f"{stem}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("form", ["csv", "tsv", "semicolon", "jsonl", "parquet", "tar"])
def test_every_form_gives_the_same_pairs(tmp_path, form):
    found = read_listing(write(tmp_path, form), label="label", separator="|", split="split")
    assert [name.rpartition("/")[2] for name in found.files] == ["1.jpg", "2.jpg", "3.jpg"]
    assert found.texts == [row["text"] for row in ROWS]
    assert found.labels == [("bird", "red"), ("cat",), ("dog", "green")]
    assert found.splits == ["train", "val", "test"]
    assert found.rows.tolist() == [0, 1, 2]


@pytest.mark.parametrize("left", [1000, 0, 200])
def test_a_shard_whose_copy_ended_early_is_refused(tmp_path, left):
    """Also where the cut is between two members or in a header, which tarfile takes for the end."""
    path = write(tmp_path, "tar")
    with tarfile.open(path) as archive:
        second = archive.getmembers()[3].offset
    path.write_bytes(path.read_bytes()[: second + left])
    with pytest.raises(UserError, match=r"pairs-000\.tar is a damaged shard"):
        read_listing(path, label="label", separator="|", split="split")


def test_labels_as_a_matrix(tmp_path):
    found = read_listing(write(tmp_path, "csv"), label="label", separator="|")
    label, names, rare = found.multi_hot()
    assert names == ("bird", "cat", "dog", "green", "red")
    assert label.tolist() == [[1, 0, 0, 0, 1], [0, 1, 0, 0, 0], [0, 0, 1, 1, 0]]
    assert not rare
    label, names, rare = found.multi_hot(2)
    assert label.shape == (3, 0)
    assert rare == {"bird": 1, "red": 1, "cat": 1, "dog": 1, "green": 1}


@pytest.mark.parametrize("captions", [["one", "two"], "['one', 'two']", '["one", "two"]'])
def test_several_captions_in_a_list_or_in_rows_are_the_same(tmp_path, captions):
    listed, rows = tmp_path / "list.jsonl", tmp_path / "rows.jsonl"
    listed.write_text(
        json.dumps({"image": "a.jpg", "caption": captions}) + '\n{"image": "b.jpg", "caption": "three"}\n'
    )
    rows.write_text(
        "".join(
            json.dumps({"image": f, "caption": c}) + "\n" for f, c in zip("aab", ("one", "two", "three"), strict=True)
        )
    )
    first, second = read_listing(listed), read_listing(rows, ending=".jpg")
    for each in (first, second):
        assert each.files == ["a.jpg", "b.jpg"]
        assert each.rows.tolist() == [0, 0, 1]
        assert each.texts == ["one", "two", "three"]
        assert each.labels is None


def test_one_column_a_label_and_several_columns_of_classes(tmp_path):
    rows = [
        {"file": "1", "text": "x", "owl": 1, "red": 0, "size": "big", "kind": "bird"},
        {"file": "2", "text": "y", "owl": 0, "red": 1, "size": "", "kind": "cat"},
    ]
    table = write_csv(tmp_path / "t.csv", rows)
    assert read_listing(table, label=["owl", "red"]).labels == [("owl",), ("red",)]
    assert read_listing(table, label=["size", "kind"]).labels == [("size:big", "kind:bird"), ("kind:cat",)]


def test_a_picture_has_the_labels_of_all_its_rows(tmp_path):
    rows = [{**ROWS[0], "label": each} for each in ("bird", "red|owl", "bird")] + [ROWS[1]]
    listing = read_listing(write_csv(tmp_path / "pairs.csv", rows), label="label", separator="|")
    assert listing.labels == [("bird", "red", "owl")] * 3 + [("cat",)]
    with pytest.raises(UserError, match=r"1.jpg has the classes bird and red\|owl: with layers"):
        read_listing(tmp_path / "pairs.csv", label="label", layers="/")


def test_layers_become_labels_and_a_hierarchy(tmp_path):
    paths = ["animal/bird/owl", "animal/cat/lion", "thing/car/taxi", "animal/bird/eagle"]
    rows = [{"file": f"{k}", "text": "x", "label": path} for k, path in enumerate(paths)]
    found = read_listing(write_csv(tmp_path / "t.csv", rows), label="label", layers="/")
    assert found.hierarchy().tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [0, 0, 0]]
    assert "animal/bird" in found.multi_hot()[1]
    rows[0]["label"] = "animal/bird"
    with pytest.raises(UserError, match="classes of 2 to 3 layers"):
        read_listing(write_csv(tmp_path / "t.csv", rows), label="label", layers="/")


def test_coco_captions_and_categories_of_two_files(tmp_path):
    images = [{"id": 7, "file_name": "7.jpg"}, {"id": 8, "file_name": "8.jpg"}]
    captions = [{"image_id": 7, "caption": "a"}, {"image_id": 7, "caption": "b"}, {"image_id": 8, "caption": "c"}]
    marks = [{"image_id": 7, "category_id": 2}, {"image_id": 7, "category_id": 2}, {"image_id": 8, "category_id": 1}]
    kinds = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    (tmp_path / "captions.json").write_text(json.dumps({"images": images, "annotations": captions}))
    (tmp_path / "instances.json").write_text(json.dumps({"images": images, "annotations": marks, "categories": kinds}))
    found = read_listing(tmp_path, label="category")
    assert found.files == ["7.jpg", "8.jpg"]
    assert found.texts == ["a", "b", "c"]
    assert found.labels == [("dog",), ("dog",), ("cat",)]
    assert read_listing(tmp_path / "captions.json").texts == ["a", "b", "c"]


def test_parts_are_one_table_and_their_names_are_roles(tmp_path):
    for role, rows in (("train", ROWS[:2]), ("test", ROWS[2:])):
        write_csv(tmp_path / f"{role}-00000.csv", [{"file": r["file"], "text": r["text"]} for r in rows])
    assert read_listing(tmp_path, split="split").splits == ["test", "train", "train"]
    assert read_listing(tmp_path / "t*.csv").texts == [ROWS[k]["text"] for k in (2, 0, 1)]


@pytest.mark.parametrize("kind", ["struct", "bytes"])
def test_pictures_inside_parquet_are_read_in_place(tmp_path, kind):
    cells = [{"bytes": jpeg(k), "path": f"{k}.jpg"} if kind == "struct" else jpeg(k) for k in range(7)]
    table = pyarrow.table({"image": cells, "text": [f"text {k}" for k in range(7)]})
    pyarrow.parquet.write_table(table, tmp_path / "train.parquet", row_group_size=3)
    found = read_listing(tmp_path / "train.parquet")
    photos = Photos(Files(tmp_path), found.files)
    for k in (6, 0, 3):
        assert np.array_equal(np.asarray(photos[k]), np.asarray(Photos(Files(tmp_path), [found.files[k]])[0]))
        assert photos.files.read(photos.found[k]) == jpeg(k)


def test_no_more_parquet_files_than_some_stay_open(tmp_path):
    names = []
    for number in range(ROWS_OPEN + 3):
        table = pyarrow.table({"image": [bytes([number]), b"two"]})
        pyarrow.parquet.write_table(table, tmp_path / f"{number}.parquet")
        names.append(f"{number}.parquet/image/0")
    files = Files(tmp_path)
    for number in (*range(len(names)), 0, len(names) - 1):
        assert files.read(files.find(names[number])) == bytes([number])
        assert len(files._opened.archives) <= ROWS_OPEN


def test_pictures_inside_a_tar_are_read_in_place(tmp_path):
    found = read_listing(write(tmp_path, "tar"))
    photos = Photos(Files(tmp_path), found.files)
    assert [photos.files.read(entry) for entry in photos.found] == [jpeg(k) for k in (1, 2, 3)]
    content = (tmp_path / "pairs-000.tar").read_bytes()
    (tmp_path / "pairs-000.tar").write_bytes(content[:2048])
    with pytest.raises(UserError, match="damaged"):
        read_table(tmp_path / "pairs-000.tar")
    assert Photos(Files(tmp_path), ["gone.tar/1.jpg", found.files[0]], 1).found[0] is None


def test_rows_that_lack_something_are_left_out_and_counted(tmp_path):
    rows = [
        *ROWS,
        {**ROWS[0], "text": " "},
        {**ROWS[0], "file": ""},
        {**ROWS[0], "label": ""},
        {**ROWS[0], "split": ""},
    ]
    found = read_listing(write_csv(tmp_path / "t.csv", rows), label="label", split="split")
    assert len(found.texts) == 3
    assert found.left_out == {
        "left_out_without_text": 1,
        "left_out_without_file": 1,
        "left_out_without_label": 1,
        "left_out_without_split": 1,
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"file": "picture"}, r"has no column 'picture'; its columns are: file, text, label, split"),
        ({"label": "kind"}, r"has no column 'kind'; its columns are: file, text, label, split"),
        ({"file": "a", "text": "b"}, r"has no column 'a'; its columns are: file, text, label, split"),
        ({"split": "label"}, r"column 'label' holds 'bird\|red': the roles of a split are train, val and test"),
    ],
)
def test_a_wrong_column_is_one_line(tmp_path, given, message):
    with pytest.raises(UserError, match=message) as error:
        read_listing(write(tmp_path, "csv"), **given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "file,text\n1.jpg\n", "line 2: 1 cells, but the first line names 2"),
        ("t.csv", 'file,text\n1.jpg,"open\n2.jpg,x\n', "a quote opens in line 2 and does not close"),
        ("t.csv", 'text;file\nx;1.jpg\n"open;2.jpg\nx;3.JPG\nclosed";4.jpg\n', "a quote opens in line 3"),
        ("t.csv", "file,file\n1,2\n", "names a column twice: file"),
        ("t.csv", "", "has no rows"),
        ("t.csv", "file,text\n", "has no rows"),
        ("t.csv", "x,y\n1,2\n", "which column of .* holds the file"),
        ("t.jsonl", "[1]\n", "line 1: each line is an object"),
        ("t.jsonl", "{\n", "line 1 is no JSON"),
        ("t.json", "{}", "is no JSON as COCO has it"),
        ("t.parquet", "PAR1", "is damaged"),
        ("t.xlsx", "", "one of .csv, .tsv"),
    ],
)
def test_a_damaged_table_is_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message) as error:
        read_listing(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_text_of_several_lines_is_one(tmp_path):
    (tmp_path / "t.csv").write_text('text,file\n"see 2.jpg,\nor this",1.jpg\n')
    assert read_listing(tmp_path / "t.csv").texts == ["see 2.jpg,\nor this"]


def test_words_are_no_labels(tmp_path):
    rows = [{"file": f"{k}", "text": "x", "label": f"word{k}"} for k in range(10_001)]
    with pytest.raises(UserError, match="10,001 different values"):
        read_listing(write_csv(tmp_path / "t.csv", rows), label="label").multi_hot()


def test_a_million_rows_take_seconds(tmp_path):
    path = tmp_path / "million.csv"
    path.write_text(
        "file,text,label\n" + "".join(f"{k % 1000}.jpg,picture {k},class{k % 1000 % 9}\n" for k in range(1_000_000))
    )
    begun = time.process_time()
    found = read_listing(path, label="label")
    label, names, _ = found.multi_hot()
    assert time.process_time() - begun < 60  # 5 s on an idle core
    assert len(found.texts) == 1_000_000
    assert len(found.files) == 1000
    assert label.sum() == 1_000_000
    assert len(names) == 9
