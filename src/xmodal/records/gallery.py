"""A retrieval gallery: queries with what was found for them, right hits framed green, wrong ones red and dashed.

Every card shows the picture and its text, so that a reader can judge a hit; what the search did not see is pale.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.nn.functional import normalize

from xmodal.files import write_atomically
from xmodal.relevance import Relevance

RIGHT, WRONG, QUERY = "#2e9e4f", "#c8553d", "#3b5b92"
INK, PALE = "#7b8494", 0.4  # of the title, on any ground; how strong the side is that was not asked or found
SIDES: tuple[tuple[Literal["image", "text"], Literal["image", "text"]], ...] = (("image", "text"), ("text", "image"))


class Hits(NamedTuple):
    """A query and what was found for it.

    Attributes:
        asked: the query's modality; the other one is found.
        query: its position in the dataset.
        found: position and rightness of the nearest items, nearest first.
    """

    asked: Literal["image", "text"]
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
    for asked, found in SIDES:
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
    figure = Figure(figsize=(1.5 * width, 1.55 * len(hits) + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=11, color=INK)
    other = dict(SIDES)
    for each, cells in zip(hits, figure.subplots(len(hits), width, squeeze=False), strict=True):
        _cell(cells[0], each.asked, each.query, picture, caption, QUERY)
        for cell, (position, right) in zip(cells[1:], each.found, strict=False):
            _cell(cell, other[each.asked], position, picture, caption, RIGHT if right else WRONG)
        for cell in cells[1 + len(each.found) :]:
            cell.set_axis_off()
    write_atomically(path, lambda file: figure.savefig(file, dpi=90, facecolor="none"))


def _cell(
    axes: Any,  # noqa: ANN401 - matplotlib's axes
    side: str,
    position: int,
    picture: Callable[[int], Image.Image | None],
    caption: Callable[[int], str],
    colour: str,
) -> None:
    """A card with the picture above its text; the side that the search did not see is pale."""
    axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1))
    axes.set_aspect("equal")
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=2.5, linestyle="--" if colour == WRONG else "-")
    drawn = picture(position)
    if drawn is not None:
        drawn = ImageOps.contain(drawn, (160, 160))
        across, up = (0.3 * length / max(drawn.size) for length in drawn.size)
        place = (0.5 - across, 0.5 + across, 0.64 - up, 0.64 + up)
        axes.imshow(np.asarray(drawn), extent=place, alpha=1 if side == "image" else PALE)
    words = textwrap.fill(textwrap.shorten(caption(position), 48, placeholder=" ..."), 20)
    middle = 0.5 if drawn is None else 0.18
    shade = 1 if side == "text" or drawn is None else PALE
    axes.text(0.5, middle, words, ha="center", va="center", fontsize=7, color="black", alpha=shade)
