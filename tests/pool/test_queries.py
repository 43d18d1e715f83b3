"""Queries through the reader pool find what they find without it."""

import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from documents import random_queries

import memdb
from memdb import pool
from memdb.actors import wire
from memdb.documents import parallel, reading, reads

DOCUMENTS = 1500


def have_readers(db: memdb.Database) -> bool:
    sockets = db._attachment.reader_sockets(8, [])
    for _, sock in sockets:
        sock.close()
    return len(sockets) == db._attachment.options.query_workers


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[memdb.Database]:
    place = tmp_path_factory.mktemp("queries") / "data"
    with memdb.open(place, linger=0.0, max_memory="64MiB", query_workers=2) as db:
        rng = random.Random(5)
        db.collection("people").insert_many(
            {"_id": n, "at": n, **random_queries.document(rng)} for n in range(DOCUMENTS)
        )
        deadline = time.monotonic() + 20
        while not have_readers(db):
            assert time.monotonic() < deadline
            os.sched_yield()
        yield db


@pytest.fixture
def people(crowd: memdb.Database) -> memdb.Collection[dict[str, Any]]:
    return crowd.collection("people")


@pytest.fixture(autouse=True)
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """The readers are asked after a hundred documents, for parts of a hundred."""
    monkeypatch.setattr(pool, "PART_KEYS", 100)
    monkeypatch.setattr(reading, "_ALONE", 100)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], Any]:
    """Calls as if there were no reader."""

    def call(ask: Callable[[], Any]) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(reading, "has_readers", lambda source: False)
            patch.setattr(reads, "has_readers", lambda source: False)
            return ask()

    return call


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, pool._Part]]:
    """The parts, and who did them: reader or caller."""
    seen: list[tuple[str, pool._Part]] = []
    ask, alone = pool._Scan._ask, pool._Scan._alone

    def asked(self: pool._Scan, lane: pool._Lane, part: pool._Part) -> None:
        seen.append((lane.role, part))
        ask(self, lane, part)

    def done_here(self: pool._Scan, part: pool._Part) -> Iterator[Any]:
        seen.append(("caller", part))
        return alone(self, part)

    monkeypatch.setattr(pool._Scan, "_ask", asked)
    monkeypatch.setattr(pool._Scan, "_alone", done_here)
    return seen


@pytest.mark.parametrize("seed", range(25))
def test_the_same_is_found(
    people: memdb.Collection[dict[str, Any]], seed: int, without: Callable[[Callable[[], Any]], Any]
) -> None:
    filter = random_queries.filter_of(random.Random(seed))

    def asked() -> list[Any]:
        return [
            people.find(filter).to_list(),
            people.find(filter, skip=20, limit=300).to_list(),
            people.find(filter, sort=["at"], limit=50, fields=["at"]).to_list(),
            people.find_one(filter),
            people.count(filter),
            people.distinct("at", filter),
            people.aggregate(filter, n="count", last=("max", "at")),
            people.explain(filter),
            people.page(filter, limit=40, total=True),
        ]

    assert asked() == without(asked)


def test_all_readers_work_at_it_and_nobody_else(
    people: memdb.Collection[dict[str, Any]], parts: list[tuple[str, pool._Part]]
) -> None:
    assert people.find({"at": {"$mod": [2, 0]}}).to_list() == people.find({"_id": {"$mod": [2, 0]}}).to_list()
    assert {role for role, _ in parts} == {"reader-1", "reader-2"}
    parts.clear()
    assert people.count({"at": {"$mod": [2, 0]}}) == DOCUMENTS // 2
    assert {role for role, _ in parts} == {"reader-1", "reader-2"}


def test_what_ends_early_asks_no_reader(
    people: memdb.Collection[dict[str, Any]], parts: list[tuple[str, pool._Part]]
) -> None:
    assert people.find_one({"at": 7}) is not None
    assert people.find({"at": {"$lt": 50}}, limit=10).to_list()
    with people.find({"at": {"$gte": 10}}) as cursor:
        next(cursor)
    assert parts == []


def test_a_transaction_reads_its_own_writes_by_itself(
    crowd: memdb.Database, people: memdb.Collection[dict[str, Any]], parts: list[tuple[str, pool._Part]]
) -> None:
    with crowd.transaction() as tx:
        mine = tx.collection("people")
        mine.update(7, {"$set": {"at": -1}})
        assert mine.count({"at": -1}) == 1 and people.count({"at": -1}) == 0
        parts.clear()
        assert [one["_id"] for one in mine.find({"at": -1})] == [7] and parts == []
        tx.abort()


def test_a_filter_too_long_to_be_asked_for_is_compiled_once(
    people: memdb.Collection[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[bytes] = []
    make = parallel._make_filter

    def counted(arguments: bytes) -> pool.Evaluate:
        made.append(arguments)
        return make(arguments)

    monkeypatch.setattr(parallel, "_make_filter", counted)
    monkeypatch.setattr(wire, "REQUEST_MAX", 500)
    wanted = list(range(0, DOCUMENTS, 3))
    assert [one["at"] for one in people.find({"at": {"$in": wanted}})] == wanted
    assert len(made) == 1
    assert people.count({"at": {"$in": wanted}}) == len(wanted) and len(made) == 2
