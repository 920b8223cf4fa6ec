"""Annotations of datasets with an odd value, line, encoding or byte: pairs that can be used, or one line.

`XMODAL_FUZZ=3000 pytest tests/data/test_fuzz_annotations.py` tries more, `XMODAL_FUZZ_FROM=5000` others.
"""

import io
import json
import os
import random
import time
from functools import partial

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from tests.data import make, make_dialects
from tests.data.test_damaged import flickr, karpathy, nuswide
from tests.data.test_fuzz_files import SLOW, damage, tried
from tests.data.test_listing import write
from xmodal import data
from xmodal.data.readers.listing import read_listing
from xmodal.errors import UserError

FILES = int(os.environ.get("XMODAL_FUZZ", "300"))
FIRST = int(os.environ.get("XMODAL_FUZZ_FROM", "0"))
FORMS = ("csv", "semicolon", "tsv", "jsonl", "parquet", "shards")
HALF = "\ud83d"  # of a pair of UTF-16 units, as a text that was cut ends with
VALUES = [None, [], {}, [None], {"a": 1}, 0, -1, 1.5, 10**30, float("nan"), float("inf"), True, "", "x", " "]
VALUES += [HALF, "../x"]
LINES = ["", " ", "x", "-1", "nan", "1e99", "0", ",,,", '"', "\0", "é", "\u2028", "a\tb", "1,2", "#0\t", "2**3"]
LINES += ["x" * 9999]
ARRAYS = [np.array(7), np.zeros((0, 6, 20)), np.array(["a", "b"]), np.full((4, 6, 20), np.nan)]
ARRAYS += [np.zeros((4, 6, 20), "c16")]


def release(module, **options):
    """A reader that gives texts and labels of a folder."""

    def read(root):
        found = module(root=str(root), **options).release
        return found.text, found.label, found.label_names

    return read


def listing(pattern, **options):
    """A reader of a table of one's own."""

    def read(root):
        found = read_listing(next(root.glob(pattern)), **options)
        return found.texts, *found.multi_hot()[:2]

    return read


KINDS = {
    "coco": (make.coco, release(data.MSCOCO)),
    "flickr8k": (flickr, release(data.Flickr8k)),
    "results": (lambda root: make.flickr_captions(root, "results"), release(data.Flickr30k)),
    "token": (lambda root: make.flickr_captions(root, "token"), release(data.Flickr8k)),
    "karpathy": (karpathy, release(data.Flickr30k)),
    "scan": (make.scan, release(data.Flickr30k)),
    "fashion": (lambda root: make.fashion(root, 101), release(data.Fashion)),
    "nuswide": (nuswide, release(data.NUSWide, text="words")),
    "nuswide vectors": (nuswide, release(data.NUSWide)),
    "nuswide 10k": (make.nuswide_10k, release(data.NUSWide, selection="10k")),
    "iapr": (make.iapr, release(data.IAPRTC12)),
    "clip4cmr": (make_dialects.clip4cmr, release(data.NUSWide, selection="10k")),
    "own coco": (make.coco, listing("annotations", label="category")),
    **{form: (partial(write, form=form), listing("pairs*", label="label")) for form in FORMS},
}


def node(content, draw):
    """A list or mapping inside, and a place in it."""
    while True:
        key = draw.choice(list(content) if isinstance(content, dict) else range(len(content)))
        if not content[key] or not isinstance(content[key], (dict, list)) or draw.random() < 0.2:
            return content, key
        content = content[key]


def odd_json(text, draw):
    content = json.loads(text)
    if not isinstance(content, (dict, list)):
        return json.dumps(draw.choice(VALUES)).encode()
    holder, key = node(content, draw)
    change = draw.randrange(3)
    if change == 0:
        del holder[key]
    elif change == 1 and isinstance(holder, list):
        holder.append(holder[key])
    else:
        holder[key] = draw.choice(VALUES)
    return json.dumps(content).encode()


