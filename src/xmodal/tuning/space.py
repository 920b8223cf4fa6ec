"""A search space from `sweeps/<method>.yaml`: read, checked, suggested from, and written back as an experiment file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import yaml

from xmodal.errors import UserError

FORM = "{float: [low, high], log: true}, {int: [low, high], step: 2} or {choice: [a, b]}"
SETTINGS = {"trials", "sampler", "pruner", "space"}
Value = str | float | int | bool | None


@dataclass(frozen=True)
class Parameter:
    """One axis of the space.

    Args:
        kind: `float`, `int` or `choice`.
        values: low and high, or the choices.
        options: `log` and `step`, as Optuna understands them.
    """

    kind: str
    values: tuple[Any, ...]
    options: Mapping[str, Any]

    def suggest(self, trial: optuna.Trial, key: str) -> Value:
        """A value for this trial."""
        if self.kind == "choice":
            chosen: Value = trial.suggest_categorical(key, self.values)
            return chosen
        suggest = trial.suggest_float if self.kind == "float" else trial.suggest_int
        return suggest(key, *self.values, **self.options)

    def holds(self, value: object) -> bool:
        """Whether a value lies in the axis."""
        if self.kind == "choice":
            return value in self.values
        return (
            isinstance(value, int | float) and not isinstance(value, bool) and self.values[0] <= value <= self.values[1]
        )


@dataclass(frozen=True)
class Search:
    """A whole sweep file.

    Args:
        trials: how many trials a study has when the command names no other number.
        sampler: of Optuna.
        pruner: of Optuna.
        space: axis per key of the configuration.
    """

    trials: int
    sampler: optuna.samplers.BaseSampler
    pruner: optuna.pruners.BasePruner
    space: Mapping[str, Parameter]


def read_search(path: Path) -> Search:
    """Read a sweep file.

    Raises:
        UserError: there is none, or something in it is unknown or malformed.
    """
    if not path.is_file():
        there = sorted(found.stem for found in path.parent.glob("*.yaml"))
        raise UserError(f"no search space at {path}; there are spaces for: {', '.join(there)}.")
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise UserError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not content.get("space") or (content.keys() - SETTINGS):
        unknown = sorted(content.keys() - SETTINGS) if isinstance(content, dict) else content
        raise UserError(
            f"{path} holds {unknown or 'no space'}; a sweep file has the keys {', '.join(sorted(SETTINGS))}, "
            "and its space is not empty."
        )
    trials = content.get("trials", 24)
    if not isinstance(trials, int) or trials < 1:
        raise UserError(f"{path}: trials is {trials!r}; give a whole number from 1.")
    return Search(
        trials,
        _named(path, "sampler", optuna.samplers, content.get("sampler", {"name": "TPESampler", "seed": 0})),
        _named(path, "pruner", optuna.pruners, content.get("pruner", {"name": "NopPruner"})),
        {key: _parameter(path, key, entry) for key, entry in content["space"].items()},
    )


def experiment_with(base: Path, parameters: Mapping[str, Value]) -> dict[str, Any]:
    """An experiment file's content with values put in under their keys (`model.lr`, `data.batch_size`, ...)."""
    content: dict[str, Any] = yaml.safe_load(base.read_text())
    for key, value in parameters.items():
        first, *rest = key.split(".")
        node = content.setdefault(first, {})
        if first in ("model", "data"):
            node = node.setdefault("init_args", {})
        for part in rest[:-1]:
            node = node.setdefault(part, {})
        node[rest[-1]] = yaml.safe_load(value) if isinstance(value, str) else value
    return content


def _named(path: Path, what: str, module: Any, entry: object) -> Any:  # noqa: ANN401 - a sampler or a pruner
    names = sorted(name for name in module.__all__ if name.endswith(what.capitalize()) and not name.startswith("Base"))
    if not isinstance(entry, dict) or entry.get("name") not in names:
        raise UserError(
            f"{path}: {what} is {entry!r}; write {{name: ..., <its arguments>}} with a name of {', '.join(names)}."
        )
    try:
        return getattr(module, entry["name"])(**{key: value for key, value in entry.items() if key != "name"})
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {what} {entry['name']} does not take these arguments: {error}") from error


def _parameter(path: Path, key: str, entry: object) -> Parameter:
    if isinstance(entry, dict):
        for kind in ("float", "int", "choice"):
            values = entry.get(kind)
            options = {name: value for name, value in entry.items() if name != kind}
            if not isinstance(values, list) or not values or options.keys() - {"log", "step"}:
                continue
            numbers = all(isinstance(value, int | float) for value in values)
            if kind == "choice" or (
                len(values) == 2 and numbers and values[0] <= values[1] and not (options.get("log") and values[0] <= 0)
            ):
                return Parameter(kind, tuple(values), options)
    raise UserError(f"{path}: {key} is {entry!r}; write {FORM}, with low <= high, and low > 0 where log is true.")
