import errno
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

from xmodal.encoders import cache, cached
from xmodal.errors import UserError


def test_built_once_and_mapped_afterwards(tmp_path):
    calls = []

    def build():
        calls.append(1)
        return {"pooled": np.arange(6, dtype=np.float16).reshape(2, 3)}

    for _ in range(2):
        arrays = cached(tmp_path, "encoder", {"size": 1}, build)
    assert len(calls) == 1
    assert isinstance(arrays["pooled"], np.memmap)
    assert arrays["pooled"].tolist() == [[0, 1, 2], [3, 4, 5]]
    cached(tmp_path, "encoder", {"size": 2}, build)
    assert len(calls) == 2


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_a_truncated_file_is_named_with_the_way_out(tmp_path, keep):
    cached(tmp_path, "encoder", {}, lambda: {"pooled": np.zeros((100, 3))})
    path = next(tmp_path.glob("encoder-*/pooled.npy"))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=rf"{path}.*damaged.*Delete the folder {path.parent}"):
        cached(tmp_path, "encoder", {}, dict)


@pytest.mark.parametrize("name", ["mask.npy", "key.json"])
def test_a_copy_that_ended_early_is_refused(tmp_path, name):
    """Tokens without their mask are other numbers, under the same hash of inputs."""
    arrays = {"pooled": np.ones(3), "mask": np.ones(3)}
    assert cached(tmp_path, "encoder", {}, lambda: arrays).keys() == arrays.keys()
    next(tmp_path.glob(f"encoder-*/{name}")).unlink()
    with pytest.raises(UserError, match=rf"encoder-.* lack {name.removesuffix('.npy')}: .*Delete it"):
        cached(tmp_path, "encoder", {}, dict)


def _slow(folder):
    def build():
        time.sleep(60)
        return {}

    cached(folder, "encoder", {}, build)


def test_a_killed_build_leaves_nothing_and_blocks_nobody(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=_slow, args=(tmp_path,))
    process.start()
    while not list(tmp_path.glob(".*.lock")):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not list(tmp_path.glob("encoder-*"))
    assert cached(tmp_path, "encoder", {}, lambda: {"pooled": np.ones(1)})["pooled"].tolist() == [1]


def test_a_failed_build_leaves_no_cache(tmp_path):
    with pytest.raises(RuntimeError, match="no"):
        cached(tmp_path, "encoder", {}, lambda: (_ for _ in ()).throw(RuntimeError("no")))
    assert not list(tmp_path.glob("encoder-*"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_is_said(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot write the feature cache"):
        cached(tmp_path / "deeper", "encoder", {}, dict)


def test_a_file_in_the_place_of_the_folder_is_said(tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(UserError, match="cannot write the feature cache"):
        cached(tmp_path / "data", "encoder", {}, dict)


def test_a_full_disk_is_said_before_a_write_through_a_memory_map_kills_the_process(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    items = [np.ones(3), np.zeros(3)]
    monkeypatch.setattr(cache.os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"cannot write the feature cache: .*No space left.* Make .* with room"):
        cache.encoded(tmp_path, "encoder", {}, items, lambda: lambda some: {"pooled": np.stack(some)})
    assert not list(tmp_path.glob("encoder-*"))
    monkeypatch.undo()
    found = cache.encoded(tmp_path, "encoder", {}, items, lambda: lambda some: {"pooled": np.stack(some)})
    assert found["pooled"].tolist() == [[1, 1, 1], [0, 0, 0]]
