"""The short way of plain values against its reference, memdb.values: the same bytes, the same values, or no
answer."""

import math
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memdb import values
from memdb.errors import Error
from memdb.layering import pack_plain, unpack_plain

edges = st.sampled_from(
    [
        sign * (1 << bits) + by
        for bits in (5, 7, 8, 15, 16, 31, 32, 63)
        for sign in (1, -1)
        for by in (-1, 0, 1)
    ]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | edges
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.uuids()
)
plain = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=40), inner, max_size=20),
    max_leaves=30,
)
NOTHING = object()


@given(plain)
def test_the_bytes_and_the_values_are_those_of_the_reference(value: Any) -> None:
    stored = values.encode(value)
    packed = pack_plain(value)
    assert packed in (stored, None)
    found = unpack_plain(stored[:-1], NOTHING)
    if type(value) is not bytes:
        assert found is NOTHING or (found == value and repr(found) == repr(value))


@pytest.mark.parametrize(
    "value",
    [
        *[{}, {"a": {"b": [1, "x", None, True, 2.5, b"y", UUID(int=3)]}}, -33, 1 << 31, math.inf, "ü" * 40],
        *["x" * size for size in (31, 32, 255, 256, 65535, 65536)],
        *[b"x" * size for size in (1, 255, 256, 65536)],
        *[[0] * size for size in (15, 16, 65536)],
        *[{str(n): n for n in range(size)} for size in (15, 16, 70000)],
    ],
    ids=lambda value: f"{type(value).__name__} {len(repr(value))}",
)
def test_plain_values_take_the_short_way(value: Any) -> None:
    stored = values.encode(value)
    if type(value) is not bytes:
        assert pack_plain(value) == stored
        assert unpack_plain(stored[:-1], NOTHING) == value
    else:
        assert pack_plain([value]) == values.encode([value]) and unpack_plain(values.pack([value])) == [value]


@pytest.mark.parametrize(
    "value", [(1,), {1}, Decimal(1), 1 << 64, {1: 2}, "\ud800", {"\ud800": 1}, object(), b"bytes", [[(1,)]]]
)
def test_all_else_is_left_to_the_reference(value: Any) -> None:
    assert pack_plain(value) is None


def test_deep_values_are_left_to_the_reference() -> None:
    value: Any = 1
    for _ in range(200):
        value = [value]
    assert pack_plain(value) is None and unpack_plain(values.pack(value), NOTHING) is NOTHING


@given(plain, st.data())
def test_damaged_bytes_read_as_the_reference_reads_them(value: Any, data: st.DataObject) -> None:
    payload = bytearray(values.pack(value))
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    changed = bytes(payload[: data.draw(st.integers(0, len(payload)))])
    found = unpack_plain(changed, NOTHING)
    if found is NOTHING:
        return
    try:
        expected = values.unpack(changed)
    except Error as error:
        pytest.fail(f"the reference refuses it: {error}")
    assert repr(found) == repr(expected)
