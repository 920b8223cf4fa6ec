"""`xmodal evaluate` on files as people have them, and on files that are wrong."""

import json

import h5py
import numpy as np
import pytest
import scipy.io
import torch

from xmodal.__main__ import main as command
from xmodal.data.readers.codes import NAMES
from xmodal.metrics import retrieval_metrics

QUERIES, ITEMS, BITS = 12, 60, 16


def main(argv):
    return command(["evaluate", *argv])


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    label = (rng.random((QUERIES + ITEMS, 5)) < 0.3).astype(np.uint8)
    label[:, 0] |= ~label.any(1)
    outputs = [label @ rng.normal(size=(5, BITS)) + rng.normal(size=(QUERIES + ITEMS, BITS)) for _ in range(2)]
    image, text = (np.where(output >= 0, 1.0, -1.0) for output in outputs)
    parts = {"query": slice(0, QUERIES), "database": slice(QUERIES, None)}
    named = {"image": image, "text": text, "label": label}
    return {f"{split}_{name}": array[rows] for name, array in named.items() for split, rows in parts.items()}


@pytest.fixture
def expected(arrays):
    metrics = retrieval_metrics("binary")
    rows = torch.arange(QUERIES + ITEMS)  # different pairs
    for split, index in (("query", rows[:QUERIES]), ("database", rows[QUERIES:])):
        columns = {name: torch.from_numpy(arrays[f"{split}_{name}"]) for name in ("image", "text", "label")}
        metrics.update(split=split, index=index, **columns)
    return {key: float(value) for key, value in metrics.compute().items()}


def saved(path, arrays):
    np.savez(path, **arrays)
    return str(path)


def changed(arrays, function):
    """The same with a function applied to the codes."""
    return {name: array if name.endswith("label") else function(array) for name, array in arrays.items()}


