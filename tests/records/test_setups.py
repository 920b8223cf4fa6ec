"""Records become setups by everything but the seed, and only the same queries are compared."""

import errno
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.records.records import QUERIES, write_run
from xmodal.commands.demo import _runs
from xmodal.errors import UserError
from xmodal.records.contests import ablations, contests
from xmodal.records.page import _drawn, write_page
from xmodal.records.record import read_result, write_result
from xmodal.records.results import COLUMNS, table
from xmodal.records.setups import by_setup, collect, differences, intervals, read_arrays
from xmodal.significance import bootstrap_interval, seeded_tests


def groups_of(folder):
    return by_setup(collect(folder)[0])


def test_runs_that_differ_in_their_seed_share_a_group(tmp_path):
    for seed in (2, 0, 1):
        write_run(tmp_path, level=0.5 + seed / 100, seed=seed)
    write_run(tmp_path, "cca", 0.3)
    write_run(tmp_path, "cca", 0.9, size=16)
    write_run(tmp_path, "cca", 0.4, variant="ridge")
    write_run(tmp_path, "alscor", 0.6, kind="real")
    found = groups_of(tmp_path)
    assert [(each.method, each.size, each.unit, each.variant) for each in found] == [
        ("cca", 16, "bits", "base"),
        ("dmsf", 64, "bits", "base"),
        ("cca", 64, "bits", "ridge"),
        ("cca", 64, "bits", "base"),
        ("alscor", 64, "dim", "base"),
    ]
    assert [record["seed"] for record in found[1].records] == [0, 1, 2]
    values = [record["metrics"]["test/map"] for record in found[1].records]
    assert found[1].spread("test/map") == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert found[2].spread("test/map").deviation is None
    assert found[2].spread("test/nothing") is None


def test_trials_smoke_runs_and_second_evaluations_are_no_results(tmp_path):
    for number, job_type in enumerate(("smoke", "test", "train")):
        write_run(tmp_path, seed=number, job_type=job_type)
    write_run(tmp_path, variant="trial-0000", metrics={"val/map": 0.5})
    assert [record["seed"] for record in collect(tmp_path)[0]] == [2]


def test_older_records_are_of_the_labels_that_the_others_of_their_split_name(tmp_path):
    write_run(tmp_path, seed=0)  # says nothing of its labels
    write_run(tmp_path, seed=1, relevance_hash="one")
    write_run(tmp_path, "cca", 0.3, relevance_hash="one")
    write_run(tmp_path, "cca", 0.3, seed=1, split="b" * 64)
    assert [len(each.records) for each in groups_of(tmp_path)] == [2, 1, 1]
    assert [len(contest.rows) for contest in contests(groups_of(tmp_path))] == [2, 1]
    write_run(tmp_path, "cca", 0.3, seed=2, relevance_hash="two")  # and now nobody knows
    assert sorted(each.relevance_hash for each in groups_of(tmp_path)) == ["not recorded"] * 2 + ["one"] * 2 + ["two"]


def test_runs_that_learnt_from_other_data_are_another_setup(tmp_path):
    """Training pictures that were replaced between two seeds: the queries are the same."""
    for seed, learnt in enumerate(("one", "one", "two")):
        write_run(tmp_path, seed=seed, training_hash=learnt)
    write_run(tmp_path, "cca", 0.3, training_hash="one")
    write_run(tmp_path, "cca", 0.3, seed=1)  # an older record: nobody knows
    assert sorted(len(each.records) for each in groups_of(tmp_path)) == [1, 1, 1, 2]
    shutil.rmtree(tmp_path / "dmsf")
    assert [len(each.records) for each in groups_of(tmp_path)] == [2]


def test_a_copied_run_is_no_second_seed(tmp_path):
    """Or its copies would be a deviation of 0 over many seeds, and any lead significant."""
    folder = write_run(tmp_path)
    for copy in ("emoji/64/kept-seed0", "emoji/64/seed0.bak", "backup/emoji/64/seed0"):
        shutil.copytree(folder, tmp_path / "dmsf" / copy)
    shutil.copytree(tmp_path / "dmsf" / "emoji", tmp_path / "backup" / "emoji")  # as deep, and before it by name
    write_run(tmp_path, seed=1)
    records, left_out = collect(tmp_path)
    assert [Path(record["path"]).parent for record in records] == [folder, folder.with_name("seed1")]
    assert len(left_out) == 6
    assert all(f"is of the run of {folder / 'result.json'}, with the same seed" in line for line in left_out)


def test_runs_that_were_moved_to_another_disk_are_found(tmp_path):
    write_run(tmp_path / "runs")
    (tmp_path / "runs" / "dmsf").rename(tmp_path / "moved")
    (tmp_path / "runs" / "dmsf").symlink_to(tmp_path / "moved")
    (tmp_path / "moved" / "emoji" / "64" / "aside").symlink_to(tmp_path / "moved" / "emoji")  # a circle
    assert [record["path"] for record in collect(tmp_path / "runs")[0]] == [
        str(tmp_path / "runs" / "dmsf" / "emoji" / "64" / "seed0" / "result.json")
    ]


def test_runs_of_other_code_of_ones_own_are_another_setup(tmp_path):
    for seed, code in enumerate(("one", "one", "two")):
        write_run(tmp_path, seed=seed, own_code={"mine.Mine": code})
    assert sorted(len(each.records) for each in groups_of(tmp_path)) == [1, 2]


