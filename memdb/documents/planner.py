"""The planner: which index answers a filter, and in which order.

Owns: :class:`Access`, one way to documents, and how the best one is chosen.

An index is of use where conditions of the filter bound its first fields, where its order is the one asked
for, or where it is partial and the filter lies within its own. Points count more than ranges, more bounded
fields more than fewer; where several indexes are bounded, a short look into each says which holds less.

Invariants:

* What an access leads to is all that the filter can find, and maybe more: unless it is ``exact``, the filter
  decides about each document.
* An index that is being built is never used. A partial one is used where each condition of its filter follows
  from one of the query's.
* ``sorted`` is claimed only where entries come in the order asked for, with ids at the end if it is total.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from memdb import layering
from memdb.documents import keyspace
from memdb.documents.bounds import Span, key_ranges, names, spans_of
from memdb.documents.catalogue import Definition, Source
from memdb.documents.filters import Condition, Filter, compile_filter
from memdb.documents.idbounds import id_ranges
from memdb.documents.indexes import Index
from memdb.documents.order import same
from memdb.documents.ordering import Order
from memdb.layering import SpaceKey
from memdb.transaction import Transaction

__all__ = ["Access", "choose"]

Ranges = list[tuple[bytes, bytes]]

_LOOK: Final = 200  # entries of an index that are counted to compare it with another
_MOST_BRANCHES: Final = 100
_BOUNDING: Final = frozenset({"eq", "in", "gt", "gte", "lt", "lte"})


@dataclass(slots=True)
class Access:
    """One way to documents: through an index, or through the documents themselves."""

    stage: str
    """``index``, ``id``, ``scan``, ``or`` or ``none`` (nothing can be found)."""
    ranges: Ranges = field(default_factory=list)
    """Of stored keys, in order and apart."""
    index: Index | None = None
    reverse: bool = False
    sorted: bool = False
    exact: bool = False
    """What lies in the ranges is what the filter finds."""
    several: bool = False
    """A document may have several entries in the index."""
    fixed: int = 0
    """How many first fields of the index have one value in all of the ranges."""
    prefix: bytes = b""
    """What the keys of all ranges begin with: the fixed fields."""
    bounds: dict[str, str] = field(default_factory=dict)
    branches: "list[tuple[Filter, Access]]" = field(default_factory=list)
    rank: tuple[int, ...] = ()

    @property
    def bounded(self) -> bool:
        """Whether the filter leaves less than everything."""
        return self.stage != "scan" and (self.stage != "index" or bool(self.bounds))


def choose(
    source: Source, definition: Definition, filter: Filter, order: Order | None, *, total: bool
) -> Access:
    """The way to the documents that *filter* finds. *total*: the order counts to its end, with the ids."""
    total = total or (order is not None and order.names_id)
    conditions = filter.conditions()
    by_id = _by_id(definition, conditions, order)
    if by_id is not None and by_id.rank[0]:
        return by_id
    found = [] if by_id is None else [by_id]
    for index in definition.ready:
        access = _through(source, index, filter, conditions, order, total)
        if access is not None:
            if access.stage == "none" or access.rank[0]:
                return access
            found.append(access)
    bounded = [one for one in found if one.bounded]
    if not bounded:
        union = _union(source, definition, filter)
        if union is not None:
            return union
    best = _best(source, bounded or found)
    return best if best is not None else _scan(definition, order)


def _best(source: Source, found: list[Access]) -> Access | None:
    """The one that holds least, as far as a short look tells; then the one of the highest rank."""
    if len(found) < 2:
        return found[0] if found else None
    found.sort(key=lambda one: one.rank, reverse=True)
    # In a transaction a look would be a read, which others could conflict with.
    if isinstance(source, Transaction) or not found[0].bounded:
        return found[0]
    return min(found, key=lambda one: _size(source, one))


def _size(source: Source, access: Access) -> int:
    """How many entries the access has; not beyond _LOOK."""
    count = 0
    for start, stop in access.ranges:
        count += sum(1 for _ in layering.scan_payloads(source, SpaceKey(start), SpaceKey(stop), limit=_LOOK))
        if count >= _LOOK:
            return _LOOK
    return count


# --------------------------------------------------------------------------------------- the documents
# themselves


def _scan(definition: Definition, order: Order | None) -> Access:
    prefix = keyspace.document_prefix(definition.id)
    by_id = order is not None and not order.fields
    return Access(
        "scan",
        [(prefix, keyspace.following(prefix))],
        prefix=prefix,
        sorted=by_id,
        reverse=by_id and order is not None and order.id_descending,
    )


def _by_id(definition: Definition, conditions: Sequence[Condition], order: Order | None) -> Access | None:
    """Through the ids, if the filter says something of them."""
    found = id_ranges(conditions, keyspace.document_prefix(definition.id))
    if found is None:
        return None
    ranges, is_points, text = found
    access = _scan(definition, order)
    access.stage, access.ranges, access.bounds = "id", ranges, {"_id": text}
    access.rank = (int(is_points), 0, 1, int(access.sorted), 0, -len(ranges), 0)
    return access


# ---------------------------------------------------------------------------------------------- through an
# index


def _through(
    source: Source,
    index: Index,
    filter: Filter,
    conditions: Sequence[Condition],
    order: Order | None,
    total: bool,
) -> Access | None:
    """The access through one index; None if it is of no use."""
    where = index.where
    if where is not None and not (_says_all(where.source) and _implies(conditions, where.conditions())):
        return None
    is_function = index.definition.key is not None
    if where is None and (is_function or (order is None and not names(conditions, index.fields[0][0]))):
        return None
    mark = SpaceKey(index.mark) in source
    fields: list[tuple[list[Span], bool]] = []
    counted = 0
    for path, descending in () if is_function else index.fields:
        spans = spans_of(conditions, path, several=mark)
        if spans is None:
            break
        if not spans[0]:
            return Access("none", index=index, exact=True, sorted=True, bounds={path: "nothing"})
        fields.append((spans[0], descending))
        counted += spans[1]
    ranges, used, texts = key_ranges(index.prefix, fields)
    if not fields:
        ranges = [(index.prefix + b"\0", keyspace.following(index.prefix))]
    points = 0
    while points < used and all(span.point for span in fields[points][0]):
        points += 1
    fixed = 0
    while fixed < points and len(fields[fixed][0]) == 1:
        fixed += 1
    access = Access("index", ranges, index, several=mark, fixed=fixed)
    access.prefix = index.prefix + b"".join(
        keyspace.complement(spans[0].start) if descending else spans[0].start
        for spans, descending in fields[:fixed]
    )
    access.bounds = {path: text for (path, _), text in zip(index.fields, texts, strict=False)}
    if order is not None and not mark and len(ranges) == 1:
        served = _serves(index, fixed, order, total)
        if served is not None:
            access.sorted, access.reverse = True, served
    if not used and not access.sorted and where is None:
        return None
    if used == len(fields) and not mark and where is None:
        access.exact = counted == len(conditions) and _is_exact(filter, fields)
    is_unique = index.unique and points == len(index.fields)
    access.rank = (
        int(is_unique),
        points,
        int(used > points),
        int(access.sorted),
        int(where is not None),
        -len(ranges),
        -len(index.fields),
    )
    return access


def _serves(index: Index, fixed: int, order: Order, total: bool) -> bool | None:
    """Whether the index is to be read backwards to give that order; None if it can't give it."""
    held = {path for path, _ in index.fields[:fixed]}
    offered = index.fields[fixed:]
    wanted = [one for one in order.fields if one[0] not in held]
    if len(wanted) > len(offered) or (total and len(wanted) != len(offered)):
        return None
    turned: bool | None = None
    for (path, descending), (asked, asked_descending) in zip(offered, wanted, strict=False):
        if path != asked or turned not in (None, descending != asked_descending):
            return None
        turned = descending != asked_descending
    if not total or (index.unique and wanted):
        return bool(turned)
    by_ids = index.id_descending != order.id_descending
    return by_ids if turned in (None, by_ids) else None


