"""Where studies live: SQLite below `runs/`, or any database by URL; PostgreSQL where several machines share a study."""

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import optuna
from filelock import FileLock, Timeout
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from xmodal import paths
from xmodal.errors import UserError
from xmodal.tuning.samplers import EXTRA
from xmodal.tuning.space import Search, Value

Direction = Literal["maximize", "minimize"]
HEARTBEAT = 2  # seconds between the signs of life of a running trial
GRACE = 30  # seconds without one after which a trial is dead; a busy disk or network may hold a few back
PATIENCE = 60  # seconds to wait for a locked SQLite file


class LastingJournal(sqlite3.Connection):
    """Empties its rollback journal after a commit and keeps the file: to make and remove it takes a millisecond."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - those of `sqlite3.connect`
        super().__init__(*args, **kwargs)
        if self.execute("PRAGMA journal_mode").fetchone() == ("delete",):  # as it is unless somebody chose another
            self.execute("PRAGMA journal_mode=PERSIST")


class Storage(RDBStorage):
    """Optuna's database with heartbeats, where a dead trial is tried once more.

    SQLite has no row locks: without one of our own, two workers take the same waiting trial.

    Args:
        url: of the database.
    """

    def __init__(self, url: URL) -> None:
        sqlite = {"connect_args": {"timeout": PATIENCE, "factory": LastingJournal}}
        self._lock = _lock(url)
        super().__init__(
            url.render_as_string(hide_password=False),
            engine_kwargs=sqlite if url.get_backend_name() == "sqlite" else {"pool_pre_ping": True},
            heartbeat_interval=HEARTBEAT,
            grace_period=GRACE,
            heartbeat_stale_trial_callback=retry_once,
        )

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """See Optuna."""
        with self._lock:
            return super().set_trial_state_values(trial_id, state, values)

    def record_heartbeat(self, trial_id: int) -> None:
        """See Optuna; a beat that cannot be written is left out: the next may be, and others say what is wrong."""
        with contextlib.suppress(StorageInternalError):
            super().record_heartbeat(trial_id)


def study_name(method: str, dataset: str, sizes: Sequence[int], against: str | None) -> str:
    """`dmsf-emoji-64`; sizes that are an axis stand side by side, and a second objective at the end."""
    return "-".join([method, dataset, *map(str, sizes), *filter(None, [against])])


def retry_once(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queue a trial whose process died a second time, with the same parameters; not a third time."""
    RetryHeartbeatStaleTrialCallback(max_retry=1)(study, trial)


def is_retry(trial: FrozenTrial) -> bool:
    """Whether the trial repeats one that died."""
    return RetryHeartbeatStaleTrialCallback.retried_trial_number(trial) is not None


@contextlib.contextmanager
def open_study(
    url: str | None, name: str, directions: Sequence[Direction], search: Search, first: Sequence[Mapping[str, Value]]
) -> Iterator[optuna.Study]:
    """Open a study, or make it; its connections are closed in the end.

    Args:
        url: of the database; None is SQLite under `runs/`.
        name: of the study.
        directions: of its objectives.
        search: the sweep file.
        first: points that a new study tries before any other.

    Raises:
        UserError: the database cannot be reached, read or written, or its driver is missing.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with readable_errors():
        if url is None:
            paths.runs().mkdir(parents=True, exist_ok=True)
        parsed = make_url(url or f"sqlite:///{_default()}")
        with _lock(parsed):  # the tables are made by one sweep
            storage = _connect(parsed)
            study = optuna.create_study(
                storage=storage,
                study_name=name,
                directions=directions,
                load_if_exists=True,
                sampler=search.sampler,
                pruner=search.pruner,
            )
            for point in first:
                study.enqueue_trial(dict(point), skip_if_exists=True)
    try:
        with readable_errors():
            yield study
    finally:
        _close(storage)


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


def _connect(url: URL) -> Storage:
    for _ in range(3):
        with contextlib.suppress(IntegrityError, ProgrammingError):  # another machine makes the tables just now
            return Storage(url)
        time.sleep(1)
    return Storage(url)


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
        while trouble is not None and not isinstance(
            trouble, SQLAlchemyError | StorageInternalError | OSError | Timeout
        ):
            trouble = trouble.__context__
        if trouble is None:
            raise
        reason = " ".join(str(trouble.__cause__ or trouble).split())[:300]
        raise UserError(
            f"cannot use the study database: {reason}. See that it is there, writable, not full and not locked, or "
            "name another with --storage; then the same command goes on."
        ) from error


def _lock(url: URL) -> AbstractContextManager[object]:
    if url.get_backend_name() == "sqlite" and url.database and not url.database.startswith("file:"):
        return FileLock(f"{url.database}.lock", timeout=PATIENCE)  # between threads and processes
    return contextlib.nullcontext()
