"""Codes in PostgreSQL: exact or by HNSW of pgvector, on one server or partitioned over several by postgres_fdw.

A. Kane et al., pgvector, https://github.com/pgvector/pgvector; `bit(n)` with `<~>` since 0.7. Without that extension
the same search is exact and runs on the built-in `bit_count(code # query)`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np

from xmodal.errors import UserError
from xmodal.search.engine import EFFORT, Array, Found, Kind

BLOCK = 100_000  # rows of a COPY that are text at once
LISTED = "id bigint NOT NULL, code bit({bits}) NOT NULL, name text"


class PostgresIndex:
    """A table of codes, and the search in it; ids and order are those of `Index`.

    Args:
        url: as psycopg takes it, such as `postgresql://user@host/database`.
        table: name of the table.

    Raises:
        UserError: psycopg is not installed, or the server cannot be reached.
    """

    def __init__(self, url: str, table: str = "codes") -> None:
        self.sql, self.connection, self.table = *_connected(url), table
        self.vector = self._one("SELECT count(*) FROM pg_extension WHERE extname = 'vector'") == 1
        self.parts, self.graph = [table], False
        if self._one("SELECT to_regclass(%s) IS NOT NULL", table):
            self._read()

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
            UserError: the server has no pgvector, or there is such a table.
        """
        if kind not in ("flat", "hnsw"):
            raise UserError(f"kind is {kind!r}: PostgreSQL takes flat and hnsw.")
        index = cls(url, table)
        try:
            index._create(bits, kind)
        except BaseException:
            index.connection.close()
            raise
        return index

    def _create(self, bits: int, kind: Kind) -> None:
        if self._one("SELECT to_regclass(%s) IS NOT NULL", self.table):
            raise UserError(f"there is a table {self.table} already: name another one, or drop it.")
        if not self.vector and self._one("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'"):
            self._do("CREATE EXTENSION IF NOT EXISTS vector")
            self.vector = True
        if kind == "hnsw" and not self.vector:
            raise UserError("this server has no pgvector: install it (Debian: postgresql-17-pgvector), or kind=flat.")
        self._do(f"CREATE TABLE {{}} ({LISTED}, PRIMARY KEY (id))", self.table, bits=bits)
        if kind == "hnsw":
            made = "CREATE INDEX ON {} USING hnsw (code bit_hamming_ops) WITH (m = 16, ef_construction = 128)"
            self._do(made, self.table)
        self._read()

    @classmethod
    def distribute(
        cls, url: str, workers: Sequence[dict[str, str]], bits: int, rows: int, table: str = "codes"
    ) -> Self:
        """A table whose rows lie on several servers, in equal ranges of ids; made there as well.

        Args:
            url: of the server that is asked, which needs postgres_fdw; it holds no codes itself.
            workers: of each server, the options of postgres_fdw: `host`, `port`, `dbname`, and `user`, `password`.
            bits: length of the codes.
            rows: how many there will be, with ids from 0.
            table: see the class.
        """
        index = cls(url, table)
        index._do("CREATE EXTENSION IF NOT EXISTS postgres_fdw")
        index._do(f"CREATE TABLE {{}} ({LISTED}) PARTITION BY RANGE (id)", table, bits=bits)
        bounds = np.linspace(0, rows, len(workers) + 1).astype(np.int64).tolist()
        for number, worker in enumerate(workers):
            user = {name: each for name, each in worker.items() if name in ("user", "password")}
            place = {name: each for name, each in worker.items() if name not in user}
            part = f"{table}_{number}"
            with cls.create(_url(worker), bits, part):
                pass  # the remote table; its own server keeps it
            index._do("CREATE SERVER {} FOREIGN DATA WRAPPER postgres_fdw OPTIONS " + index._options(place), part)
            index._do("CREATE USER MAPPING FOR CURRENT_USER SERVER {} OPTIONS " + index._options(user), part)
            low = bounds[number] if number else "MINVALUE"
            high = bounds[number + 1] if number < len(workers) - 1 else "MAXVALUE"
            index._do(
                f"CREATE FOREIGN TABLE {{}} PARTITION OF {{}} FOR VALUES FROM ({low}) TO ({high}) SERVER {{}} OPTIONS "
                "(async_capable 'true', batch_size '5000', use_remote_estimate 'false')",
                part, table, part,
            )  # fmt: skip
        index._read()
        return index

    def add(self, ids: Array, codes: Array, names: Sequence[str] | None = None) -> None:
        """Add rows.

        Args:
            ids: (N,) numbers.
            codes: (N, bytes) as `Trained.encode` gives them.
            names: N of them; none: they stay empty.
        """
        with self.connection.cursor() as cursor:
            copy = self.sql.SQL("COPY {} (id, code, name) FROM STDIN").format(self.sql.Identifier(self.table))
            with cursor.copy(copy) as out:
                for start in range(0, len(ids), BLOCK):
                    some = slice(start, start + BLOCK)
                    words = [r"\N"] * len(ids[some]) if names is None else map(_escaped, names[some])
                    rows = zip(ids[some].tolist(), self._strings(codes[some]), words, strict=True)
                    out.write("".join(f"{number}\t{code}\t{name}\n" for number, code, name in rows))
        self.connection.commit()
        self._do("ANALYZE {}", self.table)  # the planner knows then when HNSW pays

    def search(self, codes: Array, k: int = 10, among: int = EFFORT) -> Found:
        """The k nearest rows of each query, in the order (distance, id); `rows` are ids.

        Args:
            codes: (B, bytes) as they were added.
            k: hits of each query.
            among: candidates of HNSW, `hnsw.ef_search`; more find more.
        """
        rows = np.full((len(codes), k), -1, np.int64)
        distances, counts = np.zeros((len(codes), k), np.int32), np.zeros(len(codes), np.int64)
        query = self._query()
        with self.connection.cursor() as cursor:
            if self.vector:
                cursor.execute(f"SET hnsw.ef_search = {max(min(among, 1000), 1)}")
                cursor.execute("SET hnsw.iterative_scan = strict_order")
            values = {"k": k, "among": max(k, among)}
            for number, code in enumerate(self._strings(codes)):
                found = cursor.execute(query, {"q": code, **values}).fetchall()
                counts[number] = len(found)
                if found:
                    rows[number, : len(found)], distances[number, : len(found)] = zip(*found, strict=True)
        self.connection.commit()
        return Found(rows, distances, counts)

    def _query(self) -> Any:  # noqa: ANN401 - composed SQL
        """One table, or the first k of each partition: only with a LIMIT does a server send no more than k rows."""
        near = "bit_count(code # %(q)s::bit({n}))"
        if self.vector and len(self.parts) == 1:
            near = "code <~> %(q)s::bit({n})"
        one, length = f"SELECT id, ({near})::int AS distance FROM {{}} ORDER BY {near}, id LIMIT %(k)s", self.bits
        if self.graph:  # before PostgreSQL 17 the planner takes an index of distances for ORDER BY distance alone
            inner = f"SELECT id, ({near})::int AS distance FROM {{}} ORDER BY {near} LIMIT %(among)s"
            one = f"SELECT id, distance FROM ({inner}) AS near ORDER BY distance, id LIMIT %(k)s"
        parts = [self.sql.SQL(one).format(self.sql.Identifier(part), n=self.sql.Literal(length)) for part in self.parts]
        if len(parts) == 1:
            return parts[0]
        every = self.sql.SQL(" UNION ALL ").join(self.sql.SQL("({})").format(part) for part in parts)
        return self.sql.SQL("SELECT id, distance FROM ({}) AS every ORDER BY distance, id LIMIT %(k)s").format(every)

    def _read(self) -> None:
        """Length of the codes, and the partitions."""
        length = "SELECT atttypmod FROM pg_attribute WHERE attrelid = %s::regclass AND attname = 'code'"
        self.bits = int(self._one(length, self.table))
        graph = "SELECT count(*) FROM pg_indexes WHERE tablename = %s AND indexdef LIKE %s"
        self.graph = self._one(graph, self.table, "% USING hnsw %") > 0
        below = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass ORDER BY 1"
        found = self.connection.execute(below, (self.table,)).fetchall()
        self.parts = [name for (name,) in found] or [self.table]
        self.connection.commit()

    def _strings(self, codes: Array) -> Iterator[str]:
        """Each code as zeros and ones, bit 0 first."""
        if codes.ndim != 2 or codes.shape[1] != -(-self.bits // 8):
            raise UserError(f"codes of shape {codes.shape}: the table {self.table} has {self.bits} bits.")
        for code in np.unpackbits(codes, axis=1, count=self.bits, bitorder="little") + np.uint8(ord("0")):
            yield code.tobytes().decode()

    def _do(self, text: str, *names: str, **numbers: int) -> None:
        filled = text.replace("{bits}", str(numbers.get("bits", "")))
        self.connection.execute(self.sql.SQL(filled).format(*map(self.sql.Identifier, names)))
        self.connection.commit()

    def _one(self, query: str, *values: Any) -> Any:  # noqa: ANN401 - of the server
        found = self.connection.execute(query, values).fetchone()
        self.connection.commit()
        return found[0]

    def _options(self, options: Mapping[str, str]) -> str:
        pairs = [f"{name} {self.sql.Literal(each).as_string(self.connection)}" for name, each in options.items()]
        return f"({', '.join(pairs)})"


def _connected(url: str) -> tuple[Any, Any]:
    try:
        import psycopg
        from psycopg import sql
    except ImportError as error:
        raise UserError("PostgreSQL needs psycopg: `pip install 'xmodal[postgres]'`.") from error
    try:
        return sql, psycopg.connect(url)
    except psycopg.OperationalError as error:
        raise UserError(f"PostgreSQL cannot be reached: {str(error).strip().splitlines()[-1]}") from error


def _url(worker: Mapping[str, str]) -> str:
    """What psycopg connects with."""
    return " ".join(f"{name}='{each}'" for name, each in worker.items())


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace("\t", r"\t").replace("\n", r"\n").replace("\r", r"\r")
