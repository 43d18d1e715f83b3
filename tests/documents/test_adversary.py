"""What somebody does who means no good, or does not know better: each of these once left an index that did
not equal its collection, half of a refused call, or an error that says nothing."""

import re
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any

import pytest
from documents.conftest import Collection
from documents.key_functions import length

import memdb
from memdb import values
from memdb.documents import building, parsing
from memdb.documents.filters import compile_filter
from memdb.documents.indexes import IndexDefinition
from memdb.documents.operands import shown

MEGABYTE = 1 << 20


def ids(found: Any) -> list[Any]:
    return [one["_id"] for one in found]


# ------------------------------------------------------------------------------- unique entries


def test_who_passes_through_the_value_of_another_leaves_it_its_entry(people: Collection) -> None:
    people.create_index("u", unique=True)
    people.insert_many([{"_id": 1, "u": "a"}, {"_id": 2, "u": "b"}])
    people.update_many([(1, {"u": "b"}), (1, {"u": "c"})])
    people.update_many([(9, {"u": "b"}), (9, {"u": "d"})], upsert=True)
    assert people.find_one({"u": "b"}) == {"_id": 2, "u": "b"} and people.check().ok
    # Whoever has given a value up has: also to one that passes on.
    people.update_many([(2, {"u": "e"}), (1, {"u": "b"}), (1, {"u": "f"})])
    assert people.find_one({"u": "b"}) is None and people.check().ok
    people.update_many([(1, {"u": "e"}), (2, {"u": "f"})])  # they change places
    assert people.check().ok
    with pytest.raises(memdb.DuplicateKeyError):
        people.update_many([(1, {"u": "d"}), (1, {"u": "g"}), (2, {"u": "d"})])
    assert people.find_one({"u": "e"}) == {"_id": 1, "u": "e"}


@pytest.mark.parametrize("how", ["update", "delete", "give", "expire"])
def test_a_value_in_two_documents_while_their_unique_index_is_built(people: Collection, how: str) -> None:
    """The build has not met the older one yet; what happens to that leaves the entry of the newer alone."""
    people.insert_many({"_id": n, "u": n} for n in range(1500))
    done: list[str] = []

    def meanwhile(passed: int, total: int) -> None:
        if done:
            return
        done.append(how)
        people.insert({"_id": -1, "u": 1400})
        if how == "update":
            people.update(1400, {"u": "other"})
        elif how == "delete":
            people.delete(1400)
        elif how == "give":  # to another one than has it
            with pytest.raises(memdb.DuplicateKeyError):
                people.update_many([(5, {"u": 1400}), (1400, {"u": "other"})])
            people.update(1400, {"u": "other"})
        else:
            people.update(1400, {"x": 1}, ttl=1000)
            people.delete(-1)

    people.create_index("u", unique=True, progress=meanwhile)
    assert done and people.check().ok
    found = people.find_one({"u": 1400}, fields=["u"])
    assert found == {"_id": 1400 if how == "expire" else -1, "u": 1400}


# --------------------------------------------------------------------------------------- building an index


def test_a_build_does_not_go_on_in_a_collection_of_the_same_name(
    engine: memdb.Database, people: Collection
) -> None:
    """The other one has numbers from 1 again, and its ids lie behind those of the first one."""
    people.insert_many({"u": n} for n in range(1500))
    done: list[int] = []

    def meanwhile(passed: int, total: int) -> None:
        if not done:
            done.append(passed)
            engine.drop_collection(people.name)
            people.insert_many({"u": n} for n in range(500))
            engine.transact(lambda tx: building.define(tx, people.name, wanted, lambda index: None))

    wanted = IndexDefinition("u", (("u", False),))
    with pytest.raises(memdb.IndexMismatch, match="dropped"):
        people.create_index("u", progress=meanwhile)
    assert [index.ready for index in people.indexes()] == [False]  # that of another builder
    assert people.create_index("u") == "u" and people.count({"u": {"$gte": 0}}) == 500


# ------------------------------------------------------------------------------- all or nothing


