"""What every training is watched by."""

import contextlib
import math
import signal
import sys
from typing import Any, cast

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks.early_stopping import EarlyStopping, EarlyStoppingReason
from numpy.typing import NDArray

from xmodal.checkpoint import read_checkpoint
from xmodal.code import provenance
from xmodal.data import CrossModalDataModule
from xmodal.data.loading import epoch_seed
from xmodal.data.split import Index
from xmodal.errors import DivergedError, UserError
from xmodal.records.record import leaves, machine

COMPUTED = ("commit", "diff", "own_code", "versions", "inputs_hash")  # of what and from what


class SeedEpoch(Callback):
    """Reseed from (seed, epoch) at every epoch: a resumed run then draws what the uninterrupted one drew."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See the class."""
        seed_everything(epoch_seed(self.seed, trainer.current_epoch), verbose=False)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Codes that are drawn are drawn alike in each evaluation, whatever was before it."""
        seed_everything(self.seed, verbose=False)

    on_test_start = on_validation_start


class SameData(Callback):
    """A training goes on with the split and the labels that it began with, whatever became of the files meanwhile.

    A checkpoint may be evaluated on other data, but not with queries that it was trained on.
    """

    def __init__(self) -> None:
        self.here: dict[str, Any] = {}
        self.stage, self.data = "", cast("CrossModalDataModule", None)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """See the class."""
        self.stage, self.data = stage, trainer.datamodule  # type: ignore[attr-defined]
        said = self.data.describe()
        self.here = {key: said[key] for key in ("dataset", "split_hash", "relevance_hash", "training_hash")}
        self.contents = self.data.contents
        self.knows: list[dict[str, Any]] = []  # what the trunks that this one begins with were trained on
        for file in sorted(self.data.learnt()):
            if file.is_file():
                state = read_checkpoint(file)["callbacks"].get(self.state_key, {})
                self._check_queries(str(file), state)
                self.knows += [{**state, "knows": []}, *state.get("knows", [])]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Features stay standardised by the training pairs that there were, whatever became of their files."""
        for side in self.data.moments:
            keys = [f"standardisation.{side}.{name}" for name in ("mean", "deviation")]
            if checkpoint["state_dict"].keys() >= {*keys}:
                self.data.moments[side] = tuple(checkpoint["state_dict"][key].cpu() for key in keys)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of the data."""
        train = self.data.positions("train")
        found = {**self.here, "train": torch.from_numpy(train), "knows": self.knows}
        return found if self.contents is None else {**found, "contents": torch.from_numpy(self.contents[train])}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See the class.

        Raises:
            UserError: the data are others, or some queries were trained on.
        """
        if self.stage == "test":
            self._check_queries("the checkpoint", state_dict)
        for key, value in self.here.items():
            if self.stage == "fit" and value != (was := state_dict.get(key, value)):  # older ones lack one
                raise UserError(
                    f"this run began with other data ({key} {ascii(was)[:20]}, not {value[:18]!r}): restore them, or "
                    "remove its folder to begin anew."
                )

    def _check_queries(self, trained: str, state_dict: dict[str, Any]) -> None:
        query = self.data.positions("query")
        for each in (state_dict, *state_dict.get("knows", ())):
            if known := int(self._known(query, each).sum()):
                raise UserError(
                    f"{known} of {len(query)} queries of this split are of pictures that {trained} was trained on: "
                    "evaluate it with the queries of its own."
                )

    def _known(self, query: Index, trained: dict[str, Any]) -> NDArray[np.bool_]:
        """Which queries a training has seen: of own data by their content, by any name and in any order."""
        if self.contents is not None and "contents" in trained:
            own = self.contents[self.data.positions("train")]  # of two names for one picture the split tells
            return np.isin(self.contents[query], np.setdiff1d(trained["contents"].numpy(), own))
        if trained.get("dataset") == self.here["dataset"] and "train" in trained:
            with contextlib.suppress(IndexError):  # a dataset of fewer pairs, which is another
                asked, seen = map(self.data.judged, (query, trained["train"].numpy()))
                return torch.isin(asked.identity("image"), seen.identity("image")).numpy()
        return np.zeros(0, bool)


