"""Figures of evaluated runs: scores over the length of the code, and precision over recall; one style for all."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

from xmodal.files import write_atomically
from xmodal.records.setups import Setup

DIRECTIONS = {"i2t": "image to text", "t2i": "text to image"}
INK, SOFT = "#7b8494", "#a9b1bd"  # of words and of lines: read on white and on black, like the colours below
COLOURS = ("#3f7fe0", "#d9742f", "#2f9e6b", "#b455c4", "#bd8f1f", "#2a9db0", "#d9506f", "#7f9030", "#8572dd", "#9a7552")
STYLE: Any = {  # keys of matplotlib
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 8,
    "grid.color": SOFT,
    "legend.frameon": False,
    "savefig.transparent": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "xmodal",  # the same file again
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure in the style, transparent, as the ending says; the same figure gives the same bytes."""
    kind = path.suffix[1:]
    undated: Any = {"metadata": {"Date": None}} if kind == "svg" else {}
    with mpl.rc_context(STYLE):
        write_atomically(path, lambda file: figure.savefig(file, format=kind, dpi=120, **undated))


@mpl.rc_context(STYLE)
def draw_sizes(path: Path, setups: Sequence[Setup], title: str) -> None:
    """mAP@all over bits or dimensions, one line per direction; bars are the deviation over seeds.

    Args:
        path: of the picture.
        setups: the runs of every size.
        title: above the figure.
    """
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes, found = figure.subplots(), sorted(setups, key=lambda setup: int(setup.size))
    sizes = [int(setup.size) for setup in found]
    for colour, (direction, name) in zip(COLOURS, DIRECTIONS.items(), strict=False):
        spreads = [setup.spread(f"test/map_{direction}") for setup in found]
        means = [spread.mean if spread else np.nan for spread in spreads]
        bars = [spread.deviation or 0.0 if spread else 0.0 for spread in spreads]
        axes.errorbar(sizes, means, bars, color=colour, capsize=3, label=name)
        for setup, mean in zip(found, means, strict=True):
            face = colour if setup.variant == "tuned" else "white"
            axes.plot(setup.size, mean, "o", color=colour, markerfacecolor=face)
    if any(setup.variant != "tuned" for setup in found):
        axes.plot([], [], "o", color=INK, markerfacecolor="white", label="not tuned at this size")
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, map(str, sizes))
    axes.set(title=title, xlabel=found[0].unit, ylabel="mAP@all, query set")
    axes.grid(alpha=0.3)
    axes.legend()
    write_figure(path, figure)


@mpl.rc_context(STYLE)
def draw_curves(path: Path, setups: Iterable[tuple[str, Setup]], title: str) -> None:
    """Precision over recall by rank, a panel per direction, a line per setup: the mean over its seeds at each recall.

    Args:
        path: of the picture.
        setups: names in the legend, and runs with their `evaluation.npz`.
        title: above the figure.
    """
    figure, recalls = Figure(figsize=(8, 3.8), layout="constrained"), np.linspace(0, 1, 101)
    figure.suptitle(title)
    named = list(setups)
    for axes, (direction, name) in zip(figure.subplots(1, 2, sharey=True), DIRECTIONS.items(), strict=True):
        for label, setup in named:
            lines = []
            for record in setup.records:
                with np.load(Path(record["path"]).with_name("evaluation.npz")) as kept:
                    _, precision, recall = kept[f"pr_rank_{direction}"].T
                lines.append(np.interp(recalls, recall, precision))
            axes.plot(recalls, np.mean(lines, axis=0), label=label)
        axes.set(title=name, xlabel="recall", ylim=(0, 1), xlim=(0, 1))
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("precision")
    figure.axes[1].legend()
    write_figure(path, figure)
