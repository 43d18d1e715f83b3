"""Indexes: what they hold, what they refuse, and which one the planner takes."""

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from documents.conftest import Collection
from documents.random_queries import PATHS, document, filter_of

import memdb
from memdb import values
from memdb.documents import catalogue, reads
from memdb.documents.indexes import IndexDefinition

OF_EVERY_TYPE = [
    *[None, float("nan"), float("-inf"), -(10**400), -1, 0, 1, 1.5, Decimal("1.75"), 2**70, float("inf")],
    *["", "a", "a\0b", "b", {}, {"a": 1}, {"a": 2}, {"b": 0}, [], [1], [1, [2]], (3, "x"), b"", b"a"],
    *[UUID(int=1), False, True, datetime(2020, 1, 1), datetime(2021, 1, 1, tzinfo=UTC), date(2020, 1, 1)],
    timedelta(3),
]


def by_scan(people: Collection, filter: dict[str, Any]) -> list[Any]:
    """The ids that a filter finds, told without the planner."""
    from memdb.documents.filters import compile_filter

    matches = compile_filter(filter).matches
    return [one["_id"] for one in people.find() if matches(one)]


def ids(documents: Any) -> list[Any]:
    return [one["_id"] for one in documents]


def test_equality_ranges_and_in_use_the_index(people: Collection) -> None:
    people.create_index("age")
    people.insert_many({"_id": n, "age": n % 10} for n in range(100))
    plan = people.explain({"age": 3})
    assert (plan.stage, plan.index, plan.bounds) == ("index", "age", {"age": "[3, 3]"})
    assert (plan.keys_examined, plan.documents_examined, plan.returned) == (10, 10, 10)
    plan = people.explain({"age": {"$gte": 3, "$lt": 5}})
    assert (plan.index, plan.bounds, plan.keys_examined, plan.returned) == ("age", {"age": "[3, 5)"}, 20, 20)
    plan = people.explain({"age": {"$in": [3, 5, 3, "x"]}})
    assert (plan.index, plan.keys_examined, plan.returned) == ("age", 20, 20)
    assert people.explain({"age": {"$in": []}}).stage == "none"
    assert people.explain({"age": {"$gt": 5, "$lt": 2}}).stage == "none"
    assert people.explain({"other": 3}).stage == "scan" and people.explain({"other": 3}).index is None
    assert people.explain({"age": {"$ne": 3}}).stage == "scan"
    assert people.count({"age": {"$lt": 5}}) == 50 and people.count({"age": {"$in": [1, 2]}}) == 20
    assert "index age" in str(plan) and plan.to_dict()["index"] == "age"


def test_compound_indexes_by_their_prefix(people: Collection) -> None:
    assert people.create_index(["city", "-age"]) == "city,-age"
    people.insert_many({"_id": n, "city": "ABC"[n % 3], "age": n % 7, "name": str(n)} for n in range(105))
    both = people.explain({"city": "A", "age": {"$gt": 2, "$lte": 4}})
    assert both.index == "city,-age" and both.keys_examined == both.returned == 10
    assert list(both.bounds) == ["city", "age"]
    assert people.explain({"city": "A"}).keys_examined == 35
    assert people.explain({"age": 3}).stage == "scan"
    several = people.explain({"city": {"$in": ["A", "C"]}, "age": {"$in": [1, 2]}})
    assert several.keys_examined == several.returned == 20
    assert sorted(ids(people.find({"city": "B", "age": 3}))) == by_scan(people, {"city": "B", "age": 3})


