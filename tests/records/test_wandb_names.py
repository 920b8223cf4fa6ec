"""What W&B is told of a run: names that it takes, and how the run ended."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from xmodal.records.loggers import close, log_file, loggers

pytestmark = pytest.mark.usefixtures("offline")


def test_a_long_name_is_cut_to_a_tag(tmp_path):
    """W&B takes 64 characters, a variant has up to 100."""
    made = loggers(tmp_path / "run", tmp_path, "group", "train", ["dmsf", "v" * 100])
    assert (made[1].experiment.tags, made[1].experiment.name) == (("dmsf", "v" * 64), f"dmsf-{'v' * 100}")
    close(made)


def test_an_artifact_has_a_name_that_wandb_takes(tmp_path, monkeypatch):
    """That of the codes of a variant such as lr=0.1 ended the run in a traceback after its test, without a record."""
    made, seen = loggers(tmp_path / "run", tmp_path, "group", "train", ["a"]), []
    monkeypatch.setattr(made[1].experiment, "log_artifact", seen.append)
    (tmp_path / "codes.npz").write_text("codes")
    for name in ("dmsf-emoji-16-lr=0.1-seed0-codes", f"dmsf-{'v' * 150}-seed0-codes", "dmsf-emoji-16-tuned"):
        log_file(made, tmp_path / "codes.npz", name, "codes", {})
    assert [each.name for each in seen] == [
        "dmsf-emoji-16-lr-0.1-seed0-codes",
        f"{'v' * 116}-seed0-codes",
        "dmsf-emoji-16-tuned",
    ]
    close(made)


@pytest.mark.parametrize("failed", [False, True])
def test_a_run_that_ends_in_an_error_is_no_finished_one(tmp_path, failed):
    made = loggers(tmp_path / "run", tmp_path, "group", "train", ["a"])
    made[1].experiment.log({"x": 1})
    close(made, failed=failed)
    inspect = [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--summary", "--json", tmp_path / "wandb"]
    seen = json.loads(subprocess.run(inspect, capture_output=True, text=True, check=True).stdout)
    assert seen["state"] == ("failed" if failed else "finished")
