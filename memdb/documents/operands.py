"""Operands of filters and updates: plain copies of the values in them, and the error where one can't be.

Owns: :func:`plain`, and the form of the texts of InvalidFilter.

Invariant: what comes out of :func:`plain` can be stored, and shares nothing that can be changed with what
went in.
"""

import re
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Final, NoReturn
from uuid import UUID
from zoneinfo import ZoneInfo

from memdb.errors import InvalidFilter

__all__ = [
    "MAX_DEPTH",
    "check_text",
    "copied",
    "is_integral",
    "is_number",
    "name_of",
    "plain",
    "refuse",
    "refuse_update",
    "shown",
]

MAX_DEPTH: Final = 100
"""How deep filters, and values in filters and updates, may be nested; MongoDB's limit of documents."""

_DIGITS: Final = 19  # of 2**63

_SCALARS: Final = frozenset(
    {
        *(type(None), bool, int, float, str, bytes, Decimal, complex),
        *(UUID, date, time, datetime, timedelta),
    }
)


def refuse(where: str, why: str) -> NoReturn:
    """Raises InvalidFilter about the place *where*."""
    raise InvalidFilter(f"filter at {where}: {why}" if where else f"filter: {why}", path=where or None)


def refuse_update(where: str, why: str) -> NoReturn:
    """Raises InvalidFilter about the place *where* of an update."""
    raise InvalidFilter(f"update at {where}: {why}" if where else f"update: {why}", path=where or None)


def name_of(value: object) -> str:
    """The type of *value* as a message names it.

    >>> name_of(5), name_of(re.compile("a"))
    ('int', 're.Pattern')
    """
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def shown(value: object, length: int = 80) -> str:
    """A value as a message shows it: its beginning, if it is long.

    >>> shown("abc"), shown(10**5000)
    ("'abc'", 'an int of very many digits')
    """
    try:
        text = repr(value)
    except ValueError:  # Python writes out no int of more than sys.get_int_max_str_digits()
        article = "an" if type(value) is int else f"{name_of(value)} with an"
        return f"{article} int of very many digits"
    return text if len(text) <= length else text[: length - 3] + "..."


def is_number(value: object) -> bool:
    """Whether *value* is a number; a bool is none.

    >>> is_number(1.5), is_number(True)
    (True, False)
    """
    return type(value) in (int, float, Decimal)


def is_integral(value: Any) -> bool:
    """Whether *value* is a whole number, of whichever type.

    >>> is_integral(2.0), is_integral(2.5), is_integral(True)
    (True, False, False)
    """
    if type(value) is int:
        return True
    if type(value) is float:
        return value.is_integer()
    # A Decimal beyond 64 bits is no count of anything, and of 1E+999999999 there would be no end.
    return (
        type(value) is Decimal
        and value.is_finite()
        and value.adjusted() < _DIGITS
        and value == value.to_integral_value()
    )


def plain(value: Any, where: str, depth: int = 0) -> Any:
    """A copy of *value* of types that documents hold. Raises InvalidFilter naming the type and the place.

    >>> plain([bytearray(b"a"), {"x": 1}], "field")
    [b'a', {'x': 1}]
    """
    kind = type(value)
    if kind is str:
        check_text(value, where)
    if (kind is datetime or kind is time) and value.tzinfo is not None:
        return _with_plain_zone(value)
    if kind in _SCALARS:
        return value
    if depth > MAX_DEPTH:
        refuse(where, f"the value is nested more than {MAX_DEPTH} deep; make it flatter")
    if kind is bytearray or kind is memoryview:
        return bytes(value)
    if kind is list:
        return [plain(one, f"{where}[{n}]", depth + 1) for n, one in enumerate(value)]
    if kind is tuple:
        return tuple([plain(one, f"{where}[{n}]", depth + 1) for n, one in enumerate(value)])
    if isinstance(value, Mapping):
        return {_name(name, where): plain(one, f"{where}.{name}", depth + 1) for name, one in value.items()}
    if kind is set or kind is frozenset:
        return kind([plain(one, where, depth + 1) for one in value])
    if isinstance(value, re.Pattern):
        refuse(
            where, "a pattern is a condition and no value: pass it alone, or with $regex, $not, $in or $all"
        )
    refuse(where, f"documents hold no {name_of(value)}; convert it to a type that they hold, as int or str")


def _with_plain_zone(value: Any) -> Any:
    """The same moment, in a zone that can be stored: of other makes of tzinfo (dateutil's) its offset."""
    zone = value.tzinfo
    if type(zone) is timezone or (type(zone) is ZoneInfo and zone.key is not None):
        return value
    offset = value.utcoffset()
    return value.replace(tzinfo=None if offset is None else timezone(offset))


def check_text(text: str, where: str) -> None:
    """Raises InvalidFilter for a str that no document can hold: one with a lone surrogate."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            refuse(where, f"{shown(text)} holds a lone surrogate, and no document does; is it bytes?")


def _name(name: Any, where: str) -> Any:
    if type(name) is str:
        check_text(name, where)
    if type(name) is tuple:
        return tuple([_name(one, where) for one in name])
    if type(name) in (str, int, bytes, float, bool, type(None), UUID, datetime):
        return name
    refuse(where, f"a document has no field that is named by {name_of(name)}; use a str")


def copied(value: Any) -> Any:
    """A copy of a value: of its containers, as scalars don't change. What can't be stored stays as it is.

    >>> one = [1, {"a": []}]
    >>> copied(one) == one, copied(one)[1] is one[1]
    (True, False)
    """
    kind = type(value)
    if kind is dict:
        fields = {}
        for name, one in value.items():  # a comprehension would take a second frame a level
            fields[name] = copied(one)
        return fields
    if kind is list or kind is tuple:
        elements = []
        for one in value:
            elements.append(copied(one))
        return elements if kind is list else tuple(elements)
    if kind is set:
        return set(value)
    return bytes(value) if kind is bytearray or kind is memoryview else value
