"""A folder of one's own pictures with a table: what is read, how it is split, and one line for each mistake."""

import csv
import json
import shutil
import tarfile
from io import BytesIO
from itertools import cycle

import numpy as np
import pytest
from PIL import Image

from tests.data.make import jpeg
from xmodal.__main__ import main
from xmodal.data import Folder
from xmodal.encoders import BagOfWords
from xmodal.errors import UserError


def make(root, pairs=40, captions=1, **columns):
    """Pictures `0.jpg`, ... in `pictures`, and `table.csv` with two classes that take turns; columns are functions."""
    (root / "pictures").mkdir(exist_ok=True)
    made = {"label": lambda k: f"class{k % 2}", "text": lambda k: f"words of class{k % 2} number{k}"} | columns
    with (root / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", *made])
        for k in range(pairs):
            (root / "pictures" / f"{k}.jpg").write_bytes(jpeg(k))
            for _ in range(captions):
                writer.writerow([f"{k}.jpg", *(value(k) for value in made.values())])
    return {"table": str(root / "table.csv"), "images": str(root / "pictures"), "root": str(root / "cache")}


@pytest.fixture
def folder(colour):
    def build(given, **options):
        return Folder(**given, image_encoder=colour, text_encoder=BagOfWords(), **options)

    return build


def test_labels_and_a_drawn_split(tmp_path, folder):
    module = folder(make(tmp_path), label="label")
    said = module.describe()
    assert said["split_sizes"] == {"train": 29, "val_query": 3, "val_database": 3, "query": 8, "database": 8}
    assert said["labels"] == 2
    assert module.relevance == "label"
    assert module.caption(3) == "words of class1 number3"
    assert module.picture(3).size == folder(make(tmp_path), label="label").picture(3).size
    assert folder(make(tmp_path), label="label").describe()["split_hash"] == said["split_hash"]


def test_no_labels_means_relevance_by_picture(tmp_path, folder):
    module = folder(make(tmp_path, captions=3))
    assert module.relevance == "group"
    batch = module.role("query")
    same = batch["group"][:, None] == batch["group"]
    assert same.sum(1).unique().tolist() == [3]
    assert not set(module.role("train")["group"].tolist()) & set(batch["group"].tolist())


@pytest.mark.parametrize("form", ["tar", "parquet"])
def test_shards_of_one_name_in_several_folders_keep_their_pictures(tmp_path, folder, form):
    """Hugging Face writes train/0000.parquet and test/0000.parquet: texts of one had the pictures of the other."""
    for part, role in enumerate(("test", "train")):
        (tmp_path / role).mkdir()
        rows = {f"{k}": (jpeg(20 * part + k), f"{20 * part + k}") for k in range(20)}
        path = tmp_path / role / f"0000.{form}"
        if form == "parquet":
            arrow = pytest.importorskip("pyarrow.parquet")
            images, texts = map(list, zip(*rows.values(), strict=True))
            arrow.write_table(pytest.importorskip("pyarrow").table({"image": images, "text": texts}), path)
        else:
            with tarfile.open(path, "w") as archive:
                for key, (image, text) in rows.items():
                    for ending, content in (("jpg", image), ("txt", text.encode())):
                        member = tarfile.TarInfo(f"{key}.{ending}")
                        member.size = len(content)
                        archive.addfile(member, BytesIO(content))
    module = folder({"table": str(tmp_path / "*" / f"0000.{form}"), "root": str(tmp_path / "cache")})
    assert len(module.release.image) == 40
    for k in range(40):
        wanted = np.asarray(Image.open(BytesIO(jpeg(int(module.caption(k))))))
        assert np.array_equal(module.picture(k), wanted)


def test_tables_in_several_folders_name_the_pictures_beside_them(tmp_path, folder):
    """Hugging Face's train/metadata.jsonl and test/metadata.jsonl: 1.jpg of both was one picture of two texts."""
    for part, role in enumerate(("test", "train")):
        (tmp_path / role).mkdir()
        rows = [{"file_name": f"{k}.jpg", "text": f"{20 * part + k} {'long ' * 100}"} for k in range(20)]
        (tmp_path / role / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
        for k in range(20):
            (tmp_path / role / f"{k}.jpg").write_bytes(jpeg(20 * part + k))
    table = {"table": str(tmp_path / "*" / "metadata.jsonl"), "root": str(tmp_path / "cache")}
    module = folder(table)
    assert len(module.release.image) == 40
    for k in range(40):
        wanted = np.asarray(Image.open(BytesIO(jpeg(int(module.caption(k).split()[0])))))
        assert np.array_equal(module.picture(k), wanted)
    with pytest.raises(UserError, match=r"0\.jpg"):
        folder({**table, "images": str(tmp_path / "train")}).release  # noqa: B018


def test_the_roles_of_the_table_are_kept(tmp_path, folder):
    given = make(tmp_path, split=lambda k: ("train", "train", "valid", "test")[k % 4])
    split = folder(given, label="label", split="split", database="train").split()
    assert split.query.tolist() == list(range(3, 40, 4))
    assert split.val_query.tolist() == list(range(2, 40, 4))
    assert split.database.tolist() == [k for k in range(40) if k % 4 != 3]  # all that are no queries
    assert split.val_database.tolist() == split.train.tolist()


def test_layers_give_a_hierarchy(tmp_path, folder):
    module = folder(make(tmp_path, label=lambda k: f"top{k % 2}/fine{k % 4}"), label="label", layers="/")
    assert module.relevance == "finest"
    assert module.layer_sizes == (2, 4)
    assert folder(make(tmp_path), label="label", layers="").release.hierarchy is None


def test_equal_pictures_under_two_names_stay_in_one_role(tmp_path, folder):
    given = make(tmp_path)
    for k in range(1, 40, 2):
        shutil.copy(tmp_path / "pictures" / f"{k - 1}.jpg", tmp_path / "pictures" / f"{k}.jpg")
    module = folder(given, label="label")
    assert module.describe()["split_same_content"] == 0
    query = set(module.split().query.tolist())
    assert query == {k ^ 1 for k in query}
    torn = folder(make(tmp_path, split=lambda k: ("train", "test")[k % 2]), label="label", split="split")
    for k in range(1, 40, 2):
        shutil.copy(tmp_path / "pictures" / f"{k - 1}.jpg", tmp_path / "pictures" / f"{k}.jpg")
    assert torn.describe()["split_same_content"] == len(torn.split().train) == 18  # two are validation pairs


def test_a_split_column_that_tears_captions_is_said_before_the_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    turns = cycle(["train", "train", "test"])
    make(tmp_path, captions=2, split=lambda k: next(turns))
    assert main(["init", "data", "pictures", "table.csv"]) == 0
    said = capsys.readouterr().out
    assert "refused     by every training: the split leaks: " in said
    assert "pictures have captions in both train and query" in said


def test_missing_and_corrupt_pictures_are_named_or_left_out(tmp_path, folder):
    given = make(tmp_path)
    (tmp_path / "pictures" / "3.jpg").unlink()
    (tmp_path / "pictures" / "5.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"missing or corrupt, 0 allowed: 3\.jpg \(no such file\)"):
        folder(given, label="label").prepare_data()
    module = folder(given, label="label", max_corrupt=2)
    assert module.describe()["corrupt_images"] == ["3.jpg", "5.jpg"]
    used = np.concatenate(list(vars(module.split()).values()))
    assert not {3, 5} & set(used.tolist())


def test_rare_labels_are_left_out_and_counted(tmp_path, folder):
    given = make(tmp_path, label=lambda k: "odd" if k == 7 else f"class{k % 2}")
    said = folder(given, label="label").describe()
    assert said["labels"] == 2
    assert said["rare_labels_left_out"] == 1
    assert said["left_out_without_label"] == 1


@pytest.mark.parametrize(
    ("made", "options", "message"),
    [
        ({"pairs": 12}, {"label": "label"}, "has 12 usable pairs: 20 are the fewest"),
        ({"label": lambda k: "one"}, {"label": "label"}, r"every pair of .* has the same labels \(one\)"),
        ({"label": lambda k: f"c{k}"}, {"label": "label"}, r"the same labels \(none frequent enough\)"),
        ({"split": lambda k: "train"}, {"split": "split"}, "column 'split' of .* has no pair of test"),
        ({}, {"query": 40}, "data.query=40 of 40 pairs"),
        ({}, {"query": 0}, "data.query is 0: give 1 or more, or leave it out for a fifth of the pairs"),
        ({}, {"val": 0}, "data.val is 0: give 1 or more, or leave it out for a tenth of the others"),
        ({"split": lambda k: "train"}, {"split": "split", "query": 5}, "data.query is 5, and column 'split' says"),
        (
            {"split": lambda k: ("train", "val", "test")[k % 3]},
            {"split": "split", "val": 5},
            "data.val is 5, and column 'split' says which are the validation pairs: leave one out",
        ),
        ({}, {"label": "kind"}, "has no column 'kind'; its columns are: file, label, text"),
        ({"pairs": 0}, {}, "has no rows"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, folder, made, options, message):
    with pytest.raises(UserError, match=message) as error:
        folder(make(tmp_path, **made), **options).describe()
    assert "\n" not in str(error.value)


def test_a_folder_that_is_not_there_is_one_line(tmp_path, folder):
    given = make(tmp_path)
    with pytest.raises(UserError, match="there is no such folder"):
        folder(given | {"images": str(tmp_path / "photos")}).describe()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"none of the 40 pictures is in .*, the first is '0.jpg'"):
        folder(given | {"images": str(tmp_path / "empty")}, label="label").describe()