def test_a_refused_call_of_a_large_transaction_does_nothing(
    engine: memdb.Database, people: Collection
) -> None:
    """What grows comes before what shrinks, so the whole has room and a part of it has none."""
    with engine.transaction() as tx:
        inside = tx.collection(people.name)
        inside.insert_many({"_id": n, "x": b"x" * (MEGABYTE - 100)} for n in range(30))
        inside.insert_many({"_id": n, "x": 1} for n in (100, 101))
        grow: list[Any] = [(n, {"x": b"y" * (MEGABYTE - 200)}) for n in (101, 102, 103)]
        shrink: list[Any] = [(n, {"x": 1}) for n in range(3)]
        inside.update_many([(100, {"x": 2}), *grow, *shrink], upsert=True)
        assert inside.get(100) == {"_id": 100, "x": 2} and inside.get(2) == {"_id": 2, "x": 1}
        before = inside.find().to_list()
        with pytest.raises(memdb.TransactionTooLarge):
            inside.update_many([(100, {"x": 3}), *((n, grow[0][1]) for n in range(104, 110))], upsert=True)
        assert inside.find().to_list() == before
        tx.abort()


# ------------------------------------------------------------------------------- what indexes are asked


def test_elem_match_finds_no_scalar_by_an_index(people: Collection) -> None:
    people.create_index("a")
    people.insert_many([{"_id": 1, "a": 5}, {"_id": 2, "a": [5]}, {"_id": 3, "a": [4]}])
    for filter, wanted in (
        ({"a": {"$elemMatch": {"$gt": 3}}}, [2, 3]),
        ({"a": {"$elemMatch": {"$gt": 3, "$mod": [2, 0]}}}, [3]),
        ({"a": {"$elemMatch": {"$eq": 5}}}, [2]),
    ):
        assert sorted(ids(people.find(filter))) == wanted and people.count(filter) == len(wanted)


def test_a_partial_index_by_a_union_inside_of_elem_match_is_not_taken_for_less(people: Collection) -> None:
    people.insert_many([{"_id": n, "a": [{"x": 1, "y": n}], "k": 1} for n in (1, 5)])
    people.create_index("k", where={"a": {"$elemMatch": {"x": 1, "$or": [{"y": 1}, {"y": 2}]}}})
    people.create_index("k", name="by true", where={"a": {"$elemMatch": {"x": True}}})
    assert sorted(ids(people.find({"k": 1, "a": {"$elemMatch": {"x": 1}}}))) == [1, 5]
    people.create_index("k", name="by one", where={"a": {"$elemMatch": {"x": 1}}})
    assert people.explain({"k": 1, "a": {"$elemMatch": {"x": 1.0}}}).index == "by one"


def test_a_filter_of_documents_may_name_a_field_before_its_or(people: Collection) -> None:
    people.insert({"_id": 1, "a": [{"x": 1, "y": 2}, {"x": 1, "y": 3}, {"x": 2, "y": 2}]})
    both = {"x": 1, "$or": [{"y": 2}, {"y": 9}]}
    assert people.count({"a": {"$elemMatch": both}}) == 1
    assert people.update(1, {"$pull": {"a": both}})["a"] == [{"x": 1, "y": 3}, {"x": 2, "y": 2}]
    for wrong in ({"x": 1, "$gt": 5}, {"$gt": 5, "x": 1}):
        with pytest.raises(memdb.InvalidFilter):
            people.count({"a": {"$elemMatch": wrong}})


