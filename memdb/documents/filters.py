"""Filters: MongoDB's query language over documents, checked once and compiled into closures.

Owns: :func:`compile_filter`, the class :class:`Filter`, and what a planner needs to know of one. parsing.py
reads the language; predicates.py has the tests of single values; here they are put to documents.

Invariants:

* A filter that was compiled never raises on a document; what is wrong with it is told when it is compiled.
* ``Filter.source`` is a copy of plain, storable values that compiles to the same filter in any process.
* Each condition of a conjunction holds for some value at its path, not all for the same one, except inside
  ``$elemMatch``: a planner must not intersect two ranges over a field that may hold arrays.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Final, NamedTuple

from memdb.documents import parsing
from memdb.documents.operands import plain
from memdb.documents.order import is_nan, same
from memdb.documents.parsing import AllOf, AnyOf, AtPath, ElementMatch, Negated, Node, Operator, Predicate
from memdb.documents.paths import Path, any_at
from memdb.documents.predicates import PLAIN, Test, equals
from memdb.sentinels import MISSING

__all__ = ["Condition", "Filter", "compile_filter", "matcher_of_elements", "same_source"]

Matches = Callable[[Mapping[str, Any]], bool]


class Condition(NamedTuple):
    """A condition that every document found by a filter fulfils: *op* holds for some value at *path*.

    ``op`` is the operator without its ``$``: eq, gt, gte, lt, lte, in, exists, type, regex, mod, size,
    elemMatch, and for what excludes ne, nin, not. Besides: ``prefix``, a str that what a ``$regex`` finds
    begins with; ``in_regex``, an ``$in`` with patterns. The operand of elemMatch is a tuple of conditions
    that one element fulfils together, with their whole paths.
    """

    path: str
    op: str
    operand: Any


class Filter:
    """A compiled filter. ``matches(doc)`` says whether it finds a document; ``source`` is its plain form.

    Made by :func:`compile_filter`; immutable; pickles as its source.

    >>> compile_filter({"age": {"$gte": 18}}).matches({"age": 30})
    True
    """

    def __init__(self, root: AllOf, source: dict[str, Any]) -> None:
        self._root = root
        self.source: Final = source

    @cached_property
    def matches(self) -> Matches:
        """Whether it finds a document. Made when it is first asked for: where the bounds of an index say all,
        nobody asks."""
        return _match_document(self._root)

    def __repr__(self) -> str:
        return f"Filter({self.source!r})"

    def __reduce__(self) -> Any:
        return compile_filter, (self.source,)

    def conditions(self) -> list[Condition]:
        """The conjunction that the filter is: what all documents that it finds fulfil, ``$and`` unfolded.
        ``$or`` and ``$nor`` add nothing.

        >>> compile_filter({"age": {"$gt": 5}, "name": "Al"}).conditions()
        [Condition(path='age', op='gt', operand=5), Condition(path='name', op='eq', operand='Al')]
        """
        found: list[Condition] = []
        _add_conditions(self._root, "", found)
        return found

    def branches(self) -> "list[Filter] | None":
        """Filters whose union is this one, one for each side of its first ``$or``; None if it has none.

        >>> compile_filter({"$or": [{"a": 1}, {"b": 2}]}).branches()
        [Filter({'a': 1}), Filter({'b': 2})]
        """
        sides = _split_or(self.source)
        return None if sides is None else [compile_filter(side) for side in sides]


def compile_filter(filter: Mapping[str, Any] | None) -> Filter:
    """Checks and compiles a filter; None and ``{}`` find every document.

    Raises InvalidFilter, which names the place in the filter, what is wrong there and what is allowed.
    Cost: the length of the filter, some microseconds for each operator.

    >>> compile_filter({"tags": "red", "$or": [{"n": 1}, {"n": None}]}).matches({"tags": ["red", "blue"]})
    True
    """
    if filter is None:
        filter = {}
    root, source = parsing.parse(filter)
    return Filter(root, source)


def same_source(first: Any, second: Any) -> bool:
    """Whether two filters, as their sources, say the same: names in any order, ``1`` as ``1.0`` but not as
    True.

    >>> same_source({"a": 1, "b": 2}, {"b": 2.0, "a": 1}), same_source({"a": 1}, {"a": True})
    (True, False)
    """
    if type(first) is not dict or type(second) is not dict:
        return same(first, second)
    return first.keys() == second.keys() and all(
        _same_operand(name, one, second[name]) for name, one in first.items()
    )


def _same_operand(name: str, first: Any, second: Any) -> bool:
    if name in ("$and", "$or", "$nor"):
        return len(first) == len(second) and all(map(same_source, first, second))
    if name in ("$elemMatch", "$not") or (
        type(first) is dict and any(type(one) is str and one.startswith("$") for one in first)
    ):
        return same_source(first, second)
    return same(first, second)


def matcher_of_elements(condition: Any, where: str) -> Test:
    """Which elements of an array ``$pull`` takes out: documents that a filter finds, what fulfils a document
    of operators or a pattern, or else what equals *condition* whole. Raises InvalidFilter.

    >>> matcher_of_elements({"$gt": 5}, "$pull.n")(6)
    True
    """
    if parsing.is_condition(condition):
        tests = [_match_path(Path(""), one) for one in parsing.parse_condition(condition, where)]
        matches = _all(tests)
        return lambda element: matches({"": element})
    if isinstance(condition, Mapping):
        found = _match_document(parsing.parse(condition, where)[0])
        return lambda element: type(element) is dict and found(element)
    return equals(plain(condition, where))


# ---------------------------------------------------------------------------------------------- conjunctions


def _match_document(node: Node) -> Matches:
    """A closure over a whole document."""
    if isinstance(node, AllOf):
        return _all([_match_document(part) for part in node.parts])
    if isinstance(node, AnyOf):
        return _any([_match_document(part) for part in node.parts])
    if isinstance(node, AtPath):
        return _match_path(node.path, node.predicate)
    inner = _match_document(node.part)
    return lambda doc: not inner(doc)


def _all(tests: list[Callable[[Any], bool]]) -> Callable[[Any], bool]:
    if not tests:
        return lambda value: True
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:
        first, second = tests
        return lambda value: first(value) and second(value)

    def test(value: Any) -> bool:
        for one in tests:  # noqa: SIM110 (this is the hot loop: a generator doubles its cost)
            if not one(value):
                return False
        return True

    return test


def _any(tests: list[Callable[[Any], bool]]) -> Callable[[Any], bool]:
    if len(tests) == 1:
        return tests[0]

    def test(value: Any) -> bool:
        for one in tests:  # noqa: SIM110
            if one(value):
                return True
        return False

    return test


# -------------------------------------------------------------------------------------------- values at paths


def _match_path(path: Path, predicate: Predicate) -> Matches:
    if isinstance(predicate, Negated):
        inner = _all([_match_path(path, part) for part in predicate.parts])
        return lambda doc: not inner(doc)
    single = _match_single(predicate)
    # What asks for an array takes it whole; the other operators are also put to its elements.
    leaf = single if isinstance(predicate, ElementMatch) or predicate.takes_array else _expanded(single)
    if len(path.parts) == 1:
        return _match_field(path.text, predicate, leaf, single)
    if len(path.parts) == 2:
        in_embedded = _match_field(path.parts[1], predicate, leaf, single)
        return _match_inner_field(path, in_embedded, leaf, single)
    return lambda doc: any_at(doc, path, leaf, single)


def _match_inner_field(path: Path, in_embedded: Matches, leaf: Test, single: Test) -> Matches:
    """A path of two parts, mostly a field of an embedded document."""
    outer = path.parts[0]

    def matches(doc: Mapping[str, Any]) -> bool:
        embedded = doc.get(outer)
        if type(embedded) is dict:
            return in_embedded(embedded)
        return any_at(doc, path, leaf, single)

    return matches


def _expanded(test: Test) -> Test:
    """The test of a field whose value may be an array: one of its elements, or all of it."""

    def leaf(value: Any) -> bool:
        kind = type(value)
        if kind is list or kind is tuple:
            for element in value:
                if test(element):
                    return True
        return test(value)

    return leaf


def _match_single(predicate: Predicate) -> Test:
    """A closure over one value, which is not expanded if it is an array."""
    if isinstance(predicate, Negated):
        inner = _all([_match_single(part) for part in predicate.parts])
        return lambda value: not inner(value)
    if isinstance(predicate, Operator):
        return predicate.test
    if predicate.document is not None:
        return _match_elements(_as_document(_match_document(predicate.document)))
    return _match_elements(_all([_match_single(part) for part in predicate.parts]))


def _match_elements(element: Test) -> Test:
    """``$elemMatch``: one element of an array fulfils all."""

    def test(value: Any) -> bool:
        kind = type(value)
        if kind is list or kind is tuple:
            for one in value:
                if element(one):
                    return True
        return False

    return test


def _as_document(matches: Matches) -> Test:
    """Of the elements of an array documents count, and arrays as documents of their numbered elements."""

    def test(value: Any) -> bool:
        kind = type(value)
        if kind is dict:
            return matches(value)
        if kind is list or kind is tuple:
            return matches({str(number): element for number, element in enumerate(value)})
        return False

    return test


# ----------------------------------------------------------------------------------------- the common cases
# One comparison of a top-level field with a number, str, bytes or UUID needs no call but that of its closure:
# the type is compared, then the value. Everything else (arrays, Decimals, NaN) goes to the general test. They
# say Any where it is a bool, because bool() would be another call.


def _match_field(name: str, predicate: Predicate, leaf: Test, single: Test) -> Matches:
    if isinstance(predicate, Operator):
        kind = type(predicate.operand)
        make = _NUMERIC.get(predicate.op) if kind is int or kind is float else None
        if make is not None and not is_nan(predicate.operand):
            return make(name, predicate.operand, leaf)
        make_plain = _OF_ONE_TYPE.get(predicate.op) if kind in PLAIN else None
        if make_plain is not None:
            return make_plain(name, predicate.operand, kind, leaf)

    def matches(doc: Mapping[str, Any]) -> bool:
        value = doc.get(name, MISSING)
        kind = type(value)
        return leaf(value) if kind is list or kind is tuple else single(value)

    return matches


def _number_eq(name: str, operand: Any, leaf: Test) -> Matches:
    def matches(doc: Mapping[str, Any]) -> Any:
        value = doc.get(name)
        kind = type(value)
        if kind is int or kind is float:
            return value == operand
        return leaf(value)

    return matches


def _number_gt(name: str, operand: Any, leaf: Test) -> Matches:
    def matches(doc: Mapping[str, Any]) -> Any:
        value = doc.get(name)
        kind = type(value)
        if kind is int or kind is float:
            return value > operand
        return leaf(value)

    return matches


def _number_gte(name: str, operand: Any, leaf: Test) -> Matches:
    def matches(doc: Mapping[str, Any]) -> Any:
        value = doc.get(name)
        kind = type(value)
        if kind is int or kind is float:
            return value >= operand
        return leaf(value)

    return matches


def _number_lt(name: str, operand: Any, leaf: Test) -> Matches:
    def matches(doc: Mapping[str, Any]) -> Any:
        value = doc.get(name)
        kind = type(value)
        if kind is int or kind is float:
            return value < operand
        return leaf(value)

    return matches


def _number_lte(name: str, operand: Any, leaf: Test) -> Matches:
    def matches(doc: Mapping[str, Any]) -> Any:
        value = doc.get(name)
        kind = type(value)
        if kind is int or kind is float:
            return value <= operand
        return leaf(value)

    return matches


def _plain_eq(name: str, operand: Any, plain: type, leaf: Test) -> Matches:
    def matches(doc: Mapping[str, Any]) -> Any:
        value: Any = doc.get(name)
        kind = type(value)
        if kind is plain:
            return value == operand
        # In an array, too, values of these types equal only their like.
        return (kind is list or kind is tuple) and operand in value

    return matches


def _plain_gt(name: str, operand: Any, plain: type, leaf: Test) -> Matches:
    def matches(doc: Mapping[str, Any]) -> Any:
        value = doc.get(name)
        return value > operand if type(value) is plain else leaf(value)

    return matches


def _plain_gte(name: str, operand: Any, plain: type, leaf: Test) -> Matches:
    def matches(doc: Mapping[str, Any]) -> Any:
        value = doc.get(name)
        return value >= operand if type(value) is plain else leaf(value)

    return matches


def _plain_lt(name: str, operand: Any, plain: type, leaf: Test) -> Matches:
    def matches(doc: Mapping[str, Any]) -> Any:
        value = doc.get(name)
        return value < operand if type(value) is plain else leaf(value)

    return matches


def _plain_lte(name: str, operand: Any, plain: type, leaf: Test) -> Matches:
    def matches(doc: Mapping[str, Any]) -> Any:
        value = doc.get(name)
        return value <= operand if type(value) is plain else leaf(value)

    return matches


_NUMERIC: Final[dict[str, Callable[[str, Any, Test], Matches]]] = {
    "eq": _number_eq,
    "gt": _number_gt,
    "gte": _number_gte,
    "lt": _number_lt,
    "lte": _number_lte,
}
_OF_ONE_TYPE: Final[dict[str, Callable[[str, Any, type, Test], Matches]]] = {
    "eq": _plain_eq,
    "gt": _plain_gt,
    "gte": _plain_gte,
    "lt": _plain_lt,
    "lte": _plain_lte,
}


# ---------------------------------------------------------------------------------------------- for a planner


def _add_conditions(node: Node, above: str, found: list[Condition]) -> None:
    if isinstance(node, AllOf):
        for part in node.parts:
            _add_conditions(part, above, found)
    elif isinstance(node, AtPath):
        _add_predicate(above + node.path.text, node.predicate, found)


def _add_predicate(path: str, predicate: Predicate, found: list[Condition]) -> None:
    if isinstance(predicate, Negated):
        found.append(Condition(path, predicate.op, predicate.operand))
    elif isinstance(predicate, Operator):
        found.append(Condition(path, predicate.op, predicate.operand))
        if predicate.prefix:
            found.append(Condition(path, "prefix", predicate.prefix))
    else:
        inner: list[Condition] = []
        for part in predicate.parts:
            _add_predicate(path, part, inner)
        if predicate.document is not None:
            _add_conditions(predicate.document, path + ".", inner)
        found.append(Condition(path, "elemMatch", tuple(inner)))


def _split_or(source: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Of each side of the first ``$or``: the filter with that side in place of the ``$or``."""
    if "$or" in source:
        rest = {name: operand for name, operand in source.items() if name != "$or"}
        return [{"$and": [rest, side]} if rest else side for side in source["$or"]]
    sides = source.get("$and", [])
    for place, side in enumerate(sides):
        inner = _split_or(side)
        if inner is not None:
            return [{**source, "$and": [*sides[:place], one, *sides[place + 1 :]]} for one in inner]
    return None
