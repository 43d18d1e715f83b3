"""Tests of one value: what each operator of a filter asks of a field's value, or of one element of an array.

Owns: a builder for each operator, which takes the checked operand and returns a closure ``test(value) ->
bool``. Which values a test is put to (elements, the array, MISSING) is the matter of filters.py.

Invariants:

* A test takes every value that a document can hold, and MISSING, and never raises.
* Comparisons hold within one type only: ``$gt: 5`` is false for every str. Null and missing are one.
* What has no order (sets, complex, times) is neither greater nor less than anything; it can be equal.
"""

import math
import re
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from memdb.documents.order import NUMBERS, RANKS, compare, instant, is_nan, same
from memdb.errors import UnsupportedType
from memdb.sentinels import MISSING

__all__ = [
    "OWN_TYPES",
    "PLAIN",
    "TYPE_NAMES",
    "Test",
    "equals",
    "exists",
    "has_size",
    "has_type",
    "is_in",
    "is_ordered",
    "modulo",
    "orders",
    "searches",
]

Test = Callable[[Any], bool]

PLAIN: Final = frozenset({str, bytes, UUID})
"""Types whose values equal and order as Python's, and only among themselves."""


def exists(value: object) -> bool:
    """The test of ``$exists: true``.

    >>> exists(None), exists(MISSING)
    (True, False)
    """
    return value is not MISSING


def equals(operand: Any) -> Test:
    """The test of ``$eq``; None is equal to what is missing.

    >>> equals(1)(1.0), equals(1)(True), equals(None)(MISSING)
    (True, False, True)
    """
    kind = type(operand)
    if operand is None:
        return lambda value: value is None or value is MISSING
    if kind is bool:
        return lambda value: value is operand
    if kind in PLAIN:
        return lambda value: type(value) is kind and value == operand
    if kind in NUMBERS:
        if is_nan(operand):
            return lambda value: type(value) in NUMBERS and is_nan(value)
        return lambda value: type(value) in NUMBERS and not is_nan(value) and bool(value == operand)
    if kind is datetime:
        moment = instant(operand)
        return lambda value: type(value) is datetime and instant(value) == moment
    return lambda value: same(value, operand)


# ---------------------------------------------------------------------------------------------------- order

_HOLDS: Final[dict[str, Callable[[int], bool]]] = {
    "gt": lambda order: order > 0,
    "gte": lambda order: order >= 0,
    "lt": lambda order: order < 0,
    "lte": lambda order: order <= 0,
}


def orders(op: str, operand: Any) -> Test:
    """The test of ``gt``, ``gte``, ``lt`` or ``lte``; *operand* must have an order.

    >>> orders("gt", 5)(6), orders("gt", 5)("6"), orders("gte", None)(MISSING)
    (True, False, True)
    """
    holds = _HOLDS[op]
    rank = RANKS[type(operand)]
    if operand is None:
        is_equal_enough = holds(0)
        return lambda value: is_equal_enough and (value is None or value is MISSING)
    if type(operand) in NUMBERS and is_nan(operand):
        is_equal_enough = holds(0)
        return lambda value: is_equal_enough and type(value) in NUMBERS and is_nan(value)

    def test(value: Any) -> bool:
        if RANKS.get(type(value)) != rank:
            return False
        # NaN has a place in the order of an index, but is greater or less than no number.
        if type(value) in NUMBERS and is_nan(value):
            return False
        try:
            return holds(compare(value, operand))
        except UnsupportedType:  # somewhere inside
            return False

    return test


def is_ordered(operand: object) -> bool:
    """Whether *operand* can be compared with ``$gt`` and the like, all that is inside included.

    >>> is_ordered([1, "a"]), is_ordered([{1, 2}])
    (True, False)
    """
    try:
        compare(operand, operand)
    except UnsupportedType:
        return False
    return True


# ---------------------------------------------------------------------------------------------- $in, $regex


def is_in(operands: Iterable[Any], patterns: Iterable[re.Pattern[str]]) -> Test:
    """The test of ``$in``: equal to one of *operands*, or found by one of *patterns*.

    Cost: one look-up for null, numbers, str, bytes and UUIDs; other operands are tried one by one.

    >>> is_in([1, "a", None], [])(1.0), is_in([], [re.compile("^b")])("bc")
    (True, True)
    """
    hashed: set[Any] = set()  # numbers of all types hash alike; bools are kept out
    tests: list[Test] = []
    for operand in operands:
        kind = type(operand)
        if kind in PLAIN or (kind in NUMBERS and not is_nan(operand)):
            hashed.add(operand)
        else:
            tests.append(equals(operand))
    tests += [searches(pattern) for pattern in patterns]

    def test(value: Any) -> bool:
        kind = type(value)
        if kind in PLAIN or kind is int or kind is float:
            if value in hashed:
                return True
        elif kind is Decimal and not is_nan(value) and value in hashed:
            return True
        for one in tests:  # noqa: SIM110 (a generator costs more than the tests)
            if one(value):
                return True
        return False

    return test


