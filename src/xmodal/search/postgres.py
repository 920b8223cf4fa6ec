"""Codes in PostgreSQL: exact or by HNSW of pgvector, on one server or partitioned over several by postgres_fdw.

A. Kane et al., pgvector, https://github.com/pgvector/pgvector; `bit(n)` with `<~>` since 0.7. Without that extension
the same search is exact and runs on the built-in `bit_count(code # query)`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import numpy as np

from xmodal.errors import UserError
from xmodal.search.engine import EFFORT, Array, Found, Kind

BLOCK = 100_000  # rows of a COPY that are text at once
LISTED = "id bigint NOT NULL, code bit({bits}) NOT NULL, name text"
NEEDED, BIT_COUNT = (0, 8), 140_000  # the pgvector that searches on where a filter leaves too few; PostgreSQL 14


class PostgresIndex:
    """A table of codes, and the search in it; ids and order are those of `Index`.

    Args:
        url: as psycopg takes it, such as `postgresql://user@host/database`.
        table: name of the table, in any spelling.

    Raises:
        UserError: psycopg is not installed, the server cannot be reached or is too old, or the table holds no codes.
    """

    def __init__(self, url: str, table: str = "codes") -> None:
        self.psycopg, self.table, self.bits = _psycopg(), table, 0
        self.sql = self.psycopg.sql
        try:
            self.connection = self.psycopg.connect(url, autocommit=True)
        except self.psycopg.Error as error:
            raise UserError(f"PostgreSQL cannot be reached: {str(error).strip().splitlines()[-1]}") from error
        try:
            self.parts, self.graph = [table], False
            self._read()
        except BaseException:
            self.connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.connection.close()

    @classmethod
    def create(cls, url: str, bits: int, table: str = "codes", kind: Kind = "flat") -> Self:
        """A new, empty table.

        Args:
            url: see the class.
            bits: length of the codes.
            table: see the class.
            kind: `flat`, which scans all codes, or `hnsw`, for which the server needs pgvector.

        Raises:
            UserError: the server has no pgvector that is new enough, or there is such a table.
        """
        if kind not in ("flat", "hnsw"):
            raise UserError(f"kind is {kind!r}: PostgreSQL takes flat and hnsw.")
        index = cls(url, table)
        try:
            with index.connection.transaction():
                index._create(bits, kind)
        except BaseException:
            index.connection.close()
            raise
        return index

    def _create(self, bits: int, kind: Kind) -> None:
        if self.bits:
            raise UserError(f"there is a table {self.table} already: name another one, or drop it.")
        if self.version is None and self._one("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'"):
            self._do("CREATE EXTENSION IF NOT EXISTS vector")
            self._read()
        if kind == "hnsw" and not self.vector:
            there = f"pgvector {self.version}" if self.version else "no pgvector"
            wanted = ".".join(map(str, NEEDED))
            raise UserError(
                f"this server has {there}, and hnsw needs {wanted} (Debian: postgresql-17-pgvector); flat does not."
            )
        self._do(f"CREATE TABLE {{table}} ({LISTED}, PRIMARY KEY (id))", bits=self.sql.Literal(bits))
        if kind == "hnsw":
            self._do("CREATE INDEX ON {table} USING hnsw (code bit_hamming_ops) WITH (m = 16, ef_construction = 128)")
        self._read()

    @classmethod
    def distribute(
        cls, url: str, workers: Sequence[Mapping[str, str]], bits: int, rows: int, table: str = "codes"
    ) -> Self:
        """A table whose rows lie on several servers, in equal ranges of ids; made there as well, on all or on none.

        Args:
            url: of the server that is asked, which needs postgres_fdw; it holds no codes itself.
            workers: of each server, the options of postgres_fdw: `host`, `port`, `dbname`, and `user`, `password`.
            bits: length of the codes.
            rows: how many there will be, with ids from 0.
            table: see the class.

        Raises:
            UserError: a server cannot be reached or refuses, or there is such a table on one of them.
        """
        index = cls(url, table)
        try:
            with ExitStack() as stack:
                stack.enter_context(index.connection.transaction())
                index._do("CREATE EXTENSION IF NOT EXISTS postgres_fdw")
                made = f"CREATE TABLE {{table}} ({LISTED}) PARTITION BY RANGE (id)"
                index._do(made, bits=index.sql.Literal(bits))
                bounds = np.linspace(0, rows, len(workers) + 1).astype(np.int64).tolist()
                for number, worker in enumerate(workers):
                    part = f"{table}_{number}"
                    with index._refused():
                        remote = cls(index.psycopg.conninfo.make_conninfo(**worker), part)
                    stack.enter_context(remote)
                    stack.enter_context(remote.connection.transaction())
                    remote._create(bits, "flat")  # its own server keeps it
                    low = index.sql.Literal(bounds[number]) if number else index.sql.SQL("MINVALUE")
                    last = number == len(workers) - 1
                    high = index.sql.SQL("MAXVALUE") if last else index.sql.Literal(bounds[number + 1])
                    index._attach(part, worker, low, high)
                index._read()
        except BaseException:
            index.connection.close()
            raise
        return index

    def _attach(self, part: str, worker: Mapping[str, str], low: Any, high: Any) -> None:  # noqa: ANN401 - SQL
        """Make a worker's table the partition of a range of ids."""
        user = {name: each for name, each in worker.items() if name in ("user", "password")}
        place = {name: each for name, each in worker.items() if name not in user}
        names = {"part": self.sql.Identifier(part), "low": low, "high": high}
        self._do(
            "CREATE SERVER {part} FOREIGN DATA WRAPPER postgres_fdw OPTIONS ({place})",
            place=self._options(place), **names,
        )  # fmt: skip
        self._do(
            "CREATE USER MAPPING FOR CURRENT_USER SERVER {part} OPTIONS ({user})", user=self._options(user), **names
        )
        self._do(
            "CREATE FOREIGN TABLE {part} PARTITION OF {table} FOR VALUES FROM ({low}) TO ({high}) SERVER {part} "
            "OPTIONS (async_capable 'true', batch_size '5000', use_remote_estimate 'false')",
            **names,
        )

    def add(self, ids: Array, codes: Array, names: Sequence[str] | None = None) -> None:
        """Add rows.

        Args:
            ids: (N,) numbers.
            codes: (N, bytes) as `Trained.encode` gives them.
            names: N of them; none: they stay empty.
        """
        copy = self.sql.SQL("COPY {} (id, code, name) FROM STDIN").format(self.sql.Identifier(self.table))
        with self._refused(), self.connection.cursor() as cursor, cursor.copy(copy) as out:
            for start in range(0, len(ids), BLOCK):
                some = slice(start, start + BLOCK)
                words = [r"\N"] * len(ids[some]) if names is None else map(_escaped, names[some])
                rows = zip(ids[some].tolist(), self._strings(codes[some]), words, strict=True)
                out.write("".join(f"{number}\t{code}\t{name}\n" for number, code, name in rows))
        self._do("ANALYZE {table}")  # the planner knows then when HNSW pays

    def search(self, codes: Array, k: int = 10, among: int = EFFORT) -> Found:
        """The k nearest rows of each query, in the order (distance, id); `rows` are ids.

        Args:
            codes: (B, bytes) as they were added.
            k: hits of each query.
            among: candidates of HNSW, `hnsw.ef_search`; more find more.
        """
        rows = np.full((len(codes), k), -1, np.int64)
        distances, counts = np.zeros((len(codes), k), np.int32), np.zeros(len(codes), np.int64)
        query, values = self._query(), {"k": k, "among": max(k, among)}
        with self._refused(), self.connection.cursor() as cursor:
            if self.graph and self.vector:
                wide = {"hnsw.ef_search": str(max(min(among, 1000), 1)), "hnsw.iterative_scan": "strict_order"}
                for setting in wide.items():
                    cursor.execute("SELECT set_config(%s, %s, false)", setting)
            for number, code in enumerate(self._strings(codes)):
                found = cursor.execute(query, {"q": code, **values}).fetchall()
                counts[number] = len(found)
                if found:
                    rows[number, : len(found)], distances[number, : len(found)] = zip(*found, strict=True)
        return Found(rows, distances, counts)

    def _query(self) -> Any:  # noqa: ANN401 - composed SQL
        """One table, or the first k of each partition: only with a LIMIT does a server send no more than k rows."""
        near = "bit_count(code # %(q)s::bit({n}))"
        if self.vector and len(self.parts) == 1:
            near = "code <~> %(q)s::bit({n})"
        one = f"SELECT id, ({near})::int AS distance FROM {{}} ORDER BY {near}, id LIMIT %(k)s"
        if self.graph:  # before PostgreSQL 17 the planner takes an index of distances for ORDER BY distance alone
            inner = f"SELECT id, ({near})::int AS distance FROM {{}} ORDER BY {near} LIMIT %(among)s"
            one = f"SELECT id, distance FROM ({inner}) AS near ORDER BY distance, id LIMIT %(k)s"
        names = [self.sql.Identifier(part.replace("%", "%%")) for part in self.parts]  # the query has placeholders
        parts = [self.sql.SQL(one).format(name, n=self.sql.Literal(self.bits)) for name in names]
        if len(parts) == 1:
            return parts[0]
        every = self.sql.SQL(" UNION ALL ").join(self.sql.SQL("({})").format(part) for part in parts)
        return self.sql.SQL("SELECT id, distance FROM ({}) AS every ORDER BY distance, id LIMIT %(k)s").format(every)

    def _read(self) -> None:
        """What the server can do, length of the codes where there is the table, and its partitions."""
        self.version = self._one("SELECT max(extversion) FROM pg_extension WHERE extname = 'vector'")
        self.vector = tuple(map(int, re.findall(r"\d+", self.version or "0")[:2])) >= NEEDED
        if not self.vector and (server := self.connection.info.server_version) < BIT_COUNT:
            raise UserError(f"this is PostgreSQL {server // 10_000}: codes need 14, or pgvector 0.8.")
        if (table := self._one("SELECT to_regclass(quote_ident(%s))::oid", self.table)) is None:
            return
        length = "SELECT max(atttypmod) FROM pg_attribute WHERE attrelid = %s AND attname = 'code' AND atttypid = 1560"
        if (bits := self._one(length, table)) is None:  # 1560: bit(n)
            raise UserError(f"the table {self.table} has no column code of bits: it is none that this suite made.")
        graph = (
            "SELECT count(*) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_am ON pg_am.oid = relam "
        )
        self.bits, self.graph = bits, self._one(graph + "WHERE indrelid = %s AND amname = 'hnsw'", table) > 0
        below = "SELECT array_agg(relname::text ORDER BY relname) FROM pg_inherits JOIN pg_class ON oid = inhrelid "
        self.parts = self._one(below + "WHERE inhparent = %s", table) or [self.table]

    def _strings(self, codes: Array) -> Iterator[str]:
        """Each code as zeros and ones, bit 0 first."""
        if not self.bits:
            raise UserError(f"there is no table {self.table}: PostgresIndex.create makes it.")
        if codes.ndim != 2 or codes.shape[1] != -(-self.bits // 8):
            raise UserError(f"codes of shape {codes.shape}: the table {self.table} has {self.bits} bits.")
        for code in np.unpackbits(codes, axis=1, count=self.bits, bitorder="little") + np.uint8(ord("0")):
            yield code.tobytes().decode()

    def _do(self, text: str, **parts: Any) -> None:  # noqa: ANN401 - pieces of SQL
        with self._refused():
            self.connection.execute(self.sql.SQL(text).format(table=self.sql.Identifier(self.table), **parts))

    def _one(self, query: str, *values: Any) -> Any:  # noqa: ANN401 - of the server
        with self._refused():
            return self.connection.execute(query, values).fetchone()[0]

    def _options(self, options: Mapping[str, str]) -> Any:  # noqa: ANN401 - composed SQL
        pairs = [
            self.sql.Identifier(name) + self.sql.SQL(" ") + self.sql.Literal(str(each))
            for name, each in options.items()
        ]
        return self.sql.SQL(", ").join(pairs)

    @contextmanager
    def _refused(self) -> Iterator[None]:
        try:
            yield
        except self.psycopg.Error as error:
            raise UserError(f"PostgreSQL refuses: {str(error).strip().splitlines()[0]}.") from error


def _psycopg() -> Any:  # noqa: ANN401 - the module, which may be missing
    try:
        import psycopg
        import psycopg.conninfo
        import psycopg.sql
    except ImportError as error:
        raise UserError("PostgreSQL needs psycopg: `pip install 'xmodal[postgres]'`.") from error
    return psycopg


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace("\t", r"\t").replace("\n", r"\n").replace("\r", r"\r")