def test_the_order_of_an_index_needs_no_sort(people: Collection) -> None:
    people.create_index(["city", "-age"])
    people.create_index("age")
    people.insert_many({"_id": n, "city": "ABC"[n * n % 3], "age": n * 5 % 17} for n in range(90))

    def sorts(filter: dict[str, Any], sort: Any, **how: Any) -> bool:
        plan = people.explain(filter, sort=sort, **how)
        assert people.find(filter, sort=sort).to_list() == people.find(filter, sort=sort).to_list()
        return plan.sorted_in_memory

    assert not sorts({}, ["city", "-age"]) and not sorts({}, ["-city", "age"]) and not sorts({}, "city")
    assert (
        not sorts({}, "-age") and not sorts({"age": {"$gt": 3}}, "age") and not sorts({"city": "A"}, "-age")
    )
    assert not sorts({"city": "A"}, ["age"]) and not sorts({"city": "A"}, ["city", "age"])
    assert sorts({}, ["city", "age"]) and sorts({"city": {"$in": ["A", "B"]}}, "age") and sorts({}, "name")
    assert not sorts({}, "_id") and not sorts({}, "-_id") and not sorts({"age": 3}, "_id")
    assert people.explain({}, sort="age", limit=5).keys_examined == 5
    assert people.explain({}, sort="age", skip=2, limit=5).documents_examined == 7
    for sort in ("age", "-age", ["city", "-age"], ["-city", "age"], ["city", "age"], "-_id"):
        with_index = people.find(sort=sort).to_list()
        plain = sorted(people.find().to_list(), key=_order(sort), reverse=False)
        assert ids(with_index) == ids(plain), sort


def _order(sort: Any) -> Any:
    fields = [sort] if isinstance(sort, str) else sort

    def key(one: dict[str, Any]) -> Any:
        found = []
        for name in [*fields, "-_id" if fields[-1].startswith("-") else "_id"]:
            value = one[name.lstrip("-")]
            number = ord(value) if isinstance(value, str) else value
            found.append(-number if name.startswith("-") else number)
        return found

    return key


def test_lists_have_an_entry_for_each_element(people: Collection) -> None:
    people.create_index("tags")
    people.insert_many(
        [
            {"_id": 1, "tags": ["a", "b", "a"]},
            {"_id": 2, "tags": ["b", "c", "d"]},
            {"_id": 3, "tags": []},
            {"_id": 4},
            {"_id": 5, "tags": "b"},
            {"_id": 6, "tags": [["b"], None]},
        ]
    )
    assert people.explain({"tags": "b"}).index == "tags" and ids(people.find({"tags": "b"})) == [1, 2, 5]
    between = {"tags": {"$gte": "a", "$lte": "c"}}
    plan = people.explain(between)
    assert plan.index == "tags" and plan.returned == 3
    assert sorted(ids(people.find(between))) == [1, 2, 5] and people.count(between) == 3
    assert sorted(ids(people.find({"tags": {"$in": ["a", "b", "d"]}}))) == [1, 2, 5]
    assert sorted(ids(people.find({"tags": None}))) == [4, 6]
    # Each bound may hold for another element, so they are no range of one entry.
    people.insert({"_id": 7, "tags": ["A", "z"]})
    assert 7 in ids(people.find({"tags": {"$gt": "b", "$lt": "a"}}))
    assert ids(people.find({"tags": {"$elemMatch": {"$gt": "b", "$lt": "d"}}})) == [2]
    assert people.explain({"tags": {"$elemMatch": {"$gt": "b", "$lt": "d"}}}).keys_examined == 1
    assert people.index("tags").range("a", "c").to_list() == [people.get(1), people.get(2), people.get(5)]
    people.update(1, {"$pull": {"tags": "a"}})
    assert ids(people.find({"tags": "a"})) == []


def test_embedded_fields_and_lists_of_documents(people: Collection) -> None:
    people.create_index("address.city")
    people.create_index("jobs.title")
    people.insert({"_id": 1, "address": {"city": "Rome"}, "jobs": [{"title": "x"}, {"title": "y"}, {}]})
    people.insert({"_id": 2, "address": "nowhere", "jobs": []})
    assert people.explain({"address.city": "Rome"}).index == "address.city"
    assert ids(people.find({"jobs.title": "y"})) == [1] and ids(people.find({"address.city": None})) == [2]
    matched = {"jobs": {"$elemMatch": {"title": "y"}}}
    assert people.explain(matched).index == "jobs.title" and ids(people.find(matched)) == [1]


