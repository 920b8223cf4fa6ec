"""Training speed: every method at feature level through Lightning's Trainer, beside the same on a plain DataLoader.

    python benchmarks/training.py [--methods dmsf ...] [--batch 128 1024] [--device cuda]

Made-up pairs of the size that the field uses (10,000 pairs, 4096-d image and 1386-d text features; methods that attend
to tokens get 16 image and 32 text tokens of 256). The loaders take turns in one process; pairs per second are the
median of the epochs after the first, whole epochs with everything that the Trainer does. Peak memory is the device's.
"""

import argparse
import csv
import inspect
import statistics
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from lightning import Callback, Trainer, seed_everything
from torch.utils.data import DataLoader, Dataset

from xmodal import methods
from xmodal.cli import LINKED
from xmodal.data import CrossModalDataModule, Pairs
from xmodal.data.protocol import make_split

ROOT = Path(__file__).parents[1]
REGISTRY = methods.registry()
NEEDS_TOKENS = ("scahn", "text_guided_clip", "mith", "attention_adversarial")
NEEDS_HIERARCHY = ("hierarchical_adversarial",)


@dataclass
class Row:
    """One line of the CSV."""

    device: str
    method: str
    batch_size: int
    loader: str
    pairs_per_second: float
    over_plain: float
    peak_megabytes: float


class MadeUp(CrossModalDataModule):
    """Pairs that follow their labels."""

    name = "made-up"

    def __init__(self, size: int, *, dims: tuple[int, int] = (4096, 1386), **kwargs) -> None:
        super().__init__(root=".", **kwargs)
        self.size, self.dims = size, dims

    def split(self):
        """All for training but what a split must hold."""
        return make_split(np.arange(64, self.size + 64), np.arange(64), 32, seed=1, database="test")

    def pairs(self):
        """Features and tokens in float16, as the caches hold them."""
        rng, total = np.random.default_rng(0), self.size + 64
        classes = np.arange(total) % 24
        label = np.zeros((total, 24), np.uint8)
        label[np.arange(total), classes] = 1
        label[np.arange(total), rng.integers(24, size=total)] = 1
        sides = []
        for dim, tokens in zip(self.dims, (16, 32), strict=True):
            centre = rng.normal(size=(24, dim)).astype(np.float32)
            pooled = centre[classes] + rng.normal(size=(total, dim)).astype(np.float32)
            side = {"pooled": pooled.astype(np.float16)}
            if self.tokens:
                side["tokens"] = rng.normal(size=(total, tokens, 256)).astype(np.float16)
            sides.append(side)
        hierarchy = np.stack([classes // 6, classes], 1).astype(np.int64)
        return Pairs(*sides, label, tuple(f"label {n}" for n in range(24)), hierarchy)

    def label_embeddings(self):
        """Made up as well."""
        return torch.randn(24, 384, generator=torch.Generator().manual_seed(0))


class OneByOne(Dataset):
    """A pair at a time, on the CPU."""

    def __init__(self, whole) -> None:
        self.whole = whole

    def __getitem__(self, row: int):
        """One row of every tensor."""
        return {
            key: {name: part[row] for name, part in value.items()} if isinstance(value, dict) else value[row]
            for key, value in self.whole.items()
        }

    def __len__(self) -> int:
        return len(self.whole["label"])


class Plain(MadeUp):
    """The same data as one would load it first: a Dataset of pairs, collated one by one and moved batch by batch."""

    def train_dataloader(self):
        """Collated on the CPU."""
        return DataLoader(
            OneByOne(self._batch(self._split.train, torch.device("cpu"))),
            self.batch_size,
            shuffle=True,
            drop_last=True,
            pin_memory=torch.cuda.is_available(),
        )

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        """As Lightning does it."""
        return {
            key: {name: part.to(device, non_blocking=True) for name, part in value.items()}
            if isinstance(value, dict)
            else value.to(device, non_blocking=True)
            for key, value in batch.items()
        }


class Clock(Callback):
    """Seconds of every epoch."""

    def __init__(self) -> None:
        self.epochs: list[float] = []

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        """Start when the device is done with what came before."""
        wait()
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        """Stop when it has done all."""
        wait()
        self.epochs.append(time.perf_counter() - self.started)


def wait() -> None:
    """Until the GPU is idle."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def build(name: str, data: CrossModalDataModule):
    """A method in its default form, with what the command line links to the data."""
    cls = REGISTRY[name]
    parameters = inspect.signature(cls).parameters
    linked = {key: getattr(data, key) for key in LINKED if key in parameters}
    size = 64 if name != "alscor" else data.batch_size // 16  # a CCA loss needs many more pairs than dimensions
    own = {"space": "projected"} if "space" in parameters else {}  # the features are of no common space
    return cls(**{"bits" if "bits" in parameters else "dim": size}, **linked, **own)


def pairs_per_second(name: str, module: type[MadeUp], size: int, batch_size: int, epochs: int, device: str):
    """Median over the epochs after the first, and the peak memory in MB."""
    tokens, finest = name in NEEDS_TOKENS, name in NEEDS_HIERARCHY
    data = module(size, batch_size=batch_size, drop_last=True, tokens=tokens, relevance="finest" if finest else "label")
    seed_everything(0, verbose=False)
    model, clock = build(name, data), Clock()
    settings = yaml.safe_load((ROOT / "experiments" / "default.yaml").read_text())["trainer"]
    settings |= {"max_epochs": epochs, "accelerator": device, "deterministic": False, "limit_val_batches": 0}
    settings |= {"logger": False, "enable_checkpointing": False, "callbacks": [clock]}
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Trainer(**settings).fit(model, data)
    peak = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else float("nan")
    return size // batch_size * batch_size / statistics.median(clock.epochs[1:]), peak


def main(argv: list[str]) -> int:
    """Measure and write the CSV."""
    trained = [name for name in REGISTRY if name != "cca"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=trained, default=trained)
    parser.add_argument("--batch", nargs="+", type=int, default=[128, 1024])
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "training_speed.csv")
    options = parser.parse_args(argv)
    name_of_device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    rows: list[Row] = []
    for method in options.methods:
        for batch in options.batch:
            found = {
                label: pairs_per_second(method, module, options.pairs, batch, options.epochs, options.device)
                for label, module in (("xmodal", MadeUp), ("plain DataLoader", Plain))
            }
            for label, (rate, peak) in found.items():
                rows.append(Row(name_of_device, method, batch, label, rate, rate / found["plain DataLoader"][0], peak))
            ours, plain = found.values()
            ratio = ours[0] / plain[0]
            print(
                f"{method:<26}{batch:>6} {ours[0]:>12,.0f} pairs/s, plain {plain[0]:>10,.0f}: {ratio:.1f}x", flush=True
            )
    with options.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in asdict(row).items()} for row in rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
