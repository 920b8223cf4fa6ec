"""A killed command goes on by itself: on two processes, with early stopping, with a score that peaks at once."""

import json
import os

import pytest
import torch
import yaml
from lightning import Callback, seed_everything
from lightning.pytorch.callbacks import EarlyStopping
from torch.optim import SGD
from torch.optim.lr_scheduler import ReduceLROnPlateau

from tests import forks
from tests.conftest import CHECKOUT
from tests.methods.toy import REGISTRY, Toy, build
from tests.methods.training import HARMLESS, Died, make_trainer
from xmodal.callbacks import SeedEpoch, StaysStopped
from xmodal.checkpoint import WholeCheckpoints, keepers, read_checkpoint, resumable

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


class Scores(Callback):
    """Gives every epoch a score, and dies where one begins."""

    def __init__(self, scores, dies):
        self.scores, self.dies = scores, dies

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("val/map", self.scores[trainer.current_epoch])

    def on_train_epoch_start(self, trainer, pl_module):
        if self.dies == trainer.current_epoch:
            raise Died


@pytest.mark.filterwarnings(*(f"ignore:{message}" for message in HARMLESS))
@pytest.mark.parametrize(
    ("stopping", "least", "scores", "dies", "epochs"),
    [
        ({"stopping_threshold": 0.5}, None, (0.6, 0.4, 0.3, 0.2, 0.1), None, 1),
        ({"divergence_threshold": 0.5}, None, (0.6, 0.4, 0.7, 0.8, 0.9), None, 2),
        ({"patience": 1}, 4, (0.5, 0.4, 0.6, 0.7, 0.8), 3, 4),  # the signal to stop stays, whatever comes after it
    ],
)
def test_a_training_that_early_stopping_has_ended_does_not_go_on(
    stopping, least, scores, dies, epochs, tmp_path, monkeypatch
):
    monkeypatch.setattr(REGISTRY["djsrh"], "_compute", lambda self, stage, metrics: {})  # the callback's score alone
    for folder, moments in (("whole", (None,)), ("killed", (dies, None))):
        for moment in moments:
            rule = EarlyStopping("val/map", mode="max", **{"patience": 9} | stopping)
            own = [Scores(scores, moment), rule, SeedEpoch(0), StaysStopped(), *keepers(tmp_path / folder)]
            data, more = Toy(), {"plugins": [WholeCheckpoints()], "enable_checkpointing": True}
            trainer = make_trainer(tmp_path, 5, callbacks=own, min_epochs=least, **more)
            try:
                trainer.fit(build("djsrh", data), datamodule=data, ckpt_path=resumable(tmp_path / folder))
            except Died:
                assert moment == trainer.current_epoch
        assert (folder, trainer.current_epoch) == (folder, epochs)


@pytest.mark.filterwarnings(*(f"ignore:{message}" for message in HARMLESS))
def test_a_rate_that_follows_a_score_goes_on_where_it_was(tmp_path, monkeypatch):
    """Lightning lets it take its step after the checkpoints of the epoch, so that each kill cost one."""

    class Following(REGISTRY["djsrh"]):
        def configure_optimizers(self):
            optimizer = SGD(self.parameters(), lr=0.1)
            follows = {"scheduler": ReduceLROnPlateau(optimizer, "max", 0.5, patience=0), "monitor": "val/map"}
            return {"optimizer": optimizer, "lr_scheduler": follows}

    monkeypatch.setitem(REGISTRY, "following", Following)
    monkeypatch.setattr(Following, "_compute", lambda self, stage, metrics: {})
    left = []
    for folder, moments in (("whole", (None,)), ("killed", (1, 3, 4, None))):
        for moment in moments:
            own = [Scores((0.5, 0.4, 0.6, 0.3, 0.2), moment), SeedEpoch(0), *keepers(tmp_path / folder)]
            data, more = Toy(), {"plugins": [WholeCheckpoints()], "enable_checkpointing": True}
            trainer = make_trainer(tmp_path, 5, callbacks=own, **more)
            seed_everything(0, verbose=False)
            try:
                trainer.fit(build("following", data), datamodule=data, ckpt_path=resumable(tmp_path / folder))
            except Died:
                assert moment == trainer.current_epoch
        left.append(read_checkpoint(tmp_path / folder / "last.ckpt"))
    whole, killed = left
    assert [each["optimizer_states"][0]["param_groups"][0]["lr"] for each in left] == [0.1 / 2**3] * 2
    for key, value in whole["state_dict"].items():
        assert torch.equal(value, killed["state_dict"][key]), key
