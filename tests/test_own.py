"""Your own pictures: every command takes them, without a file of the suite being touched."""

import json

import pytest
import yaml

from tests.data.make import jpeg
from tests.data.test_folder import make
from tests.studies.conftest import SMALL, inline  # noqa: F401 - a fixture
from xmodal.__main__ import main
from xmodal.checkpoint import read_checkpoint
from xmodal.commands.init_data import _separator
from xmodal.data import Folder
from xmodal.errors import UserError
from xmodal.records.record import read_result
from xmodal.records.setups import by_setup
from xmodal.studies.grid import check_data


def said(capsys):
    captured = capsys.readouterr()
    return captured.out + captured.err


@pytest.fixture
def own(home, tmp_path, monkeypatch, inline):  # noqa: F811
    """A folder of pictures with a table, and the working folder there."""
    monkeypatch.setenv("XMODAL_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    make(tmp_path, captions=2)
    return tmp_path


def test_init_data_says_what_it_found_and_writes_the_file(own, capsys):
    (own / "pictures" / "3.jpg").unlink()
    (own / "pictures" / "5.jpg").write_bytes(b"no picture")
    (own / "pictures" / "7.jpg").write_bytes((own / "pictures" / "9.jpg").read_bytes())
    assert main(["init", "data", "pictures", "table.csv", "--name=mine"]) == 0
    out = capsys.readouterr().out
    assert "pictures    40; 1 missing, 1 corrupt of 39 opened: 3.jpg, 5.jpg" in out
    assert "pairs       80; 2.0 texts a picture, column 'text'" in out
    assert "labels      2 of column label; most often class0 40, class1 40" in out
    assert "split       no column: queries are drawn, seed 0; train 58, val_query 6, query 16, database 16" in out
    assert "duplicates  1 pictures have the content of another; 0 queries" in out
    written = yaml.safe_load((own / "mine.yaml").read_text())["data"]
    assert written["class_path"] == "Folder"
    assert written["init_args"]["max_corrupt"] == 2
    assert (written["init_args"]["file"], written["init_args"]["text"]) == ("file", "text")
    assert main(["init", "data", "pictures", "table.csv", "--name=mine"]) == 2
    assert "mine.yaml is there already" in capsys.readouterr().err


def test_words_that_other_programs_write_into_empty_cells_are_told(own, capsys):
    """They are labels here, so that all pairs without one would be relevant to each other."""
    text = (own / "table.csv").read_text()
    (own / "table.csv").write_text(text.replace("class1", "NA"))
    assert main(["init", "data", "pictures", "table.csv", "--name=mine"]) == 0
    assert "not empty   'NA': a label as any other; a cell without one has to be empty" in capsys.readouterr().out
    counts = ("red,owl", *(f"{row % 3},{row % 2 * 2}" for row in range(10**6)))
    (own / "numbers.csv").write_text("".join(map("{},{}\n".format, text.splitlines(), counts)))
    assert main(["init", "data", "pictures", "numbers.csv", "--name=counts", "--label=red,owl"]) == 0
    assert "not empty   'owl:0', 'red:0': a label as any other" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("cells", "separator"),
    [
        (["Wear;Top;Red", "Wear;Top;Blue", "Wear;Shoe;Red", "Bag;Clutch;Green"], ";"),  # more parts than cells
        (["bags, wallets", "shoes, flats"] * 9, None),  # names of two words
        (["a|b", "b|c", "a"], "|"),
        (["red", "blue"], None),
    ],
)
def test_separators_are_found_in_small_tables_too(cells, separator):
    assert _separator(cells) == separator


