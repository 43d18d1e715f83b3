"""Dotted paths into documents: which values of a document a path names.

Owns: the class :class:`Path` and the three ways to follow one. They differ at arrays, as MongoDB's do:

* :func:`any_at`, for filters: each document in an array is entered, and a part that is a number also names
  the element there. A scalar on the way means that the value is missing; a scalar in an array means nothing.
* :func:`index_values`, for index entries and sorting: the same places, and null where nothing is found, so
  a filter never finds a document that its index entries do not lead to.
* :func:`value_of`, for grouping: one value; through an array, the list of what its documents have there.

Invariants:

* ``MISSING`` stands for a value that is not there. It is never part of a document.
* A document is a ``dict``; a tuple is an array as a list is. Types are exact, as in storage.
* No function here changes a document.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from memdb.layering import EMPTY_ARRAY
from memdb.sentinels import MISSING

__all__ = ["EMPTY", "Document", "Path", "any_at", "distinct_values", "index_values", "is_array", "value_of"]

Document = Mapping[str, Any]
Test = Callable[[object], bool]


EMPTY: Final = EMPTY_ARRAY
"""What an empty array is among the values of an index: it has no elements, and comes before null."""


class Path:
    """A dotted path, split: ``parts``, and for each of them ``indexes``, the element that it names in an
    array, or -1.

    >>> Path("a.0.b").indexes
    (-1, 0, -1)
    """

    __slots__ = ("indexes", "parts", "text")

    def __init__(self, text: str) -> None:
        self.text: Final = text
        self.parts: Final = tuple(text.split("."))
        self.indexes: Final = tuple(_index(part) for part in self.parts)

    def __repr__(self) -> str:
        return f"Path({self.text!r})"


def _index(part: str) -> int:
    # As an element is named when it is written out: no sign, no leading zero, ASCII digits.
    if part.isascii() and part.isdecimal() and (part == "0" or part[0] != "0"):
        return int(part)
    return -1


def is_array(value: object) -> bool:
    """Whether *value* counts as an array: a list or a tuple.

    >>> is_array((1, 2))
    True
    """
    return type(value) is list or type(value) is tuple


# --------------------------------------------------------------------------------------------------- filters


def any_at(doc: Document, path: Path, leaf: Test, single: Test, start: int = 0) -> bool:
    """Whether a test holds for any value at *path*: *leaf* for a field's value, *single* for an element that
    the last part of the path names by its number (which is not expanded again if it is an array).

    Cost: the parts of the path, and all elements of the arrays on the way.

    >>> doc = {"a": [{"b": 1}, {"b": 2}]}
    >>> any_at(doc, Path("a.b"), lambda value: value == 2, lambda value: False)
    True
    """
    parts = path.parts
    last = len(parts) - 1
    for place in range(start, last):
        value = doc.get(parts[place], MISSING)
        kind = type(value)
        if kind is dict:
            doc = value
        elif kind is list or kind is tuple:
            return _any_in(value, path, place + 1, leaf, single)
        else:
            return leaf(MISSING)
    return leaf(doc.get(parts[last], MISSING))


def _any_in(array: Any, path: Path, place: int, leaf: Test, single: Test) -> bool:
    """As any_at, for the elements of an array from part *place* on."""
    index = path.indexes[place]
    is_last = place == len(path.parts) - 1
    for number, element in enumerate(array):
        kind = type(element)
        if kind is dict and any_at(element, path, leaf, single, place):
            return True
        if number != index:
            continue
        if is_last:
            if single(element):
                return True
        elif kind is dict:
            if any_at(element, path, leaf, single, place + 1):
                return True
        elif (kind is list or kind is tuple) and _any_in(element, path, place + 1, leaf, single):
            return True
    return False


# ----------------------------------------------------------------------------------------- values of an index


def index_values(doc: Document, path: Path) -> tuple[list[Any], bool]:
    """The values that *doc* has at *path* in an index, in the order of the document and not yet distinct,
    and whether an array was met: elements one by one, :data:`EMPTY` for an empty array, None for what is
    missing. Never empty.

    >>> index_values({"a": [{"b": 1}, {"c": 2}]}, Path("a.b"))
    ([1, None], True)
    """
    found: list[Any] = []
    met_array = _collect(doc, path, 0, found)
    values = [None if value is MISSING else value for value in found]
    return values or [None], met_array


def distinct_values(doc: Document, path: Path) -> list[Any]:
    """The values that *doc* adds to ``distinct``: elements one by one, nothing for what is missing.

    >>> distinct_values({"tags": ["a", "b"]}, Path("tags"))
    ['a', 'b']
    """
    found: list[Any] = []
    _collect(doc, path, 0, found)
    return [value for value in found if value is not MISSING and value is not EMPTY]


def _collect(doc: Document, path: Path, start: int, found: list[Any]) -> bool:
    parts = path.parts
    last = len(parts) - 1
    for place in range(start, last):
        value = doc.get(parts[place], MISSING)
        if type(value) is dict:
            doc = value
        elif is_array(value):
            _collect_in(value, path, place + 1, found)
            return True
        else:
            found.append(MISSING)
            return False
    return _collect_leaf(doc.get(parts[last], MISSING), found)


def _collect_leaf(value: Any, found: list[Any]) -> bool:
    if not is_array(value):
        found.append(value)
        return False
    if value:
        found.extend(value)
    else:
        found.append(EMPTY)
    return True


def _collect_in(array: Any, path: Path, place: int, found: list[Any]) -> None:
    index = path.indexes[place]
    is_last = place == len(path.parts) - 1
    for number, element in enumerate(array):
        is_named = number == index
        if type(element) is dict:
            _collect(element, path, place, found)
        elif index < 0:
            found.append(MISSING)
        if not is_named:
            continue
        if is_last:
            _collect_leaf(element, found)
        elif type(element) is dict:
            _collect(element, path, place + 1, found)
        elif is_array(element):
            _collect_in(element, path, place + 1, found)


# -------------------------------------------------------------------------------------------------- grouping


def value_of(doc: Document, path: Path) -> Any:
    """The one value at *path*; through an array, the list of what its documents have there; else MISSING.

    >>> value_of({"a": [{"b": 1}, 5, {"b": 2}]}, Path("a.b"))
    [1, 2]
    """
    return _value_from(doc, path.parts, 0)


def _value_from(value: Any, parts: tuple[str, ...], start: int) -> Any:
    for place in range(start, len(parts)):
        if is_array(value):
            inner = (_value_from(element, parts, place) for element in value)
            return [one for one in inner if one is not MISSING]
        if type(value) is not dict:
            return MISSING
        value = value.get(parts[place], MISSING)
    return value
