"""The notebook runs from its first cell to its last, and finds again what the record says."""

import json
import re
import subprocess
import sys

import pytest

from tests.conftest import CHECKOUT

NOTEBOOK = CHECKOUT / "docs" / "notebooks" / "codes-to-search.ipynb"


@pytest.mark.slow
def test_the_notebook_runs_and_its_metric_is_that_of_the_record(home):
    done = home / "done.ipynb"
    command = [sys.executable, "-m", "jupyter", "execute", str(NOTEBOOK), f"--output={done}", "--timeout=240"]
    finished = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=280, check=False)
    assert finished.returncode == 0, finished.stderr
    cells = [cell for cell in json.loads(done.read_text())["cells"] if cell["cell_type"] == "code"]
    outputs = [[output for output in cell["outputs"] if output.get("name") != "stderr"] for cell in cells]
    printed = "".join("".join(output.get("text", "")) for each in outputs for output in each)
    found = re.findall(r"mAP@all (\S+): (\S+), in the record (\S+)", printed)
    assert [name for name, _, _ in found] == ["i2t", "t2i"]
    assert all(again == recorded for _, again, recorded in found)
    pictures = [output for each in outputs for output in each if "image/png" in output.get("data", {})]
    assert len(pictures) == 2


def test_the_notebook_is_stored_without_outputs():
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        assert not cell.get("outputs")