def test_an_index_by_another_filter_is_another_index(people: Collection) -> None:
    people.create_index("a", where={"x": True, "y": {"$gt": 1, "$lt": 5}, "z": {"p": 1, "q": 2}})
    people.create_index("a", where={"y": {"$lt": 5.0, "$gt": 1}, "z": {"p": 1, "q": 2}, "x": True})
    for other in (
        {"x": 1, "y": {"$gt": 1, "$lt": 5}, "z": {"p": 1, "q": 2}},
        {"x": True, "y": {"$gt": 1, "$lt": 5}, "z": {"q": 2, "p": 1}},
        {"x": True, "y": {"$gt": True, "$lt": 5}, "z": {"p": 1, "q": 2}},
    ):
        with pytest.raises(memdb.IndexMismatch):
            people.create_index("a", where=other)


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_a_partial_index_sees_documents_as_they_are_stored(people: Collection, kind: Any) -> None:
    people.create_index("a", where={"a": b"x"})
    people.create_index("by kind", key=lambda document: type(document.get("a")).__name__)
    people.insert({"_id": 1, "a": kind(b"x")})
    people.insert_many([{"a": kind(b"y")}, {"_id": 2}])
    people.update(2, {"$set": {"a": kind(b"x")}})
    assert ids(people.find({"a": b"x"})) == [1, 2] and people.check().ok
    assert len(people.index("by kind").find("bytes").to_list()) == 3