def test_two_lists_in_one_index_are_refused(people: Collection) -> None:
    people.create_index(["a", "b"])
    people.insert({"_id": 1, "a": [1, 2], "b": 3})
    people.insert({"_id": 2, "a": 1, "b": [3, 4]})
    with pytest.raises(memdb.UnsupportedType, match="'a' and 'b'"):
        people.insert({"_id": 3, "a": [1, 2], "b": [3, 4]})
    assert ids(people.find({"a": 1, "b": 3})) == [1, 2] and people.count() == 2


def test_unique(people: Collection) -> None:
    people.create_index("email", unique=True)
    people.create_index(["first", "-last"], unique=True)
    people.insert({"_id": 1, "email": "a", "first": "A", "last": "B"})
    with pytest.raises(memdb.DuplicateKeyError) as caught:
        people.insert({"_id": 2, "email": "a"})
    assert (caught.value.index, caught.value.value, caught.value.id) == ("email", "a", 1)
    with pytest.raises(memdb.DuplicateKeyError) as caught:
        people.insert({"_id": 2, "email": "b", "first": "A", "last": "B"})
    assert (caught.value.index, caught.value.value) == ("first,-last", ("A", "B"))
    people.insert({"_id": 2, "first": "A", "last": "C"})
    with pytest.raises(memdb.DuplicateKeyError) as caught:  # missing counts as null
        people.insert({"_id": 3, "email": None})
    assert caught.value.id == 2
    people.update(1, {"name": "x", "email": "a"})  # its own
    people.update_many([(1, {"email": "z"}), (2, {"email": "a"})])  # handed on
    with pytest.raises(memdb.DuplicateKeyError):
        people.update_where({}, {"email": "same"})
    people.delete(1)
    people.insert({"_id": 4, "email": "z", "first": 1})
    plan = people.explain({"email": "z"})
    assert (plan.index, plan.keys_examined, plan.returned) == ("email", 1, 1)
    assert people.find_one({"email": "z"}) == people.get(4) and people.find_one({"email": "y"}) is None


def test_a_value_of_another_that_is_only_passed_through(people: Collection) -> None:
    """Of one call the end counts: what a document takes and leaves again in between stays its holder's."""
    people.create_index("email", unique=True)
    people.insert_many([{"_id": 1, "email": "a"}, {"_id": 2, "email": "b"}])
    people.update_many([(1, {"email": "b"}), (1, {"email": "c"})])
    assert people.find_one({"email": "b"}) == {"_id": 2, "email": "b"} and people.check().ok
    with pytest.raises(memdb.DuplicateKeyError):
        people.insert({"_id": 3, "email": "b"})
    people.update_many([(1, {"email": "b"}), (2, {"email": "c"})])  # they change places
    people.update_many([(1, {"email": "x"}), (2, {"email": "b"}), (2, {"email": "y"}), (1, {"email": "b"})])
    assert [one["email"] for one in people.find()] == ["b", "y"] and people.check().ok
    with pytest.raises(memdb.DuplicateKeyError):
        people.update_many([(1, {"email": "z"}), (2, {"email": "b"}), (1, {"email": "b"})])


def test_unique_holds_for_many_with_ids_of_their_own_making(
    engine: memdb.Database, people: Collection
) -> None:
    people.create_index("email", unique=True)
    people.insert_many([{"email": "a"}, {"email": "b"}])
    for second in ([{"email": "c"}, {"email": "b"}], [{"email": "c"}, {"email": "c"}]):
        with pytest.raises(memdb.DuplicateKeyError):
            people.insert_many(second)
    with pytest.raises(memdb.DuplicateKeyError), engine.transaction() as tx:
        people.insert_many([{"email": "d"}], tx=tx)
        people.insert_many([{"email": "e"}, {"email": "d"}], tx=tx)
    people.insert_many([{"email": "f"}, {"email": "g"}], ttl=3600)
    assert people.count() == 4 and people.check().ok


