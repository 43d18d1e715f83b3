"""Cursors: what a query gives, as a stream over one point in time.

Owns: the public classes ``Cursor`` and ``Plan``, and a query at work.

Invariants:

* A cursor holds one snapshot, taken when it is first asked for a document, and gives it back at its end, at
  ``close()`` or on collection; in a transaction it holds nothing.
* It holds a batch of documents, never the result, unless no index has the order that was asked for.
* It gives no document twice: not in a transaction either, where what is written meanwhile may bring one
  before it again. (There it keeps the ids of what it has given, as the transaction keeps all that it read.)
"""

import heapq
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from operator import itemgetter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from memdb.documents import catalogue
from memdb.documents.catalogue import Source
from memdb.documents.filters import Filter
from memdb.documents.ordering import Order
from memdb.documents.planner import Access, choose
from memdb.documents.reading import Counts, Found, read, resumed
from memdb.errors import SnapshotExpired

if TYPE_CHECKING:
    from memdb.database import Database
    from memdb.transaction import Transaction

__all__ = ["Cursor", "Plan", "Query", "reading"]

T = TypeVar("T")

_MOST: Final = sys.maxsize // 4
"""Documents: skip, limit and one more together are a count that Python's iterators take."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a query was answered, and what that cost.

    >>> plan = people.explain({"age": {"$gte": 18}})
    >>> plan.index, plan.bounds
    ('age', {'age': '[18, ...)'})
    """

    collection: str
    stage: str
    """``index`` (entries, then documents), ``id`` (documents by their ids), ``or`` (several ways), ``scan``
    (every document) or ``none`` (nothing can be found)."""
    index: str | None
    """The index that was used, of an ``$or`` all of them; ``_id`` for ids; None for none."""
    bounds: dict[str, str]
    """What of each field was read."""
    keys_examined: int
    """Entries of indexes."""
    documents_examined: int
    """Documents that were looked at."""
    returned: int
    """Documents that were found."""
    sorted_in_memory: bool
    """Whether the order asked for had to be made, since no index has it."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        way = self.stage if self.index is None else f"{self.stage} {self.index}"
        bounds = ", ".join(f"{field} {text}" for field, text in self.bounds.items())
        examined = (
            f"{self.keys_examined} keys and {self.documents_examined} documents examined, "
            f"{self.returned} returned"
        )
        order = "; sorted in memory" if self.sorted_in_memory else ""
        return f"{self.collection}: {way}{f' ({bounds})' if bounds else ''}: {examined}{order}"


class Query:
    """What is asked of a collection: filter, order, and how much of it."""

    __slots__ = ("after", "filter", "limit", "name", "order", "skip", "total")

    def __init__(
        self, name: str, filter: Filter, order: Order | None = None, skip: int = 0, limit: int | None = None
    ) -> None:
        self.name = name
        self.filter = filter
        self.order = order
        self.skip = _whole(skip, "skip")
        self.limit = None if limit is None else _whole(limit, "limit")
        self.total = False  # of a page: the order counts to its end
        self.after: list[bytes] | None = None

    def run(self, source: Source) -> "Run":
        """The query at work."""
        return Run(self, source)


def reading(db: "Database | None", tx: "Transaction | None") -> AbstractContextManager[Any]:
    """What a query reads: a transaction, which stays open, or a snapshot of its own."""
    if tx is not None:
        return nullcontext(tx)
    assert db is not None
    return db.snapshot()


def _whole(number: object, what: str) -> int:
    if type(number) is not int:
        raise TypeError(f"{what} must be an int, not {type(number).__name__}")
    if number < 0:
        raise ValueError(f"{what}={number}: give 0 or more")
    return min(number, _MOST)


class Run:
    """A query at work on one source: its access, and what it has cost so far."""

    __slots__ = ("_query", "_source", "access", "counts", "definition", "sorts")

    def __init__(self, query: Query, source: Source) -> None:
        self._query, self._source = query, source
        self.counts = Counts()
        self.definition = catalogue.load(source, query.name)
        if self.definition is None or query.limit == 0:
            self.access = Access("none", exact=True, sorted=True)
        else:
            self.access = choose(source, self.definition, query.filter, query.order, total=query.total)
        self.sorts = query.order is not None and not self.access.sorted

    def found(self) -> Iterator[Found]:
        """(id, document), from the first to the last that the query asks for."""
        query = self._query
        if self.definition is None or self.access.stage == "none":
            return iter(())
        if query.after is not None and not self.sorts and query.order is not None:
            resumed(self.definition, self.access, query.order, query.after)
        stop = None if query.limit is None else query.skip + query.limit
        wanted = None if self.sorts else stop
        rows = read(self._source, query.name, self.definition, self.access, query.filter, self.counts, wanted)
        if self.sorts:
            rows = self._sorted(rows, stop)
        return rows if not query.skip and stop is None else islice(rows, query.skip, stop)

    def _sorted(self, rows: Iterator[Found], stop: int | None) -> Iterator[Found]:
        order, after = self._query.order, self._query.after
        assert order is not None
        placed: Iterator[tuple[bytes, Found]] = ((order.place(row[1], row[0]), row) for row in rows)
        if after is not None:
            behind = b"".join(after)
            placed = (one for one in placed if one[0] > behind)
        by_place = itemgetter(0)
        chosen = sorted(placed, key=by_place) if stop is None else heapq.nsmallest(stop, placed, key=by_place)
        return (row for _, row in chosen)

    def plan(self, returned: int) -> Plan:
        """What it did, and cost; *returned*: how many documents it has found."""
        access = self.access
        return Plan(
            collection=self._query.name,
            stage=access.stage,
            index=_index_names(access),
            bounds=_bounds(access),
            keys_examined=self.counts.keys,
            documents_examined=self.counts.documents,
            returned=returned,
            sorted_in_memory=self.sorts and access.stage != "none",
        )


def _index_names(access: Access) -> str | None:
    if access.branches:
        names = [_index_names(branch) for _, branch in access.branches]
        return ", ".join(dict.fromkeys(name for name in names if name is not None)) or None
    if access.index is not None:
        return access.index.name
    return "_id" if access.stage == "id" else None


def _bounds(access: Access) -> dict[str, str]:
    found = dict(access.bounds)
    for _, branch in access.branches:
        for path, text in _bounds(branch).items():
            found[path] = text if found.get(path, text) == text else f"{found[path]} or {text}"
    return found


class Cursor(Generic[T]):
    """The documents of a query, from ``people.find()``: an iterator that streams over one point in time.

    The query begins with the first document that is asked for. A cursor that is read for longer than
    ``snapshot_max_age``, or whose memory is needed, raises SnapshotExpired; ``page()`` holds nothing between
    its pages. ``with`` closes it early. In a transaction it meets what the transaction writes meanwhile, and
    gives no document twice.

    >>> for person in people.find({"age": {"$gte": 18}}, sort="name"):
    ...     print(person["name"])
    """

    __slots__ = ("__weakref__", "_db", "_load", "_query", "_rows", "_tx")

    def __init__(
        self,
        query: Query,
        load: Callable[[dict[str, Any]], T] | None,
        *,
        db: "Database | None",
        tx: "Transaction | None",
    ) -> None:
        self._query = query
        self._load = load
        self._db, self._tx = db, tx
        self._rows: Iterator[T] | None = None

    def __iter__(self) -> Iterator[T]:
        return self._begun()

    def __next__(self) -> T:
        return next(self._begun())

    def __enter__(self) -> "Cursor[T]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<memdb.Cursor of {self._query.name!r}, {self._query.filter.source!r}>"

    def __reduce__(self) -> Any:
        raise TypeError(
            "a cursor belongs to the process that made it and can't be pickled; pass its list, or the query"
        )

    def _begun(self) -> Iterator[T]:
        if self._rows is None:
            self._rows = self._stream()
        return self._rows

    def _stream(self) -> Iterator[T]:
        load = self._load
        try:
            with reading(self._db, self._tx) as source:
                for _, document in self._query.run(source).found():
                    yield document if load is None else load(document)  # type: ignore[misc]
        except SnapshotExpired as error:
            raise _outlived(error, self._query.name) from None

    def to_list(self) -> list[T]:
        """The documents that are left, as a list. Raises as iterating. Cost: the query, and their memory.

        >>> people.find({"city": "Rome"}).to_list()
        [{'_id': 1, 'name': 'Ada', 'city': 'Rome'}]
        """
        if self._rows is not None or self._load is not None:
            return list(self._begun())
        self._rows = iter(())
        try:
            with reading(self._db, self._tx) as source:
                return [document for _, document in self._query.run(source).found()]  # type: ignore[misc]
        except SnapshotExpired as error:
            raise _outlived(error, self._query.name) from None

    def first(self) -> T | None:
        """The next document, or None, and the end of the cursor. Raises as iterating. Cost: as one document.

        >>> people.find(sort="-age").first()
        {'_id': 1, 'name': 'Ada', 'city': 'Rome'}
        """
        try:
            return next(self._begun(), None)
        finally:
            self.close()

    def close(self) -> None:
        """Ends the cursor and gives its snapshot back. Idempotent; never raises. Cost: none.

        >>> cursor.close()
        """
        rows, self._rows = self._rows, iter(())
        if rows is not None and hasattr(rows, "close"):
            rows.close()

    def explain(self) -> Plan:
        """Runs the query once more, to its end, and says how it was answered. Raises as iterating.

        Cost: the query.

        >>> people.find({"age": 30}).explain().index
        'age'
        """
        with reading(self._db, self._tx) as source:
            run = self._query.run(source)
            returned = sum(1 for _ in run.found())
            return run.plan(returned)


def _outlived(error: SnapshotExpired, name: str) -> SnapshotExpired:
    return SnapshotExpired(
        f"the cursor over collection {name!r} has outlived its snapshot: {error.message}; read faster, open "
        "the database with a larger snapshot_max_age, or take page(), which holds nothing between its pages",
        lsn=error.lsn,
    )
