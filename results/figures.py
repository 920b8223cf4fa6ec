"""Draws the figures of docs/pictures from the tables here: `python results/figures.py`; they suit light and dark pages.

`lengths.svg` is mAP over the length of the code, from `measured.csv`; `parts.svg` is what each part of each method
brings, from `ablations/`.
"""

import csv
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

HERE = Path(__file__).parent
PICTURES = HERE.parent / "docs" / "pictures"
INK, SOFT, LINE, GOOD = "#7b8494", "#a9b1bd", "#3f7fe0", "#2f9e6b"  # read on white and on black
STYLE = {
    "svg.hashsalt": "xmodal",  # the same file again
    "svg.fonttype": "none",
    "font.size": 8,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
}


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def lengths() -> Figure:
    """mAP@all, mean of both directions, over the bits of a code; a bar is the deviation over seeds."""
    rows = [row for row in read(HERE / "measured.csv") if row["dataset"] == "emoji" and row["size"].endswith("bits")]
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for row in sorted(rows, key=lambda row: "-at-" in row["variant"]):  # tuned at its own size before the others
        mean, _, deviation = row["mean"].partition(" +- ")
        size = int(row["size"].split()[0])
        found.setdefault(row["method"], {}).setdefault(size, (float(mean), float(deviation or 0)))
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    order = sorted(found, key=lambda method: -found[method][max(found[method])][0])
    for number, method in enumerate(order):
        sizes = sorted(found[method])
        means, deviations = zip(*(found[method][size] for size in sizes), strict=True)
        axes.errorbar(sizes, means, deviations, marker="o", ms=4, capsize=2, color=f"C{number % 10}", label=method)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, map(str, sizes))
    axes.set(xlabel="bits of the code", ylabel="mAP@all, emoji")
    figure.legend(loc="outside right center", frameon=False)
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
        panels[-1].set_xlabel("mAP@all, variant minus full method")
    return figure


def bars(axes: Axes, method: str, rows: list[dict[str, str]]) -> None:
    """One method: what helps when it is taken away is green."""
    rows = sorted(rows, key=lambda row: -float(row["difference"]))
    for place, row in enumerate(rows):
        difference = float(row["difference"])
        low, high = map(float, row["95 % interval"].strip("[]").split(","))
        axes.barh(place, difference, color=GOOD if difference > 0 else LINE, alpha=0.75)
        axes.plot((low, high), (place, place), color=INK, lw=1)
    axes.set_yticks(range(len(rows)), [row["variant"] for row in rows])
    axes.axvline(0, color=SOFT, lw=0.8)
    axes.set_title(method, loc="right", fontsize=8, fontweight="bold")


def main(folder: Path = PICTURES) -> None:
    """Draw both."""
    folder.mkdir(exist_ok=True)
    with mpl.rc_context(STYLE):
        for draw in (lengths, parts):
            figure = draw()
            figure.savefig(folder / f"{draw.__name__}.svg", transparent=True, metadata={"Date": None})


if __name__ == "__main__":
    main()
