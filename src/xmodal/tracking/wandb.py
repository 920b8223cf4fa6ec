"""Loggers of a run: `metrics/version_0/metrics.csv` next to the record, and W&B (offline unless a key is at hand)."""

import netrc
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger


def mode() -> str:
    """`online` if a W&B key is at hand, else `offline`; `WANDB_MODE` overrides."""
    if chosen := os.environ.get("WANDB_MODE"):
        return chosen
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
    os.environ.setdefault("WANDB_SILENT", "true")
    for variable in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        os.environ.setdefault(variable, str(runs / "wandb"))
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


def close(loggers: Iterable[Logger]) -> str | None:
    """End the W&B run, so that its file is whole and a next run in this process gets its own; returns the run's id."""
    runs = [logger for logger in loggers if isinstance(logger, WandbLogger)]
    for logger in runs:
        logger.experiment.finish()
    return str(runs[0].version) if runs else None
