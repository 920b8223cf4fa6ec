"""Writes docs/results.md and the tables of pages for readers from the tables here: `python results/tables.py`.

`xmodal table` fills `measured.csv`, `leads.csv` and `cells.csv` and calls this; `xmodal compare --format=csv` prints
the first. `ablations/<method>-<dataset>.csv` is what `xmodal ablate` leaves. A test checks that all is up to date.
"""

import csv
import re
import runpy
from collections.abc import Iterable, Sequence
from pathlib import Path

from xmodal.commands.table import IMPOSSIBLE

HERE = Path(__file__).parent
FILES = "https://github.com/xmodal/xmodal/blob/main/results"
PAGE = HERE.parent / "docs" / "results.md"
PICTURES = HERE.parent / "docs" / "pictures"
SHORT = (HERE.parent / "README.md", HERE.parent / "docs" / "results-in-short.md")  # pages with tables for readers
BLOCK = re.compile(r"(?<=<!-- table: )(\S+) (\d+ \S+) -->\n.*?(?=<!-- /table -->)", re.S)  # a dataset and a size
PARTS = re.compile(r"(?<=<!-- parts: )(\S+) -->\n.*?(?=<!-- /parts -->)", re.S)  # a dataset: its ablations in words
MUCH = 0.02  # of mAP: what a part brings that a method needs
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
            chosen = [row for row in here if (row["size"].split()[1], row["relevance"]) == (unit, relevance)]
            parts += [f"### {dataset}, {unit}, relevant by {relevance}", _by_size(chosen), _by_length(chosen)]
    pictures = [name for name in ("ranks-bits.svg", "ranks-dim.svg") if (PICTURES / name).is_file()]
    if pictures:
        parts.append("## Ranks over the datasets")
        parts.append(
            "Mean rank of the methods that were run on all of them, over the sizes of a dataset and then over the "
            "datasets; methods under one bar do not differ significantly (Nemenyi's test; Demsar, JMLR 2006). With few "
            "datasets the bars are long: the test knows their number only, not how sure each rank is."
        )
        parts += [f"![Mean ranks of the methods]({PICTURES.name}/{name})" for name in pictures]
    if leads := _read(HERE / "leads.csv"):
        parts.append("## Leads")
        parts.append(
            "The best of each contest against the second. Tested is whether it would lead again if both were trained "
            "again and asked other queries ([how](compare.md)): `p` is adjusted by Holm for all methods of the "
            "contest; a lead of one seed is never called significant."
        )
        parts.append(_markdown(tuple(leads[0]), (list(row.values()) for row in leads)))
    parts.append("## What no run can fill")
    parts += [f"- `{' '.join(map(str, cell))}`: {reason}." for cell, reason in IMPOSSIBLE.items()]
    if cells := _read(HERE / "cells.csv"):
        parts.append("## What each cell cost, and R@K where relevance is the same picture")
        parts.append(
            "`search minutes` is the sum over the trials, however many went side by side. `GPU kJ` is what all visible "
            "GPUs used from the first trial to the last seed, their idle share and other work on them included; it is "
            "empty where no driver tells it, where no GPU was used, and where the cell took several calls."
        )
        parts.append(_markdown(tuple(cells[0]), (list(row.values()) for row in cells)))
    parts.append("## Ablations")
    parts.append(
        "`difference`: variant minus full method, mean of both directions; its 95 % interval and `p` (Student's t, "
        "Holm-adjusted within the table) are over seeds and queries together. The settings are those of the tables "
        "above, and the full method is that of three of their five seeds. Each run had one thread of a CPU, those of "
        "`text_guided_clip` an H200."
    )
    for path in sorted((HERE / "ablations").glob("*.csv")):
        found = _read(path)
        shown = [
            [row["variant"], *(_spread(row, name) for name in ("i2t", "t2i")), *list(row.values())[-4:]]
            for row in found
        ]
        head = ("variant", "i2t", "t2i", "difference", "95 % interval", "p", "")
        parts += [f"### {path.stem}", _beside(path.stem, found[0], rows), _markdown(head, shown)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _beside(name: str, full: Row, rows: Sequence[Row]) -> str:
    """The full method of an ablation, beside the tuned method of the tables above, which has more seeds."""
    of = (*name.rsplit("-", 1), "tuned")
    now = [row for row in rows if (row["method"], row["dataset"], row["variant"]) == of]
    found = next(row for row in now if row["size"].startswith("64 "))
    return f"Mean of both directions: the full method {float(full['mean']):.4f}, tuned above {found['mean']}."


def short() -> dict[Path, str]:
    """The pages for readers with their tables as the files say: by label, a method's variant that validates best."""
    measured = [row for row in _read(HERE / "measured.csv") if row["variant"] in ("base", "tuned")]

    def block(found: re.Match[str]) -> str:
        best: dict[str, Row] = {}
        for row in sorted(measured, key=lambda row: float(row["val"].split()[0])):
            if (row["dataset"], row["size"], row["relevance"]) == (found[1], found[2], "label"):
                best[row["method"]] = row
        rows = sorted(best.values(), key=lambda row: -float(row["mean"].split()[0]))
        table = _markdown((found[2], "i2t", "t2i"), ([row["method"], row["i2t"], row["t2i"]] for row in rows))
        return f"{found[1]} {found[2]} -->\n{table}\n"

    return {path: PARTS.sub(_parts, BLOCK.sub(block, path.read_text())) for path in SHORT}


def _parts(found: re.Match[str]) -> str:
    """What each method loses or gains by its variants, sorted: much, little, nothing sure, or a gain."""
    rows = []
    for path in sorted((HERE / "ablations").glob(f"*-{found[1]}.csv")):
        cells: list[list[str]] = [[], [], [], []]
        for row in _read(path):
            if row["difference"]:
                difference, sure = float(row["difference"]), float(row["p"]) < 0.05
                place = 2 if not sure else 3 if difference > 0 else 0 if difference < -MUCH else 1
                cells[place].append(f"{row['variant']} {difference:+.3f}")
        name = path.stem.rpartition("-")[0]
        rows.append([f"[{name}](methods/{name}.md)", *("<br>".join(cell) or "-" for cell in cells)])
    head = ("method", f"loses more than {MUCH}", "loses less", "no significant difference", "gains")
    return f"{found[1]} -->\n{_markdown(head, rows)}\n"


def _variant(row: Row) -> str:
    """The variant, marked where its file was tuned by code that was not committed."""
    size = row["variant"].removeprefix("tuned-at-") if "-at-" in row["variant"] else row["size"].split()[0]
    file = HERE.parent / "experiments" / row["method"] / "tuned" / f"{row['dataset']}-{size}.yaml"
    dirty = row["variant"] != "base" and file.is_file() and "with uncommitted changes" in file.read_text()
    return row["variant"] + " (uncommitted code)" * dirty


def _by_size(rows: Sequence[Row]) -> str:
    rows = [row | {"variant": _variant(row)} for row in rows]
    shown = sorted(rows, key=lambda row: (_out(row), -float(row["mean"].split()[0])))
    names = ("size", "method", "variant", "i2t", "t2i", "mean", "val", "seeds", "device", "threads")
    return _markdown(names, ([row.get(name, "not recorded") for name in names] for row in shown))


def _out(row: Row) -> int:
    """Columns that leave the encoder, which may be more than the size that was asked for: `64 dim (128 out)`."""
    return int(re.findall(r"\d+", row["size"])[-1])


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
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    for script in HERE.glob("figures.py"):  # beside it in the checkout
        runpy.run_path(str(script), run_name="__main__")
    PAGE.write_text(page())
    for path, text in short().items():
        path.write_text(text)
