import inspect

import numpy as np
import pytest

from xmodal import data
from xmodal.data.recipes import Cut, Official, PerLabel
from xmodal.data.sets.benchmark import Benchmark
from xmodal.errors import UserError

MODULES = [getattr(data, name) for name in data.__all__ if inspect.isclass(getattr(data, name))]
BENCHMARKS = [module for module in MODULES if issubclass(module, Benchmark)]
PROTOCOLS = [(module, name) for module in BENCHMARKS for name in module.recipes]


def labels(pairs, classes, seed=0):
    label = np.random.default_rng(seed).random((pairs, classes)) < 0.1
    label[np.arange(pairs), np.arange(pairs) % classes] = True
    return label.astype(np.uint8)


@pytest.mark.parametrize(("module", "name"), PROTOCOLS)
def test_every_named_protocol_passes_the_checks_at_its_size(module, name):
    recipe = module.recipes[name]
    pairs = getattr(recipe, "size", None) or 40000
    label = labels(pairs, module.num_classes or 24)
    roles = {"train": np.arange(0, 30000), "test": np.arange(30000, 40000)} if isinstance(recipe, Official) else {}
    split = recipe.split(label, roles, 500)
    split.check(label)
    assert len(split.val_query) == 500
    if isinstance(recipe, Cut):
        assert len(split.query) == recipe.query
        assert len(split.train) == (recipe.train or pairs - recipe.query) - 500
        assert len(split.database) == pairs - recipe.query


@pytest.mark.parametrize("name", ["torchcmh", "mith", "dchmt"])
def test_seeded_protocols_are_what_numpy_random_seed_gives(name):
    recipe = data.MIRFlickr25K.recipes[name]
    np.random.seed(recipe.seed)  # noqa: NPY002 - as the authors' code does
    order = np.random.permutation(20015)  # noqa: NPY002
    split = recipe.split(labels(20015, 24), {}, 500)
    assert np.array_equal(split.query, np.sort(order[: recipe.query]))
    pool = np.sort(order[recipe.query : recipe.query + recipe.train])
    assert np.array_equal(np.union1d(split.train, split.val_query), pool)


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("xmodal", "2f7f419bedcf6dc5"),
        ("dcmh", "5582bd0f82d9ee79"),
        ("torchcmh", "f3bd9e96334f483a"),
        ("mith", "28f4afbbd0575fb8"),
        ("ucch", "e0c37294dcc48f11"),
        ("dchmt", "c2984e1e933d1d76"),
    ],
)
def test_a_protocol_stays_what_it_was(name, start):
    """Numbers of two versions may be compared only where the hash is the same; it was taken when these were written."""
    assert data.MIRFlickr25K.recipes[name].split(labels(20015, 24), {}, 500).hash.startswith(start)


@pytest.mark.parametrize("seed", range(5))
def test_draws_per_label_leave_roles_apart_whatever_the_labels(seed):
    label = labels(int(np.random.default_rng(seed).integers(300, 900)), 6, seed)
    split = PerLabel("", train=150, first=8, each=4, seed=seed).split(label, {}, 10)
    split.check(label)
    assert len(np.union1d(split.query, split.database)) == len(label)
    assert (len(split.query), len(split.train) + len(split.val_query)) == (8 + 5 * 4, 150)


@pytest.mark.parametrize("database", ["test", "train"])
@pytest.mark.parametrize("held", [0, 7])
def test_official_lists_are_kept(database, held):
    order = np.random.default_rng(0).permutation(60)
    roles = {"train": order[:40], "test": order[47:]} | ({"val": order[40:47]} if held else {})
    split = Official("", database).split(labels(60, 4), roles, 5)
    split.check(labels(60, 4))
    assert set(split.query) == set(order[47:])
    assert set(split.val_query) == set(order[40:47]) if held else len(split.val_query) == 5


