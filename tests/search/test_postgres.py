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


def exact(k, size=len(CODES)):
    return Engine.of(build("flat", CODES[:size], progress=False), "flat").search(QUERIES, k)


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
        index.add(np.arange(800), CODES[:800])
        index.connection.execute("SET enable_seqscan = off")  # 800 rows are read faster than a graph is walked
        found, wanted = index.search(QUERIES, 10, among=200), exact(10, 800)
        asked = {"q": "0" * 20, "k": 10, "among": 200}
        plan = explained(index, asked)
    assert "Index Scan using graph_code_idx" in plan, plan
    assert (found.distances == wanted.distances).mean() > 0.95  # recall by distance: many share the last one
    for rows, distances in zip(found.rows, found.distances, strict=True):
        assert (np.diff(distances.astype(np.int64) * 4000 + rows) > 0).all()


def test_two_servers_answer_as_one_one_of_them_with_pgvector(vector):
    table, password = 'My "codes" {100%}', """a {brace} 'quote' "two" 100% \\ end"""
    with contextlib.ExitStack() as stack:
        asked, one = (stack.enter_context(server(installed())) for _ in range(2))
        two = vector.split("'")[1]
        login = {"dbname": "postgres", "user": "xmodal", "password": password}
        workers = [{"host": str(folder), **login} for folder in (one, two)]
        url = f"host='{asked}' user=xmodal dbname=postgres"
        with pytest.raises(UserError, match="PostgreSQL cannot be reached"):
            PostgresIndex.distribute(url, [workers[0], {"host": "/nowhere", **login}], 20, len(CODES), table)
        index = stack.enter_context(PostgresIndex.distribute(url, workers, 20, len(CODES), table))  # none was left
        options = index._one("SELECT array_agg(umoptions::text[]) FROM pg_user_mappings")
        assert options == [["user=xmodal", f"password={password}"]] * 2
        index.add(np.arange(4000), CODES)
        for folder, low, high in ((one, 0, 1999), (two, 2000, 3999)):
            with PostgresIndex(f"host='{folder}' user=xmodal dbname=postgres", index.parts[low > 0]) as part:
                held = part.sql.SQL("SELECT min(id), max(id) FROM {}").format(part.sql.Identifier(part.table))
                assert part.connection.execute(held).fetchone() == (low, high)
        found = index.search(QUERIES, 50)
        assert found.rows.tolist() == exact(50).rows.tolist()
        again = stack.enter_context(PostgresIndex(url, table))
        assert again.parts == [f"{table}_0", f"{table}_1"]
        assert again.search(QUERIES, 5).rows.tolist() == exact(5).rows.tolist()
        plan = explained(again, {"q": "0" * 20, "k": 5})
        assert plan.count("Remote SQL") == plan.count("LIMIT 5") == 2, plan  # each server sends its first five


def test_what_is_wrong_is_said(vector):
    with pytest.raises(UserError, match="PostgreSQL cannot be reached"):
        PostgresIndex("host=/nowhere user=xmodal")
    with PostgresIndex.create(vector, 20, "wrong"):
        pass
    with pytest.raises(UserError, match="there is a table wrong already"):
        PostgresIndex.create(vector, 20, "wrong")
    with pytest.raises(UserError, match="kind is 'ivf'"):
        PostgresIndex.create(vector, 20, "other", "ivf")
    with PostgresIndex(vector, "wrong") as index:
        with pytest.raises(UserError, match="the table wrong has 20 bits"):
            index.search(np.zeros((1, 8), np.uint8))
        with pytest.raises(UserError, match=r"PostgreSQL refuses: duplicate key value .*\.$"):
            index.add(np.array([1, 1]), CODES[:2])
        assert index.search(QUERIES[:1]).counts.tolist() == [0]  # all of an `add` or nothing
        index.connection.execute("CREATE TABLE other (code text)")
    with pytest.raises(UserError, match="the table other has no column code of bits"):
        PostgresIndex(vector, "other")
    with PostgresIndex(vector, "Wrong") as index, pytest.raises(UserError, match="there is no table Wrong"):
        index.search(QUERIES)


def test_a_pgvector_without_distances_of_bits_is_not_asked_for_them(vector):
    with PostgresIndex(vector) as index:
        index.connection.execute("CREATE DATABASE old")
    old = vector.replace("dbname=postgres", "dbname=old")
    with PostgresIndex.create(old, 20) as index:  # brings the extension
        index.connection.execute("UPDATE pg_extension SET extversion = '0.6.0' WHERE extname = 'vector'")
    with pytest.raises(UserError, match=r"this server has pgvector 0\.6\.0, and hnsw needs 0\.8"):
        PostgresIndex.create(old, 20, "graph", "hnsw")
    with PostgresIndex(old) as index:
        index.add(np.arange(4000), CODES)
        assert "bit_count" in explained(index, {"q": "0" * 20, "k": 5})
        assert index.search(QUERIES, 20).rows.tolist() == exact(20).rows.tolist()
