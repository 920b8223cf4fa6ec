"""Average ranks, their critical distance, and the picture of both."""

import re
from types import SimpleNamespace

import pytest

from xmodal.records.ranks import Ranks, alike, average_ranks, draw_ranks


def contest(dataset, order, unit="bits", split="a"):
    rows = [SimpleNamespace(setup=SimpleNamespace(method=name)) for name in order.split()]
    setup = SimpleNamespace(unit=unit, protocol=(dataset, "label", split))
    return SimpleNamespace(setup=setup, ranking={"map": rows})


def test_ranks_are_of_methods_that_were_run_everywhere_and_every_dataset_counts_once():
    found = average_ranks(
        [
            contest("emoji", "a b x c d"),  # two contests of one dataset:
            contest("emoji", "b a c d", split="b"),  # sizes, or splits
            contest("fashion", "c a b d x"),
            contest("flickr8k", "a b"),  # of two methods
            contest("emoji", "e f g", unit="dim"),  # one dataset is no comparison over datasets
        ]
    )
    assert average_ranks([contest("emoji", "a b c", split=split) for split in "ab"]) == []
    assert [(each.unit, each.datasets) for each in found] == [("bits", ("emoji", "fashion"))]
    assert found[0].mean == {"a": 1.75, "c": 2.0, "b": 2.25, "d": 4.0}
    assert list(found[0].mean) == ["a", "c", "b", "d"]


def test_the_distance_is_that_of_the_published_table():
    """Demsar, Table 5: q of .05 is 2.569 for four classifiers; CD = 1.25 for 14 datasets (his example)."""
    found = average_ranks([contest(f"set{number}", "a b c d") for number in range(14)])
    assert found[0].distance == pytest.approx(1.25, abs=0.005)


def test_methods_within_the_distance_are_alike():
    ranks = Ranks("bits", ("x", "y"), {"a": 1.0, "b": 1.5, "c": 2.4, "d": 4.0}, 1.0)
    assert alike(ranks) == [("a", "b"), ("b", "c")]
    assert alike(ranks._replace(distance=5.0)) == [("a", "d")]
    assert alike(ranks._replace(distance=0.1)) == []


def test_the_picture_names_every_method_and_its_rank(tmp_path):
    draw_ranks(tmp_path / "ranks.svg", Ranks("bits", ("x", "y"), {"a": 1.0, "b": 1.5, "c": 2.4, "d": 4.0}, 1.0))
    words = re.findall(r"<text [^>]*>([^<]*)</text>", (tmp_path / "ranks.svg").read_text())
    assert {"a, 1.00", "b, 1.50", "c, 2.40", "d, 4.00", "mean rank over x, y (bits); 1 is the best"} <= set(words)
    assert "Under one bar no difference is significant: that takes 1.00 ranks" in words
