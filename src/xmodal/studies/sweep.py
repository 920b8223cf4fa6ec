"""A search: an Optuna study per method, dataset and size, and what each of its workers does.

The study sees validation values only. It lives in SQLite below `runs/` (or behind `--storage`), so the same command
goes on where a killed one stopped: a trial whose process vanished is recorded as failed and tried once more.
"""

import argparse
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from xmodal import paths
from xmodal.code import check_imported, provenance
from xmodal.errors import UserError
from xmodal.experiment import configuration
from xmodal.files import text_hash
from xmodal.folder import difference, settings
from xmodal.records.record import searched
from xmodal.run import overrides
from xmodal.safe_yaml import read_yaml
from xmodal.studies import front
from xmodal.studies.grid import check_trial
from xmodal.studies.processes import SpentError, TrialDiedError, TrialDivergedError, TrialError
from xmodal.studies.samplers import SOURCE
from xmodal.studies.slots import Slots
from xmodal.studies.space import Parameter, Search, Value, as_text
from xmodal.studies.storage import (
    BASE,
    DONE,
    DRAWN,
    ERROR,
    POINT,
    RECORD,
    WARM,
    WORKER,
    Direction,
    OpenStudy,
    give_up_after_failures,
    open_study,
    study_name,
)
from xmodal.studies.workers import device_count

if TYPE_CHECKING:  # importing it takes seconds
    from xmodal.cli import Parsed


