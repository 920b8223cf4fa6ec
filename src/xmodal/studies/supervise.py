"""The command's side of a search: it starts workers, replaces those that end too early, and shows what they do."""

import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from datetime import datetime
from typing import Self
from uuid import uuid4

import optuna
from optuna.trial import FrozenTrial, TrialState

from xmodal import paths
from xmodal.code import code_of, provenance
from xmodal.errors import UserError
from xmodal.parent import myself
from xmodal.progress import bar
from xmodal.records.record import read_result
from xmodal.studies.grid import changed_data
from xmodal.studies.processes import Pool, SpentError, Task, TrialDiedError
from xmodal.studies.samplers import SOURCE
from xmodal.studies.space import Value
from xmodal.studies.storage import DONE, ERROR, GIVE_UP, OpenStudy, give_up_after_failures, record_of
from xmodal.studies.sweep import Sweep


def supervise(sweep: Sweep, opened: OpenStudy, pool: Pool, first: Sequence[Mapping[str, Value]]) -> None:
    """Search with the workers of a pool until the budget is used up.

    Args:
        sweep: the search.
        opened: its study.
        pool: of workers.
        first: points to try before any other; a search that is refused leaves none of them.

    Raises:
        UserError: the space or the database is not usable, the study was begun with another configuration or data, too
            many trials failed, or workers die at once.
    """
    study, trials = opened.study, sweep.sought.budget
    done = len(finished := check_same(sweep, study))
    sweep.keep_warm(study)
    opened.try_first(first)
    if trials is not None and done >= trials:
        return
    sys.stderr.write(f"study {sweep.name}: {done} of {trials or 'any number of'} trials are done\n")
    here = code_of(provenance())
    if other := sorted({code_of(each.user_attrs.get(SOURCE, {})) for each in finished} - {here}):
        sys.stderr.write(f"study {sweep.name}: trials so far are by other code ({', '.join(other)}, now {here})\n")
    end = time.monotonic() + 60 * sweep.sought.minutes if sweep.sought.minutes else None
    names = [f"{uuid4().hex} {myself()}" for _ in range(pool.workers)]
    with Display(sweep, study) as display:
        try:
            tasks = deque[Task]((sweep.work, (name, end)) for name in names)
            _follow(opened, pool, tasks, display)
        except BaseException:  # the workers are killed, also by Ctrl-C
            with suppress(Exception):  # the database may be what is wrong
                for name in names:
                    _bury(opened, name, None)
            raise
    _check_data(sweep.name, study.get_trials(deepcopy=False, states=DONE))  # which the evaluation reads anew


def check_same(sweep: Sweep, study: optuna.Study) -> list[FrozenTrial]:
    """The finished trials of a study, which are of this search's configuration and data; a line if its space changed.

    Raises:
        UserError: they are of another.
    """
    sweep.check_base(study)
    finished = study.get_trials(deepcopy=False, states=DONE)
    _check_data(sweep.name, finished)
    all_done = sweep.sought.budget is not None and len(finished) >= sweep.sought.budget
    if all_done and (changed := sweep.sought.changed(study.get_trials(deepcopy=False))):
        sys.stderr.write(
            f"study {sweep.name}: the space has changed ({', '.join(changed)}), and no trial is left to run in it: "
            "what follows was found in the old one. Raise TRIALS, or begin anew with another --storage.\n"
        )
    return finished


def check_jobs(sweep: Sweep, study: optuna.Study) -> None:
    """What the jobs of a search left is this search, and all of it.

    Raises:
        UserError: it is another search, or a part of one.
    """
    done, sought = len(check_same(sweep, study)), sweep.sought
    if sought.budget is not None and sought.minutes is None and done < sought.budget:
        raise UserError(
            f"the jobs ended with {done} of {sought.budget} trials of {sweep.name}; the reasons are in "
            f"{paths.runs() / 'jobs'}. The same command goes on."
        )


def _check_data(name: str, finished: Sequence[FrozenTrial]) -> None:
    """Trials of a study are of the same data: those that the last one left a record of are there still.

    Raises:
        UserError: the data have changed.
    """
    files = [record_of(each) for each in finished if "path" in each.user_attrs]
    last = next((file for file in reversed(files) if file and file.is_file()), None)
    if last and (key := changed_data(read_result(last))):
        raise UserError(
            f"the study {name} was begun with other data ({key}): restore them, or begin anew with another --storage."
        )


def _follow(opened: OpenStudy, pool: Pool, tasks: deque[Task], display: "Display") -> None:
    """Replace workers that end before the budget is used up."""
    vain = 0  # workers that died without a trial, one after the other
    with closing(pool.run(tasks)) as outcomes:
        for each in outcomes:
            if each is not None:
                task, outcome = each
                if isinstance(outcome, TrialDiedError):
                    vain = 0 if _bury(opened, task[1][0], str(outcome)) else vain + 1
                    if vain == GIVE_UP:
                        raise UserError(f"{GIVE_UP} processes of the search died before they had a trial: {outcome}.")
                    display.refresh()
                elif not isinstance(outcome, SpentError | None):
                    display.refresh()
                    raise outcome
                if outcome is not None:
                    give_up_after_failures(opened.study)
                    tasks.append(task)
            display.refresh()


def _bury(opened: OpenStudy, worker: str, reason: str | None) -> list[int]:
    opened.lock.acquire()
    try:
        return opened.bury(worker, reason)
    finally:
        opened.lock.release()


class Display:
    """A bar of the finished trials, and a line for each that ends while it is there.

    Args:
        sweep: the search.
        study: its study.
    """

    def __init__(self, sweep: Sweep, study: optuna.Study) -> None:
        self.study, self.against = study, sweep.against
        trials = study.get_trials(deepcopy=False)
        self.shown = {trial.number for trial in trials if trial.state.is_finished()}
        done = sum(trial.state in DONE for trial in trials)
        self.bar = bar(total=sweep.sought.budget, initial=done, unit="trial")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def refresh(self) -> None:
        """Read the study, and show what is new."""
        trials = self.study.get_trials(deepcopy=False)
        new = [trial for trial in trials if trial.state.is_finished() and trial.number not in self.shown]
        for trial in sorted(new, key=lambda each: each.datetime_complete or datetime.max):
            self.shown.add(trial.number)
            self.bar.update(trial.state in DONE)
            score = " ".join(["val/map", *(f"{value:.4f}" for value in trial.values)]) if trial.values else ""
            ended = {TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}.get(trial.state, "")
            said = ", ".join(filter(None, (score, ended)))
            self.bar.write(f"trial {trial.number}: {said}{self._best(trials)}", file=sys.stderr)
            if ERROR in trial.user_attrs:
                self.bar.write(f"trial {trial.number}: {trial.user_attrs[ERROR]}", file=sys.stderr)
        running = [trial for trial in trials if trial.state == TrialState.RUNNING and trial.intermediate_values]
        values = [(trial.number, *max(trial.intermediate_values.items())) for trial in running]
        now = [f"trial {number} epoch {epoch + 1} val/map {value:.4f}" for number, epoch, value in values]
        self.bar.set_postfix_str(", ".join(now))

    def _best(self, trials: Sequence[FrozenTrial]) -> str:
        """The best of the trials that have been shown."""
        ended = [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.number in self.shown]
        if self.against or not ended:
            return ""
        best = max(ended, key=lambda trial: trial.value or 0.0)
        return f", best {best.value:.4f} (trial {best.number})"
