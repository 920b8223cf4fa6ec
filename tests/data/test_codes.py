"""Files of codes in the forms that users of hashing code hand around: one right value, whatever the form."""

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from xmodal.commands.evaluate import evaluate_file
from xmodal.data.readers.codes import read_codes
from xmodal.errors import UserError

QUERIES, ITEMS, BITS, CLASSES = 20, 70, 24, 5


def cosine_or_hamming(query, items, query_label, label):
    """Tie-aware mAP of codes or embeddings: the expectation over orders of ties, summed item by item."""
    if query.dtype == bool:
        distances = (query[:, None] != items[None]).sum(2)
    else:
        query, items = (np.asarray(each, np.float32).astype(float) for each in (query, items))
        query, items = (each / np.maximum(np.sqrt((each**2).sum(1, keepdims=True)), 1e-300) for each in (query, items))
        distances = -np.round(query @ items.T, 9)
    found = []
    for distance, wanted in zip(distances, query_label, strict=True):
        relevant = label == wanted if label.ndim == 1 else (label.astype(int) @ wanted.astype(int)) > 0
        ap, before, hits = 0.0, 0, 0
        for value in np.unique(distance):
            tied, good = int((distance == value).sum()), int(relevant[distance == value].sum())
            for place in range(1, tied + 1):  # an item at a place is relevant with good / tied
                others = (place - 1) * (good - 1) / (tied - 1) if tied > 1 else 0
                ap += good / tied * (hits + others + 1) / (before + place)
            before, hits = before + tied, hits + good
        found.append(ap / max(int(relevant.sum()), 1))
    return float(np.mean(found))


def brute(codes):
    """mAP of image queries."""
    return cosine_or_hamming(codes["q_img"] > 0, codes["r_txt"] > 0, codes["q_l"], codes["r_l"])


def codes(one_hot=True, seed=0):
    draws = np.random.default_rng(seed)
    number = np.concatenate([np.arange(CLASSES), draws.integers(CLASSES, size=QUERIES + ITEMS - CLASSES)])
    centre = draws.normal(size=(CLASSES, BITS))
    image, text = (np.where(centre[number] + draws.normal(size=(len(number), BITS)) >= 0, 1, -1) for _ in range(2))
    label = np.eye(CLASSES, dtype=int)[number] if one_hot else number + 1
    parts = {"img": image, "txt": text, "l": label}
    return {f"{k}_{p}": a[s] for k, s in (("q", slice(QUERIES)), ("r", slice(QUERIES, None))) for p, a in parts.items()}


def on_codes(change):
    return lambda arrays: {k: a if k.endswith("_l") else change(a) for k, a in arrays.items()}


def on_labels(change):
    return lambda arrays: {k: change(a) if k.endswith("_l") else a for k, a in arrays.items()}


def npz(path, arrays):
    np.savez_compressed(path.with_suffix(".npz"), **arrays)


def mat(path, arrays):
    scipy.io.savemat(path.with_suffix(".mat"), arrays)


def packed(path, arrays):
    scipy.io.savemat(path.with_suffix(".MAT"), arrays, do_compression=True, appendmat=False)


