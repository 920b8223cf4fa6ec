"""An index on the disk: it is written whole or not at all."""

import os
import resource
import shutil
import signal
from types import SimpleNamespace

from tests.search.conftest import run
from xmodal.search import Index


def test_a_full_disk_is_said_and_leaves_the_old_index(trained, index, pictures, capsys, monkeypatch):
    out = index("codes", "--folder", pictures)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
        code, _, err = run(capsys, "index", trained("codes"), "--out", out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert code == 2
    assert "cannot write" in err.splitlines()[-1]
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert not list(out.parent.glob(".codes.*.partial"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=64 * 2**20 + 5))
    code, _, err = run(capsys, "index", trained("codes"), "--out", out)
    assert (code, "MiB in" in err and "are free: make room" in err) == (2, True)


def test_a_dataset_that_is_named_is_that_of_its_name(index):
    """A run on a part of it indexed that part: 16 of 400 pairs, in silence."""
    counts = [len(Index.open(index("half", *more)).ids["text"]) for more in ((), ("--data", "emoji"))]
    assert counts == [16, 400]


def test_an_index_is_replaced_whole(trained, index, pictures):
    out = index("codes", "--folder", pictures)
    assert index("codes", "--kind", "hnsw") == out
    found = Index.open(out)
    assert found.about["kind"] == "hnsw"
    assert len(found.ids["text"]) == 400
    assert sorted(path.name for path in out.parent.iterdir()) == [".codes.lock", "codes"]


def test_an_index_takes_the_place_of_no_other_folders(trained, pictures, capsys):
    """Folders are named by their last part: an index of b/pictures replaced that of a/pictures, in silence."""
    folder, other = trained("codes"), pictures.parent / "other" / pictures.name
    shutil.copytree(pictures, other)
    assert run(capsys, "index", folder, "--folder", pictures)[0] == 0
    assert run(capsys, "index", folder, "--folder", pictures)[0] == 0
    out = folder / "index" / pictures.name
    code, printed, err = run(capsys, "index", folder, "--folder", other)
    assert (code, printed) == (2, "")
    assert f"{out} is an index of {pictures}: delete it, or name another folder with --out" in err
    other = other.rename(other.with_name("emoji"))  # as the dataset is called
    assert run(capsys, "index", folder)[0] == 0
    code, _, err = run(capsys, "index", folder, "--folder", other)
    assert (code, "is an index of emoji: delete it" in err) == (2, True)
    shutil.rmtree(folder / "index")


def test_a_picture_whose_name_is_no_text_is_named(trained, pictures, capsys):
    shutil.copyfile(os.fsencode(pictures / "00.png"), os.fsencode(pictures) + b"/caf\xe9.png")
    code, _, err = run(capsys, "index", trained("codes"), "--folder", pictures)
    assert (code, r"holds 'caf\udce9.png', a name that is no UTF-8: rename it" in err) == (2, True)
