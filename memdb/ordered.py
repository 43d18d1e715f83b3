"""The order of values of any types, as bytes: what entries of an index are made of, and what a sort compares.

Owns: the ordered encoding (docs/formats/ordered.md), of which this module is the reference. The calls that a
layer makes, ``encode_ordered`` and ``encode_compound``, are the binding's (``ordered.pxi``): they write the
common types themselves, come here for the others, and here too to have a refusal explained.

Invariants:

* The order of the bytes is the order of the values: that of MongoDB, across types as well.
* Values that are equal there have equal bytes: numbers are one type, exact, whatever Python calls them.
* No encoding is the beginning of another one, so encodings can be put behind each other, and each can be
  complemented, which reverses its order.
* What comes out can't be turned back into values: it needn't be.
"""

import math
import struct
import sys
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from memdb.errors import KeyTooLarge, UnsupportedType
from memdb.sentinels import Missing
from memdb.shm import _kernel
from memdb.shm._kernel import EMPTY_ARRAY, EmptyArray, encode_compound, encode_ordered, encode_ordered_column

__all__ = [
    "EMPTY_ARRAY",
    "MAX_DEPTH",
    "check",
    "encode_compound",
    "encode_ordered",
    "encode_ordered_column",
    "spell",
]

MAX_DEPTH: Final = 512
"""Containers in each other, at most: as many as a value can have."""

END: Final = b"\x00"
EMPTY: Final = b"\x04"
NULL: Final = b"\x05"
NUMBER: Final = b"\x10"
TEXT: Final = b"\x20"
DOCUMENT: Final = b"\x30"
ARRAY: Final = b"\x40"
BINARY: Final = b"\x50"
IDENTIFIER: Final = b"\x58"
FALSE: Final = b"\x60"
TRUE: Final = b"\x61"
INSTANT: Final = b"\x70"
DAY: Final = b"\x72"
SPAN: Final = b"\x74"

_PLACES_MAX: Final = 100_000
_WHOLE_BYTES_MAX: Final = 41_525  # of a number of so many decimal places
_BEYOND: Final = b"\xff"
_SIGN: Final = 1 << 63
_NAIVE_EPOCH: Final = datetime(1970, 1, 1)
_MICROSECOND: Final = timedelta(microseconds=1)


def spell(value: object, path: str = "$") -> bytes:
    """The ordered encoding of *value*, by the reference: what ``encode_ordered`` gives, slowly.

    *path* is what an error calls the value. Raises UnsupportedType for what has no place in the order (a set,
    a complex number, a time of day, a subclass), KeyTooLarge for a number of more than 100,000 places.

    >>> spell("a")
    b' a\\x00\\x01'
    """
    check(value, path)
    return _spell(value)


def check(value: object, path: str = "$") -> None:
    """Raises what ``encode_ordered`` raises for *value*, with its place. No recursion: it may be deep."""
    ahead = [(value, path, 0)]
    while ahead:
        value, path, depth = ahead.pop()
        kind = type(value)
        if kind not in _CONTAINERS:
            _leaf_at(value, path)
            continue
        if depth == MAX_DEPTH:
            raise _refusal(kind, path, f"it is nested deeper than {MAX_DEPTH} containers")
        ahead.extend(reversed([(child, place, depth + 1) for child, place in _children(value, path)]))


def _children(value: Any, path: str) -> Iterator[tuple[object, str]]:
    """What a container holds, and the places of that."""
    if type(value) is not dict:
        yield from ((child, f"{path}[{index}]") for index, child in enumerate(value))
        return
    for name, child in value.items():
        if type(name) is not str:
            raise _refusal(type(name), f"{path}.<key>", "a field of an embedded document is named by a str")
        _leaf_at(name, f"{path}.<key>")
        yield child, f"{path}.{name}"


def _leaf_at(value: object, path: str) -> bytes:
    kind = type(value)
    write = _LEAVES.get(kind)
    if write is None:
        raise _refusal(kind, path, "it has no place in the order of values")
    try:
        return write(value)
    except UnicodeEncodeError as error:
        raise _refusal(kind, path, f"a lone surrogate at index {error.start} has no UTF-8") from None
    except KeyTooLarge as error:
        raise KeyTooLarge(f"{path}: {error}", size=error.size, limit=error.limit) from None


def _refusal(kind: type, path: str, reason: str) -> UnsupportedType:
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return UnsupportedType(
        f"can't order {name} at {path}: {reason}; what can be sorted and indexed is None, numbers, str, "
        "dict, list, tuple, bytes, UUID, bool, datetime, date and timedelta",
        type_name=name,
        path=path,
    )


def _spell(value: Any) -> bytes:
    kind = type(value)
    if kind is dict:
        return _document(value)
    if kind is list or kind is tuple:
        return b"".join((ARRAY, *map(_spell, value), END))
    return _LEAVES[kind](value)


def _document(fields: dict[str, object]) -> bytes:
    """Field by field: the kind of its value first, then its name, then its value."""
    parts = [DOCUMENT]
    for name, value in fields.items():
        encoded = _spell(value)
        parts += [FALSE if encoded == TRUE else encoded[:1], _text(name), encoded]
    return b"".join((*parts, END))