class Sweep:
    """One search. Workers get a copy of it.

    Args:
        options: the parsed command line.
        base: the experiment file that is tuned.
        search: the sweep file.
        kind: `bits` or `dim`.
        sizes: of the codes or embeddings; several are an axis (with `--against`) or share a training.

    Raises:
        UserError: the command line is not usable for this method.
    """

    def __init__(
        self, options: argparse.Namespace, base: Path, search: Search, kind: str, sizes: Sequence[int]
    ) -> None:
        self.options = argparse.Namespace(**vars(options) | {kind: str(sizes[0])})
        self.base, self.kind, self.sizes = base, kind, tuple(sizes)
        self.against: str | None = options.against
        size, given = f"model.{kind}", overrides(self.options)
        for key in (each.partition("=")[0].removeprefix("--") for each in given):
            if key in search.space and (key != size or (self.against and len(sizes) > 1)):  # which would it be?
                raise UserError(f"{key} is an axis of the sweep file already: leave its option or the axis out.")
        if self.against and len(sizes) > 1:
            axis = Parameter("choice", tuple(sizes), {}, {})  # the sizes are an axis of the space
            search = replace(search, space={size: axis, **search.space})
        self.sought = search
        self.name = study_name(options.method, options.data, sizes, self.against)
        self.arguments = [*configuration(None, None, [base]), *given]
        self.devices = device_count(options)
        drawn = {name: getattr(options, name) for name in ("sampler", "sampler_seed", "pruner")}
        self.drawn = "".join(f" --{name} {value}" for name, value in drawn.items() if value is not None)
        files = (Path(each.removeprefix("--config=")) for each in self.arguments)
        self.files = {file: file.read_text() for file in files if file.is_file()}

    def open(self, *, forks: bool = False) -> AbstractContextManager[OpenStudy]:
        """Open the study, maybe in a process that forks others meanwhile."""
        directions: list[Direction] = ["maximize", "minimize"] if self.against else ["maximize"]
        return open_study(self.options.storage, self.name, directions, self.sought, forks=forks)

    def work(self, worker: str, end: float | None) -> None:
        """Run trials until the budget is used up.

        Args:
            worker: a name that no other worker has, and after a space that of its command.
            end: `time.monotonic()` after which no trial is started.

        Raises:
            UserError: the space or the database is not usable, or too many trials failed.
            SpentError: a trial failed, which is recorded, and a new process shall go on.
        """
        spent: list[SpentError] = []
        with self.open() as opened:
            slots, self.sought.sampler.whole = Slots(opened, self.sought, end), opened.study

            def objective(trial: optuna.Trial) -> float | tuple[float, float]:
                opened.storage.record_heartbeat(opened.trial_id(trial.number))  # a trial without one is never stale
                trial.set_user_attr(WORKER, worker)
                parameters = self._suggest(trial)
                source = {key: provenance()[key] for key in ("commit", "dirty", "diff")}
                trial.set_user_attr(SOURCE, source | {"own_code": self.untuned.own_code, DRAWN: self.drawn})
                opened.lock.release()
                try:
                    return self._train(trial, parameters)
                except SpentError as error:
                    spent.append(error)
                    raise
                except TrialDiedError as error:  # a process of several devices: as if this one had died
                    spent.append(SpentError(str(error)))
                    opened.lock.acquire()  # so that no other worker draws in its place
                    opened.bury(worker, str(error))
                    raise
                finally:
                    if opened.storage.get_trial(opened.trial_id(trial.number)).state.is_finished():
                        spent.append(SpentError("it gave no sign of life, and others took it for dead"))

            def ended(study: optuna.Study, trial: FrozenTrial) -> None:
                if trial.state == TrialState.FAIL:
                    give_up_after_failures(study)
                if spent:
                    raise spent[0]
                self.check_files()
                if not slots.take():
                    study.stop()

            self.check_files()
            if slots.take():
                try:
                    opened.study.optimize(objective, catch=(TrialError,), callbacks=[ended])
                except (ValueError, UpdateFinishedTrialError):
                    if not spent:
                        raise
                    raise spent[0] from None  # the trial was held, as by a suspended job: others have ended it

    def _suggest(self, trial: optuna.Trial) -> dict[str, Value]:
        try:
            return self.sought.suggest(trial)
        except ValueError as error:  # Optuna's, for choices that have changed
            raise UserError(
                f"the study {self.name} was begun with another space ({error}): restore the sweep file, or begin anew "
                "with another --storage."
            ) from error

    def _train(self, trial: optuna.Trial, parameters: dict[str, Value]) -> float | tuple[float, float]:
        from xmodal.studies.trial import run_trial

        variant = f"{self.against or 'trial'}-{trial.number:04d}"
        keys = {**parameters, "variant": variant, "group": self.name, "job_type": "trial"}
        arguments = [*self.arguments, *(f"--{key}={as_text(value)}" for key, value in keys.items())]

        def answer(epoch: int, value: float) -> bool:
            if self.against:  # Optuna prunes on one objective only
                return False
            trial.report(value, epoch)
            return POINT not in trial.user_attrs and trial.should_prune()  # no search ends below what was given to it

        try:
            value, path, stopped = run_trial(arguments, self.devices, answer, timed=self.against == "latency")
        except TrialError as error:
            trial.set_user_attr(ERROR, str(error))
            if isinstance(error, TrialDivergedError):
                raise optuna.TrialPruned from error  # the sampler learns from it, as it does not from a failure
            raise
        check_trial(trial, Path(path))
        trial.set_user_attr(RECORD, text_hash(Path(path).read_text()))
        trial.set_user_attr("path", str(Path(path).parent.relative_to(paths.runs())))
        if stopped:
            raise optuna.TrialPruned
        return (value, front.second(self.against, path)) if self.against else value

    @cached_property
    def untuned(self) -> "Parsed":
        """The configuration that is searched from."""
        from xmodal.cli import Parsed

        return Parsed(self.arguments)

    @cached_property
    def _meant(self) -> dict[str, list[tuple[Value, object]]]:
        """The values of every axis, and what a configuration has for each: 1e-3 is text in YAML, and a number there."""
        from xmodal.cli import Parsed

        found: dict[str, list[tuple[Value, object]]] = {}
        written = settings(read_yaml(self.base))
        for key, axis in self.sought.space.items():
            if any(each.startswith(f"{key}.") for each in written) or written.get(key, "").startswith("[{"):
                raise UserError(
                    f"{key} is an axis, and {self.base} has settings below it, which a trial would keep and the tuned "
                    "file not: search those one by one, or take them out of the file."
                )
            for value in axis.values:
                try:
                    parsed = Parsed([*self.arguments, *self._condition(key), f"--{key}={as_text(value)}"])
                except UserError as error:
                    raise UserError(
                        f"the sweep space of {self.options.method} has {key} = {value!r}, which is refused: {error}"
                    ) from error
                meant = _of(parsed, key)
                if meant is None is not value and key not in parsed.given.known:
                    raise UserError(
                        f"{key} lies within a class: search the whole of it, by choices with class_path and init_args."
                    )
                found.setdefault(key, []).append((value, meant))
        return found

    def points(self) -> list[dict[str, Value]]:
        """The points to try first; a configuration was parsed with every key of the space.

        Raises:
            UserError: a key or a value is refused.
        """
        return [self._point(self.untuned)]  # the untuned method: tuning never ends below it

    def check_base(self, study: optuna.Study) -> None:
        """Trials of a study differ in the axes of its space only: what else they are trained by is kept with it.

        Raises:
            UserError: the experiment file, or an option such as `--epochs`, is not what the study was begun with.
        """
        here = settings(self.untuned.config_dump) | self.untuned.own_code
        was = study.user_attrs.get(BASE)
        if was is None:
            study.set_user_attr(BASE, here)
            return
        known = {key: value for key, value in here.items() if key in was}  # an argument that is newer changes nothing
        done = study.get_trials(deepcopy=False, states=DONE)  # one that did not draw a key has it from the file
        axes = {key for key, axis in self.sought.space.items() if not axis.when and all(key in t.params for t in done)}
        if found := difference(was, known, {*axes, "variant", "group", "job_type"}):
            raise UserError(
                f"the study {self.name} was begun with {found}: restore it, or begin anew with another --storage."
            )

    def check_files(self) -> None:
        """Every trial reads the experiment file anew, and so does what writes the best one.

        Raises:
            UserError: it is edited since the command began.
        """
        check_imported(self.devices)
        for file, text in self.files.items():
            if not file.is_file() or file.read_text() != text:
                raise UserError(f"{file} was edited since the search of {self.name} began: restore it, to go on.")

    def warm_point(self, file: Path) -> dict[str, Value]:
        """The point of an experiment file; keys that lie outside the space are left out.

        Raises:
            UserError: it is the file of another method.
        """
        from xmodal.cli import Parsed

        warm = Parsed([*configuration(None, None, [file]), *overrides(self.options)])
        if warm.method != self.options.method:
            raise UserError(f"WARM_START {file} is of {warm.method}, not of {self.options.method}.")
        return self._point(warm)

    def keep_warm(self, study: optuna.Study) -> None:
        """Keep with a study in how many trials of another the point of `--warm_start` was searched (`tuned.before`)."""
        if file := self.options.warm_start:
            point = json.dumps(self.warm_point(file), sort_keys=True)
            study.set_user_attr(WARM, study.user_attrs.get(WARM, {}) | {point: searched(file) or 0})

    def _condition(self, key: str) -> list[str]:
        """Arguments under which a conditional key is there."""
        arguments: list[str] = []
        for other, allowed in self.sought.space[key].when.items():
            arguments += [*self._condition(other), f"--{other}={as_text(allowed[0])}"]
        return arguments

    def _point(self, parsed: Any) -> dict[str, Value]:  # noqa: ANN401 - importing Parsed takes seconds
        values = {key: _of(parsed, key) for key in self.sought.space}
        for key, known in self._meant.items():
            if self.sought.space[key].kind == "choice":
                values[key] = next((value for value, meant in known if meant == values[key]), values[key])
        return self.sought.point(values)


def _of(parsed: Any, key: str) -> Any:  # noqa: ANN401 - see `_point`
    """What a configuration has for a key."""
    first, _, rest = key.partition(".")
    return parsed.config.get(f"{first}.init_args.{rest}" if first in ("model", "data") else key)
