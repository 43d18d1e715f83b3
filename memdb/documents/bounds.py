"""Bounds: which part of an index can hold what a condition asks for.

Owns: :class:`Span`, a range of codes of one field, and how conditions become spans and spans of several
fields ranges of stored keys.

Invariants:

* Every document that fulfils a condition has an entry inside its spans; what else lies there is the matter of
  the filter. ``exact`` spans hold nothing else.
* Codes are prefix-free, so a span of a descending field is the same span, complemented.
* The spans of a field are in order and apart.
"""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple
from uuid import UUID

from memdb.documents.filters import Condition
from memdb.documents.keyspace import complement, following
from memdb.documents.operands import is_number, shown
from memdb.documents.order import is_nan
from memdb.errors import UnsupportedType
from memdb.layering import encode_ordered

__all__ = ["Span", "key_ranges", "names", "spans_of"]

_ORDERS: Final = frozenset({"gt", "gte", "lt", "lte"})
_LISTS: Final = frozenset({list, tuple})
_EXACT: Final = frozenset({int, float, str, bytes, UUID, bool})
_NULL: Final = b"\x05"
_FALSE, _TRUE = 0x60, 0x61
_NO_NUMBERS_BELOW: Final = encode_ordered(float("-inf"))  # NaN is there, and is neither less nor greater
_MOST_PREFIXES: Final = 1000  # of a compound index with several $in


class Span(NamedTuple):
    """The codes from *start* to before *stop*. *point*: it is one code; *exact*: what lies in it is what was
    asked for."""

    start: bytes
    stop: bytes
    point: bool
    exact: bool
    text: str


def _point(value: Any) -> Span:
    code, text = encode_ordered(value), shown(value, 40)
    exact = type(value) in _EXACT and value == value  # NaN is for the filter
    return Span(code, following(code), True, exact, f"[{text}, {text}]")


def _order(op: str, operand: Any) -> Span:
    """A comparison, which holds within one type only."""
    if operand is None or (is_number(operand) and is_nan(operand)):
        return _point(operand)
    code = encode_ordered(operand)
    kind = code[0]
    if kind in (_FALSE, _TRUE):
        least, most = bytes([_FALSE]), bytes([_TRUE + 1])
    else:
        least, most = bytes([kind]), bytes([kind + 1])
    if isinstance(operand, int | float | Decimal) and not isinstance(operand, bool):
        least = _NO_NUMBERS_BELOW
    exact = type(operand) in _EXACT
    if op == "gt":
        return Span(following(code), most, False, exact, f"({shown(operand, 40)}, ...)")
    if op == "gte":
        return Span(code, most, False, exact, f"[{shown(operand, 40)}, ...)")
    if op == "lt":
        return Span(least, code, False, exact, f"(..., {shown(operand, 40)})")
    return Span(least, following(code), False, exact, f"(..., {shown(operand, 40)}]")


def _prefix(text: str) -> Span:
    code = encode_ordered(text)[:-2]  # without what ends a str
    return Span(code, following(code), False, False, f"[{shown(text, 40)}..., ...)")


def _of_one(condition: Condition) -> list[Span] | None:
    """The spans of one condition; None if it says nothing about codes."""
    _, op, operand = condition
    try:
        if op == "eq":
            return None if type(operand) in _LISTS else [_point(operand)]
        if op in _ORDERS:
            return None if type(operand) in _LISTS else [_order(op, operand)]
        if op == "in":
            if any(type(one) in _LISTS for one in operand):
                return None
            points = {span.start: span for span in map(_point, operand)}
            return [points[start] for start in sorted(points)]
        if op == "prefix":
            return [_prefix(operand)]
        if op == "exists" and not operand:
            return [Span(_NULL, following(_NULL), True, False, "[missing, missing]")]
        if op == "elemMatch":
            return _of_element(condition)
    except UnsupportedType:  # what has no order: the filter looks at every document
        return None
    return None


def _of_element(condition: Condition) -> list[Span] | None:
    """One element fulfils all: its ranges may be intersected, since an element is one value."""
    found: list[Span] | None = None
    for inner in condition.operand:
        if inner.path == condition.path and inner.op != "elemMatch":
            spans = _of_one(inner)
            if spans is not None:
                found = spans if found is None else _both(found, spans)
    # Only an element fulfils it, and what else it asks of that is not known here: the filter decides.
    return None if found is None else [span._replace(exact=False) for span in found]


