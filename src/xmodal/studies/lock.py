"""The lock of a study database: one process at a time makes tables or begins a trial."""

from zlib import crc32

from filelock import BaseFileLock, FileLock
from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy.engine import URL

from xmodal import paths


class AdvisoryLock:
    """A lock of a PostgreSQL server, which opens with the connection that holds it.

    Args:
        url: of the database.
    """

    def __init__(self, url: URL) -> None:
        self._engine = create_engine(url, poolclass=NullPool)
        self._number = crc32(b"xmodal")
        self._held: Connection | None = None

    def acquire(self) -> None:
        """Wait for it."""
        self._held = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._held.execute(text("SELECT pg_advisory_lock(:number)"), {"number": self._number})

    def release(self) -> None:
        """Let it go, if it is held."""
        if self._held is not None:
            self._held.close()
            self._held = None


Lock = BaseFileLock | AdvisoryLock  # held by one process at a time; a process that ends lets it go


def lock_of(url: URL) -> Lock:
    """The lock of a database: of the server, or a file beside it."""
    if url.get_backend_name() == "postgresql":
        return AdvisoryLock(url)
    if is_file(url):
        return FileLock(f"{url.database}.lock")
    return FileLock(paths.runs() / "sweeps.lock")


def is_file(url: URL) -> bool:
    """Whether a database is a file by its plain path."""
    path = url.database or ":memory:"
    return url.get_backend_name() == "sqlite" and path != ":memory:" and not path.startswith("file:")
