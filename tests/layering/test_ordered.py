"""The ordered encoding: its bytes against the document, the binding against the reference, the order of bytes
against a comparator that compares values."""

import math
import re
import sys
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

import memdb
from memdb import layering
from memdb.ordered import EMPTY_ARRAY, encode_compound, encode_ordered, spell

FORMAT = Path(__file__).resolve().parents[2] / "docs" / "formats" / "ordered.md"

thorough = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# ------------------------------------------------------------------------------------------- the comparator


def compare(one: Any, other: Any) -> int:
    """-1, 0 or 1: the order of values, after its description. It knows nothing of the encoding."""
    rank, other_rank = rank_of(one), rank_of(other)
    if rank != other_rank:
        return sign(rank - other_rank)
    if rank == RANKS["number"]:
        return compare_numbers(one, other)
    if rank == RANKS["document"]:
        return compare_documents(list(one.items()), list(other.items()))
    if rank == RANKS["array"]:
        for left, right in zip(one, other, strict=False):
            order = compare(left, right)
            if order:
                return order
        return sign(len(one) - len(other))
    if rank == RANKS["text"]:
        one, other = [ord(c) for c in one], [ord(c) for c in other]
    elif rank == RANKS["instant"]:
        one, other = (v.astimezone(UTC) if v.tzinfo else v.replace(tzinfo=UTC) for v in (one, other))
    elif rank == RANKS["identifier"]:
        one, other = one.int, other.int
    elif rank in (RANKS["null"], RANKS["empty"]):
        return 0
    return (one > other) - (one < other)


RANKS = {
    name: place
    for place, name in enumerate(
        "empty null number text document array binary identifier bool instant day span".split()  # noqa: SIM905
    )
}


def rank_of(value: Any) -> int:
    kinds: dict[type, str] = {
        bool: "bool", int: "number", float: "number", Decimal: "number", str: "text", dict: "document",
        list: "array", tuple: "array", bytes: "binary", uuid.UUID: "identifier", datetime: "instant",
        date: "day", timedelta: "span",
    }  # fmt: skip
    if value is EMPTY_ARRAY:
        return RANKS["empty"]
    return RANKS["null" if value is None or value is memdb.MISSING else kinds[type(value)]]


def sign(number: int) -> int:
    return (number > 0) - (number < 0)


def compare_numbers(one: Any, other: Any) -> int:
    keys = [
        (0, Fraction()) if value != value
        else (1 if value < 0 else 3, Fraction()) if abs(value) == math.inf
        else (2, Fraction(value))
        for value in (one, other)
    ]  # fmt: skip
    return (keys[0] > keys[1]) - (keys[0] < keys[1])


def compare_documents(one: list[tuple[str, Any]], other: list[tuple[str, Any]]) -> int:
    for (name, value), (other_name, other_value) in zip(one, other, strict=False):
        order = (
            sign(rank_of(value) - rank_of(other_value))
            or compare(name, other_name)
            or compare(value, other_value)
        )
        if order:
            return order
    return sign(len(one) - len(other))


# ------------------------------------------------------------------------------------------------ the values

EDGES: list[Any] = [
    0, -0.0, 1, -1, True, False, 0.5, 5e-324, -5e-324, sys.float_info.max, -sys.float_info.max, math.inf,
    -math.inf, math.nan, Decimal("NaN"), Decimal("-Infinity"), Decimal("-0.00"),
    *(s * (2**e + d) for s in (1, -1) for e in (52, 53, 54, 62, 63, 64, 127) for d in (-1, 0, 1)),
    *(s * (2**e + d) for s in (1, -1) for e in (1023, 1024, 1025) for d in (-1, 0, 1)),
    *(s * (2**1024 - 2**e + d) for s in (1, -1) for e in (969, 970, 971) for d in (-1, 0, 1)),
    *(Decimal(s + t) for s in ("", "-") for t in (
        "0.1", "0.10", "19.99", "1E-324", "4.9E-324", "1E-400", "1.7976931348623157E+308", "1E+400",
        "1.7976931348623158E+308", "1.8E+308", "1" + "0" * 400 + ".5", "0." + "3" * 60, "0." + "3" * 59 + "4",
        "9007199254740993.5",
    )),
    "", "\0", "\0\0", "\1", "a", "a\0", "a\0b", "a\1", "a\xff", "\U0010ffff", "\ufffd",
    b"", b"\0", b"\0\xff", b"\1", b"\xff", b"a\0\1",
    None, memdb.MISSING, EMPTY_ARRAY, [], (), {}, [None], [[]], [{}], {"": None}, {"a": None}, {"a": True},
    {"a": False}, {"a": 0}, {"b": 0}, {"a": 0, "b": 0}, {"a": ""}, [1, 2], (1, 2), [1], [1, None],
    datetime.min, datetime.max, datetime(1970, 1, 1), datetime(1969, 12, 31, 23, 59, 59, 999999),
    datetime(2000, 2, 29), datetime(1900, 3, 1), datetime(2100, 2, 28), date.min, date.max, date(2026, 1, 1),
    datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    datetime.max.replace(tzinfo=timezone(-timedelta(hours=14))),
    datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Rome")),
    datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Rome"), fold=1),
    timedelta.min, timedelta.max, timedelta(0), timedelta(microseconds=-1),
    uuid.UUID(int=0), uuid.UUID(int=2**128 - 1),
]  # fmt: skip

