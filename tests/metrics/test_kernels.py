"""The fast kernels against the plain definition of their result, and against each other, to the last digit."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from xmodal.metrics import average_precision, cosine_ranking, hamming_ranking, kernels_cpu, kernels_torch
from xmodal.metrics.criterion import Criterion
from xmodal.metrics.packing import pack_bits, unpack_bits
from xmodal.metrics.rankers import CodeRanker, ScoreRanker
from xmodal.metrics.ranking import concatenated


def random_bits(rows, columns, seed, share=0.5):
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed)) < share


def equal(one, other):
    for name, a, b in zip(one._fields, one, other, strict=True):
        if name != "levels":
            np.testing.assert_array_equal(a, b, err_msg=name)


def single(ranker, relevance, queries, direction=0):
    """The ranking of all queries in one direction."""
    parts = ranker.rank(slice(0, queries), {"": relevance})
    return concatenated([rankings[""] for way, rankings in parts if way == direction])


@pytest.mark.parametrize("columns", [1, 7, 8, 63, 64, 65, 130])
def test_packing_is_undone(columns):
    bits = random_bits(9, columns, 0)
    packed = pack_bits(bits)
    assert packed.shape == (9, -(-columns // 64))
    assert torch.equal(unpack_bits(packed, columns), bits)


@pytest.mark.parametrize("graded", [False, True])
@pytest.mark.parametrize(("bits", "labels"), [(1, 1), (16, 5), (48, 70), (64, 64), (127, 130), (128, 3), (300, 9)])
def test_histogram_counts_every_pair(bits, labels, graded):
    query, database = random_bits(5, bits, 0), random_bits(83, bits, 1)
    relevance = Criterion(random_bits(5, labels, 2, 0.3), random_bits(83, labels, 3, 0.3), graded=graded)
    ranker = CodeRanker([pack_bits(query), pack_bits(~query)], [pack_bits(database)] * 2, bits)
    counts = ranker.histogram(slice(1, 5), relevance)
    shared = relevance.query.long() @ relevance.database.long().T
    grade = shared if graded else (shared > 0).long()
    for direction, codes in enumerate((query, ~query)):
        expected = np.zeros((5, relevance.grades, bits + 1), int)
        distance = (codes[:, None] != database[None]).sum(2)
        np.add.at(expected, (np.arange(5)[:, None], grade, distance), 1)
        np.testing.assert_array_equal(counts[direction], expected[1:])
        plain = kernels_torch.histogram(
            codes, database, relevance.query, relevance.database, relevance.grades, pairs=64
        )
        np.testing.assert_array_equal(plain, expected)


@pytest.mark.parametrize("graded", [False, True])
def test_class_numbers_are_counted_layer_by_layer(graded):
    """Numbers need not be small; the kernels for codes and scores, of numba and torch, agree."""
    query, database = random_bits(5, 24, 0), random_bits(70, 24, 1)
    generator = torch.Generator().manual_seed(0)
    layers = [torch.randint(0, 4, (rows, 2), generator=generator) * 10**12 for rows in (5, 70)]
    criterion = Criterion(*layers, graded=graded)
    ranker = CodeRanker([pack_bits(query)], [pack_bits(database)], 24)
    shared = (layers[0][:, None] == layers[1][None]).sum(2)
    grade = shared if graded else (shared > 0).long()
    expected = np.zeros((5, criterion.grades, 25), int)
    np.add.at(expected, (np.arange(5)[:, None], grade, (query[:, None] != database[None]).sum(2)), 1)
    np.testing.assert_array_equal(ranker.histogram(slice(0, 5), criterion)[0], expected)
    plain = kernels_torch.histogram(query, database, *layers, criterion.grades, pairs=64)
    np.testing.assert_array_equal(plain, expected)
    scores = ScoreRanker([2.0 * query - 1], [2.0 * database - 1])
    equal(single(scores, criterion, 5), single(ranker, criterion, 5))
    assert torch.equal(kernels_torch.shared_labels(*layers, criterion.grades), grade)


@pytest.mark.slow
def test_gpu_kernel_counts_the_same():
    """Triton's interpreter runs the kernel without a GPU; it has to be chosen before triton is first imported."""
    pytest.importorskip("triton")
    program = """
import torch
from xmodal.metrics import kernels_torch, kernels_triton
from xmodal.metrics.packing import pack_bits

for bits, labels in ((1, 2), (16, 5), (64, 24), (127, 70), (128, 3)):
    sides = [(3, bits), (1100, bits), (3, labels), (1100, labels)]
    sets = [torch.rand(*shape, generator=torch.Generator().manual_seed(n)) < 0.3 for n, shape in enumerate(sides)]
    sets[1][:2] = ~sets[0][:1]  # the farthest level
    found = kernels_triton.histogram(*(pack_bits(side) for side in sets), bits, labels)
    assert torch.equal(found, kernels_torch.histogram(*sets, 2)), (bits, labels)
layers = [torch.arange(rows)[:, None] % torch.tensor([3, 7]) for rows in (3, 1100)]
found = kernels_triton.histogram(*(pack_bits(side) for side in sets[:2]), *layers, bits, 0)
assert torch.equal(found, kernels_torch.histogram(*sets[:2], *layers, 2))
"""
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_histogram_counts_more_shared_labels_than_a_byte_holds():
    labels = torch.ones(2, 300, dtype=torch.bool)
    ranker = CodeRanker([pack_bits(labels[:, :8])], [pack_bits(labels[:, :8])], 8)
    assert ranker.histogram(slice(0, 2), Criterion(labels, labels, graded=True))[0, 0, 300, 0] == 2