def test_find_one_by_a_unique_index_sees_other_types(people: Collection) -> None:
    people.create_index("n", unique=True)
    people.insert_many([{"_id": 1, "n": 1.0}, {"_id": 2, "n": [5, 6]}, {"_id": 3, "n": True}])
    for _ in range(2):  # before the definition is known to this handle, and then
        assert people.find_one({"n": 1}) == {"_id": 1, "n": 1.0}
        assert people.find_one({"n": 5}) == {"_id": 2, "n": [5, 6]}
        assert people.find_one({"n": True}) == {"_id": 3, "n": True}
        assert people.find_one({"n": 2}) is None


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda people: people.update(1, {"n": 8}), None),
        (lambda people: people.update_many([(1, {"n": 8}), (2, {"n": 7})]), 2),
        (lambda people: (people.delete(1), people.insert({"_id": 3, "n": 7})), 3),
        (lambda people: people.update(1, {"n": [7, 8]}), 1),
    ],
)
def test_find_one_between_two_reads(
    people: Collection, monkeypatch: pytest.MonkeyPatch, change: Any, found: Any
) -> None:
    """It reads the entry, then the document, which somebody changes in between."""
    people.create_index("n", unique=True)
    people.insert_many([{"_id": 1, "n": 7}, {"_id": 2, "n": 9}])
    read = reads.read_documents

    def read_later(source: Any, keys: Any) -> Any:
        change(people)
        return read(source, keys)

    monkeypatch.setattr(reads, "read_documents", read_later)
    one = people.find_one({"n": 7})
    assert (one and one["_id"]) == found


def test_partial_indexes_leave_documents_out(people: Collection) -> None:
    people.create_index("email", unique=True, where={"active": True}, name="active")
    people.insert_many({"_id": n, "email": "same", "active": False} for n in range(3))
    people.insert({"_id": 3, "email": "same", "active": True})
    with pytest.raises(memdb.DuplicateKeyError):
        people.update(1, {"active": True})
    assert people.explain({"email": "same", "active": True}).index == "active"
    assert people.explain({"email": "same"}).stage == "scan" and people.count({"email": "same"}) == 4
    people.update(3, {"active": False})
    people.update(1, {"active": True})
    people.create_index("age", where={"age": {"$gte": 18}})
    assert people.explain({"age": {"$gt": 20}}).index == "age"
    assert (
        people.explain({"age": 18}).index == "age"
        and people.explain({"age": {"$in": [18, 30]}}).index == "age"
    )
    assert (
        people.explain({"age": 17}).stage == "scan" and people.explain({"age": {"$gt": 17}}).stage == "scan"
    )
    people.create_index("x", where={"$or": [{"a": 1}, {"b": 1}]})
    assert people.explain({"x": 1, "$or": [{"a": 1}, {"b": 1}]}).stage == "scan"


def test_or_is_a_union_and_each_document_comes_once(people: Collection) -> None:
    people.create_index("a")
    people.create_index("b")
    people.insert_many({"_id": n, "a": n % 5, "b": n % 3, "c": n} for n in range(60))
    either = {"$or": [{"a": 1}, {"b": 2}]}
    plan = people.explain(either)
    assert (plan.stage, plan.index) == ("or", "a, b") and plan.returned == len(by_scan(people, either))
    assert sorted(ids(people.find(either))) == by_scan(people, either)
    assert people.explain({"$or": [{"a": 1}, {"c": 2}]}).stage == "scan"
    assert people.explain({"c": 4, "$or": [{"a": 4}, {"b": 2}]}).stage == "or"
    assert ids(people.find(either, sort="-c", limit=2)) == by_scan(people, either)[:-3:-1]


