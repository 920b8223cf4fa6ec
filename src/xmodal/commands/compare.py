"""`xmodal compare`: a table and a page of the runs at hand, made from their records only."""

import csv
import sys
from collections.abc import Sequence

from xmodal import arguments, paths
from xmodal.errors import UserError
from xmodal.experiment import dataset_name
from xmodal.records.contests import notes
from xmodal.records.page import write_page
from xmodal.records.results import COLUMNS, table
from xmodal.records.setups import Record, by_setup, collect
from xmodal.records.tables import aligned, piped

NOTES = """i2t, t2i, mean: mAP@all on the query set. val: the validation score by which epochs and settings were chosen
(twdh's were chosen by its long code's).
threads: of the CPU, in which a run was computed; another number gives slightly other sums, as another CPU does.
"""


def main(argv: Sequence[str]) -> int:
    """`xmodal compare`: mAP@all on the query set, as a table here and as a page with tests, plots and galleries."""
    options = arguments.parser("compare").parse_args(list(argv))
    records, broken = collect(paths.runs())
    if options.data:
        options.data = ",".join(dataset_name(each) for each in options.data.split(","))
    for name, key in (("methods", "method"), ("data", "dataset"), ("bits", "size")):
        records = _select(records, name, key, getattr(options, name))
    if broken:
        sys.stderr.write(f"{len(broken)} records are left out; {'; '.join(broken)}\n")
    _print_table(table(records), options.format)
    page, setups = paths.runs() / "compare.html", by_setup(records)
    sys.stderr.writelines(f"{note}\n" for note in notes(setups))
    write_page(page, setups, broken)
    sys.stderr.write(f"page: {page}\n")
    return 0


def _select(records: list[Record], name: str, key: str, wanted: str | None) -> list[Record]:
    """The records that have one of the wanted values.

    Raises:
        UserError: a value that no record has.
    """
    if not wanted:
        return records
    there = {str(record[key]) for record in records}
    values = wanted.split(",")
    if unknown := [value for value in values if value not in there]:
        raise UserError(
            f"{name.upper()} is {wanted!r}, and no run has {', '.join(unknown)}; there are: "
            f"{', '.join(sorted(there, key=lambda each: (len(each), each))) or 'none'}."
        )
    return [record for record in records if str(record[key]) in values]


def _print_table(rows: Sequence[tuple[str, ...]], form: str) -> None:
    if not rows:
        sys.stdout.write(f"no evaluated runs under {paths.runs()}: `make train METHOD=dmsf BITS=64` makes one.\n")
        return
    shown = [COLUMNS, *rows]
    if form == "csv":
        csv.writer(sys.stdout, lineterminator="\n").writerows(shown)
        return
    lines = piped(shown) if form == "markdown" else aligned(shown)
    sys.stdout.writelines(f"{line}\n" for line in lines)
    if form == "text":
        sys.stderr.write(NOTES)
