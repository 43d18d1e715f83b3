"""Filters: the meaning of each operator, above all at arrays, null and missing fields; what is refused; what
a planner gets to know."""

import pickle
import re
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from memdb.documents.filters import Condition, compile_filter
from memdb.errors import InvalidFilter

NAN = float("nan")
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def finds(filter: Any, doc: dict[str, Any]) -> bool:
    """What the filter says of a document; its plain copy must say the same."""
    compiled = compile_filter(filter)
    found = compiled.matches(doc)
    assert compile_filter(compiled.source).matches(doc) is found, compiled.source
    return found


def check(filter: Any, found: list[dict[str, Any]], left: list[dict[str, Any]]) -> None:
    for doc in found:
        assert finds(filter, doc), f"{filter} should find {doc}"
    for doc in left:
        assert not finds(filter, doc), f"{filter} should not find {doc}"


# -------------------------------------------------------------------------------------------------- equality


def test_numbers_are_one_type_and_bools_are_none() -> None:
    check({"a": 1}, [{"a": 1}, {"a": 1.0}, {"a": Decimal("1.00")}], [{"a": True}, {"a": "1"}, {"a": 2}, {}])
    check({"a": True}, [{"a": True}, {"a": [True]}], [{"a": 1}, {"a": 1.0}, {"a": [1]}])
    check({"a": 0}, [{"a": -0.0}], [{"a": False}, {"a": None}])
    check({"a": Decimal("0.1")}, [{"a": Decimal("0.10")}], [{"a": 0.1}])
    check({"a": 2**53 + 1}, [{"a": 2**53 + 1}], [{"a": float(2**53)}])


def test_nan_equals_nan_only() -> None:
    check({"a": NAN}, [{"a": NAN}, {"a": [NAN]}, {"a": Decimal("NaN")}], [{"a": 0.0}, {"a": None}, {}])
    check({"a": Decimal("sNaN")}, [{"a": NAN}], [{"a": 1}])
    check({"a": {"$in": [NAN]}}, [{"a": NAN}], [{"a": 1}, {}])
    check({"a": {"$gte": NAN}}, [{"a": NAN}], [{"a": 1}, {"a": None}])
    check({"a": {"$gt": NAN}}, [], [{"a": NAN}, {"a": 1}])
    for op in ("$lt", "$lte", "$gt", "$gte"):
        check({"a": {op: 5}}, [], [{"a": NAN}, {"a": Decimal("NaN")}, {"a": Decimal("sNaN")}])
    check({"a": 5}, [], [{"a": Decimal("sNaN")}])
    check({"a": {"$in": [5, 6]}}, [], [{"a": Decimal("sNaN")}])


def test_null_is_also_what_is_missing() -> None:
    check({"a": None}, [{"a": None}, {}, {"a": [1, None]}], [{"a": 0}, {"a": []}, {"a": False}, {"a": {}}])
    check({"a": {"$ne": None}}, [{"a": 0}, {"a": []}], [{"a": None}, {}, {"a": [None]}])
    check({"a": {"$in": [None, 3]}}, [{"a": None}, {}, {"a": 3}], [{"a": 4}])
    check({"a": {"$nin": [None]}}, [{"a": 4}], [{}, {"a": None}])
    check({"a": {"$gte": None}}, [{"a": None}, {}], [{"a": 0}])
    check({"a": {"$lte": None}}, [{"a": None}, {}], [{"a": 0}])
    check({"a": {"$gt": None}}, [], [{"a": None}, {}, {"a": 0}])


def test_null_at_inner_paths() -> None:
    found = [{}, {"a": None}, {"a": 4}, {"a": {}}, {"a": {"b": None}}, {"a": [{"b": 1}, {}]}]
    left = [{"a": {"b": 1}}, {"a": []}, {"a": [1]}, {"a": [None]}, {"a": [[]]}, {"a": [{"b": 1}]}]
    check({"a.b": None}, found, left)
    check({"a.b": {"$exists": False}}, [{}, {"a": 4}, {"a": []}, {"a": [{}]}], [{"a": [{}, {"b": None}]}])


