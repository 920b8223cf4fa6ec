"""Checkpoints on disk: written whole, checked before they are read, and read without running code from them."""

import contextlib
import json
import math
import re
import sys
import zipfile
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any, cast

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import TorchCheckpointIO
from torch import Tensor

from xmodal.errors import UserError
from xmodal.files import write_atomically

PARTS = {  # of every checkpoint that a run leaves
    "epoch": int,
    "global_step": int,
    "pytorch-lightning_version": str,
    "state_dict": dict,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "hyper_parameters": dict,
}
ENCODERS = (  # what built a trained trunk; a checkpoint keeps it
    "xmodal.encoders.image.TimmImage",
    "xmodal.encoders.clip.OpenClipImage",
    "xmodal.encoders.clip.OpenClipText",
)


class DamagedError(UserError):
    """A file is no whole checkpoint of this suite."""


def read_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:  # noqa: ANN401 - as torch.load takes it
    """Read a checkpoint of this suite; a file that is none is refused, and no code in it is run.

    The archive's checksums are compared first, because torch does not look at them. Beside tensors and plain values,
    only the encoders of trained trunks and dataclasses of this package, such as a method's weights, are made.

    Args:
        path: of the file.
        map_location: where the tensors go, as `torch.load` takes it.

    Raises:
        UserError: it cannot be opened, or the memory is too small.
        DamagedError: it is damaged, or no checkpoint of this suite.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"cannot read the checkpoint {path}: {error.strerror}.") from error
    with file:
        try:
            _check(file)
            with torch.serialization.safe_globals(list(filter(None, _globals(file).values()))):
                file.seek(0)
                checkpoint = torch.load(file, map_location=map_location, weights_only=True)
            if not _is_of_a_run(checkpoint):
                raise ValueError("it holds something else")  # noqa: TRY301 - said below
            json.dumps(checkpoint["hyper_parameters"], default=asdict)  # plain values, which can be compared
        except Exception as error:  # zipfile, torch and what a stranger put in raise anything
            if isinstance(error, MemoryError) or "enough memory" in str(error):
                raise UserError(f"the memory is too small for the checkpoint {path}.") from error
            text = " ".join(str(error).split()) or type(error).__name__
            why = (text.partition("WeightsUnpickler error: ")[2] or text)[:200]  # without advice to run it
            raise DamagedError(f"{path} is damaged or no checkpoint of this suite ({why})") from error
    return cast("dict[str, Any]", checkpoint)


def _is_of_a_run(checkpoint: Any) -> bool:  # noqa: ANN401 - what a file holds
    """Whether every part is there and of the type that Lightning and the methods rely on."""
    if not isinstance(checkpoint, dict) or not all(isinstance(checkpoint.get(k), t) for k, t in PARTS.items()):
        return False
    names = [*checkpoint["state_dict"], *checkpoint["hyper_parameters"]]
    loops = [checkpoint["loops"].get(f"{each}_loop") for each in ("fit", "validate", "test", "predict")]
    return (
        all(isinstance(name, str) for name in names)
        and all(isinstance(loop, dict) for loop in loops)
        and all(_is_plain(value) for value in checkpoint["state_dict"].values())
        and 0 <= checkpoint["epoch"] < 10**9
        and all(callable(getattr(each, "trunk", None)) for each in dict(checkpoint.get("trunks", {})).values())
        and re.match(r"\d+\.\d+", checkpoint["pytorch-lightning_version"]) is not None
    )


def _is_plain(value: Any) -> bool:  # noqa: ANN401 - what a file holds
    """Whether it is a tensor of real numbers that are there; a module would take any other for its own, in silence."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and not (value.is_meta or value.is_quantized or value.is_complex())
    )


def _check(file: IO[bytes]) -> None:
    """Compare the archive's checksums.

    Raises:
        ValueError: they differ, or it is no archive that torch wrote.
    """
    with zipfile.ZipFile(file) as archive:
        if any(each.compress_type != zipfile.ZIP_STORED for each in archive.infolist()):
            raise ValueError("its archive is compressed, which torch never does")
        if (name := archive.testzip()) is not None:
            raise ValueError(f"the checksum of {name} is wrong")


def _globals(file: IO[bytes]) -> dict[str, Any]:
    """What else a file asks for, by name: a class of this package that it may have, or None; torch refuses the rest."""
    found: dict[str, Any] = {}
    file.seek(0)
    for name in torch.serialization.get_unsafe_globals_in_checkpoint(file):  # reads names, makes nothing
        module, _, member = name.rpartition(".")
        own = module.startswith("xmodal.") or _is_of_a_method(module)
        kind = getattr(import_module(module), member) if own else None
        found[name] = kind if name in ENCODERS or (isinstance(kind, type) and is_dataclass(kind)) else None
    return found


def _is_of_a_method(module: str) -> bool:
    """Whether a module is imported already and holds a method, one of the user's own."""
    members = vars(sys.modules[module]).values() if module in sys.modules else ()
    return any(isinstance(each, type) and issubclass(each, LightningModule) for each in members)


