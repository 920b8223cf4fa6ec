"""The page of results says what the tables of results say, and a method's page how long it is trained."""

import csv
import re
import runpy

import pytest

from tests.conftest import CHECKOUT
from tests.records.records import write_run
from xmodal import methods
from xmodal.records.record import header, searched
from xmodal.records.results import COLUMNS, table
from xmodal.records.setups import collect


def test_the_page_is_what_the_tables_give():
    made = runpy.run_path(str(CHECKOUT / "results" / "tables.py"))
    text = made["page"]()
    assert made["PAGE"].read_text() == text, "run `python results/tables.py`"
    rows = [row for row in made["_read"](CHECKOUT / "results" / "measured.csv") if row["variant"] in ("base", "tuned")]
    assert [row for row in rows if f"| {row['size']} | {row['method']} | {row['variant']}" not in text] == []
    assert "64 dim (192 out) | hierarchical_adversarial" in text, "what leaves the encoder is compared"


def test_pages_for_readers_have_the_tables_of_the_files():
    found = runpy.run_path(str(CHECKOUT / "results" / "tables.py"))["short"]()
    assert {path.name for path in found} == {"README.md", "results-in-short.md"}
    for path, text in found.items():
        assert path.read_text() == text, "run `python results/tables.py`"
        assert "| scahn | 0." in text


def test_every_methods_page_has_the_budget_of_its_source_and_that_of_its_experiment_files():
    pages = dict(runpy.run_path(str(CHECKOUT / "results" / "budgets.py"))["pages"]())
    assert {page.stem for page in pages} == methods.registry().keys()
    for page, text in pages.items():
        assert page.read_text() == text, "run `python results/budgets.py`"
        assert "| here: emoji" in text
        assert text.count("<!-- budget -->") == 1


ORIGINS = runpy.run_path(str(CHECKOUT / "results" / "origins.py"))


def test_the_page_of_origins_is_what_the_methods_pages_give():
    assert ORIGINS["PAGE"].read_text() == ORIGINS["page"](), "run `python results/origins.py`"


@pytest.mark.parametrize("method", sorted(methods.registry()))
def test_every_term_of_a_method_says_of_whom_it_is_and_where(method):
    parts = ORIGINS["parts"](method)
    said = " ".join(f"{part.what} {part.where}" for part in parts)
    assert [each for each in ORIGINS["terms"](method) if not re.search(rf"`(weights\.)?{each}`", said)] == []
    assert [part.origin for part in parts if not part.kinds()] == []
    places = [place for part in parts for place in ORIGINS["places"](method, part)]
    assert [name for name, there in places if not there] == []
    assert places
    assert len(parts) >= 3


def test_the_figures_show_what_the_tables_hold(tmp_path):
    figures = runpy.run_path(str(CHECKOUT / "results" / "figures.py"))
    figures["main"](tmp_path)
    made = {path.name: re.findall(r"<text [^>]*>([^<]*)</text>", path.read_text()) for path in tmp_path.iterdir()}
    assert made.keys() == {"lengths.svg", "parts.svg", "ranks-bits.svg"}
    for name, words in made.items():
        kept = re.findall(r"<text [^>]*>([^<]*)</text>", (figures["PICTURES"] / name).read_text())
        assert words == kept, "run `python results/tables.py`"
    assert {"dmsf", "scahn", "mith"} <= set(made["lengths.svg"]) & set(made["parts.svg"])


def test_a_table_names_the_threads_of_its_runs(tmp_path):
    for seed, threads in enumerate([{"threads": 2}, {}]):
        write_run(tmp_path, seed=seed, **threads)
    [row] = table(collect(tmp_path)[0])
    assert dict(zip(COLUMNS, row, strict=True))["threads"] == "2 and not recorded"


def test_a_table_names_the_machines_of_all_processes_of_a_run(tmp_path):
    write_run(tmp_path, threads=1, device="new", earlier=[{"threads": 2, "device": "old"}])
    [row] = table(collect(tmp_path)[0])
    said = dict(zip(COLUMNS, row, strict=True))
    assert (said["threads"], said["device"]) == ("1 and 2", "new and old")


def test_the_tuned_files_of_the_table_are_here_but_for_those_that_the_page_names():
    """A row's file has the rule's trials, and a score near the row's; TwDH's searches are judged by the long code."""
    lacking = []
    for row in csv.DictReader((CHECKOUT / "results/measured.csv").read_text().splitlines()):
        if row["variant"] == "tuned" and row["method"] != "twdh":
            size = row["size"].split()[0]
            file = CHECKOUT / "experiments" / row["method"] / "tuned" / f"{row['dataset']}-{size}.yaml"
            score, deviation = map(float, row["val"].split(" +- "))
            near = max(3 * deviation, 0.01)
            if not file.is_file() or searched(file) != 24 or abs(float(header(file)["value"]) - score) > near:
                lacking.append((row["method"], row["dataset"], row["size"]))
    page = (CHECKOUT / "docs/results-in-short.md").read_text()
    assert "Of eight rows of wikipedia the file is not here" in page
    named = [("acmr", "16 dim"), ("acmr", "32 dim"), ("acmr", "64 dim"), ("alscor", "16 dim"), ("dagan", "16 dim")]
    named += [("dmsf", "16 bits"), ("dscmr", "16 dim"), ("dscmr", "32 dim")]
    assert sorted(lacking) == [(method, "wikipedia", size) for method, size in named]
