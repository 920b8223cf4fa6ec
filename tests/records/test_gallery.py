"""The gallery shows the nearest items, in order, and says rightly which are right."""

import numpy as np
from PIL import Image

from xmodal.records.gallery import draw_gallery, first_hits

OUTPUTS = {
    "query_image": np.array([[1, 1], [-1, 1]]),
    "query_text": np.array([[1, -1], [1, 1]]),
    "database_image": np.array([[1, -1], [-1, 1], [1, -1]]),
    "database_text": np.array([[-1, -1], [1, 1], [-1, 1]]),
    "query_label": np.array([[1, 0], [0, 1]]),
    "database_label": np.array([[1, 0], [1, 1], [0, 1]]),
    "query_index": np.array([10, 11]),
    "database_index": np.array([20, 21, 22]),
}


def test_the_nearest_come_first_and_ties_in_database_order():
    found = first_hits(OUTPUTS, rows=2, hits=2)
    assert [(each.asked, each.query) for each in found] == [("image", 10), ("image", 11), ("text", 10), ("text", 11)]
    assert found[0].found == ((21, True), (22, False))
    assert found[1].found == ((22, True), (20, False))  # 21 is as near
    assert found[2].found == ((20, True), (22, False))  # equally near
    assert len(first_hits(OUTPUTS, rows=1, hits=9)[0].found) == 3  # no more than there are


def test_it_is_drawn_with_pictures_and_words(tmp_path):
    picture = Image.new("RGB", (8, 8), "blue")
    draw_gallery(
        tmp_path / "gallery.png", first_hits(OUTPUTS, rows=1, hits=2), lambda _: picture, "item {}".format, "t"
    )
    with Image.open(tmp_path / "gallery.png") as drawn:
        colours = {colour for _, colour in drawn.convert("RGB").getcolors(1 << 20)}
    assert {(0, 0, 255), (46, 158, 79), (200, 85, 61), (59, 91, 146)} <= colours  # picture, right, wrong, query


def test_prices_are_no_formula(tmp_path):
    """Text between two dollars was read as one, which ended a run in a traceback after its test, without a record."""
    hits = first_hits(OUTPUTS, rows=1, hits=1)
    draw_gallery(tmp_path / "gallery.png", hits, lambda _: None, lambda _: "$5 off #2, $7 off", "t")
    assert (tmp_path / "gallery.png").is_file()


def test_a_strip_is_drawn_too(tmp_path):
    """One of 2,000 x 3 pixels was shrunk to none, which ended a run as prices did."""
    strip = Image.new("RGB", (2000, 3))
    draw_gallery(tmp_path / "gallery.png", first_hits(OUTPUTS, rows=1, hits=1), lambda _: strip, str, "t")
    assert (tmp_path / "gallery.png").is_file()


def test_right_is_what_the_evaluation_calls_relevant():
    """By the finest class where there are layers, whatever the labels share; a picture is found once."""
    layers = {"query_hierarchy": np.array([[0, 1], [0, 2]]), "database_hierarchy": np.array([[0, 1], [0, 2], [0, 3]])}
    hits = [hit for each in first_hits({**OUTPUTS, **layers}, rows=2, hits=3) for hit in each.found]
    assert [position for position, right in hits if right] == [20, 21, 20, 21]
    group = {"query_group": np.array([5, 6]), "database_group": np.array([7, 8, 7])}
    found = first_hits({**OUTPUTS, **group}, rows=1, hits=3)
    assert [len(each.found) for each in found] == [3, 2]
    assert {position for position, _ in found[1].found} == {20, 21}
