"""FAISS under our order, against a sort of all distances."""

from pathlib import Path

import numpy as np
import pytest

from xmodal.errors import UserError
from xmodal.search import scan
from xmodal.search.engine import KINDS, Engine, build, write

RNG = np.random.default_rng(0)
CODES = RNG.integers(0, 256, (3000, 2), np.uint8)  # 65,536 codes at most: many at every distance
CODES = np.concatenate([CODES, CODES[:300]])
QUERIES = np.concatenate([CODES[:20], RNG.integers(0, 256, (20, 2), np.uint8)])
DISTANCES = np.unpackbits(QUERIES[:, None] ^ CODES, axis=2).sum(2).astype(np.int32)
ORDER = np.argsort(DISTANCES, axis=1, kind="stable")  # (distance, row)


@pytest.mark.parametrize("k", [1, 10, 1000, 5000])
@pytest.mark.parametrize("batch", [1, 40])
def test_exact_codes_come_in_the_order_of_distance_and_row(k, batch):
    found = Engine.of(build("flat", CODES), "flat").search(QUERIES[:batch], k)
    assert found.rows.tolist() == ORDER[:batch, :k].tolist()
    assert (found.distances == np.take_along_axis(DISTANCES[:batch], ORDER[:batch, :k], 1)).all()
    assert (found.counts == min(k, len(CODES))).all()


@pytest.mark.parametrize("octets", [8, 16, 24])
@pytest.mark.parametrize(("threads", "k"), [(1, 1), (1, 40), (2, 40), (3, 2000)])
def test_our_scan_of_whole_words_gives_the_same_on_any_number_of_threads(octets, threads, k, monkeypatch):
    monkeypatch.setattr(scan, "ALONE", 0)
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    codes = RNG.integers(0, 3, (2000, octets), np.uint8)  # many at every distance
    codes[500:600] = codes[:100]
    queries = np.concatenate([codes[:3], codes[550:552], 255 - codes[:2]])
    near = np.unpackbits(queries[:, None] ^ codes, axis=2).sum(2)
    order = np.argsort(near, axis=1, kind="stable")[:, :k]
    found = Engine.of(build("flat", codes), "flat").search(queries, k)
    assert found.rows.tolist() == order.tolist()
    assert (found.distances == np.take_along_axis(near, order, 1)).all()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "flat"])
def test_what_an_approximate_index_finds_is_ordered_and_no_place_is_made_up(kind):
    found = Engine.of(build(kind, CODES), kind).search(QUERIES, 200)
    right = []
    for query, count in enumerate(found.counts.tolist()):
        rows, distances = found.rows[query], found.distances[query]
        assert (rows[count:] == -1).all()
        assert (query < 20) <= count <= 200  # the first twenty are codes that are there
        assert len(set(rows[:count].tolist())) == count
        assert (distances[:count] == DISTANCES[query, rows[:count]]).all()
        key = distances[:count].astype(np.int64) * len(CODES) + rows[:count]
        assert (np.diff(key) > 0).all()
        right.append(count > 0 and distances[0] == DISTANCES[query].min())
    assert np.mean(right[:20] if kind == "multihash" else right) > 0.9


def test_an_index_that_finds_less_than_asked_for_says_how_many():
    few = np.array([[0, 0], [255, 255], [0, 1]], np.uint8)
    found = Engine.of(build("multihash", few), "multihash").search(np.zeros((1, 2), np.uint8), 3)
    assert found.counts.tolist() == [2]
    assert found.rows.tolist() == [[0, 2, -1]]
    assert found.distances[0, :2].tolist() == [0, 1]


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
@pytest.mark.parametrize("k", [1, 10, 900])
def test_embeddings_come_in_the_order_of_distance_and_row(kind, k):
    rows = RNG.normal(size=(500, 12)).astype(np.float32)
    rows = np.concatenate([rows, rows[:200], rows[:100]])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    queries = rows[[0, 5, 450, 499]]
    near = (1 - queries.astype(np.float64) @ rows.astype(np.float64).T).round(6)
    order = np.argsort(near, axis=1, kind="stable")[:, :k]
    found = Engine.of(build(kind, rows), kind).search(queries, k)
    assert found.rows.tolist() == order.tolist()
    assert np.abs(found.distances - np.take_along_axis(near, order, 1)).max() < 2e-6


def test_a_file_is_mapped_and_finds_the_same(tmp_path):
    write(build("flat", CODES), tmp_path / "codes")
    engine = Engine(tmp_path / "codes", "flat", binary=True)
    assert engine.search(QUERIES, 9).rows.tolist() == ORDER[:, :9].tolist()
    assert str(tmp_path / "codes") in Path("/proc/self/maps").read_text()


def test_embeddings_have_no_kinds_of_codes():
    with pytest.raises(UserError, match="kind is 'ivf': embeddings take flat, hnsw"):
        build("ivf", np.zeros((3, 4), np.float32))


def test_a_damaged_file_is_named(tmp_path):
    write(build("flat", CODES), tmp_path / "codes")
    content = (tmp_path / "codes").read_bytes()
    (tmp_path / "codes").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"codes is damaged .* build the index again"):
        Engine(tmp_path / "codes", "flat", binary=True)
    with pytest.raises(UserError, match=r"cannot write .*nowhere"):
        write(build("flat", CODES), tmp_path / "nowhere" / "codes")
