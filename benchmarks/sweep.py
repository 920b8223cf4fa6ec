"""What a search adds to training: the start of a trial, and the parent that draws, stores and decides.

    python benchmarks/sweep.py [--methods dmsf dscmr] [--trials 12] [--epochs 30]

Runs `xmodal sweep` on emoji in a folder of its own, one worker, the space and the sampler of the suite, no pruning. A
trial's time is its process from start to end, less its waits for the parent's answers. Its epochs are their number
times the median time of one: what the first takes beyond that counts as start-up, and so does the end of the process.
The parent's share is the wall time of the search, less that of its trials, over that of its trials; `before` is the
part of it from the command to the first trial's start, once a search. The columns in `cpu` say the same of the
processes' CPU time (Linux, hundredths of a second), which a busy machine disturbs less.
"""

import argparse
import csv
import multiprocessing
import os
import shutil
import statistics
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
    start_up_cpu: float
    before: float
    parent_percent: float
    parent_percent_cpu: float


@dataclass
class Clock:
    """Takes the place of `run_trial` and keeps the times of every trial; pairs are wall and CPU time."""

    run_trial: Callable
    starts: list[float] = field(default_factory=list)
    trials: list[tuple[float, float]] = field(default_factory=list)
    start_ups: list[tuple[float, float]] = field(default_factory=list)
    reaped: float = 0.0  # CPU time of the trials before

    def __call__(self, arguments, devices, report, *rest):
        """Run one trial."""
        began, heard, answered, cpu = time.perf_counter(), [], [], []
        server = 0

        def timed(epoch: int, value: float) -> bool:
            nonlocal server
            heard.append(time.perf_counter())
            (child,) = multiprocessing.active_children()
            server = parent(child.pid)
            cpu.append(spent(child.pid))
            report(epoch, value)
            answered.append(time.perf_counter())
            return False  # whole trials are measured

        found = self.run_trial(arguments, devices, timed, *rest)
        wall = time.perf_counter() - began - (sum(answered) - sum(heard))
        reaped = spent(server, of_children=True)
        own = (wall, reaped - self.reaped)
        self.reaped = reaped
        epoch = (
            statistics.median(there - then for then, there in zip(answered, heard[1:], strict=False)),
            statistics.median(there - then for then, there in pairwise(cpu)),
        )
        self.starts.append(began)
        self.trials.append(own)
        self.start_ups.append((own[0] - len(heard) * epoch[0], own[1] - len(heard) * epoch[1]))
        return found


def parent(pid: int) -> int:
    """Process id of a process's parent."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def spent(pid: int, *, of_children: bool = False) -> float:
    """Seconds of CPU time of a process, or of its children that have ended."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[13 if of_children else 11 :][:2]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def measure(method: str, trials: int, epochs: int) -> Row:
    """Search in this process, in the folder that `XMODAL_HOME` names."""
    import torch  # every trial imports this file, and nothing that it does not need shall come with it

    from xmodal.run import size_names
    from xmodal.tracking import machine
    from xmodal.tuning import command, study, worker

    study.run_trial = clock = Clock(worker.run_trial)
    size = f"--{size_names(method)[0]}=64"
    options = [f"--trials={trials}", f"--epochs={epochs}", "--pruner=none"]
    started, worked = time.perf_counter(), time.process_time()
    command.search([method, "emoji", size, *options])
    wall, worked = time.perf_counter() - started, time.process_time() - worked
    trained, trained_cpu = map(sum, zip(*clock.trials, strict=True))
    start_up, start_up_cpu = map(statistics.median, zip(*clock.start_ups, strict=True))
    device = machine(torch.device("cuda" if torch.cuda.is_available() else "cpu"))["device"]
    return Row(
        device,
        method,
        trials,
        epochs,
        statistics.median(own for own, _ in clock.trials),
        start_up,
        start_up_cpu,
        clock.starts[0] - started,
        100 * (wall - trained) / trained,
        100 * worked / trained_cpu,
    )


def main(argv: list[str]) -> int:
    """Measure and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["dmsf", "dscmr"])
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "sweep_speed.csv")
    options = parser.parse_args(argv)
    os.environ.setdefault("XMODAL_DATA", str(ROOT / "data"))
    os.environ.setdefault("WANDB_MODE", "offline")
    rows = []
    with tempfile.TemporaryDirectory() as home:
        os.environ["XMODAL_HOME"] = home
        for name in ("experiments", "sweeps"):
            shutil.copytree(ROOT / name, Path(home) / name)
        for method in options.methods:
            rows.append(row := measure(method, options.trials, options.epochs))
            print(row, flush=True)
    with options.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(asdict(rows[0])))
        writer.writeheader()
        writer.writerows({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in asdict(row).items()} for row in rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
