"""The language of filters: from a mapping to a tree of nodes, and a plain copy of what was read.

Owns: the nodes, the table of operators, and every text of InvalidFilter about a filter.

Invariants:

* Everything is checked here: an unknown operator, an operand of the wrong type and a value that no document
  can hold are InvalidFilter with the place in the filter.
* The plain copy shares nothing that can be changed with what the caller passed; patterns in it are documents
  ``{"$regex": …, "$options": …}``, which are read wherever a pattern can stand.
"""

import math
import re
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple, NoReturn

from memdb.documents import predicates
from memdb.documents.operands import (
    MAX_DEPTH,
    check_text,
    is_integral,
    is_number,
    name_of,
    plain,
    refuse,
    shown,
)
from memdb.documents.paths import Path
from memdb.documents.predicates import Test

__all__ = [
    "AllOf",
    "AnyOf",
    "AtPath",
    "ElementMatch",
    "Negated",
    "Node",
    "Operator",
    "Opposite",
    "Predicate",
    "is_condition",
    "parse",
    "parse_condition",
]


class Operator(NamedTuple):
    """A test of one value. ``takes_array``: it is put to a whole array, not to its elements.
    ``prefix``: what every str that a pattern finds begins with."""

    op: str
    operand: Any
    test: Test
    takes_array: bool = False
    prefix: str = ""


class Negated(NamedTuple):
    """The opposite of all *parts* together, at one path. *op* and *operand* as they were written."""

    op: str
    operand: Any
    parts: "tuple[Predicate, ...]"


class ElementMatch(NamedTuple):
    """``$elemMatch``: one element fulfils all *parts*, or, as a document, *document*."""

    parts: "tuple[Predicate, ...]"
    document: "AllOf | None"


class AllOf(NamedTuple):
    """A conjunction."""

    parts: "tuple[Node, ...]"


class AnyOf(NamedTuple):
    """A disjunction."""

    parts: "tuple[Node, ...]"


class Opposite(NamedTuple):
    """What ``$nor`` makes of a disjunction."""

    part: "Node"


class AtPath(NamedTuple):
    """A predicate of the values at a path."""

    path: Path
    predicate: "Predicate"


Predicate = Operator | Negated | ElementMatch
Node = AllOf | AnyOf | Opposite | AtPath

_LOGICAL: Final = ("$and", "$or", "$nor")
_Read = tuple[list[Predicate], Any]


def parse(filter: object, where: str = "") -> tuple[AllOf, dict[str, Any]]:
    """The tree of a filter and its plain copy; *where* it stands in an update. Raises InvalidFilter.

    >>> parse({"a": (1, 2)})[1]
    {'a': (1, 2)}
    """
    return _parse_document(filter, where, 0)


def is_condition(operand: object) -> bool:
    """Whether *operand* is a condition of a value (a pattern, or a document of operators), not a filter of
    documents nor a value.

    >>> is_condition({"$gt": 5}), is_condition({"$or": [{"a": 1}]}), is_condition({"a": 5})
    (True, False, False)
    """
    if isinstance(operand, re.Pattern):
        return True
    if not isinstance(operand, Mapping) or not operand:
        return False
    first = next(iter(operand))  # a filter may name a field first, and $or behind it
    return isinstance(first, str) and first.startswith("$") and first not in _LOGICAL


def parse_condition(condition: Any, where: str) -> list[Predicate]:
    """The predicates of what :func:`is_condition`. Raises InvalidFilter.

    >>> [one.op for one in parse_condition({"$gt": 5, "$lt": 9}, "$pull.a")]
    ['gt', 'lt']
    """
    return _parse_field(condition, where, 0)[0]


# -------------------------------------------------------------------------------------------------- documents


def _parse_document(filter: object, where: str, depth: int) -> tuple[AllOf, dict[str, Any]]:
    if not isinstance(filter, Mapping):
        refuse(where, f"a filter is a mapping of fields to conditions, not {name_of(filter)}")
    if depth > MAX_DEPTH:
        refuse(where, f"it is nested more than {MAX_DEPTH} deep; make it flatter")
    nodes: list[Node] = []
    source: dict[str, Any] = {}
    for name, operand in filter.items():
        if type(name) is not str:
            refuse(where, f"a field is named by a str, not by {name_of(name)} ({shown(name)})")
        check_text(name, where)
        place = f"{where}.{name}" if where else name
        if name in _LOGICAL:
            node, source[name] = _parse_logical(name, operand, place, depth)
            nodes.append(node)
        elif name.startswith("$"):
            _refuse_top_level(name, place)
        else:
            found, source[name] = _parse_field(operand, place, depth)
            path = Path(name)
            nodes += [AtPath(path, predicate) for predicate in found]
    return AllOf(tuple(nodes)), source