class Origin(Callback):
    """A checkpoint says which code has trained it and where; a record then knows what its own process does not.

    Args:
        own_code: see `XmodalCLI`.

    Attributes:
        earlier: processes that trained the weights before this one, the first one first: code, inputs, machine, steps.
    """

    def __init__(self, own_code: dict[str, str]) -> None:
        self.own_code = own_code
        self.earlier: list[dict[str, Any]] = []
        self.fits, self.stage, self.same_split = False, "", False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """See the class."""
        self.stage, self.fits, self.trainer = stage, self.fits or stage == "fit", trainer
        host = machine(trainer.strategy.root_device) | {"devices": trainer.world_size}
        del host["peak_memory"]  # the same command leaves the same checkpoint, bit for bit
        said = trainer.datamodule.describe()  # type: ignore[attr-defined]
        self.split = said["split_hash"]
        self.here = {**provenance(), "own_code": self.own_code, "inputs_hash": said["inputs_hash"], **host}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"trained": [*self.earlier, self.here | {"steps": self.trainer.global_step}]}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """A test may be of other data, whose inputs are others anyway; a version that kept no code is not this one."""
        self.same_split = checkpoint["callbacks"].get("SameData", {}).get("split_hash") == self.split
        if self.state_key not in checkpoint["callbacks"]:
            self.load_state_dict({"trained": [{"commit": None, "steps": checkpoint["global_step"]}]})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See the class; the test of a run's own best epoch tells nothing new."""
        if self.fits and self.stage != "fit":
            return
        self.earlier = state_dict["trained"]
        last = self.earlier[-1]  # of an older version it does not say all
        tested = ("own_code", "inputs_hash") if self.same_split else ("own_code",)  # and maybe by a later commit
        keys = COMPUTED if self.fits else tested
        told = [key for key in keys if key in last]
        was, now = (dict(leaves({key: each[key] for key in told})) for each in (last, self.here))
        other = [key for key in sorted(was.keys() | now.keys()) if was.get(key) != now.get(key)]
        if other:
            words = "; ".join(f"{key} {was.get(key, 'absent')}, not {now.get(key, 'absent')}" for key in other)
            sys.stderr.write(f"it was trained by other code or inputs so far ({words}); the record names both\n")


class StaysStopped(Callback):
    """A training that early stopping has ended, and whose evaluation was interrupted, does not train once more."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See the class."""
        stopping = [each for each in trainer.callbacks if isinstance(each, EarlyStopping)]  # type: ignore[attr-defined]
        trainer.should_stop |= any(each.stopping_reason != EarlyStoppingReason.NOT_STOPPED for each in stopping)


class Finite(Callback):
    """End a training whose loss was not finite: after a step the parameters are not, and alike on every rank.

    An evaluation without its numbers is that of a method of one's own, which has left out the suite's.
    """

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See the class."""
        finite = [parameter.detach().isfinite().all() for parameter in pl_module.parameters()]
        if finite and not torch.stack(finite).all():
            raise DivergedError(f"the parameters are not finite after epoch {trainer.current_epoch + 1}")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See the class."""
        if "val/map" not in trainer.callback_metrics:
            raise UserError(
                f"{type(pl_module).__name__} logs no val/map: its on_validation_epoch_end is to call super()."
            )
        if not math.isfinite(value := float(trainer.callback_metrics["val/map"])):
            raise DivergedError(f"val/map is {value} in epoch {trainer.current_epoch + 1}")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See the class."""
        if not pl_module.results:
            raise UserError(f"{type(pl_module).__name__} has no test/map: its on_test_epoch_end is to call super().")


class EndAtOnce(Callback):
    """Leaves SIGTERM what it was before Lightning took it: the end, at once, because checkpoints are whole at any time.

    Lightning's handler talks to the other processes in the midst of what they do, and ends with status 0.
    """

    def __init__(self) -> None:
        self.handler = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See the class."""
        with contextlib.suppress(ValueError):  # of a thread, where Lightning takes no signal
            signal.signal(signal.SIGTERM, self.handler)

    on_validation_start = on_test_start = on_train_start
