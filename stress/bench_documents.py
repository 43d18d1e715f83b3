"""The figures of collections: inserts, look-ups, ranges, scans, beside SQLite, TinyDB, mongomock and redis.

Needs the extra `bench`; a row whose peer is not installed is left out, with a remark. Every peer gives
documents as Python dicts, as memdb does: SQLite and redis hold JSON, which is part of their time.
"""

from __future__ import annotations

import importlib
import json
import random
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import memdb
from stress import load
from stress.bench import Bench, RowFunction
from stress.measure import Row, paired
from stress.peers import redis_client

Document = dict[str, Any]

_BATCH = 1000
_SCAN_FILTER = {"score": {"$gt": 990.0}, "city": {"$in": ["city 1", "city 2", "city 3"]}}


def documents(count: int, seed: int = 1) -> Iterator[Document]:
    """`count` documents of ten fields; `email` and `serial` are of one each."""
    source = random.Random(seed)
    for number in range(count):
        yield {
            "email": f"user{seed}-{number}@example.org",
            "serial": seed * 100_000_000 + number,
            "name": f"User number {number}",
            "age": source.randrange(18, 90),
            "city": f"city {source.randrange(50)}",
            "score": source.random() * 1000,
            "active": source.random() < 0.5,
            "tags": ["red", "green", "blue"][: source.randrange(4)],
            "address": {"street": f"Street {source.randrange(1000)}", "zip": source.randrange(100_000)},
            "note": "x" * 40,
        }


def _batches(count: int, seed: int) -> list[list[Document]]:
    stream = documents(count, seed)
    return list(iter(lambda: list(islice(stream, _BATCH)), []))


