"""Training speed on frozen features through Lightning's Trainer, logging included.

    python benchmarks/training.py [--methods dmsf ...] [--batch 128 1024]

Made-up pairs of the size that the field uses (10,000 pairs, 4096-d image and 1386-d text features; methods that attend
to tokens get 16 image and 32 text tokens of 256). Forms: `plain`, a Dataset of pairs in a DataLoader, float32;
`xmodal`, the suite as it is by default; `xmodal fast`, with TF32 products, CUDA graphs (on a GPU), and bf16 for the
methods that attend to tokens. Pairs per second are the median of whole epochs after the first. A form that fails is
named, and the others go on. Every row is written at once to results/training_speed.csv.
"""

import argparse
import gc
import inspect
import sys
import time
import traceback
from functools import cache
from pathlib import Path

import numpy as np
import torch
from lightning import LightningDataModule, seed_everything
from torch.utils.data import DataLoader, Dataset

from measuring import ROOT, Clock, Table, fit
from xmodal import methods
from xmodal.batch import SIDES, single
from xmodal.cli import LINKED
from xmodal.cuda_graphs import CudaGraphs
from xmodal.data import CrossModalDataModule, Pairs
from xmodal.data.split import make_split

REGISTRY = methods.registry()
TRAINED = [name for name, method in REGISTRY.items() if not issubclass(method, methods.CCA)]  # no closed form
NEEDS_TOKENS = ("scahn", "text_guided_clip", "mith", "dimch", "umoed", "attention_adversarial")
NEEDS_HIERARCHY = ("hierarchical_adversarial",)
WAITS = ("alscor",)  # a Cholesky factor and singular values in the step: cannot be recorded


class MadeUp(CrossModalDataModule):
    """Pairs that follow their labels."""

    name = "made-up"

    def __init__(self, size: int, *, dims: tuple[int, int] = (4096, 1386), **kwargs) -> None:
        super().__init__(root=".", **kwargs)
        self.size, self.dims = size, dims

    def split(self):
        """All for training but what a split must hold."""
        return make_split(np.arange(64, self.size + 128), np.arange(64), 64, seed=1, database="test")

    def pairs(self):
        """Features and tokens in float16, as the caches hold them."""
        return made_up(self.size + 128, self.dims, self.tokens)

    def label_embeddings(self):
        """Made up as well."""
        return torch.randn(24, 384, generator=torch.Generator().manual_seed(0))


@cache
def made_up(total: int, dims: tuple[int, int], tokens: bool) -> Pairs:
    """Made once, for all methods."""
    rng = np.random.default_rng(0)
    classes = np.arange(total) % 24
    label = np.zeros((total, 24), np.uint8)
    label[np.arange(total), classes] = 1
    label[np.arange(total), rng.integers(24, size=total)] = 1
    sides = []
    for dim, count in zip(dims, (16, 32), strict=True):
        centre = rng.standard_normal((24, dim), np.float32)
        side = {"pooled": (centre[classes] + rng.standard_normal((total, dim), np.float32)).astype(np.float16)}
        if tokens:
            side["tokens"] = rng.standard_normal((total, count, 256), np.float32).astype(np.float16)
        sides.append(side)
    hierarchy = np.stack([classes // 6, classes], 1).astype(np.int64)
    return Pairs(*sides, label, tuple(f"label {n}" for n in range(24)), hierarchy)


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
        whole = self._batch(self._split.train, torch.device("cpu"))
        sides = {side: {name: single(part) for name, part in whole[side].items()} for side in SIDES}
        return DataLoader(
            OneByOne({**whole, **sides}),
            self.batch_size,
            shuffle=True,
            drop_last=True,
            pin_memory=torch.cuda.is_available(),
        )

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        """As Lightning does it."""
        return LightningDataModule.transfer_batch_to_device(self, batch, device, dataloader_idx)


def build(name: str, data: CrossModalDataModule):
    """A method in its default form, with what the command line links to the data."""
    cls = REGISTRY[name]
    parameters = inspect.signature(cls).parameters
    linked = {key: getattr(data, key) for key in LINKED if key in parameters}
    size = 64 if name != "alscor" else data.batch_size // 16  # a CCA loss needs many more pairs than dimensions
    own = {"space": "projected"} if "space" in parameters else {}  # the features are of no common space
    return cls(**{"bits" if "bits" in parameters else "dim": size}, **linked, **own)


def run(name, form, batch_size, options):
    """Train a method in a form, and return the clock."""
    finest, module = name in NEEDS_HIERARCHY, Plain if form == "plain" else MadeUp
    data = module(
        options.pairs,
        dims=tuple(options.dims),
        batch_size=batch_size,
        drop_last=True,
        tokens=name in NEEDS_TOKENS,
        relevance="finest" if finest else "label",
    )
    seed_everything(0, verbose=False)
    model, clock = build(name, data), Clock(options.seconds)
    fast = form == "xmodal fast"
    graphs = fast and torch.cuda.is_available() and name not in WAITS
    torch.set_float32_matmul_precision("high" if fast else "highest")
    try:
        fit(
            model,
            data,
            clock,
            device=options.device,
            epochs=options.epochs,
            precision="bf16-mixed" if fast and name in NEEDS_TOKENS else "32-true",
            callbacks=[CudaGraphs()] if graphs else [],
        )
    finally:
        torch.set_float32_matmul_precision("highest")
    return clock


def features(options):
    """Every method in every form."""
    table, started = Table(options.folder / "training_speed.csv"), time.perf_counter()
    for method in options.methods:
        for batch_size in options.batch:
            plain, pairs = float("nan"), options.pairs // batch_size * batch_size
            for form in options.forms:
                if time.perf_counter() - started > 60 * options.minutes:
                    print(f"{method:<26}{batch_size:>7} {form}: no time left", flush=True)
                    continue
                try:
                    rate = pairs / run(method, form, batch_size, options).seconds_per_epoch
                except Exception as error:  # the others go on
                    print(f"{method:<26}{batch_size:>7} {form} failed: {said(error)}", flush=True)
                    traceback.print_exc()
                    continue
                gc.collect()
                torch.cuda.empty_cache()
                plain = rate if form == "plain" else plain
                table.add(method, batch_size, form, rate, plain=plain)


def said(error: Exception) -> str:
    """The last line of an error."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"


def main(argv: list[str]) -> int:
    """Measure and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=TRAINED, default=TRAINED)
    parser.add_argument("--forms", nargs="+", default=["plain", "xmodal", "xmodal fast"])
    parser.add_argument("--batch", nargs="+", type=int, default=[128, 1024])
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--dims", nargs=2, type=int, default=[4096, 1386])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=4, help="of a measurement, after which it stops early")
    parser.add_argument("--minutes", type=float, default=60, help="after which nothing is begun")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--folder", type=Path, default=ROOT / "results", help="of the CSV")
    features(parser.parse_args(argv))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
