import numpy as np
import pytest

from xmodal.data.split import Split, make_split
from xmodal.errors import UserError

LABEL = np.ones((20, 2), np.uint8)


def split(**changes):
    roles = {
        "train": [0, 1, 2, 3],
        "val_query": [4, 5],
        "val_database": [4, 5],
        "query": [6, 7],
        "database": [6, 7],
    } | changes
    return Split(**{name: np.array(index) for name, index in roles.items()})


def test_hash_depends_on_every_role_and_on_order():
    hashes = {split().hash, split(train=[1, 0, 2, 3]).hash, split(query=[7, 6]).hash, split(database=[6, 7, 8]).hash}
    assert len(hashes) == 4
    assert split().hash == split().hash


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": [0, 1, 6]}, "both train and query"),
        ({"train": [0, 1, 4]}, "both train and query and val_query"),
        ({"val_database": [0, 6]}, "both val_database and query"),
        ({"val_query": [6, 5], "val_database": [0, 1, 2, 3]}, "leaks"),
        ({"database": [0, 1, 2, 3, 6]}, "both test query and test database"),
        ({"database": [0, 1]}, "2 training pairs are missing from the test database"),
        ({"val_database": [0, 1]}, "2 training pairs are missing from the validation database"),
        ({"query": [], "database": []}, "query is empty"),
        ({"train": [0, 99]}, "names pair 99, but the dataset holds 20"),
    ],
)
def test_what_would_leak_or_cannot_be_scored_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        split(**changes).check(LABEL)


def test_pairs_without_labels_are_refused():
    label = LABEL.copy()
    label[[0, 19]] = 0  # 19 is in no role
    with pytest.raises(UserError, match="1 pairs of the split have no label"):
        split().check(label)


@pytest.mark.parametrize(("name", "role"), [("test", "database"), ("validation", "val_database")])
def test_queries_to_which_nothing_is_relevant_are_refused(name, role):
    label = np.eye(20, dtype=np.uint8)
    split().check(label)  # each finds itself
    with pytest.raises(UserError, match=f"no {name} query shares a label with the pairs that are searched"):
        split(**{role: [0, 1, 2, 3]}).check(label)


def test_duplicates_are_counted():
    assert split(train=[0, 0, 1]).check(LABEL)["train"] == 1


@pytest.mark.parametrize("database", ["test", "train"])
@pytest.mark.parametrize("seed", range(5))
def test_made_splits_pass_the_checks(database, seed):
    rng = np.random.default_rng(seed)
    order, queries, val = rng.permutation(20), int(rng.integers(1, 6)), int(rng.integers(1, 6))
    made = make_split(np.sort(order[queries:]), np.sort(order[:queries]), val, seed, database)
    made.check(LABEL)
    assert made.sizes()["val_query"] == val
    assert len(made.train) == 20 - queries - val
    assert len(made.database) == (queries if database == "test" else 20 - queries)


@pytest.mark.parametrize("val", [0, 14, 99])
def test_validation_must_leave_a_training_set(val):
    with pytest.raises(UserError, match=r"give a number from 1 to 13"):
        make_split(np.arange(14), np.arange(14, 20), val, 0, "test")


@pytest.mark.parametrize("database", ["test", "train"])
def test_a_small_split_passes_the_checks(database):
    small = make_split(np.arange(800), np.arange(800, 1000), 100, 0, database).head(64)
    small.check(np.ones((1000, 1)))
    assert (len(small.train), len(small.val_query), len(small.query)) == (32, 16, 16)


def test_a_picture_with_captions_in_two_roles_is_a_leak():
    group = np.arange(20)
    split().check(LABEL, group)
    group[6] = group[0]  # a query shows the picture of a training pair
    with pytest.raises(UserError, match="1 pictures have captions in both train and query and val_query"):
        split().check(LABEL, group)
    group[6], group[4] = 6, 7
    with pytest.raises(UserError, match="1 pictures have captions in both val_database and query"):
        split().check(LABEL, group)
    assert split().shared(np.where(np.arange(20) == 4, 0, np.arange(20))) == 1
    assert split().shared(None) == 0
