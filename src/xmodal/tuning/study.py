"""`xmodal sweep`: an Optuna study per method, dataset and size; its best trial as an experiment file, evaluated once.

The study sees validation values only. It lives in SQLite below `runs/` (or behind `--storage`), so the same command
goes on where a killed one stopped: a trial whose process vanished is recorded as failed and tried once more.
"""

import argparse
import contextlib
import subprocess
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import optuna
import yaml
from filelock import FileLock, Timeout
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import MaxTrialsCallback
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from tqdm import tqdm

from xmodal import paths
from xmodal.errors import UserError
from xmodal.run import MAX_SIZE, add_run_options, configuration, experiment_file, overrides, whole
from xmodal.tracking import provenance, read_results, write_atomically
from xmodal.tracking.wandb_mode import mode
from xmodal.tuning.space import Search, Value, experiment_with, read_search
from xmodal.tuning.worker import TrialError, run_trial, warm_up

DONE = (TrialState.COMPLETE, TrialState.PRUNED)
GIVE_UP = 3  # failures in a row at the end of which a sweep stops: something is wrong with all of them
HEARTBEAT = 2  # seconds; a trial without one for three times as long is dead


class _Storage(RDBStorage):
    """SQLite has no row locks: without this, two workers take the same waiting trial."""

    _lock = threading.Lock()

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        with self._lock:
            return super().set_trial_state_values(trial_id, state, values)


def main(argv: Sequence[str]) -> int:
    """`xmodal sweep METHOD DATA --bits 64[,32,...] [options]`; ends with a table of bits and directions."""
    parser = argparse.ArgumentParser(prog="xmodal sweep", description=main.__doc__, allow_abbrev=False)
    parser.add_argument("method")
    parser.add_argument("data")
    add_run_options(parser)
    parser.add_argument("--trials", help="finished trials the study shall have in the end; default: the sweep file's")
    parser.add_argument("--workers", default="1", help="trials that run side by side")
    parser.add_argument("--storage", help="URL of the study database; default: SQLite under runs/")
    options = parser.parse_args(list(argv))
    base = experiment_file(options.method, options.data)
    search = read_search(paths.sweeps() / f"{options.method}.yaml")
    trials = whole("TRIALS", options.trials, 1, 1_000_000) if options.trials else search.trials
    workers = whole("WORKERS", options.workers, 1, 256)
    if not (options.bits or options.dim):
        raise UserError(
            "name the size of the study: BITS=64 (or BITS=16,32,64) for a binary method, DIM=256 for a real-valued one."
        )
    kind, sizes = ("bits", options.bits) if options.bits else ("dim", options.dim)
    for text in sizes.split(","):
        whole(kind.upper(), text, 1, MAX_SIZE)
    records = []
    for text in sizes.split(","):
        options.bits, options.dim = (text, None) if kind == "bits" else (None, text)
        records.append(Sweep(options, base, search, trials, workers).run())
    _print_table(kind, records)
    sys.stdout.write(f"{records[-1]['path']}\n")
    return 0


