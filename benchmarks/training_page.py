"""Writes the tables of docs/performance.md from results/end_to_end_speed.csv and results/training_speed.csv.

python benchmarks/training_page.py
"""

import csv
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"
TARGETS = {128: 5.0, 1024: 10.0}  # times the plain form, by batch size
NOT_YET = "Not measured on a GPU yet."


def table(head, rows):
    """In Markdown; a sentence where there are no rows."""
    lines = [" | ".join(head), " | ".join("---" for _ in head), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines) if rows else NOT_YET


def features(rows):
    """A line per method and batch size."""
    found = {}
    for row in rows:
        found.setdefault((row["method"], int(row["batch_size"])), {})[row["form"]] = float(row["pairs_per_second"])
    lines = []
    for (method, size), rates in found.items():
        if "plain" not in rates:
            continue
        ratios = {form: rate / rates["plain"] for form, rate in rates.items()}
        best, target = max(ratios.values()), TARGETS.get(size)
        cells = [
            f"{rates[form]:,.0f} ({ratios[form]:.1f}x)" if form in rates else "-" for form in ("xmodal", "xmodal fast")
        ]
        verdict = f"{target:g}x: {'met' if best >= target else 'missed'}" if target else "-"
        lines.append([method, str(size), f"{rates['plain']:,.0f}", *cells, verdict])
    return table(["method", "batch", "plain", "xmodal", "xmodal fast", "target"], lines)


def end_to_end(rows):
    """A line per device, number of devices and form."""
    lines = [
        [
            row["form"], row["device"], row["devices"], row["batch_size"], row["workers"],
            *("-" if row[name] == "nan" else row[name] for name in ("first", "epoch", "training")),
            "-" if row["over_yardstick"] == "nan" else f"{float(row['over_yardstick']):.1f}x",
            f"{100 * float(row['ceiling']):.1f} %",
        ]
        for row in rows
    ]  # fmt: skip
    head = ["form", "device", "GPUs", "batch", "workers", "first epoch, s", "later epoch, s", "its training, s"]
    return table([*head, "over the yardstick", "of the bf16 ceiling"], lines)


def filled(page, results):
    """The page with the tables of a folder of results.

    Args:
        page: its text; a table lies between `<!-- NAME -->` and `<!-- end -->`.
        results: folder of the CSVs.
    """
    texts = {}
    for name, file, form in (
        ("features", "training_speed.csv", features),
        ("end-to-end", "end_to_end_speed.csv", end_to_end),
    ):
        path = results / file
        rows = list(csv.DictReader(path.read_text().splitlines())) if path.is_file() else []
        texts[name] = form([row for row in rows if row["device"] != "CPU"])
    for name, text in texts.items():
        page = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- end -->)", lambda m, t=text: f"{m[1]}{t}\n{m[2]}", page, flags=re.DOTALL
        )
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(), ROOT / "results"))