class WholeCheckpoints(TorchCheckpointIO):
    """How the trainer writes and reads checkpoints: beside their place and renamed, on one file system, and checked."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """Write a checkpoint whole or not at all.

        Raises:
            UserError: it cannot be written, or could not be read again.
        """

        def write(file: IO[bytes]) -> None:
            torch.save(checkpoint, file)
            odd = [name for name, value in checkpoint.get("state_dict", {}).items() if not _is_plain(value)]
            if strange := odd + [name for name, kind in _globals(file).items() if kind is None]:
                raise UserError(
                    f"a checkpoint is not read with {min(strange)}: keep dense tensors of real numbers in its state, "
                    "and plain values or other tensors by on_save_checkpoint."
                )

        write_atomically(Path(path), write, lasting=True)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """See `read_checkpoint`."""
        return read_checkpoint(Path(path), map_location or "cpu")


class Best(ModelCheckpoint):
    """Keeps `best.ckpt`, by `val/map`; a run whose folder was moved still knows its best score.

    Args:
        folder: of the checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder, "best", "val/map", mode="max", save_on_train_epoch_end=True, enable_version_counter=False
        )
        self.following: list[Any] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See `on_train_epoch_end`."""
        while self.following:
            self.following.pop().reduce_on_plateau = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Rates that follow a score take their step here: Lightning lets them after it, and a kill would cost one."""
        for schedule in trainer.lr_scheduler_configs if pl_module.automatic_optimization else ():
            due = schedule.interval == "epoch" and (trainer.current_epoch + 1) % schedule.frequency == 0
            if schedule.reduce_on_plateau and due and schedule.monitor in trainer.callback_metrics:
                pl_module.lr_scheduler_step(schedule.scheduler, trainer.callback_metrics[schedule.monitor])
                schedule.reduce_on_plateau = False  # which Lightning then skips
                self.following.append(schedule)
        super().on_train_epoch_end(trainer, pl_module)

    @property
    def state_key(self) -> str:
        """As in checkpoints of older versions."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `ModelCheckpoint`."""
        path = self.format_checkpoint_name({})
        moved = {"dirpath": self.dirpath, "best_model_path": path, "kth_best_model_path": path}
        if (score := state_dict["best_model_score"]) is not None:  # none before the first
            state_dict = state_dict | moved | {"best_k_models": {path: score}}
        super().load_state_dict(state_dict)


def keepers(folder: Path) -> tuple[Best, ModelCheckpoint]:
    """What keeps `best.ckpt`, and `last.ckpt` of every epoch, which holds the best score and so comes second.

    `ModelCheckpoint(save_last=True)` writes the last one in those epochs only that are the best so far.

    Args:
        folder: of the checkpoints.
    """
    last = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    return Best(folder), last


def resumable(folder: Path) -> Path | None:
    """The checkpoint that an interrupted run goes on from: `last.ckpt`, or `best.ckpt` where that is damaged or lost.

    Going on from the best repeats the epochs after it, and ends the same. Without a sound `best.ckpt` nobody knows the
    best epoch any more, so the run begins anew, unless no epoch was validated yet. What is damaged is set aside, and so
    is a `last.ckpt` that knows a better epoch than `best.ckpt` holds: a copy made while the run went on. All processes
    of a run find the same.

    Args:
        folder: of the checkpoints.

    Returns:
        None where the run begins anew.

    Raises:
        UserError: a checkpoint cannot be read, or not be set aside.
    """
    last, best = folder / "last.ckpt", folder / "best.ckpt"
    known, going = _best_score(best), _best_score(last)
    if going == -math.inf and known is None:  # check_val_every_n_epoch, before the first
        return last
    if going is not None and known is None:
        _set_aside(last, "aside", f"{last} is of no use without a sound best.ckpt: the run begins anew")
    elif going is not None and known is not None and going > known:
        _set_aside(last, "aside", f"{last} knows a better epoch than best.ckpt holds: the run goes on from best.ckpt")
        going = None
    if known is not None and going is None:
        write_atomically(last, lambda file: file.write(best.read_bytes()))  # stays where no epoch follows the best
    return (last if going is not None else best) if known is not None else None


def _best_score(path: Path) -> float | None:
    """Of the best epoch so far, as a checkpoint knows it, or -inf before the first; None: there is no sound one."""
    if not path.exists():
        return None
    try:
        checkpoint = read_checkpoint(path)
    except DamagedError as error:
        _set_aside(path, "damaged", str(error))
        return None
    progress = checkpoint["loops"]["fit_loop"].get("epoch_progress", {}).get("current", {})
    if progress.get("ready") != progress.get("processed"):  # by a callback that writes to the same folder
        _set_aside(path, "aside", f"{path} was written in the midst of an epoch, from where no run goes on")
        return None
    kept = checkpoint["callbacks"].get(Best(path.parent).state_key, {})
    score = kept.get("best_model_score")
    return -math.inf if score is None else float(score)


def _set_aside(path: Path, mark: str, why: str) -> None:
    aside = path.with_name(f"{path.name}.{mark}")
    try:
        with contextlib.suppress(FileNotFoundError):  # another process of the run was first
            path.replace(aside)
            sys.stderr.write(f"{why}; set aside as {aside.name}\n")
    except OSError as error:
        raise UserError(f"cannot rename {path}: {error.strerror}.") from error
