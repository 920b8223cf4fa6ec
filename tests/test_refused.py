"""What ends a training early is said in one line."""

import errno
import sys

import pytest

from xmodal.__main__ import main


@pytest.mark.parametrize(
    ("method", "keys", "words"),
    [
        (
            "dsph",
            "trainer.callbacks=EarlyStopping trainer.callbacks.monitor=val/mAP",
            "Early stopping conditioned on metric `val/mAP` which is not available.",
        ),
        (
            "dcmh",
            "model.lr=1e9 model.weight_decay=1e9 data.batch_size=8",
            "the parameters are not finite after epoch 1",
        ),
        (
            "dcmh",
            "trainer.precision=bf16-mixed trainer.gradient_clip_val=1",
            "The current optimizer, Adam, does not allow for gradient clipping",
        ),
        ("dmsf", "model.image_lr=1e38", "model.image_lr is 1e+38: give a finite number from 0 to 1e9."),
        ("dmsf", "model.weights.graph=1e9 trainer.accelerator=cpu", "cholesky"),
        ("scahn", "model.label_dim=3", "model.label_dim is 3: label names have 384."),
        ("text_guided_clip", "model.width=3", "width is 3: give a multiple of 4."),
        ("scahn", "model.dim=3", "tokens of 3 numbers do not go into 4 heads: give a dim that heads divides."),
        ("acmr", "model.image_hidden=null", "model.image_hidden is null: give a list such as"),
    ],
)
def test_a_training_that_cannot_go_on_is_one_line(home, capsys, method, keys, words):
    given = [f"--{key}" for key in keys.split()]
    assert main(["train", method, "emoji", "--data.subset=64", "--epochs=1", "--gallery=false", *given]) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert not list((home / "runs").rglob("*.ckpt"))


GROUPED = """
import torch
from xmodal.methods import DCMHT

class Grouped(DCMHT):
    name = "grouped"

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())

    def on_train_epoch_start(self):
        if self.current_epoch == 1:
            self.optimizers().add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))]})
        if self.current_epoch == 2:
            raise ZeroDivisionError
"""


def test_a_run_whose_optimizer_got_a_group_in_training_does_not_go_on(home, capsys, monkeypatch):
    """Such as of layers that thaw one after the other: what was killed ended in a traceback of Lightning's."""
    monkeypatch.setattr(sys, "path", [str(home), *sys.path])
    (home / "grouped.py").write_text(GROUPED)
    command = ["train", "grouped.Grouped", "emoji", "--bits=8", "--epochs=3", "--data.subset=64", "--gallery=false"]
    with pytest.raises(ZeroDivisionError):
        main(command)
    assert main(command) == 2
    assert "loaded state dict has a different number of parameter groups" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator:\ncan't allocate memory")])
def test_too_little_memory_is_one_line(home, capsys, monkeypatch, error):
    def train(*_, **__):
        raise error

    monkeypatch.setattr("xmodal.run.train", train)
    assert main(["train", "dmsf", "emoji"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("xmodal train: the memory is too small (")


def test_a_copy_that_finds_no_room_names_what_it_writes(home, capsys, monkeypatch):
    def train(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "source.json", None, "target.json")

    monkeypatch.setattr("xmodal.run.train", train)
    assert main(["train", "dmsf", "emoji"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("xmodal train: cannot write 'target.json': No space left on device.")
