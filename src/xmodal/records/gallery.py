"""A retrieval gallery: queries with what was found for them, right hits framed green, wrong ones red and dashed."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import normalize

from xmodal.files import write_atomically
from xmodal.relevance import Relevance

RIGHT, WRONG, QUERY = "#2e9e4f", "#c8553d", "#3b5b92"
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
    figure = Figure(figsize=(1.5 * width, 1.62 * len(hits) + 0.9), layout="constrained")
    figure.suptitle(title, fontsize=11)
    other = dict(SIDES)
    for each, cells in zip(hits, figure.subplots(len(hits), width, squeeze=False), strict=True):
        _cell(cells[0], each.asked, each.query, picture, caption, QUERY)
        for cell, (position, right) in zip(cells[1:], each.found, strict=False):
            _cell(cell, other[each.asked], position, picture, caption, RIGHT if right else WRONG)
    write_atomically(path, lambda file: figure.savefig(file, dpi=90))


def _cell(
    axes: Any,  # noqa: ANN401 - matplotlib's axes
    side: str,
    position: int,
    picture: Callable[[int], Image.Image | None],
    caption: Callable[[int], str],
    colour: str,
) -> None:
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=2.5, linestyle="--" if colour == WRONG else "-")
    drawn = picture(position) if side == "image" else None
    if drawn is not None:
        axes.imshow(np.asarray(drawn))
    else:
        words = textwrap.fill(textwrap.shorten(caption(position), 70, placeholder=" ..."), 16)
        axes.text(0.5, 0.5, words, ha="center", va="center", fontsize=7, transform=axes.transAxes)