@pytest.mark.parametrize("stable", [False, True])
def test_codes_and_scores_rank_alike(stable):
    """Codes as embeddings: cosine and Hamming distance order alike, tie by tie; numba and torch agree as well."""
    query, database = random_bits(7, 32, 0), random_bits(501, 32, 1)
    relevance = Criterion(random_bits(7, 6, 2, 0.3), random_bits(501, 6, 3, 0.3), graded=True, stable=stable)
    codes = CodeRanker([pack_bits(query)], [pack_bits(database)], 32)
    scores = ScoreRanker([2.0 * query - 1], [2.0 * database - 1])
    every = slice(0, 7)
    expected, found = (single(ranker, relevance, 7) for ranker in (codes, scores))
    equal(found, expected)
    grade = kernels_torch.shared_labels(relevance.query, relevance.database, relevance.grades)
    for ranker in (codes, scores):
        equal(kernels_torch.rank_rows(ranker.near(0, every), grade, relevance.grades, stable), expected)


@pytest.mark.parametrize("stable", [False, True])
def test_threads_do_not_change_the_result(stable):
    query, database = torch.randn(50, 24), torch.randn(300, 24)
    relevance = Criterion(random_bits(50, 5, 0, 0.3), random_bits(300, 5, 1, 0.3), graded=True, stable=stable)
    codes = [pack_bits(side >= 0) for side in (query, -query, database, database.abs())]
    rankers = CodeRanker(codes[:2], codes[2:], 24), ScoreRanker([query, -query], [database, database.abs()])
    one = [single(ranker, relevance, 50, direction) for ranker in rankers for direction in range(2)]
    torch.set_num_threads(3)
    several = [single(ranker, relevance, 50, direction) for ranker in rankers for direction in range(2)]
    for a, b in zip(one, several, strict=True):
        equal(a, b)


def test_scores_are_sorted_exactly():
    values = torch.tensor([0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38, 1.0, 1.0 + 2**-23, -1.0])
    ranked = cosine_ranking_of(values)
    assert ranked.closer.tolist() == [0, 1, 2, 3, 4, 6, 7, 8]
    assert ranked.items.tolist() == [1, 1, 1, 1, 2, 1, 1, 1]


