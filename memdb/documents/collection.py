"""A collection of documents: the public class ``Collection``, with its writing calls and its indexes.

Owns: what each writing call changes. Reading is in reads.py, how a write becomes keys in writing.py.

Invariants:

* One call is one transaction, or a part of the one that is given to it: all of it is done, or nothing.
* What a model refuses, and what an index can't hold, is refused before anything is written.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from memdb import layering
from memdb.documents import building
from memdb.documents.building import Progress
from memdb.documents.catalogue import NAME_BYTES
from memdb.documents.cursor import Query
from memdb.documents.filters import compile_filter
from memdb.documents.identity import new_id, new_ids
from memdb.documents.indexes import Index, IndexDefinition, KeyFunction, function_name, register
from memdb.documents.indexview import IndexInfo, IndexView, told
from memdb.documents.keyspace import id_bytes
from memdb.documents.reads import Reads
from memdb.documents.sorting import sort_keys
from memdb.documents.updates import Update, compile_update, upsert_base
from memdb.documents.writing import Batch, checked_document
from memdb.errors import UnsupportedType
from memdb.sentinels import KEEP, Keep
from memdb.transaction import Transaction

if TYPE_CHECKING:
    from datetime import timedelta

    from memdb.transaction import Level

__all__ = ["Collection"]

T = TypeVar("T")


class Collection(Reads[T]):
    """A named collection of documents, from ``db.collection(name)``; on ``tx.collection(name)`` every call is
    part of the transaction.

    Documents are dicts with an ``_id``, or objects of a model. A collection is created by its first write.
    Usable from any thread, as its database is.

    >>> people = db.collection("people")
    >>> people.insert({"_id": 1, "name": "Ada", "age": 30})
    {'_id': 1, 'name': 'Ada', 'age': 30}
    """

    # ---- inserting

    def insert(
        self,
        document: T | Mapping[str, Any],
        *,
        ttl: "float | timedelta | None" = None,
        tx: Transaction | None = None,
        durability: "Level | None" = None,
    ) -> T:
        """Stores a new document and returns it with its ``_id``: the one that it has, else a UUID that sorts
        by time.

        *ttl*: seconds or timedelta, after which it is gone, with its index entries. Raises DuplicateKeyError,
        TypeError, ValueError, UnsupportedType (values that can't be stored, or indexed), KeyTooLarge,
        ValueTooLarge, ModelError, IndexMismatch, ReadOnlyError, ClosedError. Cost: one commit, and about 1 µs
        for each index.

        >>> people.insert({"name": "Bob"})["_id"]
        UUID('0199a3a0-65c1-7b7e-8d57-2f6f0a3f1c55')
        """
        fields, id, is_new = _identified(self._dumped(document))

        def work(tx: Transaction) -> None:
            batch = self._batch(tx)
            batch.insert(fields, id, layering.expiry_us(tx, ttl), is_new=is_new)
            batch.apply()

        self._write(work, tx, durability)
        return self._loaded(fields)

    def insert_many(
        self,
        documents: Iterable[T | Mapping[str, Any]],
        *,
        ttl: "float | timedelta | None" = None,
        tx: Transaction | None = None,
        durability: "Level | None" = None,
    ) -> list[T]:
        """Stores new documents in one transaction, all or none, and returns them with their ids. Raises as
        ``insert``, and TransactionTooLarge.

        Cost: one commit; about 6 µs a document of ten fields and 2 µs an index entry.

        >>> len(people.insert_many([{"name": "Cyd"}, {"name": "Dan"}]))
        2
        """
        given = _several(documents, "documents")
        dumped = given if self._adapter is None else list(map(self._adapter.dump, given))
        fields, ids, are_new = _all_identified(dumped)

        def work(tx: Transaction) -> None:
            batch = self._batch(tx)
            expires_us = layering.expiry_us(tx, ttl)
            if not all(are_new) or not batch.insert_all(fields, ids, expires_us):
                for document, id, is_new in zip(fields, ids, are_new, strict=True):
                    batch.insert(document, id, expires_us, is_new=is_new)
            batch.apply()

        self._write(work, tx, durability)
        return [self._loaded(document) for document in fields]

    # ---- changing one

    def update(
        self,
        id: Any,
        changes: Mapping[str, Any],
        upsert: bool = False,
        *,
        ttl: "float | timedelta | Keep | None" = KEEP,
        tx: Transaction | None = None,
        durability: "Level | None" = None,
    ) -> T:
        """Changes the document with that id and returns it as it is then.

        *changes*: fields that take the place of those there, or update operators (``{"$inc": {"age": 1}}``).
        *upsert*: a missing one is made of the id and the changes, else it is KeyError. *ttl*: the TTL is kept
        unless one is given (None: none). Raises InvalidFilter, ValueError, TypeError for changes that can't
        be, and as ``insert``. Cost: a read and one commit.

        >>> people.update(1, {"$inc": {"age": 1}})
        {'_id': 1, 'name': 'Ada', 'age': 31}
        """
        update, key = compile_update(changes), _id_key(id, "update_where()")

        def work(tx: Transaction) -> T:
            batch = self._batch(tx)
            changed = self._change(batch, tx, id, key, update, upsert, ttl)
            batch.apply()
            return changed

        return self._write(work, tx, durability)

    def replace(
        self,
        id: Any,
        document: T | Mapping[str, Any],
        upsert: bool = False,
        *,
        ttl: "float | timedelta | Keep | None" = None,
        tx: Transaction | None = None,
        durability: "Level | None" = None,
    ) -> T:
        """Puts *document* in the place of the one with that id; returns it. *upsert*: also if there is none,
        else that is KeyError.

        *ttl*: without one it has none; ``memdb.KEEP`` keeps what is there. Raises ValueError if *document*
        has another ``_id``, and as ``insert``. Cost: a read and one commit.

        >>> people.replace(1, {"name": "Ada Lovelace"})
        {'_id': 1, 'name': 'Ada Lovelace'}
        """
        given = self._dumped(document)
        fields = checked_document(given)
        key = id_bytes(id)
        if "_id" in given and id_bytes(fields["_id"]) != key:
            raise ValueError(
                f"the _id of a document never changes: {id!r} can't become {fields['_id']!r}; "
                "insert a new one"
            )
        fields["_id"] = id

        def work(tx: Transaction) -> None:
            batch = self._batch(tx)
            old = batch.read(key)
            if old is not None:
                batch.replace(old[0], fields, key, old[1], self._expiry(tx, ttl, old[1]))
            elif upsert:
                batch.insert(fields, key, self._expiry(tx, ttl, 0), is_new=True)
            else:
                raise KeyError(id)
            batch.apply()

        self._write(work, tx, durability)
        return self._loaded(fields)

    def delete(self, id: Any, *, tx: Transaction | None = None, durability: "Level | None" = None) -> bool:
        """Deletes the document with that id; whether it was there. Raises UnsupportedType, IndexMismatch,
        ReadOnlyError, ClosedError.

        Cost: a read and one commit.

        >>> people.delete(1)
        True
        """
        return self.delete_many([id], tx=tx, durability=durability) == 1

    def _change(
        self,
        batch: Batch,
        tx: Transaction,
        id: Any,
        key: bytes,
        update: Update,
        upsert: bool,
        ttl: "float | timedelta | Keep | None",
    ) -> T:
        """Puts one update into the batch: the document as it is then."""
        old = batch.read(key)
        if old is None and not upsert:
            raise KeyError(id)
        changed = update.apply(upsert_base(id) if old is None else old[0])
        loaded = self._changed(changed)  # what the model refuses is not stored
        if self._adapter is not None:  # what it takes for something else ("31" for 31) is stored as that
            dumped = self._adapter.dump(loaded)
            settled = (update.fields & dumped.keys() & changed.keys()) - {"_id"}
            changed.update((name, dumped[name]) for name in settled)
        if old is None:
            batch.insert(changed, key, self._expiry(tx, ttl, 0), is_new=True)
        else:
            batch.replace(old[0], changed, key, old[1], self._expiry(tx, ttl, old[1]))
        return loaded

    def _expiry(self, tx: Transaction, ttl: Any, old_us: int) -> int:
        return old_us if ttl is KEEP else layering.expiry_us(tx, ttl)

    # ---- changing many

    def update_many(
        self,
        updates: Iterable[tuple[Any, Mapping[str, Any]]],
        *,
        upsert: bool = False,
        tx: Transaction | None = None,
        durability: "Level | None" = None,
    ) -> list[T]:
        """``update`` of each (id, changes), in order, in one transaction: all or none. Returns the documents.

        Raises as ``update``, and TransactionTooLarge. Cost: one commit, and a read a document.

        >>> people.update_many([(1, {"age": 32}), (2, {"$unset": {"age": ""}})])
        [{'_id': 1, 'name': 'Ada', 'age': 32}, {'_id': 2, 'name': 'Bob'}]
        """
        prepared = []
        for place, pair in enumerate(_several(updates, "updates")):
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise ValueError(f"updates[{place}] is {pair!r}; (id, changes) is needed")
            id, changes = pair
            prepared.append((id, id_bytes(id), compile_update(changes)))

        def work(tx: Transaction) -> list[T]:
            batch = self._batch(tx)
            done = [self._change(batch, tx, id, key, update, upsert, KEEP) for id, key, update in prepared]
            batch.apply()
            return done

        return self._write(work, tx, durability)

    def delete_many(
        self, ids: Iterable[Any], *, tx: Transaction | None = None, durability: "Level | None" = None
    ) -> int:
        """Deletes the documents with those ids in one transaction; how many were there. Raises as ``delete``.

        Cost: one commit, and a read a document.

        >>> people.delete_many([1, 2, 3])
        2
        """
        if isinstance(ids, Mapping):
            raise TypeError("ids must be an iterable of several, not dict: delete_where() takes a filter")
        keys = [_id_key(id, "delete_where()") for id in _several(ids, "ids")]

        def work(tx: Transaction) -> int:
            batch = self._batch_if_there(tx)
            if batch is None:
                return 0
            return self._delete_all(batch, keys)

        return self._write(work, tx, durability)

    def _delete_all(self, batch: Batch, keys: Iterable[bytes]) -> int:
        count = 0
        for key in keys:
            old = batch.read(key)
            if old is not None:
                batch.delete(old[0], key)
                count += 1
        batch.apply()
        return count

    def update_where(
        self,
        filter: Mapping[str, Any] | None,
        changes: Mapping[str, Any],
        *,
        tx: Transaction | None = None,
        durability: "Level | None" = None,
    ) -> int:
        """``update`` of every document that *filter* finds, in one transaction; how many those are.

        Raises InvalidFilter, and as ``update_many``. Cost: as ``find``, and one commit.

        >>> people.update_where({"city": "Rome"}, {"$set": {"country": "Italy"}})
        2
        """
        query, update = Query(self._name, compile_filter(filter)), compile_update(changes)

        def work(tx: Transaction) -> int:
            batch = self._batch_if_there(tx)
            if batch is None:
                return 0
            count = 0
            for key, document in query.run(tx).found():
                self._change(batch, tx, document["_id"], key, update, False, KEEP)
                count += 1
            batch.apply()
            return count

        return self._write(work, tx, durability)

    def delete_where(
        self,
        filter: Mapping[str, Any] | None,
        *,
        tx: Transaction | None = None,
        durability: "Level | None" = None,
    ) -> int:
        """Deletes every document that *filter* finds (None or ``{}``: all) in one transaction; how many those
        are.

        Raises InvalidFilter, and as ``delete_many``. Cost: as ``find``, and one commit.

        >>> people.delete_where({"age": {"$lt": 18}})
        1
        """
        query = Query(self._name, compile_filter(filter))

        def work(tx: Transaction) -> int:
            batch = self._batch_if_there(tx)
            if batch is None:
                return 0
            return self._delete_all(batch, (key for key, _ in query.run(tx).found()))

        return self._write(work, tx, durability)

    # ---- indexes

    def create_index(
        self,
        fields: str | Sequence[Any],
        *,
        name: str | None = None,
        unique: bool = False,
        where: Mapping[str, Any] | None = None,
        key: KeyFunction | None = None,
        progress: Progress | None = None,
        tx: Transaction | None = None,
        durability: "Level | None" = None,
    ) -> str:
        """Makes an index, while others read and write, and returns its name.

        *fields*: a path, ``"-path"`` for descending, or a list of several; *name*: else those, with commas.
        *unique*: no two documents have its values (a missing field counts as null). *where*: only documents
        that this filter finds. *key*: a function of the document gives the value, and *fields* is the index's
        name; every process that writes must have it: importable by its name, or registered by
        ``db.collection(name, keys={index: function})``; what it raises comes out of the call. *progress*:
        called with (documents done, of how many). If the index is there with the same definition it is
        finished if it was not, so the same call goes on after a crash. With *tx* it is built in that
        transaction.

        Raises IndexMismatch (another one has this name), DuplicateKeyError, UnsupportedType, KeyTooLarge
        (documents that it can't hold; there is no such index then), InvalidFilter, ValueError, TypeError,
        ReadOnlyError. Cost: about 5 µs a document, in transactions of at most 1,000 documents or 1 MiB;
        queries use it when it is complete.

        >>> people.create_index(["city", "-age"])
        'city,-age'
        """
        wanted = _index_definition(fields, name, bool(unique), where, key)

        def given(index: Index) -> None:
            if key is not None:
                register(index, key)

        if self._within(tx) is not None:
            self._write(
                lambda inside: building.make_within(inside, self._name, wanted, given), tx, durability
            )
            return wanted.name
        definition, index = self._write(
            lambda own: building.define(own, self._name, wanted, given), None, durability
        )
        if not index.ready:
            building.build(self._db, self._name, definition, index, progress, durability)
        return wanted.name

    def drop_index(
        self, name: str, *, tx: Transaction | None = None, durability: "Level | None" = None
    ) -> bool:
        """Takes an index away, with its entries; whether it was there. Raises ReadOnlyError, ClosedError.

        Cost: one commit.

        >>> people.drop_index("city,-age")
        True
        """
        return self._write(lambda tx: building.drop_index(tx, self._name, name), tx, durability)

    def indexes(self, *, tx: Transaction | None = None) -> list[IndexInfo]:
        """The indexes of the collection, in the order of their making, those being built included. Raises
        ClosedError.

        Cost: a read.

        >>> [index.name for index in people.indexes()]
        ['age', 'city,-age']
        """
        with self._reading(tx) as source:
            definition = self._defined(source)
        return [] if definition is None else [told(index) for index in definition.indexes]

    def index(self, name: str, *, tx: Transaction | None = None) -> IndexView[T]:
        """One index, to be asked by its values; that it exists is looked at when it is asked. With *tx* it is
        asked in that transaction, as by ``tx=`` of its calls. Raises TypeError.

        Cost: none.

        >>> people.index("age").range(18, 30).to_list()
        []
        """
        if type(name) is not str:
            raise TypeError(f"the name of an index is a str, not {type(name).__name__}")
        inside = self._within(tx)
        if inside is self._tx:
            return IndexView(self, name)
        return IndexView(Collection(None, self._name, self._adapter, self._keys, inside), name)

    def __reduce__(self) -> Any:
        if self._db is None:
            raise TypeError("a collection of a transaction can't be pickled; pass the database, and its name")
        return type(self), (self._db, self._name, self._adapter, self._keys)


def _identified(document: Any, ids: Any = None) -> tuple[dict[str, Any], bytes, bool]:
    """A document with its ``_id`` first, the id's bytes, and whether the id is new."""
    fields = checked_document(document)
    id = fields["_id"]
    is_new = id is None and "_id" not in document
    if is_new:
        id = fields["_id"] = new_id() if ids is None else next(ids)
    return fields, id_bytes(id), is_new


def _all_identified(documents: list[Any]) -> tuple[list[dict[str, Any]], list[bytes], list[bool]]:
    """As :func:`_identified`, of several, by columns."""
    ids = new_ids(len(documents))
    if all(type(one) is dict and "_id" not in one for one in documents):
        fields = [{"_id": id, **one} for id, one in zip(ids, documents, strict=True)]
        return fields, list(map(id_bytes, ids)), [True] * len(ids)
    fresh = iter(ids)
    found = [_identified(one, fresh) for one in documents]
    return [one for one, _, _ in found], [id for _, id, _ in found], [is_new for _, _, is_new in found]


def _id_key(id: Any, other: str) -> bytes:
    """The id's bytes. *other*: the call that takes a filter. Raises UnsupportedType."""
    try:
        return id_bytes(id)
    except UnsupportedType as error:
        if not isinstance(id, Mapping):
            raise
        raise UnsupportedType(
            f"an id can't be a {type(id).__name__}: {other} takes a filter", type_name=error.type_name
        ) from None


def _several(given: Any, what: str) -> list[Any]:
    if isinstance(given, (str, bytes, Mapping)):
        raise TypeError(f"{what} must be an iterable of several, not {type(given).__name__}")
    return list(given)


def _index_definition(
    fields: Any, name: str | None, unique: bool, where: Mapping[str, Any] | None, key: KeyFunction | None
) -> IndexDefinition:
    """What is asked of ``create_index``. Raises TypeError, ValueError, InvalidFilter."""
    paths: tuple[tuple[str, bool], ...] = ()
    if key is not None:
        if not callable(key) or type(fields) is not str:
            raise TypeError(
                "an index by a function takes its name and the function: create_index('by_len', key=function)"
            )
        called = fields if name is None else name
    else:
        paths = _paths(fields)
        called = ",".join(("-" if descending else "") + path for path, descending in paths)
        called = called if name is None else name
    if type(called) is not str or not 0 < len(called.encode("utf-8", "surrogatepass")) <= NAME_BYTES:
        raise ValueError(
            f"the name of an index is a str of 1 to {NAME_BYTES} bytes in UTF-8, not {called!r}: give name="
        )
    source = None if where is None else dict(compile_filter(where).source)
    function = None if key is None else function_name(key)
    return IndexDefinition(called, paths, unique, source or None, function)


def _paths(fields: Any) -> tuple[tuple[str, bool], ...]:
    paths = tuple(sort_keys(fields, "an index"))
    if not paths:
        raise ValueError("an index has one path or more")
    if paths[0][0] == "_id":
        raise ValueError("documents lie in the order of their ids: an index of _id would only repeat that")
    return paths
