"""Damaged and odd files: a number that brute force gives too, or one line; never a traceback, a crash or a wait.

`XMODAL_FUZZ=3000 pytest tests/data/test_fuzz_files.py` tries more files, `XMODAL_FUZZ_FROM=5000` others.
"""

import os
import pickle
import time

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from tests.data.test_arrays import cells73
from tests.data.test_codes import cosine_or_hamming, matlab73, sparse73
from xmodal import data
from xmodal.commands.evaluate import evaluate_file
from xmodal.data.readers.arrays import listed
from xmodal.data.readers.codes import read_codes
from xmodal.errors import UserError

FILES = int(os.environ.get("XMODAL_FUZZ", "300"))
FIRST = int(os.environ.get("XMODAL_FUZZ_FROM", "0"))
SLOW = 60  # seconds of the processor for one small file: HDF5 needs a few where the sizes of text are damaged
KEYS = ("q_img", "q_txt", "r_img", "r_txt", "q_l", "r_l")


def arrays(draws):
    """Codes or embeddings with labels or class numbers, in any type."""
    queries, items, bits, classes = (int(draws.integers(low, high)) for low, high in ((2, 6), (6, 16), (8, 33), (2, 5)))
    number = draws.integers(classes, size=queries + items)
    sides = [draws.normal(size=(queries + items, bits)) + number[:, None] % 3 - 1 for _ in range(2)]
    form = draws.integers(5)
    if form < 2:
        sides = [np.where(side > 0, 1, -1).astype(draws.choice(["i1", "f4", "f8", "i8"])) for side in sides]
    elif form < 4:
        sides = [(side > 0).astype(draws.choice(["u1", "?", "f4"])) for side in sides]
    label = number + int(draws.integers(2)) if draws.random() < 0.3 else np.eye(classes)[number]
    cut = {"q": slice(queries), "r": slice(queries, None)}
    return {
        f"{k}_{name}": each[cut[k]]
        for k in "qr"
        for name, each in zip(("img", "txt", "l"), (*sides, label), strict=True)
    }


def odd(found, draws):
    """Another type, shape or value of one array, or one less."""
    name = draws.choice(KEYS)
    array = found[name]
    changes = [
        lambda: array.astype(draws.choice(["f2", "f4", "i2", "u8", "c16", "?"])),
        lambda: array.T,
        lambda: array[None],
        lambda: array[:0],
        lambda: array.ravel(),
        lambda: array[:-1],
        lambda: array.astype(str),
        lambda: np.where(draws.random(array.shape) < 0.1, draws.choice([np.nan, np.inf, 0, 3, 1e300, -1e-300]), array),
        lambda: array * draws.choice([2, 0, -1, 1e200]),
        lambda: np.array(7),
    ]
    with np.errstate(all="ignore"):
        changed = changes[draws.integers(len(changes))]()
    return {**found, name: changed} if draws.random() < 0.9 else {k: v for k, v in found.items() if k != name}


def npz(path, found):
    np.savez(path.with_suffix(".npz"), **found)


def compressed(path, found):
    np.savez_compressed(path.with_suffix(".npz"), **found)


def mat(path, found):
    scipy.io.savemat(path.with_suffix(".mat"), found)


def mat_compressed(path, found):
    scipy.io.savemat(path.with_suffix(".mat"), found, do_compression=True)


def mat_sparse(path, found):
    scipy.io.savemat(
        path.with_suffix(".mat"), {k: scipy.sparse.csc_matrix(v) if k[-1] == "l" else v for k, v in found.items()}
    )


def level4(path, found):
    scipy.io.savemat(path.with_suffix(".mat"), {k: np.atleast_2d(v) for k, v in found.items()}, format="4")


def h5(path, found):
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        for name, array in found.items():
            file.create_dataset(
                name, data=array, compression="gzip" if array.ndim else None, shuffle=True if array.ndim else None
            )


def pkl(path, found):
    path.with_suffix(".pkl").write_bytes(pickle.dumps(found))


WRITERS = (npz, compressed, mat, mat_compressed, mat_sparse, level4, matlab73, sparse73, h5, pkl)