@pytest.mark.parametrize("text", ["{", "[]", "", "null", '{"method": "dmsf"}', '{"metrics": 3}'])
def test_a_broken_record_is_named_and_the_others_are_read(tmp_path, text):
    write_run(tmp_path)
    folder = tmp_path / "cca" / "emoji" / "16" / "seed0"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(text)
    records, (reason,) = collect(tmp_path)
    assert [record["method"] for record in records] == ["dmsf"]
    assert str(folder / "result.json") in reason


def test_a_record_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    write_run(tmp_path)

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(Path, "read_text", refuse)
    path = tmp_path / "dmsf" / "emoji" / "16" / "seed0" / "result.json"
    with pytest.raises(UserError, match=rf"^the record {path} may not be read: Permission denied\.$"):
        read_result(path)


def test_runs_are_ranked_by_the_size_of_what_leaves_the_encoder(tmp_path):
    write_run(tmp_path, "hierarchical", 0.6, kind="real", output_size=128)
    write_run(tmp_path, "acmr", 0.5, kind="real", output_size=64)
    write_run(tmp_path, "dscmr", 0.4, kind="real", size=128)  # an old record, which says what was asked for only
    found = [[row.setup.method for row in contest.rows] for contest in contests(groups_of(tmp_path))]
    assert found == [["acmr"], ["hierarchical", "dscmr"]]
    sizes = [row[COLUMNS.index("size")] for row in table(collect(tmp_path)[0])]
    assert sizes == ["64 dim", "64 dim (128 out)", "128 dim"]


def test_rows_of_one_split_under_other_labels_say_so(tmp_path):
    write_run(tmp_path, "dmsf", 0.6, relevance_hash="one")
    write_run(tmp_path, "cca", 0.5, relevance_hash="two")
    write_run(tmp_path, "cca", 0.5, seed=1, split="b" * 64, relevance_hash="two")
    records = collect(tmp_path)[0]
    said = [row[COLUMNS.index("relevance")] for row in table(records)]
    assert sorted(said) == ["label", "label (labels one)", "label (labels two)"]
    write_page(tmp_path / "compare.html", by_setup(records), [])
    page = (tmp_path / "compare.html").read_text()
    for labels in ("one", "two"):
        assert f"relevance “label” (labels {labels})" in page
        assert f"emoji {'a' * 8}, labels {labels}, 64 bits" in page


def test_intervals_are_over_queries_and_differences_over_seeds_too(tmp_path):
    kept = {}
    for method, level in (("dmsf", 0.5), ("cca", 0.45)):
        folders = [write_run(tmp_path, method, level, seed) for seed in (0, 1)]
        kept[method] = np.stack([np.load(folder / "evaluation.npz")["ap_t2i"] for folder in folders])
    best, other = groups_of(tmp_path)
    assert best.queries.shape == (2, QUERIES, 3)
    assert intervals([best])[0]["map_t2i"] == pytest.approx(bootstrap_interval(kept["dmsf"].mean(0)))
    (test,) = differences([(best, other)])
    (expected,) = seeded_tests(kept["dmsf"][..., None], kept["cca"][..., None])
    assert test["map_t2i"] == pytest.approx(expected)
    assert test["map"].difference == pytest.approx(best.score - other.score)
    assert test["map"].p_value < 0.001


def test_nothing_is_chosen_by_the_query_set(tmp_path, monkeypatch):
    """The base of an ablation was, and the run that `xmodal demo` shows."""
    for level, validation in ((0.6, 0.5), (0.5, 0.7)):
        folder = write_run(tmp_path / str(level), level=level, config={"lr": level}, setup_hash=f"lr {level}")
        record = read_result(folder / "result.json")
        record["metrics"]["val/map"] = validation
        write_result(folder, record)
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "best.ckpt").touch()
    write_run(tmp_path, variant="no_graph", level=0.4, config={"lr": 0.3})
    setups = groups_of(tmp_path)
    ((base, _),), (contest,) = ablations(setups), contests(setups)
    assert {base, contest.ranking["map"][0].setup, _drawn(contest)[0].setup} == {base}
    assert base.setup_hash == "lr 0.5"
    monkeypatch.setattr("xmodal.paths.runs", lambda: tmp_path)
    assert _runs() == [folder]


def test_what_cannot_be_compared_is_not(tmp_path):
    write_run(tmp_path)
    write_run(tmp_path, "cca", 0.3, split="b" * 64)
    write_run(tmp_path, "dcmh", 0.2, queries=False)
    (write_run(tmp_path, "dsph", 0.1) / "evaluation.npz").write_bytes(b"PK\x03\x04 cut off")
    by_method = {each.method: each for each in groups_of(tmp_path)}
    assert by_method["dsph"].queries is None
    pairs = [(by_method["dmsf"], by_method[name]) for name in ("cca", "dcmh", "dsph")]
    assert differences(pairs) == [None] * 3
    assert intervals([by_method["dcmh"]]) == [None]
    assert differences([]) == []


def test_arrays_are_read_as_numpy_does_and_never_objects(tmp_path):
    path = tmp_path / "evaluation.npz"
    curve = np.random.default_rng(0).random((7, 3))
    for each in (curve, np.asfortranarray(curve), curve.astype(">f4"), (9 * curve).astype(np.int16)):
        np.savez_compressed(path, curve=each)
        assert np.array_equal(read_arrays(path, "curve", columns=(3,))[0], np.load(path)["curve"].astype(np.float64))
    np.savez(path, curve=np.array([[1.0, 2.0, 3.0]] * 2, object))
    assert read_arrays(path, "curve", columns=(3,)) is None