def test_embedded_documents_equal_with_their_fields_in_order() -> None:
    check({"a": {"x": 1, "y": 2}}, [{"a": {"x": 1, "y": 2.0}}], [{"a": {"y": 2, "x": 1}}, {"a": {"x": 1}}])
    check({"a": {}}, [{"a": {}}, {"a": [{}]}], [{"a": {"x": 1}}, {}])
    check({"a": {"$eq": {"$gt": 1}}}, [{"a": {"$gt": 1}}], [{"a": 2}])


def test_an_array_equals_as_a_whole_or_by_an_element() -> None:
    check({"a": [1, 2]}, [{"a": [1, 2]}, {"a": (1, 2.0)}, {"a": [[1, 2]]}], [{"a": [2, 1]}, {"a": 1}])
    check({"a": 1}, [{"a": [3, 1]}], [{"a": [[1]]}, {"a": [True]}])
    check({"a": []}, [{"a": []}, {"a": [[]]}], [{"a": [1]}, {}])
    check({"a": "x"}, [{"a": ["x"]}, {"a": ("y", "x")}], [{"a": ["y"]}, {"a": [["x"]]}, {"a": b"x"}])


def test_other_types_equal_exactly() -> None:
    check({"a": {1, 2}}, [{"a": {2, 1}}], [{"a": frozenset({1, 2})}, {"a": [1, 2]}])
    check({"a": 1j}, [{"a": 1j}], [{"a": 1}])
    check({"a": UUID(int=5)}, [{"a": UUID(int=5)}], [{"a": UUID(int=5).bytes}])
    east = timezone(timedelta(hours=2))
    check({"a": NOON}, [{"a": NOON.astimezone(east)}, {"a": NOON.replace(tzinfo=None)}], [{"a": NOON.date()}])
    check({"a": bytearray(b"x")}, [{"a": b"x"}], [{"a": "x"}])


# ------------------------------------------------------------------------------------------------ comparison


def test_comparison_holds_within_one_type() -> None:
    check({"a": {"$gt": 5}}, [{"a": 6}, {"a": 5.5}, {"a": Decimal(6)}, {"a": [1, 9]}], [{"a": 5}, {"a": "6"}])
    check({"a": {"$gt": 0}}, [], [{"a": True}, {"a": None}, {}, {"a": [[5]]}, {"a": NOON}])
    check({"a": {"$lt": "b"}}, [{"a": "a"}, {"a": ["z", "a"]}], [{"a": "b"}, {"a": 1}, {"a": b"a"}])
    check({"a": {"$gte": False}}, [{"a": True}, {"a": False}], [{"a": 1}])
    check({"a": {"$gt": NOON}}, [{"a": NOON + timedelta(seconds=1)}], [{"a": NOON}, {"a": date(2030, 1, 1)}])
    check({"a": {"$lt": date(2024, 1, 1)}}, [{"a": date(2023, 1, 1)}], [{"a": NOON.replace(year=2020)}])
    check({"a": {"$lte": timedelta(1)}}, [{"a": timedelta(1)}], [{"a": 0}])
    check({"a": {"$gt": UUID(int=1)}}, [{"a": UUID(int=2)}], [{"a": UUID(int=1)}, {"a": b"\xff"}])


@pytest.mark.parametrize("value", [3, 3.5, "m", b"m", UUID(int=3)])
def test_the_common_comparisons_of_a_field(value: Any) -> None:
    step = UUID(int=9) if isinstance(value, UUID) else value * 2
    check({"a": value}, [{"a": value}, {"a": [value]}], [{"a": step}, {}, {"a": None}])
    check({"a": {"$gt": value}}, [{"a": step}, {"a": [value, step]}], [{"a": value}, {}])
    check({"a": {"$gte": value}}, [{"a": step}, {"a": value}, {"a": [value]}], [{}, {"a": []}])
    check({"a": {"$lt": step}}, [{"a": value}, {"a": (value,)}], [{"a": step}, {}, {"a": None}])
    check({"a": {"$lte": step}}, [{"a": value}, {"a": step}], [{}, {"a": True}])


def test_arrays_and_documents_are_ordered_too() -> None:
    check({"a": {"$gt": [1, 2]}}, [{"a": [1, 3]}, {"a": [2]}, {"a": [1, 2, 0]}], [{"a": [1, 2]}, {"a": 5}])
    check({"a": {"$gt": [1]}}, [{"a": [0, [2]]}], [{"a": [0, 2]}])
    check({"a": {"$gte": {"x": 1}}}, [{"a": {"x": 1}}, {"a": {"x": 2}}, {"a": {"b": "s"}}], [{"a": {"x": 0}}])
    check({"a": {"$lt": [5]}}, [{"a": [1]}], [{"a": [{1}]}])


