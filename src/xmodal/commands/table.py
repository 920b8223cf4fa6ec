"""`xmodal table`: every method on every dataset at every size, by one rule: all that README and results page show."""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from optuna.trial import FrozenTrial

from xmodal import arguments, paths
from xmodal.commands import sweep
from xmodal.commands.bits import nearest_tuned
from xmodal.errors import UserError
from xmodal.experiment import configuration, size_names
from xmodal.files import write_atomically
from xmodal.folder import OVERWRITE
from xmodal.own import own_files
from xmodal.records import provenance
from xmodal.records.record import read_result
from xmodal.records.results import write
from xmodal.records.setups import Record
from xmodal.records.wandb_mode import mode
from xmodal.run import MAX_SIZE, overrides, whole, whole_list
from xmodal.safe_yaml import read_yaml
from xmodal.studies.gpus import gpu_energy
from xmodal.studies.grid import Grid, Known, changed_data, has_queries, mixed
from xmodal.studies.processes import Pool
from xmodal.studies.storage import DONE, WARM
from xmodal.studies.sweep import Sweep
from xmodal.studies.tuned import drawn
from xmodal.studies.workers import pool_of

UNSEARCHED = ("cca", "untrained")  # closed forms, whose experiment files say all there is to set
RULE = ("trials", "seeds", "epochs")  # of every cell
IMPOSSIBLE = {  # what no run can fill, by method, dataset and, where one only is, size
    ("cca", "wikipedia"): "the texts have 10 dimensions, so there are 10 components",
    ("alscor", "emoji", 128): "a batch of at least 1,029 pairs is needed, and there are no more",
}


class Cell(NamedTuple):
    """A method on a dataset at one size, or at all of them where one training serves them."""

    method: str
    data: str
    kind: str
    sizes: tuple[int, ...]

    @property
    def ledger(self) -> Path:
        """What says that the cell is filled, how, and by which records."""
        return paths.runs() / "table" / f"{'-'.join([self.method, self.data, self.kind, *map(str, self.sizes)])}.json"

    def searched(self) -> bool:
        """Whether the method has settings to search."""
        return self.method not in UNSEARCHED

    def rule(self, options: argparse.Namespace) -> dict[str, Any]:
        """What the cell's numbers depend on, of the command line and of the files that people write."""
        folder, space = paths.experiments(), paths.sweeps() / f"{self.method}.yaml"
        read = [folder / "default.yaml", folder / self.method / f"{self.data}.yaml", space]
        text = b"".join(file.read_bytes() for file in map(paths.found, read) if file.is_file())
        given = {name: getattr(options, name) for name in RULE}
        own = self._own_code(read_yaml(paths.found(read[1])))
        return {**given, "files": hashlib.sha256(text).hexdigest()[:16], **own}

    def _own_code(self, content: dict[str, Any]) -> dict[str, str]:
        """Of an experiment file's classes, and of functions that are given to them, which its parser imports."""
        from xmodal.cli import Parsed

        found = own_files(content)
        if not found and "callbacks" not in (content.get("trainer") or {}):
            return found  # no function is given to ours, and parsing takes as long as all else
        size = [f"--model.{name}={self.sizes[0]}" for name in size_names(self.method)[:1]]
        return found | Parsed([*configuration(self.method, self.data), *size]).own_code

    def kept(self, rule: dict[str, Any], known: Known) -> tuple[dict[str, Any] | None, bool]:
        """The ledger, where the cell is filled by this rule and its records are there; and whether its data changed."""
        kept, records = self.found()
        changed = mixed(records) or (bool(records) and changed_data(records[0], known) is not None)
        return (kept if records and kept["rule"] == rule and not changed else None), changed

    def found(self) -> tuple[dict[str, Any], list[Record]]:
        """The ledger and the records that it names; none where there is none, or one is damaged or replaced."""
        try:
            kept: dict[str, Any] = json.loads(self.ledger.read_text())
            records = [read_result(paths.runs() / each) for each in kept["records"]]
            same = [each["config_hash"] for each in records] == [*kept["records"].values()] and "rule" in kept
            same = same and all(map(has_queries, records))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, UserError):
            return {}, []
        return (kept, records) if same else ({}, [])

    def fill(self, options: argparse.Namespace, pool: Pool, rule: dict[str, Any]) -> None:
        """Search with the budget, run the seeds, and leave the ledger; what was done already is not done again.

        Raises:
            UserError: the cell cannot be filled.
        """
        sizes, finished = ",".join(map(str, self.sizes)), list[FrozenTrial]()
        begun, energy = datetime.now(), gpu_energy()  # Optuna's clock has no time zone
        if self.searched():
            given = {name: getattr(options, name) for name in ("trials", "workers", "devices", "epochs")}
            more = [f"--{name}={value}" for name, value in given.items() if value is not None]
            for search in sweep.plan(sweep.parse([self.method, self.data, f"--{self.kind}={sizes}", *more])):
                search.sought = replace(search.sought, minutes=None)  # in which a machine comes to its own number
                self._check(search)
                sweep.tune(search, pool)
                finished += self._check(search)
        rows = {}
        for size in self.sizes:
            own = argparse.Namespace(**vars(options) | {"method": self.method, "bits": None, "dim": None})
            setattr(own, self.kind, str(size))
            row = [*configuration(self.method, self.data), *overrides(own)]
            if self.searched():  # what is tuned anew takes the place of what was before
                row = [*nearest_tuned(self.method, self.data, size)[1], *overrides(own), OVERWRITE]
            rows[str(size)] = row
        records = [record for each in Grid(rows, options.seeds, pool).setups().values() for record in each.records]
        at_once = bool(finished) and all(trial.datetime_start and trial.datetime_start >= begun for trial in finished)
        used = gpu_energy() if at_once else None  # what a killed command used is not known
        ledger = {
            "rule": rule,
            "trials": len(finished),
            "search_minutes": sum(trial.duration.total_seconds() for trial in finished if trial.duration) / 60,
            "energy_kj": None if energy is None or used is None else (used - energy) / 1000,
            "records": {str(Path(each["path"]).relative_to(paths.runs())): each["config_hash"] for each in records},
        }
        write_atomically(self.ledger, json.dumps(ledger, indent=1) + "\n")

    def _check(self, search: Sweep) -> list[FrozenTrial]:
        """The finished trials of a study, which have to lie within its budget and its space."""
        with search.open() as opened:
            finished = opened.study.get_trials(deepcopy=False, states=DONE)
            warm = opened.study.user_attrs.get(WARM)
        if len(finished) > (search.sought.budget or 0):
            what = f"{len(finished)} trials, and the rule gives {search.sought.budget}"
        elif warm:
            what = "a warm start, which the rule does not give"
        elif changed := {key for trial in finished for key in search.sought.changed([trial])}:
            what = f"trials of another space ({', '.join(sorted(changed))})"
        elif other := "".join(drawn(finished)):
            what = f"trials of another search ({other.strip()})"
        else:
            return finished
        raise UserError(
            f"the study {search.name} has {what}: fill this table elsewhere (XMODAL_HOME), or remove the study with "
            f"`optuna delete-study --study-name {search.name} --storage sqlite:///{paths.runs() / 'sweeps.db'}`."
        )


