"""A sweep: an Optuna study per method, dataset and size; its best trial as an experiment file, evaluated once.

The study sees validation values only. It lives in SQLite below `runs/` (or behind `--storage`), so the same command
goes on where a killed one stopped: a trial whose process vanished is recorded as failed and tried once more.
"""

import argparse
import os
import queue
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.study import MaxTrialsCallback
from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

from xmodal import paths
from xmodal.errors import UserError
from xmodal.files import write_atomically
from xmodal.records import read_results
from xmodal.records.record import tuned_header
from xmodal.run import configuration, overrides, whole
from xmodal.tuning import front
from xmodal.tuning.space import Parameter, Search, Value, experiment_with
from xmodal.tuning.storage import Direction, is_retry, open_study, retry_once, study_name
from xmodal.tuning.worker import (
    TrialDiedError,
    TrialDivergedError,
    TrialError,
    device_groups,
    end_idle,
    run_trial,
    share_cores,
)

DONE = (TrialState.COMPLETE, TrialState.PRUNED)
GIVE_UP = 3  # failures in a row at the end of which a sweep stops: something is wrong with all of them


class Sweep:
    """One study from start to the evaluation of its best trial.

    Args:
        options: the parsed command line.
        base: the experiment file that is tuned.
        search: the sweep file.
        kind: `bits` or `dim`.
        sizes: of the codes or embeddings; more than one, as an axis, with `--against` only.
        workers: trials side by side.

    Raises:
        UserError: the command line is not usable for this method.
    """

    def __init__(
        self, options: argparse.Namespace, base: Path, search: Search, kind: str, sizes: Sequence[int], workers: int
    ) -> None:
        self.options = argparse.Namespace(**vars(options) | {kind: str(sizes[0])})
        self.base, self.workers, self.kind, self.size = base, workers, kind, sizes[0]
        self.against: str | None = options.against
        if len(sizes) > 1:
            axis = Parameter("choice", tuple(sizes), {}, {})
            search = front.with_axis(search, f"model.{kind}", axis)
        self.sought = search
        self.name = study_name(options.method, options.data, sizes, self.against)
        self.arguments = [*configuration(options.method, options.data), *overrides(self.options)]
        self.devices = whole("DEVICES", options.devices, 1, 1024) if options.devices else 1

    def run(self, *, search: bool = True) -> dict[str, Any]:
        """Search, write the tuned experiment file, evaluate it once on the query set, and return that run's record.

        Figures of the study come last.
        With `--against` there is no one best trial: the front is printed and stored, and the query set stays closed.

        Args:
            search: False where jobs have searched already.

        Raises:
            UserError: the space, the storage or every trial is unusable.
        """
        with self._open() as study:
            if search:
                self._search(study)
            if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
                raise UserError(f"no trial of {self.name} was completed; see the reasons above, or raise TRIALS.")
            if self.against:
                sys.stdout.write(front.leave_front(study, self.options.method, self.options.data, self.against))
            else:
                tuned = self._write_tuned(study)
        record = {} if self.against else self._evaluate(tuned)
        from xmodal.tuning.plots import draw_study  # matplotlib takes a second

        of_method = paths.runs() / self.options.method / self.options.data
        folder = of_method if self.against else Path(record["path"]).parents[1]
        try:
            for figure in draw_study(folder, self.name, self.options.storage, self.against):
                sys.stderr.write(f"figure: {figure}\n")
        except Exception as error:  # a search that is done does not fail for its figures
            sys.stderr.write(f"no figures of {self.name}: {error}\n")
        return record

    def search(self) -> None:
        """Run trials until the budget is used up, and nothing after them."""
        with self._open() as study:
            self._search(study)

    def _open(self) -> AbstractContextManager[optuna.Study]:
        jobs = int(self.options.jobs or 1) if "SLURM_JOB_ID" not in os.environ else 1  # which share this machine
        share_cores(self.workers * jobs, self.devices)
        points = self._check_space()
        directions: list[Direction] = ["maximize", "minimize"] if self.against else ["maximize"]
        return open_study(self.options.storage, self.name, directions, self.sought, points)

    def _search(self, study: optuna.Study) -> None:
        done, trials = len(study.get_trials(deepcopy=False, states=DONE)), self.sought.trials
        if trials is not None and done >= trials:
            return
        self.slots: queue.Queue[str | None] = queue.Queue()
        for group in device_groups(self.workers, self.devices):
            self.slots.put(group)
        sys.stderr.write(f"study {self.name}: {done} of {trials or 'any number of'} trials are done\n")
        enough = [] if trials is None else [MaxTrialsCallback(trials, states=DONE)]  # other machines add to them
        end = time.monotonic() + 60 * self.sought.minutes if self.sought.minutes else None
        trouble, ended = list[Exception](), list[int]()
        watched = _watched(study, trouble)
        with tqdm(total=trials, initial=done, desc=self.name, unit="trial") as self.bar:
            while trials is None or done < trials:  # again for those that failed
                ended.clear()
                study.optimize(
                    watched(self._objective),
                    n_trials=trials and trials - done,
                    timeout=end and end - time.monotonic(),
                    n_jobs=self.workers,
                    catch=(TrialError,),
                    callbacks=[lambda _, trial: ended.append(trial.number), *enough, watched(self._progress)],
                )
                if trouble:
                    raise trouble[0]
                if trials is None or len(ended) < trials - done:  # the time is over, or a grid has no more points
                    break
                done = len(study.get_trials(deepcopy=False, states=DONE))
        end_idle()  # what comes next needs the memory

    def _check_space(self) -> list[dict[str, Value]]:
        """Parse one configuration with every key of the space; the points to try first come back."""
        from xmodal.cli import Parsed

        for key, axis in self.sought.space.items():
            for value in axis.values:
                try:
                    Parsed([*self.arguments, *self._condition(key), f"--{key}={_text(value)}"])
                except UserError as error:
                    raise UserError(
                        f"the sweep space of {self.options.method} has {key} = {value!r}, which is refused: {error}"
                    ) from error
        points = [self._point(Parsed(self.arguments))]  # the untuned method: tuning never ends below it
        if file := self.options.warm_start:
            warm = Parsed([*configuration(None, None, [file]), *overrides(self.options)])
            if warm.method != self.options.method:
                raise UserError(f"WARM_START {file} is of {warm.method}, not of {self.options.method}.")
            points.insert(0, self._point(warm))
            if left := sorted(self.sought.space.keys() - points[0].keys()):
                sys.stderr.write(f"warm start: {', '.join(left)} lie outside the space and are drawn\n")
        return points

    def _condition(self, key: str) -> list[str]:
        """Arguments under which a conditional key is there."""
        arguments: list[str] = []
        for other, allowed in self.sought.space[key].when.items():
            arguments += [*self._condition(other), f"--{other}={_text(allowed[0])}"]
        return arguments

    def _point(self, parsed: Any) -> dict[str, Value]:  # noqa: ANN401 - importing Parsed takes seconds
        values: dict[str, Value] = {}
        for key in self.sought.space:
            first, _, rest = key.partition(".")
            values[key] = parsed.config.get(f"{first}.init_args.{rest}" if first in ("model", "data") else key)
        return self.sought.point(values)

    def _objective(self, trial: optuna.Trial) -> float | tuple[float, float]:
        try:
            parameters = self.sought.suggest(trial)
        except ValueError as error:  # Optuna's, for choices that have changed
            raise UserError(
                f"the study {self.name} was begun with another space ({error}): restore the sweep file, or begin anew "
                "with another --storage."
            ) from error
        arguments = [*self.arguments, *(f"--{key}={_text(value)}" for key, value in parameters.items())]
        variant = f"{self.against or 'trial'}-{trial.number:04d}"
        arguments += [f"--variant={variant}", f"--group={self.name}", "--job_type=trial"]
        pruned = False

        def report(epoch: int, value: float) -> bool:
            nonlocal pruned
            shown = f"trial {trial.number} epoch {epoch + 1} val/map {value:.4f}{self.best}"
            self.bar.set_postfix_str(shown, refresh=sys.stderr.isatty())
            if not self.against:  # Optuna prunes on one objective only
                trial.report(value, epoch)
                pruned = trial.should_prune()
            return pruned

        slot = self.slots.get()
        try:
            value, path = run_trial(
                arguments, self.devices, report, slot, "timed" if self.against == "latency" else "trial"
            )
        except TrialError as error:
            if pruned:  # whatever became of it before it heard
                raise optuna.TrialPruned from error
            if isinstance(error, TrialDiedError):
                retry_once(trial.study, trial.study.get_trials(deepcopy=False)[trial.number])
            trial.set_user_attr("error", str(error))
            if isinstance(error, TrialDivergedError):
                raise optuna.TrialPruned from error  # the sampler learns from it, as it does not from a failure
            raise
        finally:
            self.slots.put(slot)
        trial.set_user_attr("path", str(Path(path).parent.relative_to(paths.runs())))
        if pruned:
            raise optuna.TrialPruned
        return (value, front.second(self.against, path)) if self.against else value

    best = ""

    def _progress(self, study: optuna.Study, trial: FrozenTrial) -> None:
        if trial.state in DONE:
            self.bar.update()
        if not self.against and (study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))):
            self.best = f", best {study.best_value:.4f} (trial {study.best_trial.number})"
        shown = " ".join(f"{value:.4f}" for value in trial.values or ()) or trial.state.name.lower()
        self.bar.write(f"trial {trial.number}: val/map {shown}{self.best}", file=sys.stderr)
        if "error" in trial.user_attrs:
            self.bar.write(f"trial {trial.number}: {trial.user_attrs['error']}", file=sys.stderr)
        if trial.state == TrialState.FAIL:
            trials = study.get_trials(deepcopy=False)
            ended = [each for each in trials if each.state.is_finished() and not is_retry(each)]
            if len(ended) >= GIVE_UP and all(each.state == TrialState.FAIL for each in ended[-GIVE_UP:]):
                raise UserError(
                    f"{GIVE_UP} trials of {study.study_name} failed one after the other; the last reason is above."
                )

    def _write_tuned(self, study: optuna.Study) -> Path:
        best = study.best_trial
        content = experiment_with(self.base, {f"model.{self.kind}": self.size, **best.params})
        counts = {
            state.name.lower(): len(study.get_trials(deepcopy=False, states=(state,)))
            for state in (*DONE, TrialState.FAIL)
        }
        command = f"xmodal sweep {self.options.method} {self.options.data}"
        header = tuned_header(command, study.study_name, best.number, study.best_value, counts)
        path = self.base.parent / "tuned" / f"{self.options.data}-{self.size}.yaml"
        write_atomically(path, header + yaml.safe_dump(content, sort_keys=False))
        return path

    def _evaluate(self, tuned: Path) -> dict[str, Any]:
        """The one evaluation on the query set; a record of the same configuration is used again."""
        from xmodal.cli import Parsed

        options = argparse.Namespace(**vars(self.options) | {"bits": None, "dim": None})
        own = [*overrides(options), f"--group={self.name}", "--job_type=tuned"]
        arguments = [*configuration(None, None, [tuned]), *own]
        parsed = Parsed(arguments)
        for record in read_results(parsed.folder):
            if record["config_hash"] == parsed.hash:
                return record
        (visible,) = device_groups(1, self.devices)
        try:
            _, path = run_trial(arguments, self.devices, lambda *_: False, visible, "run")
        except TrialError as error:
            sys.stderr.write(f"{error}\n")
            raise UserError(
                f"the best trial is written to {tuned}, but its evaluation failed; the reason is above."
            ) from error
        return next(read_results(Path(path).parent))


@contextmanager
def _watched(study: optuna.Study, trouble: list[Exception]) -> Iterator[None]:
    """As a decorator: what goes wrong is kept; Optuna forgets the errors of the last trials that run side by side."""
    try:
        yield
    except (TrialError, optuna.TrialPruned):
        raise
    except Exception as error:
        trouble.append(error)
        study.stop()
        raise


def _text(value: Value) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
