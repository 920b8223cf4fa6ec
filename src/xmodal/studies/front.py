"""The Pareto front of a search with two objectives: `val/map` against what a query costs."""

import csv
import io
from pathlib import Path

import optuna

from xmodal import paths
from xmodal.files import write_atomically
from xmodal.records.record import read_result
from xmodal.studies.storage import record_of


def second(against: str, path: str) -> float:
    """The second objective of a trial, from its record: size of what leaves the encoder, or milliseconds of a query."""
    record = read_result(Path(path))
    return float(record.get("output_size", record["size"]) if against == "size" else record["metrics"]["val/latency"])


def leave_front(study: optuna.Study, method: str, data: str, against: str) -> str:
    """Write the front to `runs/<method>/<dataset>/<study>-front.csv`; the table as text comes back.

    A line has the trial, `val/map`, the second objective, the folder of its record below `runs/` (whose `config.yaml`
    repeats it; empty where a study in another database has taken the folder) and its parameters.
    """
    best = sorted(study.best_trials, key=lambda trial: trial.values[1])
    keys = sorted({key for trial in best for key in trial.params})
    lines = io.StringIO()
    rows = csv.writer(lines, lineterminator="\n")
    rows.writerow(["trial", "val/map", against, "path", *keys])
    shown = f"\n{method} on {data}, validation pairs, val/map against {against}\n{against:>10}  val/map  trial\n"
    for trial in best:
        value, cost = trial.values
        folder = trial.user_attrs["path"] if record_of(trial) else ""
        rows.writerow([trial.number, value, cost, folder, *(trial.params.get(key) for key in keys)])
        shown += f"{cost:>10.4g}   {value:.4f}  {folder or 'its folder is of another study'}\n"
    path = paths.runs() / method / data / f"{study.study_name}-front.csv"
    write_atomically(path, lines.getvalue())
    return f"{shown}\n{path}\n"