# ---------------------------------------------------------------------------------------------------- leaves


def _text(value: str) -> bytes:
    return _escaped(value.encode())


def _escaped(data: bytes) -> bytes:
    """An end that sorts below every continuation, and is the beginning of none."""
    return data.replace(b"\x00", b"\x00\xff") + b"\x00\x01"


def _microseconds(value: datetime) -> int:
    """Since 1970 in UTC; a naive one counts as UTC."""
    offset = value.utcoffset()
    wall = (value.replace(tzinfo=None) - _NAIVE_EPOCH) // _MICROSECOND
    return wall if offset is None else wall - offset // _MICROSECOND


def _word(number: int) -> bytes:
    """A signed number of 64 bits."""
    return (number + _SIGN).to_bytes(8, "big")


def _span(value: timedelta) -> bytes:
    days = (value.days + (1 << 31)).to_bytes(4, "big")
    return days + value.seconds.to_bytes(4, "big") + value.microseconds.to_bytes(4, "big")


# --------------------------------------------------------------------------------------------------- numbers


def _double(value: float) -> bytes:
    """Eight bytes that sort as the doubles do, NaN before all and -0.0 as 0.0."""
    if value != value:
        return bytes(8)
    bits = int.from_bytes(_BINARY64(value + 0.0), "big")  # -0.0 + 0.0 is 0.0
    return (bits ^ (2 * _SIGN - 1 if bits & _SIGN else _SIGN)).to_bytes(8, "big")


def _float(value: float) -> bytes:
    return NUMBER + _double(value) + END


def _int(value: int) -> bytes:
    return _number(value, 1)


def _decimal(value: Decimal) -> bytes:
    if not value.is_finite():
        return _float(math.nan if value.is_nan() else math.copysign(math.inf, value))
    if not value:
        return _float(0.0)
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    if exponent < -_PLACES_MAX or value.adjusted() > _PLACES_MAX:
        raise _too_long(max(-exponent, value.adjusted()) // 2)
    return _number(*value.as_integer_ratio())


def _number(above: int, below: int) -> bytes:
    """The number above / below: the greatest double that is not above it, and what is left, exactly."""
    floor = _floor_double(above, below)
    if floor == -math.inf or above >= below << 1024:
        return NUMBER + _double(floor) + _BEYOND + _far(above, below)
    unit = max(math.frexp(floor)[1] - 53, -1074)  # the doubles lie 2**unit apart there
    above, below = above << max(-unit, 0), below << max(unit, 0)
    return NUMBER + _double(floor) + _places(above % below, below)


def _floor_double(above: int, below: int) -> float:
    try:
        nearest = above / below
    except OverflowError:
        return sys.float_info.max if above > 0 else -math.inf
    numerator, denominator = nearest.as_integer_ratio()
    is_above = numerator * below > above * denominator
    return math.nextafter(nearest, -math.inf) if is_above else nearest


def _places(above: int, below: int) -> bytes:
    """A fraction in [0, 1), two decimal places a byte; that ends, since `below` divides a power of ten."""
    digits = bytearray()
    while above:
        digit, above = divmod(100 * above, below)
        digits.append(digit + 1)
    return bytes(digits) + END


def _far(above: int, below: int) -> bytes:
    """A number beyond the doubles: the length of its whole part, that part, and its fraction."""
    whole, rest = divmod(above, below)
    magnitude = abs(whole)
    size = (magnitude.bit_length() + 7) // 8
    if size > _WHOLE_BYTES_MAX:
        raise _too_long(size)
    data = size.to_bytes(2, "big") + magnitude.to_bytes(size, "big")
    if whole < 0:
        data = bytes(255 - byte for byte in data)
    return data + _places(rest, below)


def _too_long(size: int) -> KeyTooLarge:
    return KeyTooLarge(
        f"a number of more than {_PLACES_MAX:,} places can't be sorted or indexed: store it as text",
        size=size,
        limit=_WHOLE_BYTES_MAX,
    )


_BINARY64 = struct.Struct(">d").pack

_CONTAINERS: Final = frozenset({dict, list, tuple})
_LEAVES: Final[dict[type, Callable[..., bytes]]] = {
    type(None): lambda value: NULL,
    Missing: lambda value: NULL,
    EmptyArray: lambda value: EMPTY,
    bool: lambda value: TRUE if value else FALSE,
    int: _int,
    float: _float,
    Decimal: _decimal,
    str: lambda value: TEXT + _text(value),
    bytes: lambda value: BINARY + _escaped(value),
    bytearray: lambda value: BINARY + _escaped(bytes(value)),
    memoryview: lambda value: BINARY + _escaped(bytes(value)),
    UUID: lambda value: IDENTIFIER + value.bytes,
    datetime: lambda value: INSTANT + _word(_microseconds(value)),
    date: lambda value: DAY + value.toordinal().to_bytes(4, "big"),
    timedelta: lambda value: SPAN + _span(value),
}


def _leaf(value: object) -> bytes | None:
    """For the binding: the bytes of what it doesn't write itself; None where check() says why not."""
    write = _LEAVES.get(type(value))
    try:
        return None if write is None else write(value)
    except KeyTooLarge:
        return None


_kernel.ordered_by(_leaf, check)
