"""`xmodal compare`: a table of the runs at hand, made from their records only."""

import argparse
import csv
import sys
from collections.abc import Iterable, Sequence

from xmodal import paths
from xmodal.tracking.groups import Record, collect, group

COLUMNS = ("method", "dataset", "size", "variant", "seeds", "i2t", "t2i", "mean", "val", "split")


def main(argv: Sequence[str]) -> int:
    """`xmodal compare`: mAP@all on the query set, mean and deviation over seeds; compare within one split."""
    parser = argparse.ArgumentParser(prog="xmodal compare", description=main.__doc__)
    parser.add_argument("--format", choices=("text", "markdown", "csv"), default="text", help="of the table")
    form = parser.parse_args(list(argv)).format
    records, broken = collect(paths.runs())
    sys.stderr.writelines(f"xmodal compare: left out: {reason}\n" for reason in broken)
    rows = table(records)
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


def table(records: Iterable[Record]) -> list[tuple[str, ...]]:
    """Rows of `COLUMNS`, by dataset, split, size and falling mean; runs that differ in their seed share a row."""
    return [
        (
            each.method,
            each.dataset,
            f"{each.size} {each.unit}",
            each.variant,
            ",".join(str(record["seed"]) for record in each.records),
            *(str(each.spread(name) or "") for name in ("test/map_i2t", "test/map_t2i", "test/map", "val/map")),
            each.split_hash[:8],
        )
        for each in group(records)
    ]
