"""Writes docs/results.md from the tables here: `python results/tables.py`. A test checks that it is up to date.

`measured.csv` is what `xmodal compare --format=csv` prints; `ablations/<method>-<dataset>.csv` is what `xmodal ablate`
leaves.
"""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "results.md"
FILES = "https://github.com/xmodal/xmodal/blob/main/results"
LENGTHS = ("16", "32", "64", "128")
Row = dict[str, str]


def page() -> str:
    """The page, from the files as they are."""
    rows = [
        row for row in _read(HERE / "measured.csv") if row["variant"] in ("base", "tuned") or "-at-" in row["variant"]
    ]
    parts = [
        "# Results",
        f"Written by `results/tables.py` from [measured.csv]({FILES}/measured.csv) and "
        f"[ablations]({FILES}/ablations); do not edit. mAP@all on the query set, tie-aware; mean +- sample deviation "
        "over the seeds. What ran where, and how to read it: [results in short](results-in-short.md). Another number "
        "of threads, like another seed, gives another number; records made before they named it say `not recorded`.",
    ]
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        parts.append(f"## {dataset}")
        here = [row for row in rows if row["dataset"] == dataset]
        for unit, relevance in dict.fromkeys((row["size"].split()[1], row["relevance"]) for row in here):
            chosen = [row for row in here if row["size"].endswith(unit) and row["relevance"] == relevance]
            parts += [f"### {dataset}, {unit}, relevant by {relevance}", _by_size(chosen), _by_length(chosen)]
    parts.append("## Ablations")
    parts.append(
        "`difference`: variant minus full method, mean of both directions, with its 95 % interval over queries; `p`: "
        "paired randomisation test, Holm-adjusted within the table. A variant that is better says so. How many threads "
        "made these tables is not recorded."
    )
    for path in sorted((HERE / "ablations").glob("*.csv")):
        found = _read(path)
        shown = [
            [row["variant"], *(_spread(row, name) for name in ("i2t", "t2i")), *list(row.values())[-4:]]
            for row in found
        ]
        head = ("variant", "i2t", "t2i", "difference", "95 % interval", "p", "")
        parts += [f"### {path.stem}", _markdown(head, shown)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _variant(row: Row) -> str:
    """The variant, marked where its file was tuned by code that was not committed."""
    size = row["variant"].removeprefix("tuned-at-") if "-at-" in row["variant"] else row["size"].split()[0]
    file = HERE.parent / "experiments" / row["method"] / "tuned" / f"{row['dataset']}-{size}.yaml"
    dirty = row["variant"] != "base" and file.is_file() and "with uncommitted changes" in file.read_text()
    return row["variant"] + " (uncommitted code)" * dirty


def _by_size(rows: Sequence[Row]) -> str:
    rows = [row | {"variant": _variant(row)} for row in rows]
    shown = sorted(rows, key=lambda row: (int(row["size"].split()[0]), -float(row["mean"].split()[0])))
    names = ("size", "method", "variant", "i2t", "t2i", "mean", "val", "seeds", "device", "threads")
    return _markdown(names, ([row.get(name, "not recorded") for name in names] for row in shown))


def _by_length(rows: Sequence[Row]) -> str:
    """Mean of both directions, a column for each length; nothing where no method has several."""
    found: dict[str, dict[str, str]] = {}
    for row in sorted(rows, key=lambda row: "-at-" in row["variant"]):
        found.setdefault(row["method"], {})[row["size"].split()[0]] = row["mean"]
    several = {method: means for method, means in found.items() if len(set(LENGTHS) & set(means)) > 1}
    order = sorted(several, key=lambda method: several[method].get("64", ""), reverse=True)
    cells = [[method, *(several[method].get(length, "") for length in LENGTHS)] for method in order]
    return _markdown(("mean of both directions", *LENGTHS), cells) if cells else ""


def _spread(row: Row, name: str) -> str:
    deviation = row.get(f"{name} deviation")
    return f"{float(row[name]):.4f}" + (f" +- {float(deviation):.4f}" if deviation else "")


def _read(path: Path) -> list[Row]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page())
