"""The page of results says what the tables of results say."""

import runpy

from tests.conftest import CHECKOUT


def test_the_page_is_what_the_tables_give():
    made = runpy.run_path(str(CHECKOUT / "results" / "tables.py"))
    assert made["PAGE"].read_text() == made["page"](), "run `python results/tables.py`"
