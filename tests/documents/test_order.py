"""The order of values: by type and by value, total, and the same as that of the bytes of index entries."""

import itertools
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memdb.documents.order import compare, same
from memdb.documents.paths import EMPTY
from memdb.errors import UnsupportedType
from memdb.layering import encode_ordered
from memdb.sentinels import MISSING

NAN = float("nan")
INF = float("inf")
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)

# Each line holds equal values, and comes before the next one.
ASCENDING: list[list[Any]] = [
    [None, MISSING],
    [NAN, Decimal("NaN"), Decimal("sNaN")],
    [-INF, Decimal("-Infinity")],
    [-(10**400)],
    [-1.5, Decimal("-1.50")],
    [0, 0.0, -0.0, Decimal("-0.0")],
    [Decimal("0.1")],
    [0.1],
    [1, 1.0, Decimal("1.00")],
    [2**53, float(2**53)],
    [2**53 + 1],
    [10**400],
    [INF, Decimal("Infinity")],
    [""],
    ["a"],
    ["a\x00"],
    ["ab"],
    ["b"],
    ["é"],
    ["\uffff"],
    ["\U0001f600"],
    [{}],
    [{"z": None}],
    [{"a": 1}, {"a": 1.0}],
    [{"a": 1, "b": None}],
    [{"a": 2}],
    [{"b": 0}],
    [{"a": "x"}],
    [[], ()],
    [[None]],
    [[1], (1.0,)],
    [[1, 0]],
    [[1, "a"]],
    [[2]],
    [["a"]],
    [[[]]],
    [b""],
    [b"\x00"],
    [b"a"],
    [UUID(int=1)],
    [UUID(int=2)],
    [False],
    [True],
    [datetime(1, 1, 1)],
    [NOON, NOON.replace(tzinfo=None), NOON.astimezone(timezone(timedelta(hours=2)))],
    [NOON + timedelta(microseconds=1)],
    [date(2024, 1, 1)],
    [date(2024, 1, 2)],
    [timedelta(-1)],
    [timedelta(0)],
    [timedelta(microseconds=1)],
]


def sign(first: bytes, second: bytes) -> int:
    return (first > second) - (first < second)


def test_the_order_of_all_types() -> None:
    places = [(place, value) for place, line in enumerate(ASCENDING) for value in line]
    for (place, first), (other, second) in itertools.product(places, places):
        expected = (place > other) - (place < other)
        assert compare(first, second) == expected, (first, second)
        assert sign(encode_ordered(first), encode_ordered(second)) == expected, (first, second)
        if first is not MISSING and second is not MISSING:
            assert same(first, second) is (place == other), (first, second)


def test_an_empty_array_in_an_index_comes_first() -> None:
    assert encode_ordered(EMPTY) < encode_ordered(None) < encode_ordered([])


numbers = (
    st.integers()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.floats()
    | st.decimals(min_value=-(10**30), max_value=10**30)
    | st.sampled_from([NAN, INF, -INF, 0.0, -0.0, Decimal("sNaN"), 2**53, 2**53 + 1, float(2**53), 5e-324])
)
scalars = (
    st.none()
    | numbers
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
    | st.booleans()
    | st.binary(max_size=3)
    | st.uuids()
    | st.datetimes()
    | st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-3))]))
    | st.dates()
    | st.timedeltas()
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=2).map(tuple)
        | st.dictionaries(st.sampled_from(["", "a", "b", "é"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(values, values)
def test_the_bytes_of_index_entries_sort_alike(first: Any, second: Any) -> None:
    order = compare(first, second)
    assert order == -compare(second, first)
    assert order == sign(encode_ordered(first), encode_ordered(second))
    assert same(first, second) is (order == 0)


@given(numbers, numbers)
def test_so_do_those_of_numbers(first: Any, second: Any) -> None:
    assert compare(first, second) == sign(encode_ordered(first), encode_ordered(second))


@pytest.mark.parametrize("value", [{1}, frozenset(), 1j, time(1), object()])
def test_what_has_no_order(value: Any) -> None:
    for inner in (value, [value], {"a": [value]}):
        with pytest.raises(UnsupportedType, match="has no order"):
            compare(inner, inner)
        assert same(inner, inner)
        assert not same(inner, [1])
    assert not same(value, None)


def test_documents_whose_fields_are_no_str_have_none() -> None:
    assert same({1: 2}, {1: 2}) and not same({1: 2}, {True: 2})
    for other in ({"a": 2}, {1: 2}, {"a": "x"}):
        with pytest.raises(UnsupportedType, match="whose fields are all str"):
            compare({1: 2}, other)


def test_the_deepest_values_are_compared() -> None:
    first: Any = 1
    second: Any = 2
    for _ in range(512):
        first, second = [first], [second]
    assert compare(first, second) == -1 and not same(first, second)