def matlab73(path, arrays):
    with h5py.File(path.with_suffix(".mat"), "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array.T.astype(float)).attrs["MATLAB_class"] = np.bytes_("double")


def sparse73(path, arrays):
    matlab73(path, {name: array for name, array in arrays.items() if not name.endswith("_l")})
    with h5py.File(path.with_suffix(".mat"), "a") as file:
        for name in ("q_l", "r_l"):
            matrix, group = scipy.sparse.csc_array(arrays[name]), file.create_group(name)
            group.attrs["MATLAB_sparse"] = np.uint64(matrix.shape[0])
            group["data"], group["ir"], group["jc"] = matrix.data.astype(float), matrix.indices, matrix.indptr


def hdf5(suffix):
    def write(path, arrays):
        with h5py.File(path.with_suffix(suffix), "w") as file:
            for name, array in arrays.items():
                file[name] = array

    return write


FORMS = {
    "h5py without MATLAB's mark": (hdf5(".mat"), None),
    "h5": (hdf5(".h5"), None),
    "v7.3": (matlab73, None),
    "v7.3, sparse labels": (sparse73, None),
    "compressed v5": (packed, None),
    "sparse labels": (mat, on_labels(scipy.sparse.csc_matrix)),
    "transposed labels": (mat, on_labels(np.transpose)),
    "all transposed": (mat, lambda arrays: {name: array.T for name, array in arrays.items()}),
    "transposed codes": (npz, on_codes(np.transpose)),
    "packed int8": (npz, on_codes(lambda a: np.packbits(a > 0, 1).view(np.int8))),
    "packed little": (npz, on_codes(lambda a: np.packbits(a > 0, 1, "little"))),
}


@pytest.mark.parametrize(("write", "change"), FORMS.values(), ids=FORMS)
def test_every_form_gives_the_number_of_brute_force(tmp_path, write, change):
    arrays = codes()
    write(tmp_path / "codes", change(arrays) if change else arrays)
    metrics = evaluate_file(next(tmp_path.iterdir())).metrics
    assert metrics["map_i2t"] == pytest.approx(brute(arrays), abs=1e-6)


NUMBERS = {
    "(1, N) of savemat": (mat, None),
    "(N, 1)": (mat, on_labels(lambda a: a[:, None])),
    "(1, N), floats": (npz, on_labels(lambda a: a[None] * 1.0)),
    "ids of 60 bits": (npz, on_labels(lambda a: a + 2**60)),
    "ids of two types": (npz, lambda a: {**a, "q_l": a["q_l"].astype(np.uint64) + 2**60, "r_l": a["r_l"] + 2**60}),
}


@pytest.mark.parametrize(("write", "change"), NUMBERS.values(), ids=NUMBERS)
def test_class_numbers_are_the_same_as_their_columns(tmp_path, write, change):
    arrays = codes(one_hot=False)
    write(tmp_path / "codes", change(arrays) if change else arrays)
    assert evaluate_file(next(tmp_path.iterdir())).metrics["map_i2t"] == pytest.approx(brute(codes()), abs=1e-6)


def test_one_query_and_one_item_may_have_several_labels(tmp_path):
    arrays = {name: array[:1] for name, array in codes().items()}
    npz(tmp_path / "codes", arrays)
    assert read_codes(tmp_path / "codes.npz").query_label.shape == (1, CLASSES)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_a_wrong_value_does_not_make_bytes_packed_bits(tmp_path, dtype):
    arrays = on_codes(lambda a: (a > 0).astype(dtype))(codes())
    arrays["r_txt"][3, 4] = 77
    npz(tmp_path / "codes", arrays)
    with pytest.raises(UserError, match=r"codes must be \+-1 or 0/1 in all four arrays"):
        read_codes(tmp_path / "codes.npz")


def test_an_axis_that_cannot_be_told_is_asked_for(tmp_path):
    square = {f"{k}_{p}": np.ones((w, 8)) for k, w in (("q", 8), ("r", 8)) for p in ("img", "txt")}
    npz(tmp_path / "codes", square | {"q_l": np.ones((3, 8)), "r_l": np.ones((3, 8))})
    with pytest.raises(UserError, match="which axis counts the items cannot be told"):
        read_codes(tmp_path / "codes.npz")


def test_a_wrong_byte_of_a_compressed_file_is_named(tmp_path):
    npz(tmp_path / "codes", codes())
    content = bytearray((tmp_path / "codes.npz").read_bytes())
    content[150] ^= 255
    (tmp_path / "codes.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"codes\.npz is damaged"):
        read_codes(tmp_path / "codes.npz")


def test_names_that_a_damaged_file_makes_stay_in_one_line(tmp_path):
    arrays = codes()
    hdf5(".h5")(tmp_path / "codes", {**arrays, "q_l\nx": arrays["q_l"]})
    with h5py.File(tmp_path / "codes.h5", "a") as file:
        del file["q_l"]
    with pytest.raises(UserError, match=r"lacks query_label \(or q_l\); it holds 'q_l\\nx', q_img"):
        read_codes(tmp_path / "codes.h5")