def test_queries_may_be_the_last_while_training_pairs_are_the_first():
    split = Cut("", 10, 20, last=True).split(labels(100, 4), {}, 5)
    assert split.query.tolist() == list(range(90, 100))
    assert np.union1d(split.train, split.val_query).tolist() == list(range(20))


def test_draws_per_label_give_each_label_its_queries():
    label = np.eye(24, dtype=np.uint8)[np.arange(24000) % 24]
    split = PerLabel("").split(label, {}, 500)
    assert label[split.query].sum(0).tolist() == [160, *[80] * 23]
    assert len(split.train) == 4500


def test_a_dataset_of_another_size_is_refused():
    with pytest.raises(UserError, match=r"written for 20,015 pairs, but these files hold 24,581"):
        data.MIRFlickr25K.recipes["dcmh"].split(labels(24581, 24), {}, 500)


@pytest.mark.parametrize("seed", range(5))
def test_any_cut_leaves_roles_apart(seed):
    rng = np.random.default_rng(seed)
    pairs = int(rng.integers(30, 300))
    query, train = int(rng.integers(1, pairs // 3)), int(rng.integers(8, pairs // 2))
    recipe = Cut("", query, train, ["file", "legacy", "modern"][seed % 3], seed, last=bool(seed % 2))
    label = labels(pairs, 5, seed)
    split = recipe.split(label, {}, 3)
    split.check(label)
    assert len(np.union1d(split.query, split.database)) == pairs
    assert split.hash == recipe.split(label, {}, 3).hash != recipe.split(label, {}, 4).hash


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "dcmhh"}, r"data\.protocol is 'dcmhh'; the protocols of mirflickr25k are: xmodal, dcmh"),
        ({"protocol": "dcmh", "query": 5}, r"data\.query and data\.train belong to protocol xmodal; dcmh fixes them"),
        ({"max_corrupt": -1}, r"data\.max_corrupt is -1"),
    ],
)
def test_wrong_arguments_say_what_is_right(options, message):
    with pytest.raises(UserError, match=message):
        data.MIRFlickr25K(**options)


def test_too_few_pairs_for_a_protocol():
    with pytest.raises(UserError, match="takes 2000 queries and 10000 training pairs, but there are 100"):
        data.MIRFlickr25K.recipes["xmodal"].split(labels(100, 24), {}, 5)


@pytest.mark.parametrize(
    "recipe", [Cut("", 40, 200, "modern"), Cut("", 33, None, "legacy", 3, last=True), Official("")]
)
def test_captions_of_a_picture_stay_together(recipe):
    """60 pictures with 4 to 6 captions, in an order that separates them."""
    rng = np.random.default_rng(0)
    group = rng.permutation(np.repeat(np.arange(60) * 7, np.arange(60) % 3 + 4))
    label = labels(len(group), 4)
    roles = {"train": np.flatnonzero(group < 300), "test": np.flatnonzero(group >= 300)}
    split = recipe.split(label, roles, 30, group)
    split.check(label, group)
    shown = {role: set(group[getattr(split, role)]) for role in ("train", "val_query", "query")}
    assert sum(map(len, shown.values())) == len(set.union(*shown.values()))
    for role, pictures in shown.items():
        assert set(np.flatnonzero(np.isin(group, list(pictures)))) == set(getattr(split, role))
    if isinstance(recipe, Cut):
        assert recipe.query <= len(split.query) < recipe.query + 6
    assert 30 <= len(split.val_query) < 36
    with pytest.raises(UserError, match="would tear the captions of a picture apart"):
        PerLabel("").split(label, {}, 5, group)


def test_one_caption_a_picture_draws_as_single_pairs_do():
    label, group = labels(300, 4), np.random.default_rng(1).permutation(300)
    for recipe in (Cut("", 40, 200, "file"), Cut("", 40, 200, last=True), PerLabel("", train=100, first=8, each=4)):
        assert recipe.split(label, {}, 20, np.arange(300)).hash == recipe.split(label, {}, 20).hash
        recipe.split(label, {}, 20, group).check(label, group)