def _peer(name: str) -> Any:
    """An optional module; None, with a remark, where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"{name} is not installed: its rows are left out", file=sys.stderr)
        return None


# -------------------------------------------------------------------------------------------- the engines


@contextmanager
def collection(place: Path, **options: Any) -> Iterator[memdb.Collection[Document]]:
    """A collection with the two indexes."""
    with memdb.open(place, linger=0, max_memory="2GiB", **options) as database:
        users = database.collection("users")
        users.create_index("email", unique=True)
        users.create_index("serial")
        yield users


class Sqlite:
    """The same as a JSON column with two expression indexes; WAL, synchronous=NORMAL."""

    def __init__(self, place: Path) -> None:
        self._connection = sqlite3.connect(place, isolation_level=None)
        for statement in (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=NORMAL",
            "CREATE TABLE users (id INTEGER PRIMARY KEY, doc TEXT)",
            "CREATE UNIQUE INDEX email ON users (json_extract(doc, '$.email'))",
            "CREATE INDEX serial ON users (json_extract(doc, '$.serial'))",
        ):
            self._connection.execute(statement)

    def insert_many(self, some: list[Document]) -> None:
        """One transaction."""
        self._connection.execute("BEGIN")
        rows = ((json.dumps(one),) for one in some)
        self._connection.executemany("INSERT INTO users (doc) VALUES (?)", rows)
        self._connection.execute("COMMIT")

    def find_one(self, email: str) -> Document:
        """By the unique index."""
        statement = "SELECT doc FROM users WHERE json_extract(doc, '$.email') = ?"
        found: Document = json.loads(self._connection.execute(statement, (email,)).fetchone()[0])
        return found

    def range(self, start: int) -> list[Document]:
        """A thousand of them."""
        serial = "json_extract(doc, '$.serial')"
        statement = f"SELECT doc FROM users WHERE {serial} >= ? AND {serial} < ?"
        return [json.loads(row[0]) for row in self._connection.execute(statement, (start, start + 1000))]

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()


# ----------------------------------------------------------------------------------------------- the rows


def _inserted(insert_many: Callable[[list[Document]], object], count: int) -> Callable[[int], float]:
    """Seconds a document of a round, which inserts documents of its own."""

    def measure(number: int) -> float:
        batches = _batches(count, number + 10)
        start = perf_counter_ns()
        for batch in batches:
            insert_many(batch)
        return (perf_counter_ns() - start) / 1e9 / count

    return measure


def insert(bench: Bench) -> Iterator[Row]:
    """Documents of ten fields, two indexes, in batches of a thousand."""
    count = max(bench.count(10_000), _BATCH)
    what = "insert of a 10-field document with 2 indexes, batches of 1,000"
    with (
        collection(bench.directory("insert")) as users,
        closing(Sqlite(bench.directory("insert.db"))) as sqlite,
    ):
        mine, theirs, ratio = paired(
            _inserted(users.insert_many, count), _inserted(sqlite.insert_many, count), rounds=5
        )
        if not users.check().ok:
            raise RuntimeError("the indexes do not equal the collection")
    yield Row("insert", what, mine, "s", theirs, "SQLite", ratio, 0.5)
    tinydb = _peer("tinydb")
    if tinydb is None:
        return
    with collection(bench.directory("insert-tiny")) as users:
        table = tinydb.TinyDB(bench.directory("insert.json"))
        mine, theirs, ratio = paired(
            _inserted(users.insert_many, count), _inserted(table.insert_multiple, count), rounds=3
        )
        table.close()
    yield Row("insert-tinydb", what, mine, "s", theirs, "TinyDB", ratio, 1 / 20)


def find_one(bench: Bench) -> Iterator[Row]:
    """By the value of a unique index."""
    count = bench.count(100_000)
    emails = [one["email"] for one in documents(count)]

    def some(number: int) -> list[str]:
        return random.Random(number).choices(emails, k=5000)

    what = f"`find_one` by a unique index, {count:,} documents"
    with (
        collection(bench.directory("find-one")) as users,
        closing(Sqlite(bench.directory("find-one.db"))) as sqlite,
        redis_client(bench.directory("find-one-redis")) as client,
    ):
        for batch in _batches(count, 1):
            users.insert_many(batch)
            sqlite.insert_many(batch)
            if client is not None:
                client.mset({one["email"]: json.dumps(one) for one in batch})

        def mine(email: str) -> object:
            return users.find_one({"email": email})

        ours, theirs, ratio = paired(
            lambda number: load.timed(mine, some(number)),
            lambda number: load.timed(sqlite.find_one, some(number)),
            rounds=11,
        )
        yield Row("find-one", what, ours, "s", theirs, "SQLite", ratio, 0.5)
        if client is not None:
            ours, theirs, ratio = paired(
                lambda number: load.timed(mine, some(number)),
                lambda number: load.timed(lambda email: json.loads(client.get(email)), some(number)),
                rounds=5,
            )
            yield Row("find-one-redis", what, ours, "s", theirs, "redis-py, unix socket", ratio, 1 / 10)


def index_range(bench: Bench) -> Iterator[Row]:
    """A thousand documents by a range of an index."""
    count = max(bench.count(100_000), 2 * _BATCH)
    first = 100_000_000

    def starts(number: int) -> list[int]:
        return [first + random.Random(number + at).randrange(count - 1000) for at in range(20)]

    with (
        collection(bench.directory("range")) as users,
        closing(Sqlite(bench.directory("range.db"))) as sqlite,
    ):
        for batch in _batches(count, 1):
            users.insert_many(batch)
            sqlite.insert_many(batch)

        def mine(start: int) -> list[Document]:
            return users.find({"serial": {"$gte": start, "$lt": start + 1000}}).to_list()

        if [len(mine(first)), len(sqlite.range(first))] != [1000, 1000]:
            raise RuntimeError("a range has not the documents that it should have")
        ours, theirs, ratio = paired(
            lambda number: load.timed(mine, starts(number)),
            lambda number: load.timed(sqlite.range, starts(number)),
            rounds=11,
        )
    yield Row("range-documents", "range of 1,000 documents by index", ours, "s", theirs, "SQLite", ratio, 0.7)


def scan(bench: Bench) -> Iterator[Row]:
    """A filter that no index helps with: alone, and with two readers."""
    count = bench.count(100_000)
    batches = _batches(count, 1)

    def timed(users: Any) -> Callable[[int], float]:
        return lambda _: load.timed(lambda filter: list(users.find(filter)), [_SCAN_FILTER])

    what = f"filter over {count:,} documents, no index"
    with (
        collection(bench.directory("scan")) as alone,
        collection(bench.directory("scan-readers"), query_workers=2) as pooled,
    ):
        for batch in batches:
            alone.insert_many(batch)
            pooled.insert_many(batch)
        if sorted(one["serial"] for one in alone.find(_SCAN_FILTER)) != sorted(
            one["serial"] for one in pooled.find(_SCAN_FILTER)
        ):
            raise RuntimeError("the readers have found something else")
        ours, theirs, ratio = paired(timed(alone), timed(pooled), rounds=5)
        yield Row("scan", what, theirs, "s", ours, "query_workers=0", ratio, 1.6, "more")
        mongomock = _peer("mongomock")
        if mongomock is None:
            return
        table = mongomock.MongoClient().db.users
        for batch in batches:
            table.insert_many([dict(one) for one in batch])
        ours, theirs, ratio = paired(timed(pooled), timed(table), rounds=3)
        yield Row("scan-mongomock", what, ours, "s", theirs, "mongomock", ratio, 1 / 5)


ROWS: dict[str, RowFunction] = {
    "documents-insert": insert,
    "documents-find-one": find_one,
    "documents-range": index_range,
    "documents-scan": scan,
}