def test_a_range_over_an_array_may_be_met_by_two_elements() -> None:
    check({"a": {"$gt": 5, "$lt": 3}}, [{"a": [1, 9]}], [{"a": 4}, {"a": [4]}])
    check({"a": {"$elemMatch": {"$gt": 5, "$lt": 8}}}, [{"a": [1, 7]}], [{"a": [1, 9]}, {"a": 7}])


# ------------------------------------------------------------------------------------------------- exclusion


def test_ne_and_nin_exclude_by_any_element() -> None:
    check({"a": {"$ne": 1}}, [{"a": 2}, {}, {"a": [2]}, {"a": True}, {"a": []}], [{"a": 1}, {"a": [2, 1]}])
    check({"a": {"$nin": [1, "x"]}}, [{"a": 2}, {}, {"a": [2]}], [{"a": 1}, {"a": [3, "x"]}])
    check({"a.b": {"$ne": 1}}, [{"a": [{"b": 2}]}, {"a": []}], [{"a": [{"b": 2}, {"b": 1}]}])


def test_not_is_the_opposite_also_of_what_is_missing() -> None:
    check({"a": {"$not": {"$gt": 5}}}, [{"a": 5}, {}, {"a": "x"}, {"a": [1]}], [{"a": 6}, {"a": [1, 6]}])
    check({"a": {"$not": {"$gt": 5, "$lt": 9}}}, [{"a": 9}, {}], [{"a": 7}, {"a": [1, 20]}])
    check({"a": {"$not": re.compile("^x")}}, [{"a": "y"}, {}], [{"a": "xy"}, {"a": ["y", "x"]}])
    check({"a": {"$not": {"$regex": "X", "$options": "i"}}}, [{"a": "y"}], [{"a": "ax"}])
    check({"a": {"$not": {"$not": {"$gt": 5}}}}, [{"a": 6}], [{"a": 5}, {}])


def test_logic() -> None:
    check({"$or": [{"a": 1}, {"b": 2}]}, [{"a": 1}, {"b": 2}], [{}, {"a": 2, "b": 1}])
    check({"$nor": [{"a": 1}, {"b": 2}]}, [{}], [{"a": 1}, {"b": 2}])
    check({"$and": [{"a": {"$gt": 1}}, {"a": {"$lt": 5}}]}, [{"a": 3}], [{"a": 1}, {"a": 9}])
    check({"c": 1, "$or": [{"a": 1}, {"$and": [{"b": 2}]}]}, [{"a": 1, "c": 1}], [{"a": 1}, {"c": 1}])
    check({"a": 1, "b": 2, "c": 3}, [{"a": 1, "b": 2, "c": 3}], [{"a": 1, "b": 2}])
    check({}, [{}, {"a": 1}], [])
    check(None, [{}, {"a": 1}], [])


# ----------------------------------------------------------------------------------------------------- paths


def test_paths_through_arrays_and_positions() -> None:
    check(
        {"a.b": 2}, [{"a": {"b": 2}}, {"a": [{"b": 1}, {"b": 2}]}, {"a": [{"b": [2]}]}], [{"a": [[{"b": 2}]]}]
    )
    check({"a.0": 5}, [{"a": [5, 1]}, {"a": {"0": 5}}, {"a": [{"0": 5}]}], [{"a": [1, 5]}, {"a": [[5]]}])
    check({"a.0": [5]}, [{"a": [[5]]}], [{"a": [5]}])
    check({"a.0.b": 2}, [{"a": [{"b": 2}]}, {"a": [[{"b": 2}]]}], [{"a": [{"b": 1}, {"b": 2}]}])
    check({"a.1.0": 7}, [{"a": [0, [7]]}], [{"a": [[7], 0]}])
    check({"a.00": 5}, [{"a": {"00": 5}}], [{"a": [5]}])
    check(
        {"a.b.c": 1}, [{"a": [{"b": [{"c": 1}]}]}, {"a": {"b": {"c": 1}}}], [{"a": {"b": 1}}, {"a": {"c": 1}}]
    )
    check({"a.2": {"$exists": True}}, [{"a": [1, 2, 3]}], [{"a": [1, 2]}])