def odd_text(text, draw):
    lines = text.split("\n")
    place = draw.randrange(len(lines))
    change = draw.randrange(6)
    if change == 0:
        del lines[place]
    elif change == 1:
        lines.insert(place, draw.choice([*lines, *LINES]))
    elif change == 2:
        lines[place] = draw.choice(LINES)
    elif change == 3:  # one cell
        cells = lines[place].split(mark := draw.choice(",\t|: "))
        cells[draw.randrange(len(cells))] = draw.choice(LINES)
        lines[place] = mark.join(cells)
    elif change == 4:
        return text.encode(draw.choice(["utf-16", "utf-16-le", "utf-8-sig", "latin-1", "utf-32"]), "replace")
    else:
        return draw.choice(["\r\n", "\r", "\n\n", "\u2028"]).join(lines).encode()
    return "\n".join(lines).encode()


def odd_bytes(path, content, seed):
    """Another content of one file of a dataset."""
    draw, draws = random.Random(seed), np.random.default_rng(seed)
    if draw.random() < 0.05:
        return b""
    if path.suffix == ".npy" and draw.random() < 0.6:
        buffer = io.BytesIO()
        np.save(buffer, draw.choice(ARRAYS))
        return buffer.getvalue()
    if path.suffix in (".zip", ".npy", ".mat", ".pkl", ".hvecs", ".parquet", ".tar") or draw.random() < 0.1:
        return damage(content, draws)
    return (odd_json if path.suffix == ".json" else odd_text)(content.decode(), draw)


@pytest.mark.timeout(max(300, FILES))
@pytest.mark.parametrize("kind", KINDS)
def test_odd_annotations(tmp_path, kind):
    writer, read = KINDS[kind]
    writer(tmp_path)
    files = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    assert len(read(tmp_path)[0])
    for seed in range(FIRST, FIRST + -(-FILES // len(KINDS))):
        draw, started = random.Random(f"{kind} {seed}"), time.process_time()
        path = draw.choice([path for path in files if path.suffix != ".zip" or draw.random() < 0.1] or list(files))
        path.write_bytes(odd_bytes(path, files[path], draw.randrange(2**32)))
        found, refusal = tried(lambda: read(tmp_path))
        assert "\n" not in refusal, (seed, path, refusal)
        if found:
            texts, label, names = found
            assert len(label), (seed, path)
            assert label.any(1).all(), (seed, path)
            if not isinstance(texts, np.ndarray):
                assert "None" not in texts
                "".join([*texts, *names]).encode()
        assert time.process_time() - started < SLOW, (seed, path)
        path.write_bytes(files[path])


COCO = {"images": [{"id": 1, "file_name": "1.jpg"}, {"id": "2", "file_name": "2.jpg"}], "annotations": []}
MARKS = [{"image_id": "1", "caption": "a \ud83d cat"}, {"image_id": 2, "caption": None}]


def parquet(**columns):
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(list(columns.values()), [name.strip("_") for name in columns]), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "t.json",
            {**COCO, "annotations": MARKS},
            ["a ? cat"],
        ),  # ids of two types, half a pair, a caption that is none
        ("t.json", {"images": [{"filename": f"{k}.jpg", "sentences": [{"raw": f"{k}"}]} for k in (1, 2)]}, ["1", "2"]),
        ("t.json", {"images": [{"id": 1, "file_name": "1.jpg"}, {"id": 1, "file_name": "2.jpg"}]}, "one id, 1"),
        ("t.jsonl", b'{"file": "1.jpg", "text": {"en": "a cat"}}', "a cell holds .* text or a number is expected"),
        ("t.csv", b"file,text,,\n1.jpg,a cat,,\n", ["a cat"]),  # columns without a name
        ("t.parquet", parquet(file=["1.jpg"], text=pyarrow.array([b"a cat"])), ["a cat"]),  # text called bytes
        ("t.parquet", parquet(file=["1.jpg"], text=["x"], t=pyarrow.array([1], pyarrow.timestamp("ns"))), ["x"]),
        ("t.parquet", parquet(file=["1.jpg"], text=["x"], text_=["y"]), "names a column twice: text"),
    ],
)
def test_what_the_fuzzer_and_fresh_eyes_found(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            read_listing(tmp_path / name)
    else:
        assert read_listing(tmp_path / name).texts == expected