def _refuse_top_level(name: str, where: str) -> NoReturn:
    if name in _OPERATORS or name in ("$not", "$regex", "$options"):
        refuse(where, f"{name} goes inside a field's condition, as in {{'field': {{'{name}': …}}}}")
    refuse(where, f"there is no operator {name} for whole documents; there are {', '.join(_LOGICAL)}")


def _parse_logical(name: str, operand: Any, where: str, depth: int) -> tuple[Node, list[Any]]:
    if not isinstance(operand, list | tuple) or not operand:
        refuse(where, f"{name} takes a list of one filter or more, not {shown(operand)}")
    read = [_parse_document(one, f"{where}[{n}]", depth + 1) for n, one in enumerate(operand)]
    parts = tuple(node for node, _ in read)
    source = [plain_one for _, plain_one in read]
    if name == "$and":
        return AllOf(parts), source
    return (AnyOf(parts) if name == "$or" else Opposite(AnyOf(parts))), source


def _parse_field(operand: Any, where: str, depth: int) -> _Read:
    if isinstance(operand, re.Pattern):
        return _parse_regex({"$regex": operand}, where)
    if _has_operators(operand):
        return _parse_operators(operand, where, depth)
    value = plain(operand, where)
    return [_equality(value)], value


def _has_operators(operand: object) -> bool:
    return isinstance(operand, Mapping) and any(
        isinstance(name, str) and name.startswith("$") for name in operand
    )


def _equality(value: Any) -> Operator:
    return Operator("eq", value, predicates.equals(value))


# -------------------------------------------------------------------------------------------------- operators


def _parse_operators(expression: Mapping[str, Any], where: str, depth: int) -> _Read:
    if depth > MAX_DEPTH:
        refuse(where, f"it is nested more than {MAX_DEPTH} deep; make it flatter")
    found: list[Predicate] = []
    source: dict[str, Any] = {}
    for name, operand in expression.items():
        place = f"{where}.{name}"
        if not isinstance(name, str) or not name.startswith("$"):
            refuse(
                place,
                f"operators and the field {name!r} can't be mixed in one condition; to reach an inner field "
                "use a dotted path, to compare with a document use $eq",
            )
        if name in ("$regex", "$options"):
            continue
        read = _OPERATORS.get(name)
        if read is None:
            refuse(place, f"there is no operator {name}; there are {', '.join(_KNOWN)}")
        parts, source[name] = read(operand, place, depth)
        found += parts
    if "$regex" in expression or "$options" in expression:
        parts, pattern = _parse_regex(expression, where)
        found += parts
        source.update(pattern)
    return found, source


def _read_eq(operand: Any, where: str, depth: int) -> _Read:
    value = plain(operand, where)
    return [_equality(value)], value


def _read_ne(operand: Any, where: str, depth: int) -> _Read:
    value = plain(operand, where)
    return [Negated("ne", value, (_equality(value),))], value


def _reader_of_order(op: str) -> Callable[[Any, str, int], _Read]:
    def read(operand: Any, where: str, depth: int) -> _Read:
        value = plain(operand, where)
        if not predicates.is_ordered(value):
            refuse(where, f"a {name_of(value)} has no order, or something in it has none; ${op} needs one")
        return [Operator(op, value, predicates.orders(op, value))], value

    return read


def _read_list(name: str, operand: Any, where: str) -> tuple[list[Any], list[re.Pattern[str]], list[Any]]:
    """The values and the patterns of ``$in`` and ``$nin``, and their plain form."""
    if not isinstance(operand, list | tuple | set | frozenset):
        refuse(where, f"{name} takes a list of values, not {shown(operand)}")
    values: list[Any] = []
    patterns: list[re.Pattern[str]] = []
    source: list[Any] = []
    for number, one in enumerate(operand):
        place = f"{where}[{number}]"
        if _is_pattern(one):
            pattern, written = _compile(one if isinstance(one, Mapping) else {"$regex": one}, place)
            patterns.append(pattern)
            source.append(written)
        elif _has_operators(one):
            refuse(place, f"{name} lists values and patterns, not conditions; use $or for those")
        else:
            values.append(plain(one, place))
            source.append(values[-1])
    return values, patterns, source


