"""Average ranks of methods over datasets, and how far apart they must lie to mean anything (J. Demsar, JMLR 2006)."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure
from scipy.stats import studentized_range

from xmodal.records.contests import Contest
from xmodal.records.figures import COLOURS, STYLE, write_figure


class Ranks(NamedTuple):
    """Methods of one kind that were run everywhere.

    Args:
        unit: `bits` or `dim`.
        datasets: N, names of the datasets.
        mean: rank of each method, best first: 1 is the best; over the contests of a dataset, then over the datasets.
        distance: what two mean ranks must differ by to differ significantly at .05, by Nemenyi's test.
    """

    unit: str
    datasets: tuple[str, ...]
    mean: dict[str, float]
    distance: float


def average_ranks(contests: Sequence[Contest]) -> list[Ranks]:
    """Of every kind that has two datasets or more, and three methods in all its contests; of two is no contest here."""
    return ranks_of(
        (each.setup.unit, each.setup.protocol, [row.setup.method for row in each.ranking["map"]]) for each in contests
    )


def ranks_of(contests: Iterable[tuple[str, tuple[str, ...], Sequence[str]]]) -> list[Ranks]:
    """The same from the unit of each contest, its protocol (the dataset's name first), and its methods, best first."""
    kinds: dict[str, dict[str, list[Sequence[str]]]] = defaultdict(lambda: defaultdict(list))
    for unit, protocol, order in contests:
        if len(order) > 2:  # a contest of two leaves too few methods that were run everywhere
            kinds[unit][protocol[0]].append(order)  # two splits of one dataset are not two datasets
    found = []
    for unit, datasets in kinds.items():
        everywhere = set.intersection(*(set(order) for orders in datasets.values() for order in orders))
        if len(datasets) < 2 or len(everywhere) < 3:
            continue
        of: dict[str, list[float]] = defaultdict(list)
        for orders in datasets.values():
            kept = [[method for method in order if method in everywhere] for order in orders]
            for method in everywhere:
                of[method].append(mean(order.index(method) + 1 for order in kept))
        ranks = {method: mean(each) for method, each in of.items()}
        count = len(ranks)
        spread = float(studentized_range.ppf(0.95, count, float("inf"))) / 2**0.5
        distance = spread * (count * (count + 1) / (6 * len(datasets))) ** 0.5
        ordered = dict(sorted(ranks.items(), key=lambda item: (item[1], item[0])))
        found.append(Ranks(unit, tuple(datasets), ordered, distance))
    return found


def alike(ranks: Ranks) -> list[tuple[str, str]]:
    """First and last of the longest runs of methods that do not differ significantly."""
    names, found = list(ranks.mean), list[tuple[str, str]]()
    end = -1
    for start, first in enumerate(names):
        last = max(k for k, name in enumerate(names) if ranks.mean[name] - ranks.mean[first] < ranks.distance)
        if last > max(start, end):
            found.append((first, names[last]))
            end = last
    return found


@mpl.rc_context(STYLE)
def draw_ranks(path: Path, ranks: Ranks) -> None:
    """The critical-difference diagram: methods on a line of ranks, a bar over each run that does not differ."""
    names, bars = list(ranks.mean), alike(ranks)
    figure = Figure(figsize=(6.4, 1.1 + 0.2 * (len(names) + len(bars))), layout="constrained")
    axes = figure.subplots()
    for row, (name, rank) in enumerate(reversed(ranks.mean.items())):
        axes.plot([rank, rank], [0, -1 - row], "o-", markevery=[0], ms=4, lw=0.8, color=COLOURS[0])
        axes.annotate(f"{name}, {rank:.2f}", (rank, -1 - row), (4, 0), textcoords="offset points", va="center")
    for row, (first, last) in enumerate(bars):
        axes.plot([ranks.mean[first], ranks.mean[last]], [0.7 + 0.6 * row] * 2, color=COLOURS[1], lw=3)
    axes.set(xlim=(0.9, len(names) + 0.6), yticks=[], xticks=range(1, len(names) + 1))
    axes.spines.left.set_visible(False)
    axes.set_xlabel(f"mean rank over {', '.join(ranks.datasets)} ({ranks.unit}); 1 is the best")
    axes.set_title(f"Under one bar no difference is significant: that takes {ranks.distance:.2f} ranks", fontsize=8)
    write_figure(path, figure)
