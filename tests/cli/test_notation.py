"""Keys and values as text: what is typed and what is printed."""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
import zoneinfo
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memdb.cli import notation

SCALARS: Any = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
    | st.decimals(allow_nan=False) | st.uuids() | st.dates() | st.times() | st.datetimes() | st.timedeltas()
)  # fmt: skip
VALUES: Any = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner)
        | st.dictionaries(st.integers(), inner)
    ),
)


@pytest.mark.parametrize(
    ("text", "kind", "key"),
    [
        ("user:1", "str", "user:1"),
        ("7", "str", "7"),
        ("7", "int", 7),
        ("-1.5", "float", -1.5),
        ("true", "bool", True),
        ("none", "none", None),
        ("é", "bytes", b"\xc3\xa9"),
        ("00ff", "hex", b"\x00\xff"),
        ("12345678-1234-5678-1234-567812345678", "uuid", uuid.UUID("12345678-1234-5678-1234-567812345678")),
        (
            "2026-01-02T03:04:05+00:00",
            "datetime",
            datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
        ),
        ("('user', 1)", "literal", ("user", 1)),
    ],
)
def test_keys(text: str, kind: str, key: object) -> None:
    assert notation.parse_key(text, kind) == key
    assert type(notation.parse_key(text, kind)) is type(key)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("x", "int"),
        ("x", "float"),
        ("2", "bool"),
        ("x", "none"),
        ("0g", "hex"),
        ("x", "uuid"),
        ("x", "datetime"),
        ("open('x')", "literal"),
        ("(", "literal"),
    ],
)
def test_bad_keys_say_what_is_wrong(text: str, kind: str) -> None:
    with pytest.raises(notation.NotationError, match=f"not of type {kind}"):
        notation.parse_key(text, kind)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ('{"a": [1, 2.5, null]}', "auto", {"a": [1, 2.5, None]}),
        ("hello", "auto", "hello"),
        ('"1"', "auto", "1"),
        ("1", "auto", 1),
        ("1", "text", "1"),
        ("ab", "bytes", b"ab"),
        ("{1, 2}", "literal", {1, 2}),
    ],
)
def test_values(text: str, kind: str, value: object) -> None:
    assert notation.parse_value(text, kind) == value


def test_bad_json_is_an_error_only_where_json_was_asked_for() -> None:
    assert notation.parse_value("{oops") == "{oops"
    with pytest.raises(notation.NotationError):
        notation.parse_value("{oops", "json")


def test_every_kind_is_parsed() -> None:
    assert set(notation._KEY_PARSERS) == set(notation.KEY_TYPES)
    assert {"auto", *notation._VALUE_PARSERS} == set(notation.VALUE_TYPES)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"\x00", {"$bytes": "AA=="}),
        ((1, "a"), {"$tuple": [1, "a"]}),
        ({2, 1}, {"$set": [1, 2]}),
        (frozenset({1}), {"$frozenset": [1]}),
        (decimal.Decimal("1.10"), {"$decimal": "1.10"}),
        (float("inf"), {"$float": "inf"}),
        ({1: "a"}, {"$map": [[1, "a"]]}),
        ({"$set": 1}, {"$map": [["$set", 1]]}),
        ({"$a": 1, "b": 2}, {"$a": 1, "b": 2}),
        (datetime.timedelta(1, 2, 3), {"$timedelta": [1, 2, 3]}),
        (
            datetime.datetime(2026, 1, 2, tzinfo=zoneinfo.ZoneInfo("UTC")),
            {"$datetime": "2026-01-02T00:00:00+00:00", "zone": "UTC"},
        ),
    ],
)
def test_tagged_json(value: object, shown: object) -> None:
    assert notation.to_json(value) == shown


@given(VALUES, VALUES)
def test_json_tells_values_apart(one: Any, other: Any) -> None:
    """What is printed is JSON, and equal only if types and values are."""
    first, second = notation.dumps(one), notation.dumps(other)
    assert json.loads(first) == notation.to_json(one)
    if first == second:
        assert one == other and type(one) is type(other)


MOMENTS: Any = st.datetimes(
    timezones=st.sampled_from([datetime.UTC, datetime.timezone(datetime.timedelta(hours=5, minutes=30))])
) | st.datetimes(
    min_value=datetime.datetime(1950, 1, 1),
    timezones=st.just(zoneinfo.ZoneInfo("Europe/Berlin")),
    allow_imaginary=False,
)


@given(
    VALUES
    | st.lists(MOMENTS)
    | st.sets(st.integers())
    | st.frozensets(st.text())
    | st.complex_numbers(allow_nan=False)
)
def test_tagged_json_is_read_as_what_was_written(value: Any) -> None:
    found = notation.from_json(json.loads(notation.dumps(value)))
    assert found == value and notation.dumps(found) == notation.dumps(value)  # a fold is not in the text


@pytest.mark.parametrize(
    "value",
    [{"$datetime": "x", "zone": "y"}, {"$uuid": "x"}, {"$set": [1]}, {"$": 1}, {"$bytes": {"$uuid": "x"}}],
)
def test_maps_that_look_like_tags_come_back(value: Any) -> None:
    assert notation.from_json(json.loads(notation.dumps(value))) == value


def test_operators_are_no_tags() -> None:
    changes = {"$set": {"a": 1}, "$unset": {"b": ""}}
    assert notation.from_json(changes) == changes
    for operators in (
        {"$set": {"a": 1}},
        {"age": {"$gt": 5}},
        {"$and": [{"a": 1}]},
        {"a": {"$type": "date"}},
    ):
        assert notation.from_json(operators) == operators
    assert notation.from_json({"a": {"$gt": {"$decimal": "1.10"}}}) == {"a": {"$gt": decimal.Decimal("1.10")}}


@pytest.mark.parametrize(
    "text", ['{"a": {"$uuid": "x"}}', '{"a": {"$bytes": "!"}}', '{"$decimal": "x"}', "[1]", "x", "[" * 5000,
             '{"a": {"$datetime": "2026-01-01T00:00:00", "zone": "No/Where"}}'],
)  # fmt: skip
def test_documents_that_are_none(text: str) -> None:
    with pytest.raises(notation.NotationError):
        notation.parse_document(text, "DOCUMENT")
