"""What a search adds to training: the start of a trial, the time between trials, and what comes before and after them.

    python benchmarks/sweep.py [--searches "dmsf bits=64" "dscmr dim=64"] [--trials 24] [--epochs 30] [--checkouts A B]

Runs `xmodal sweep` on emoji in a folder of its own, one worker, the space and the sampler, no pruner, twice: with
all epochs and with a third of them. All seconds come from the times that the study keeps of its trials. An epoch is the
difference of the two medians over the difference of epochs (what storing a value costs it is in it), a trial's
start-up what is left of it. `before` is the time from the command to the first trial, all imports included, `between`
that from the end of a trial to the start of the next one, `after` that from the last trial to the end of the command,
the evaluation and the figures included. Several checkouts are measured in turns.

    python benchmarks/sweep.py --workers 1 4 8 auto [--searches "dmsf bits=64" "scahn bits=64"]

compares numbers of workers instead: trials a minute, from the start of the first to the end of the last, and whether a
trial has the value that it has with the first number of workers, to the last bit. Its points are drawn at random,
by the trial's number, so that all searches try the same ones.
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


def run(
    checkout: Path, method: str, size: str, *more: str
) -> tuple[datetime, list[optuna.trial.FrozenTrial], datetime]:
    """When one search began, its trials, and when it ended."""
    with tempfile.TemporaryDirectory() as home:
        for name in ("experiments", "sweeps"):
            shutil.copytree(checkout / name, Path(home) / name)
        words = [method, "emoji", f"--{size}", "--pruner=none", *more]
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
        return started, optuna.load_study(study_name=study, storage=f"sqlite:///{home}/runs/sweeps.db").trials, ended


def search(checkout: Path, method: str, size: str, trials: int, epochs: int) -> dict[str, float]:
    """Seconds of one search."""
    started, found, ended = run(checkout, method, size, f"--trials={trials}", f"--epochs={epochs}")
    times = [(trial.datetime_start, trial.datetime_complete) for trial in found]
    return {
        "trial": statistics.median((end - start).total_seconds() for start, end in times),
        "between": statistics.median((start - end).total_seconds() for (_, end), (start, _) in pairwise(times)),
        "before": (times[0][0] - started).total_seconds(),
        "after": (ended - times[-1][1]).total_seconds(),
        "whole": (ended - started).total_seconds(),
    }


def side_by_side(
    checkout: Path, method: str, size: str, trials: int, epochs: int, numbers: Sequence[str]
) -> list[dict[str, object]]:
    """Trials a minute of one search by the number of workers."""
    rows, first = list[dict[str, object]](), dict[int, float]()
    for workers in numbers:
        more = (f"--trials={trials}", f"--epochs={epochs}", "--sampler=random", f"--workers={workers}")
        _, found, _ = run(checkout, method, size, *more)
        values = {trial.number: trial.value for trial in found if trial.value is not None}
        first = first or values
        minutes = max(t.datetime_complete for t in found) - min(t.datetime_start for t in found)
        rows.append(
            {
                **{"method": method, "trials": trials, "epochs": epochs, "workers": workers},
                "per_minute": len(values) / (minutes.total_seconds() / 60),
                "equal": sum(values[number] == first[number] for number in values),
            }
        )
        print(rows[-1], flush=True)
    return rows


def main(argv: Sequence[str]) -> int:
    """Measure and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", nargs="+", default=["dmsf bits=64", "dscmr dim=64"])
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--checkouts", type=Path, nargs="+", default=[ROOT])
    parser.add_argument("--workers", nargs="+", help="compare these numbers of workers")
    parser.add_argument("--out", type=Path, help="default: results/sweep_speed.csv, or sweep_workers.csv")
    options = parser.parse_args(argv)
    os.environ.setdefault("XMODAL_DATA", str(ROOT / "data"))
    os.environ.setdefault("WANDB_MODE", "offline")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {os.cpu_count()} cores"
    device = f"{torch.cuda.device_count()} x {device}" if torch.cuda.device_count() > 1 else device
    rows = []
    for words, checkout in product(options.searches, options.checkouts):
        method, size = words.split()
        if options.workers:
            found = side_by_side(checkout, method, size, options.trials, options.epochs, options.workers)
            rows += [{"device": device, "cores": len(os.sched_getaffinity(0)), **row} for row in found]
            continue
        brief = max(options.epochs // 3, 1)
        short, row = (search(checkout, method, size, options.trials, epochs) for epochs in (brief, options.epochs))
        epoch = (row["trial"] - short["trial"]) / (options.epochs - brief)
        what = {"device": device, "checkout": checkout.name, "method": method, "trials": options.trials}
        start_up = row["trial"] - options.epochs * epoch
        rows.append(what | {"epochs": options.epochs, "epoch": epoch, "start_up": start_up} | row)
        print(rows[-1], flush=True)
    name = "sweep_workers.csv" if options.workers else "sweep_speed.csv"
    with (options.out or ROOT / "results" / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
