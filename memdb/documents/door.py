"""The door to collections: what a database and a transaction offer of them.

Owns: the mixins of ``memdb.Database`` and ``memdb.Transaction``.

Invariants:

* Nothing of documents is imported before the first of these calls: whoever uses no collection pays for none.
  This is the only place from which the layers below reach up, by name and at run time.
"""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from memdb.documents.collection import Collection
    from memdb.documents.indexes import KeyFunction
    from memdb.transaction import Level, Transaction

__all__ = ["OfDatabase", "OfTransaction"]

T = TypeVar("T")


def _opening() -> Any:
    return importlib.import_module("memdb.documents.opening")


class OfDatabase:
    """What a database can do with collections. The base of ``memdb.Database``."""

    __slots__ = ()

    @overload
    def collection(
        self, name: str, *, keys: "Mapping[str, KeyFunction] | None" = None
    ) -> "Collection[dict[str, Any]]": ...

    @overload
    def collection(
        self, name: str, *, model: type[T], keys: "Mapping[str, KeyFunction] | None" = None
    ) -> "Collection[T]": ...

    def collection(
        self,
        name: str,
        *,
        model: type[Any] | None = None,
        keys: "Mapping[str, KeyFunction] | None" = None,
    ) -> "Collection[Any]":
        """The collection of that name; its first write creates it.

        *model*: a dataclass, msgspec.Struct or pydantic model: documents are checked by it, and come as its
        objects. *keys*: the functions of indexes by function, by the index's name. Raises TypeError,
        ValueError, ModelError (a class whose objects can't be stored and read again). Cost: no message; the
        first call imports what collections need.

        >>> people = db.collection("people")
        """
        collection: Collection[Any] = _opening().collection(self, None, name, model, keys)
        return collection

    def create_collection(
        self, name: str, *, tx: "Transaction | None" = None, durability: "Level | None" = None
    ) -> "Collection[dict[str, Any]]":
        """Creates a collection and returns it. Raises ValueError if it exists, TypeError, ReadOnlyError,
        ClosedError.

        Cost: one commit.

        >>> people = db.create_collection("people")
        """
        collection: Collection[dict[str, Any]] = _opening().create(self, tx, name, durability)
        return collection

    def drop_collection(
        self, name: str, *, tx: "Transaction | None" = None, durability: "Level | None" = None
    ) -> bool:
        """Deletes a collection, its documents and indexes, in one commit; whether it was there.

        Raises TypeError, ValueError, ReadOnlyError, ClosedError. Cost: one small record in the log.

        >>> db.drop_collection("people")
        True
        """
        return bool(_opening().drop(self, tx, name, durability))

    def rename_collection(
        self, old: str, new: str, *, tx: "Transaction | None" = None, durability: "Level | None" = None
    ) -> None:
        """Gives a collection another name, in one commit; nothing of it moves.

        Raises KeyError if there is no *old*, ValueError if there is a *new*, TypeError, ReadOnlyError,
        ClosedError. Cost: one commit.

        >>> db.rename_collection("people", "persons")
        """
        _opening().rename(self, tx, old, new, durability)

    def collections(self, *, tx: "Transaction | None" = None) -> list[str]:
        """The names of all collections, in order. Raises ClosedError. Cost: a scan over their definitions.

        >>> db.collections()
        ['people']
        """
        names: list[str] = _opening().names(self, tx)
        return names


class OfTransaction:
    """What a transaction can do with collections. The base of ``memdb.Transaction``."""

    __slots__ = ()

    @overload
    def collection(
        self, name: str, *, keys: "Mapping[str, KeyFunction] | None" = None
    ) -> "Collection[dict[str, Any]]": ...

    @overload
    def collection(
        self, name: str, *, model: type[T], keys: "Mapping[str, KeyFunction] | None" = None
    ) -> "Collection[T]": ...

    def collection(
        self,
        name: str,
        *,
        model: type[Any] | None = None,
        keys: "Mapping[str, KeyFunction] | None" = None,
    ) -> "Collection[Any]":
        """The collection of that name, all of whose calls are part of this transaction. Arguments as of the
        database's ``collection``. Raises TypeError, ValueError, ModelError.

        Cost: none.

        >>> with db.transaction() as tx:
        ...     tx.collection("people").insert({"name": "Eve"})
        ...     tx["people"] += 1
        """
        collection: Collection[Any] = _opening().collection(None, self, name, model, keys)
        return collection

    def collections(self) -> list[str]:
        """The names of all collections that the transaction sees, in order. Raises ClosedError. Cost: a scan.

        >>> tx.collections()
        ['people']
        """
        names: list[str] = _opening().names(None, self)
        return names
