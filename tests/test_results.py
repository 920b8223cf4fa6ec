"""The page of results says what the tables of results say, and a method's page how long it is trained."""

import runpy

from tests.conftest import CHECKOUT
from tests.records.records import write_run
from xmodal import methods
from xmodal.commands.compare import COLUMNS, table
from xmodal.records.setups import collect


def test_the_page_is_what_the_tables_give():
    made = runpy.run_path(str(CHECKOUT / "results" / "tables.py"))
    assert made["PAGE"].read_text() == made["page"](), "run `python results/tables.py`"


def test_every_methods_page_has_the_budget_of_its_source_and_that_of_its_experiment_files():
    pages = dict(runpy.run_path(str(CHECKOUT / "results" / "budgets.py"))["pages"]())
    assert {page.stem for page in pages} == methods.registry().keys()
    for page, text in pages.items():
        assert page.read_text() == text, "run `python results/budgets.py`"
        assert "| here: emoji" in text
        assert text.count("<!-- budget -->") == 1


def test_a_table_names_the_threads_of_its_runs(tmp_path):
    for seed, threads in enumerate([{"threads": 2}, {}]):
        write_run(tmp_path, seed=seed, **threads)
    [row] = table(collect(tmp_path)[0])
    assert dict(zip(COLUMNS, row, strict=True))["threads"] == "2 and not recorded"
