"""Codes in PostgreSQL with pgvector, on servers that this starts, beside our exact scan of the same codes.

    python benchmarks/search_postgres.py [--size 1000000] [--bits 64] [--kinds flat,hnsw,2] [--csv FILE]

A number among the kinds is that of servers that share the table; one more is asked. One query at a time over a socket,
20 of them: the median of the wall time, and the processor time of all servers by Linux's own account.
"""

import argparse
import contextlib
import csv
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from psycopg.conninfo import make_conninfo

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.postgres import installed, server, with_pgvector

from search import K, codes  # beside this file
from xmodal.search.engine import Engine, build
from xmodal.search.postgres import PostgresIndex


def wall(work: Callable[[np.ndarray], object], queries: np.ndarray) -> float:
    """Milliseconds of a query."""
    found = []
    for query in queries:
        start = time.perf_counter()
        work(query[None])
        found.append(time.perf_counter() - start)
    return 1000 * statistics.median(found)


def spent(indexes: Sequence[PostgresIndex]) -> float:
    """Milliseconds of the processor that the servers' processes have taken, those that have ended included."""
    nanoseconds = 0
    backends = [Path(f"/proc/{index._one('SELECT pg_backend_pid()')}/stat").read_text() for index in indexes]
    for parent in {stat.rpartition(")")[2].split()[1] for stat in backends}:
        numbers = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()
        nanoseconds += sum(map(int, numbers[13:15])) * 10**9 // os.sysconf("SC_CLK_TCK")  # of children that have ended
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            nanoseconds += int(Path(f"/proc/{child}/schedstat").read_text().split()[0])
    return nanoseconds / 1e6


def started(kind: str, bits: int, rows: int, stack: contextlib.ExitStack) -> tuple[PostgresIndex, list[PostgresIndex]]:
    """The table that is asked, and those that hold the codes."""

    def login() -> dict[str, str]:
        binaries = installed() if kind.isdigit() else with_pgvector()  # whose wheel has no postgres_fdw
        return {"host": str(stack.enter_context(server(binaries))), "user": "xmodal", "dbname": "postgres"}

    url = make_conninfo(**login())
    if not kind.isdigit():
        index = stack.enter_context(PostgresIndex.create(url, bits, kind, kind))
        return index, [index]
    workers = [login() for _ in range(int(kind))]
    index = stack.enter_context(PostgresIndex.distribute(url, workers, bits, rows))
    held = zip(workers, index.parts, strict=True)
    return index, [stack.enter_context(PostgresIndex(make_conninfo(**worker), part)) for worker, part in held]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1_000_000)
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--kinds", default="flat,hnsw,2")
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    centres = rng.integers(0, 256, (options.size // 20, options.bits // 8), np.uint8)
    rows, queries = (codes(size, options.bits, rng, centres) for size in (options.size, 20))
    exact = Engine.of(build("flat", rows, progress=False), "flat")
    wanted, ours = exact.search(queries, K), wall(lambda query: exact.search(query, K), queries)
    out = []
    for kind in options.kinds.split(","):
        with contextlib.ExitStack() as stack:
            index, held = started(kind, options.bits, options.size, stack)
            start = time.perf_counter()
            index.add(np.arange(options.size), rows)
            built, found = time.perf_counter() - start, index.search(queries, K)
            size = sum(each._one("SELECT pg_total_relation_size(quote_ident(%s))", each.table) for each in held)
            before = spent([index, *held])
            took = wall(lambda query, index=index: index.search(query, K), queries)
            work = (spent([index, *held]) - before) / len(queries)
            out.append({
                "size": options.size, "bits": options.bits, "kind": f"{kind} servers" if kind.isdigit() else kind,
                "load_s": round(built, 1), "table_mib": round(size / 2**20),
                "recall": float((found.distances <= wanted.distances[:, -1:]).mean()),
                "same_order": bool((found.rows == wanted.rows).all()), "ours_1_ms": round(ours, 3),
                "postgres_1_ms": round(took, 3), "postgres_cpu_ms": round(work, 3),
            })  # fmt: skip
            print(out[-1], file=sys.stderr, flush=True)
    target = options.csv.open("a", newline="") if options.csv else sys.stdout
    writer = csv.DictWriter(target, list(out[0]))
    if not options.csv or target.tell() == 0:
        writer.writeheader()
    writer.writerows(out)


if __name__ == "__main__":
    main()
