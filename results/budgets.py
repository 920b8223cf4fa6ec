"""Writes the table "budget: source / here" of docs/methods/*.md: `python results/budgets.py`. A test checks it.

`budgets.csv` holds what each method's paper or release trains for, or its nearest relative where neither says; what is
done here is read from the configurations of `experiments/<method>/`.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from xmodal import paths
from xmodal.cli import Parsed
from xmodal.run import configuration, size_names

HERE = Path(__file__).parent
PAGES = HERE.parent / "docs" / "methods"
TABLE = re.compile(r"(?<=<!-- budget -->\n).*?(?=<!-- /budget -->)", re.S)


def pages() -> Iterator[tuple[Path, str]]:
    """Every method's page, and what its text should be."""
    with (HERE / "budgets.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            path, made = PAGES / f"{row['method']}.md", table(row)
            yield path, TABLE.sub(lambda _, made=made: made, path.read_text())


def table(row: dict[str, str]) -> str:
    """What the source trains for, then what every experiment file does, equal ones in one line."""
    lines = ["| budget: source / here | epochs | batch |", "|---|---|---|"]
    lines.append(f"| {row['source']} | {row['epochs']} | {row['batch']} |")
    found = defaultdict(list)
    for path in sorted((paths.experiments() / row["method"]).glob("*.yaml")):
        size = f"--model.{size_names(row['method'])[0]}=64"
        config = Parsed([*configuration(row["method"], path.stem), size]).config
        batch = "all" if row["batch"] == "all" else f"{config.data.init_args.batch_size:,}"
        found[config.trainer.max_epochs, batch].append(path.stem)
    lines += [f"| here: {', '.join(names)} | {epochs} | {batch} |" for (epochs, batch), names in found.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for page, text in pages():
        page.write_text(text)
