"""What a search adds to training: the start of a trial, and the parent that draws, stores and decides.

    python benchmarks/sweep.py [--searches "dmsf bits=64" "dscmr dim=64"] [--trials 24] [--epochs 30]

Runs `xmodal sweep` on emoji in a folder of its own, one worker, the space, the sampler and the pruner of the suite, of
which no trial hears. A trial's time is its process from start to end. Its start-up is what it takes until its first
value less the median time between two values, and what it takes after its last. `before` are the seconds from the
command until the first trial runs like the others, all imports included, once a search. What the parent adds to a trial
has two parts, both in per cent of it: `between`, the wall time of the search from its first trial on less that of its
trials; and `beside`, what storing a value adds to the epoch that goes on meanwhile: every other epoch's value is not
stored.
"""

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass
class Row:
    """One line of the CSV: seconds, medians over the trials."""

    device: str
    method: str
    trials: int
    epochs: int
    trial: float
    start_up: float
    before: float
    between_percent: float
    beside_percent: float


@dataclass
class Clock:
    """Takes the place of `run_trial` and keeps the seconds of every trial."""

    run_trial: Callable
    starts: list[float] = field(default_factory=list)
    trials: list[float] = field(default_factory=list)
    start_ups: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)  # an epoch beside which a value is stored, over one without

    def __call__(self, arguments, devices, report, *rest):
        """Run one trial."""
        began, heard = time.perf_counter(), []

        def timed(epoch: int, value: float) -> bool:
            heard.append(time.perf_counter())
            if epoch % 2:
                report(epoch, value)
            return False  # whole trials are measured

        found = self.run_trial(arguments, devices, timed, *rest)
        ended = time.perf_counter()
        took = [there - then for then, there in pairwise(heard)]
        self.starts.append(began)
        self.trials.append(ended - began)
        self.start_ups.append(heard[0] - began - statistics.median(took) + ended - heard[-1])
        self.beside.append(statistics.median(took[1::2]) / statistics.median(took[::2]))
        return found


def measure(method: str, size: str, trials: int, epochs: int) -> Row:
    """Search in this process, in the folder that `XMODAL_HOME` names; the imports are a part of it."""
    started = time.perf_counter()
    from xmodal.tuning import command, study, worker

    study.run_trial = clock = Clock(worker.run_trial)
    command.search([method, "emoji", f"--{size}", f"--trials={trials}", f"--epochs={epochs}"])
    wall, trained = time.perf_counter() - started, sum(clock.trials)
    start_up = statistics.median(clock.start_ups)
    import torch

    from xmodal.records import machine

    device = machine(torch.device("cuda" if torch.cuda.is_available() else "cpu"))["device"]
    first = clock.starts[0] - started
    return Row(
        device,
        method,
        trials,
        epochs,
        statistics.median(clock.trials),
        start_up,
        first + clock.start_ups[0] - start_up,
        100 * (wall - first - trained) / trained,
        100 * (statistics.median(clock.beside) - 1),
    )


def main(argv: list[str]) -> int:
    """Measure and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", nargs="+", default=["dmsf bits=64", "dscmr dim=64"])
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "sweep_speed.csv")
    parser.add_argument("--here", action="store_true", help="in this process; for the benchmark itself")
    options = parser.parse_args(argv)
    os.environ.setdefault("XMODAL_DATA", str(ROOT / "data"))
    os.environ.setdefault("WANDB_MODE", "offline")
    if options.here:
        print(json.dumps(asdict(measure(*options.searches[0].split(), options.trials, options.epochs))))
        return 0
    rows = []
    for search in options.searches:
        with tempfile.TemporaryDirectory() as home:
            for name in ("experiments", "sweeps"):
                shutil.copytree(ROOT / name, Path(home) / name)
            command = [sys.executable, __file__, "--here", f"--trials={options.trials}", f"--epochs={options.epochs}"]
            done = subprocess.run(
                [*command, "--searches", search],
                env=os.environ | {"XMODAL_HOME": home},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    with options.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
