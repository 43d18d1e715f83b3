"""Opening, making and unmaking collections: what the mixins of door.py call.

Owns: nothing but the way from a handle to the catalogue.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from memdb.documents import catalogue
from memdb.documents.base import checked, written
from memdb.documents.collection import Collection
from memdb.documents.cursor import reading
from memdb.documents.indexes import KeyFunction
from memdb.transaction import Transaction

if TYPE_CHECKING:
    from memdb.database import Database
    from memdb.transaction import Level

__all__ = ["collection", "create", "drop", "names", "rename"]


def collection(
    db: "Database | None",
    tx: Transaction | None,
    name: str,
    model: type[Any] | None,
    keys: Mapping[str, KeyFunction] | None,
) -> Collection[Any]:
    """The collection of that name, of a database or in a transaction."""
    adapter = None
    if model is not None:
        from memdb.documents.models import adapter_for

        adapter = adapter_for(model)
    return Collection(db, name, adapter, keys, tx)


def create(db: "Database", tx: Transaction | None, name: str, durability: "Level | None") -> Collection[Any]:
    """Makes a collection that must not be there."""
    catalogue.check_name(name)

    def work(tx: Transaction) -> None:
        if catalogue.hold(tx, name) is not None:
            raise ValueError(f"collection {name!r} exists: db.collection({name!r}) opens it")
        catalogue.create(tx, name)

    written(db, tx, work, durability)
    return Collection(db if tx is None else None, name, tx=tx)


def drop(db: "Database", tx: Transaction | None, name: str, durability: "Level | None") -> bool:
    """Deletes a collection."""
    catalogue.check_name(name)
    return written(db, tx, lambda tx: catalogue.drop(tx, name), durability)


def rename(db: "Database", tx: Transaction | None, old: str, new: str, durability: "Level | None") -> None:
    """Renames a collection."""
    catalogue.check_name(old)
    catalogue.check_name(new)
    written(db, tx, lambda tx: catalogue.rename(tx, old, new), durability)


def names(db: "Database | None", tx: Transaction | None) -> list[str]:
    """The names of all collections."""
    with reading(db, checked(tx, db)) as source:
        return catalogue.names(source)
