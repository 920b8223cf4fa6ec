"""The documentation page runs, and prints what it says."""

import csv
import re
from pathlib import Path

import pytest
import torch

from xmodal.metrics import HammingRetrieval, describe

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "metrics.md").read_text()


@pytest.mark.parametrize(("page", "count"), [("metrics", 2), ("concepts", 1)])
def test_examples_run_and_print_what_the_page_says(capsys, page, count):
    text = (ROOT / "docs" / f"{page}.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", text, re.DOTALL)
    assert len(blocks) == count
    for code, printed in blocks:
        exec(code, {})
        assert capsys.readouterr().out == printed


@pytest.mark.parametrize(
    "key",
    re.findall(r"`([a-z]+(?:@\d+|_radius2|_queries)?(?:\[[a-zR0-9-]+\])?)`", PAGE.split("## Keys")[1].split("## ")[0]),
)
def test_keys_of_the_page_exist(key):
    if key not in ("conventions", "group", "hierarchy"):
        assert describe(f"{key}_i2t")


def test_page_lists_every_key(pairs):
    image, text, label = pairs()
    rows = torch.arange(len(label))
    metric = HammingRetrieval()
    for split, part in (("query", rows[:20]), ("database", rows[20:])):
        columns = {"image": image[part], "text": text[part], "label": label[part], "index": part, "group": part % 20}
        metric.update(split, hierarchy=part[:, None] % torch.tensor([2, 4]), **columns)
    for key in metric.compute():
        name = key.rpartition("_")[0]
        spellings = {name, re.sub(r"@\d+", "@N", name), name.replace("@5000", "@50")}
        assert any(f"`{spelling}`" in PAGE for spelling in spellings), key


def test_speed_tables_are_those_of_the_csv():
    with (ROOT / "results" / "evaluation_speed.csv").open(newline="") as file:
        rows = {(row["codes"], row["method"], row["size"]): float(row["seconds"]) for row in csv.DictReader(file)}
    checked = 0
    for codes, table in re.findall(r"\| (64 bits|512-d cosine), seconds .*?\n((?:\|.*\n)+)", PAGE):
        for line in table.splitlines()[1:]:
            method, *cells = (cell.strip(" *") for cell in line.strip("|").split("|"))
            sizes = ("MIRFLICKR", "COCO", "NUS-WIDE")
            assert cells == [f"{rows[codes, method, size]:.3g}" for size in sizes], method
            checked += 1
    assert checked == 12
