"""Runs that were trained for a moment, shared by the tests of a session."""

import shutil

import pytest

from tests.conftest import CHECKOUT
from xmodal.__main__ import main

RUNS = {  # closed forms take no epochs
    "codes": ("cca", "--bits=32", "--save_codes=true"),
    "embeddings": ("cca", "--dim=16", "--save_codes=true"),
    "words": ("cca", "--bits=16", "--data.text_encoder=BagOfWords"),
    "reranking": ("attention_adversarial", "--dim=16", "--epochs=1", "--model.hidden=16", "--model.heads=2"),
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