def _read_in(operand: Any, where: str, depth: int) -> _Read:
    values, patterns, source = _read_list("$in", operand, where)
    test = predicates.is_in(values, patterns)
    return [Operator("in_regex" if patterns else "in", source, test)], source


def _read_nin(operand: Any, where: str, depth: int) -> _Read:
    values, patterns, source = _read_list("$nin", operand, where)
    test = predicates.is_in(values, patterns)
    return [Negated("nin", source, (Operator("in", source, test),))], source


def _read_exists(operand: Any, where: str, depth: int) -> _Read:
    if type(operand) is not bool and not is_integral(operand):
        refuse(where, f"$exists takes true or false, not {shown(operand)}")
    wanted = bool(operand)
    there = Operator("exists", True, predicates.exists)
    return [there if wanted else Negated("exists", False, (there,))], wanted


def _read_type(operand: Any, where: str, depth: int) -> _Read:
    asked = list(operand) if isinstance(operand, list | tuple | set | frozenset) else [operand]
    names: list[str] = []
    for one in asked:
        key = int(one) if is_integral(one) else one
        if type(key) not in (int, str) or key not in predicates.TYPE_NAMES:
            known = ", ".join(predicates.OWN_TYPES)
            refuse(where, f"{shown(one)} is no type; there are {known}, and MongoDB's numbers of them")
        names.append(predicates.TYPE_NAMES[key])
    if not names:
        refuse(where, "$type takes one type or a list of some, not an empty list")
    return [Operator("type", names, predicates.has_type(names))], names


def _read_size(operand: Any, where: str, depth: int) -> _Read:
    if not is_integral(operand) or operand < 0:
        refuse(where, f"$size takes a number of elements, an int of 0 or more, not {shown(operand)}")
    size = int(operand)
    return [Operator("size", size, predicates.has_size(size), takes_array=True)], size


def _read_mod(operand: Any, where: str, depth: int) -> _Read:
    if not isinstance(operand, list | tuple) or len(operand) != 2:
        refuse(where, f"$mod takes a list of two numbers, divisor and remainder, not {shown(operand)}")
    for one in operand:
        if not is_number(one) or not _is_finite(one):
            refuse(where, f"$mod takes finite numbers, not {shown(one)}")
    divisor, remainder = int(operand[0]), int(operand[1])
    if divisor == 0:
        refuse(where, "the divisor of $mod is 0 (a fraction is cut off); use another one")
    return [Operator("mod", [divisor, remainder], predicates.modulo(divisor, remainder))], [
        divisor,
        remainder,
    ]


def _is_finite(number: Any) -> bool:
    """Of a Decimal also: no larger than a float can be, since it is written out as an int."""
    if type(number) is Decimal:
        return number.is_finite() and number.adjusted() <= sys.float_info.max_10_exp
    return type(number) is int or math.isfinite(number)


def _read_not(operand: Any, where: str, depth: int) -> _Read:
    if isinstance(operand, re.Pattern):
        parts, source = _parse_regex({"$regex": operand}, where)
    elif isinstance(operand, Mapping) and operand:
        parts, source = _parse_operators(operand, where, depth + 1)
    else:
        refuse(
            where, f"$not takes a condition, as in {{'$not': {{'$gt': 5}}}}, not {shown(operand)}; see $ne"
        )
    return [Negated("not", source, tuple(parts))], source


def _read_element_match(operand: Any, where: str, depth: int) -> _Read:
    if not isinstance(operand, Mapping):
        refuse(where, f"$elemMatch takes a filter or a document of operators, not {shown(operand)}")
    if is_condition(operand):
        parts, source = _parse_operators(operand, where, depth + 1)
        return [ElementMatch(tuple(parts), None)], source
    document, source = _parse_document(operand, where, depth + 1)
    return [ElementMatch((), document)], source


