"""The value codec: exact round trips, exact refusals, and bytes that nobody wrote."""

import collections
import datetime as dt
import enum
import math
import re
import struct
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgpack
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memdb import values
from memdb.errors import CorruptionError, UnsupportedType
from memdb.values import decode, encode, pack, unpack


def same(left: object, right: object) -> bool:
    """Equal, of the same types all the way down: floats bit by bit, dicts in order, times with their fold."""
    if type(left) is not type(right):
        return False
    match left:
        case float():
            return struct.pack(">d", left) == struct.pack(">d", right)
        case complex():
            return same(left.real, right.real) and same(left.imag, right.imag)
        case Decimal():
            return left.as_tuple() == right.as_tuple()
        case list() | tuple():
            return len(left) == len(right) and all(map(same, left, right))
        case dict():
            return same(list(left.items()), list(right.items()))
        case set() | frozenset():
            return len(left) == len(right) and all(any(same(a, b) for b in right) for a in left)
        case datetime() | time():
            fields = [(one.replace(tzinfo=None), one.fold, repr(one.tzinfo)) for one in (left, right)]
            return fields[0] == fields[1] and type(left.tzinfo) is type(right.tzinfo)
        case _:
            return left == right


def check_round_trip(value: object) -> None:
    data = encode(value)
    assert same(decode(data), value), (decode(data), value)
    assert same(decode(memoryview(data)), value)
    if type(value) is not bytes:
        assert data[-1] == values.CODEC_MSGPACK
        assert data[:-1] == pack(value)
        if not contains_sets(value):  # a copy of a set may be in another order
            assert values._write_carefully(value) == pack(value)


def contains_sets(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(contains_sets, (*value, *value.values())))
    if isinstance(value, list | tuple):
        return any(map(contains_sets, value))
    return isinstance(value, set | frozenset)


ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]
offsets = st.timedeltas(
    min_value=timedelta(hours=-23, minutes=-59), max_value=timedelta(hours=23, minutes=59)
)
fixed_zones = st.builds(timezone, offsets) | st.builds(timezone, offsets, st.text(max_size=8))
zones = st.none() | st.just(UTC) | fixed_zones | st.sampled_from(ZONES).map(ZoneInfo)
datetimes = st.builds(
    lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold),
    st.datetimes(),
    zones,
    st.integers(0, 1),
)
times = st.builds(
    lambda clock, zone, fold: clock.replace(tzinfo=zone, fold=fold), st.times(), zones, st.integers(0, 1)
)
hashable_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=40)
    | st.binary(max_size=40)
    | st.decimals().filter(lambda number: not number.is_snan())  # not hashable
    | st.uuids()
    | st.dates()
    | times
    | datetimes
    | st.timedeltas()
    | st.complex_numbers()
)
hashable = st.recursive(
    hashable_leaves,
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.frozensets(inner, max_size=4),
    max_leaves=8,
)
storable = st.recursive(
    hashable,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(st.text(max_size=10), inner, max_size=5)
        | st.dictionaries(hashable, inner, max_size=4)
        | st.sets(hashable, max_size=4)
    ),
    max_leaves=25,
)


@given(storable)
@settings(max_examples=200, deadline=None)
def test_every_storable_value_comes_back_exactly(value: object) -> None:
    check_round_trip(value)


@pytest.mark.parametrize(
    "value",
    [
        *[
            sign * 2**power + step
            for power in (7, 8, 31, 32, 63, 64, 127, 2000)
            for step in (-1, 0, 1)
            for sign in (1, -1)
        ],
        *[0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, 1.7976931348623157e308],
        *[True, False, None, "", b"", (), [], {}, set(), frozenset()],
        *[Decimal("-0"), Decimal("sNaN123"), Decimal("-Infinity"), Decimal("1E+999999"), Decimal("1.10")],
        *[datetime.min, datetime.max, date.min, date.max, time.min, time.max, timedelta.min, timedelta.max],
        *[complex(-0.0, math.inf), uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)],
        datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
        datetime(2024, 10, 27, 2, 30, fold=1),
        datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=-5, microseconds=7), "EST")),
        datetime.max.replace(tzinfo=ZoneInfo("America/New_York")),
        time(1, 2, 3, 4, ZoneInfo("Europe/Berlin"), fold=1),
        {1: "int", "1": "str", b"1": "bytes", (1,): "tuple", None: 0, 2.5: 0, frozenset({1}): 0},
        {"mark bytes": b"\xd4\x01", "text": ["\u0501"], "tuple": (b"\xd4\x01\x01", "x")},
        "🦀" * 70000,
        list(range(70000)),
        tuple(range(70000)),
        dict.fromkeys(range(70000)),
    ],
    ids=lambda value: f"{type(value).__name__} {value!r:.30}",
)
def test_boundaries(value: object) -> None:
    check_round_trip(value)
    check_round_trip([value, (value,)])


def test_fold_tells_the_two_halves_of_a_clock_change_apart() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    pair = [datetime(2024, 10, 27, 2, 30, tzinfo=berlin, fold=fold) for fold in (0, 1)]
    back = decode(encode(pair))
    assert [moment.utcoffset() for moment in back] == [timedelta(hours=2), timedelta(hours=1)]  # type: ignore[attr-defined]
    assert back[0].tzinfo is berlin  # type: ignore[index]


