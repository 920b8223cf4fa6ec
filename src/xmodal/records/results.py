"""The tables that `xmodal table` writes into `results/`: what was measured, who leads, and what it cost."""

import csv
import io
import re
import runpy
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xmodal import paths
from xmodal.files import write_atomically
from xmodal.records.contests import contests
from xmodal.records.page import write_page
from xmodal.records.record import computed_by
from xmodal.records.setups import MEASURES, Record, Setup, by_setup, collect, is_plain

COLUMNS = [
    *("method", "dataset", "size", "variant", "seeds", "i2t", "t2i", "mean", "val"),
    *("split", "relevance", "device", "threads"),
]
HITS = [f"hit@{rank}_{direction}" for direction in ("i2t", "t2i") for rank in (1, 5, 10)]
LEADS = ("dataset", "relevance", "size", "direction", "best", "second", "lead", "low", "high", "p", "seeds", "verdict")
CELLS = ("method", "dataset", "size", "trials", "search minutes", "minutes a run", "GPU kJ", "device", *HITS)
Row = dict[str, str]


def table(records: Iterable[Record]) -> list[tuple[str, ...]]:
    """Rows of `COLUMNS`, by dataset, split, size and falling mean; runs that differ in their seed share a row.

    Where one split was judged by several labels or texts, the relevance names them by their hash.
    """
    setups = by_setup(records)
    several = Counter(protocol[:3] for protocol in {each.protocol for each in setups})
    return [
        (
            each.method,
            each.dataset,
            each.sized,
            each.variant,
            ",".join(str(record["seed"]) for record in each.records),
            *(str(each.spread(name) or "") for name in ("test/map_i2t", "test/map_t2i", "test/map", "val/map")),
            each.split_hash[:8],
            each.relevance if several[each.protocol[:3]] == 1 else f"{each.relevance} (labels {each.relevance_hash})",
            *(computed_by(each.records, key) for key in ("device", "threads")),
        )
        for each in setups
    ]


def write(ledgers: Iterable[Mapping[str, Any]], folder: Path, gone: Collection[tuple[str, str]] = ()) -> None:
    """The tables in a folder, the page beside the runs, and what a `tables.py` in the folder makes of them.

    A cell replaces its rows, and those of its contest the leads. The rows of others, which lie on other machines or
    were made by other rules, stay.

    Args:
        ledgers: of the filled cells: their records, by path below the runs, and what they cost.
        folder: of `measured.csv`, `leads.csv` and `cells.csv`; made if it is not there.
        gone: methods and datasets whose data have changed: their rows do not stay, nor the leads on their datasets.
    """
    listed = {paths.runs() / record: kept for kept in ledgers for record in kept["records"]}
    records = [record for record in collect(paths.runs())[0] if Path(record["path"]) in listed]
    setups = by_setup(records)
    folder.mkdir(parents=True, exist_ok=True)
    new = {(each.method, each.dataset, each.sized, each.relevance) for each in setups}
    asked = {(dataset, relevance, _out(size)) for _, dataset, size, relevance in new}
    measured, leads, costs = (_rows(folder / f"{name}.csv") for name in ("measured", "leads", "cells"))
    measured, costs = ([row for row in rows if _key(row, 2) not in gone] for rows in (measured, costs))
    older = [row for row in measured if (*_key(row, 3), row["relevance"]) not in new or not is_plain(row["variant"])]
    leads = [row for row in leads if _contest(row) not in asked and row["dataset"] not in {data for _, data in gone}]
    costs = [row for row in costs if _key(row, 3) not in {key[:3] for key in new}]
    cells = (_cell(each, listed[Path(each.records[0]["path"])]) for each in setups)
    _csv(folder / "measured.csv", COLUMNS, table(records), older)
    _csv(folder / "leads.csv", LEADS, _leads(setups, older), leads)
    _csv(folder / "cells.csv", CELLS, cells, costs)
    write_page(paths.runs() / "table.html", setups, [])
    if (folder / "tables.py").is_file():  # which draws as well
        runpy.run_path(str(folder / "tables.py"), run_name="__main__")
    else:
        from xmodal.records.ranks import average_ranks, draw_ranks  # matplotlib takes a second

        for ranks in average_ranks(contests(setups)):
            draw_ranks(folder / f"ranks-{ranks.unit}.svg", ranks)
    sys.stdout.write(f"{folder}\n{paths.runs() / 'table.html'}\n")


def _rows(path: Path) -> list[Row]:
    return list(csv.DictReader(io.StringIO(path.read_text()))) if path.is_file() else []


def _key(row: Row, length: int) -> tuple[str, ...]:
    """Method, dataset and size of a row."""
    return tuple(row[column] for column in CELLS[:length])


def _contest(row: Row) -> tuple[str, str, str]:
    """Dataset, relevance and what leaves the encoder: of `64 dim (192 out)` 192 dimensions."""
    return row["dataset"], row["relevance"], _out(row["size"])


def _leads(setups: Sequence[Setup], older: Sequence[Row]) -> Iterator[tuple[object, ...]]:
    """Who leads each contest in each direction, by how much, and whether it means anything.

    Of an older row there are no values of each query: where one is not below the second, nobody leads.
    """
    whole = [row for row in older if is_plain(row["variant"])]
    for contest in contests(setups):
        where = (contest.setup.dataset, contest.setup.relevance, _out(contest.setup.sized))
        rivals = [row for row in whole if _contest(row) == where]
        for measure, words in MEASURES.items():
            best, *others = contest.ranking[measure]
            if not others:
                continue
            test = others[0].behind[measure]
            first, second = (row.setup.spread(f"test/{measure}") for row in (best, others[0]))
            score = "mean" if words == "both" else words
            if rivals and not (second and all(float(row[score].split()[0]) < second.mean for row in rivals)):
                continue
            verdict = "untested" if not test else "one seed" if test.seeds == 1 else "significant" * test.significant
            sure = (f"{test.low:.4f}", f"{test.high:.4f}", f"{test.p_value:.4f}", test.seeds) if test else ("",) * 4
            lead = f"{first.mean - second.mean:.4f}" if first and second else ""
            yield (
                *(*where, words, best.setup.method, others[0].setup.method, lead, *sure, verdict or "not significant"),
            )


def _cell(each: Setup, kept: Mapping[str, Any]) -> tuple[object, ...]:
    whole = [record for record in each.records if not record.get("earlier")] or each.records  # not resumed
    minutes = sum(record["seconds"] for record in whole) / len(whole) / 60
    energy = kept.get("energy_kj")  # not in older ledgers
    told = "" if energy is None else f"{energy:.1f}"
    devices = computed_by(each.records, "device")
    costs = (kept["trials"], f"{kept['search_minutes']:.1f}", f"{minutes:.2f}", told, devices)
    return each.method, each.dataset, each.sized, *costs, *(each.spread(f"test/{name}") or "" for name in HITS)


def _out(size: str) -> str:
    return f"{re.findall(r'[0-9]+', size)[-1]} {size.split()[1]}"


def _csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]], others: Iterable[Row]) -> None:
    """The rows by dataset, within one the given ones before the others."""
    every = [*rows, *([row[key] for key in columns] for row in others)]
    every.sort(key=lambda row: str(row[columns.index("dataset")]))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *every])
    write_atomically(path, text.getvalue())