def test_labels_may_be_lists_of_which_nothing_is_split(own, capsys):
    rows = [{"file": f"{k:02}.jpg", "text": f"text {k}", "label": ["red", "blue"][: 1 + k % 2]} for k in range(24)]
    (own / "table.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert main(["init", "data", "pictures", "table.jsonl", "--name=mine"]) == 0
    assert "2 of column label; most often red 24, blue 12" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pictures", "table.csv", "--label=kind"], "has no column 'kind'; its columns are: file, label, text"),
        (["pictures", "table.csv", "--split=text"], "the roles of a split are train, val and test"),
        (["photos", "table.csv"], "there is no folder photos"),
        (["pictures", "t.csv"], "the table t.csv is not there"),
        (["tiny", "tiny.csv"], "has 12 usable pairs: 20 are the fewest"),
    ],
)
def test_a_mistake_is_one_line(own, capsys, arguments, message):
    (own / "tiny").symlink_to(own / "pictures")
    (own / "tiny.csv").write_text("".join(["file,text\n", *(f"{k}.jpg,text {k}\n" for k in range(12))]))
    assert main(["init", "data", *arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("xmodal")]
    assert message in lines[0]


def test_every_command_takes_the_file(own, capsys):
    assert main(["init", "data", "pictures", "table.csv", "--name=mine"]) == 0
    content = yaml.safe_load((own / "mine.yaml").read_text())
    content["data"]["init_args"]["text_encoder"] = {"class_path": "xmodal.encoders.BagOfWords"}
    content["trainer"] = {"max_epochs": 1}
    (own / "mine.yaml").write_text(yaml.safe_dump(content))
    small = ["--bits=8", "--gallery=false"]
    assert main(["train", "dcmh", "mine.yaml", *small]) == 0
    record = json.loads((own / "runs/dcmh/mine/8/seed0/result.json").read_text())
    assert (record["dataset"], record["labels"], record["epochs"]) == ("mine", 2, 1)
    assert main(["sweep", "dcmh", "mine.yaml", "--bits=8", "--trials=1"]) == 0
    assert (own / "experiments/dcmh/tuned/mine-8.yaml").is_file()
    assert main(["ablate", "dcmh", "mine.yaml", *small, "--seeds=0"]) == 0
    assert main(["bits", "dcmh", "mine.yaml", *small, "--seeds=0"]) == 0
    assert main(["smoke", "dcmh", "--data=mine.yaml"]) == 0
    assert main(["prepare", "mine.yaml"]) == 0
    assert main(["index", "dcmh/mine/8/seed0", "--data=mine.yaml"]) == 0
    assert (own / "runs/dcmh/mine/8/seed0/index/mine/index.json").is_file()
    capsys.readouterr()
    assert main(["compare", "--data=mine.yaml"]) == 0
    assert "dcmh    mine" in capsys.readouterr().out


def test_a_run_whose_pictures_lie_elsewhere_by_now_searches_others(own, capsys):
    """It was said not to fit this version, and a run that was copied to another machine could not be searched with."""
    assert main(["init", "data", "pictures", "table.csv", "--name=mine"]) == 0
    assert main(["train", "cca", "mine.yaml", "--dim=4", "--gallery=false"]) == 0
    (own / "pictures").rename(own / "moved")
    assert main(["index", "cca/mine/dim4/seed0", "--folder=moved"]) == 0
    assert main(["search", "runs/cca/mine/dim4/seed0/index/moved", "--text=red"]) == 0
    capsys.readouterr()
    assert main(["export", "cca/mine/dim4/seed0", "--to=npz"]) == 2
    assert said(capsys) == f"xmodal export: data.images is '{own / 'pictures'}': there is no such folder.\n"


def trained_small(own):
    """A run of CCA on `mine.yaml` with small encoders: its command, its record and what the file says."""
    assert main(["init", "data", "pictures", "table.csv", "--name=mine"]) == 0
    content = yaml.safe_load((own / "mine.yaml").read_text())
    small = {"model": "test_resnet", "weights": "random", "size": 32}
    content["data"]["init_args"] |= {
        "image_encoder": {"class_path": "xmodal.encoders.TimmImage", "init_args": small},
        "text_encoder": {"class_path": "xmodal.encoders.BagOfWords"},
    }
    (own / "mine.yaml").write_text(yaml.safe_dump(content))
    command = ["train", "cca", "mine.yaml", "--dim=4", "--gallery=false"]
    assert main(command) == 0
    record = own / "runs/cca/mine/dim4/seed0/result.json"
    return command, record, content


def test_pictures_are_known_by_their_content_not_by_name_or_place(own, capsys, monkeypatch):
    """A picture that was replaced is another one; a query of a trunk's training is one in any order and dataset."""
    command, record, content = trained_small(own)
    first, kept = json.loads(record.read_text()), {}
    learnt = read_checkpoint(record.parent / "checkpoints/best.ckpt")["callbacks"]["SameData"]["train"][0]
    picture = own / "pictures" / f"{learnt // 2}.jpg"  # two texts each
    kept[picture] = picture.read_bytes()
    picture.write_bytes(jpeg(99))  # no query
    with pytest.raises(UserError, match=r"data have changed since .*seed0 \(training_hash\): remove the folder"):
        check_data(read_result(record))
    words = ["index", str(record.parent), "--folder=pictures"]  # which are those of the training texts as they were
    for command_of_it in (["export", str(record.parent), "--to=npz"], ["index", str(record.parent)], words):
        capsys.readouterr()
        assert main(command_of_it) == 2
        assert "data have changed since" in said(capsys)
    picture.write_bytes(kept[picture])
    record.unlink()  # as if interrupted
    for number, path in enumerate((own / "pictures").iterdir(), 100):
        kept[path] = path.read_bytes()
        path.write_bytes(jpeg(number))
    capsys.readouterr()
    assert main(command) == 2
    assert "this run began with other data (relevance_hash" in said(capsys)
    for path, picture in kept.items():
        path.write_bytes(picture)
    trained = record.parent / "checkpoints/best.ckpt"
    monkeypatch.setattr(Folder, "learnt", lambda _: {trained})
    content["data"]["init_args"]["name"] = "other"
    (own / "other.yaml").write_text(yaml.safe_dump(content))
    assert main(["fit", "cca", "other.yaml", *command[3:]]) == 0, "the same queries"
    header, *rows = (own / "table.csv").read_text().splitlines()
    (own / "table.csv").write_text("\n".join([header, *reversed(rows)]))
    command = ["fit", "cca", "other.yaml", *command[3:], "--variant=reversed"]
    capsys.readouterr()
    assert main(command) == 2
    assert f"queries of this split are of pictures that {trained} was trained on" in said(capsys)
    later = own / "runs/cca/other/dim4/seed0/checkpoints/best.ckpt"
    state = read_checkpoint(later)["callbacks"]["SameData"]
    assert [each["dataset"] for each in state["knows"]] == ["mine"], "and what came before the trunk's own training"
    assert first["relevance_hash"] == state["relevance_hash"]


def test_without_labels_supervised_methods_say_so_in_one_line(own, capsys):
    assert main(["init", "data", "pictures", "table.csv", "--name=mine", "--label=none"]) == 0
    assert "relevant to a picture are its own texts" in capsys.readouterr().out
    assert main(["train", "dcmh", "mine.yaml"]) == 2
    assert "dcmh learns from labels, and these data have none: name their column in data.label" in said(capsys)
    assert main(["train", "cca", "mine.yaml", "--dim=4", "--gallery=false"]) == 0
    metrics = json.loads((own / "runs/cca/mine/dim4/seed0/result.json").read_text())["metrics"]
    assert 0 < metrics["test/map_i2t"] <= 1


def test_a_class_of_ones_own_may_fix_its_table_and_labels(own, capsys, monkeypatch):
    fixed = "table='table.csv', images='pictures', file='file', text='text', label='label'"
    start = f"def __init__(self, **kwargs: object) -> None: super().__init__({fixed}, **kwargs)"
    (own / "shop.py").write_text(f"from xmodal.data import Folder\nclass Shop(Folder):\n    name = 'shop'\n    {start}")
    monkeypatch.syspath_prepend(str(own))
    assert main(["train", "dcmh", "shop.Shop", "--bits=4", "--epochs=1", "--gallery=false"]) == 0, said(capsys)


@pytest.mark.parametrize("corrected", [(b"2.jpg,class0", b"2.jpg,class1"), (b",words of", b",words for")])
def test_another_table_is_another_configuration_and_is_never_ranked_with_the_first(own, capsys, corrected):
    """Labels or texts that were corrected between two runs: as many rows, the same split, other answers or queries."""
    command, record, _ = trained_small(own)
    first = json.loads(record.read_text())
    table = own / "table.csv"
    kept = table.read_bytes()
    table.write_bytes(kept.replace(*corrected))
    capsys.readouterr()
    assert main(command) == 2
    assert "holds a run with data.table_hash" in said(capsys)
    config = str(record.with_name("config.yaml"))
    assert main(["train", "--config", config, "--variant=again"]) == 2
    assert "table.csv has changed since this configuration was made (data.table_hash" in said(capsys)
    assert main([*command, "--variant=corrected"]) == 0
    capsys.readouterr()
    assert main(["bits", "cca", "mine.yaml", "--dim=4", "--gallery=false", "--seeds=0"]) == 2
    assert "holds a run with data.table_hash" in said(capsys), "no finished run of the old table is used again"
    again = json.loads((own / "runs/cca/mine/dim4/corrected-seed0/result.json").read_text())
    assert first["split_hash"] == again["split_hash"]
    setups = by_setup([{**first, "path": ""}, {**again, "path": "", "variant": "base"}])
    assert len({each.contest for each in setups}) == 2
    table.write_bytes(kept)
    assert main(["bits", "cca", "mine.yaml", "--dim=4", "--gallery=false", "--seeds=0"]) == 0
    assert json.loads(record.read_text()) == first


def test_a_split_that_is_not_taken_is_told(own, capsys):
    """Queries were drawn among the training pairs of the table's own split, and the report said that it has none."""
    rows = [
        f"{line},{('train', 'database', 'query')[k % 3]}"
        for k, line in enumerate((own / "table.csv").read_text().splitlines())
    ]
    (own / "table.csv").write_text("\n".join([rows[0].rsplit(",", 1)[0] + ",split", *rows[1:]]))
    assert main(["init", "data", "pictures", "table.csv"]) == 0
    line = "not taken   column 'split' holds 'database': the roles of a split are train, val and test\n"
    assert line in capsys.readouterr().out
