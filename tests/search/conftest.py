"""Runs that were trained for a moment, shared by the tests of a session."""

import csv
import shutil

import pytest

from tests.conftest import CHECKOUT
from xmodal.__main__ import main
from xmodal.search import Trained


def clip(side):
    """A small open_clip trunk with random weights for a side."""
    key, model = f"--data.{side}_encoder", CHECKOUT / "experiments" / "pretrain" / "small-clip.json"
    return f"{key}=OpenClip{side.capitalize()}", f"{key}.model={model}", f"{key}.weights=random"


RUNS = {  # closed forms take no epochs
    "codes": ("cca", "--bits=32", "--save_codes=true"),
    "embeddings": ("cca", "--dim=16", "--save_codes=true"),
    "words": ("cca", "--bits=16", "--data.text_encoder=BagOfWords", *clip("image")),
    "half": (
        "dscmr",
        "--dim=16",
        "--epochs=1",
        "--data.subset=64",
        "--save_codes=true",
        "--trainer.precision=bf16-mixed",
    ),
    "reranking": (
        *("attention_adversarial", "--dim=16", "--epochs=1", "--model.hidden=16", "--model.heads=2"),
        *(*clip("text"), "--data.text_encoder.max_tokens=16"),
    ),
}


@pytest.fixture(scope="session")
def search_home(tmp_path_factory):
    """A home whose runs stay for the session."""
    home = tmp_path_factory.mktemp("search")
    for name in ("experiments", "sweeps"):
        shutil.copytree(CHECKOUT / name, home / name)
    return home


@pytest.fixture
def trained(search_home, monkeypatch):
    """Gives the folder of one of `RUNS`, which is trained when it is first asked for."""
    monkeypatch.setenv("XMODAL_HOME", str(search_home))
    monkeypatch.setenv("XMODAL_DATA", str(CHECKOUT / "data"))

    def folder(name):
        method, *options = RUNS[name]
        found = search_home / "runs" / name
        if not (found / "result.json").is_file():
            own = [f"--trainer.default_root_dir={found}", "--gallery=false"]
            assert main(["train", method, "emoji", *options, *own]) == 0
        return found

    return folder


def run(capsys, *argv):
    capsys.readouterr()
    code = main([str(each) for each in argv])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.fixture
def index(trained, capsys, tmp_path):
    """Gives an index of one of the runs, and its folder."""

    def build(name, *options):
        out = tmp_path / "indexes" / name
        code, printed, _ = run(capsys, "index", trained(name), "--out", out, *options)
        assert (code, printed) == (0, f"{out}\n")
        return out

    return build


@pytest.fixture
def pictures(trained, tmp_path):
    """A folder of twelve drawings, in files of several kinds, and a table of their names."""
    data = Trained.open(trained("codes")).data
    folder, rows = tmp_path / "pictures", []
    (folder / "deep").mkdir(parents=True)
    for place, position in enumerate(data.positions("query")[:12].tolist()):
        name = f"deep/{place:02}.webp" if place % 2 else f"{place:02}.png"
        data.picture(position).save(folder / name, lossless=True)
        rows.append((name, data.caption(position)))
    with (tmp_path / "captions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "text"), *rows])
    return folder
