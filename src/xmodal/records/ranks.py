"""Average ranks of methods over datasets, and how far apart they must lie to mean anything (J. Demsar, JMLR 2006)."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from matplotlib.figure import Figure
from scipy.stats import studentized_range

from xmodal.files import write_atomically
from xmodal.records.contests import Contest


class Ranks(NamedTuple):
    """Methods of one kind that were run everywhere.

    Args:
        unit: `bits` or `dim`.
        datasets: N, names of the datasets.
        mean: rank of each method, best first: 1 is the best; over the sizes of a dataset, then over the datasets.
        distance: what two mean ranks must differ by to differ significantly at .05, by Nemenyi's test.
    """

    unit: str
    datasets: tuple[str, ...]
    mean: dict[str, float]
    distance: float


def average_ranks(contests: Sequence[Contest]) -> list[Ranks]:
    """Of every kind of output that has two datasets or more, and three methods in all of its contests."""
    kinds: dict[str, dict[tuple[str, ...], list[list[str]]]] = defaultdict(lambda: defaultdict(list))
    for contest in contests:
        order = [row.setup.method for row in contest.ranking["map"]]
        kinds[contest.setup.unit][contest.setup.protocol].append(order)
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
        found.append(Ranks(unit, tuple(name for name, *_ in datasets), ordered, distance))
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


def draw_ranks(path: Path, ranks: Ranks) -> None:
    """The critical-difference diagram: methods on a line of ranks, a bar over each run that does not differ."""
    names, bars = list(ranks.mean), alike(ranks)
    figure = Figure(figsize=(7, 1.2 + 0.2 * (len(names) + len(bars))), layout="constrained")
    axes = figure.subplots()
    for row, name in enumerate(names):
        axes.plot([ranks.mean[name]] * 2, [0, -1 - row], color="grey", linewidth=0.8)
        axes.text(ranks.mean[name], -1 - row, f" {name} {ranks.mean[name]:.2f}", va="center")
    for row, (first, last) in enumerate(bars):
        axes.plot([ranks.mean[first], ranks.mean[last]], [0.4 + 0.5 * row] * 2, color="black", linewidth=3)
    axes.set_xlim(1 - 0.1, len(names) + 2)
    axes.set_yticks([])
    axes.set_xlabel(f"mean rank over {', '.join(ranks.datasets)} ({ranks.unit}); 1 is the best")
    axes.set_title(f"A bar: no significant difference (Nemenyi, .05: {ranks.distance:.2f} ranks)", fontsize=10)
    write_atomically(path, lambda file: figure.savefig(file, dpi=120))