def test_the_function_of_an_index_that_was_given_up_serves_no_other(
    engine: memdb.Database, people: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    people.insert({"_id": 1, "name": "Ada"})
    with engine.transaction() as tx:
        tx.collection(people.name).create_index("wrong", key=lambda document: "wrong")
        tx.abort()
    known = dict(memdb.documents.indexes._functions)
    people.create_index("by length", key=length)
    # Another process has made that one: here it is found by its name.
    monkeypatch.setattr(memdb.documents.indexes, "_functions", known)
    people.insert({"_id": 2, "name": "Bob"})
    assert len(people.index("by length").find(3).to_list()) == 2


# ------------------------------------------------------------------------------- ids


def test_an_id_that_is_equal_and_another_key_is_no_id_of_the_document(people: Collection) -> None:
    people.insert_many([{"_id": (1,)}, {"_id": 0.0}, {"_id": "a"}])
    for id, other in (((1,), (True,)), ((1,), (1.0,)), (0.0, -0.0)):
        for changes in ({"_id": other}, {"$set": {"_id": other}}):
            with pytest.raises(ValueError, match="can't change"):
                people.update(id, changes)
    people.update("a", {"_id": "a", "x": 1})


def test_both_zeros_are_one_number_and_large_ints_are_ids(people: Collection) -> None:
    people.insert_many([{"_id": one} for one in (-0.0, 0.0, 0, -1.5, 10**400, -(10**400))])
    assert ids(people.find({"_id": {"$gte": 0}})) == [0, 10**400, -0.0, 0.0]
    assert (
        len(ids(people.find({"_id": {"$gte": 0.0}}))) == len(ids(people.find({"_id": {"$gte": -0.0}}))) == 4
    )
    assert len(ids(people.find({"_id": {"$lte": 0}}))) == len(ids(people.find({"_id": {"$lte": -0.0}}))) == 5
    assert people.find_one({"_id": 10**400}) == {"_id": 10**400} == people.find({"_id": {"$gt": 5}}).first()
    assert people.count({"_id": {"$lt": 10**500}}) == 6 and people.count({"_id": {"$in": [10**5000]}}) == 0
    assert people.explain({"_id": 10**5000}).returned == 0


# ------------------------------------------------------------------------------- hostile operands


@pytest.mark.parametrize("indexed", [False, True])
def test_numbers_that_python_does_not_like(people: Collection, indexed: bool) -> None:
    people.insert_many([{"_id": 1, "a": 5}, {"_id": 2, "a": float("nan")}, {"_id": 3, "a": 10**900}])
    if indexed:
        people.create_index("a", unique=True)
    finds: list[tuple[Any, list[Any]]] = [
        (10**5000, []),
        ({"$gt": 10**5000}, []),
        ({"$lt": 10**5000}, [1, 3]),
        ({"$in": [10**5000, 5]}, [1]),
        (Decimal("sNaN"), [2]),
        ({"$gt": Decimal("sNaN")}, []),
        ({"$gte": Decimal("sNaN")}, [2]),
        ({"$mod": [10**400, 5]}, [1]),
        ({"$size": 10**5000}, []),
    ]
    for condition, wanted in finds:
        filter = {"a": condition}
        assert ids(people.find(filter)) == wanted and people.count(filter) == len(wanted)
        assert people.explain(filter).returned == len(wanted)
        assert (people.find_one(filter) is not None) == bool(wanted)
    for wrong in (
        {"$mod": [Decimal("sNaN"), 0]},
        {"$mod": [Decimal("1e999999"), 0]},
        {"$size": Decimal("1e999999999")},
        {"$type": Decimal("1e999999999")},
        {"$type": 10**5000},
        {"$exists": "x" * 10000},
    ):
        with pytest.raises(memdb.InvalidFilter) as told:
            people.count({"a": wrong})
        assert len(str(told.value)) < 500
    with pytest.raises(memdb.InvalidFilter):
        people.update(1, {"$push": {"l": {"$each": [1], "$position": Decimal("1e999999999")}}})
    for call in (people.index("a").find, people.index("a").range) if indexed else ():
        assert call(10**5000).to_list() == [] and call(10**5000).explain().returned == 0


@pytest.mark.parametrize(
    "filter",
    [
        {"a": "\ud800"},
        {"\ud800": 1},
        {"a": {"$in": ["x", "\ud800"]}},
        {"a": {"b": ["\ud800"]}},
        {"a": {"\ud800": 1}},
        {"a": {"$regex": "\ud800"}},
        {"a": re.compile("[\ud800]")},
        {"$or": [{"a": "\ud800"}, {"a": 1}]},
    ],
)
def test_a_lone_surrogate_is_refused_by_every_query(people: Collection, filter: Any) -> None:
    people.create_index("a", unique=True)
    people.insert({"_id": 1, "a": 1})
    for call in (people.find, people.count, people.find_one, people.page, people.delete_where):
        with pytest.raises(memdb.InvalidFilter, match="surrogate"):
            call(filter)


class Summer(tzinfo):
    """As those of other libraries, which documents do not hold."""

    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(hours=2)

    def dst(self, moment: datetime | None) -> None:
        return None


def test_a_moment_in_a_zone_of_another_make_is_a_moment(people: Collection) -> None:
    noon, given = datetime(2020, 6, 1, 12, tzinfo=UTC), datetime(2020, 6, 1, 14, tzinfo=Summer())
    people.insert({"_id": 1, "at": noon})
    for filter in (
        {"at": given},
        {"at": {"$lte": given}},
        {"at": {"$in": [given]}},
        {"$nor": [{"at": {"$gt": given}}]},
    ):
        assert people.count(filter) == 1
        values.encode(compile_filter(filter).source)  # as it goes to a reader, and into a partial index
    assert people.create_index("at", where={"at": {"$gte": given}}) == "at"
    assert people.explain({"at": {"$gte": noon}}).index == "at"
    with pytest.raises(memdb.InvalidFilter):
        people.count({"a": {(object(),): 1}})


def test_a_value_without_end_is_no_change(people: Collection) -> None:
    people.insert({"_id": 1})
    endless: list[Any] = []
    endless.append(endless)
    changes: list[Any] = [{"a": endless}, {"$set": {"a": endless}}, {"$push": {"a": {"$each": [endless]}}}]
    for change in changes:
        with pytest.raises(memdb.InvalidFilter, match="without end"):
            people.update(1, change)


def test_how_many_is_any_number(people: Collection) -> None:
    people.insert_many({"_id": n} for n in range(3))
    assert len(people.find(limit=10**30).to_list()) == 3 == len(people.page(limit=10**30).items)
    assert people.find(skip=10**30, limit=10**30).to_list() == [] == people.find(skip=1 << 62).to_list()
    assert len(people.find(sort="a", limit=10**30).to_list()) == 3
    with pytest.raises(TypeError):
        people.find(sort=[("a", Decimal("sNaN"))])


def test_values_are_shown_and_filters_told_apart() -> None:
    assert shown([10**5000]) == "list with an int of very many digits" and len(shown("x" * 1000)) == 80
    assert not parsing.is_condition({"x": 1, "$or": []}) and parsing.is_condition({"$not": {}, "x": 1})
