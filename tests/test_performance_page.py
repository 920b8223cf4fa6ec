"""The tables of docs/performance.md are those of the CSV."""

import csv
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAD = "device,method,batch_size,form,pairs_per_second,over_plain,peak_megabytes\n"


@pytest.fixture
def page(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    import training_page

    return training_page


def test_tables_are_those_of_the_csv(page):
    text = page.PAGE.read_text()
    assert page.filled(text, ROOT / "results") == text


def test_rows_become_tables(page, tmp_path):
    (tmp_path / "training_speed.csv").write_text(
        HEAD + "H,dmsf,128,plain,1000,1,100\nH,dmsf,128,xmodal fast,4900,4.9,100\nCPU,acmr,128,plain,1,1,nan\n"
    )
    text = page.filled(page.PAGE.read_text(), tmp_path)
    assert "| dmsf | 128 | 1,000 | - | 4,900 (4.9x) | 5x: missed |" in text
    assert "| acmr |" not in text
    empty = "<!-- features -->\n<!-- end -->\nprose\n<!-- end-to-end -->\n<!-- end -->\n"  # as one writes them first
    assert page.filled(empty, tmp_path).startswith("<!-- features -->\n| method |")
    assert page.filled(text, tmp_path) == text


def test_a_table_takes_the_place_of_a_row_or_adds_one(page, tmp_path):
    from measuring import Table

    path = tmp_path / "training_speed.csv"
    other = "H,dmsf,512,xmodal,9,1.9,7"
    path.write_text(f"{HEAD}{other}\n")
    for rate in (5, 6):
        table = Table(path)
        table.add("dmsf", 128, "plain", rate, plain=2.0, peak=8.0)
        table.add("dmsf", 128, "xmodal", 2 * rate, plain=2.0, peak=8.0)
    rows = path.read_text().splitlines()
    assert rows[1] == other
    assert [row.split(",")[3:] for row in rows[2:]] == [
        ["plain", "6", "3", "8"],
        ["xmodal", "12", "6", "8"],
    ]


def test_the_readme_says_what_the_table_says():
    path = ROOT / "results" / "end_to_end_speed.csv"
    times = [float(row["over_yardstick"]) for row in csv.DictReader(path.read_text().splitlines())]
    faster = [int(each) for each in times if each > 1]
    assert f"is {min(faster)} to {max(faster)} times as fast on one H200" in (ROOT / "README.md").read_text()