def test_a_zone_unknown_to_this_machine_keeps_instant_and_name() -> None:
    data = pack(datetime(2024, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin")))
    back = unpack(data.replace(b"Europe/Berlin", b"Europe/Atlant1"[:13]))
    assert back == datetime(2024, 7, 1, 10, tzinfo=UTC)
    assert back.tzname() == "Europe/Atlant"  # type: ignore[attr-defined]


def test_bytes_take_no_codec_and_bytes_like_objects_are_stored_as_bytes() -> None:
    for value in (b"abc", bytearray(b"abc"), memoryview(b"abc"), memoryview(b"aXbXcX")[::2]):
        assert encode(value) == b"abc\0"
        assert decode(encode([value, {"k": value}])) == [b"abc", {"k": b"abc"}]


class Colour(enum.IntEnum):
    RED = 1


class Point(NamedTuple):
    x: int
    y: int


class Text(str):
    pass


class Moment(datetime):
    pass


class OwnZone(dt.tzinfo):
    def utcoffset(self, when: datetime | None) -> timedelta:
        raise AssertionError("no code of a foreign tzinfo is run")


@pytest.mark.parametrize(
    ("value", "name", "path"),
    [
        (object(), "object", "$"),
        ({"a": [0, 1, 2, numpy.int64(3)]}, "numpy.int64", "$.a[3]"),
        ([numpy.float64(1.5)], "numpy.float64", "$[0]"),
        ({"a": numpy.zeros(2)}, "numpy.ndarray", "$.a"),
        ((1, ("x", object())), "object", "$[1][1]"),
        ({"a": {Colour.RED}}, "test_values.Colour", "$.a<item>"),
        ({(1, Colour.RED): 2}, "test_values.Colour", "$<key>[1]"),
        ({"a b": {7: {(1, 2): len}}}, "builtin_function_or_method", "$['a b'][7][(1, 2)]"),
        (collections.OrderedDict(a=1), "collections.OrderedDict", "$"),
        ([Point(1, 2)], "test_values.Point", "$[0]"),
        ({"x": Text("t")}, "test_values.Text", "$.x"),
        ({Text("t"): 1}, "test_values.Text", "$<key>"),
        ([Moment(2024, 1, 1)], "test_values.Moment", "$[0]"),
        ({"when": datetime(2024, 1, 1, tzinfo=OwnZone())}, "datetime.datetime", "$.when"),
        ([time(1, tzinfo=OwnZone())], "datetime.time", "$[0]"),
        (["\ud800"], "str", "$[0]"),
        ({"ok": {"\udfff": 1}}, "str", "$.ok<key>"),
        ([range(3)], "range", "$[0]"),
        ([1, msgpack.ExtType(1, b"\1")], "msgpack.ext.ExtType", "$[1]"),
        ([(2,), msgpack.ExtType(4, bytes(16))], "msgpack.ext.ExtType", "$[1]"),
        ([(2,), msgpack.Timestamp(0)], "msgpack.ext.Timestamp", "$[1]"),
        ([1.5, b"\xc7", "x", msgpack.Timestamp(2**40, 1)], "msgpack.ext.Timestamp", "$[3]"),
        ({"z": iter(())}, "tuple_iterator", "$.z"),
    ],
    ids=lambda value: re.sub(r" at 0x[0-9a-f]+", "", f"{value!r}")[:40],  # the same in every process
)
def test_refused_types_are_named_with_their_place(value: object, name: str, path: str) -> None:
    with pytest.raises(UnsupportedType) as caught:
        encode(value)
    assert isinstance(caught.value, TypeError)
    assert (caught.value.type_name or "").endswith(name)
    assert caught.value.path == path
    assert f"{name} at {path}: " in str(caught.value)


def test_a_zone_without_key_is_refused() -> None:
    with (
        open("/usr/share/zoneinfo/Europe/Berlin", "rb")
        if has_zone_file()
        else pytest.skip("no zone files") as file
    ):
        zone = ZoneInfo.from_file(file)
    with pytest.raises(UnsupportedType, match=r"at \$\[0\]: its ZoneInfo has no key"):
        encode([datetime(2024, 1, 1, tzinfo=zone)])


def has_zone_file() -> bool:
    try:
        open("/usr/share/zoneinfo/Europe/Berlin", "rb").close()
    except OSError:
        return False
    return True


WRAPPERS: dict[str, Callable[[object], object]] = {
    "list": lambda inner: [inner],
    "tuple": lambda inner: (inner,),
    "frozenset": lambda inner: frozenset({inner}),
    "dict": lambda inner: {"k": inner},
    "key": lambda inner: {inner: None} if isinstance(inner, str) else (inner,),
    "mixed": lambda inner: [inner] if isinstance(inner, tuple | dict) else (inner,),
}


def nest(depth: int, leaf: object, wrap: Callable[[object], object]) -> object:
    for _ in range(depth):
        leaf = wrap(leaf)
    return leaf


def depth_of(value: object) -> int:
    depth = 0
    while isinstance(value, list | tuple | dict | frozenset):
        depth += 1
        children = list(value.values() if isinstance(value, dict) else value)
        value = children[0] if children else None
    return depth


@pytest.mark.parametrize(
    "leaf", ["", 1, b"bytes", (), 2**70, datetime(2024, 1, 1)], ids=lambda leaf: type(leaf).__name__
)
@pytest.mark.parametrize("wrapper", ["list", "tuple", "frozenset", "dict", "mixed"])
def test_512_deep_and_no_deeper(wrapper: str, leaf: object) -> None:
    extra = 1 if leaf == () else 0
    value = nest(512 - extra, leaf, WRAPPERS[wrapper])
    back = unpack(pack(value))
    assert depth_of(back) == 512
    for deeper in (513, 514, 1000, 1023, 1024, 1025, 1030, 5000):
        with pytest.raises(UnsupportedType, match="nested deeper than 512"):
            pack(nest(deeper - extra, leaf, WRAPPERS[wrapper]))


def test_a_value_that_contains_itself_is_too_deep() -> None:
    loop: list[object] = []
    loop += [loop, loop]
    with pytest.raises(UnsupportedType, match="nested deeper than 512") as caught:
        encode({"a": loop})
    assert len(str(caught.value)) < 500


@given(st.binary(max_size=200))
@settings(max_examples=500, deadline=None)
def test_bytes_of_nobody_are_a_value_or_corruption(data: bytes) -> None:
    for read in (decode, unpack):
        try:
            read(data)
        except CorruptionError:
            pass


@given(storable, st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_values_are_a_value_or_corruption(value: object, data: st.DataObject) -> None:
    stored = bytearray(encode(value))
    for _ in range(data.draw(st.integers(1, 3))):
        stored[data.draw(st.integers(0, len(stored) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    for attempt in (bytes(stored), bytes(stored[: data.draw(st.integers(0, len(stored)))])):
        try:
            decode(attempt)
        except CorruptionError:
            pass


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 5000 + b"\xc0",
        b"\x92\xd4\x01\x09\xc0",
        b"\x92\xc0\xd4\x01\x01",
        b"\xd4\x01\x01",
        b"\xc7\x01\x01\x01",
        b"\xd4\x63\x00",
        b"\x81\x90\xc0",
        b"\x81\x92\xd4\x01\x02\x01\xc0",
        b"\xc0\xc0",
        b"\xa1\xff",
        msgpack.packb(msgpack.ExtType(3, b"not a number")),
        msgpack.packb(msgpack.ExtType(3, b"\xff")),
        msgpack.packb(msgpack.ExtType(4, b"short")),
        msgpack.packb(msgpack.ExtType(5, b"\0\0\0\0")),
        msgpack.packb(msgpack.ExtType(6, b"\1\2\3\0\0\0\0\0\4../../etc/passwd")),
        msgpack.packb(msgpack.ExtType(6, b"\1\2\3\0\0\0\0\0")),
        msgpack.packb(msgpack.ExtType(7, b"")),
        msgpack.packb(msgpack.ExtType(8, b"\x7f\xff\xff\xff\0\0\0\0\0\0\0\0")),
        msgpack.packb(msgpack.ExtType(9, b"\0")),
    ],
    ids=lambda payload: payload[:12].hex(),
)
def test_hostile_payloads_are_corruption(payload: bytes) -> None:
    with pytest.raises(CorruptionError, match="can't be decoded"):
        unpack(payload)
    with pytest.raises(CorruptionError):
        decode(payload + b"\1")


def test_unknown_codec_bytes_are_corruption() -> None:
    with pytest.raises(CorruptionError, match="empty"):
        decode(b"")
    with pytest.raises(CorruptionError, match="codec byte 0x02"):
        decode(b"abc\2")


def test_packers_are_not_shared_by_threads_or_finalizers() -> None:
    class Finalized:
        def __del__(self) -> None:
            inner.append(encode({"inner": (1, 2)}))

    inner: list[bytes] = []
    wrong: list[object] = []

    def work(number: int) -> None:
        for step in range(300):
            value = {"n": number, "step": step, "t": (number, Decimal(step)), "text": "x" * (step % 50)}
            if decode(encode(value)) != value:
                wrong.append(value)
            Finalized()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert set(inner) == {encode({"inner": (1, 2)})}


def test_a_packer_is_clean_after_a_refusal() -> None:
    with pytest.raises(UnsupportedType):
        encode(["left over", object()])
    assert encode(["next"]) == b"\x91\xa4next\1"


def test_the_worked_example_of_the_format() -> None:
    """docs/formats/values.md shows these bytes."""
    assert encode(b"raw").hex(" ") == "72 61 77 00"
    value = {"n": 1, "at": (date(2024, 2, 29), 2**64)}
    assert encode(value).hex(" ") == (
        "82 a1 6e 01 a2 61 74 93 d4 01 01 d6 05 07 e8 02 1d c7 09 02 01 00 00 00 00 00 00 00 00 01"
    )
