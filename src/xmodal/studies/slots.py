"""Which worker may start a trial, and when: finished and running trials are never more than the budget."""

import time

from optuna.storages import fail_stale_trials
from optuna.trial import TrialState

from xmodal.studies.space import Search
from xmodal.studies.storage import DONE, OpenStudy


class Slots:
    """Lets trials begin, one at a time, while the budget lasts: finished and running trials are never more than it.

    Args:
        opened: the study.
        search: whose budget it is, if there is one.
        end: `time.monotonic()` after which no trial is started, if there is one.
    """

    def __init__(self, opened: OpenStudy, search: Search, end: float | None) -> None:
        self.opened, self.search, self.trials, self.end = opened, search, search.budget, end
        self.beaten = False  # whether the trials that ran at first have a sign of life, from which on they may be stale

    def take(self) -> bool:
        """Whether a trial may be started; the study's lock is held then, until the trial has its parameters.

        Waits where the last trials of the budget run elsewhere, because one of them may fail.
        """
        study, lock = self.opened.study, self.opened.lock
        while True:
            lock.acquire()
            self.opened.bury_left()
            fail_stale_trials(study)
            if not self.beaten:  # without one, as `optuna.copy_study` leaves them, a dead trial would run for ever
                for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                    self.opened.storage.record_heartbeat(self.opened.trial_id(trial.number))
                self.beaten = True
            trials = study.get_trials(deepcopy=False)  # read once: they end meanwhile
            states = [trial.state for trial in trials]
            done, busy = sum(state in DONE for state in states), states.count(TrialState.RUNNING)
            over = self.end is not None and time.monotonic() >= self.end
            if not over and (self.trials is None or done + busy < self.trials):
                for point in self.search.failed(trials)[:1]:
                    study.enqueue_trial(point)
                return True
            lock.release()
            if over or self.trials is None or done >= self.trials:
                return False
            time.sleep(1)
