"""An index on the disk: it is written whole or not at all."""

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


def test_an_index_is_replaced_whole(trained, index, pictures):
    out = index("codes", "--folder", pictures)
    assert index("codes", "--kind", "hnsw") == out
    found = Index.open(out)
    assert found.about["kind"] == "hnsw"
    assert len(found.ids["text"]) == 400
    assert sorted(path.name for path in out.parent.iterdir()) == [".codes.lock", "codes"]