def cosine_ranking_of(scores):
    ranker = ScoreRanker([torch.ones(1, 1)], [scores[:, None]])
    every = Criterion(torch.ones(1, 1, dtype=torch.bool), torch.ones(len(scores), 1, dtype=torch.bool))
    return single(ranker, every, 1)


def test_equal_items_tie_wherever_they_stand():
    """A score depends on its two items alone, not on their places: duplicates tie, and sharding changes nothing."""
    items = torch.nn.functional.normalize(torch.randn(1000, 37, generator=torch.Generator().manual_seed(0)))
    ranker = ScoreRanker([items[:70]], [torch.cat([items] * 9)])
    near = ranker.near(0, slice(0, 70))
    assert torch.equal(near, near[:, :1000].repeat(1, 9))
    assert torch.equal(ranker.near(0, slice(33, 40)), near[33:40])


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.float16, torch.bfloat16, torch.float64, torch.bool])
def test_types_of_codes(dtype):
    query, database = random_bits(4, 20, 0), random_bits(30, 20, 1)
    labels = random_bits(4, 3, 2), random_bits(30, 3, 3)
    expected = hamming_ranking(query, database, *labels)
    if dtype != torch.bool:
        query, database = (2 * query.int() - 1).to(dtype), (2 * database.int() - 1).to(dtype)
    equal(hamming_ranking(query, database, *labels), expected)


@pytest.mark.parametrize("rank", [hamming_ranking, cosine_ranking])
@pytest.mark.parametrize("ties", ["expected", "stable"])
def test_empty_and_single_sets(rank, ties):
    one = torch.ones(1, 8)
    label = torch.ones(1, 2)
    assert average_precision(rank(one, one, label, label, ties)).tolist() == [1.0]
    assert average_precision(rank(one, one, label, 0 * label, ties)).tolist() == [0.0]
    assert average_precision(rank(one, one[:0], label, label[:0], ties)).tolist() == [0.0]
    assert average_precision(rank(one[:0], one, label[:0], label, ties)).tolist() == []
    assert average_precision(rank(one, one[:0], label, label[:0], ties), 5, "hits").tolist() == [0.0]


def test_the_order_of_the_database_breaks_stable_ties():
    query, database = torch.ones(1, 4), torch.ones(3, 4)
    labels = torch.ones(1, 1), torch.tensor([[0], [1], [1]])
    assert hamming_ranking(query, database, *labels, ties="stable").closer.tolist() == [1, 2]
    assert average_precision(hamming_ranking(query, database, *labels, ties="stable"))[0] == (1 / 2 + 2 / 3) / 2


def test_sign_of_zero_is_plus_one():
    assert unpack_bits(pack_bits(torch.tensor([[0.0, -0.0, -1e-30]]) >= 0), 3).tolist() == [[True, True, False]]


def test_work_is_split_over_all_rows():
    seen = np.zeros(10, int)

    def mark(part):
        seen[part] += 1

    torch.set_num_threads(4)
    kernels_cpu.in_threads(mark, 10)
    assert (seen == 1).all()


def test_wrong_tensors_are_refused():
    code, label = torch.ones(3, 8), torch.ones(3, 2)
    cases = [
        ((code[0], code, label, label), r"query must have shape \(B, K\) with K >= 1, got \(8,\)"),
        ((code.byte(), code, label, label), "query is uint8, which cannot hold -1"),
        ((code * torch.nan, code, label, label), "query holds NaN or infinite values"),
        ((code, code, label * 2, label), "query_label must be multi-hot: only 0 and 1"),
        ((code, code, label, label[0]), r"database_label must be multi-hot with shape \(B, C\), got \(2,\)"),
        ((code, code[:, :4], label, label), "shapes do not fit"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            hamming_ranking(*arguments)
    with pytest.raises(ValueError, match="query must be floating point"):
        cosine_ranking(code.int(), code, label, label)
    with pytest.raises(ValueError, match="ties must be 'expected' or 'stable', got 'random'"):
        hamming_ranking(code, code, label, label, ties="random")