ZONES = [ZoneInfo("Europe/Rome"), ZoneInfo("America/New_York"), timezone(timedelta(minutes=-90))]
numbers = st.one_of(
    st.integers(-20, 20),
    st.integers(-(2**65), 2**65),
    st.integers(-(2**1030), 2**1030),
    st.floats(),
    st.builds(lambda f, d: int(f) + d, st.floats(-1e300, 1e300), st.integers(-2, 2)),
    st.decimals(allow_nan=True, allow_infinity=True).filter(lambda d: not d.is_snan()),
    st.decimals(-(10**20), 10**20, places=4),
    st.builds(lambda f, d: Decimal(f) + d, st.floats(-1e9, 1e9), st.decimals(-1, 1, places=25)),
)
leaves = st.one_of(
    st.sampled_from(EDGES),
    numbers,
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    st.text(st.sampled_from("\0\1a\xff"), max_size=5),
    st.binary(max_size=5),
    st.booleans(),
    st.none(),
    st.uuids(),
    st.datetimes(timezones=st.sampled_from([None, UTC, *ZONES])),
    st.dates(),
    st.timedeltas(),
)
names = st.text(st.sampled_from("\0\1ab\xff"), max_size=3)
anything = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(names, inner, max_size=3),
    ),
    max_leaves=8,
)

# ------------------------------------------------------------------------------------------------- the order


@thorough
@given(anything, anything)
def test_the_order_of_bytes_is_the_order_of_values(one: Any, other: Any) -> None:
    assume_in_utc(one, other)
    left, right = encode_ordered(one), encode_ordered(other)
    assert (left > right) - (left < right) == compare(one, other)
    assert left == right or not right.startswith(left), "no encoding begins another"


def assume_in_utc(*values: Any) -> None:
    """The comparator can't tell instants that UTC has no year for; the encoding can."""
    for value in values:
        if type(value) is datetime and value.tzinfo is not None:
            try:
                value.astimezone(UTC)
            except OverflowError:
                assume(False)
        elif type(value) is dict:
            assume_in_utc(*value.values())
        elif type(value) in (list, tuple):
            assume_in_utc(*value)


@thorough
@given(numbers, numbers)
def test_the_order_of_numbers(one: Any, other: Any) -> None:
    left, right = encode_ordered(one), encode_ordered(other)
    assert (left > right) - (left < right) == compare(one, other)


def test_the_order_of_the_hard_cases() -> None:
    comparable = [v for v in EDGES if not (type(v) is datetime and v.year in (1, 9999) and v.tzinfo)]
    encoded = [encode_ordered(value) for value in comparable]
    for one, left in zip(comparable, encoded, strict=True):
        for other, right in zip(comparable, encoded, strict=True):
            assert (left > right) - (left < right) == compare(one, other), (one, other)


@thorough
@given(anything)
@example([[[{"a": (1, {"b": []})}]]])
def test_the_binding_writes_what_the_reference_does(value: Any) -> None:
    assert encode_ordered(value) == spell(value)


def test_the_binding_writes_the_hard_cases_as_the_reference_does() -> None:
    for value in EDGES:
        assert encode_ordered(value) == spell(value), value


