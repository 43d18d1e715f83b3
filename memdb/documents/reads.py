"""The reading calls of a collection.

Owns: class :class:`Reads`, what ``Collection`` asks and counts. Invariants: as of base.py; what a filter
finds is the same with and without indexes.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar, cast, overload
from uuid import UUID

from memdb import layering
from memdb.documents import building, grouping, parallel
from memdb.documents.base import Base
from memdb.documents.catalogue import Definition
from memdb.documents.cursor import Cursor, Plan, Query
from memdb.documents.filters import Filter, compile_filter
from memdb.documents.keyspace import document_range, id_bytes
from memdb.documents.ordering import Order
from memdb.documents.pages import Page, place_of, token_of
from memdb.documents.parallel import has_readers
from memdb.documents.projection import compile_projection
from memdb.documents.storing import decode_document, read_documents
from memdb.errors import Error
from memdb.info import Report
from memdb.layering import SpaceKey, encode_ordered
from memdb.sentinels import MISSING
from memdb.snapshot import Snapshot
from memdb.transaction import Transaction

__all__ = ["Reads"]

T = TypeVar("T")
D = TypeVar("D")
Some = Iterable[str] | Mapping[str, int | bool]
Fields = Some | None
Sort = str | Sequence[Any] | None

_SCALARS: Final = frozenset({str, int, bytes, UUID, bool})


class Reads(Base[T]):
    """The reading half of a collection. Not for use on its own."""

    # ---- by id, and one

    @overload
    def get(self, id: Any, default: None = None, *, tx: Transaction | None = None) -> T | None: ...

    @overload
    def get(self, id: Any, default: D, *, tx: Transaction | None = None) -> T | D: ...

    def get(self, id: Any, default: Any = None, *, tx: Transaction | None = None) -> Any:
        """The document with that ``_id``, or *default*.

        Raises UnsupportedType, ModelError, ClosedError. Cost: two probes of the hash index in shared memory,
        and the document's decoding: a few µs.

        >>> people.get(1)
        {'_id': 1, 'name': 'Ada'}
        """
        key = id_bytes(id)
        known = self._known
        if known is not None and self._within(tx) is None:
            asked = (self._key, SpaceKey(known.documents + key))
            raw, payload = layering.payloads(cast(Any, self._db), asked)
            if raw == known.raw:
                return default if payload is None else self._loaded(decode_document(payload))
        with self._reading(tx) as source:
            definition = self._defined(source)
            if definition is None:
                return default
            document = source.get(SpaceKey(definition.documents + key), MISSING)
        return default if document is MISSING else self._loaded(document)

    def exists(self, id: Any, *, tx: Transaction | None = None) -> bool:
        """Whether there is a document with that ``_id``. Raises UnsupportedType, ClosedError. Cost: two
        probes.

        >>> people.exists(1)
        True
        """
        with self._reading(tx) as source:
            definition = self._defined(source)
            return definition is not None and SpaceKey(definition.documents + id_bytes(id)) in source

    @overload
    def find_one(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        sort: Sort = None,
        fields: None = None,
        tx: Transaction | None = None,
    ) -> T | None: ...

    @overload
    def find_one(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        sort: Sort = None,
        fields: Some,
        tx: Transaction | None = None,
    ) -> dict[str, Any] | None: ...

    def find_one(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        sort: Sort = None,
        fields: Fields = None,
        tx: Transaction | None = None,
    ) -> Any:
        """The first document that *filter* finds, or None; *sort* and *fields* as in ``find``.

        Raises InvalidFilter, ModelError, ClosedError. Cost: by ``_id`` or the value of a unique index about 5
        µs, else as ``find`` up to its first document.

        >>> people.find_one({"email": "ada@example.org"})
        {'_id': 1, 'name': 'Ada', 'email': 'ada@example.org'}
        """
        known = self._known
        if sort is None and fields is None and known is not None and self._within(tx) is None:
            found = self._by_unique(known, filter)
            if found is not MISSING:
                return None if found is None else self._loaded(found)
        return self.find(filter, sort=sort, limit=1, fields=fields, tx=tx).first()

    def _by_unique(self, known: Definition, filter: Any) -> Any:
        """The document of a filter ``{field: value}`` of an id or a unique index, or None; MISSING where only
        the long way tells.

        Two reads and no snapshot: what the second one finds must still have the value.
        """
        if type(filter) is not dict or len(filter) != 1:
            return MISSING
        ((path, value),) = filter.items()
        if type(value) not in _SCALARS:
            return MISSING
        db = cast(Any, self._db)
        if path == "_id":
            found = self._stored(known, value)
            return found if found is not None and type(found["_id"]) is type(value) else MISSING
        index = known.unique.get(path)
        if index is None:
            return MISSING
        try:
            entry = SpaceKey(index.prefix + encode_ordered(value))
        except Error:
            return MISSING
        raw, id = layering.payloads(db, (self._key, entry))
        if raw != known.raw:
            return MISSING
        if id is None:
            return None
        (document,) = read_documents(db, (known.documents + id,))
        if document is None:
            return MISSING
        has = document.get(path)
        return document if type(has) is type(value) and has == value else MISSING

    def _stored(self, known: Definition, id: Any) -> dict[str, Any] | None:
        """The document with an id; None if only the long way tells."""
        try:
            asked = (self._key, SpaceKey(known.documents + id_bytes(id)))
        except Error:
            return None
        raw, payload = layering.payloads(cast(Any, self._db), asked)
        return decode_document(payload) if raw == known.raw and payload is not None else None

    # ---- many

    @overload
    def find(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        sort: Sort = None,
        skip: int = 0,
        limit: int | None = None,
        fields: None = None,
        tx: Transaction | None = None,
    ) -> Cursor[T]: ...

    @overload
    def find(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        sort: Sort = None,
        skip: int = 0,
        limit: int | None = None,
        fields: Some,
        tx: Transaction | None = None,
    ) -> Cursor[dict[str, Any]]: ...

    def find(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        sort: Sort = None,
        skip: int = 0,
        limit: int | None = None,
        fields: Fields = None,
        tx: Transaction | None = None,
    ) -> Any:
        """The documents that *filter* finds (all of them without one), as a cursor: a stream over one
        snapshot.

        *sort*: a field, ``"-field"`` for descending, a list of those or of pairs (field, 1 or -1); documents
        that are equal there come by id, in the direction of the last field, or as a compound index has them
        that begins with those fields: name ``_id`` at the end where that matters. *skip*, *limit*: how many
        to leave out, how many at most. *fields*: a list of paths, or ``{path: 1}`` or ``{path: 0}``: only
        those, or all but those; documents come as dicts then, also of a model.

        Raises InvalidFilter, TypeError, ValueError; while iterating SnapshotExpired, UnsupportedType (for
        values that can't be sorted by), ModelError. Cost: 0.1 ms to begin; by an index about 2 µs a
        document, else a look at every document; sorted in memory, where no index has the order, with all that
        is found (with a limit, that many) held at once.

        >>> [one["name"] for one in people.find({"age": {"$gte": 18}}, sort="-age", limit=2)]
        ['Cyd', 'Ada']
        """
        query = Query(self._name, compile_filter(filter), Order.of(sort), skip, limit)
        return self._cursor(query, fields, tx)

    def _cursor(self, query: Query, fields: Fields, tx: Transaction | None) -> Cursor[Any]:
        load: Any = None if self._adapter is None else self._adapter.load
        if fields is not None:
            load = compile_projection(fields) or dict
        return Cursor(query, load, db=self._db, tx=self._within(tx))

    @overload
    def page(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        sort: Sort = None,
        limit: int = 50,
        after: str | None = None,
        total: bool = False,
        fields: None = None,
        tx: Transaction | None = None,
    ) -> Page[T]: ...

    @overload
    def page(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        sort: Sort = None,
        limit: int = 50,
        after: str | None = None,
        total: bool = False,
        fields: Some,
        tx: Transaction | None = None,
    ) -> Page[dict[str, Any]]: ...

    def page(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        sort: Sort = None,
        limit: int = 50,
        after: str | None = None,
        total: bool = False,
        fields: Fields = None,
        tx: Transaction | None = None,
    ) -> Any:
        """One page of the documents that *filter* finds, in the order of *sort* (by id without one).

        *after*: the ``next`` of the page before; the page goes on behind its last document, whatever was
        written meanwhile. *total*: also count all that the filter finds. Raises as ``find``, and ValueError
        for a token of another query. Cost: with an index of that order as *limit* documents, wherever the
        page lies; else as ``find``.

        >>> page = people.page(sort="name", limit=2)
        >>> page = people.page(sort="name", limit=2, after=page.next)
        """
        order = Order.of([] if sort is None else sort)
        query = Query(self._name, compile_filter(filter), order, 0, limit)
        if query.limit is None or query.limit < 1:
            raise ValueError(f"limit={limit!r}: a page has 1 document or more")
        query.limit += 1  # one more tells whether there is a next page
        query.total = True
        if after is not None:
            query.after = place_of(query, after)
        load: Any = self._loaded if fields is None else (compile_projection(fields) or dict)
        with self._reading(tx) as source:
            found = list(query.run(source).found())
            count = self._count(source, query.filter) if total else None
        rows = found[:limit]
        following = token_of(query, rows[-1]) if len(found) > limit else None
        return Page([load(document) for _, document in rows], following, count)

    def count(self, filter: Mapping[str, Any] | None = None, *, tx: Transaction | None = None) -> int:
        """How many documents *filter* finds; all of them without one.

        Raises InvalidFilter, ClosedError. Cost: without a filter, and where the bounds of an index say all
        that it says, a walk over keys (10 ns each); else as ``find``.

        >>> people.count({"age": {"$gte": 18}})
        2
        """
        compiled = compile_filter(filter)
        with self._reading(tx) as source:
            return self._count(source, compiled)

    def _count(self, source: Any, filter: Filter) -> int:
        definition = self._defined(source)
        if definition is None:
            return 0
        if not filter.source:
            return _keys(source, *document_range(definition.id))
        run = Query(self._name, filter).run(source)
        access = run.access
        if access.exact and access.index is not None and not isinstance(source, Transaction):
            return sum(_keys(source, SpaceKey(start), SpaceKey(stop)) for start, stop in access.ranges)
        if access.stage == "scan" and isinstance(source, Snapshot) and has_readers(source):
            return sum(parallel.count(source, start, stop, filter.source) for start, stop in access.ranges)
        return sum(1 for _ in run.found())

    # ---- summaries

    def distinct(
        self, field: str, filter: Mapping[str, Any] | None = None, *, tx: Transaction | None = None
    ) -> list[Any]:
        """The distinct values of *field* in what *filter* finds, in their order; elements of lists one by
        one.

        A missing field adds nothing. Raises InvalidFilter, UnsupportedType, ClosedError. Cost: as ``find``.

        >>> people.distinct("city")
        ['Paris', 'Rome']
        """
        query = Query(self._name, compile_filter(filter))
        with self._reading(tx) as source:
            return grouping.distinct((document for _, document in query.run(source).found()), field)

    def aggregate(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        group_by: str | Sequence[str] | None = None,
        tx: Transaction | None = None,
        **aggregates: tuple[str, str | None] | str,
    ) -> list[dict[str, Any]]:
        """Groups what *filter* finds by one field or several, and sums each group up.

        *aggregates*: by the name in the result, ``("sum" | "avg" | "min" | "max" | "count", field)``;
        ``"count"`` alone counts documents. Without *group_by* all of them are one group. Raises
        InvalidFilter, ValueError, TypeError, ClosedError. Cost: as ``find``, and the groups in memory.

        >>> people.aggregate(group_by="city", people=("count", "_id"), oldest=("max", "age"))
        [{'city': 'Rome', 'people': 2, 'oldest': 41}]
        """
        query = Query(self._name, compile_filter(filter))
        with self._reading(tx) as source:
            documents = (document for _, document in query.run(source).found())
            return grouping.group(documents, group_by, aggregates)

    # ---- how, and whether

    def explain(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        sort: Sort = None,
        skip: int = 0,
        limit: int | None = None,
        tx: Transaction | None = None,
    ) -> Plan:
        """Runs a query to its end and says how it was answered: by which index, and what it has looked at.

        Raises as ``find``. Cost: the query.

        >>> plan = people.explain({"age": {"$gte": 18, "$lt": 30}})
        >>> plan.index, plan.bounds, plan.keys_examined, plan.returned
        ('age', {'age': '[18, 30)'}, 1, 1)
        """
        return self.find(filter, sort=sort, skip=skip, limit=limit, tx=tx).explain()

    def check(self, *, tx: Transaction | None = None) -> Report:
        """Compares every index with the documents, both ways, at one point in time.

        Raises IndexMismatch if this process lacks a key function, ClosedError. Cost: every document once for
        each index, about 5 µs an entry.

        >>> people.check().ok
        True
        """
        with self._reading(tx) as source:
            self._defined(source)
            return building.check(source, self._name)


def _keys(source: Any, start: SpaceKey, stop: SpaceKey) -> int:
    return len(source.keys(start=start, stop=stop))
