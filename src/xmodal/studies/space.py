"""A search space from `sweeps/<method>.yaml`: read, checked, suggested from, and written back as an experiment file."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from xmodal import paths
from xmodal.errors import UserError
from xmodal.safe_yaml import parse_yaml, read_yaml
from xmodal.studies.samplers import SeededPerTrial, make_pruner, make_sampler

FORM = (
    "{float: [low, high], log: true}, {int: [low, high], step: 2} or {choice: [a, b]}, with or without when: {key: [b]}"
)
MANY = 100_000  # points of a grid, which no search by minutes comes to the end of
SETTINGS = ("trials", "minutes", "sampler", "pruner", "space")
Value = str | float | int | bool | None


@dataclass(frozen=True)
class Parameter:
    """One axis of the space.

    Args:
        kind: `float`, `int` or `choice`.
        values: low and high, or the choices.
        options: `log` and `step`, as Optuna understands them.
        when: other keys and the values under which this axis is there; without them it keeps the experiment's value.
    """

    kind: str
    values: tuple[Any, ...]
    options: Mapping[str, Any]
    when: Mapping[str, Sequence[Value]]

    @property
    def distribution(self) -> BaseDistribution:
        """As Optuna has it."""
        if self.kind == "choice":
            return CategoricalDistribution(self.values)
        make = FloatDistribution if self.kind == "float" else IntDistribution
        return make(*self.values, **self.options)

    def suggest(self, trial: optuna.Trial, key: str) -> Value:
        """A value for this trial."""
        if self.kind == "choice":
            chosen: Value = trial.suggest_categorical(key, self.values)
            return chosen
        suggest = trial.suggest_float if self.kind == "float" else trial.suggest_int
        return suggest(key, *self.values, **self.options)

    def grid(self) -> Iterable[Value]:
        """The values that a grid tries."""
        if self.kind == "choice":
            return self.values
        low, high, step = *self.values, self.options.get("step") or 1
        return (round(low + number * step, 12) for number in range(round((high - low) / step) + 1))

    def is_there(self, found: Mapping[str, Value]) -> bool:
        """Whether its condition holds at a point."""
        return all(other in found and found[other] in allowed for other, allowed in self.when.items())

    def holds(self, value: object) -> bool:
        """Whether a value lies in the axis."""
        if self.kind == "choice":
            return value in self.values
        low, high, step = *self.values, self.options.get("step")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and low <= value <= high and (step is None or abs((value - low) / step % 1 - 0.5) > 0.5 - 1e-9)


@dataclass(frozen=True)
class Search:
    """A whole sweep file.

    Args:
        trials: finished trials that end a study; None for no such limit.
        minutes: after which no trial is started; None for no such limit.
        sampler: of Optuna.
        pruner: of Optuna.
        space: axis per key of the configuration.
    """

    trials: int | None
    minutes: float | None
    sampler: SeededPerTrial
    pruner: optuna.pruners.BasePruner
    space: Mapping[str, Parameter]

    @property
    def budget(self) -> int | None:
        """Finished trials that end a study: `trials`, or all points of a grid where those are fewer, if any."""
        most = self.trials or MANY
        points = sum(1 for _ in islice(self._points, most)) if self._is_grid else most
        return points if points < most else self.trials

    def failed(self, trials: Sequence[FrozenTrial]) -> list[dict[str, Value]]:
        """The points of a grid that are tried again: their trials failed, and no other one is left or waits."""
        tried, done = ([each.params for each in trials if each.state != but] for but in (None, TrialState.FAIL))
        waits = any(each.state == TrialState.WAITING for each in trials)
        over = self._is_grid and not waits and all(point in tried for point in self._points)
        return [point for point in self._points if point not in done] if over else []

    def suggest(self, trial: optuna.Trial) -> dict[str, Value]:
        """A value for every axis whose condition holds."""
        return self._walk(lambda key: self.space[key].suggest(trial, key))

    def point(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """The part of a configuration that a trial of this space can have: axes that are there and hold the value."""
        return {
            key: value
            for key, value in self._walk(values.get).items()
            if key in values and self.space[key].holds(value)
        }

    def outside(self, point: Mapping[str, Value]) -> list[str]:
        """The axes that the trial of a `point` draws: they are there, and do not hold the configuration's value."""
        return [key for key in self._walk(point.get) if key not in point]

    def changed(self, trials: Iterable[FrozenTrial]) -> list[str]:
        """The keys under which the newest trials were drawn from another space than this one."""
        drawn = {key: distribution for trial in trials for key, distribution in trial.distributions.items()}
        here = {key: axis.distribution for key, axis in self.space.items() if key in drawn or not axis.when}
        return sorted(key for key in drawn.keys() | here.keys() if drawn.get(key) != here.get(key))

    @property
    def _is_grid(self) -> bool:
        return isinstance(self.sampler, SeededPerTrial) and self.sampler.name == "grid"

    @property
    def _points(self) -> Iterator[dict[str, Value]]:
        return self._grid({}, list(self.space))

    def _grid(self, point: dict[str, Value], left: Sequence[str]) -> Iterator[dict[str, Value]]:
        """Every point of the space that begins with these values, `left` are the axes after them."""
        if not left:
            yield point
            return
        key, *others = left
        there = self.space[key].is_there(point)
        for value in self.space[key].grid() if there else (None,):
            yield from self._grid({**point, key: value} if there else point, others)

    def _walk(self, value: Callable[[str], Value]) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for key, axis in self.space.items():
            if axis.is_there(found):
                found[key] = value(key)
        return found


