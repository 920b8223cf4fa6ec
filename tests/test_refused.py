"""What ends a training early is said in one line."""

import pytest

from xmodal.__main__ import main


@pytest.mark.parametrize(
    ("method", "key", "words"),
    [
        ("dmsf", "model.image_lr=1e38", "the parameters are not finite after epoch 1"),
        ("dmsf", "model.image_lr=1e30", "the query image holds NaN or infinite values"),
        ("dmsf", "model.weights.graph=1e9", "cholesky"),
        ("scahn", "model.label_dim=3", "model.label_dim is 3: label names have 384."),
        ("text_guided_clip", "model.width=3", "width is 3: give a multiple of 4."),
        ("scahn", "model.dim=3", "embed_dim must be divisible by num_heads"),
        ("acmr", "model.image_hidden=null", "model.image_hidden is null: give a list such as"),
    ],
)
def test_a_training_that_cannot_go_on_is_one_line(home, capsys, method, key, words):
    assert main(["train", method, "emoji", "--data.subset=64", "--epochs=1", "--gallery=false", f"--{key}"]) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert not list((home / "runs").rglob("*.ckpt"))


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator:\ncan't allocate memory")])
def test_too_little_memory_is_one_line(home, capsys, monkeypatch, error):
    def train(*_, **__):
        raise error

    monkeypatch.setattr("xmodal.run.train", train)
    assert main(["train", "dmsf", "emoji"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("xmodal train: the memory is too small (")
