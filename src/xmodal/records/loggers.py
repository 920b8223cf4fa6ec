"""Loggers of a run: `metrics/version_0/metrics.csv` next to the record, and W&B (offline unless a key is at hand)."""

import csv
import io
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import wandb
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray
from PIL import Image

from xmodal.code import provenance
from xmodal.files import write_atomically
from xmodal.records.gallery import Hits
from xmodal.records.wandb_mode import Mode, go_offline, keep_inside, mode

START = 10  # seconds that W&B has to accept a run
FINISH = 30  # seconds that the end of a run may take to upload; what is left then stays on disk
SPARE = 2**16  # bytes; W&B writes blocks of half as many
THUMBNAIL = 128  # pixels of a picture in W&B's gallery


class Metrics(CSVLogger):
    """`metrics.csv` alone, written anew with each row and so always whole: the configuration lies beside the record."""

    def log_hyperparams(self, params: object = None) -> None:
        """Nothing is written."""

    @rank_zero_only
    def save(self) -> None:
        """Write all rows so far."""
        rows, text = self.experiment.metrics, io.StringIO()
        writer = csv.DictWriter(text, sorted({column for row in rows for column in row}))
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(Path(self.experiment.metrics_file_path), text.getvalue())


def start_service(runs: Path, *, brief: bool = False) -> Mode:
    """Start W&B's service of this process, or find the one of a process that started it, and say its mode.

    Args:
        runs: of all runs: W&B keeps its own folder per run there, for `wandb sync`.
        brief: let it neither list every installed package nor ask git, which is most of a start; it is told the commit,
            and not the remote.
    """
    chosen = mode()
    if chosen != "disabled":
        keep_inside(runs)
        silent = os.environ.get("WANDB_SILENT", "true") == "true"  # one voice on the terminal: ours
        settings = wandb.Settings(silent=silent, mode=chosen, x_save_requirements=not brief, disable_git=brief)
        if brief:
            settings.git_commit = provenance()["commit"]
        try:
            wandb.setup(settings)
        except Exception:
            if os.environ.pop("WANDB_SERVICE", None) is None:
                raise
            wandb.setup(settings)  # the service that another process started is gone
    return chosen


def loggers(folder: Path, runs: Path, group: str, job_type: str, tags: Sequence[str]) -> list[Logger]:
    """The run's loggers; W&B writes to `<runs>/wandb` and nowhere else, and is left out with `WANDB_MODE=disabled`.

    Args:
        folder: of the run.
        runs: of all runs, see `start_service`.
        group: such as the study, so that W&B shows mean and spread.
        job_type: `train`, `trial`, ...
        tags: method, dataset, size and seed.
    """
    metrics = Metrics(str(folder), name="metrics")  # metrics/version_0; a resumed run writes version_1
    chosen = start_service(runs, brief=job_type == "trial")  # a trial's record has the versions
    if chosen == "disabled":
        return [metrics]
    kept = folder / "metrics" / "wandb_id"
    run = WandbLogger(
        name="-".join(tags),
        id=_kept_id(kept),
        resume="allow",
        save_dir=str(runs),
        project="xmodal",
        offline=chosen == "offline",
        settings=wandb.Settings(init_timeout=START, finish_timeout=FINISH),
        group=group,
        job_type=job_type,
        tags=[tag[:64] for tag in tags],  # longer ones W&B refuses
    )
    if chosen == "online":
        try:
            _ = run.experiment  # starts the run
        except wandb.Error as error:
            go_offline(f"W&B refuses the run ({str(error).splitlines()[0]})")
            wandb.teardown()  # its service holds the id
            os.environ.pop("WANDB_SERVICE", None)  # also one of another process, which goes on
            return loggers(folder, runs, group, job_type, tags)
    return [metrics, run]


def _kept_id(kept: Path) -> str | None:
    """W&B's id of a run, which it keeps when it goes on: a file among its metrics, made by the first process."""
    if not kept.is_file() and getattr(rank_zero_only, "rank", 0) == 0:
        write_atomically(kept, secrets.token_hex(8))
    return kept.read_text() if kept.is_file() else None


