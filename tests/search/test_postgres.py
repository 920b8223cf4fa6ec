"""Codes in PostgreSQL against FAISS: the same hits in the same order, on one server and on two."""

import contextlib

import numpy as np
import pytest

from tests.postgres import PSYCOPG, installed, server, with_pgvector
from xmodal.errors import UserError
from xmodal.search.engine import Engine, build
from xmodal.search.postgres import PostgresIndex

pytest.importorskip("psycopg", reason=PSYCOPG)
RNG = np.random.default_rng(0)
CODES = RNG.integers(0, 256, (4000, 3), np.uint8)
CODES[:, 2] &= 0x0F  # 20 bits: many at every distance
QUERIES = np.concatenate([CODES[:5], RNG.integers(0, 256, (5, 3), np.uint8) & np.array([255, 255, 15], np.uint8)])


@pytest.fixture(scope="module")
def vector():
    """Connection words of a server with pgvector."""
    with server(with_pgvector()) as folder:
        yield f"host='{folder}' user=xmodal dbname=postgres"


def exact(k):
    return Engine.of(build("flat", CODES, progress=False), "flat").search(QUERIES, k)


def explained(index, values):
    found = index.connection.execute(index.sql.SQL("EXPLAIN (VERBOSE) ") + index._query(), values)
    return "\n".join(line for (line,) in found)


@pytest.mark.parametrize("k", [1, 10, 300])
def test_pgvector_gives_the_order_of_faiss(vector, k):
    with contextlib.suppress(UserError), PostgresIndex.create(vector, 20, "flat") as made:  # by the first of these
        made.add(np.arange(4000), CODES, [f"item\t{row}\\" for row in range(4000)])
    with PostgresIndex(vector, "flat") as index:
        assert (index.bits, index.vector, index.parts) == (20, True, ["flat"])
        found = index.search(QUERIES, k)
        assert found.rows.tolist() == exact(k).rows.tolist()
        assert found.distances.tolist() == exact(k).distances.tolist()
        assert (found.counts == k).all()
        assert index._one("SELECT name FROM flat WHERE id = 7") == "item\t7\\"


def test_hnsw_is_ordered_and_near(vector):
    with PostgresIndex.create(vector, 20, "graph", "hnsw") as index:
        index.add(np.arange(4000), CODES)
        index.connection.execute("SET enable_seqscan = off")  # 4,000 rows are read faster than a graph is walked
        found, wanted = index.search(QUERIES, 10, among=400), exact(10)
        asked = {"q": "0" * 20, "k": 10, "among": 400}
        plan = explained(index, asked)
    assert "Index Scan using graph_code_idx" in plan, plan
    assert (found.distances == wanted.distances).mean() > 0.95  # recall by distance: many share the last one
    for rows, distances in zip(found.rows, found.distances, strict=True):
        assert (np.diff(distances.astype(np.int64) * 4000 + rows) > 0).all()


def test_two_servers_answer_as_one(vector):
    with contextlib.ExitStack() as stack:
        asked, one, two = (stack.enter_context(server(installed())) for _ in range(3))
        workers = [{"host": str(folder), "dbname": "postgres", "user": "xmodal"} for folder in (one, two)]
        url = f"host='{asked}' user=xmodal dbname=postgres"
        index = stack.enter_context(PostgresIndex.distribute(url, workers, 20, len(CODES)))
        index.add(np.arange(4000), CODES)
        for folder, low, high in ((one, 0, 1999), (two, 2000, 3999)):
            with PostgresIndex(f"host='{folder}' user=xmodal dbname=postgres", index.parts[low > 0]) as part:
                assert part._one(f"SELECT array_agg(x) FROM (SELECT min(id) x FROM {part.table} UNION SELECT max(id) "
                                 f"FROM {part.table} ORDER BY 1) y") == [low, high]  # fmt: skip
        found = index.search(QUERIES, 50)
        assert found.rows.tolist() == exact(50).rows.tolist()
        again = stack.enter_context(PostgresIndex(url))
        assert again.parts == ["codes_0", "codes_1"]
        assert again.search(QUERIES, 5).rows.tolist() == exact(5).rows.tolist()
        plan = explained(again, {"q": "0" * 20, "k": 5})
        assert plan.count("Remote SQL") == plan.count("LIMIT 5") == 2, plan  # each server sends its first five


def test_a_server_with_pgvector_and_one_without_share_a_table(vector):
    with server(installed()) as asked:
        place = vector.split("'")[1]
        worker = {"host": place, "dbname": "postgres", "user": "xmodal"}
        url = f"host='{asked}' user=xmodal dbname=postgres"
        with PostgresIndex.distribute(url, [worker], 20, len(CODES), "mixed") as index:
            index.add(np.arange(4000), CODES)
            assert index.search(QUERIES, 20).rows.tolist() == exact(20).rows.tolist()


def test_what_is_wrong_is_said(vector):
    with pytest.raises(UserError, match="PostgreSQL cannot be reached"):
        PostgresIndex("host=/nowhere user=xmodal")
    with PostgresIndex.create(vector, 20, "wrong"):
        pass
    with pytest.raises(UserError, match="there is a table wrong already"):
        PostgresIndex.create(vector, 20, "wrong")
    with pytest.raises(UserError, match="kind is 'ivf'"):
        PostgresIndex.create(vector, 20, "other", "ivf")
    with PostgresIndex(vector, "wrong") as index, pytest.raises(UserError, match="the table wrong has 20 bits"):
        index.search(np.zeros((1, 8), np.uint8))
