"""The forms of arrays and text in MATLAB's, HDF5 and numpy files; scipy reads the same where it can."""

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from xmodal import data
from xmodal.data.readers import mat5
from xmodal.data.readers.arrays import finite, listed
from xmodal.errors import UserError

DRAWS = np.random.default_rng(0)
TYPES = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")
SHAPES = ((3, 4), (1, 1), (1, 7), (7, 1), (0, 3), (2, 3, 4))
PAIRS = 40


def read(path, key):
    return next(variable for variable in listed(path) if variable.key == key).read()


@pytest.mark.filterwarnings("ignore:The default value for `spmatrix`:DeprecationWarning")  # of scipy after 1.17
@pytest.mark.parametrize("compressed", [False, True])
def test_level_5_numbers_are_those_of_scipy(tmp_path, compressed):
    arrays = {
        f"{t}_{len(s)}_{s[0]}_{s[1]}": (DRAWS.random(s) * 100).astype(t) for t in TYPES for s in SHAPES
    } | {
        f"sparse{k}": scipy.sparse.random(6, 5, 0.3 * k, format="csc", rng=k) for k in range(3)
    }  # fmt: skip
    scipy.io.savemat(tmp_path / "a.mat", arrays, do_compression=compressed)
    expected = scipy.io.loadmat(tmp_path / "a.mat")
    assert {variable.key: variable.shape for variable in listed(tmp_path / "a.mat")} == {
        name: expected[name].shape for name in arrays
    }
    for name in arrays:
        wanted = expected[name].toarray() if scipy.sparse.issparse(expected[name]) else expected[name]
        assert np.array_equal(read(tmp_path / "a.mat", name), wanted), name


def test_level_4_is_still_read(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"image": np.arange(6.0).reshape(2, 3)}, format="4")
    assert read(tmp_path / "a.mat", "image").tolist() == [[0, 1, 2], [3, 4, 5]]


TEXTS = ["a dog", "", "un caf\u00e9", "\u4e2d\u6587", "smile \U0001f600 please"]


def cells73(path, texts):
    """As MATLAB writes them: UTF-16 units in a column, the shape of an empty text instead of its content."""
    with h5py.File(path, "w", userblock_size=512) as file:
        references = np.empty((1, len(texts)), h5py.ref_dtype)
        for k, text in enumerate(texts):
            units = np.frombuffer(text.encode("utf-16-le"), np.uint16)[:, None] if text else np.zeros(2, np.uint64)
            cell = file.create_dataset(f"#refs#/{k}", data=units)
            cell.attrs["MATLAB_class"] = np.bytes_("char")
            if not text:
                cell.attrs["MATLAB_empty"] = np.uint8(1)
            references[0, k] = cell.ref
        file.create_dataset("text", data=references, dtype=h5py.ref_dtype).attrs["MATLAB_class"] = np.bytes_("cell")


def cells5(path, texts):
    scipy.io.savemat(path, {"text": np.array(texts, object)})


def empty_matrices5(path, texts):
    cells = np.empty(len(texts), object)
    cells[:] = [text or np.zeros((0, 0)) for text in texts]
    scipy.io.savemat(path, {"text": cells})


@pytest.mark.parametrize("write", [cells5, cells73, empty_matrices5])
def test_text_in_cells(tmp_path, write):
    write(tmp_path / "a.mat", TEXTS)
    assert read(tmp_path / "a.mat", "text").tolist() == TEXTS


def test_rows_of_text(tmp_path):
    rows = ["ab", "c\u00e9", "\u4e2d\u6587", "\U0001f600"]
    scipy.io.savemat(tmp_path / "a.mat", {"text": np.array(rows)})
    assert read(tmp_path / "a.mat", "text").tolist() == rows
    np.save(tmp_path / "b.npy", np.array([row.encode("latin-1", "replace") for row in rows]))
    assert read(tmp_path / "b.npy", "b").tolist() == ["ab", "c\u00e9", "??", "?"]


def units(text, encoding):
    """A variable of text whose shape counts UTF-16 units, as MATLAB itself writes it: (1, n)."""
    count, content, kind = len(text.encode("utf-16-le")) // 2, text.encode(encoding), {"utf-8": 16, "utf-16-le": 17}

    def element(number, data):
        return np.array([number, len(data)], "<u4").tobytes() + data + bytes(-len(data) % 8)

    body = element(6, np.array([4, 0], "<u4").tobytes()) + element(5, np.array([1, count], "<i4").tobytes())
    body += element(1, b"text") + element(kind[encoding], content)
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + element(14, body)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_text_whose_units_are_counted(tmp_path, encoding):
    (tmp_path / "a.mat").write_bytes(units("smile \U0001f600", encoding))
    assert read(tmp_path / "a.mat", "text").tolist() == ["smile \U0001f600"]


