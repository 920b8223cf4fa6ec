"""What the benchmarks of training share: a row of the CSV, the clock, and the suite's own Trainer."""

import csv
import logging
import statistics
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
import yaml
from lightning import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Row:
    """One line of the CSV."""

    device: str
    method: str
    batch_size: int
    form: str
    pairs_per_second: float
    over_plain: float
    peak_megabytes: float


class Table:
    """The CSV, written anew after every row, which takes the place of an earlier one of the same measurement.

    Args:
        path: of the CSV.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.names = path, [field.name for field in fields(Row)]
        self.device = device_name()
        self.rows = list(csv.DictReader(path.read_text().splitlines())) if path.is_file() else []

    def add(self, method, batch_size, form, rate, *, plain=float("nan"), peak=None):
        """Print and write one measurement; `plain` is the rate to compare with."""
        row = Row(self.device, method, batch_size, form, rate, rate / plain, peak_megabytes() if peak is None else peak)
        print(
            f"{method:<26}{batch_size:>7} {form:<14}{rate:>12,.0f} /s {row.over_plain:>7.2f}x "
            f"{row.peak_megabytes:>9,.0f} MB",
            flush=True,
        )
        new = {name: f"{v:.6g}" if isinstance(v, float) else str(v) for name, v in asdict(row).items()}
        what = self.names[: self.names.index("pairs_per_second")]
        same = [number for number, old in enumerate(self.rows) if all(old[name] == new[name] for name in what)]
        place = same[0] if same else len(self.rows)
        self.rows[place : place + 1] = [new]
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)


class Clock(Callback):
    """Seconds of every epoch, from its start to the start of the next: what an epoch begins and ends with included.

    Args:
        seconds: stop after the first epoch that ends later, but not before the second.
    """

    def __init__(self, seconds: float = float("inf")) -> None:
        self.seconds, self.stamps = seconds, []

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        """A stamp, when the device is done with what came before."""
        wait()
        self.stamps.append(time.perf_counter())
        reset_peak()

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        """Stop when the time is over."""
        trainer.should_stop |= len(self.stamps) > 1 and time.perf_counter() - self.stamps[0] > self.seconds

    def on_train_end(self, trainer, pl_module) -> None:
        """The last stamp, before the run is taken down."""
        wait()
        self.stamps.append(time.perf_counter())

    @property
    def seconds_per_epoch(self) -> float:
        """Median over the epochs after the first."""
        return statistics.median(
            after - before for before, after in zip(self.stamps[1:], self.stamps[2:], strict=False)
        )


def fit(model, data, clock, *, device="auto", epochs=4, callbacks=(), **settings):
    """Train with the suite's default settings but for determinism, with a logger; nothing is validated or kept."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    default = yaml.safe_load((ROOT / "experiments" / "default.yaml").read_text())["trainer"]
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        trainer = Trainer(
            **default
            | {"max_epochs": epochs, "accelerator": device, "deterministic": False, "limit_val_batches": 0}
            | {"logger": CSVLogger(folder), "enable_checkpointing": False, "callbacks": [*callbacks, clock]}
            | settings
        )
        trainer.fit(model, data)


def device_name() -> str:
    """Of the GPU, or CPU."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def wait() -> None:
    """Until the GPU is idle."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def reset_peak() -> None:
    """Count the peak memory from here."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_megabytes() -> float:
    """The largest amount of GPU memory that was in use."""
    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else float("nan")
