"""Figures of evaluated runs: scores over the length of the code, and precision over recall."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from xmodal.files import write_atomically
from xmodal.records.setups import Setup

DIRECTIONS = {"i2t": "image to text", "t2i": "text to image"}


def draw_sizes(path: Path, setups: Sequence[Setup], title: str) -> None:
    """mAP@all over bits or dimensions, one line per direction; bars are the deviation over seeds.

    Args:
        path: of the PNG.
        setups: the runs of every size.
        title: above the figure.
    """
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes, found = figure.subplots(), sorted(setups, key=lambda setup: int(setup.size))
    sizes = [int(setup.size) for setup in found]
    for colour, (direction, name) in enumerate(DIRECTIONS.items()):
        spreads = [setup.spread(f"test/map_{direction}") for setup in found]
        means = [spread.mean if spread else np.nan for spread in spreads]
        bars = [spread.deviation or 0.0 if spread else 0.0 for spread in spreads]
        axes.errorbar(sizes, means, bars, color=f"C{colour}", capsize=3, label=name)
        for setup, mean in zip(found, means, strict=True):
            face = f"C{colour}" if setup.variant == "tuned" else "white"
            axes.plot(setup.size, mean, "o", color=f"C{colour}", markerfacecolor=face)
    if any(setup.variant != "tuned" for setup in found):
        axes.plot([], [], "o", color="grey", markerfacecolor="white", label="not tuned at this size")
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, map(str, sizes))
    axes.set(title=title, xlabel=found[0].unit, ylabel="mAP@all, query set")
    axes.grid(alpha=0.3)
    axes.legend()
    write_atomically(path, lambda file: figure.savefig(file, dpi=120))


def draw_curves(path: Path, setups: Mapping[str, Setup], title: str) -> None:
    """Precision over recall by rank, a panel per direction, a line per setup: the mean over its seeds at each recall.

    Args:
        path: of the PNG.
        setups: runs with their `evaluation.npz`, by the name in the legend.
        title: above the figure.
    """
    figure, recalls = Figure(figsize=(8, 3.8), layout="constrained"), np.linspace(0, 1, 101)
    figure.suptitle(title)
    for axes, (direction, name) in zip(figure.subplots(1, 2, sharey=True), DIRECTIONS.items(), strict=True):
        for label, setup in setups.items():
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
    write_atomically(path, lambda file: figure.savefig(file, dpi=120))