def read_search(path: Path, given: Mapping[str, Any] | None = None) -> Search:
    """Read a sweep file.

    Args:
        path: of the file.
        given: settings of the command line, which replace the file's of the same name.

    Raises:
        UserError: there is none, or something in it is unknown or malformed.
    """
    if not path.is_file():
        there = sorted({found.stem for found in paths.listed(paths.sweeps(), "*.yaml")})
        raise UserError(f"no search space at {path}; there are spaces for: {', '.join(there)}.")
    content = read_yaml(path)
    whole = isinstance(content, dict) and content.get("space") and isinstance(content["space"], dict)
    if not whole or content.keys() - set(SETTINGS):
        unknown = sorted(content.keys() - set(SETTINGS)) if isinstance(content, dict) else content
        raise UserError(
            f"{path} holds {unknown or 'no space'}; a sweep file has the keys {', '.join(SETTINGS)}, "
            "and its space is not empty."
        )
    given = dict(given or {})
    for key in given.keys() & {"sampler", "pruner"}:
        if isinstance(file := content.get(key, {"name": "tpe"} if key == "sampler" else {}), dict):
            same = given[key].get("name", file.get("name")) == file.get("name")
            carried = file if same else {each: value for each, value in file.items() if each == "seed"}
            given[key] = {**carried, **given[key]}
    content |= given
    minutes = content.get("minutes")
    trials = content.get("trials", 24 if minutes is None else None)
    if trials is not None and (not isinstance(trials, int) or trials < 1):
        raise UserError(f"{path}: trials is {trials!r}; give a whole number from 1.")
    if minutes is not None and (not isinstance(minutes, int | float) or minutes <= 0):
        raise UserError(f"{path}: minutes is {minutes!r}; give a number above 0.")
    try:
        sampler = make_sampler(content.get("sampler", {"name": "tpe"}))
        pruner = make_pruner(content.get("pruner", {"name": "none"}))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    names = {what: content.get(what, {}).get("name") for what in ("sampler", "pruner")}
    if names["sampler"] == "gp" and names["pruner"] not in (None, "none"):
        raise UserError(
            f"{path}: the sampler gp learns from complete trials only, and would draw the point of a pruned one again "
            "and again: give it the pruner none, or take the sampler tpe."
        )
    space: dict[str, Parameter] = {}
    for key, entry in content["space"].items():
        space[key] = _parameter(path, key, entry, space)
        if names["sampler"] == "grid" and entry.keys() >= {"float"} and "step" not in entry:
            raise UserError(f"{path}: {key} has no grid; give it a step or choices, or take another sampler.")
    return Search(trials, minutes, sampler, pruner, space)


def experiment_with(base: Path, parameters: Mapping[str, Value]) -> dict[str, Any]:
    """An experiment file's content with values put in under their keys (`model.lr`, `data.batch_size`, ...)."""
    content: dict[str, Any] = read_yaml(base)
    for key, value in parameters.items():
        first, *rest = key.split(".")
        node = content.setdefault(first, {})
        if first in ("model", "data"):
            node = node.setdefault("init_args", {})
        for part in rest[:-1]:
            node = node.setdefault(part, {})
        node[rest[-1]] = parse_yaml(value, key) if isinstance(value, str) else value
    return content


def _parameter(path: Path, key: str, entry: object, before: Mapping[str, Parameter]) -> Parameter:
    if ".init_args" in key:
        raise UserError(f"{path}: {key} is written shorter: write {key.replace('.init_args', '')}.")
    if "." not in key:
        raise UserError(f"{path}: {key} is no setting that is searched: name a key of model, data or trainer.")
    if isinstance(entry, dict):
        when = {other: _hashable(found) for other, found in _pairs(entry.get("when"))}
        for other, found in when.items():
            if other not in before or not found or not all(before[other].holds(value) for value in found):
                raise UserError(
                    f"{path}: {key} is there when {other} is in {found}; name an axis that stands above {key}, and "
                    "values of it."
                )
        for kind in ("float", "int", "choice"):
            values = entry.get(kind)
            options = {name: value for name, value in entry.items() if name not in (kind, "when")}
            if not isinstance(values, list) or not values or options.keys() - {"log", "step"}:
                continue
            if kind == "choice":
                if options:
                    break
                return Parameter(kind, tuple(_hashable(values)), options, when)
            try:
                low, high = map(_number, values)
                options = {name: _number(value) for name, value in options.items()}
                made: Any = Parameter(kind, (low, high), options, when).distribution
            except (TypeError, ValueError):
                break
            return Parameter(kind, (made.low, made.high), options, when)
    raise UserError(f"{path}: {key} is {entry!r}; write {FORM}, with low <= high, and low > 0 where log is true.")


def _hashable(values: object) -> list[Value]:
    """Values, of which lists and mappings are text, as the command line has them: Optuna compares no others."""
    found: list[Any] = values if isinstance(values, list) else [values]
    return [json.dumps(each) if isinstance(each, list | dict) else each for each in found]


def _number(value: Any) -> Any:  # noqa: ANN401 - of a sweep file
    """YAML's 1e-4 is text."""
    return float(value) if isinstance(value, str) else value


def _pairs(when: object) -> Iterable[tuple[str, Any]]:
    if when is None:
        return ()
    if not isinstance(when, dict):
        raise UserError(f"when is {when!r}; write when: {{key: [values]}}.")
    return when.items()


def as_text(value: Value) -> str:
    """A value as the command line has it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
