"""Cursors and pages: streams over one point in time, and queries in pieces."""

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from documents.conftest import Collection

import memdb

Opener = Callable[..., memdb.Database]


def ids(documents: Any) -> list[Any]:
    return [one["_id"] for one in documents]


def test_a_cursor_sees_one_point_in_time(people: Collection) -> None:
    people.create_index("n")
    people.insert_many({"_id": n, "n": n} for n in range(600))
    for cursor in (people.find(), people.find({"n": {"$gte": 0}}), people.find(sort="-n")):
        first = next(cursor)
        people.insert({"_id": 1000, "n": 1000})
        people.delete(300)
        assert len(cursor.to_list()) == 599 and first["_id"] in (0, 599)
        people.delete(1000)
        people.insert({"_id": 300, "n": 300})


@pytest.mark.parametrize(
    "filter",
    [{"n": {"$in": [1, 2]}}, {"$or": [{"n": 1}, {"n": 2}]}, {"n": {"$gte": 0}}, {"n": {"$in": [2, 1]}}],
    ids=str,
)
@pytest.mark.parametrize("moved", [2, [2], [1, 2], [0, 1, 2]], ids=str)
def test_in_a_transaction_each_document_comes_once(
    engine: memdb.Database, people: Collection, filter: Any, moved: Any
) -> None:
    """Whatever the transaction does to it, or to the next ones, while the cursor stands."""
    people.create_index("n")
    people.insert_many({"_id": n, "n": [1, 2] if n % 2 else 1} for n in range(600))
    with engine.transaction() as tx:
        inside = tx.collection(people.name)
        seen = []
        for one in inside.find(filter):
            seen.append(one["_id"])
            for id in {one["_id"], (one["_id"] + 100) % 600}:
                inside.update(id, {"$set": {"n": moved}})
    assert sorted(seen) == list(range(600))


def test_skip_limit_fields_and_first(people: Collection) -> None:
    people.insert_many({"_id": n, "n": -n, "deep": {"a": n, "b": n}} for n in range(20))
    assert ids(people.find(skip=5, limit=3)) == [5, 6, 7] and people.find(limit=0).to_list() == []
    assert ids(people.find(sort="n", skip=1, limit=2)) == [18, 17]
    assert people.find({"n": -3}, fields=["deep.a"]).to_list() == [{"_id": 3, "deep": {"a": 3}}]
    assert people.find_one(fields={"deep": 0, "_id": 0}) == {"n": 0}
    cursor = people.find(sort="n")
    assert (
        cursor.first() == people.get(19) and cursor.to_list() == [] and people.find({"n": 1}).first() is None
    )
    with people.find() as cursor:
        next(cursor)
    with pytest.raises(StopIteration):
        next(cursor)
    assert cursor.explain().returned == 20
    with pytest.raises(TypeError):
        cursor.__reduce__()


def test_a_cursor_gives_its_snapshot_back(engine: memdb.Database, people: Collection) -> None:
    people.insert_many({"_id": n} for n in range(500))

    def snapshots() -> int:
        return sum(one.pins for one in engine.readers())

    before = snapshots()
    cursor = people.find()
    next(cursor)
    assert snapshots() == before + 1
    cursor.close()
    assert snapshots() == before
    left = people.find()
    next(left)
    del left
    gc.collect()
    assert snapshots() == before


def test_a_cursor_that_outlives_its_snapshot_says_so(opened: Opener) -> None:
    db = opened(snapshot_max_age=0.3)
    people = db.collection("people")
    people.insert_many({"_id": n} for n in range(1000))
    cursor = people.find()
    next(cursor)
    with db.snapshot() as as_old:
        while not as_old.closed:
            try:
                as_old.get(1)
            except memdb.SnapshotExpired:
                break
    with pytest.raises(memdb.SnapshotExpired, match="page") as caught:
        cursor.to_list()
    assert caught.value.lsn is not None and cursor.to_list() == []


def test_a_cursor_holds_no_more_than_a_batch(people: Collection) -> None:
    people.create_index("n")
    people.insert_many({"_id": n, "n": n, "text": "x" * 500} for n in range(5000))
    for cursor in (people.find(), people.find(sort="-n"), people.find({"n": {"$gte": 0}})):
        next(cursor)
        tracemalloc.start()
        for _ in cursor:
            pass
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1_500_000  # of 5 MB


@pytest.mark.parametrize("indexes", [[], ["age", "city,-age"]])
@pytest.mark.parametrize(
    "sort", [None, "age", "-age", ["city", "-age"], ["-city", "age"], ["age", "_id"], "-_id"]
)
def test_pages_are_the_whole_in_pieces(people: Collection, indexes: list[str], sort: Any) -> None:
    for index in indexes:
        people.create_index(index.split(","))
    people.insert_many({"_id": n, "age": n % 4, "city": "ABC"[n % 3]} for n in range(50))
    for filter in ({}, {"age": {"$gte": 1}}, {"city": "B"}):
        whole = ids(people.find(filter, sort="_id" if sort is None else sort))
        found: list[Any] = []
        page = people.page(filter, sort=sort, limit=7, total=True)
        assert page.total == len(whole)
        while True:
            found += ids(page.items)
            if page.next is None:
                break
            assert len(page.items) == 7
            page = people.page(filter, sort=sort, limit=7, after=page.next)
        assert found == whole


def test_a_page_goes_on_behind_its_place_whatever_was_written(people: Collection) -> None:
    people.insert_many({"_id": n, "age": n} for n in range(10))
    page = people.page(sort="age", limit=3)
    people.delete(2)  # the last one of the page
    people.insert({"_id": "x", "age": -1})
    people.create_index("age")
    page = people.page(sort="age", limit=3, after=page.next)
    assert ids(page.items) == [3, 4, 5]
    plan = people.find(sort="age").explain()
    assert plan.index == "age"
    assert people.page({"age": {"$gt": 7}}, sort="age", limit=2).next is None


def test_a_token_is_of_its_query(engine: memdb.Database, people: Collection) -> None:
    people.insert_many({"_id": n, "age": n} for n in range(10))
    token = people.page(sort="age", limit=3).next
    assert token is not None
    for call in (
        lambda: people.page(sort="-age", after=token),
        lambda: people.page(after=token),
        lambda: people.page({"age": {"$gt": 1}}, sort="age", after=token),
        lambda: engine.collection("other").page(sort="age", after=token),
        lambda: people.page(sort="age", after=token[:-2]),
        lambda: people.page(sort="age", after="ü"),
        lambda: people.page(sort="age", after=""),
    ):
        with pytest.raises(ValueError, match="after is"):
            call()


def test_summaries(people: Collection) -> None:
    people.insert_many(
        [
            {"_id": 1, "city": "Rome", "age": 30, "tags": ["a", "b"]},
            {"_id": 2, "city": "Rome", "age": 41},
            {"_id": 3, "city": "Oslo", "age": 20, "tags": "a"},
        ]
    )
    assert people.distinct("city") == ["Oslo", "Rome"] and people.distinct("tags") == ["a", "b"]
    assert people.distinct("city", {"age": {"$gt": 25}}) == ["Rome"]
    assert people.aggregate(group_by="city", oldest=("max", "age"), all=("sum", "age")) == [
        {"city": "Oslo", "oldest": 20, "all": 20},
        {"city": "Rome", "oldest": 41, "all": 71},
    ]
    assert people.count({"age": {"$gt": 25}}) == 2
