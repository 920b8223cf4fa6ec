"""Where studies live: SQLite below `runs/`, or any database by URL; PostgreSQL where several machines share a study."""

import contextlib
import copy
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import optuna
from filelock import Timeout
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import NullPool, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from xmodal import paths
from xmodal.errors import UserError
from xmodal.files import text_hash
from xmodal.parent import has_ended
from xmodal.studies.lock import Lock, is_file, lock_of
from xmodal.studies.samplers import EXTRA, SOURCE
from xmodal.studies.space import Search, Value

Direction = Literal["maximize", "minimize"]
HEARTBEAT = 2  # seconds between the signs of life of a running trial
GRACE = 30  # seconds without one after which a trial is dead; a busy disk or network may hold a few back
PATIENCE = 60  # seconds to wait for a locked SQLite file
DONE = (TrialState.COMPLETE, TrialState.PRUNED)
DATABASE_ERRORS = (SQLAlchemyError, StorageInternalError, Timeout)
WORKER, POINT, ERROR = "worker", "point", "error"  # user attributes: who runs a trial, what it was queued for, its end
DRAWN = "drawn"  # in a trial's source: the options that drew it in another way than the sweep file says
RECORD = "record"  # user attribute of a trial: the hash of the record that it left
BASE = "configuration"  # user attribute of a study: what its trials are trained by, beside their parameters
WARM = "warm start"  # user attribute of a study: in how many trials before it the points it was given were searched
GIVE_UP = 3  # failures in a row at the end of which a search stops: something is wrong with all of them


class Storage(RDBStorage):
    """Optuna's database with heartbeats, where a dead trial is tried once more.

    Args:
        url: of the database.
        forks: close every connection after use, because a process that is forked must not inherit one.
    """

    def __init__(self, url: URL, *, forks: bool) -> None:
        sqlite = url.get_backend_name() == "sqlite"
        pool = {"poolclass": NullPool} if forks else {"pool_pre_ping": True}
        super().__init__(
            url.render_as_string(hide_password=False),
            engine_kwargs=pool | ({"connect_args": {"timeout": PATIENCE}} if sqlite else {}),
            heartbeat_interval=HEARTBEAT,
            grace_period=GRACE,
            heartbeat_stale_trial_callback=retry,
        )
        if sqlite:
            event.listen(self.engine, "connect", _keep_journal)
            self.engine.dispose()  # the connections made so far

    def record_heartbeat(self, trial_id: int) -> None:
        """See Optuna; a beat that cannot be written is left out: the next may be, and others say what is wrong."""
        with contextlib.suppress(StorageInternalError):
            super().record_heartbeat(trial_id)


def _keep_journal(connection: Any, _record: object) -> None:  # noqa: ANN401 - of whichever driver
    """Empty the rollback journal after a commit and keep the file: to make and remove it takes a millisecond."""
    if connection.execute("PRAGMA journal_mode").fetchone() == ("delete",):  # as it is unless somebody chose another
        connection.execute("PRAGMA journal_mode=PERSIST")


class OpenStudy(NamedTuple):
    """A study, its database, and the lock under which its trials begin."""

    study: optuna.Study
    storage: Storage
    lock: Lock

    def trial_id(self, number: int) -> int:
        """What the storage calls the trial of a number."""
        study_id = self.storage.get_study_id_from_name(self.study.study_name)
        return self.storage.get_trial_id_from_study_id_trial_number(study_id, number)

    def try_first(self, points: Sequence[Mapping[str, Value]]) -> None:
        """Queue points before any other, unless they were tried; one whose trial failed is tried again."""
        self.lock.acquire()
        try:
            for point in points:
                trials = self.study.get_trials(deepcopy=False)
                if not any(_is_of(trial, point) for trial in trials if trial.state != TrialState.FAIL):
                    self.study.enqueue_trial(dict(point), user_attrs={POINT: dict(point)})
        finally:
            self.lock.release()

    def bury(self, worker: str | None, reason: str | None) -> list[int]:
        """Fail the running trials of a worker that has ended and queue them again, under the lock; their numbers.

        Args:
            worker: its name; None for trials that ended before they had one: they get it under the lock.
            reason: is kept with the trial, which is tried once more; None for an interruption, which is no limit.
        """
        trials, earlier = self.study.get_trials(), RetryHeartbeatStaleTrialCallback.retry_history
        dead = [t for t in trials if t.state == TrialState.RUNNING and t.user_attrs.get(WORKER) == worker]
        for trial in dead:
            again = reason is not None and any(ERROR in trials[each].user_attrs for each in earlier(trial))
            if reason is not None:
                self.storage.set_trial_user_attr(self.trial_id(trial.number), ERROR, reason)
            self.storage.set_trial_state_values(self.trial_id(trial.number), TrialState.FAIL)
            retry(self.study, trial, 1 if again else None)
        return [trial.number for trial in dead]

    def bury_left(self) -> None:
        """Bury what is left of commands of this machine that have ended, at once; call it under the lock."""
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        for worker in {trial.user_attrs.get(WORKER) for trial in running}:
            if worker is None or has_ended(worker.partition(" ")[2]):
                self.bury(worker, None)


def study_name(method: str, dataset: str, sizes: Sequence[int], against: str | None) -> str:
    """`dmsf-emoji-64`; sizes that are an axis stand side by side, and a second objective at the end."""
    return "-".join([method, dataset, *map(str, sizes), *filter(None, [against])])