def main(argv: Sequence[str]) -> int:
    """`xmodal table [options]`: fill every cell that is not filled yet, then write the tables from the records.

    A cell is searched with the same budget on validation pairs, then its best trial is run under every seed and
    evaluated once on the query set. A killed command goes on; one that has nothing to do only writes the tables.
    """
    parser = arguments.parser("table")
    options = parser.parse_args(list(argv))
    whole("TRIALS", options.trials, 1, 1_000_000)
    mode()  # whether W&B answers is asked once, not by every trial
    provenance()  # of the code that is here now: the files that are written below are no change of it
    pool, failed = pool_of(options), dict[Cell, str]()
    cells, known = {cell: cell.rule(options) for cell in plan(options)}, Known()
    for number, (cell, rule) in enumerate(cells.items(), 1):
        done = cell.kept(rule, known)[0] is not None
        if options.list or not done:
            sys.stderr.write(f"{cell.ledger.stem}, {number} of {len(cells)}{': done' if done else ''}\n")
        if options.list or done:
            continue
        started = time.monotonic()
        try:
            cell.fill(options, pool, rule)
        except UserError as error:
            failed[cell] = str(error)
            sys.stderr.write(f"{cell.ledger.stem}: {error}\n")
        else:
            sys.stderr.write(f"{cell.ledger.stem}: {(time.monotonic() - started) / 60:.1f} minutes\n")
    if options.list:
        return 0
    defaults, known = parser.parse_args([]), {}
    whole_table = {cell: cell.rule(defaults) for cell in plan(defaults)}
    ours = cells.keys() <= whole_table.keys() and all(getattr(options, key) == getattr(defaults, key) for key in RULE)
    shown = whole_table if ours else cells
    found = {cell: cell.kept(rule, known) for cell, rule in shown.items()}
    left = {(cell.method, cell.data) for cell, (kept, _) in found.items() if ours and kept is None}  # not at all sizes
    full = {cell: kept for cell, (kept, _) in found.items() if kept and (cell.method, cell.data) not in left}
    outdated = [cell for cell, (_, changed) in found.items() if changed]
    gone = {(cell.method, cell.data) for cell in outdated}
    write(full.values(), paths.home() / "results" if ours else paths.runs() / "table", gone)
    for cell in outdated:
        failed[cell] = "its data have changed since it was filled, and its rows are left out"
        sys.stderr.write(f"{cell.ledger.stem}: {failed[cell]}\n")
    if failed:
        raise UserError(
            f"{len(failed)} of {len({*cells, *failed})} cells are empty: "
            f"{', '.join(cell.ledger.stem for cell in failed)}. The reasons are above; the same command tries them "
            "again, and them only."
        )
    return 0


def plan(options: argparse.Namespace) -> Iterator[Cell]:
    """The cells, by dataset and method.

    Raises:
        UserError: a method, a dataset or a size that there is not.
    """
    from xmodal import methods

    registry, wanted = methods.registry(), options.methods.split(",") if options.methods else None
    sizes = whole_list("SIZES", options.sizes, 1, MAX_SIZE)
    found: list[Cell] = []
    for data in options.data.split(","):
        there = sorted({path.parent.name for path in paths.listed(paths.experiments(), f"*/{data}.yaml")})
        if not there:
            raise UserError(f"DATA is {options.data!r}: no method has an experiment file for {data!r}.")
        for name in there:
            contests_in = name in UNSEARCHED or paths.found(paths.sweeps() / f"{name}.yaml").is_file()
            if contests_in and (wanted is None or name in wanted):
                together = name in registry and registry[name].one_training
                for kind in size_names(name):
                    possible = [size for size in sizes if not impossible(name, data, size)]
                    groups = [tuple(possible)] if together else [(size,) for size in possible]
                    found += [Cell(name, data, kind, each) for each in groups]
    if unknown := set(wanted or ()) - {cell.method for cell in found}:
        raise UserError(f"METHODS is {options.methods!r}: {', '.join(sorted(unknown))} is no method of these datasets.")
    yield from found


def impossible(method: str, data: str, size: int) -> str | None:
    """Why no run can fill a cell, or None."""
    return IMPOSSIBLE.get((method, data)) or IMPOSSIBLE.get((method, data, size))