def test_exists_of_null_and_arrays() -> None:
    check({"a": {"$exists": True}}, [{"a": None}, {"a": []}, {"a": 0}], [{}])
    check({"a": {"$exists": 0}}, [{}], [{"a": None}])


# ---------------------------------------------------------------------------------------------------- arrays


def test_size_is_of_arrays_only() -> None:
    check({"a": {"$size": 1}}, [{"a": [0]}, {"a": ([1, 2],)}], [{"a": 5}, {"a": "x"}, {"a": {"x": 1}}, {}])
    check({"a": {"$size": 0}}, [{"a": []}], [{}, {"a": None}, {"a": [[]]}])
    check({"a": {"$size": 2.0}}, [{"a": [0, 1]}], [{"a": [[0, 1]]}])
    check({"a.b": {"$size": 1}}, [{"a": [{"b": 5}, {"b": [5]}]}], [{"a": [{"b": 5}]}])


def test_all_of_values_patterns_and_elements() -> None:
    check({"a": {"$all": [1, 2]}}, [{"a": [2, 3, 1]}], [{"a": [1]}, {"a": 1}, {}])
    check({"a": {"$all": [1]}}, [{"a": 1}, {"a": [1.0]}], [{"a": [True]}])
    check({"a": {"$all": [[1, 2]]}}, [{"a": [1, 2]}, {"a": [[1, 2]]}], [{"a": [2, 1]}])
    check({"a": {"$all": []}}, [], [{"a": []}, {"a": 1}, {}])
    check({"a": {"$all": [None]}}, [{}, {"a": [None]}], [{"a": 1}])
    check({"a": {"$all": [re.compile("x"), "y"]}}, [{"a": ["axb", "y"]}], [{"a": ["y"]}])
    both = {"$all": [{"$elemMatch": {"x": 1, "y": 2}}, {"$elemMatch": {"x": 3}}]}
    check({"a": both}, [{"a": [{"x": 3}, {"x": 1, "y": 2}]}], [{"a": [{"x": 1}, {"y": 2}, {"x": 3}]}])


def test_elem_match_of_values_and_documents() -> None:
    check({"a": {"$elemMatch": {"x": 1, "y": 2}}}, [{"a": [{"x": 1, "y": 2}]}], [{"a": [{"x": 1}, {"y": 2}]}])
    check({"a": {"$elemMatch": {"x": 1}}}, [{"a": [5, {"x": [1]}]}], [{"a": {"x": 1}}, {"a": [1]}, {}])
    check({"a": {"$elemMatch": {"$gt": 3}}}, [{"a": [4]}], [{"a": 4}, {"a": [[4]]}, {"a": []}])
    check({"a": {"$elemMatch": {"$elemMatch": {"$gt": 3}}}}, [{"a": [[4]]}], [{"a": [4]}])
    check({"a": {"$elemMatch": {"0": 4}}}, [{"a": [[4]]}], [{"a": [4]}])
    check({"a": {"$elemMatch": {}}}, [{"a": [{}]}, {"a": [[]]}], [{"a": [1]}, {"a": []}])
    check({"a": {"$elemMatch": {"$or": [{"x": 1}, {"x": 2}]}}}, [{"a": [{"x": 2}]}], [{"a": [{"x": 3}]}])
    check({"a": {"$elemMatch": {"$ne": 1}}}, [{"a": [1, 2]}], [{"a": [1]}, {"a": 2}])
    check({"a": {"$elemMatch": {"$not": {"$gt": 3}, "$exists": True}}}, [{"a": [1]}], [{"a": [4]}, {"a": []}])
    check({"a": {"$elemMatch": {"$size": 2}}}, [{"a": [[1, 2]]}], [{"a": [1, 2]}])
    check({"a": {"$elemMatch": {"$regex": "^x", "$ne": "xy"}}}, [{"a": ["xz"]}], [{"a": ["xy", "z"]}])
    check({"a.b": {"$elemMatch": {"c": 1}}}, [{"a": [{"b": [{"c": 1}]}]}], [{"a": [{"b": {"c": 1}}]}])


# --------------------------------------------------------------------------------------- regex, type, mod, in


