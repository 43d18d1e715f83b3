"""The order of values that filters, sorting and grouping share: MongoDB's, by type and then by value.

Owns: the rank of each type, :func:`compare` and :func:`same`. The bytes of index entries
(``memdb.layering.encode_ordered``) sort as :func:`compare` does; a test compares the two.

Missing and null, numbers, str, embedded documents, arrays, bytes, UUID, false, true, datetime, date,
timedelta. Numbers are one type: ``1``, ``1.0`` and ``Decimal("1.00")`` are equal; NaN equals NaN and comes
before all others. A bool is no number. A tuple is an array. A naive datetime counts as UTC.

Invariants:

* The order is total over the types that have a rank, and equal means the same bytes in an index.
* Recursion takes one frame a level, so the deepest value that can be stored is compared.
* Values of the other types (set, frozenset, complex, time) equal only themselves and have no order.
"""

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from memdb.errors import UnsupportedType
from memdb.sentinels import Missing

__all__ = ["NUMBERS", "RANKS", "compare", "instant", "is_nan", "rank_of", "same"]

NULL: Final = 0x05
NUMBER: Final = 0x10
TEXT: Final = 0x20
DOCUMENT: Final = 0x30
ARRAY: Final = 0x40
BYTES: Final = 0x50
UUIDS: Final = 0x58
BOOL: Final = 0x60
DATETIME: Final = 0x70
DATE: Final = 0x72
TIMEDELTA: Final = 0x74

RANKS: Final[dict[type, int]] = {
    Missing: NULL,
    type(None): NULL,
    int: NUMBER,
    float: NUMBER,
    Decimal: NUMBER,
    str: TEXT,
    dict: DOCUMENT,
    list: ARRAY,
    tuple: ARRAY,
    bytes: BYTES,
    UUID: UUIDS,
    bool: BOOL,
    datetime: DATETIME,
    date: DATE,
    timedelta: TIMEDELTA,
}
NUMBERS: Final = frozenset({int, float, Decimal})

_EPOCH_NAIVE: Final = datetime(1970, 1, 1)
_MICROSECOND: Final = timedelta(microseconds=1)


def rank_of(value: object) -> int:
    """The rank of the type of *value*. Raises UnsupportedType for one that has no order.

    >>> rank_of(1) == rank_of(1.5) < rank_of("a")
    True
    """
    rank = RANKS.get(type(value))
    if rank is None:
        name = type(value).__name__
        raise UnsupportedType(
            f"a {name} has no order: it can't be sorted by, compared or indexed; "
            "store what orders it in a field of its own",
            type_name=name,
        )
    return rank


def instant(value: datetime) -> int:
    """Microseconds since 1970 in UTC; a naive datetime counts as UTC.

    >>> instant(datetime(1970, 1, 1, 0, 0, 1))
    1000000
    """
    zone = value.utcoffset()
    if zone is None:
        return (value.replace(tzinfo=None) - _EPOCH_NAIVE) // _MICROSECOND
    return (value.replace(tzinfo=None) - _EPOCH_NAIVE - zone) // _MICROSECOND


def is_nan(value: Any) -> bool:
    """Whether a number is not one: NaN, also a Decimal's (whose signalling NaN can't even be compared).

    >>> is_nan(float("nan")), is_nan(Decimal("NaN")), is_nan(1)
    (True, True, False)
    """
    return bool(value.is_nan()) if type(value) is Decimal else bool(value != value)


def compare(first: Any, second: Any) -> int:
    """-1, 0 or 1: the order of two values of any types. Raises UnsupportedType for what has none.

    Cost: both values, up to their first difference.

    >>> compare(2, "1"), compare(1, 1.0), compare([1, 2], [1])
    (-1, 0, 1)
    """
    rank, other = rank_of(first), rank_of(second)
    if rank != other:
        return -1 if rank < other else 1
    if rank == NULL:
        return 0
    if rank == NUMBER:
        return _compare_numbers(first, second)
    if rank == ARRAY:
        for left, right in zip(first, second, strict=False):
            order = compare(left, right)
            if order:
                return order
        return _sign(len(first), len(second))
    if rank == DOCUMENT:
        # Field by field: the type of its value, its name, its value; then the shorter one is the smaller.
        for (name, value), (other_name, other_value) in zip(first.items(), second.items(), strict=False):
            by_name = _by_name(name, other_name)
            order = _sign(rank_of(value), rank_of(other_value)) or by_name or compare(value, other_value)
            if order:
                return order
        return _sign(len(first), len(second))
    if rank == DATETIME:
        return _sign(instant(first), instant(second))
    return _sign(first, second)


def _by_name(first: Any, second: Any) -> int:
    for name in (first, second):
        if type(name) is not str:
            raise UnsupportedType(
                f"an embedded document has the field {name!r} of type {type(name).__name__}: only documents "
                "whose fields are all str have an order",
                type_name=type(name).__name__,
            )
    return _sign(first, second)


def _sign(first: Any, second: Any) -> int:
    return 0 if first == second else -1 if first < second else 1


def _compare_numbers(first: Any, second: Any) -> int:
    left, right = is_nan(first), is_nan(second)
    return right - left if left or right else _sign(first, second)


def same(first: Any, second: Any) -> bool:
    """Whether two values are equal as a filter sees it, which also those without an order can be: fields of
    an embedded document in their order, numbers by value, true no number.

    >>> same(1, 1.0), same(1, True), same({"a": 1, "b": 2}, {"b": 2, "a": 1})
    (True, False, False)
    """
    rank = RANKS.get(type(first))
    if rank != RANKS.get(type(second)):
        return False
    if rank is None:
        return type(first) is type(second) and bool(first == second)
    if rank == ARRAY:
        if len(first) != len(second):
            return False
        for left, right in zip(first, second, strict=True):  # noqa: SIM110 (one frame a level, not two)
            if not same(left, right):
                return False
        return True
    if rank == DOCUMENT:
        if len(first) != len(second):
            return False
        for (name, value), (other_name, other_value) in zip(first.items(), second.items(), strict=True):
            if name != other_name or type(name) is not type(other_name) or not same(value, other_value):
                return False
        return True
    return compare(first, second) == 0
