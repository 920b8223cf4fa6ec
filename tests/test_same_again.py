"""The same command gives the same files, to the last bit, in another process of the same machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.test_run import SMALL, record_of, run, weights


@pytest.mark.slow
def test_the_same_command_in_another_process_leaves_the_same_files_bit_for_bit(home, capsys):
    """Another seed does not. Python's hashes differ between the processes, so that no order of a set is kept."""
    command = ("train", "dmsf", "emoji", "--bits", "16", "--epochs", "2", "--data.subset=64", "--save_codes=true")
    _, out, _ = run(capsys, *command)
    folder = Path(out.splitlines()[-1]).parent
    first = folder.rename(home / "first")
    subprocess.run(
        [sys.executable, "-m", "xmodal", *command],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        check=True,
    )
    files = {path.relative_to(first) for path in first.rglob("*") if path.is_file()}
    assert files == {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    assert {"result.json", "config.yaml", "codes.npz", "evaluation.npz", "gallery.png"} < {path.name for path in files}
    for path in files:
        if path.suffix == ".ckpt":
            same(torch.load(first / path, weights_only=False), torch.load(folder / path, weights_only=False), path.name)
        elif path.name == "result.json":
            one, other = (json.loads((each / path).read_text()) for each in (first, folder))
            differ = {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}
            assert differ <= {"seconds", "peak_memory", "wandb_id", "commit", "dirty", "diff"}
        else:
            assert (first / path).read_bytes() == (folder / path).read_bytes(), path
    trained = weights(folder)
    _, out, _ = run(capsys, *command, "--seed", 1)
    assert weights(Path(out.splitlines()[-1]).parent) != trained


def same(one, other, where):
    """Contents of two checkpoints, nested, to the last bit."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            same(one[key], other[key], f"{where} {key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for row, (left, right) in enumerate(zip(one, other, strict=True)):
            same(left, right, f"{where} {row}")
    else:
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, where


@pytest.mark.parametrize("seed", [4295, 12345, 20240101, 2**32 - 1])
def test_any_seed_that_people_type_trains(home, capsys, seed):
    code, out, err = run(capsys, "train", "dmsf", "emoji", "--bits", 16, "--epochs", 2, "--seed", seed, *SMALL)
    assert code == 0, err
    assert record_of(out)["seed"] == seed
