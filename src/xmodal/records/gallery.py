"""A retrieval gallery: queries with what was found for them, right hits framed green, wrong ones red and dashed.

Every card shows the picture and its text, so that a reader can judge a hit; what the search did not see is pale.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import normalize

from xmodal.batch import OTHER, Side
from xmodal.files import write_atomically
from xmodal.relevance import Relevance

RIGHT, WRONG, QUERY = "#2e9e4f", "#c8553d", "#3b5b92"
INK, PALE = "#7b8494", 0.4  # of the title, on any ground; how strong the side is that was not asked or found


class Hits(NamedTuple):
    """A query and what was found for it.

    Attributes:
        asked: the query's modality; the other one is found.
        query: its position in the dataset.
        found: position and rightness of the nearest items, nearest first.
    """

    asked: Side
    query: int
    found: tuple[tuple[int, bool], ...]


def first_hits(outputs: Mapping[str, Any], rows: int = 4, hits: int = 6) -> list[Hits]:
    """The first `hits` answers to `rows` queries, image queries first; the same queries for every method.

    Args:
        outputs: of the metric: `query_image`, `query_text`, `database_image`, `database_text` (N, K) codes or
            embeddings, ranked by cosine with ties in database order, and the columns of `Relevance`, such as
            `query_label`. A picture that several captions share is found once.
        rows: queries per direction, spread evenly over the query set.
        hits: answers per query.
    """
    kept = {name: torch.as_tensor(each) for name, each in outputs.items()}
    query, database = (
        Relevance.of({name.partition("_")[2]: each for name, each in kept.items() if name.startswith(split)})
        for split in ("query", "database")
    )
    chosen = torch.from_numpy(np.linspace(0, len(query.index) - 1, rows).astype(int))
    listed = []
    for asked, found in OTHER.items():
        distinct = database.distinct(found)
        items = torch.arange(len(database.index)) if distinct is None else distinct
        right = query.at(chosen).relevant(database.at(items))
        near, far = kept[f"query_{asked}"][chosen], kept[f"database_{found}"][items]
        scores = normalize(near.double()) @ normalize(far.double()).T
        best = scores.round(decimals=12).argsort(dim=1, descending=True, stable=True)[:, :hits]
        for row, position in enumerate(chosen.tolist()):
            nearest = tuple((int(database.index[items[hit]]), bool(right[row, hit])) for hit in best[row])
            listed.append(Hits(asked, int(query.index[position]), nearest))
    return listed


def draw_gallery(
    path: Path,
    hits: Sequence[Hits],
    picture: Callable[[int], Image.Image | None],
    caption: Callable[[int], str],
    title: str,
) -> None:
    """Draw queries with their first answers, a query a row.

    Args:
        path: of the PNG.
        hits: as `first_hits` gives them.
        picture: the image at a position.
        caption: the text at a position.
        title: above the figure.
    """
    from matplotlib.figure import Figure

    width = 1 + max(len(each.found) for each in hits)
    size = (1.5 * width, 1.5 * len(hits) + 0.4)
    figure = Figure(figsize=size)
    figure.suptitle(title, fontsize=11, color=INK, y=1 - 0.2 / size[1])
    axes = figure.add_axes((0, 0, 1, 1.5 * len(hits) / size[1]), xlim=(0, width), ylim=(len(hits), 0))
    axes.set_axis_off()  # cards on one pair of axes, a unit each: axes of their own take ten times as long
    for row, each in enumerate(hits):
        _card(axes, 0, row, each.asked, each.query, picture, caption, QUERY)
        for column, (position, right) in enumerate(each.found, 1):
            _card(axes, column, row, OTHER[each.asked], position, picture, caption, RIGHT if right else WRONG)
    write_atomically(path, lambda file: figure.savefig(file, dpi=90, facecolor="none"))


def _card(
    axes: Any,  # noqa: ANN401 - matplotlib's axes
    column: int,
    row: int,
    side: str,
    position: int,
    picture: Callable[[int], Image.Image | None],
    caption: Callable[[int], str],
    colour: str,
) -> None:
    """A card with the picture above its text; the side that the search did not see is pale."""
    from matplotlib.patches import Rectangle

    frame = Rectangle((column + 0.05, row + 0.05), 0.9, 0.9, facecolor="white", edgecolor=colour, linewidth=2.5)
    frame.set_linestyle("--" if colour == WRONG else "-")
    axes.add_patch(frame)
    drawn = picture(position)
    if drawn is not None:
        drawn = drawn.resize([max(round(length / max(drawn.size) * 160), 1) for length in drawn.size])
        across, down = (0.28 * length / max(drawn.size) for length in drawn.size)
        left, middle = column + 0.5, row + 0.36
        place = (left - across, left + across, middle + down, middle - down)
        axes.imshow(np.asarray(drawn), extent=place, alpha=1 if side == "image" else PALE, aspect="auto", zorder=2)
    words = textwrap.fill(textwrap.shorten(caption(position), 48, placeholder=" ..."), 20)
    height = row + (0.5 if drawn is None else 0.79)
    shade = 1 if side == "text" or drawn is None else PALE
    look = {"ha": "center", "va": "center", "fontsize": 7, "color": "black", "alpha": shade}
    axes.text(column + 0.5, height, words, parse_math=False, **look)  # between two prices lies no formula
