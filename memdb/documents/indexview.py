"""One index, asked by its own values; and what ``indexes()`` tells.

Owns: the public classes ``IndexView`` and ``IndexInfo``.
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from memdb.documents.catalogue import Definition
from memdb.documents.cursor import Cursor, Query, Run
from memdb.documents.filters import compile_filter
from memdb.documents.indexes import Index
from memdb.documents.keyspace import following
from memdb.documents.operands import shown
from memdb.documents.planner import Access
from memdb.layering import SpaceKey

if TYPE_CHECKING:
    from memdb.documents.reads import Reads
    from memdb.transaction import Transaction

__all__ = ["IndexInfo", "IndexView", "told"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """An index as ``indexes()`` shows it."""

    name: str
    fields: tuple[str, ...]
    """Paths, a descending one with a ``-``; none where a function gives the value."""
    unique: bool
    where: dict[str, Any] | None
    """The filter of a partial index."""
    key: str | None
    """``module:function`` of a key function, "" of one without a name to import it by; None for fields."""
    ready: bool
    """False while it is built: writers keep it, queries don't use it."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)


def told(index: Index) -> IndexInfo:
    """What ``indexes()`` says of an index."""
    definition = index.definition
    fields = tuple(("-" if descending else "") + path for path, descending in definition.fields)
    where = None if definition.where is None else dict(definition.where)
    return IndexInfo(definition.name, fields, definition.unique, where, definition.key, index.ready)


class _Ranged(Query):
    """A query that names its index and the ends of what it reads there."""

    __slots__ = ("_high", "_index", "_low", "_reverse")

    def __init__(
        self, name: str, index: str, low: tuple[Any, ...], high: tuple[Any, ...] | None, reverse: bool
    ) -> None:
        super().__init__(name, compile_filter(None))
        self._index, self._low, self._high, self._reverse = index, low, high, reverse

    def run(self, source: Any) -> Run:
        run = super().run(source)
        if run.definition is not None:
            run.access = self._access(source, run.definition)
        return run

    def _access(self, source: Any, definition: Definition) -> Access:
        index = definition.index(self._index)
        if index is None or not index.ready:
            there = ", ".join(one.name for one in definition.ready) or "none"
            state = "is still being built" if index is not None else "doesn't exist"
            raise KeyError(f"collection {self.name!r}: index {self._index!r} {state}; ready are: {there}")
        start, stop = self._ends(index)
        access = Access("index", [(start, stop)] if start < stop else [], index, reverse=self._reverse)
        access.several = SpaceKey(index.mark) in source
        access.exact = True
        access.bounds = {"values": self._text()}
        return access

    def _text(self) -> str:
        low, high = (_one_or_all(values) for values in (self._low, self._high or ()))
        if self._high is None:
            return f"[{low}, {low}]"
        return f"{'[' if self._low else '('}{low}, {high})"

    def _ends(self, index: Index) -> tuple[bytes, bytes]:
        fields = len(index.fields)
        if max(len(self._low), len(self._high or ())) > fields:
            raise ValueError(f"index {index.name!r} has {fields} field(s), and more values are given")
        if self._high is None:
            start = index.code_of(self._low)
            return (start, following(start)) if self._low else _whole(index)
        if index.id_descending and fields == 1:  # the larger values come first
            start = following(index.code_of(self._high)) if self._high else _whole(index)[0]
            return start, following(index.code_of(self._low)) if self._low else _whole(index)[1]
        start = index.code_of(self._low) if self._low else _whole(index)[0]
        return start, index.code_of(self._high) if self._high else _whole(index)[1]


def _one_or_all(values: tuple[Any, ...]) -> str:
    """Values as they were asked for: one, a tuple of several, none."""
    return "..." if not values else shown(values[0] if len(values) == 1 else values, 40)


def _whole(index: Index) -> tuple[bytes, bytes]:
    return index.prefix + b"\0", following(index.prefix)


class IndexView(Generic[T]):
    """An index of a collection, from ``people.index(name)``: documents by the values that it holds.

    Of a compound index a tuple gives the values of its first fields. An index by a function is asked by what
    the function gives.

    >>> people.index("age").get(30)
    {'_id': 1, 'name': 'Ada', 'age': 30}
    """

    __slots__ = ("_collection", "_name")

    def __init__(self, collection: "Reads[T]", name: str) -> None:
        self._collection = collection
        self._name = name

    @property
    def name(self) -> str:
        """The name of the index."""
        return self._name

    def __repr__(self) -> str:
        return f"<memdb.IndexView {self._name!r} of {self._collection.name!r}>"

    def get(self, value: Any, *, tx: "Transaction | None" = None) -> T | None:
        """The first document with that value, or None.

        Raises KeyError for an index that is not there or not ready, UnsupportedType, ClosedError. Cost: 0.1
        ms; ``find_one`` by a unique index is faster.

        >>> people.index("age").get(30)
        {'_id': 1, 'name': 'Ada', 'age': 30}
        """
        return self.find(value, tx=tx).first()

    def find(self, value: Any, *, tx: "Transaction | None" = None) -> Cursor[T]:
        """The documents with that value, in the order of the index, as a cursor. Raises as ``get``.

        Cost: as of ``Collection.find``.

        >>> people.index("city").find("Rome").to_list()
        [{'_id': 1, 'name': 'Ada', 'city': 'Rome'}]
        """
        return self._cursor(_values(value), None, False, tx)

    def range(
        self,
        start: Any = None,
        stop: Any = None,
        *,
        reverse: bool = False,
        tx: "Transaction | None" = None,
    ) -> Cursor[T]:
        """The documents from value *start* (inclusive) to *stop* (exclusive), in the order of the index, as a
        cursor.

        None: from the first, to the last. Raises as ``get``. Cost: as of ``Collection.find``.

        >>> people.index("age").range(18, 40).to_list()
        [{'_id': 1, 'name': 'Ada', 'age': 30}]
        """
        return self._cursor(_values(start, ()), _values(stop, ()), reverse, tx)

    def _cursor(
        self,
        low: tuple[Any, ...],
        high: tuple[Any, ...] | None,
        reverse: bool,
        tx: "Transaction | None",
    ) -> Cursor[T]:
        query = _Ranged(self._collection.name, self._name, low, high, bool(reverse))
        return self._collection._cursor(query, None, tx)


def _values(value: Any, of_none: tuple[Any, ...] = (None,)) -> tuple[Any, ...]:
    if value is None:
        return of_none
    return value if type(value) is tuple else (value,)
