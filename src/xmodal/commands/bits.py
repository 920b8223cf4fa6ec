"""`xmodal bits`: the tuned method at several code lengths or embedding sizes, under several seeds."""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from xmodal import arguments, paths
from xmodal.experiment import configuration, size_names
from xmodal.records.figures import draw_curves, draw_sizes
from xmodal.records.setups import Setup
from xmodal.records.tables import Table
from xmodal.run import MAX_SIZE, overrides, whole_list
from xmodal.studies.each_method import each_method
from xmodal.studies.grid import Grid, check_same_data, full_method, origin, tuned_file
from xmodal.studies.workers import check_workers, pool_of

SIZES = "16,32,64,128"


def main(argv: Sequence[str]) -> int:
    """`xmodal bits METHOD DATA [--bits 16,32,64,128] [options] [any key of the configuration, for all runs]`.

    Each length runs the file that was tuned for it; else the tuned file of the nearest length, with `bits` changed
    (its runs are named after it: `tuned-at-64`); else the experiment file. Embeddings take `--dim`. Finished runs are
    used again. Ends with a table (Markdown, CSV and LaTeX as well) and two figures, beside the runs.
    """
    options, rest = arguments.parser("bits").parse_known_args(list(argv))
    check_workers(options)
    return each_method(options, lambda own: _bits(own, rest), lambda method: True)


def _bits(options: argparse.Namespace, rest: Sequence[str]) -> None:
    kind = "bits" if options.dim is None and "bits" in size_names(options.method) else "dim"
    if kind == "dim" and options.dim is None and options.bits is not None:
        overrides(options)  # says which of the two the method takes
    rows, sources = {}, {}
    for size in whole_list(kind.upper(), getattr(options, kind) or SIZES, 1, MAX_SIZE):
        name = f"{size} {kind}"
        file, row = nearest_tuned(options.method, options.data, size, options.base)
        rows[name] = [*row, *overrides(argparse.Namespace(**vars(options) | {kind: str(size)}), rest)]
        sources[name] = paths.shown(file)
    grid = Grid(rows, options.seeds, pool_of(options))
    setups, stem, title = grid.setups(), grid.folder / kind, f"{options.method} on {options.data}"
    shown, curves = table(setups, sources), stem.with_name(f"{kind}-precision_recall.png")
    sys.stdout.write(f"\n{shown.text()}\n")
    written = [*shown.write(stem), stem.with_suffix(".png"), curves]
    draw_sizes(stem.with_suffix(".png"), list(setups.values()), title)
    draw_curves(curves, setups.items(), title)
    sys.stdout.writelines(f"{path}\n" for path in written)


def nearest_tuned(method: str, dataset: str, size: int, base: Path | None = None) -> tuple[Path, list[str]]:
    """As `full_method`, but a size without a tuned file borrows the nearest one (by ratio; the larger of two)."""
    tuned = paths.listed(paths.experiments() / method / "tuned", f"{dataset}-*.yaml")
    there = [path.stem.removeprefix(f"{dataset}-") for path in tuned]
    sizes = [int(text) for text in there if text.isdigit()]
    if size in sizes or not sizes:
        return full_method(method, dataset, size, base)
    nearest = min(sizes, key=lambda other: (abs(math.log(other / size)), -other))
    check_same_data(file := tuned_file(method, dataset, nearest), base)
    marks = [f"--variant=tuned-at-{nearest}", f"--group={method}-{dataset}-{size}", "--job_type=bits"]
    return file, [*configuration(None, None, [file]), *marks]


def table(setups: Mapping[str, Setup], sources: Mapping[str, str]) -> Table:
    """Mean and spread over seeds at every size, and where its weights come from."""
    first = next(iter(setups.values()))
    metrics = ("test/map_i2t", "test/map_t2i", "test/map", "val/map")
    return Table(
        f"{first.method} on {first.dataset}: mAP@all on the query set",
        (first.unit, "i2t", "t2i", "mean", "val", "weights"),
        tuple(
            (str(setup.size), *(setup.spread(metric) or "" for metric in metrics), sources[name])
            for name, setup in setups.items()
        ),
        origin(setups.values()),
    )