def test_regex_is_found_in_str_only() -> None:
    check(
        {"a": {"$regex": "b.d"}},
        [{"a": "abcd"}, {"a": ["x", "bxd"]}],
        [{"a": "b"}, {"a": b"bcd"}, {}, {"a": 5}],
    )
    check({"a": re.compile("^B", re.I)}, [{"a": "bc"}], [{"a": "ab"}])
    check({"a": {"$regex": "^b", "$options": "im"}}, [{"a": "a\nB"}], [{"a": "ab"}])
    check({"a": {"$regex": "a.c", "$options": "s"}}, [{"a": "a\nc"}], [{"a": "ac"}])
    check({"a": {"$regex": "a b # c", "$options": "x"}}, [{"a": "ab"}], [{"a": "a b"}])
    check({"a": re.compile(r"^\w$", re.A)}, [{"a": "e"}], [{"a": "é"}])
    check({"a": {"$regex": re.compile("x"), "$options": "i", "$ne": "X"}}, [{"a": "aX"}], [{"a": "X"}])
    check({"a": {"$in": [re.compile("^x"), 5]}}, [{"a": "xy"}, {"a": 5}, {"a": ["xy"]}], [{"a": "y"}, {}])
    check({"a": {"$nin": [re.compile("^x")]}}, [{"a": "y"}, {}], [{"a": "x"}])


def test_in_of_all_types() -> None:
    values = [1, "x", b"y", UUID(int=1), True, NOON, [1, 2], {"k": 1}, Decimal("2.5")]
    check(
        {"a": {"$in": values}}, [{"a": value} for value in values], [{"a": False}, {"a": 9}, {"a": "y"}, {}]
    )
    check({"a": {"$in": [1]}}, [{"a": 1.0}, {"a": Decimal(1)}, {"a": [7, 1]}], [{"a": True}, {"a": "1"}])
    check({"a": {"$in": [[1]]}}, [{"a": [1]}, {"a": [[1]]}], [{"a": 1}])
    check({"a": {"$in": []}}, [], [{"a": []}, {}])


def test_types_by_name_and_number() -> None:
    check({"a": {"$type": "string"}}, [{"a": "x"}, {"a": [1, "x"]}], [{"a": b"x"}, {}])
    check({"a": {"$type": 2}}, [{"a": "x"}], [{"a": 2}])
    check({"a": {"$type": "array"}}, [{"a": []}, {"a": (1,)}], [{"a": 1}])
    check({"a": {"$type": "int"}}, [{"a": -(2**31)}], [{"a": 2**31}, {"a": 1.0}, {"a": True}])
    check({"a": {"$type": "long"}}, [{"a": 2**31}], [{"a": 1}])
    check(
        {"a": {"$type": ["number", 8]}}, [{"a": 1}, {"a": 1.5}, {"a": Decimal(1)}, {"a": True}], [{"a": "1"}]
    )
    check({"a": {"$type": "null"}}, [{"a": None}], [{}, {"a": 0}])
    check({"a": {"$type": "binData"}}, [{"a": b""}, {"a": UUID(int=1)}], [{"a": ""}])
    check({"a": {"$type": "date"}}, [{"a": NOON}], [{"a": NOON.date()}])
    check(
        {"a": {"$type": ["day", "timedelta", "set", "complex", "uuid", "time"]}}, [{"a": {1}}], [{"a": NOON}]
    )
    check({"a": {"$type": "objectId"}}, [], [{"a": "x"}, {}])
    check({"a": {"$type": 1.0}}, [{"a": 1.5}], [{"a": 1}])


def test_mod_cuts_fractions_and_keeps_the_sign() -> None:
    check(
        {"a": {"$mod": [4, 1]}}, [{"a": 5}, {"a": 5.9}, {"a": Decimal("9.5")}, {"a": [2, 1]}], [{"a": 6}, {}]
    )
    check({"a": {"$mod": [4, -1]}}, [{"a": -5}, {"a": -5.9}], [{"a": 5}, {"a": 3}, {"a": -6}])
    check({"a": {"$mod": [-4, 1]}}, [{"a": 5}], [{"a": -5}])
    check({"a": {"$mod": [4.9, 1.9]}}, [{"a": 5}], [{"a": 6}])
    check(
        {"a": {"$mod": [2, 0]}}, [{"a": 0}, {"a": -2}, {"a": 2**70}], [{"a": False}, {"a": "2"}, {"a": None}]
    )
    for odd in (NAN, float("inf"), 1e30, Decimal("sNaN"), Decimal("Infinity"), Decimal("1e999999")):
        check({"a": {"$mod": [2, 0]}}, [], [{"a": odd}])