def retry(study: optuna.Study, trial: FrozenTrial, most: int | None = 1) -> None:
    """Queue a trial that died again, with the same parameters, but at most so often; one that was queued, always."""
    again, left = copy.copy(trial), ["completed_rung"]
    if SOURCE not in trial.user_attrs:  # it died while they were drawn; the rest of a draw depends on the first of it
        again.params, again.distributions = {}, {}
        left.append("gp:")  # beside what it drew, the next draw would keep away from it
    again.user_attrs = {key: value for key, value in trial.user_attrs.items() if key == POINT}
    again.system_attrs = {k: v for k, v in trial.system_attrs.items() if not any(each in k for each in left)}
    RetryHeartbeatStaleTrialCallback(max_retry=None if POINT in again.user_attrs else most)(study, again)


def record_of(trial: FrozenTrial) -> Path | None:
    """Where a trial left its record; None where a trial of a study in another database has taken its folder since."""
    path, was = paths.runs() / trial.user_attrs["path"] / "result.json", trial.user_attrs.get(RECORD)
    return None if was and path.is_file() and text_hash(path.read_text()) != was else path


def give_up_after_failures(study: optuna.Study) -> None:
    """End a search whose last trials failed, each with a reason; interruptions and retries of a draw do not count.

    Raises:
        UserError: they did.
    """
    ended = [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state in DONE or (trial.state == TrialState.FAIL and ERROR in trial.user_attrs and not _again(trial))
    ]
    if len(ended) >= GIVE_UP and all(trial.state == TrialState.FAIL for trial in ended[-GIVE_UP:]):
        raise UserError(f"{GIVE_UP} trials of {study.study_name} failed one after the other; the last reason is above.")


def _again(trial: FrozenTrial) -> bool:
    """Whether the trial repeats a draw whose process died."""
    return RetryHeartbeatStaleTrialCallback.retried_trial_number(trial) is not None and POINT not in trial.user_attrs


@contextlib.contextmanager
def open_study(
    url: str | None,
    name: str,
    directions: Sequence[Direction],
    search: Search,
    *,
    forks: bool,
) -> Iterator[OpenStudy]:
    """Open a study, or make it; its connections are closed in the end.

    Args:
        url: of the database; None is SQLite under `runs/`.
        name: of the study.
        directions: of its objectives.
        search: the sweep file.
        forks: whether the process forks others meanwhile.

    Raises:
        UserError: the database cannot be reached, read or written, or its driver is missing.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats and some samplers are marked so
    with readable_errors():
        if url is None:
            paths.runs().mkdir(parents=True, exist_ok=True)
        parsed = make_url(url or f"sqlite:///{_default()}")
        lock = lock_of(parsed)
        lock.acquire()  # the tables are made by one sweep
        try:
            storage = _connect(parsed, forks)
            study = optuna.create_study(
                storage=storage,
                study_name=name,
                directions=directions,
                load_if_exists=True,
                sampler=search.sampler,
                pruner=search.pruner,
            )
        finally:
            lock.release()
    try:
        with readable_errors():
            yield OpenStudy(study, storage, lock)
    finally:
        lock.release()
        _close(storage)


def _is_of(trial: FrozenTrial, point: Mapping[str, Value]) -> bool:
    """Whether a trial was made for a point, or has its values."""
    has = all(key in trial.params and trial.params[key] == value for key, value in point.items())
    return has or trial.user_attrs.get(POINT) == point


@contextlib.contextmanager
def stored_study(url: str | None, name: str) -> Iterator[optuna.Study | None]:
    """A study to read, None if there is no such study; its connections are closed in the end.

    Args:
        url: of the database; None is SQLite under `runs/`.
        name: of the study.

    Raises:
        UserError: the database cannot be reached or read, or its driver is missing.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if url is None and not _default().is_file():
        yield None
        return
    with readable_errors():
        storage = RDBStorage(url or f"sqlite:///{_default()}")
    try:
        study = None
        with readable_errors(), contextlib.suppress(KeyError):
            study = optuna.load_study(study_name=name, storage=storage)
        yield study
    finally:
        _close(storage)


def _default() -> Path:
    return paths.runs() / "sweeps.db"


def _close(storage: RDBStorage) -> None:
    storage.remove_session()
    storage.engine.dispose()


def _make_whole(file: Path) -> None:
    """Make an SQLite file with all tables and indexes, or none: SQLite commits them one by one."""
    partial = file.with_name(f"{file.name}.partial")
    for left in (partial, file.with_name(f"{partial.name}-journal")):
        left.unlink(missing_ok=True)
    _close(RDBStorage(f"sqlite:///{partial}"))
    partial.replace(file)


def _connect(url: URL, forks: bool) -> Storage:
    if is_file(url) and not (file := Path(str(url.database)).resolve()).exists():
        _make_whole(file)
    for _ in range(3):
        with contextlib.suppress(IntegrityError, ProgrammingError):  # another machine makes the tables just now
            return Storage(url, forks=forks)
        time.sleep(1)
    return Storage(url, forks=forks)


@contextlib.contextmanager
def readable_errors() -> Iterator[None]:
    """Show the troubles of a database as one line.

    Raises:
        UserError: in place of the database's own errors.
    """
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        raise UserError(f"the database of --storage needs a driver: {EXTRA}. ({error})") from error
    except Exception as error:
        trouble: BaseException | None = error  # Optuna 5 may end in an UnboundLocalError of its own after a storage's
        while trouble is not None and not isinstance(trouble, (*DATABASE_ERRORS, OSError)):
            trouble = trouble.__context__
        if trouble is None:
            raise
        reason = " ".join(str(trouble.__cause__ or trouble).split())[:300]
        raise UserError(
            f"cannot use the study database: {reason}. See that it is there, writable, not full and not locked, or "
            "name another with --storage; then the same command goes on."
        ) from error
