"""Codes of up to 4,096 bits: trained, evaluated, and evaluated again from their file."""

import json
from pathlib import Path

import pytest

from xmodal.__main__ import main
from xmodal.commands.evaluate import evaluate_file


@pytest.mark.parametrize("bits", [1024, 2048, 4096])
def test_long_codes_are_trained_and_evaluated(home, capsys, bits):
    words = [f"--bits={bits}", "--data.subset=64", "--epochs=1", "--gallery=false", "--save_codes=true"]
    assert main(["train", "dcmh", "emoji", *words]) == 0
    path = Path(capsys.readouterr().out.splitlines()[-1])
    metrics = json.loads(path.read_text())["metrics"]
    found = evaluate_file(path.with_name("codes.npz")).metrics
    assert metrics["test/map"] > 0.2
    for name in ("map_i2t", "map_t2i"):
        assert found[name] == pytest.approx(metrics[f"test/{name}"], abs=1e-12)