@thorough
@given(st.integers(-(2**63), 2**63 - 1))
def test_integers_of_64_bits(value: int) -> None:
    assert encode_ordered(value) == spell(value) == spell(Decimal(value))


@thorough
@given(
    st.lists(st.tuples(anything, anything), min_size=1, max_size=3),
    st.lists(st.booleans(), min_size=3, max_size=3),
)
def test_the_order_of_compounds(pairs: list[tuple[Any, Any]], descending: list[bool]) -> None:
    directions = tuple(descending[: len(pairs)])
    one, other = (tuple(pair[side] for pair in pairs) for side in (0, 1))
    assume_in_utc(*one, *other)
    left, right = encode_compound(one, directions), encode_compound(other, directions)
    expected = next(
        (
            -order if down else order
            for order, down in ((compare(a, b), down) for (a, b), down in zip(pairs, directions, strict=True))
            if order
        ),
        0,
    )
    assert (left > right) - (left < right) == expected
    parts = [encode_ordered(value) for value in one]
    assert left == b"".join(
        bytes(255 - byte for byte in part) if down else part
        for part, down in zip(parts, directions, strict=True)
    )


# ------------------------------------------------------------------------------------------ equal, and not


@pytest.mark.parametrize(
    "same",
    [
        [1, 1.0, Decimal(1), Decimal("1.000"), Decimal("1E0")],
        [0, -0.0, 0.0, Decimal("-0"), Decimal("0E+5"), Decimal("0E-999999999999")],
        [2**60, float(2**60), Decimal(2**60)],
        [10**400, Decimal("1E+400"), Decimal("10.0E+399")],
        [Decimal("0.5"), 0.5, Decimal("0.50")],
        [math.nan, -math.nan, Decimal("NaN"), Decimal("-NaN123"), Decimal("sNaN")],
        [math.inf, Decimal("Infinity")],
        [None, memdb.MISSING],
        [[1, "a"], (1.0, "a")],
        [b"ab", bytearray(b"ab"), memoryview(b"ab")],
        [datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC),
         datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))],
    ],
)  # fmt: skip
def test_equal_values_have_equal_bytes(same: list[Any]) -> None:
    assert len({encode_ordered(value) for value in same} | {spell(value) for value in same}) == 1


def test_a_decimal_is_no_float_that_looks_like_it() -> None:
    assert encode_ordered(Decimal("0.1")) < encode_ordered(0.1)
    assert encode_ordered(2**53) == encode_ordered(float(2**53 + 1)) < encode_ordered(2**53 + 1)
    assert encode_ordered(1) != encode_ordered(True)


def test_a_context_of_decimals_changes_nothing() -> None:
    import decimal

    value = Decimal("0." + "123456789" * 12)
    expected = encode_ordered(value)
    traps = [decimal.Inexact, decimal.Rounded, decimal.FloatOperation, decimal.InvalidOperation]
    with decimal.localcontext(decimal.Context(prec=3, Emax=10, Emin=-10, traps=traps)):
        assert encode_ordered(value) == expected == spell(value)
        encode_ordered(Decimal("1E+400"))
        encode_ordered(Decimal("sNaN"))


# ---------------------------------------------------------------------------------------------- refusals


class Sub(int):
    pass


@pytest.mark.parametrize(
    ("value", "path", "what"),
    [
        ({1}, "$", "set"),
        (frozenset(), "$", "frozenset"),
        (1j, "$", "complex"),
        (time(1), "$", "datetime.time"),
        (Sub(1), "$", "Sub"),
        ("\ud800", "$", "surrogate"),
        ({"a": [1, {"b": 2j}]}, "$.a[1].b", "complex"),
        ({"a": {"\ud800": 1}}, "$.a.<key>", "surrogate"),
        ({1: 2}, "$.<key>", "named by a str"),
        (([], ["x", object()]), "$[1][1]", "object"),
    ],
)
def test_what_has_no_place(value: Any, path: str, what: str) -> None:
    for encode in (encode_ordered, spell):
        with pytest.raises(memdb.UnsupportedType, match=what) as caught:
            encode(value)
        assert caught.value.path == path and path in str(caught.value)
    with pytest.raises(memdb.UnsupportedType) as caught:
        encode_compound((1, value), (False, True))
    assert caught.value.path == path.replace("$", "$[1]")
    with pytest.raises(memdb.UnsupportedType) as caught:
        encode_compound((1, value), (False, True), names=("age", "address.city"))
    assert caught.value.path == path.replace("$", "address.city")
    with pytest.raises(memdb.UnsupportedType) as caught:
        encode_ordered(value, path="tags")
    assert caught.value.path == path.replace("$", "tags")