# --------------------------------------------------------------------------------------------------- refusals

REFUSED: list[tuple[Any, str | None, str]] = [
    (5, None, "mapping"),
    ({3: 1}, None, "named by a str"),
    ({"$foo": 1}, "$foo", "there are $and, $or, $nor"),
    ({"$gt": 1}, "$gt", "inside a field's condition"),
    ({"$not": {"a": 1}}, "$not", "inside a field's condition"),
    ({"a": {"$gtt": 1}}, "a.$gtt", "there are $eq"),
    ({"a": {"$gt": 1, "x": 2}}, "a.x", "can't be mixed"),
    ({"a": {"x": 1, "$gt": 2}}, "a.x", "can't be mixed"),
    ({"$or": []}, "$or", "one filter or more"),
    ({"$and": {"a": 1}}, "$and", "one filter or more"),
    ({"$nor": [5]}, "$nor[0]", "mapping"),
    ({"$or": [{"a": 1}, {"b": {"$in": 5}}]}, "$or[1].b.$in", "list of values"),
    ({"a": {"$nin": "xy"}}, "a.$nin", "list of values"),
    ({"a": {"$in": [{"$gt": 1}]}}, "a.$in[0]", "use $or"),
    ({"a": {"$all": 5}}, "a.$all", "list of values"),
    ({"a": {"$all": [{"$gt": 1}]}}, "a.$all[0]", "use $and"),
    ({"a": {"$size": -1}}, "a.$size", "0 or more"),
    ({"a": {"$size": True}}, "a.$size", "0 or more"),
    ({"a": {"$size": 1.5}}, "a.$size", "0 or more"),
    ({"a": {"$exists": "yes"}}, "a.$exists", "true or false"),
    ({"a": {"$type": "strin"}}, "a.$type", "there are double, string"),
    ({"a": {"$type": 99}}, "a.$type", "no type"),
    ({"a": {"$type": []}}, "a.$type", "empty list"),
    ({"a": {"$type": True}}, "a.$type", "no type"),
    ({"a": {"$mod": 5}}, "a.$mod", "two numbers"),
    ({"a": {"$mod": [2]}}, "a.$mod", "two numbers"),
    ({"a": {"$mod": [0.5, 1]}}, "a.$mod", "divisor of $mod is 0"),
    ({"a": {"$mod": ["2", 1]}}, "a.$mod", "finite numbers"),
    ({"a": {"$mod": [2, NAN]}}, "a.$mod", "finite numbers"),
    ({"a": {"$not": 5}}, "a.$not", "takes a condition"),
    ({"a": {"$not": {}}}, "a.$not", "takes a condition"),
    ({"a": {"$elemMatch": [1]}}, "a.$elemMatch", "takes a filter"),
    ({"a": {"$elemMatch": {"$gt": 1, "x": 1}}}, "a.$elemMatch.x", "can't be mixed"),
    ({"a": {"$elemMatch": {"x": {"$gtt": 1}}}}, "a.$elemMatch.x.$gtt", "there are $eq"),
    ({"a": {"$regex": "("}}, "a.$regex", "no pattern"),
    ({"a": {"$regex": 5}}, "a.$regex", "a pattern is a str"),
    ({"a": {"$regex": re.compile(b"x")}}, "a.$regex", "a pattern is a str"),
    ({"a": {"$regex": "x", "$options": "g"}}, "a.$options", "letters of 'imsx'"),
    ({"a": {"$options": "i"}}, "a.$options", "needs a $regex"),
    ({"a": {"$eq": re.compile("x")}}, "a.$eq", "a condition and no value"),
    ({"a": {"$ne": re.compile("x")}}, "a.$ne", "a condition and no value"),
    ({"a": {"$gt": re.compile("x")}}, "a.$gt", "a condition and no value"),
    ({"a": {"$gt": {1}}}, "a.$gt", "has no order"),
    ({"a": {"$lt": [1, 2j]}}, "a.$lt", "has no order"),
    ({"a": object()}, "a", "documents hold no object"),
    ({"a": [1, {"x": object()}]}, "a[1].x", "documents hold no object"),
]


_IDS = [str(one[0]).split(" object at")[0][:60] for one in REFUSED]