def test_the_index_that_holds_less_is_taken(people: Collection) -> None:
    people.create_index("kind")
    people.create_index("serial")
    people.insert_many({"_id": n, "kind": "k", "serial": n // 2} for n in range(500))
    assert people.explain({"kind": "k", "serial": 7}).index == "serial"
    assert people.explain({"serial": 7, "kind": "k"}).keys_examined == 2
    assert people.explain({"kind": "k", "serial": {"$lt": 3}}).index == "serial"


def test_ids_are_an_index(people: Collection) -> None:
    people.insert_many({"_id": n, "n": n} for n in range(50))
    people.insert_many([{"_id": "s", "n": 1}, {"_id": 3.5, "n": 2}, {"_id": (3, 4), "n": 3}])
    for filter in (
        {"_id": 3},
        {"_id": {"$in": [3, "s", 99, 2**80]}},
        {"_id": {"$gt": 45}},
        {"_id": {"$gte": 3, "$lt": 4.5}},
        {"_id": {"$lte": 1.5}},
        {"_id": {"$gt": "a"}},
    ):
        plan = people.explain(filter)
        assert (plan.stage, plan.index) == ("id", "_id") and plan.documents_examined <= 8
        assert ids(people.find(filter)) == by_scan(people, filter)
    assert people.explain({"_id": {"$gt": 10}, "n": 20}).index == "_id"
    for given, text in (
        (3, "[3, 3]"), ({"$in": [3, "s"]}, "[3, 3] ['s', 's']"), ({"$gt": 45}, "(45, ...)"),
        ({"$gte": 3, "$lt": 4.5}, "[3, ...) and (..., 4.5)"),
    ):  # fmt: skip
        assert people.explain({"_id": given}).bounds == {"_id": text}


def test_an_index_of_every_type_and_both_directions(people: Collection) -> None:
    for name in ("v", "-v"):
        people.create_index(name, name=f"index {name}")
    people.insert_many({"_id": n, "v": value} for n, value in enumerate(OF_EVERY_TYPE))
    up, down = ids(people.find(sort="v")), ids(people.find(sort="-v"))
    assert not people.explain(sort="_id").sorted_in_memory
    for operand in OF_EVERY_TYPE:
        for op in ("$eq", "$gt", "$gte", "$lt", "$lte", "$in"):
            filter = {"v": {op: [operand, 1] if op == "$in" else operand}}
            assert sorted(ids(people.find(filter))) == by_scan(people, filter), filter
            assert people.count(filter) == len(by_scan(people, filter)), filter
    people.drop_index("index v")
    assert sorted(ids(people.find({"v": {"$gt": 0}}))) == by_scan(people, {"v": {"$gt": 0}})
    people.drop_index("index -v")
    assert ids(people.find(sort="v")) == up and ids(people.find(sort="-v")) == down


def test_values_without_an_order_are_refused(people: Collection) -> None:
    people.create_index("v")
    for value in ({1, 2}, 1j, frozenset(), [1, {2}], {"a": {3}}):
        with pytest.raises(memdb.UnsupportedType, match="index 'v'"):
            people.insert({"v": value})
    with pytest.raises(memdb.KeyTooLarge, match="index 'v'"):
        people.insert({"_id": 1, "v": "x" * 2000})
    assert people.count() == 0
    people.insert({"_id": 1, "w": {1, 2}})
    with pytest.raises(memdb.UnsupportedType, match="index 'w'"):
        people.create_index("w")
    assert [index.name for index in people.indexes()] == ["v"]
    with pytest.raises(memdb.UnsupportedType, match="sorted by"):
        people.find(sort="w").to_list()


def test_views_of_an_index(people: Collection) -> None:
    people.create_index(["city", "age"])
    people.create_index("-age", name="down")
    people.insert_many({"_id": n, "city": "AB"[n % 2], "age": n} for n in range(10))
    view = people.index("city,age")
    assert view.get(("A", 4)) == people.get(4) and view.get(("A", 5)) is None
    assert ids(view.find("B")) == [1, 3, 5, 7, 9] and ids(view.range(("A", 4), ("B", 4))) == [4, 6, 8, 1, 3]
    assert ids(view.range(reverse=True))[:2] == [9, 7] and len(view.range().to_list()) == 10
    assert ids(people.index("down").range(2, 5)) == [4, 3, 2]
    assert ids(people.index("down").range(2, 5, reverse=True)) == [2, 3, 4]
    for cursor, text in (
        (view.find("B"), "['B', 'B']"), (view.range(("A", 4), "B"), "[('A', 4), 'B')"),
        (view.range(), "(..., ...)"),
    ):  # fmt: skip
        assert cursor.explain().bounds == {"values": text}
    with pytest.raises(KeyError, match="doesn't exist"):
        people.index("nobody").get(1)
    with pytest.raises(ValueError, match="2 field"):
        view.get(("A", 1, 2))


@pytest.mark.parametrize(
    ("fields", "how", "error"),
    [
        ("", {}, ValueError),
        ("a..b", {}, ValueError),
        ("city,-age", {}, ValueError),
        ("$a", {}, ValueError),
        ([], {}, ValueError),
        (["a", "-a"], {}, ValueError),
        ("_id", {}, ValueError),
        (5, {}, TypeError),
        ("a", {"where": {"$nope": 1}}, memdb.InvalidFilter),
        ("a", {"name": ""}, ValueError),
        ("a", {"key": 5}, TypeError),
        (["a", "b"], {"key": len}, TypeError),
        ("age", {"unique": True}, memdb.IndexMismatch),
        ("-age", {"name": "age"}, memdb.IndexMismatch),
        ("age", {"where": {"a": 1}}, memdb.IndexMismatch),
        ("city", {"unique": True}, memdb.DuplicateKeyError),
    ],
)
def test_what_can_not_be_an_index(people: Collection, fields: Any, how: dict[str, Any], error: type) -> None:
    people.insert_many([{"city": "A"}, {"city": "A"}])
    people.create_index("age")
    with pytest.raises(error) as caught:
        people.create_index(fields, **how)
    assert "sort" not in str(caught.value)
    assert [index.name for index in people.indexes()] == ["age"]
    assert people.create_index("age") == "age"


@pytest.mark.parametrize("seed", range(6))
def test_random_filters_find_the_same_with_and_without_indexes(people: Collection, seed: int) -> None:
    """Whatever index is there: of dotted paths, lists, compounds, partial ones."""
    rng = random.Random(seed)
    for _ in range(6):
        paths = rng.sample(PATHS, rng.choice([1, 1, 2]))
        fields = [rng.choice(["", "-"]) + path for path in paths]
        where = rng.choice([None, None, None, {"a": {"$gt": 1}}, {"b": {"$exists": True}}])
        people.create_index(fields, where=where, name=f"{fields} {where}")
    for number in range(60):
        try:
            people.insert({"_id": number, **document(rng)})
        except memdb.UnsupportedType:  # two lists in one index
            continue
    used = 0
    for _ in range(120):
        filter = filter_of(rng)
        plan = people.explain(filter)
        used += plan.stage in ("index", "or")
        found = ids(people.find(filter))
        assert sorted(found) == by_scan(people, filter), (seed, filter, plan)
        assert people.count(filter) == len(found)
        sort = [rng.choice(["", "-"]) + path for path in rng.sample(PATHS, rng.choice([1, 2]))]
        ordered = ids(people.find(filter, sort=sort))
        assert sorted(ordered) == sorted(found) and ordered[:3] == ids(
            people.find(filter, sort=sort, limit=3)
        )
    assert used > 10


def test_the_numbers_of_indexes_end() -> None:
    definition = catalogue.known(values.pack({"v": 1, "id": 1, "created": 1, "next": 65_535, "indexes": []}))
    wanted = IndexDefinition("a", (("a", False),))
    last = catalogue.with_index(definition, wanted)
    assert [index.n for index in last.indexes] == [65_535]
    with pytest.raises(ValueError, match=r"65535 indexes.*new collection"):
        catalogue.with_index(last, wanted)
