"""Grouping: count, sum, avg, min and max of fields over documents, in all or by the values of other fields.

Owns: the class :class:`Grouping`, and :func:`group` and :func:`distinct`. totals.py has the operators.

Invariants:

* Memory is that of the groups, not of the documents.
* Groups are told apart as an index does (``1`` and ``1.0`` are one, null and missing are one), and come in
  that order. An array is one value, not its elements.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from memdb.documents.operands import name_of
from memdb.documents.paths import Path, distinct_values, is_array, value_of
from memdb.documents.sorting import check_one_path
from memdb.documents.totals import DOCUMENTS, OPERATORS, Total
from memdb.layering import encode_compound, encode_ordered
from memdb.sentinels import MISSING

__all__ = ["Aggregate", "Grouping", "distinct", "group"]

Aggregate = str | tuple[str, str | None]


class Grouping:
    """Groups in the making: documents are added one by one.

    *group_by*: None, a path, or a list of paths. *aggregates*: of each result its operator (``"count"``,
    ``"sum"``, ``"avg"``, ``"min"``, ``"max"``) and its field; ``("count", None)`` counts documents, with a
    field those where it is there and not null. Raises TypeError, ValueError.

    >>> groups = Grouping("city", {"n": "count", "oldest": ("max", "age")})
    >>> groups.add({"city": "Rome", "age": 30})
    >>> groups.results()
    [{'city': 'Rome', 'n': 1, 'oldest': 30}]
    """

    __slots__ = ("_aggregates", "_ascending", "_by", "_groups")

    def __init__(self, group_by: str | Iterable[str] | None, aggregates: Mapping[str, Aggregate]) -> None:
        self._by = _read_paths(group_by)
        self._ascending = (False,) * len(self._by)
        self._aggregates = [(name, *_read_aggregate(name, one)) for name, one in aggregates.items()]
        for path in self._by:
            if path.text in aggregates:
                raise ValueError(
                    f"{path.text!r} names both a field to group by and an aggregate; rename the aggregate"
                )
        self._groups: dict[bytes, tuple[tuple[Any, ...], list[Total]]] = {}
        if not self._by:
            self._totals(b"", ())  # of no documents there is a result, too

    def add(self, doc: Mapping[str, Any]) -> None:
        """Adds a document to its group. Raises UnsupportedType for a value without an order, where one is
        needed (to group by it, or for min and max). Cost: about 1 µs for each path.

        >>> Grouping(None, {}).add({"n": 1})
        """
        if self._by:
            found = [value_of(doc, path) for path in self._by]
            values = tuple([None if value is MISSING else value for value in found])
            totals = self._totals(encode_compound(values, self._ascending), values)
        else:
            totals = self._totals(b"", ())
        for total, (_, _, path) in zip(totals, self._aggregates, strict=True):
            total.add(MISSING if path is None else value_of(doc, path))

    def results(self) -> list[dict[str, Any]]:
        """The groups in the order of their values: what they are grouped by, then the aggregates.

        >>> Grouping(None, {"n": "count", "total": ("sum", "x"), "mean": ("avg", "x")}).results()
        [{'n': 0, 'total': 0, 'mean': None}]
        """
        rows = []
        for _, (values, totals) in sorted(self._groups.items(), key=lambda one: one[0]):
            row = {path.text: value for path, value in zip(self._by, values, strict=True)}
            names = [name for name, _, _ in self._aggregates]
            row.update({name: total.result() for name, total in zip(names, totals, strict=True)})
            rows.append(row)
        return rows

    def _totals(self, key: bytes, values: tuple[Any, ...]) -> list[Total]:
        found = self._groups.get(key)
        if found is None:
            found = values, [make() for _, make, _ in self._aggregates]
            self._groups[key] = found
        return found[1]


def group(
    docs: Iterable[Mapping[str, Any]],
    group_by: str | Iterable[str] | None,
    aggregates: Mapping[str, Aggregate],
) -> list[dict[str, Any]]:
    """The aggregates of *docs* by group, in the order of the groups; of all of them if *group_by* is None.

    Raises TypeError, ValueError, UnsupportedType. Cost: some µs a document; memory of the groups alone.

    >>> group([{"c": "a", "n": 1}, {"c": "a", "n": 2}, {"n": 5}], "c", {"total": ("sum", "n")})
    [{'c': None, 'total': 5}, {'c': 'a', 'total': 3}]
    """
    groups = Grouping(group_by, aggregates)
    for doc in docs:
        groups.add(doc)
    return groups.results()


def distinct(docs: Iterable[Mapping[str, Any]], field: str) -> list[Any]:
    """The different values of a field, elements of arrays one by one, in their order.

    Raises UnsupportedType for a value without an order. Cost: about 1 µs a value; memory of the values.

    >>> distinct([{"t": ["b", "a"]}, {"t": "b"}, {}], "t")
    ['a', 'b']
    """
    path = _read_path(field)
    found: dict[bytes, Any] = {}
    for doc in docs:
        for value in distinct_values(doc, path):
            found.setdefault(encode_ordered(value), value)
    return [value for _, value in sorted(found.items(), key=lambda one: one[0])]


def _read_paths(group_by: str | Iterable[str] | None) -> list[Path]:
    if group_by is None:
        return []
    if isinstance(group_by, str):
        check_one_path(group_by, "group_by")
    paths = [_read_path(one) for one in ([group_by] if isinstance(group_by, str) else group_by)]
    if not paths or len({path.text for path in paths}) < len(paths):
        raise ValueError(f"group_by takes a path, or a list of different ones, not {group_by!r}")
    return paths


def _read_path(text: Any) -> Path:
    if not isinstance(text, str):
        raise TypeError(f"a path is a str, not {name_of(text)} ({text!r})")
    if not all(text.split(".")) or text.startswith("$"):
        raise ValueError(f"{text!r} is no path; write names with dots between, as 'a.b', and no $")
    return Path(text)


def _read_aggregate(name: str, aggregate: Any) -> tuple[Callable[[], Total], Path | None]:
    op, field = aggregate, None
    if is_array(aggregate) and len(aggregate) in (1, 2):
        op, field = aggregate[0], aggregate[1] if len(aggregate) == 2 else None
    make = OPERATORS.get(op) if isinstance(op, str) else None
    if make is None:
        known = ", ".join(OPERATORS)
        raise ValueError(f"{name}={aggregate!r}: write (operator, field), as ('sum', 'age'), one of {known}")
    if field is None:
        if op != "count":
            raise ValueError(f"{name}={aggregate!r}: {op} needs a field, as ({op!r}, 'age')")
        return DOCUMENTS, None
    return make, _read_path(field)
