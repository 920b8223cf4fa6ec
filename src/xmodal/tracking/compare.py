"""`xmodal compare`: a table of the runs at hand, made from their records only."""

import argparse
import csv
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from xmodal import paths
from xmodal.tracking.record import read_results

COLUMNS = ("method", "dataset", "size", "variant", "seeds", "i2t", "t2i", "mean", "val", "split")


def main(argv: Sequence[str]) -> int:
    """`xmodal compare`: mAP@all on the query set, mean and deviation over seeds; compare within one split."""
    parser = argparse.ArgumentParser(prog="xmodal compare", description=main.__doc__)
    parser.add_argument("--format", choices=("text", "markdown", "csv"), default="text", help="of the table")
    form = parser.parse_args(list(argv)).format
    rows = table(read_results(paths.runs()))
    if not rows:
        sys.stdout.write(f"no evaluated runs under {paths.runs()}: `make train METHOD=dmsf BITS=64` makes one.\n")
        return 0
    shown = [COLUMNS, *rows]
    if form == "csv":
        csv.writer(sys.stdout, lineterminator="\n").writerows(shown)
        return 0
    if form == "markdown":
        shown.insert(1, ("---",) * len(COLUMNS))
        sys.stdout.writelines(f"| {' | '.join(row)} |\n" for row in shown)
        return 0
    widths = [max(len(row[column]) for row in shown) for column in range(len(COLUMNS))]
    for row in shown:
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")
    return 0


def table(records: Iterable[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Rows of `COLUMNS`, by dataset, split, size and falling mean; runs that differ in their seed share a row."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        if "test/map" in record["metrics"] and record["job_type"] != "smoke":
            key = (
                record["dataset"],
                record["relevance"],
                record["split_hash"],
                record["size"],
                record["kind"],
                record["method"],
                record["variant"],
                record["setup_hash"],
            )
            groups[key].append(record)
    rows = []
    for (dataset, _, split, size, kind, method, variant, _), found in groups.items():
        score = statistics.mean(record["metrics"]["test/map"] for record in found)
        cells = [
            _spread([record["metrics"][name] for record in found])
            for name in ("test/map_i2t", "test/map_t2i", "test/map", "val/map")
        ]
        seeds = ",".join(str(seed) for seed in sorted({record["seed"] for record in found}))
        unit = "bits" if kind == "binary" else "dim"
        rows.append(
            (
                (dataset, split, kind, size, -score),
                (method, dataset, f"{size} {unit}", variant, seeds, *cells, split[:8]),
            )
        )
    return [row for _, row in sorted(rows)]


def _spread(values: Sequence[float]) -> str:
    mean = f"{statistics.mean(values):.4f}"
    return f"{mean} +- {statistics.stdev(values):.4f}" if len(values) > 1 else mean
