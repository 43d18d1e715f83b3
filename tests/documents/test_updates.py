"""Updates: what each operator makes of documents, what is refused when an update is compiled, and what when
it meets a document that it does not fit."""

import copy
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from memdb.documents.updates import compile_update, upsert_base
from memdb.errors import InvalidFilter


def updated(doc: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The document after the update, without its id; neither argument is changed by that."""
    doc = {"_id": 1, **doc}
    before, asked = copy.deepcopy(doc), copy.deepcopy(changes)
    new = compile_update(changes).apply(doc)
    assert doc == before and changes == asked
    assert next(iter(new)) == "_id" and new["_id"] == 1
    return {name: value for name, value in new.items() if name != "_id"}


def check(doc: dict[str, Any], changes: dict[str, Any], expected: dict[str, Any]) -> None:
    new = updated(doc, changes)
    assert repr(new) == repr(expected)  # types and the order of fields count


# ------------------------------------------------------------------------------------------------------ merge


def test_fields_are_merged_one_level_deep() -> None:
    check({"a": 1, "b": {"x": 1}}, {"b": {"y": 2}, "c": 3}, {"a": 1, "b": {"y": 2}, "c": 3})
    check({"a": 1}, {}, {"a": 1})
    check({"a": 1}, {"a": None}, {"a": None})


def test_what_is_merged_or_set_is_copied() -> None:
    tags = [1, {"x": [2]}]
    for changes in ({"tags": tags}, {"$set": {"tags": tags}}, {"$push": {"tags": tags}}):
        update = compile_update(changes)
        first, second = update.apply({"_id": 1}), update.apply({"_id": 2})
        assert first["tags"] == second["tags"]
        first["tags"].append(3)
        assert first["tags"] != second["tags"]
        assert tags == [1, {"x": [2]}]


def test_what_does_not_change_is_shared() -> None:
    doc = {"_id": 1, "a": {"x": [1]}, "b": {"y": [2]}}
    new = compile_update({"$set": {"a.z": 1}}).apply(doc)
    assert new["b"] is doc["b"] and new["a"]["x"] is doc["a"]["x"] and new["a"] is not doc["a"]


# -------------------------------------------------------------------------------------------- $set and $unset


def test_set_makes_what_is_missing() -> None:
    check({}, {"$set": {"a.b.c": 1}}, {"a": {"b": {"c": 1}}})
    check({"a": {"x": 1}}, {"$set": {"a.b": 2, "a.x": 3}}, {"a": {"x": 3, "b": 2}})
    check({}, {"$set": {"a.0": 1}}, {"a": {"0": 1}})
    check({"a": [1, 2]}, {"$set": {"a.0": 9}}, {"a": [9, 2]})
    check({"a": [1]}, {"$set": {"a.3": 9}}, {"a": [1, None, None, 9]})
    check({"a": (1, 2)}, {"$set": {"a.1": 9}}, {"a": [1, 9]})
    check({"a": [{"b": 1}]}, {"$set": {"a.0.b": 2, "a.1.b": 3}}, {"a": [{"b": 2}, {"b": 3}]})
    check({"a": 1}, {"$set": {"a": {"b": 2}}}, {"a": {"b": 2}})
    check({"a": 1}, {"$set": {}}, {"a": 1})


def test_new_fields_come_in_the_order_of_their_paths() -> None:
    check({"z": 1}, {"$set": {"c": 1, "a": 2}, "$inc": {"b": 3}}, {"z": 1, "a": 2, "b": 3, "c": 1})
    check({"a": []}, {"$set": {"a.10": "x", "a.9": "y"}}, {"a": [*[None] * 9, "y", "x"]})


def test_unset_takes_out_fields_and_empties_elements() -> None:
    check({"a": 1, "b": 2}, {"$unset": {"a": ""}}, {"b": 2})
    check({"a": {"b": 1, "c": 2}}, {"$unset": {"a.b": 1}}, {"a": {"c": 2}})
    check({"a": [1, 2, 3]}, {"$unset": {"a.1": 1}}, {"a": [1, None, 3]})
    for doc in ({}, {"a": 5}, {"a": []}, {"a": {"c": 1}}, {"a": [{"b": 1}]}):
        check(doc, {"$unset": {"a.b": 1}}, doc)


# ------------------------------------------------------------------------------------------------- arithmetic


def test_inc_and_mul() -> None:
    check({"n": 1}, {"$inc": {"n": 2}}, {"n": 3})
    check({"n": 1}, {"$inc": {"n": 0.5}}, {"n": 1.5})
    check({"n": 1.5}, {"$inc": {"n": Decimal("0.25")}}, {"n": Decimal("1.75")})
    check({}, {"$inc": {"n": -2, "a.b": 1}}, {"a": {"b": 1}, "n": -2})
    check({"n": 3}, {"$mul": {"n": 2}}, {"n": 6})
    check({"n": 3}, {"$mul": {"n": 0.5}}, {"n": 1.5})
    check({}, {"$mul": {"i": 2, "f": 2.0, "d": Decimal(2)}}, {"d": Decimal(0), "f": 0.0, "i": 0})
    check({"n": 2**63 - 1}, {"$inc": {"n": 1}}, {"n": 2**63})
    check({"a": [1, 2]}, {"$inc": {"a.1": 5}}, {"a": [1, 7]})
    new = updated({"n": float("inf")}, {"$inc": {"n": Decimal("-Infinity")}})
    assert new["n"].is_nan()


def test_min_and_max_across_types() -> None:
    check({"n": 5}, {"$min": {"n": 3}}, {"n": 3})
    check({"n": 5}, {"$min": {"n": 7}}, {"n": 5})
    check({"n": 5}, {"$max": {"n": 7.5}}, {"n": 7.5})
    check({"n": 5}, {"$max": {"n": 5.0}}, {"n": 5})
    check({"n": 5}, {"$min": {"n": None}}, {"n": None})
    check({"n": None}, {"$min": {"n": 5}}, {"n": None})
    check({"n": None}, {"$max": {"n": 5}}, {"n": 5})
    check({"n": 99}, {"$max": {"n": "a"}}, {"n": "a"})
    check({"n": True}, {"$min": {"n": "z"}}, {"n": "z"})
    check({"n": 1}, {"$min": {"n": float("nan")}}, {"n": float("nan")})
    check({}, {"$min": {"a": 3}, "$max": {"b": [1]}}, {"a": 3, "b": [1]})
    early, late = datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1)
    check({"t": early}, {"$max": {"t": late}}, {"t": late})


# ----------------------------------------------------------------------------------------------------- rename


def test_rename() -> None:
    check({"a": 1, "b": 2}, {"$rename": {"a": "c"}}, {"b": 2, "c": 1})
    check({"a": 1, "b": 2}, {"$rename": {"a": "b"}}, {"b": 1})
    check({"a": {"x": 1}}, {"$rename": {"a.x": "b.y"}}, {"a": {}, "b": {"y": 1}})
    check({"a": 1}, {"$rename": {"z": "b"}}, {"a": 1})
    check({"a": 5}, {"$rename": {"a.x": "b"}}, {"a": 5})
    check({"a": [1]}, {"$rename": {"a": "b"}}, {"b": [1]})


# ----------------------------------------------------------------------------------------------------- arrays


def test_push() -> None:
    check({"a": [1]}, {"$push": {"a": 2}}, {"a": [1, 2]})
    check({}, {"$push": {"a.b": 2}}, {"a": {"b": [2]}})
    check({"a": [1]}, {"$push": {"a": [2, 3]}}, {"a": [1, [2, 3]]})
    check({"a": (1,)}, {"$push": {"a": {"x": 1}}}, {"a": [1, {"x": 1}]})
    check({"a": [1]}, {"$push": {"a": {"$each": [2, 3]}}}, {"a": [1, 2, 3]})
    check({}, {"$push": {"a": {"$each": []}}}, {"a": []})
    check({"a": [1, 4]}, {"$push": {"a": {"$each": [2, 3], "$position": 1}}}, {"a": [1, 2, 3, 4]})
    check({"a": [1, 4]}, {"$push": {"a": {"$each": [3], "$position": -1}}}, {"a": [1, 3, 4]})
    check({"a": [1, 4]}, {"$push": {"a": {"$each": [0], "$position": -9}}}, {"a": [0, 1, 4]})
    check({"a": [1, 4]}, {"$push": {"a": {"$each": [9], "$position": 9.0}}}, {"a": [1, 4, 9]})


def test_push_slices_and_sorts() -> None:
    check({"a": [1, 2]}, {"$push": {"a": {"$each": [3], "$slice": 2}}}, {"a": [1, 2]})
    check({"a": [1, 2]}, {"$push": {"a": {"$each": [3], "$slice": -2}}}, {"a": [2, 3]})
    check({"a": [1, 2]}, {"$push": {"a": {"$each": [3], "$slice": -9}}}, {"a": [1, 2, 3]})
    check({"a": [1, 2]}, {"$push": {"a": {"$each": [3], "$slice": 0}}}, {"a": []})
    check({"a": [3, 1]}, {"$push": {"a": {"$each": [2], "$sort": 1}}}, {"a": [1, 2, 3]})
    check({"a": [3, "x"]}, {"$push": {"a": {"$each": [None], "$sort": -1}}}, {"a": ["x", 3, None]})
    top = {"$each": [{"s": 5}], "$sort": {"s": -1}, "$slice": 2}
    check({"a": [{"s": 1}, {"s": 9}]}, {"$push": {"a": top}}, {"a": [{"s": 9}, {"s": 5}]})
    both = {"$each": [{"s": 1, "t": {"u": 0}}], "$sort": {"s": 1, "t.u": -1}}
    rest = [{"s": 1, "t": {"u": 7}}, {"s": 0}, 5]
    check({"a": rest}, {"$push": {"a": both}}, {"a": [5, {"s": 0}, rest[0], {"s": 1, "t": {"u": 0}}]})
    place = {"$each": [9, 8], "$position": 0, "$slice": 3}
    check({"a": [1, 2]}, {"$push": {"a": place}}, {"a": [9, 8, 1]})


def test_add_to_set() -> None:
    check({"a": [1]}, {"$addToSet": {"a": 2}}, {"a": [1, 2]})
    check({"a": [1]}, {"$addToSet": {"a": 1.0}}, {"a": [1]})
    check({"a": [1]}, {"$addToSet": {"a": True}}, {"a": [1, True]})
    check({"a": [1]}, {"$addToSet": {"a": {"$each": [1, 2, 2, 3]}}}, {"a": [1, 2, 3]})
    check({"a": [1]}, {"$addToSet": {"a": [1, 2]}}, {"a": [1, [1, 2]]})
    check(
        {"a": [{"x": 1, "y": 2}]},
        {"$addToSet": {"a": {"y": 2, "x": 1}}},
        {"a": [{"x": 1, "y": 2}, {"y": 2, "x": 1}]},
    )
    check({}, {"$addToSet": {"a": {"$each": [1, 1]}}}, {"a": [1]})
    check({}, {"$addToSet": {"a": {"$each": []}}}, {"a": []})


def test_pop() -> None:
    check({"a": [1, 2, 3]}, {"$pop": {"a": 1}}, {"a": [1, 2]})
    check({"a": [1, 2, 3]}, {"$pop": {"a": -1}}, {"a": [2, 3]})
    check({"a": []}, {"$pop": {"a": 1.0}}, {"a": []})
    check({}, {"$pop": {"a": 1, "b.c": 1}}, {})


def test_pull_by_value() -> None:
    check({"a": [1, 2, 1.0, "1", True]}, {"$pull": {"a": 1}}, {"a": [2, "1", True]})
    check({"a": [[1], [1, 2], 1]}, {"$pull": {"a": [1]}}, {"a": [[1, 2], 1]})
    check({"a": [None, 1]}, {"$pull": {"a": None}}, {"a": [1]})
    check({"b": {"a": [1, 2]}}, {"$pull": {"b.a": 2}}, {"b": {"a": [1]}})
    for doc in ({}, {"b": 5}, {"b": [{"a": [2]}]}):
        check(doc, {"$pull": {"b.a": 2}}, doc)


def test_pull_by_condition() -> None:
    check({"a": [1, 5, "x", [9]]}, {"$pull": {"a": {"$gt": 3}}}, {"a": [1, "x"]})
    check({"a": [1, 5, 8]}, {"$pull": {"a": {"$gt": 3, "$lt": 7}}}, {"a": [1, 8]})
    check({"a": [1, 5]}, {"$pull": {"a": {"$in": [5, 6]}}}, {"a": [1]})
    check({"a": [1, 5]}, {"$pull": {"a": {"$not": {"$gt": 3}}}}, {"a": [5]})
    check({"a": ["xy", "y", 5]}, {"$pull": {"a": re.compile("^x")}}, {"a": ["y", 5]})
    check({"a": ["xy", "y"]}, {"$pull": {"a": {"$regex": "Y", "$options": "i"}}}, {"a": []})


def test_pull_of_documents() -> None:
    docs = [{"x": 1, "y": 2}, {"x": 2}, {"x": [1]}, 1]
    check({"a": docs}, {"$pull": {"a": {"x": 1}}}, {"a": [{"x": 2}, 1]})
    check({"a": docs}, {"$pull": {"a": {"x": {"$gte": 2}}}}, {"a": [docs[0], docs[2], 1]})
    check({"a": docs}, {"$pull": {"a": {"$or": [{"x": 2}, {"y": 2}]}}}, {"a": [{"x": [1]}, 1]})
    check({"a": docs}, {"$pull": {"a": {}}}, {"a": [1]})
    check(
        {"a": [{"i": {"p": 1, "q": 2}}]},
        {"$pull": {"a": {"i": {"q": 2, "p": 1}}}},
        {"a": [{"i": {"p": 1, "q": 2}}]},
    )


# ------------------------------------------------------------------------------------------------- refusals

REFUSED: list[tuple[Any, str | None, str]] = [
    (5, None, "a mapping of fields"),
    ({1: 2}, None, "named by a str"),
    ({"a.b": 1}, "a.b", "only under an operator"),
    ({"$foo": {"a": 1}}, "$foo", "there are $addToSet, $inc"),
    ({"$setOnInsert": {"a": 1}}, "$setOnInsert", "there is no update operator"),
    ({"$set": 5}, "$set", "a mapping of paths"),
    ({"$set": {"": 1}}, "$set", "empty part"),
    ({"$set": {"a..b": 1}}, "$set", "empty part"),
    ({"$set": {"a.$.b": 1}}, "$set", "positional operators are not supported"),
    ({"$set": {"a.$[]": 1}}, "$set", "positional operators are not supported"),
    ({"$set": {5: 1}}, "$set", "a path is a str"),
    ({"$inc": {"a": "1"}}, "$inc.a", "takes a number"),
    ({"$inc": {"a": True}}, "$inc.a", "takes a number"),
    ({"$mul": {"a": None}}, "$mul.a", "takes a number"),
    ({"$min": {"a": {1}}}, "$min.a", "has no order"),
    ({"$max": {"a": [1j]}}, "$max.a", "has no order"),
    ({"$push": {"a": {"$slice": 1}}}, "$push.a", "need $each"),
    ({"$push": {"a": {"$each": [1], "$foo": 1}}}, "$push.a", "no modifier '$foo'"),
    ({"$push": {"a": {"$each": [1], "x": 1}}}, "$push.a", "no modifier 'x'"),
    ({"$push": {"a": {"$each": 5}}}, "$push.a.$each", "a list of elements"),
    ({"$push": {"a": {"$each": [1], "$slice": "2"}}}, "$push.a.$slice", "takes an int"),
    ({"$push": {"a": {"$each": [1], "$position": 0.5}}}, "$push.a.$position", "takes an int"),
    ({"$push": {"a": {"$each": [1], "$sort": 2}}}, "$push.a.$sort", "1 or -1"),
    ({"$push": {"a": {"$each": [1], "$sort": {}}}}, "$push.a.$sort", "1 or -1"),
    ({"$push": {"a": {"$each": [1], "$sort": {"x": 0}}}}, "$push.a.$sort", "1 or -1"),
    ({"$push": {"a": {"$each": [1], "$sort": {"x.": 1}}}}, "$push.a.$sort", "takes paths"),
    ({"$addToSet": {"a": {"$each": [1], "$slice": 1}}}, "$addToSet.a", "no modifier '$slice'"),
    ({"$pull": {"a": {"$gtt": 1}}}, "$pull.a.$gtt", "there is no operator"),
    ({"$pull": {"a": {"x": {"$gtt": 1}}}}, "$pull.a.x.$gtt", "there is no operator"),
    ({"$pull": {"a": object()}}, "$pull.a", "documents hold no object"),
    ({"$pop": {"a": 2}}, "$pop.a", "the last element"),
    ({"$pop": {"a": True}}, "$pop.a", "the last element"),
    ({"$rename": {"a": 5}}, "$rename.a", "a path is a str"),
    ({"$rename": {"a": "a"}}, "$rename.a", "$rename changes 'a' too"),
    ({"$rename": {"a": "a.b"}}, "$rename.a.b", "changes 'a' too"),
    ({"$set": {"a": 1, "a.b": 2}}, "$set.a.b", "changes 'a' too"),
    ({"$set": {"a.b": 1}, "$inc": {"a.b": 2}}, "$inc.a.b", "$set changes 'a.b' too"),
    ({"$push": {"a.b.c": 1}, "$unset": {"a": 2}}, "$push.a.b.c", "$unset changes 'a' too"),
    ({"$set": {"b": 1}, "$rename": {"a": "b"}}, "$rename.b", "$set changes 'b' too"),
]


_IDS = [str(one[0]).split(" object at")[0][:60] for one in REFUSED]


@pytest.mark.parametrize(("changes", "path", "text"), REFUSED, ids=_IDS)
def test_what_is_wrong_is_refused_with_its_place(changes: Any, path: str | None, text: str) -> None:
    with pytest.raises(InvalidFilter) as caught:
        compile_update(changes)
    assert caught.value.path == path
    assert text in str(caught.value)


def test_fields_and_operators_are_not_mixed() -> None:
    with pytest.raises(ValueError, match=r"mixes the operator \$inc with the field 'a': .*\$set"):
        compile_update({"a": 1, "$inc": {"b": 1}})


UNFIT: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"a": "x"}, {"$inc": {"a": 1}}, r"\$inc of 'a': it is of type str, and \$inc needs a number"),
    ({"a": True}, {"$inc": {"a": 1}}, "it is of type bool"),
    ({"a": None}, {"$mul": {"a": 1}}, "it is of type NoneType"),
    ({"a": 10**400}, {"$mul": {"a": 0.5}}, "no common type"),
    ({"a": {1}}, {"$max": {"a": 1}}, "it is of type set, which has no order"),
    ({"a": 5}, {"$push": {"a": 1}}, r"it is of type int, and \$push needs an array"),
    ({"a": {}}, {"$addToSet": {"a": 1}}, "needs an array"),
    ({"a": "x"}, {"$pull": {"a": 1}}, "needs an array"),
    ({"a": None}, {"$pop": {"a": 1}}, "needs an array"),
    ({"a": [{1}]}, {"$push": {"a": {"$each": [1], "$sort": 1}}}, "an element of type set"),
    ({"a": 5}, {"$set": {"a.b": 1}}, "no 'a.b' in this document: 'a' is of type int"),
    ({"a": None}, {"$inc": {"a.b.c": 1}}, "'a' is of type NoneType"),
    ({"a": {"b": "x"}}, {"$push": {"a.b.c": 1}}, "'a.b' is of type str"),
    ({"a": [1]}, {"$set": {"a.b": 1}}, "'a' is an array, and 'b' is no number"),
    ({"a": [1]}, {"$set": {"a.-1": 1}}, "'-1' is no number"),
    ({"a": [{"b": 1}]}, {"$rename": {"a.0.b": "c"}}, "'a' is an array"),
    ({"a": [], "c": 1}, {"$rename": {"c": "a.0"}}, "'a' is an array"),
]


@pytest.mark.parametrize(("doc", "changes", "text"), UNFIT, ids=[str(one[:2])[:60] for one in UNFIT])
def test_what_does_not_fit_a_document_is_a_type_error(
    doc: dict[str, Any], changes: dict[str, Any], text: str
) -> None:
    with pytest.raises(TypeError, match=text):
        updated(doc, changes)


def test_an_array_is_not_padded_without_limit() -> None:
    with pytest.raises(ValueError, match="would add 1999999 nulls to 'a' of 1 elements"):
        updated({"a": [1]}, {"$set": {"a.2000000": 1}})


def test_the_id_stays() -> None:
    for changes in ({"_id": 1}, {"$set": {"_id": 1}}, {"$max": {"_id": 0}}):
        assert compile_update(changes).apply({"_id": 1, "a": 2}) == {"_id": 1, "a": 2}
    refused: list[dict[str, Any]] = [
        {"_id": 2},
        {"_id": 1.0},
        {"_id": True},
        {"$set": {"_id": 2}},
        {"$inc": {"_id": 1}},
        {"$unset": {"_id": 1}},
        {"$rename": {"_id": "a"}},
        {"$rename": {"a": "_id"}},
    ]
    for changes in refused:
        with pytest.raises(ValueError, match="_id"):
            compile_update(changes).apply({"_id": 1, "a": 2})
    with pytest.raises(ValueError, match="can't change"):
        compile_update({"$set": {"_id.x": 2}}).apply({"_id": {"x": 1}})


def test_upsert_begins_with_the_id() -> None:
    assert compile_update({"$inc": {"n": 1}, "$push": {"t": 2}}).apply(upsert_base(5)) == {
        "_id": 5,
        "n": 1,
        "t": [2],
    }
    assert compile_update({"n": 1}).apply(upsert_base("x")) == {"_id": "x", "n": 1}


def test_the_fields_that_may_change() -> None:
    assert compile_update({"a": 1, "b": 2}).fields == {"a", "b"}
    assert compile_update({"$set": {"a.b": 1}, "$rename": {"c.d": "e"}}).fields == {"a", "c", "e"}


def test_a_deep_document_is_updated() -> None:
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    new = compile_update({"$set": {"a": deep}, "$addToSet": {"b": deep}}).apply({"_id": 1, "b": [deep]})
    assert len(new["b"]) == 1 and new["a"] == deep