def searches(pattern: re.Pattern[str]) -> Test:
    """The test of ``$regex``: *pattern* is found in a str.

    >>> searches(re.compile("b"))("abc"), searches(re.compile("1"))(1)
    (True, False)
    """
    search = pattern.search
    return lambda value: type(value) is str and search(value) is not None


# ---------------------------------------------------------------------------------------- $size, $mod, $type


def has_size(size: int) -> Test:
    """The test of ``$size``: an array of so many elements.

    >>> has_size(2)([1, 2]), has_size(1)(5)
    (True, False)
    """
    return lambda value: (type(value) is list or type(value) is tuple) and len(value) == size


def modulo(divisor: int, remainder: int) -> Test:
    """The test of ``$mod``: fractions are cut off, and the remainder has the sign of the value.

    >>> modulo(4, -1)(-5.9), modulo(4, 1)(True)
    (True, False)
    """
    divisor = abs(divisor)

    def test(value: Any) -> bool:
        whole = _whole(value)
        if whole is None:
            return False
        rest = abs(whole) % divisor
        return (-rest if whole < 0 else rest) == remainder

    return test


def _whole(value: Any) -> int | None:
    """A number without its fraction; None for other types, and for a float or Decimal beyond 64 bits."""
    kind = type(value)
    if kind is int:
        return int(value)
    if kind is float:
        return int(value) if math.isfinite(value) and abs(value) < _INT64 else None
    if kind is Decimal:
        return int(value) if value.is_finite() and abs(value) < _INT64 else None
    return None


_INT32: Final = 1 << 31
_INT64: Final = 1 << 63

_TYPES: Final[dict[str, Test]] = {
    "double": lambda value: type(value) is float,
    "string": lambda value: type(value) is str,
    "object": lambda value: type(value) is dict,
    "array": lambda value: type(value) is list or type(value) is tuple,
    "binData": lambda value: type(value) is bytes or type(value) is UUID,
    "bool": lambda value: type(value) is bool,
    "date": lambda value: type(value) is datetime,
    "null": lambda value: value is None,
    "int": lambda value: type(value) is int and -_INT32 <= value < _INT32,
    "long": lambda value: type(value) is int and not -_INT32 <= value < _INT32,
    "decimal": lambda value: type(value) is Decimal,
    "number": lambda value: type(value) in NUMBERS,
    # What Python has and MongoDB lacks.
    "uuid": lambda value: type(value) is UUID,
    "day": lambda value: type(value) is date,
    "time": lambda value: type(value) is time,
    "timedelta": lambda value: type(value) is timedelta,
    "set": lambda value: type(value) is set or type(value) is frozenset,
    "complex": lambda value: type(value) is complex,
}
OWN_TYPES: Final = tuple(_TYPES)
"""The names of the types that values have."""

_FOREIGN: Final = (
    *("undefined", "objectId", "regex", "dbPointer", "javascript", "symbol", "javascriptWithScope"),
    *("timestamp", "minKey", "maxKey"),
)
"""Types of MongoDB that no value here has."""

_NUMBERED: Final[dict[str | int, str]] = {
    1: "double",
    2: "string",
    3: "object",
    4: "array",
    5: "binData",
    6: "undefined",
    7: "objectId",
    8: "bool",
    9: "date",
    10: "null",
    11: "regex",
    12: "dbPointer",
    13: "javascript",
    14: "symbol",
    15: "javascriptWithScope",
    16: "int",
    17: "timestamp",
    18: "long",
    19: "decimal",
    -1: "minKey",
    127: "maxKey",
}
TYPE_NAMES: Final[dict[str | int, str]] = {**{name: name for name in (*_TYPES, *_FOREIGN)}, **_NUMBERED}
"""What ``$type`` takes, names and MongoDB's numbers, and the name of each."""


def has_type(names: Iterable[str]) -> Test:
    """The test of ``$type``: of one of the types *names*.

    >>> has_type(["int", "string"])(5), has_type(["int"])(1 << 40), has_type(["null"])(MISSING)
    (True, False, False)
    """
    tests = [_TYPES[name] for name in names if name in _TYPES]
    if len(tests) == 1:
        return tests[0]
    return lambda value: any(test(value) for test in tests)