def log_outputs(
    loggers: Iterable[Logger],
    curves: Mapping[str, NDArray[np.float64]],
    gallery: Path | None,
    hits: Sequence[Hits],
    picture: Callable[[int], Image.Image | None],
    caption: Callable[[int], str],
) -> None:
    """Give W&B the curves (at most 200 points each) and the gallery, as a picture and as tables.

    The charts `pr_i2t` and `pr_t2i` are W&B's own line charts over a table, which it overlays for all runs that are
    shown; `precision_recall` is a table of every curve.

    Args:
        loggers: of the run.
        curves: (points, 3) rank or radius, precision and recall, by name.
        gallery: path of the picture, if there is one.
        hits: of the queries in the gallery.
        picture: the image at a position.
        caption: the text at a position.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            every = wandb.Table(columns=["curve", "at", "precision", "recall"])
            logged: dict[str, Any] = {"precision_recall": every}
            for name, points in curves.items():
                chosen = points[np.unique(np.linspace(0, len(points) - 1, 200).astype(int))]
                for row in chosen:
                    every.add_data(name, *row.tolist())
                if name.startswith("pr_rank_"):
                    line = wandb.Table(columns=["precision", "recall"], data=chosen[:, 1:].tolist())
                    direction = name.removeprefix("pr_rank_")
                    title = f"precision over recall, {direction}"
                    logged[f"pr_{direction}"] = wandb.plot.line(line, "recall", "precision", title=title)
            if gallery:
                logged["gallery"] = wandb.Image(str(gallery))
                for asked, direction in (("image", "i2t"), ("text", "t2i")):
                    chosen_hits = [each for each in hits if each.asked == asked]
                    logged[f"gallery_{direction}"] = _gallery_table(chosen_hits, picture, caption)
            logger.experiment.log(logged)


def _gallery_table(
    hits: Sequence[Hits], picture: Callable[[int], Image.Image | None], caption: Callable[[int], str]
) -> wandb.Table:
    """A query a row with its first hits, each marked right or wrong."""
    table = wandb.Table(columns=["query", *(f"hit {place + 1}" for place in range(len(hits[0].found))), "right"])
    for each in hits:
        found = "text" if each.asked == "image" else "image"
        cells = [
            _cell(found, position, "\u2713 " if right else "\u2717 ", picture, caption)
            for position, right in each.found
        ]
        right = sum(right for _, right in each.found)
        table.add_data(_cell(each.asked, each.query, "", picture, caption), *cells, right)
    return table


def _cell(
    side: str, position: int, mark: str, picture: Callable[[int], Image.Image | None], caption: Callable[[int], str]
) -> Any:  # noqa: ANN401 - a picture or words
    drawn = picture(position) if side == "image" else None
    if drawn is None:
        return mark + caption(position)
    small = drawn.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return wandb.Image(small, caption=mark + caption(position))


def log_file(loggers: Iterable[Logger], path: Path, name: str, kind: str, metadata: Mapping[str, Any]) -> None:
    """Give W&B a file as an artifact; the metadata say what it was made from, also where the run was offline.

    Args:
        loggers: of the run.
        path: of the file.
        name: of the artifact; equal content under one name is one version.
        kind: `configuration` or `codes`.
        metadata: such as the study and the hashes of configuration and split.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            taken = re.sub(r"[^A-Za-z0-9._-]", "-", name)[-128:]  # by W&B; a variant may be lr=0.1
            artifact = wandb.Artifact(taken, kind, metadata=dict(metadata))
            artifact.add_file(str(path))
            logger.experiment.log_artifact(artifact)


def log_record(loggers: Iterable[Logger], metrics: Mapping[str, float]) -> None:
    """Let W&B's summary say what the record says: of `val/map` it keeps the last epoch's, which may not be the best."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update(dict(metrics))


def run_id(loggers: Iterable[Logger]) -> str | None:
    """W&B's id of the run, if it is logged there."""
    return next((str(logger.version) for logger in loggers if isinstance(logger, WandbLogger)), None)


def close(loggers: Iterable[Logger], *, failed: bool = False) -> None:
    """End the W&B run, so that its file is whole and a next run in this process gets its own.

    W&B's service says nothing where its disk is full, so it is said here.

    Args:
        loggers: of the run.
        failed: another line says already what went wrong.
    """
    if any(isinstance(logger, WandbLogger) for logger in loggers) and wandb.run is not None:
        folder = wandb.run.dir
        wandb.run.finish(int(failed))  # else it is `finished` there
        if not failed and shutil.disk_usage(folder).free < SPARE:
            sys.stderr.write(f"there is no room left for W&B: its copy of this run in {folder} may be cut short\n")