def _is_exact(filter: Filter, fields: Sequence[tuple[list[Span], bool]]) -> bool:
    """Whether the spans say all that the filter says."""
    for name, operand in filter.source.items():
        if name.startswith("$") or "." in name or type(operand) in (list, tuple):
            return False
    return all(span.exact for spans, _ in fields for span in spans)


# ------------------------------------------------------------------------------------------------ partial
# indexes


def _says_all(source: Mapping[str, Any]) -> bool:
    """Whether its conditions are all that a filter says: ``$or`` and ``$nor`` add none, also inside of
    ``$elemMatch``."""
    return all(
        all(map(_says_all, operand))
        if name == "$and"
        else not name.startswith("$") and not _has_union(operand)
        for name, operand in source.items()
    )


def _has_union(operand: Any) -> bool:
    if type(operand) is dict:
        return any(name in ("$or", "$nor") or _has_union(one) for name, one in operand.items())
    return type(operand) is list and any(map(_has_union, operand))


def _implies(conditions: Sequence[Condition], wanted: Sequence[Condition]) -> bool:
    """Whether each of *wanted* follows from one of *conditions*."""
    return all(any(_follows(one, other) for one in conditions) for other in wanted)


def _follows(given: Condition, wanted: Condition) -> bool:
    if given.path != wanted.path:
        return False
    if given.op == wanted.op and _alike(given.operand, wanted.operand):
        return True
    if wanted.op == "exists":
        # Whatever compares with a value finds none that is missing.
        return (
            bool(wanted.operand)
            and given.op in _BOUNDING
            and given.operand is not None
            and (given.op != "in" or None not in given.operand)
        )
    if wanted.op not in _BOUNDING:
        return False
    if given.op == "eq" or given.op == "in":
        operands = [given.operand] if given.op == "eq" else given.operand
        matches = compile_filter({"value": {f"${wanted.op}": wanted.operand}}).matches
        return all(type(one) not in (list, tuple) and matches({"value": one}) for one in operands)
    if given.op in ("gt", "gte") and wanted.op in ("gt", "gte"):
        return _beyond(given, wanted, "gt", "gte")
    if given.op in ("lt", "lte") and wanted.op in ("lt", "lte"):
        return _beyond(given, wanted, "lt", "lte")
    return False


