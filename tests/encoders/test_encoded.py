"""Features that are encoded chunk by chunk: resumed after a kill, corrupt items marked."""

import multiprocessing
import os
import signal
import sys
import time
from importlib import import_module

import numpy as np
import pytest
import torch
from PIL import Image

from xmodal.encoders import encode_images, encoded
from xmodal.errors import UserError


def double(items):
    return {"pooled": np.array([[2 * item, 1] for item in items], np.float16), "tokens": np.zeros((len(items), 3, 2))}


def test_every_item_has_its_row_whatever_the_chunks(tmp_path):
    arrays = encoded(tmp_path, "double", {}, list(range(11)), lambda: double, chunk=4)
    assert arrays["pooled"][:, 0].tolist() == [2 * k for k in range(11)]
    assert isinstance(arrays["pooled"], np.memmap)
    assert not arrays["missing"].any()
    again = encoded(tmp_path, "double", {}, list(range(11)), lambda: pytest.fail("encoded twice"), chunk=4)
    assert again["tokens"].shape == (11, 3, 2)


def test_a_run_that_encodes_draws_as_one_that_finds_the_features(tmp_path):
    def opened():
        torch.nn.Linear(3, 3)  # a trunk, whose weights are drawn before others are loaded
        return double

    before = torch.get_rng_state()
    encoded(tmp_path, "double", {}, [1, 2], opened)
    assert torch.equal(torch.get_rng_state(), before)


OWN = """
import numpy as np
from xmodal.encoders import ImageEncoder

class Flat(ImageEncoder):
    name, batch_size = "flat", 8

    def key(self):
        return {"encoder": "flat"}

    def open(self):
        return lambda images: {"pooled": np.full((len(images), 2), VALUE, np.float16)}
"""


def test_an_encoder_of_ones_own_that_is_edited_encodes_anew(tmp_path, monkeypatch):
    """Its old features were read beside the hash of its new code, in silence."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for value in ("1", "22"):
        (tmp_path / "flat_encoder.py").write_text(OWN.replace("VALUE", value))
        monkeypatch.delitem(sys.modules, "flat_encoder", raising=False)
        own = import_module("flat_encoder").Flat()
        found = encode_images(tmp_path / "features", {}, own, [Image.new("RGB", (2, 2))] * 3)
        assert found["pooled"].tolist() == [[float(value)] * 2] * 3


def test_only_what_is_asked_for_is_kept(tmp_path):
    arrays = encoded(tmp_path, "double", {}, [1, 2], lambda: double, keep=("pooled",))
    assert sorted(arrays) == ["missing", "pooled"]


@pytest.mark.parametrize("gone", [{0, 1, 2, 3}, {5}, {10}])
def test_corrupt_items_are_marked_and_zero(tmp_path, gone):
    items = [None if k in gone else k for k in range(11)]
    arrays = encoded(tmp_path, "double", {}, items, lambda: double, chunk=3)
    assert set(np.flatnonzero(arrays["missing"])) == gone
    assert arrays["pooled"][:, 1].tolist() == [float(k not in gone) for k in range(11)]


def test_nothing_but_corrupt_items_is_an_error(tmp_path):
    with pytest.raises(UserError, match="none of the 3 items can be encoded"):
        encoded(tmp_path, "double", {}, [None] * 3, lambda: double)
    assert not list(tmp_path.glob("double-*"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_in_half_precision_are_refused(tmp_path, value):
    """They were said to be a training that diverged, which ought to learn more slowly, or a singular covariance."""
    with pytest.raises(UserError, match="double gives NaN, or numbers beyond float16, for one of the items 4 to 5"):
        encoded(tmp_path, "double", {}, [0, 1, 2, 3, 4, value], lambda: double, chunk=4)


def _crawl(folder, log):
    def slowly(items):
        log.extend(items)
        time.sleep(0.02)
        return double(items)

    encoded(folder, "double", {}, list(range(400)), lambda: slowly, chunk=2)


def test_a_killed_run_goes_on_from_its_last_mark(tmp_path):
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_crawl, args=(tmp_path, []))
    process.start()
    while not list(tmp_path.glob(".double-*.partial/done")):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not list(tmp_path.glob("double-*"))
    done = int(next(tmp_path.glob(".double-*.partial/done")).read_text())
    seen = []

    def counted(items):
        seen.extend(items)
        return double(items)

    arrays = encoded(tmp_path, "double", {}, list(range(400)), lambda: counted, chunk=7)
    assert seen == list(range(done, 400))
    assert done >= 16
    assert arrays["pooled"][:, 0].tolist() == [2 * k for k in range(400)]


def test_a_copy_of_half_an_encoding_that_ended_early_is_refused(tmp_path):
    """numpy fills up a file that is cut where it may write: rows of zeros stood for what was encoded."""
    with pytest.raises(KeyboardInterrupt):
        encoded(tmp_path, "double", {}, [*range(39), "stop"], lambda: _stops, chunk=2)
    pooled = next(tmp_path.glob(".double-*.partial/pooled.npy"))
    pooled.write_bytes(pooled.read_bytes()[:140])
    with pytest.raises(UserError, match=r"pooled\.npy are damaged"):
        encoded(tmp_path, "double", {}, list(range(40)), lambda: double, chunk=2)


def _stops(items):
    if "stop" in items:
        raise KeyboardInterrupt
    return double(items)


def test_an_error_keeps_what_was_done(tmp_path):
    class Stops(list):
        def __getitem__(self, position):
            if position == 390:
                raise UserError("picture 390 is corrupt")
            return super().__getitem__(position)

    with pytest.raises(UserError, match="picture 390"):
        encoded(tmp_path, "double", {}, Stops(range(400)), lambda: double, chunk=4)
    assert int(next(tmp_path.glob(".double-*.partial/done")).read_text()) >= 300
