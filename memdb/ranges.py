"""Reading in key order: what a database and a snapshot have in common, and the views ``keys``, ``values``,
``items``.

Invariants:

* Iterators and views hold no snapshot until they are iterated; each iteration reads one, taken at its first
  ``next``.
* A view never copies the range it stands for: ``in``, ``len`` and iteration go to the store.
"""

from collections.abc import ItemsView, Iterator, KeysView, Mapping, MappingView, ValuesView
from typing import Any, Final, Protocol

from memdb.sentinels import MISSING, Missing
from memdb.shm import _kernel

__all__ = ["MISSING", "Missing", "OrderedReads", "RangeItems", "RangeKeys", "RangeValues"]

ITEMS: Final = 0
KEYS: Final = 1
VALUES: Final = 2


class _Source(Protocol):
    """What a view reads from: a Database or a Snapshot."""

    def __len__(self) -> int: ...
    def __contains__(self, key: object, /) -> bool: ...
    def get(self, key: Any, default: Any, /) -> Any: ...
    def _scan(
        self, kind: int, start: Any, stop: Any, prefix: Any, reverse: bool, limit: int | None
    ) -> Iterator[Any]: ...
    def _count(self, start: Any, stop: Any, prefix: Any) -> int: ...


class _Range(MappingView):
    """The bounds of a view, and what does not depend on what it yields."""

    __slots__ = ("_limit", "_prefix", "_reverse", "_source", "_start", "_stop")

    _kind: int

    def __init__(
        self,
        source: _Source,
        start: Any = None,
        stop: Any = None,
        prefix: Any = None,
        reverse: bool = False,
        limit: int | None = None,
    ) -> None:
        _kernel.check_range(start, stop, prefix, limit)
        self._source, self._start, self._stop, self._prefix = source, start, stop, prefix
        self._reverse, self._limit = bool(reverse), limit

    def _is_whole(self) -> bool:
        return self._start is None and self._stop is None and self._prefix is None

    def __len__(self) -> int:
        """O(1) for the whole database, else a walk over the range."""
        whole = self._is_whole()
        size = len(self._source) if whole else self._source._count(self._start, self._stop, self._prefix)
        return size if self._limit is None else min(size, self._limit)

    def __iter__(self) -> Iterator[Any]:
        return self._source._scan(
            self._kind, self._start, self._stop, self._prefix, self._reverse, self._limit
        )

    def __reversed__(self) -> Iterator[Any]:
        if self._limit is not None:  # the same items, from their other end
            backwards: Iterator[Any] = reversed(list(self))
            return backwards
        return self._source._scan(self._kind, self._start, self._stop, self._prefix, not self._reverse, None)

    def _covers(self, key: object) -> bool:
        whole = self._is_whole() and type(key) is not _kernel.SpaceKey  # which is no key of the mapping
        return whole or _kernel.in_range(key, self._start, self._stop, self._prefix)

    def __repr__(self) -> str:
        bounds = "".join(
            f", {name}={value!r}"
            for name, value in (
                ("start", self._start),
                ("stop", self._stop),
                ("prefix", self._prefix),
                ("limit", self._limit),
            )
            if value is not None
        )
        return f"{type(self).__name__}({self._source!r}{bounds}{', reverse=True' if self._reverse else ''})"


class RangeKeys(_Range, KeysView[Any]):
    """The keys of a range, as a set in key order."""

    __slots__ = ()
    _kind = KEYS

    @classmethod
    def _from_iterable(cls, items: Any) -> set[Any]:
        return set(items)

    def __contains__(self, key: object) -> bool:
        if self._limit is not None:
            return any(_is_same_key(key, other) for other in self)
        return key in self._source and self._covers(key)


class RangeValues(_Range, ValuesView[Any]):
    """The values of a range, in the order of their keys."""

    __slots__ = ()
    _kind = VALUES

    def __contains__(self, value: object) -> bool:
        return any(other is value or other == value for other in self)


class RangeItems(_Range, ItemsView[Any, Any]):
    """The (key, value) pairs of a range, in key order."""

    __slots__ = ()
    _kind = ITEMS

    @classmethod
    def _from_iterable(cls, items: Any) -> set[Any]:
        return set(items)

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2:
            return False
        key, value = item
        if self._limit is not None:
            return any(_is_same_key(key, one) and (other is value or other == value) for one, other in self)
        if not self._covers(key):
            return False
        found = self._source.get(key, MISSING)
        return found is not MISSING and bool(found == value)


def _is_same_key(one: object, other: object) -> bool:
    return one == other and type(one) is type(other)


class OrderedReads(Mapping[Any, Any]):
    """The reading half of a mapping in key order, over the kernel's scans."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        return self._scan(KEYS, None, None, None, False, None)

    def __reversed__(self) -> Iterator[Any]:
        return self._scan(KEYS, None, None, None, True, None)

    def _scan(
        self, kind: int, start: Any, stop: Any, prefix: Any, reverse: bool, limit: int | None
    ) -> Iterator[Any]:
        raise NotImplementedError

    def _count(self, start: Any, stop: Any, prefix: Any) -> int:
        raise NotImplementedError

    def keys(
        self,
        *,
        start: Any = None,
        stop: Any = None,
        prefix: Any = None,
        reverse: bool = False,
        limit: int | None = None,
    ) -> KeysView[Any]:
        """A view of the keys of a range (bounds as in ``range``), in key order.

        Raises UnsupportedType, ValueError; iterating it SnapshotExpired. Cost: none until it is used.

        >>> list(db.keys(prefix="user:"))
        ['user:1', 'user:2']
        """
        return RangeKeys(self, start, stop, prefix, reverse, limit)

    def values(
        self,
        *,
        start: Any = None,
        stop: Any = None,
        prefix: Any = None,
        reverse: bool = False,
        limit: int | None = None,
    ) -> ValuesView[Any]:
        """A view of the values of a range (bounds as in ``range``), in the order of their keys.

        Raises UnsupportedType, ValueError; iterating it SnapshotExpired. Cost: none until it is used.

        >>> sum(db.values(prefix="count:"))
        42
        """
        return RangeValues(self, start, stop, prefix, reverse, limit)

    def items(
        self,
        *,
        start: Any = None,
        stop: Any = None,
        prefix: Any = None,
        reverse: bool = False,
        limit: int | None = None,
    ) -> ItemsView[Any, Any]:
        """A view of the (key, value) pairs of a range (bounds as in ``range``), in key order.

        Raises UnsupportedType, ValueError; iterating it SnapshotExpired. Cost: none until it is used.

        >>> dict(db.items(limit=1))
        {'user:1': {'name': 'Alice'}}
        """
        return RangeItems(self, start, stop, prefix, reverse, limit)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Mapping):
            return NotImplemented
        expected = len(other)
        found = 0
        for key, value in self._scan(ITEMS, None, None, None, False, None):
            found += 1
            if found > expected or key not in other:
                return False
            if other[key] != value:
                return False
        return found == expected

    __hash__ = None  # type: ignore[assignment]