def _alike(given: Any, wanted: Any) -> bool:
    """Whether two operands are the same; those of ``$elemMatch`` are conditions."""
    if isinstance(given, Condition) and isinstance(wanted, Condition):
        return given[:2] == wanted[:2] and _alike(given.operand, wanted.operand)
    if type(given) is tuple and type(wanted) is tuple:
        return len(given) == len(wanted) and all(map(_alike, given, wanted))
    return same(given, wanted)


def _beyond(given: Condition, wanted: Condition, strict: str, loose: str) -> bool:
    """Whether a range lies within another one of its direction."""
    op = f"${strict}" if given.op == loose and wanted.op == strict else f"${loose}"
    return compile_filter({"value": {op: wanted.operand}}).matches({"value": given.operand})


# ----------------------------------------------------------------------------------------------------------
# unions


def _union(source: Source, definition: Definition, filter: Filter) -> Access | None:
    """One access for each side of an ``$or``; None if one of them would read everything."""
    branches = filter.branches()
    if branches is None or len(branches) > _MOST_BRANCHES:
        return None
    found = []
    for branch in branches:
        access = choose(source, definition, branch, None, total=False)
        if not access.bounded:
            return None
        if access.stage != "none":
            found.append((branch, access))
    if not found:
        return Access("none", exact=True, sorted=True)
    return Access("or", branches=found, bounds={"$or": f"{len(found)} branches"})