@pytest.mark.parametrize(
    "value",
    [10**100_100, -(10**100_100), Decimal("1E+999999999"), Decimal("-1E-999999999"), Decimal("1E-100001")],
    ids=["int", "negative int", "large", "small", "just too small"],
)
def test_numbers_that_are_too_long(value: Any) -> None:
    with pytest.raises(memdb.KeyTooLarge, match=r"prices\[0\].*100,000 places"):
        encode_ordered([value], path="prices")


def test_depth() -> None:
    value: Any = 1
    for _ in range(512):
        value = [value]
    assert encode_ordered(value) == b"\x40" * 512 + encode_ordered(1) + bytes(512)
    with pytest.raises(memdb.UnsupportedType, match="512"):
        encode_ordered([value])
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(memdb.UnsupportedType, match="512"):
        encode_ordered(loop)


def test_what_a_time_zone_raises_goes_through() -> None:
    class Broken(type(UTC).__base__):  # type: ignore[misc]
        def utcoffset(self, when: object) -> timedelta:
            raise LookupError("no such zone")

    with pytest.raises(LookupError, match="no such zone"):
        encode_ordered(datetime(2026, 1, 1, tzinfo=Broken()))


def test_arguments_of_a_compound() -> None:
    assert encode_compound((), ()) == b"" == encode_compound([], [])
    assert encode_compound(["a"], [False], b"\x04", b"\x15\x01") == b"\x04 a\x00\x01\x15\x01"
    bad: list[tuple[Callable[[], object], type[Exception]]] = [
        (lambda: encode_compound((1, 2), (False,)), ValueError),
        (lambda: encode_compound((1,), (False,), names=("a", "b")), ValueError),
        (lambda: encode_compound(None, ()), TypeError),  # type: ignore[arg-type]
        (lambda: encode_compound((1,), (False,), "x"), TypeError),  # type: ignore[arg-type]
    ]
    for use, error in bad:
        with pytest.raises(error):
            use()


def test_large_values() -> None:
    long = "x\0" * 100_000
    assert encode_ordered(long) == spell(long)
    both = encode_compound((long, long), (True, False))
    assert both == bytes(255 - byte for byte in spell(long)) + spell(long)
    many = list(range(20_000))
    assert encode_ordered(many) == spell(many)


def test_it_is_offered_to_layers() -> None:
    assert layering.encode_ordered is encode_ordered and layering.encode_compound is encode_compound
    assert layering.EMPTY_ARRAY is EMPTY_ARRAY


# ---------------------------------------------------------------------------------------------- the document


def examples() -> list[tuple[str, str]]:
    text = FORMAT.read_text(encoding="utf-8").split("## Worked examples")[1].split("```")[1]
    return [(line[:42].strip(), line[42:].strip()) for line in text.strip().splitlines()]


@pytest.mark.parametrize(("source", "shown"), examples())
def test_worked_examples(source: str, shown: str) -> None:
    names = {"datetime": datetime, "date": date, "timedelta": timedelta, "UTC": UTC, "Decimal": Decimal}
    value = eval(source, {"__builtins__": {"float": float}}, names)  # of our own document
    begin, _, end = shown.partition("…")
    for encoded in (encode_ordered(value), spell(value)):
        assert encoded.startswith(bytes.fromhex(begin)) and encoded.endswith(bytes.fromhex(end))
        assert "…" in shown or encoded == bytes.fromhex(shown)


def test_the_worked_entry() -> None:
    block = FORMAT.read_text(encoding="utf-8").rsplit("```", 2)[1]
    parts = [line[:42].strip() for line in block.strip().splitlines()]
    city, age, id_ = (bytes.fromhex(re.sub(r"[^0-9A-F]", "", part)) for part in parts)
    assert encode_compound(("Rome", 30), (False, True)) == city + age
    assert layering.id_bytes(7) == id_
