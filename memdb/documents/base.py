"""What every call of a collection needs: its definition, a place to read, a transaction to write.

Owns: class :class:`Base`. The calls themselves are in reads.py and collection.py.

Invariants:

* Without a transaction a reading call takes one snapshot and a writing call is one transaction, repeated on
  conflicts; with one, all of it happens there.
* A collection keeps nothing of the database but its last definition, which counts only as long as the
  catalogue has the same bytes.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from memdb.documents import catalogue, indexes, keyspace
from memdb.documents.building import RETRIES
from memdb.documents.catalogue import Definition
from memdb.documents.cursor import reading
from memdb.documents.indexes import KeyFunction
from memdb.documents.writing import Batch
from memdb.transaction import Transaction

if TYPE_CHECKING:
    from memdb.database import Database
    from memdb.transaction import Level

__all__ = ["Adapter", "Base", "checked", "written"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
R = TypeVar("R")


def checked(tx: Transaction | None, db: "Database | None") -> Transaction | None:
    """What was given as ``tx=`` to a call of *db*. Raises TypeError, and ValueError for one of another
    database."""
    if tx is None:
        return None
    if not isinstance(tx, Transaction):
        raise TypeError(f"tx must be a Transaction, from db.transaction(), not {type(tx).__name__}")
    if db is not None and tx._path != db.path:
        raise ValueError(
            f"tx is a transaction of {tx._path}, and this is {db.path}: begin one of this database"
        )
    return tx


def written(
    db: "Database | None",
    tx: Transaction | None,
    work: Callable[[Transaction], R],
    durability: "Level | None",
) -> R:
    """Runs *work* in the transaction given, or in one of its own, which is acknowledged at *durability*."""

    def allowed(tx: Transaction) -> R:
        tx.delete_many(())  # a handle that may not write is refused, also where nothing would change
        return work(tx)

    inside = checked(tx, db)
    if inside is None:
        assert db is not None
        return db.transact(allowed, retries=RETRIES, durability=durability)
    if durability is not None:
        raise ValueError(
            "durability is the transaction's: db.transaction(durability=...), and not each call's"
        )
    return allowed(inside)


class Adapter(Protocol[T_co]):
    """How a model's objects become documents, and documents objects."""

    def dump(self, value: Any) -> dict[str, Any]:
        """The document of an object, or of a mapping that is checked by the model. Raises ModelError."""

    def load(self, document: dict[str, Any]) -> T_co:
        """The object of a document. Raises ModelError."""

    def load_changed(self, document: dict[str, Any]) -> T_co:
        """The object of a document that is not stored yet. Raises ModelError."""


class Base(Generic[T]):
    """A collection's name and handle. The base of ``Collection``; not for use on its own."""

    def __init__(
        self,
        db: "Database | None",
        name: str,
        adapter: Adapter[T] | None = None,
        keys: Mapping[str, KeyFunction] | None = None,
        tx: Transaction | None = None,
    ) -> None:
        self._db = db
        self._name = catalogue.check_name(name)
        self._adapter = adapter
        self._keys = dict(keys or {})
        self._tx = tx
        self._key = keyspace.definition_key(name)
        self._known: Definition | None = None
        for index, function in self._keys.items():
            if not callable(function):
                raise TypeError(
                    f"keys[{index!r}] must be a function of a document, not {type(function).__name__}"
                )

    @property
    def name(self) -> str:
        """The name of the collection."""
        return self._name

    def __repr__(self) -> str:
        inside = ", in a transaction" if self._tx is not None else ""
        return f"<memdb.Collection {self._name!r}{inside}>"

    # ---- where a call happens

    def _within(self, tx: Transaction | None) -> Transaction | None:
        if checked(tx, self._db) is None:
            return self._tx
        if self._tx is not None and tx is not self._tx:
            raise ValueError(
                f"{self!r} belongs to another transaction than tx: take db.collection({self._name!r})"
            )
        return tx

    def _reading(self, tx: Transaction | None) -> AbstractContextManager[Any]:
        return reading(self._db, self._within(tx))

    def _write(
        self, work: Callable[[Transaction], R], tx: Transaction | None, durability: "Level | None"
    ) -> R:
        return written(self._db, self._within(tx), work, durability)

    # ---- the definition

    def _note(self, definition: Definition | None) -> Definition | None:
        """Remembers a definition that was just read, and makes key functions known to its indexes."""
        if definition is None or definition is self._known:
            return definition
        self._known = definition
        for index in definition.indexes:
            function = self._keys.get(index.name)
            if function is not None and index.definition.key is not None:
                indexes.register(index, function)
        return definition

    def _defined(self, source: Any) -> Definition | None:
        """The definition as *source* sees it; None if there is no such collection."""
        return self._note(catalogue.load(source, self._name))

    def _batch(self, tx: Transaction) -> Batch:
        """For the writes of one call, which create the collection if it is not there."""
        definition = self._note(catalogue.hold(tx, self._name))
        if definition is not None:
            return Batch(tx, self._name, definition)
        definition = catalogue.prepare(tx)
        return Batch(tx, self._name, definition, catalogue.writes_of(self._name, definition))

    def _batch_if_there(self, tx: Transaction) -> Batch | None:
        """For writes to what is there; None if there is no such collection."""
        definition = self._note(catalogue.hold(tx, self._name))
        return None if definition is None else Batch(tx, self._name, definition)

    # ---- models

    def _dumped(self, document: Any) -> Any:
        return document if self._adapter is None else self._adapter.dump(document)

    def _changed(self, document: dict[str, Any]) -> T:
        """As :meth:`_loaded`, of a document that a change has made and nobody has stored."""
        return document if self._adapter is None else self._adapter.load_changed(document)  # type: ignore[return-value]

    def _loaded(self, document: dict[str, Any]) -> T:
        return document if self._adapter is None else self._adapter.load(document)  # type: ignore[return-value]
