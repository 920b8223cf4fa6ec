"""Loggers of a run: `metrics/version_0/metrics.csv` next to the record, and W&B (offline unless a key is at hand)."""

import netrc
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
import wandb
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from numpy.typing import NDArray

from xmodal.errors import UserError

Mode = Literal["online", "offline", "disabled"]


def mode() -> Mode:
    """`online` if a W&B key is at hand, else `offline`; `WANDB_MODE` overrides.

    Raises:
        UserError: WANDB_MODE is none of the three.
    """
    if chosen := os.environ.get("WANDB_MODE"):
        chosen = "offline" if chosen == "dryrun" else chosen  # its old name, which Lightning's logger still sets
        if chosen not in get_args(Mode):
            raise UserError(f"WANDB_MODE is {chosen!r}: give one of {', '.join(get_args(Mode))}.")
        return cast("Mode", chosen)
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    try:
        return "online" if netrc.netrc().authenticators("api.wandb.ai") else "offline"
    except (FileNotFoundError, netrc.NetrcParseError):
        return "offline"


def loggers(folder: Path, runs: Path, group: str, job_type: str, tags: Sequence[str]) -> list[Logger]:
    """The run's loggers; W&B writes to `<runs>/wandb` and nowhere else, and is left out with `WANDB_MODE=disabled`.

    Args:
        folder: of the run.
        runs: of all runs: W&B keeps its own folder per run there, for `wandb sync`.
        group: such as the study, so that W&B shows mean and spread.
        job_type: `train`, `trial`, ...
        tags: method, dataset, size and seed.
    """
    csv = CSVLogger(str(folder), name="metrics")  # metrics/version_0; a resumed run writes version_1
    if mode() == "disabled":
        return [csv]
    name = "-".join(tags)
    for variable in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        os.environ.setdefault(variable, str(runs / "wandb"))
    silent = os.environ.get("WANDB_SILENT", "true") == "true"  # one voice on the terminal: ours
    listed = job_type != "trial"  # the list of all packages takes most of a start; a trial's record has the versions
    wandb.setup(wandb.Settings(silent=silent, mode=mode(), x_save_requirements=listed))
    run = WandbLogger(
        name=name,
        save_dir=str(runs),
        project="xmodal",
        offline=mode() == "offline",
        group=group,
        job_type=job_type,
        tags=list(tags),
    )
    return [csv, run]


def log_outputs(loggers: Iterable[Logger], curves: Mapping[str, NDArray[np.float64]], gallery: Path | None) -> None:
    """Give W&B the curves as a table (at most 200 points each) and the gallery as an image.

    Args:
        loggers: of the run.
        curves: (points, 3) rank or radius, precision and recall, by name.
        gallery: path of the picture, if there is one.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            table = wandb.Table(columns=["curve", "at", "precision", "recall"])
            for name, points in curves.items():
                for row in points[np.unique(np.linspace(0, len(points) - 1, 200).astype(int))]:
                    table.add_data(name, *row.tolist())
            media = {"gallery": wandb.Image(str(gallery))} if gallery else {}
            logger.experiment.log({"precision_recall": table, **media})


def run_id(loggers: Iterable[Logger]) -> str | None:
    """W&B's id of the run, if it is logged there."""
    return next((str(logger.version) for logger in loggers if isinstance(logger, WandbLogger)), None)


def close(loggers: Iterable[Logger]) -> None:
    """End the W&B run, so that its file is whole and a next run in this process gets its own."""
    if any(isinstance(logger, WandbLogger) for logger in loggers) and wandb.run is not None:
        wandb.run.finish()
