"""Bounds of ids: documents lie in the order of their ids as keys, which is by type, so the ids of one type
are a range.

Invariants: as of bounds.py. ``1`` and ``1.0`` are two ids and one number: a condition on a number leads to
both. A tuple is an array to a filter, which finds it by its elements: ids that are tuples are part of every
range.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

from memdb.documents.filters import Condition
from memdb.documents.keyspace import following, id_bytes
from memdb.documents.operands import shown
from memdb.errors import Error

__all__ = ["id_ranges"]

_PLAIN: Final = frozenset({str, bytes, UUID})
_NUMBERS: Final = frozenset({int, float})
_INTS: Final = (
    b"\x0b",
    b"\x1e",
)  # the key encoding of ints: from the longest negative to the longest positive
_FLOATS: Final = (b"\x21", b"\x22")

_TUPLES: Final = (b"\x05", b"\x06")

_TEXTS: Final = {"gt": "({}, ...)", "gte": "[{}, ...)", "lt": "(..., {})", "lte": "(..., {}]"}

Ranges = list[tuple[bytes, bytes]]


def id_ranges(conditions: Iterable[Condition], prefix: bytes) -> tuple[Ranges, bool, str] | None:
    """The ranges of stored keys that the conditions on ``_id`` leave, whether those are single ids, and a
    text; None if they say nothing. *prefix*: what the keys of documents begin with."""
    on_id = [one for one in conditions if one.path == "_id"]
    for condition in on_id:
        points = _points(condition)
        if points is not None:
            operands = [condition.operand] if condition.op == "eq" else condition.operand
            text = " ".join(f"[{shown(one, 40)}, {shown(one, 40)}]" for one in operands[:3])
            text += " ..." if len(operands) > 3 else ""
            ranges = sorted([*((one, one + b"\0") for one in points), _TUPLES])
            return [(prefix + start, prefix + stop) for start, stop in ranges], True, text
    found: Ranges | None = None
    texts = []
    for condition in on_id:
        bounds = _ordered(condition)
        if bounds is not None:
            found = bounds if found is None else _both(found, bounds)
            texts.append(_TEXTS[condition.op].format(shown(condition.operand, 40)))
    if found is None:
        return None
    return [(prefix + start, prefix + stop) for start, stop in found], False, " and ".join(texts)


def _points(condition: Condition) -> set[bytes] | None:
    """The ids that *eq* or *in* asks for."""
    if condition.op == "eq":
        operands: Sequence[Any] = [condition.operand]
    elif condition.op == "in":
        operands = condition.operand
    else:
        return None
    found: set[bytes] = set()
    for one in operands:
        if type(one) in _PLAIN:
            _add(found, one)
        elif type(one) in _NUMBERS:
            if _is_finite(one) and one == int(one):
                _add(found, int(one))
            _add_float(found, one)
        else:
            return None  # another type may be equal to a key of another form: the filter decides
    return found


def _is_finite(number: Any) -> bool:
    return type(number) is int or math.isfinite(number)


def _add(found: set[bytes], id: Any) -> None:
    try:
        found.add(id_bytes(id))
    except Error:  # what can't be a key is nobody's id
        return


def _add_float(found: set[bytes], number: Any) -> None:
    try:
        as_float = float(number)
    except OverflowError:
        return
    if as_float == number:
        _add(found, as_float)
        if as_float == 0:
            _add(found, -as_float)


def _ordered(condition: Condition) -> Ranges | None:
    """The ranges of a comparison, at their ends maybe one id too many."""
    op, operand = condition.op, condition.operand
    if op not in ("gt", "gte", "lt", "lte"):
        return None
    above = op in ("gt", "gte")
    if type(operand) in _PLAIN:
        try:
            code = id_bytes(operand)
        except Error:
            return None
        kind = code[:1]
        return sorted([(code, following(kind)) if above else (kind, code + b"\0"), _TUPLES])
    if type(operand) not in _NUMBERS or not _is_finite(operand):
        return None
    try:
        whole = id_bytes(math.floor(operand) if above else math.ceil(operand))
        # Both zeros are one number, and -0.0 is the first of the two keys.
        broken = id_bytes(float(operand) if operand else -0.0 if above else 0.0)
    except (Error, OverflowError):
        return None
    if above:
        return [_TUPLES, (whole, _INTS[1]), (broken, _FLOATS[1])]
    return [_TUPLES, (_INTS[0], whole + b"\0"), (_FLOATS[0], broken + b"\0")]


def _both(first: Ranges, second: Ranges) -> Ranges:
    found = []
    for start, stop in first:
        for other_start, other_stop in second:
            low, high = max(start, other_start), min(stop, other_stop)
            if low < high:
                found.append((low, high))
    return found