def test_objects_are_named_as_what_cannot_be_read(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"text": {"field": 1}, "image": np.array([1j])})
    with h5py.File(tmp_path / "b.mat", "w", userblock_size=512) as file:
        item = file.create_dataset("label", data=np.zeros((1, 6), np.uint32))
        item.attrs["MATLAB_class"], item.attrs["MATLAB_object_decode"] = np.bytes_("string"), np.int32(3)
    for path, key in (("a.mat", "text"), ("a.mat", "image"), ("b.mat", "label")):
        with pytest.raises(UserError, match=r"cannot be read here.*cellstr"):
            read(tmp_path / path, key)


LABEL = np.eye(10, dtype=np.uint8)[np.arange(PAIRS) % 10]
PLAIN = {"image": DRAWS.random((PAIRS, 8)), "text": (DRAWS.random((PAIRS, 12)) < 0.3).astype(float), "label": LABEL}


def release(root, arrays):
    root.mkdir(exist_ok=True)
    scipy.io.savemat(root / "data.mat", arrays)
    return data.IAPRTC12(root=str(root)).release


@pytest.mark.parametrize("key", [("text",), ("label",), ("text", "label")])
def test_sparse_parts_of_a_dataset(tmp_path, key):
    found = release(tmp_path, PLAIN | {name: scipy.sparse.csc_matrix(PLAIN[name]) for name in key})
    assert np.array_equal(found.text, PLAIN["text"])
    assert np.array_equal(found.label, LABEL)


def with_value(name, value, row, column=3):
    array = PLAIN[name].astype(float)
    array[row, column] = value
    return {name: array}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (with_value("image", np.nan, 11), r"image 40x8 in data\.mat holds nan in row 11"),
        (with_value("image", -np.inf, 11), r"image .* holds -inf in row 11"),
        (with_value("image", 1e300, 11), r"image .* holds 1e\+300 in row 11"),
        (with_value("text", np.nan, 20), r"text .* holds nan in row 20"),
        (with_value("label", np.nan, 7), r"label\) holds nan in row 7"),
        ({"image": with_value("image", np.nan, 5)["image"].T}, r"image .* holds nan in row 5"),
    ],
)
def test_what_is_no_number_is_refused_with_its_row(tmp_path, arrays, message):
    with pytest.raises(UserError, match=message):
        release(tmp_path, PLAIN | arrays)


def test_rows_are_counted_over_blocks(tmp_path):
    array = np.zeros((9, 2**21), np.float32)
    array[7, 5] = np.nan
    with pytest.raises(UserError, match="it holds nan in row 7, counted from 0"):
        finite(array, "it")


def test_an_object_array_is_called_one(tmp_path):
    np.save(tmp_path / "text.npy", np.array(["a", "b"], object), allow_pickle=True)
    with pytest.raises(UserError, match=r"text\.npy holds an object array, which is a pickle"):
        read(tmp_path / "text.npy", "text")


@pytest.mark.parametrize(
    ("rows", "ends"),
    [([0, 9], [0, 1, 2]), ([0, 1], [0, 2, 1]), ([0, 1], [0, 1]), ([0, 1], [0, 1, 7]), ([-1, 0], [0, 1, 2])],
)
def test_a_sparse_matrix_that_contradicts_itself_is_refused(rows, ends):
    with pytest.raises(mat5.Damaged, match="a sparse matrix"):
        mat5.dense(np.ones(2), np.array(rows), np.array(ends), 3, 2)


def test_a_virtual_dataset_whose_source_is_gone_is_no_array_of_zeros(tmp_path):
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file["x"] = np.arange(6.0)
    layout = h5py.VirtualLayout((6,), "f8")
    layout[:] = h5py.VirtualSource("source.h5", "x", (6,))
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("x", layout)
    (variable,) = listed(tmp_path / "virtual.h5")
    assert variable.read().tolist() == [0, 1, 2, 3, 4, 5]
    (tmp_path / "source.h5").unlink()
    with pytest.raises(UserError, match=r"x in .*virtual.h5 lies in another file, source.h5, which is not there"):
        variable.read()
