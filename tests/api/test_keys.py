"""Keys through the Python API: the FoundationDB tuple layer's vectors, order, types, prefixes, refusals."""

import math
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import memdb
from memdb.shm import _kernel

# Of the tuple layer's specification and the bindings' tests: the encoding of the one-element tuple.
VECTORS: list[tuple[Any, bytes]] = [
    (None, b"\x00"),
    (b"", b"\x01\x00"),
    (b"foo\x00bar", b"\x01foo\x00\xffbar\x00"),
    ("", b"\x02\x00"),
    ("hello", b"\x02hello\x00"),
    ("F\u00d4O\u0000bar", b"\x02F\xc3\x94O\x00\xffbar\x00"),
    ("\U0001f525", b"\x02\xf0\x9f\x94\xa5\x00"),
    (("foo\x00bar", None, ()), b"\x05\x02foo\x00\xffbar\x00\x00\xff\x05\x00\x00"),
    ((b"foo\x00bar", None, ()), b"\x05\x01foo\x00\xffbar\x00\x00\xff\x05\x00\x00"),
    (0, b"\x14"),
    (1, b"\x15\x01"),
    (-1, b"\x13\xfe"),
    (255, b"\x15\xff"),
    (-255, b"\x13\x00"),
    (256, b"\x16\x01\x00"),
    (-256, b"\x12\xfe\xff"),
    (65536, b"\x17\x01\x00\x00"),
    (-65536, b"\x11\xfe\xff\xff"),
    (-5551212, b"\x11\xabK\x93"),
    (2**63 - 1, b"\x1c\x7f" + b"\xff" * 7),
    (2**63, b"\x1c\x80" + b"\x00" * 7),
    (-(2**63), b"\x0c\x7f" + b"\xff" * 7),
    (2**64 - 1, b"\x1c" + b"\xff" * 8),
    (-(2**64) + 1, b"\x0c" + b"\x00" * 8),
    (2**64, b"\x1d\x09\x01" + b"\x00" * 8),
    (-(2**64), b"\x0b\xf6\xfe" + b"\xff" * 8),
    (-42.0, b"\x21\x3f\xba\xff\xff\xff\xff\xff\xff"),
    (3.14, b"\x21\xc0\x09\x1e\xb8\x51\xeb\x85\x1f"),
    (0.0, b"\x21\x80" + b"\x00" * 7),
    (-0.0, b"\x21\x7f" + b"\xff" * 7),
    (math.inf, b"\x21\xff\xf0" + b"\x00" * 6),
    (-math.inf, b"\x21\x00\x0f" + b"\xff" * 6),
    (False, b"\x26"),
    (True, b"\x27"),
    (
        uuid.UUID("12345678-1234-5678-1234-567812345678"),
        b"\x30" + bytes.fromhex("12345678" * 1 + "1234567812345678" + "12345678"),
    ),
]


@pytest.mark.parametrize(("key", "encoded"), VECTORS, ids=lambda one: repr(one)[:30])
def test_vector_of_the_tuple_layer(key: Any, encoded: bytes) -> None:
    assert _kernel.encode_key(key) == b"\x01" + encoded
    found = _kernel.decode_key(b"\x01" + encoded)
    assert found == key and type(found) is type(key)
    if type(key) is float:
        assert math.copysign(1, found) == math.copysign(1, key)


_aware = st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29), timezones=st.just(UTC))
_leaf: st.SearchStrategy[Any] = (
    st.none()
    | st.binary(max_size=20)
    | st.text(max_size=20)
    | st.integers()
    | st.floats(allow_nan=False)
    | st.booleans()
    | st.uuids()
    | _aware
)
keys = st.recursive(_leaf, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=8)
_RANK: dict[type, int] = {
    kind: rank
    for rank, kind in enumerate((type(None), bytes, str, tuple, int, float, bool, uuid.UUID, datetime))
}


def order(key: Any) -> Any:
    """A sort key that says what the documentation says: by type, then by value."""
    if type(key) is tuple:
        return (_RANK[tuple], tuple(order(one) for one in key))
    if type(key) is str:
        return (_RANK[str], key.encode())
    if type(key) is uuid.UUID:
        return (_RANK[uuid.UUID], key.bytes)
    if type(key) is float:
        return (_RANK[float], key, math.copysign(1, key))
    return (_RANK[type(key)], 0 if key is None else key)


@given(keys)
def test_round_trip(key: Any) -> None:
    found = _kernel.decode_key(_kernel.encode_key(key))
    assert found == key and type(found) is type(key)