def printed(capsys, *argv):
    assert main([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "form",
    [
        lambda codes: codes,
        lambda codes: codes.astype(np.int8),
        lambda codes: (codes > 0).astype(np.uint8),
        lambda codes: codes > 0,
        lambda codes: (codes > 0).astype(np.float32),
        lambda codes: np.packbits(codes > 0, axis=1),
        lambda codes: np.packbits(codes > 0, axis=1).view(np.uint16),
    ],
    ids=["+-1", "int8", "0/1", "bool", "float 0/1", "packed", "packed words"],
)
def test_every_form_of_codes_is_the_same(tmp_path, capsys, arrays, expected, form):
    record = printed(capsys, saved(tmp_path / "codes.npz", changed(arrays, form)))
    assert {key: record[key] for key in expected} == expected
    assert record["kind"] == "binary"
    bits = arrays["query_image"].shape[1]
    packed = form(arrays["query_image"]).shape[1] < bits
    words = f"codes of {bits} bits{', packed in bytes; embeddings are given as floating point numbers' * packed}"
    assert record["taken"] == f"{words}; Hamming distance"
    assert set(record["conventions"]) == set(expected)


def test_matlab_files_and_exported_names(tmp_path, capsys, arrays, expected):
    scipy.io.savemat(tmp_path / "old.mat", {NAMES[name]: array for name, array in arrays.items()})
    with h5py.File(tmp_path / "new.mat", "w") as file:
        for name, array in arrays.items():
            file[NAMES[name]] = array.T
    for name in ("old.mat", "new.mat"):
        assert printed(capsys, str(tmp_path / name))["map_i2t"] == expected["map_i2t"]


def test_embeddings_and_class_numbers(tmp_path, capsys, arrays):
    rng = np.random.default_rng(1)
    real = changed(arrays, lambda codes: codes + rng.normal(size=codes.shape))
    classes = {name: array.argmax(1) for name, array in real.items() if name.endswith("label")}
    one_hot = {name: np.eye(5, dtype=int)[array] for name, array in classes.items()}
    record = printed(capsys, saved(tmp_path / "classes.npz", real | classes))
    assert record["kind"] == "real"
    assert "precision_radius2_i2t" not in record
    assert record["map_t2i"] == printed(capsys, saved(tmp_path / "hot.npz", real | one_hot))["map_t2i"]


def test_text_names_every_convention(tmp_path, capsys, arrays, expected):
    assert main([saved(tmp_path / "codes.npz", arrays)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(expected)
    line = next(line for line in lines if line.startswith("map_i2t "))
    assert f"{expected['map_i2t']:.6f}  mAP over the whole database" in line
    assert "95% interval" in line


def test_two_files_are_compared_query_by_query(tmp_path, capsys, arrays):
    good, same = saved(tmp_path / "good.npz", arrays), saved(tmp_path / "same.npz", arrays)
    rng = np.random.default_rng(2)
    poor = saved(tmp_path / "poor.npz", changed(arrays, lambda codes: rng.permutation(codes)))
    tests = printed(capsys, good, same, poor)["paired_tests"]
    assert [test["files"][1] for test in tests] == [same, poor]
    assert tests[0]["map_i2t"]["p_value"] == 1
    assert tests[1]["map_i2t"]["difference"] > 0
    assert main([good, poor]) == 0
    assert f"{good} minus {poor}: paired randomisation test" in capsys.readouterr().out


def test_two_files_that_name_other_pairs_are_not_compared(tmp_path, capsys, arrays):
    def file(name, first):
        index = {"query_index": first + np.arange(QUERIES), "database_index": 100 + np.arange(ITEMS)}
        return saved(tmp_path / f"{name}.npz", {**arrays, **index})

    one, same, other = file("one", 0), file("same", 0), file("other", 12)
    assert main([one, same]) == main([one, saved(tmp_path / "unnamed.npz", arrays)]) == 0
    assert main([one, other]) == 2
    assert "their query_index names other pairs" in capsys.readouterr().err


def test_queries_are_compared_as_the_files_have_them(tmp_path, capsys, arrays):
    """One file names its pairs in another order than that of the dataset, the other does not name them."""
    order = np.random.default_rng(0).permutation(QUERIES)
    index = {"query_index": order, "database_index": QUERIES + np.arange(ITEMS)}
    named, unnamed = saved(tmp_path / "named.npz", {**arrays, **index}), saved(tmp_path / "unnamed.npz", arrays)
    found = printed(capsys, named, unnamed)["paired_tests"][0]
    assert all(
        found[f"map_{direction}"]["low"] == 0 == found[f"map_{direction}"]["high"] for direction in ("i2t", "t2i")
    )


def wrong(arrays, **columns):
    return {**arrays, **columns}


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (
            lambda a: {k: v for k, v in a.items() if "label" not in k},
            "lacks query_label (or q_l), database_label (or r_l)",
        ),
        (
            lambda a: wrong(a, q_img=-a["query_image"]),
            "which of query_image and q_img is meant cannot be told: keep one",
        ),
        (
            lambda a: wrong(a, **{"old.query_image": -a["query_image"]}),
            "which of query_image and old.query_image is meant cannot be told: keep one",
        ),
        (lambda a: wrong(a, query_image=a["query_image"][:-1]), "query_image has 11 rows, query_label 12"),
        (lambda a: wrong(a, query_text=a["query_text"][:, 1:]), "codes must be matrices of one width"),
        (lambda a: wrong(a, query_text=a["query_text"][0]), "codes must be matrices of one width"),
        (lambda a: wrong(a, database_text=a["database_text"] * np.nan), "database_text holds nan in row 0"),
        (
            lambda a: wrong(a, query_image=a["query_image"].astype(str)),
            "query_image must hold numbers, got text or cells",
        ),
        (lambda a: wrong(a, query_image=0 * a["query_image"]), "in all four arrays, query_image (float64) holds 0"),
        (
            lambda a: changed(a, lambda c: (c * 3).astype(int)),
            "codes must be +-1 or 0/1 in all four arrays, query_image",
        ),
        (
            lambda a: wrong(a, query_image=a["query_image"] * 0.5),
            "in all four arrays, query_text (float64) holds -1, 1",
        ),
        (lambda a: wrong(a, query_label=a["query_label"] * 0), "query_label holds no label at all"),
        (
            lambda a: wrong(a, query_label=a["query_label"] + 1),
            "query_label must be multi-hot (0/1) or one class number",
        ),
        (
            lambda a: wrong(a, query_label=a["query_label"][:, 1:]),
            "with a label a row, got query_image (12, 16)",
        ),
        (lambda a: wrong(a, database_image=a["database_image"][:0]), "database_image is empty"),
    ],
)
def test_wrong_files_get_one_line(tmp_path, capsys, arrays, breakage, message):
    assert main([saved(tmp_path / "wrong.npz", breakage(arrays))]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.count("\n") == 1
    assert message in error
    assert "wrong.npz" in error


def test_files_that_are_no_files(tmp_path, capsys, arrays):
    (tmp_path / "text.npz").write_text("not an archive")
    (tmp_path / "text.mat").write_text("not a matrix")
    (tmp_path / "codes.csv").write_text("1,0")
    good = saved(tmp_path / "good.npz", arrays)
    np.savez(tmp_path / "pickled.npz", **wrong(arrays, query_image=np.array([None])))
    cases = [("absent.npz", "no such file"), ("text.npz", "is damaged"), ("text.mat", "is damaged")]
    cases += [("codes.csv", "is no file of arrays"), ("pickled.npz", "holds an object array")]
    for name, message in cases:
        assert main([good, str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert message in error
    other = saved(tmp_path / "other.npz", wrong(arrays, query_label=1 - arrays["query_label"]))
    assert main([good, other]) == 2
    assert "cannot be compared: their query labels differ" in capsys.readouterr().err
    layers = {"query_hierarchy": np.arange(QUERIES)[:, None], "database_hierarchy": np.arange(ITEMS)[:, None]}
    fewer = {name: array[1:] for name, array in arrays.items() if name.startswith("database")}
    for different in (layers, fewer):  # another rule of relevance, another database
        assert main([good, saved(tmp_path / "other.npz", arrays | different)]) == 2
        assert "cannot be compared: other items are relevant to their queries" in capsys.readouterr().err


def test_class_numbers_of_mixed_signs_above_what_a_double_holds(tmp_path, capsys, arrays):
    """2**60 and 2**60 + 1 are two classes, also where one array is unsigned and the other signed."""
    classes = {f"{split}_label": np.arange(rows) % 2 for split, rows in (("query", QUERIES), ("database", ITEMS))}
    expected = printed(capsys, saved(tmp_path / "small.npz", arrays | classes))
    large = {
        "query_label": classes["query_label"].astype(np.uint64) + np.uint64(2**60),
        "database_label": classes["database_label"] + 2**60,
    }
    large["database_label"][0] = -1
    classes["database_label"][0] = 7
    expected = printed(capsys, saved(tmp_path / "small.npz", arrays | classes))
    record = printed(capsys, saved(tmp_path / "large.npz", arrays | large))
    assert [record[key] for key in ("map_i2t", "map_t2t")] == [expected[key] for key in ("map_i2t", "map_t2t")]


def test_what_a_file_says_of_its_pairs_must_fit(tmp_path, capsys, arrays):
    for extra, message in (
        ({"query_index": np.arange(3)}, "query_index must hold whole numbers of 12 pairs"),
        (
            {"query_index": np.zeros(QUERIES, int), "database_index": np.arange(ITEMS)},
            "query_index names a pair twice",
        ),
        ({"query_group": np.arange(QUERIES)}, "index, hierarchy and group belong to both"),
        *(
            ({"query_hierarchy": query, "database_hierarchy": database}, "hierarchy must hold class numbers from 0")
            for query, database in (
                (np.full((QUERIES, 2), -1), np.zeros((ITEMS, 2), int)),
                (np.zeros((QUERIES, 2), int), np.zeros((ITEMS, 3), int)),
                (np.zeros((QUERIES, 0), int), np.zeros((ITEMS, 0), int)),
                (np.zeros(QUERIES, int), np.zeros(ITEMS, int)),
            )
        ),
    ):
        assert main([saved(tmp_path / "wrong.npz", arrays | extra)]) == 2
        assert message in capsys.readouterr().err
