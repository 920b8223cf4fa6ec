"""A retrieval gallery: queries with what was found for them, right hits framed green, wrong ones red and dashed."""

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

RIGHT, WRONG, QUERY = "#2e9e4f", "#c8553d", "#3b5b92"


def draw_gallery(
    path: Path,
    outputs: Mapping[str, NDArray[np.generic]],
    picture: Callable[[int], Image.Image | None],
    caption: Callable[[int], str],
    title: str,
    rows: int = 4,
    hits: int = 6,
) -> None:
    """Draw `rows` queries per direction with their first `hits` answers.

    Args:
        path: of the PNG.
        outputs: `query_image`, `query_text`, `database_image`, `database_text` (N, K) codes or unit embeddings,
            ranked by inner product with ties in database order; `query_label`, `database_label` (N, C); `query_index`,
            `database_index` (N,) positions in the dataset.
        picture: the image at a position.
        caption: the text at a position.
        title: above the figure.
        rows: queries per direction, spread evenly over the query set.
        hits: answers per query.
    """
    from matplotlib.figure import Figure

    chosen = np.linspace(0, len(outputs["query_index"]) - 1, rows).astype(int)
    figure = Figure(figsize=(1.5 * (hits + 1), 1.62 * 2 * rows + 0.9), layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(2 * rows, hits + 1)
    for direction, (asked, found) in enumerate((("image", "text"), ("text", "image"))):
        scores = (
            outputs[f"query_{asked}"][chosen].astype(np.float32) @ outputs[f"database_{found}"].astype(np.float32).T
        )
        best = np.argsort(-scores, axis=1, kind="stable")[:, :hits]
        right = outputs["query_label"][chosen].astype(np.float32) @ outputs["database_label"].astype(np.float32).T > 0
        for row, query in enumerate(chosen):
            cells = axes[direction * rows + row]
            _cell(cells[0], asked, int(outputs["query_index"][query]), picture, caption, QUERY)
            for cell, hit in zip(cells[1:], best[row], strict=True):
                _cell(
                    cell,
                    found,
                    int(outputs["database_index"][hit]),
                    picture,
                    caption,
                    RIGHT if right[row, hit] else WRONG,
                )
    figure.savefig(path, dpi=90)


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