class Sweep:
    """One study from start to the evaluation of its best trial.

    Args:
        options: the parsed command line, one size in it.
        base: the experiment file that is tuned.
        search: the sweep file.
        trials: finished trials the study shall have.
        workers: trials side by side.
    """

    def __init__(self, options: argparse.Namespace, base: Path, search: Search, trials: int, workers: int) -> None:
        self.options, self.base, self.search, self.trials, self.workers = options, base, search, trials, workers
        self.size = int(options.bits or options.dim)
        self.name = f"{options.method}-{options.data}-{self.size}"
        self.arguments = [*configuration(options.method, options.data), *overrides(options)]
        self.devices = whole("DEVICES", options.devices, 1, 1024) if options.devices else 1

    def run(self) -> dict[str, Any]:
        """Search, write the tuned experiment file, evaluate it once on the query set, and return that run's record.

        Raises:
            UserError: the space, the storage or every trial is unusable.
        """
        defaults = self._check_space()
        mode()  # whether W&B answers is asked once, not by every trial
        warm_up()
        study = self._open(defaults)
        done = len(study.get_trials(deepcopy=False, states=DONE))
        if done < self.trials:
            sys.stderr.write(f"study {self.name}: {done} of {self.trials} trials are done\n")
            with tqdm(total=self.trials, initial=done, desc=self.name, unit="trial") as self.bar:
                enough = MaxTrialsCallback(self.trials, states=DONE)
                study.optimize(
                    self._objective, n_jobs=self.workers, catch=(TrialError,), callbacks=[enough, self._progress]
                )
        if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            raise UserError(f"no trial of {self.name} was completed; see the reasons above, or raise TRIALS.")
        tuned = self._write_tuned(study)
        return self._evaluate(tuned)

    def _check_space(self) -> dict[str, Value]:
        """Parse one configuration with every key of the space; the defaults that lie in the space come back."""
        from xmodal.cli import Parsed

        default = Parsed(self.arguments).config
        found: dict[str, Value] = {}
        for key, axis in self.search.space.items():
            first, _, rest = key.partition(".")
            full = f"{first}.init_args.{rest}" if first in ("model", "data") else key
            for value in axis.values:
                try:
                    Parsed([*self.arguments, f"--{key}={_text(value)}"])
                except UserError as error:
                    raise UserError(
                        f"the sweep space of {self.options.method} has {key} = {value!r}, which is refused: {error}"
                    ) from error
            value = default.get(full)
            if axis.holds(value):
                found[key] = value
        return found

    def _open(self, defaults: Mapping[str, Value]) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore", ExperimentalWarning)  # the heartbeat is marked so
        url = self.options.storage
        lock: AbstractContextManager[object] = contextlib.nullcontext()
        if url is None:
            database = paths.runs() / "sweeps.db"
            try:
                database.parent.mkdir(parents=True, exist_ok=True)
                lock = FileLock(database.with_suffix(".lock")).acquire(timeout=60)  # the tables are made by one sweep
            except (OSError, Timeout) as error:
                raise UserError(
                    f"cannot write {database.parent}: {error}. Make it writable, or move the suite's folders "
                    "with XMODAL_HOME."
                ) from error
            url = f"sqlite:///{database}"
        with lock:
            return self._create(url, defaults)

    def _create(self, url: str, defaults: Mapping[str, Value]) -> optuna.Study:
        try:
            storage = _Storage(
                url,
                engine_kwargs={"connect_args": {"timeout": 60}} if url.startswith("sqlite") else None,
                heartbeat_interval=HEARTBEAT,
                grace_period=3 * HEARTBEAT,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=1),
            )
            study = optuna.create_study(
                storage=storage,
                study_name=self.name,
                direction="maximize",
                load_if_exists=True,
                sampler=self.search.sampler,
                pruner=self.search.pruner,
            )
            if not study.get_trials(deepcopy=False):
                study.enqueue_trial(dict(defaults))  # the untuned method is the first trial: tuning never ends below it
        except (SQLAlchemyError, OSError) as error:
            raise UserError(f"cannot open the study database {url}: {' '.join(str(error).split())[:300]}") from error
        return study

    def _objective(self, trial: optuna.Trial) -> float:
        parameters = {key: axis.suggest(trial, key) for key, axis in self.search.space.items()}
        arguments = [*self.arguments, *(f"--{key}={_text(value)}" for key, value in parameters.items())]
        arguments += [f"--variant=trial-{trial.number:04d}", f"--group={self.name}", "--job_type=trial"]

        def report(epoch: int, value: float) -> bool:
            trial.report(value, epoch)
            shown = f"trial {trial.number} epoch {epoch + 1} val/map {value:.4f}{self.best}"
            self.bar.set_postfix_str(shown, refresh=sys.stderr.isatty())
            return trial.should_prune()

        stopped = False

        def observed(epoch: int, value: float) -> bool:
            nonlocal stopped
            stopped = report(epoch, value)
            return stopped

        try:
            value, _ = run_trial(arguments, self.devices, observed)
        except TrialError as error:
            trial.set_user_attr("error", str(error))
            raise
        if stopped:
            raise optuna.TrialPruned
        return value

    best = ""

    def _progress(self, study: optuna.Study, trial: FrozenTrial) -> None:
        if trial.state in DONE:
            self.bar.update()
        completed = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if completed:
            self.best = f", best {study.best_value:.4f} (trial {study.best_trial.number})"
        shown = f"{trial.value:.4f}" if trial.value is not None else trial.state.name.lower()
        self.bar.write(f"trial {trial.number}: val/map {shown}{self.best}", file=sys.stderr)
        if trial.state == TrialState.FAIL:
            self.bar.write(
                f"trial {trial.number} failed: {trial.user_attrs.get('error', 'no reason was left')}", file=sys.stderr
            )
            ended = [each for each in study.get_trials(deepcopy=False) if each.state.is_finished()]
            if len(ended) >= GIVE_UP and all(each.state == TrialState.FAIL for each in ended[-GIVE_UP:]):
                raise UserError(
                    f"{GIVE_UP} trials of {study.study_name} failed one after the other; the last reason is above."
                )

    def _write_tuned(self, study: optuna.Study) -> Path:
        best, source = study.best_trial, provenance()
        content = experiment_with(
            self.base, {f"model.{'bits' if self.options.bits else 'dim'}": self.size, **best.params}
        )
        counts = {
            state.name.lower(): len(study.get_trials(deepcopy=False, states=(state,)))
            for state in (*DONE, TrialState.FAIL)
        }
        summary = ", ".join(f"{n} {name}" for name, n in counts.items())
        header = (
            f"# Written by `xmodal sweep {self.options.method} {self.options.data}`, study {study.study_name}.\n"
            f"# Trial {best.number}, val/map {best.value:.6f} on the validation pairs; trials: {summary}.\n"
            f"# Commit {source['commit']}{' with uncommitted changes' if source['dirty'] else ''}.\n"
        )
        path = self.base.parent / "tuned" / f"{self.options.data}-{self.size}.yaml"
        write_atomically(path, header + yaml.safe_dump(content, sort_keys=False))
        return path

    def _evaluate(self, tuned: Path) -> dict[str, Any]:
        """The one evaluation on the query set; a record of the same configuration is used again."""
        from xmodal.cli import Parsed

        options = argparse.Namespace(**vars(self.options) | {"bits": None, "dim": None})
        own = [*overrides(options), "--variant=tuned", f"--group={self.name}", "--job_type=tuned"]
        parsed = Parsed([*configuration(None, None, [tuned]), *own])
        for record in read_results(parsed.folder):
            if record["config_hash"] == parsed.hash:
                return record
        # In a process of its own: on several devices DDP starts the other ranks from its command line.
        command = [sys.executable, "-m", "xmodal", "train", f"--config={tuned}", *own]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise UserError(f"the best trial is written to {tuned}, but its evaluation failed; the reason is above.")
        return next(read_results(Path(done.stdout.splitlines()[-1]).parent))


def _text(value: Value) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _print_table(kind: str, records: Sequence[Mapping[str, Any]]) -> None:
    sys.stdout.write(
        f"\n{records[0]['method']} on {records[0]['dataset']}, query set, mAP@all\n"
        f"{kind:>6}      i2t     t2i    mean     val\n"
    )
    for record in records:
        i2t, t2i = record["metrics"]["test/map_i2t"], record["metrics"]["test/map_t2i"]
        sys.stdout.write(
            f"{record['size']:>6}   {i2t:.4f}  {t2i:.4f}  {(i2t + t2i) / 2:.4f}  {record['metrics']['val/map']:.4f}\n"
        )
    sys.stdout.write("\n")
