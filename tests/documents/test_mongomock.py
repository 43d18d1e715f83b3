"""Random filters and updates against mongomock, where that follows MongoDB; rule by rule, where it does not.

A failing case prints its seed: `random.Random(seed)` makes the same one again.
"""

import copy
import random
from typing import Any

import mongomock
import pytest
from documents.mongomock_rules import RULES, UPDATE_RULES, rule_of, update_rule_of
from documents.random_queries import document, filter_of, update_of
from mongomock.filtering import filter_applies

from memdb.documents.filters import compile_filter
from memdb.documents.updates import compile_update

QUICK = 500
MANY = 10_000


def compare_filters(cases: int) -> None:
    """Goes through seeds until so many cases count."""
    seed = compared = found = 0
    while compared < cases:
        seed += 1
        rng = random.Random(seed)
        filter, doc = filter_of(rng), document(rng)
        if rule_of(filter, doc) is not None:
            continue
        compared += 1
        expected = filter_applies(filter, doc)
        compiled = compile_filter(filter)
        assert compiled.matches(doc) is expected, (seed, filter, doc)
        assert compile_filter(compiled.source).matches(doc) is expected, (seed, filter, doc)
        branches = compiled.branches()
        if branches is not None:
            assert any(one.matches(doc) for one in branches) is expected, (seed, filter, doc)
        found += expected
    assert cases / 10 < found < cases * 9 / 10, "the cases say little: nearly all are alike"


def compare_updates(cases: int) -> None:
    collection: Any = mongomock.MongoClient().db.collection
    seed = compared = changed = 0
    while compared < cases:
        seed += 1
        rng = random.Random(seed)
        changes, doc = update_of(rng), {"_id": 1, **document(rng)}
        before = copy.deepcopy(doc)
        try:
            new = compile_update(changes).apply(doc)
        except TypeError:  # MongoDB refuses it too, and mongomock does nothing or something else
            continue
        assert doc == before, (seed, changes, doc)
        if update_rule_of(changes, doc) is not None:
            continue
        compared += 1
        assert new == applied(collection, changes, doc), (seed, changes, doc)
        changed += new != doc
    assert changed > cases / 2, "the cases say little: most change nothing"


def applied(collection: Any, changes: dict[str, Any], doc: dict[str, Any]) -> Any:
    """What mongomock makes of a document."""
    collection.replace_one({"_id": doc["_id"]}, copy.deepcopy(doc), upsert=True)
    collection.update_one({"_id": doc["_id"]}, copy.deepcopy(changes))
    return collection.find_one({"_id": doc["_id"]})


def test_filters_agree() -> None:
    compare_filters(QUICK)


def test_updates_agree() -> None:
    compare_updates(QUICK)


@pytest.mark.slow
def test_many_filters_agree() -> None:
    compare_filters(MANY)


@pytest.mark.slow
def test_many_updates_agree() -> None:
    compare_updates(MANY)


# --------------------------------------------------------------------------------- where mongomock is wrong

FILTERS: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "an empty document as a value": ({"a": {}}, {}, False),
    "a path through a scalar": ({"a.b": None}, {"a": 4}, True),
    "a number in a path to documents": ({"a.0": None}, {"a": [{"b": 1}]}, True),
    "$gte of null and a missing field": ({"a": {"$gte": None}}, {}, True),
    "$options inside of $not": ({"a": {"$not": {"$regex": "X", "$options": "i"}}}, {"a": "x"}, False),
    "$size of what is no array": ({"a": {"$size": 1}}, {"a": 5}, False),
    "an array compared with arrays in an array": ({"a": {"$eq": []}}, {"a": [[], 5]}, True),
    "$not or $exists where nothing is found": ({"a.b": {"$not": {"$gt": 3}}}, {"a": []}, True),
    "$exists of several documents": ({"a.b": {"$exists": False}}, {"a": [{"b": 1}, {}]}, False),
    "$regex in $elemMatch of arrays in an array": (
        {"a": {"$elemMatch": {"$regex": "x"}}},
        {"a": [["x"]]},
        False,
    ),
    "an array listed in $in": ({"a": {"$in": [[], 5]}}, {"a": []}, True),
    "$all of what is no array": ({"a": {"$all": [None]}}, {}, True),
}
"""Of each rule a filter, a document, and whether MongoDB finds it."""

UPDATES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "$min and $max of several types": ({"$max": {"a": "x"}}, {"a": 5}, {"a": "x"}),
    "$pop of what is missing": ({"$pop": {"a": 1}}, {"b": 1}, {"b": 1}),
    "$unset, $min and $max of elements": ({"$unset": {"a.0": ""}}, {"a": [1, 2]}, {"a": [None, 2]}),
    "$pull of documents beside arrays": ({"$pull": {"a": {"b": None}}}, {"a": [[{}]]}, {"a": [[{}]]}),
    "equal values in $each of $addToSet": ({"$addToSet": {"a": {"$each": [2, 2]}}}, {}, {"a": [2]}),
    "$pull, $addToSet and $push below what is no document": (
        {"$pull": {"a.b": 3}},
        {"a": ["b", 3]},
        {"a": ["b", 3]},
    ),
}
"""Of each rule an update, a document, and what MongoDB makes of it."""


def test_each_rule_has_a_case() -> None:
    assert FILTERS.keys() == RULES.keys()
    assert UPDATES.keys() == UPDATE_RULES.keys()


@pytest.mark.parametrize("rule", FILTERS)
def test_filters_that_mongomock_takes_otherwise(rule: str) -> None:
    filter, doc, right = FILTERS[rule]
    assert rule_of(filter, doc) == rule
    assert compile_filter(filter).matches(doc) is right
    try:
        theirs: object = filter_applies(filter, doc)
    except mongomock.OperationFailure as error:
        theirs = error
    assert theirs is not right, "mongomock follows MongoDB by now: take this rule off"


@pytest.mark.parametrize("rule", UPDATES)
def test_updates_that_mongomock_makes_otherwise(rule: str) -> None:
    changes, doc, right = UPDATES[rule]
    doc, right = {"_id": 1, **doc}, {"_id": 1, **right}
    assert update_rule_of(changes, doc) == rule
    assert compile_update(changes).apply(doc) == right
    try:
        theirs: object = applied(mongomock.MongoClient().db.collection, changes, doc)
    except (TypeError, KeyError, ValueError) as error:
        theirs = error
    assert theirs != right, "mongomock follows MongoDB by now: take this rule off"


@pytest.mark.parametrize(
    ("filter", "doc", "right"),
    [
        ({"a": 1}, {"a": True}, False),
        ({"a": True}, {"a": 1.0}, False),
        ({"a": {"$in": [0, 5]}}, {"a": [False]}, False),
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}, False),
        ({"a": float("nan")}, {"a": float("nan")}, True),
        ({"a": {"$gte": float("nan")}}, {"a": [float("nan")]}, True),
    ],
)
def test_values_that_random_documents_leave_out(filter: Any, doc: Any, right: bool) -> None:
    """Bools and numbers, the order of fields, NaN: mongomock compares as Python does."""
    assert compile_filter(filter).matches(doc) is right
    assert filter_applies(filter, doc) is not right