def _read_all(operand: Any, where: str, depth: int) -> _Read:
    if not isinstance(operand, list | tuple | set | frozenset):
        refuse(where, f"$all takes a list of values, not {shown(operand)}")
    found: list[Predicate] = []
    source: list[Any] = []
    for number, one in enumerate(operand):
        place = f"{where}[{number}]"
        if _has_operators(one) and set(one) - {"$elemMatch", "$regex", "$options"}:
            refuse(
                place, "$all lists values, patterns and $elemMatch, no other conditions; use $and for those"
            )
        parts, written = _parse_field(one, place, depth + 1)
        found += parts
        source.append(written)
    if not found:
        found.append(Operator("all", [], lambda value: False))
    return found, source


# --------------------------------------------------------------------------------------------------- patterns

_FLAGS: Final = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE, "u": re.NOFLAG}
_KEPT_FLAGS: Final = re.IGNORECASE | re.MULTILINE | re.DOTALL | re.VERBOSE | re.ASCII


def _is_pattern(operand: object) -> bool:
    return isinstance(operand, re.Pattern) or (isinstance(operand, Mapping) and "$regex" in operand)


def _parse_regex(expression: Mapping[str, Any], where: str) -> _Read:
    pattern, source = _compile(expression, where)
    return [Operator("regex", source, predicates.searches(pattern), prefix=_prefix_of(pattern))], source


def _compile(expression: Mapping[str, Any], where: str) -> tuple[re.Pattern[str], dict[str, str]]:
    """The pattern of ``$regex`` and ``$options``, and both as str."""
    if "$regex" not in expression:
        refuse(f"{where}.$options", "$options needs a $regex beside it")
    written, options = expression["$regex"], expression.get("$options", "")
    if not isinstance(options, str) or set(options) - _FLAGS.keys():
        refuse(f"{where}.$options", f"options are letters of 'imsx', not {shown(options)}")
    flags = re.NOFLAG
    for letter in options:
        flags |= _FLAGS[letter]
    text = written
    if isinstance(written, re.Pattern):
        text = written.pattern
        flags |= written.flags & _KEPT_FLAGS
    if isinstance(text, str):
        check_text(text, f"{where}.$regex")
    else:
        refuse(f"{where}.$regex", f"a pattern is a str or a compiled one of str, not {name_of(text)}")
    if flags & re.ASCII:  # no letter of MongoDB's says that, so it goes into the pattern
        text, flags = f"(?a){text}", flags & ~re.ASCII
    try:
        pattern = re.compile(text, flags)
    except (re.error, OverflowError, RecursionError) as error:
        refuse(f"{where}.$regex", f"{shown(text)} is no pattern of Python's re: {error}")
    letters = "".join(letter for letter, flag in _FLAGS.items() if flags & flag)
    return pattern, {"$regex": text, "$options": letters} if letters else {"$regex": text}


_META: Final = frozenset(".^$*+?{}[]\\|()")
_QUANTIFIERS: Final = frozenset("*?{+")


def _prefix_of(pattern: re.Pattern[str]) -> str:
    """What every str found by *pattern* begins with; empty if it is not anchored by ``^``, or may be more
    than one thing."""
    text = pattern.pattern
    if not text.startswith("^") or "|" in text:
        return ""
    if pattern.flags & (re.IGNORECASE | re.MULTILINE | re.VERBOSE):
        return ""
    literal: list[str] = []
    place = 1
    while place < len(text):
        letter = text[place]
        if letter == "\\" and place + 1 < len(text) and not text[place + 1].isalnum():
            place += 1
            letter = text[place]
        elif letter in _META:
            if letter in _QUANTIFIERS and literal:
                literal.pop()  # that one may be missing, or come several times
            break
        literal.append(letter)
        place += 1
    return "".join(literal)


_OPERATORS: Final[dict[str, Callable[[Any, str, int], _Read]]] = {
    "$eq": _read_eq,
    "$ne": _read_ne,
    "$gt": _reader_of_order("gt"),
    "$gte": _reader_of_order("gte"),
    "$lt": _reader_of_order("lt"),
    "$lte": _reader_of_order("lte"),
    "$in": _read_in,
    "$nin": _read_nin,
    "$exists": _read_exists,
    "$type": _read_type,
    "$all": _read_all,
    "$elemMatch": _read_element_match,
    "$size": _read_size,
    "$mod": _read_mod,
    "$not": _read_not,
}
_KNOWN: Final = (*_OPERATORS, "$regex", "$options")
