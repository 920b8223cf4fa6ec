"""What a search adds to training: the start of a trial, the time between trials, and what comes before and after them.

    python benchmarks/sweep.py [--searches "dmsf bits=64" "dscmr dim=64"] [--trials 24] [--epochs 30] [--checkouts A B]

Runs `xmodal sweep` on emoji in a folder of its own, one worker, the space and the sampler, no pruner, twice: with
all epochs and with a third of them. All seconds come from the times that the study keeps of its trials. An epoch is the
difference of the two medians over the difference of epochs (what storing a value costs it is in it), a trial's
start-up what is left of it. `before` is the time from the command to the first trial, all imports included, `between`
that from the end of a trial to the start of the next one, `after` that from the last trial to the end of the command,
the evaluation and the figures included. Several checkouts are measured in turns.
"""

import argparse
import csv
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise, product
from pathlib import Path

import optuna
import torch

ROOT = Path(__file__).parents[1]


def search(checkout: Path, method: str, size: str, trials: int, epochs: int) -> dict[str, float]:
    """Seconds of one search."""
    with tempfile.TemporaryDirectory() as home:
        for name in ("experiments", "sweeps"):
            shutil.copytree(checkout / name, Path(home) / name)
        words = [method, "emoji", f"--{size}", f"--trials={trials}", f"--epochs={epochs}", "--pruner=none"]
        started = datetime.now()
        subprocess.run(
            [sys.executable, "-m", "xmodal", "sweep", *words],
            env=os.environ | {"XMODAL_HOME": home, "PYTHONPATH": str(checkout / "src")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        ended = datetime.now()
        study = f"{method}-emoji-{size.partition('=')[2]}"
        found = optuna.load_study(study_name=study, storage=f"sqlite:///{home}/runs/sweeps.db").trials
    times = [(trial.datetime_start, trial.datetime_complete) for trial in found]
    return {
        "trial": statistics.median((end - start).total_seconds() for start, end in times),
        "between": statistics.median((start - end).total_seconds() for (_, end), (start, _) in pairwise(times)),
        "before": (times[0][0] - started).total_seconds(),
        "after": (ended - times[-1][1]).total_seconds(),
        "whole": (ended - started).total_seconds(),
    }


def main(argv: Sequence[str]) -> int:
    """Measure and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", nargs="+", default=["dmsf bits=64", "dscmr dim=64"])
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--checkouts", type=Path, nargs="+", default=[ROOT])
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "sweep_speed.csv")
    options = parser.parse_args(argv)
    os.environ.setdefault("XMODAL_DATA", str(ROOT / "data"))
    os.environ.setdefault("WANDB_MODE", "offline")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {os.cpu_count()} cores"
    rows = []
    for words, checkout in product(options.searches, options.checkouts):
        method, size = words.split()
        brief = max(options.epochs // 3, 1)
        short, row = (search(checkout, method, size, options.trials, epochs) for epochs in (brief, options.epochs))
        epoch = (row["trial"] - short["trial"]) / (options.epochs - brief)
        what = {"device": device, "checkout": checkout.name, "method": method, "trials": options.trials}
        start_up = row["trial"] - options.epochs * epoch
        rows.append(what | {"epochs": options.epochs, "epoch": epoch, "start_up": start_up} | row)
        print(rows[-1], flush=True)
    with options.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