@given(keys, keys)
def test_order_of_the_bytes_is_the_order_of_the_keys(one: Any, other: Any) -> None:
    left, right = order(one), order(other)
    assert (_kernel.encode_key(one) < _kernel.encode_key(other)) == (left < right)


@given(st.binary(max_size=40))
def test_any_bytes_decode_or_are_corruption(data: bytes) -> None:
    try:
        key = _kernel.decode_key(data)
    except memdb.CorruptionError:
        return
    if b"\x20" not in data:  # a float of 32 bits is read, and written with 64
        assert _kernel.encode_key(key, data[0] if 1 <= data[0] <= 7 else 1)[1:] == data[1:]


@given(st.lists(st.text(max_size=3) | st.integers(-2, 2) | st.binary(max_size=3), max_size=3), keys)
def test_prefix_of_a_tuple_covers_its_leading_elements(prefix: list[Any], key: Any) -> None:
    start, stop = _kernel.encode_prefix(tuple(prefix))
    expected = type(key) is tuple and [order(one) for one in key[: len(prefix)]] == [
        order(one) for one in prefix
    ]
    assert (start <= _kernel.encode_key(key) < stop) == expected


@given(st.text(max_size=2), st.text(max_size=4) | st.binary(max_size=3))
def test_prefix_of_text_covers_its_leading_characters(prefix: str, key: Any) -> None:
    start, stop = _kernel.encode_prefix(prefix)
    assert (start <= _kernel.encode_key(key) < stop) == (type(key) is str and key.startswith(prefix))


@given(st.binary(max_size=3), st.binary(max_size=4) | st.text(max_size=3))
def test_prefix_of_bytes_covers_its_leading_bytes(prefix: bytes, key: Any) -> None:
    start, stop = _kernel.encode_prefix(prefix)
    assert (start <= _kernel.encode_key(key) < stop) == (type(key) is bytes and key.startswith(prefix))


class Colour(IntEnum):
    RED = 1


class Text(str):
    pass


@pytest.mark.parametrize(
    "key",
    [
        math.nan,
        datetime(2026, 1, 1),
        "\ud800",
        ("a", "\udfff"),
        [1],
        {},
        set(),
        bytearray(b"a"),
        memoryview(b"a"),
        1j,
        object(),
        Colour.RED,
        Text("a"),
        timedelta(1),
        (1, (2, [3])),
        256**255,
        -(256**255),
    ],
    ids=lambda key: type(key).__name__,
)
def test_refused_as_a_key(db: memdb.Database, key: Any) -> None:
    calls: list[Callable[[], object]] = [
        lambda: db.get(key),
        lambda: db.set(key, 1),
        lambda: db.delete(key),
        lambda: key in db,
        lambda: db.get_many(["a", key]),
        lambda: db.set_many({"a": 1} | {}) or db.set_many([("b", 2), (key, 1)]),
        lambda: list(db.range(key)),
        lambda: db.entry(key),
    ]
    for call in calls:
        with pytest.raises(memdb.UnsupportedType):
            call()
    assert list(db) == ["a"]


def test_keys_of_equal_value_and_other_type_are_different(db: memdb.Database) -> None:
    pairs: list[tuple[Any, Any]] = [
        (1, "int"),
        (1.0, "float"),
        (True, "bool"),
        ("a", "str"),
        (b"a", "bytes"),
        (("a",), "tuple"),
    ]
    db.set_many(pairs)
    assert len(db) == 6
    assert [db[key] for key, _ in pairs] == [value for _, value in pairs]
    assert [type(key) for key in db] == [bytes, str, tuple, int, float, bool]


def test_datetimes_come_back_in_utc(db: memdb.Database) -> None:
    when = datetime(2026, 5, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    db[when] = 1
    (found,) = db
    assert found == when and found.tzinfo is UTC


def test_largest_integers(db: memdb.Database) -> None:
    largest = 256**255 - 1
    db.set_many({largest: 1, -largest: 2})
    assert list(db) == [-largest, largest]


def test_deep_tuples(db: memdb.Database) -> None:
    key: Any = ()
    for _ in range(62):
        key = (key,)
    db[key] = 1
    assert db[key] == 1
    for _ in range(5):
        key = (key,)
    with pytest.raises(memdb.UnsupportedType, match="64 deep"):
        db[key] = 1


@pytest.mark.parametrize("prefix", [1, 1.0, True, uuid.UUID(int=1), [1]], ids=repr)
def test_refused_as_a_prefix(db: memdb.Database, prefix: Any) -> None:
    with pytest.raises(memdb.UnsupportedType):
        list(db.range(prefix=prefix))
    with pytest.raises(memdb.UnsupportedType):
        db.delete_range(prefix=prefix)