@pytest.mark.parametrize(("filter", "path", "text"), REFUSED, ids=_IDS)
def test_what_is_wrong_is_refused_with_its_place(filter: Any, path: str | None, text: str) -> None:
    with pytest.raises(InvalidFilter) as caught:
        compile_filter(filter)
    assert caught.value.path == path
    assert text in str(caught.value)
    assert str(caught.value).startswith(f"filter at {path}:" if path else "filter:")


def test_nesting_is_limited() -> None:
    deep: dict[str, Any] = {"a": 1}
    value: Any = 1
    for _ in range(150):
        deep = {"$and": [deep]}
        value = [value]
    for filter in (deep, {"a": value}):
        with pytest.raises(InvalidFilter, match="nested more than 100 deep"):
            compile_filter(filter)


# -------------------------------------------------------------------------------------------- for the planner


def test_the_source_is_a_copy() -> None:
    tags = ["x"]
    filter = {"tags": {"$in": tags}, "a": re.compile("^x", re.I)}
    compiled = compile_filter(filter)
    tags.append("y")
    filter["b"] = 1
    assert compiled.source == {"tags": {"$in": ["x"]}, "a": {"$regex": "^x", "$options": "i"}}
    assert not compiled.matches({"tags": "y", "a": "X"})
    again = pickle.loads(pickle.dumps(compiled))
    assert again.source == compiled.source and again.matches({"tags": "x", "a": "Xa"})


def test_conditions_are_the_conjunction() -> None:
    filter = {
        "a": {"$gt": 5, "$ne": 7},
        "$and": [{"b": None}, {"c": {"$in": [1, 2]}}],
        "$or": [{"x": 1}],
        "d": {"$elemMatch": {"x": {"$lt": 3}, "y": 1}},
        "e": {"$exists": False},
        "f": {"$all": [1, 2]},
        "g": {"$elemMatch": {"$gt": 1, "$lt": 5}},
        "h": {"$in": [re.compile("x")]},
    }
    assert compile_filter(filter).conditions() == [
        Condition("a", "gt", 5),
        Condition("a", "ne", 7),
        Condition("b", "eq", None),
        Condition("c", "in", [1, 2]),
        Condition("d", "elemMatch", (Condition("d.x", "lt", 3), Condition("d.y", "eq", 1))),
        Condition("e", "exists", False),
        Condition("f", "eq", 1),
        Condition("f", "eq", 2),
        Condition("g", "elemMatch", (Condition("g", "gt", 1), Condition("g", "lt", 5))),
        Condition("h", "in_regex", [{"$regex": "x"}]),
    ]


@pytest.mark.parametrize(
    ("pattern", "flags", "prefix"),
    [
        ("^abc", 0, "abc"),
        ("^abc$", 0, "abc"),
        ("^ab*", 0, "a"),
        ("^ab{0,1}", 0, "a"),
        (r"^a\.b[c]", 0, "a.b"),
        (r"^a\d", 0, "a"),
        ("^ab|c", 0, ""),
        ("abc", 0, ""),
        ("^abc", re.I, ""),
        ("^abc", re.M, ""),
        ("^a b", re.X, ""),
        ("(?i)^abc", 0, ""),
        ("^", 0, ""),
        ("^(abc)", 0, ""),
    ],
)
def test_the_prefix_of_a_pattern(pattern: str, flags: int, prefix: str) -> None:
    conditions = compile_filter({"a": re.compile(pattern, flags)}).conditions()
    assert [one.operand for one in conditions if one.op == "prefix"] == ([prefix] if prefix else [])


def test_branches_are_the_sides_of_an_or() -> None:
    assert compile_filter({"a": 1}).branches() is None
    assert compile_filter({"$nor": [{"a": 1}]}).branches() is None
    both = compile_filter({"c": 3, "$or": [{"a": 1}, {"b": 2}]})
    branches = both.branches()
    assert branches is not None
    assert [one.source for one in branches] == [
        {"$and": [{"c": 3}, {"a": 1}]},
        {"$and": [{"c": 3}, {"b": 2}]},
    ]
    nested = compile_filter({"c": 3, "$and": [{"d": 4}, {"$or": [{"a": 1}, {"b": 2}]}]}).branches()
    assert nested is not None
    assert [one.matches({"a": 1, "c": 3, "d": 4}) for one in nested] == [True, False]