def damage(content, draws):
    """Flip, overwrite, zero, cut, repeat or exchange some bytes."""
    raw = bytearray(content)
    place, length = int(draws.integers(len(raw))), int(draws.integers(1, 40))
    kind = draws.integers(6)
    if kind == 0:
        raw[place] ^= 1 << int(draws.integers(8))
    elif kind == 1:
        raw[place : place + length] = draws.bytes(len(raw[place : place + length]))
    elif kind == 2:
        raw[place : place + length] = bytes(len(raw[place : place + length]))
    elif kind == 3:
        del raw[place:]
    elif kind == 4:
        raw[place:place] = raw[place : place + length]
    else:
        other = int(draws.integers(len(raw)))
        raw[place], raw[other] = raw[other], raw[place]
    return bytes(raw)


def write(folder, draws):
    """A file of any form, half of them with odd arrays, most with damaged bytes."""
    found = arrays(draws)
    is_odd = draws.random() < 0.4
    try:
        WRITERS[draws.integers(len(WRITERS))](folder / "codes", odd(found, draws) if is_odd else found)
    except (TypeError, ValueError, KeyError, IndexError, RuntimeWarning):  # a form that does not hold such an array
        npz(folder / "codes", found)
    path = next(folder.iterdir())
    if not is_odd or draws.random() < 0.3:
        path.write_bytes(damage(path.read_bytes(), draws))
    return path


def tried(read):
    """What is read, or the one line that says why not."""
    try:
        return read(), ""
    except UserError as error:
        return None, str(error)


@pytest.mark.timeout(max(300, FILES))
def test_files_of_codes(tmp_path):
    numbers = 0
    for seed in range(FIRST, FIRST + FILES):
        draws, folder, started = np.random.default_rng(seed), tmp_path / str(seed), time.process_time()
        folder.mkdir()
        path = write(folder, draws)
        metrics, refusal = tried(lambda: evaluate_file(path).metrics)  # noqa: B023 - called at once
        assert "\n" not in refusal, (seed, path.name)
        assert bool(metrics) != (str(path) in refusal), (seed, refusal)
        if metrics:
            codes = read_codes(path)
            for direction, query, items in (("i2t", "image", "text"), ("t2i", "text", "image")):
                sides = codes.outputs[f"query_{query}"], codes.outputs[f"database_{items}"]
                expected = cosine_or_hamming(*sides, codes.query_label, codes.database_label)
                assert metrics[f"map_{direction}"] == pytest.approx(expected, abs=1e-4), (seed, path.name)
            numbers += 1
        assert time.process_time() - started < SLOW, (seed, path.name)
        for left in folder.iterdir():
            left.unlink()
    assert FILES // 10 < numbers < FILES


def text_arrays(draws):
    pairs = int(draws.integers(4, 9))
    texts = [" ".join(draws.choice(["a", "dog", "caf\u00e9", "\u4e2d", "\U0001f600", ""], 3)) for _ in range(pairs)]
    label = np.eye(pairs)[:, : max(pairs - 1, 1)]
    label[-1, 0] = 1
    return {"image": draws.normal(size=(pairs, 4)), "text": np.array(texts, object), "label": label}


@pytest.mark.timeout(max(300, FILES))
def test_files_of_a_dataset(tmp_path):
    read = 0
    for seed in range(FIRST, FIRST + FILES // 2):
        draws, folder, started = np.random.default_rng(10**6 + seed), tmp_path / str(seed), time.process_time()
        folder.mkdir()
        found = text_arrays(draws)
        path = folder / "data.mat"
        if seed % 3:
            scipy.io.savemat(path, found, do_compression=bool(seed % 2))
        else:
            cells73(path, found["text"].tolist())
            with h5py.File(path, "a") as file:
                file["image"], file["label"] = found["image"], found["label"]
        path.write_bytes(damage(path.read_bytes(), draws))
        release, refusal = tried(lambda: data.IAPRTC12(root=str(folder)).release)  # noqa: B023
        if release:
            assert len(release.label) <= len(found["label"])
            assert np.isfinite(release.image).all()
            read += 1
        for variable in tried(lambda: listed(path))[0] or ():  # noqa: B023
            refusal += tried(variable.read)[1]
        assert "\n" not in refusal, (seed, refusal)
        assert bool(release) or path.name in refusal or str(folder) in refusal, (seed, refusal)
        assert time.process_time() - started < SLOW, seed
    assert read