def _both(first: Sequence[Span], second: Sequence[Span]) -> list[Span]:
    """What lies in both: of two ordered lists of spans."""
    found = []
    for one in first:
        for other in second:
            start, stop = max(one.start, other.start), min(one.stop, other.stop)
            if start < stop:
                point = one if one.point else other if other.point else None
                text = point.text if point else _joined(one, other)
                found.append(Span(start, stop, point is not None, one.exact and other.exact, text))
    return found


def _joined(one: Span, other: Span) -> str:
    """``[18, 30)`` of ``[18, ...)`` and ``(..., 30)``; of others both."""
    low = one if one.text.endswith(", ...)") else other
    high = other if low is one else one
    if low.text.endswith(", ...)") and high.text.startswith("(..., "):
        return low.text.removesuffix("...)") + high.text.removeprefix("(..., ")
    return f"{one.text} and {other.text}"


def spans_of(conditions: Iterable[Condition], path: str, *, several: bool) -> tuple[list[Span], int] | None:
    """The spans that all conditions on *path* leave, and how many conditions they stand for; None if there
    are none. *several*: a document may have several entries, so each condition may hold for another one, and
    only the narrowest counts."""
    found: list[Span] | None = None
    used = 0
    for condition in _on(conditions, path):
        spans = _of_one(condition)
        if spans is None:
            continue
        if found is None:
            found, used = spans, 1
        elif several:
            if _narrower(spans, found):
                found = spans
        else:
            found, used = _both(found, spans), used + 1
    return None if found is None else (found, used)


def names(conditions: Iterable[Condition], path: str) -> bool:
    """Whether a condition is about *path*."""
    return next(_on(conditions, path), None) is not None


def _on(conditions: Iterable[Condition], path: str) -> Iterator[Condition]:
    for condition in conditions:
        if condition.path == path:
            yield condition
        elif condition.op == "elemMatch" and _is_inside(path, condition.path):
            # Of documents in a list: each condition for itself.
            yield from (inner for inner in condition.operand if inner.path == path)


def _is_inside(path: str, outer: str) -> bool:
    """Whether a path goes on behind another one, by names: a number may be the place in a list."""
    if not path.startswith(outer + "."):
        return False
    return not any(part.isdecimal() for part in path[len(outer) + 1 :].split("."))


def _narrower(one: Sequence[Span], other: Sequence[Span]) -> bool:
    """Whether *one* is likely to hold less: points before ranges, fewer before more."""
    points, others = all(span.point for span in one), all(span.point for span in other)
    return (not points, len(one)) < (not others, len(other)) if points != others or points else False


def key_ranges(
    prefix: bytes, fields: Sequence[tuple[list[Span], bool]]
) -> tuple[list[tuple[bytes, bytes]], int, list[str]]:
    """The ranges of stored keys, in order, of the spans of an index's first fields (each with whether it is
    descending); how many of the fields they use, and for each of those the text of its spans.

    Points lead on to the next field, ranges don't.
    """
    prefixes = [prefix]
    texts: list[str] = []
    for used, (spans, descending) in enumerate(fields):
        placed = [(_turned(span) if descending else (span.start, span.stop)) for span in spans]
        if len(prefixes) * len(spans) > _MOST_PREFIXES and used > 0:
            return _whole(prefixes), used, texts
        texts.append(" ".join(span.text for span in spans[:3]) + (" ..." if len(spans) > 3 else ""))
        if all(span.point for span in spans):
            if descending:
                prefixes = [one + complement(span.start) for one in prefixes for span in reversed(spans)]
            else:
                prefixes = [one + span.start for one in prefixes for span in spans]
            continue
        ranges = [(one + start, one + stop) for one in prefixes for start, stop in sorted(placed)]
        return ranges, used + 1, texts
    return _whole(prefixes), len(fields), texts


def _whole(prefixes: list[bytes]) -> list[tuple[bytes, bytes]]:
    return [(prefix, following(prefix)) for prefix in prefixes]


def _turned(span: Span) -> tuple[bytes, bytes]:
    """The range of a descending field."""
    return following(complement(span.stop)), following(complement(span.start))
