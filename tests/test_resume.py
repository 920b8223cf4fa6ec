"""A killed command goes on by itself: on two processes, with early stopping, with a score that peaks at once."""

import json
import os

import pytest
import torch
import yaml

from tests import forks
from tests.conftest import CHECKOUT
from xmodal.checkpoint import read_checkpoint

pytestmark = [pytest.mark.ddp, pytest.mark.timeout(600)]


def test_a_killed_run_of_two_processes_goes_on_where_it_was(home):
    """Killed in its third epoch, and again after its last, which early stopping chose: four epochs of nine in all."""
    stopping = {"monitor": "val/map", "mode": "max", "patience": 3}
    callbacks = [{"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": stopping}]
    (home / "stopping.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": callbacks, "accelerator": "cpu"}}))
    words = ["train", "dmsf", "emoji", "--bits=8", "--epochs=9", "--data.subset=64", "--data.batch_size=16"]
    words += ["--gallery=false", "--devices=2", "--config", str(home / "stopping.yaml")]

    def command(dies, variant):
        path = f"{CHECKOUT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        ran = forks.run(dies, *words, f"--variant={variant}", module="tests.peaks", timeout=250, PYTHONPATH=path)
        assert (ran.returncode == 0) == (dies == "never"), ran.stderr[-3000:]

    def left(variant):
        folder = home / "runs" / "dmsf" / "emoji" / "8" / f"{variant}-seed0"
        kept = {name: read_checkpoint(folder / "checkpoints" / f"{name}.ckpt") for name in ("best", "last")}
        return kept, folder / "result.json"

    command("never", "whole")
    for dies, epoch in (("2", 1), ("end", 3)):
        command(dies, "killed")
        kept, result = left("killed")
        assert (kept["best"]["epoch"], kept["last"]["epoch"]) == (0, epoch)
        assert not result.exists()
    command("never", "killed")
    (whole, record), (killed, again) = left("whole"), left("killed")
    for name, epoch in (("best", 0), ("last", 3)):
        assert whole[name]["epoch"] == killed[name]["epoch"] == epoch
        for key, value in whole[name]["state_dict"].items():
            assert torch.equal(value, killed[name]["state_dict"][key]), key
    record, again = (json.loads(path.read_text()) for path in (record, again))
    assert record["metrics"] == again["metrics"]
    assert record["epochs"] == again["epochs"] == 4
