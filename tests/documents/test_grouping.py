"""Sorting and grouping: what of a document counts, in which order, and what is added up."""

import random
from decimal import Decimal
from typing import Any

import pytest
from documents.random_queries import document

from memdb.documents.grouping import distinct, group
from memdb.documents.paths import Path, index_values
from memdb.documents.sorting import sort_keys, sorter
from memdb.errors import UnsupportedType
from memdb.layering import encode_ordered

INF = float("inf")


def in_order(docs: list[Any], sort: Any) -> list[Any]:
    return [doc["_id"] for doc in sorted(docs, key=sorter(sort_keys(sort)))]


def test_the_forms_of_a_sort() -> None:
    assert sort_keys(None) == sort_keys([]) == []
    assert sort_keys("a.b") == [("a.b", False)]
    assert (
        sort_keys("-a")
        == sort_keys(["-a"])
        == sort_keys([("a", -1)])
        == sort_keys({"a": -1})
        == [("a", True)]
    )
    assert sort_keys(("a", "-b")) == sort_keys([["a", 1], ("b", -1)]) == [("a", False), ("b", True)]
    assert sort_keys([("-a", 1)]) == [("-a", False)]


@pytest.mark.parametrize(
    ("sort", "error", "text"),
    [
        (5, TypeError, "not int"),
        ("a,-b", ValueError, "as a list"),
        (["a", 5], TypeError, "a path, as 'age' or '-age', or a pair"),
        ([("a", 2)], TypeError, "or a pair"),
        ([("a", True)], TypeError, "or a pair"),
        ([("a", 1, 2)], TypeError, "or a pair"),
        ("", ValueError, "names with dots between"),
        ("-", ValueError, "names with dots between"),
        ("a..b", ValueError, "names with dots between"),
        ("$natural", ValueError, "names with dots between"),
        (["a", "-a"], ValueError, "'a' twice"),
    ],
)
def test_sorts_that_are_refused(sort: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        sort_keys(sort)


def test_documents_sort_by_type_and_value() -> None:
    docs = [{"_id": n, "a": a} for n, a in enumerate(["x", 2, None, True, 1.5, [], {"k": 1}, b"y"])]
    docs.append({"_id": 8})
    assert in_order(docs, "a") == [5, 2, 8, 4, 1, 0, 6, 7, 3]
    assert in_order(docs, "-a") == [3, 7, 6, 0, 1, 4, 2, 8, 5]


def test_an_array_sorts_by_its_least_or_greatest_element() -> None:
    docs = [
        {"_id": 0, "a": [5, 1]},
        {"_id": 1, "a": 3},
        {"_id": 2, "a": [4, 2]},
        {"_id": 3, "a": []},
        {"_id": 4},
    ]
    assert in_order(docs, "a") == [3, 4, 0, 2, 1]
    assert in_order(docs, "-a") == [0, 2, 1, 4, 3]
    inner = [
        {"_id": 0, "a": [{"b": 9}, {"b": 1}]},
        {"_id": 1, "a": {"b": 5}},
        {"_id": 2, "a": [{"b": 0}, {}]},
    ]
    assert in_order(inner, "a.b") == [2, 0, 1]
    assert in_order(inner, "-a.b") == [0, 1, 2]


def test_several_keys_each_in_its_direction() -> None:
    docs = [{"_id": n, "c": c, "n": m} for n, (c, m) in enumerate([("b", 1), ("a", 1), ("a", 3), ("b", 2)])]
    assert in_order(docs, ["c", "-n"]) == [2, 1, 3, 0]
    assert in_order(docs, ["-c", "n"]) == [0, 3, 1, 2]


def test_a_sort_equals_that_of_an_index() -> None:
    """The first entry of a document in an index, read either way, is where it sorts."""
    rng = random.Random(3)
    docs = [{"_id": n, **document(rng)} for n in range(300)]
    for path in ("a", "a.b", "b.1", "a.0.b"):
        entries = sorted(
            (encode_ordered(value), doc["_id"]) for doc in docs for value in index_values(doc, Path(path))[0]
        )
        keys = {doc["_id"]: sorter([(path, False)])(doc) for doc in docs}
        first: dict[int, bytes] = {}
        last: dict[int, bytes] = {}
        for entry, id in entries:
            first.setdefault(id, entry)
            last[id] = entry
        assert keys == first
        falling = sorter([(path, True)])
        assert {doc["_id"]: falling(doc) for doc in docs} == {
            id: bytes(255 - byte for byte in entry) for id, entry in last.items()
        }


def test_what_has_no_order_is_named() -> None:
    with pytest.raises(UnsupportedType, match=r"sorting by 'a.b': .*set"):
        sorter([("a.b", False)])({"a": {"b": {1}}})


# --------------------------------------------------------------------------------------------------- grouping

PEOPLE: list[dict[str, Any]] = [
    {"_id": 1, "city": "Rome", "age": 30, "pay": 1.5, "at": {"zip": 7}},
    {"_id": 2, "city": "Oslo", "age": 40, "at": {"zip": 7}},
    {"_id": 3, "city": "Rome", "age": None, "pay": 2, "at": {"zip": 8}},
    {"_id": 4, "age": 50, "pay": "much"},
    {"_id": 5, "city": None, "age": True},
]


def test_aggregates_of_all() -> None:
    asked: dict[str, Any] = {
        "n": "count",
        "m": ("count", None),
        "ages": ("count", "age"),
        "total": ("sum", "age"),
        "mean": ("avg", "age"),
        "least": ("min", "age"),
        "most": ("max", "age"),
        "pay": ("sum", "pay"),
    }
    expected = {"n": 5, "m": 5, "ages": 4, "total": 120, "mean": 40.0, "least": 30, "most": True, "pay": 3.5}
    assert group(PEOPLE, None, asked) == [expected]
    nothing = {"n": 0, "m": 0, "ages": 0, "total": 0, "mean": None, "least": None, "most": None, "pay": 0}
    assert group([], None, asked) == [nothing]


def test_groups_come_in_order_and_null_is_missing() -> None:
    assert group(PEOPLE, "city", {"n": "count"}) == [
        {"city": None, "n": 2},
        {"city": "Oslo", "n": 1},
        {"city": "Rome", "n": 2},
    ]
    assert group(PEOPLE, ["at.zip", "city"], {"age": ("max", "age")}) == [
        {"at.zip": None, "city": None, "age": True},
        {"at.zip": 7, "city": "Oslo", "age": 40},
        {"at.zip": 7, "city": "Rome", "age": 30},
        {"at.zip": 8, "city": "Rome", "age": None},
    ]
    assert group([], "city", {"n": "count"}) == []
    assert [one["a"] for one in group([{"a": 1}, {"a": 1.0}, {"a": True}, {"a": [1]}], "a", {})] == [
        1,
        [1],
        True,
    ]


def test_sums_are_exact() -> None:
    def total(*numbers: Any) -> Any:
        return group([{"n": one} for one in numbers], None, {"t": ("sum", "n")})[0]["t"]

    assert repr(total(2**63, 1)) == str(2**63 + 1)
    assert total(*[0.1] * 10) == 1.0
    assert total(1e308, 1e-300, -1e308) == 1e-300
    assert repr(total(1, 0.5)) == "1.5" and repr(total(1, 1.0)) == "2.0"
    assert repr(total(Decimal("0.1"), 1, 0.2)) == "Decimal('1.3')"
    assert total(INF, 1.0) == INF and str(total(INF, -INF)) == "nan"
    assert total(1e308, 1e308) == INF and total(-1e308, -(10**400)) == -INF
    assert total([1, 2], {"a": 1}, None, True, "5") == 0
    assert total(10**400, 0.5) == INF


def test_averages() -> None:
    def mean(*numbers: Any) -> Any:
        return group([{"n": one} for one in numbers], None, {"t": ("avg", "n")})[0]["t"]

    assert mean(1, 2) == 1.5 and mean(None, "x", 3) == 3.0
    assert repr(mean(Decimal(1), Decimal(2))) == "Decimal('1.5')"
    assert mean(None) is None and mean(10**400) == INF


def test_min_and_max_go_across_types() -> None:
    docs = [{"a": "x"}, {"a": 5}, {"a": None}, {}, {"a": [1]}]
    assert group(docs, None, {"low": ("min", "a"), "high": ("max", "a")}) == [{"low": 5, "high": [1]}]
    with pytest.raises(UnsupportedType, match="has no order"):
        group([{"a": {1}}], None, {"low": ("min", "a")})
    with pytest.raises(UnsupportedType):
        group([{"a": {1}}], "a", {})


def test_a_sum_does_not_depend_on_the_order() -> None:
    rng = random.Random(1)
    choices = [1, 2.5, 0.1, 1e300, -1e300, None, "x", Decimal("0.1"), -7]
    docs = [{"k": rng.choice(["a", 1, None]), "v": rng.choice(choices)} for _ in range(400)]
    floats = [{"k": "f", "v": value} for value in (1e300, 0.1, 1e16, 1.0, -1e300, -1e16)]
    asked: dict[str, Any] = {op: (op, "v") for op in ("count", "sum", "avg", "min", "max")}
    expected = group(docs + floats, "k", asked)
    assert [one["sum"] for one in expected if one["k"] == "f"] == [1.1]
    for _ in range(5):
        rng.shuffle(docs)
        rng.shuffle(floats)
        assert group(floats + docs, "k", asked) == expected


@pytest.mark.parametrize(
    ("group_by", "asked", "error", "text"),
    [
        (None, {"n": "cnt"}, ValueError, "one of count, sum, avg, min, max"),
        (None, {"n": ("sum",)}, ValueError, "sum needs a field"),
        (None, {"n": ("sum", "a", "b")}, ValueError, "write"),
        (None, {"n": ("sum", 5)}, TypeError, "a path is a str"),
        (None, {"n": ("sum", "$a")}, ValueError, "no path"),
        (None, {"n": 5}, ValueError, "write"),
        ("n", {"n": "count"}, ValueError, "rename the aggregate"),
        ([], {}, ValueError, "a list of different ones"),
        (["a", "a"], {}, ValueError, "a list of different ones"),
        (["a", 5], {}, TypeError, "a path is a str"),
        ("a,b", {}, ValueError, "as a list"),
    ],
)
def test_groups_that_are_refused(group_by: Any, asked: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        group([], group_by, asked)


def test_distinct() -> None:
    docs = [{"a": 2}, {"a": [1, 2.0, "x"]}, {"a": None}, {}, {"a": []}, {"a": [[1]]}, {"a": True}]
    assert distinct(docs, "a") == [None, 1, 2, "x", [1], True]
    assert distinct([{"a": [{"b": 1}, {"b": [2, 1]}]}], "a.b") == [1, 2]
    with pytest.raises(ValueError, match="no path"):
        distinct([], "a.")
