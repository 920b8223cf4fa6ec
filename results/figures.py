"""Draws the figures of docs/pictures from the tables here: `python results/figures.py`; they suit light and dark pages.

`lengths.svg` is mAP over the length of the code and `ranks-bits.svg` the mean ranks over the datasets, both from
`measured.csv`; `parts.svg` is what each part of each method brings, from `ablations/`.
"""

import csv
from collections import defaultdict
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xmodal.records.figures import COLOURS, INK, SOFT, STYLE, write_figure
from xmodal.records.ranks import draw_ranks, ranks_of

HERE = Path(__file__).parent
PICTURES = HERE.parent / "docs" / "pictures"
WORSE, BETTER = COLOURS[0], COLOURS[2]
LINES = ("-", "--", ":")  # of the first methods with these colours, and of the next


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def codes() -> dict[tuple[str, str], dict[int, dict[str, tuple[float, float]]]]:
    """Mean of both directions and its deviation, by dataset and protocol, length and method."""
    found: dict[tuple[str, str], dict[int, dict[str, tuple[float, float]]]] = defaultdict(lambda: defaultdict(dict))
    for row in sorted(read(HERE / "measured.csv"), key=lambda row: "-at-" in row["variant"]):  # tuned there comes first
        size, unit = row["size"].split()[:2]  # `(128 out)` may follow
        if unit == "bits":
            mean, _, deviation = row["mean"].partition(" +- ")
            here = found[row["dataset"], row["relevance"] + row["split"]][int(size)]
            here.setdefault(row["method"], (float(mean), float(deviation or 0)))
    return found


def lengths() -> Figure:
    """mAP@all, mean of both directions, over the bits of a code; a bar is the deviation over seeds.

    Two panels, split where the methods lie farthest apart, so that neither is pressed flat.
    """
    [found] = [sizes for (dataset, _), sizes in codes().items() if dataset == "emoji"]
    last = found[max(found)]
    order = sorted(last, key=lambda method: -last[method][0])
    gap = max(range(1, len(order)), key=lambda place: last[order[place - 1]][0] - last[order[place]][0])
    figure = Figure(figsize=(7.2, 5.4), layout="constrained")
    high, low = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for number, method in enumerate(order):
        sizes = [size for size in sorted(found) if method in found[size]]
        means, deviations = zip(*(found[size][method] for size in sizes), strict=True)
        axes, (cycle, colour) = (high if number < gap else low), divmod(number, len(COLOURS))
        places = [size * 2 ** (0.015 * (number - len(last) / 2)) for size in sizes]  # whiskers stand side by side
        axes.errorbar(
            places, means, deviations, marker="o", ms=4, capsize=2, color=COLOURS[colour], ls=LINES[cycle], label=method
        )
    for axes, words in ((high, "mAP@all, emoji"), (low, "")):
        axes.grid(axis="y", alpha=0.3)
        axes.set_ylabel(words)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    low.set_xscale("log", base=2)
    low.set_xticks(sorted(found), map(str, sorted(found)))
    low.set(xlabel="bits of the code; the two panels have scales of their own")
    low.minorticks_off()
    return figure


def parts() -> Figure:
    """Variant minus full method with its 95 % interval over queries, a panel for each method, on one axis."""
    tables = {path.stem.rpartition("-")[0]: read(path) for path in sorted((HERE / "ablations").glob("*-emoji.csv"))}
    rows = {method: [row for row in table if row["difference"]] for method, table in tables.items()}
    figure = Figure(figsize=(9, 0.24 * sum(map(len, rows.values())) / 3 + 3), layout="constrained")
    ends = [
        float(end) for table in rows.values() for row in table for end in row["95 % interval"].strip("[]").split(",")
    ]
    columns: list[list[str]] = [[], [], []]
    for method in sorted(rows, key=lambda method: -len(rows[method])):
        min(columns, key=lambda column: sum(len(rows[name]) + 3 for name in column)).append(method)
    for column, grid in zip(columns, figure.subfigures(1, 3), strict=True):
        heights = [len(rows[method]) + 1 for method in column]
        panels = grid.subplots(len(column), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for method, axes in zip(column, panels, strict=True):
            bars(axes, method, rows[method])
        panels[-1].set_xlim(min(ends), max(ends))
    figure.supxlabel("mAP@all, variant minus full method", fontsize=8)
    return figure


def bars(axes: Axes, method: str, rows: list[dict[str, str]]) -> None:
    """One method: what helps when it is taken away is green."""
    rows = sorted(rows, key=lambda row: -float(row["difference"]))
    for place, row in enumerate(rows):
        difference = float(row["difference"])
        low, high = map(float, row["95 % interval"].strip("[]").split(","))
        axes.barh(place, difference, color=BETTER if difference > 0 else WORSE, alpha=0.75)
        axes.plot((low, high), (place, place), color=INK, lw=1)
    axes.set_yticks(range(len(rows)), [row["variant"] for row in rows])
    axes.axvline(0, color=SOFT, lw=0.8)
    axes.set_title(method, loc="right", fontsize=8, fontweight="bold")


def main(folder: Path = PICTURES) -> None:
    """Draw all."""
    folder.mkdir(exist_ok=True)
    with mpl.rc_context(STYLE):
        for draw in (lengths, parts):
            write_figure(folder / f"{draw.__name__}.svg", draw())
    orders = (
        ("bits", protocol, sorted(here, key=lambda method: -here[method][0]))
        for protocol, sizes in codes().items()
        for here in sizes.values()
    )
    for ranks in ranks_of(orders):
        draw_ranks(folder / f"ranks-{ranks.unit}.svg", ranks)


if __name__ == "__main__":
    main()
