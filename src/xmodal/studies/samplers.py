"""Samplers and pruners by name, and draws that depend on nothing but the seed, the trial's number and the history."""

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from xmodal.errors import UserError

LIVING = [state for state in TrialState if state != TrialState.FAIL]


class Halving(optuna.pruners.SuccessiveHalvingPruner):
    """Optuna's compares with failed trials too: one whose process died would count beside the one that repeats it."""

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """See Optuna."""
        view = copy.copy(study)
        vars(view)["get_trials"] = partial(study.get_trials, states=LIVING)
        return super().prune(view, trial)


SAMPLERS: Mapping[str, Any] = {
    "tpe": optuna.samplers.TPESampler,  # multivariate by default since Optuna 5
    "gp": optuna.samplers.GPSampler,
    "random": optuna.samplers.RandomSampler,
    "grid": optuna.samplers.BruteForceSampler,  # reads the grid off the space, conditions included
    "cmaes": optuna.samplers.CmaEsSampler,
}
PRUNERS: Mapping[str, Any] = {
    "none": optuna.pruners.NopPruner,
    "median": optuna.pruners.MedianPruner,
    "percentile": optuna.pruners.PercentilePruner,
    "halving": Halving,
    "hyperband": optuna.pruners.HyperbandPruner,
    "threshold": optuna.pruners.ThresholdPruner,
}
SOURCE = "source"  # user attribute of a trial: the code that ran it; a trial that has it has its parameters
AMONG_COMPLETE = ("median", "percentile")  # these compare a trial with complete ones only
EXTRA = "pip install 'xmodal[sweeps]'"


class SeededPerTrial(BaseSampler):
    """A fresh sampler for every trial, seeded by (seed, trial number); trials that repeat a dead one are not counted.

    One that repeats a trial which died before it had its parameters draws what that one would have drawn.

    A sampler with one stream of random numbers starts it anew when a study goes on, and draws its first points again;
    two machines with one seed draw the same points from the start. The number of a trial is unique in its study. A
    search by one worker that was killed ends with the trials of one that was left alone.

    Args:
        name: of `SAMPLERS`.
        arguments: of its class.
        seed: of the whole study.
    """

    def __init__(self, name: str, arguments: Mapping[str, Any], seed: int) -> None:
        self.name, self._arguments, self._seed = name, arguments, seed
        self._samplers: dict[int, BaseSampler] = {}  # of the trials that run
        self.whole: optuna.Study | None = None  # the study that is searched; with hyperband, Optuna shows a part of it

    def _of(self, study: optuna.Study, trial: FrozenTrial) -> BaseSampler:
        if trial.number not in self._samplers:
            state = np.random.SeedSequence([self._seed, _counted(study, trial)]).generate_state(1)
            self._samplers[trial.number] = SAMPLERS[self.name](seed=int(state[0]), **self._arguments)
        return self._samplers[trial.number]

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """See Optuna; so the others below."""
        self._of(study, trial).before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """See Optuna."""
        return self._of(study, trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """See Optuna."""
        sampler = self._of(study, trial)
        if self.name == "cmaes":  # which draws by the number as well
            trial = copy.copy(trial)
            trial.number = _counted(study, trial)
        return sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401 - Optuna's own
        """See Optuna."""
        sampler = self._of(study, trial)
        if self.name == "grid":
            study, trial = _of_whole_points(self.whole or study, trial)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """See Optuna."""
        if self.name != "grid":  # which would end the study, a point whose trial failed included; the budget does
            self._of(study, trial).after_trial(study, trial, state, values)
        del self._samplers[trial.number]


def _counted(study: optuna.Study, trial: FrozenTrial) -> int:
    """The number that a trial, or the one that it repeats, would have if none before it had died."""
    first = next(iter(RetryHeartbeatStaleTrialCallback.retry_history(trial)), trial.number)
    before = study.get_trials(deepcopy=False)[:first]
    return first - sum(RetryHeartbeatStaleTrialCallback.retried_trial_number(each) is not None for each in before)


def _of_whole_points(study: optuna.Study, trial: FrozenTrial) -> tuple[optuna.Study, FrozenTrial]:
    """A trial in a copy of its study without those that died before they had their parameters, which end a grid."""
    view = optuna.create_study(directions=study.directions)
    for each in study.get_trials(deepcopy=False):
        if each.number != trial.number and (each.state != TrialState.FAIL or SOURCE in each.user_attrs):
            view.add_trial(each)
    view.add_trial(trial)
    return view, view.get_trials(deepcopy=False)[-1]


class ReadsOnce(BasePruner):
    """A pruner that reads the study once a trial, when the trial first asks, and not for every value.

    A trial that ends meanwhile, beside others, is compared with as soon as another one first asks.

    Args:
        pruner: one that compares with complete trials.
    """

    def __init__(self, pruner: BasePruner) -> None:
        self.pruner = pruner
        self._asked: tuple[str, int] | None = None  # the trial that the copy was made for
        self._copy: optuna.Study | None = None

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """See Optuna."""
        if self._copy is None or self._asked != (study.study_name, trial.number):
            self._asked = study.study_name, trial.number
            self._copy = optuna.create_study(direction=study.direction)
            self._copy.add_trials(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
        return self.pruner.prune(self._copy, trial)


def make_sampler(entry: object) -> SeededPerTrial:
    """A sampler from `{name: tpe, seed: 0, <arguments of Optuna's class>}`.

    Raises:
        UserError: an unknown name or argument, or a package is missing.
    """
    warnings.simplefilter("ignore", ExperimentalWarning)  # two of them, and the heartbeat of a study, are marked so
    name, arguments = _named("sampler", SAMPLERS, entry)
    seed = arguments.pop("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise UserError(f"the sampler's seed is {seed!r}; give a whole number from 0.")

    _build("sampler", name, lambda: SAMPLERS[name](seed=0, **arguments))
    return SeededPerTrial(name, arguments, seed)


def make_pruner(entry: object) -> BasePruner:
    """A pruner from `{name: median, <arguments of Optuna's class>}`.

    Raises:
        UserError: an unknown name or argument.
    """
    name, arguments = _named("pruner", PRUNERS, entry)
    pruner: BasePruner = _build("pruner", name, lambda: PRUNERS[name](**arguments))
    return ReadsOnce(pruner) if name in AMONG_COMPLETE else pruner


def _named(what: str, table: Mapping[str, Any], entry: object) -> tuple[str, dict[str, Any]]:
    if not isinstance(entry, dict) or entry.get("name") not in table:
        raise UserError(
            f"{what} is {entry!r}; write {{name: ..., <Optuna's arguments>}} with a name of {', '.join(table)}."
        )
    return entry["name"], {key: value for key, value in entry.items() if key != "name"}


def _build(what: str, name: str, make: Callable[[], Any]) -> Any:  # noqa: ANN401 - a sampler or a pruner
    try:
        return make()
    except (TypeError, ValueError) as error:
        raise UserError(f"{what} {name} does not take these arguments: {error}") from error
    except ImportError as error:
        raise UserError(f"{what} {name} needs a package that is not installed: {EXTRA}. ({error})") from error
