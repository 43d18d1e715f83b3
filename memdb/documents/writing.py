"""Writing documents: what one call changes, gathered first and then given to the transaction at once.

Owns: class :class:`Batch`, which knows of each document the entries that go and that come.

Invariants:

* A document and its entries are written by one commit, with one expiry.
* Whatever a call has to refuse (a duplicate, a value that no index can hold, a key too long), it refuses
  before the transaction has changed: nothing of a refused call is done, also inside a transaction that goes
  on.
* The definition was read in the same transaction, so no index is forgotten.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NoReturn

from memdb import layering, values
from memdb.documents import keyspace
from memdb.documents.catalogue import Definition
from memdb.documents.indexes import Index
from memdb.documents.storing import decode_document, encode_document, encode_documents
from memdb.errors import DuplicateKeyError, KeyTooLarge
from memdb.layering import SpaceKey
from memdb.transaction import Transaction

__all__ = ["Batch", "checked_document"]

_MARKED: Final = b"\x01\0"  # the stored value of a mark of several entries

Stored = tuple[bytes, bytes | None, int]


def checked_document(document: object) -> dict[str, Any]:
    """A new dict of a document's fields, ``_id`` first: None if it has none. Raises TypeError for what is no
    document; the names of its fields are looked at when it is encoded."""
    if type(document) is not dict and not isinstance(document, Mapping):
        raise TypeError(f"a document is a dict (a Mapping), not {type(document).__name__}")
    return {"_id": None, **document}


class Batch:
    """The writes of one call to one collection. Nothing reaches the transaction before :meth:`apply`."""

    __slots__ = (
        "_claims",
        "_columns",
        "_columns_expire_us",
        "_definition",
        "_documents",
        "_marks",
        "_name",
        "_tx",
        "_writes",
    )

    def __init__(
        self, tx: Transaction, name: str, definition: Definition, first: Iterable[Stored] = ()
    ) -> None:
        """*first*: what is to be written before all else."""
        self._tx = tx
        self._name = name
        self._definition = definition
        self._documents = keyspace.document_prefix(definition.id)
        self._writes: dict[bytes, Stored] = {one[0]: one for one in first}
        self._marks: set[bytes] = set()
        self._columns: list[tuple[list[bytes], list[bytes]]] = []
        self._columns_expire_us = 0
        # Unique entries, and ids, that come and must not be there: what they are of.
        self._claims: dict[bytes, tuple[Index | None, dict[str, Any], bytes]] = {}

    def __len__(self) -> int:
        return len(self._writes)

    # ---------------------------------------------------------------------------------- what is there

    def read(self, id: bytes) -> tuple[dict[str, Any], int] | None:
        """The document with that id and its expiry, as this batch leaves it; None if it is missing."""
        key = self._documents + id
        own = self._writes.get(key)
        if own is not None:
            stored, expires_us = own[1], own[2]
            return None if stored is None else (decode_document(stored[:-1]), expires_us)
        found = layering.entry_us(self._tx, SpaceKey(key))
        return None if found is None else (found[0], found[2])

    def holds(self, id: bytes) -> bool:
        """Whether there is a document with that id, as this batch leaves it."""
        key = self._documents + id
        own = self._writes.get(key)
        return own[1] is not None if own is not None else SpaceKey(key) in self._tx

    # ------------------------------------------------------------------------------------- gathering

    def insert(self, document: dict[str, Any], id: bytes, expires_us: int, *, is_new: bool) -> None:
        """A document that is not there. *is_new*: its id was generated, so nobody can have it."""
        key = self._documents + id
        own = self._writes.get(key)
        if own is not None and own[1] is not None:
            self._refuse(None, document, id)
        if not is_new and own is None:
            self._claims[key] = None, document, id
        stored = encode_document(document)
        document = self._judged(document, stored)
        writes = self._writes
        entry = id + b"\0"  # values.encode(id), of bytes
        for index in self._definition.indexes:
            keys = index.entries(self._name, document, id)
            if len(keys) > 1:
                self._marks.add(index.mark)
            for one in keys:
                if index.unique:
                    if one in writes:
                        self._claim(index, one, document, id)
                    else:
                        self._claims[one] = index, document, id
                writes[one] = one, entry, expires_us
        writes[key] = key, stored, expires_us

    def insert_all(self, documents: list[dict[str, Any]], ids: list[bytes], expires_us: int) -> bool:
        """New documents, whose ids were generated, by columns; False if one of them needs :meth:`insert`, or
        the batch has anything else, and none was taken then."""
        stored = None if self._writes else encode_documents(documents)
        if stored is None:
            return False
        columns = []
        entries = [id + b"\0" for id in ids]  # values.encode(id), of bytes
        for index in self._definition.indexes:
            keys = index.entries_of_all(documents, ids)
            if keys is None:
                return False
            if index.unique and not self._are_free(keys):
                return False
            columns.append((keys, entries))
        prefix = self._documents
        self._columns = [*columns, ([prefix + id for id in ids], stored)]
        self._columns_expire_us = expires_us
        return True

    def _are_free(self, keys: list[bytes]) -> bool:
        """Whether unique entries are there neither twice nor already."""
        if len(set(keys)) < len(keys):
            return False
        return all(one is None for one in layering.payloads(self._tx, keys))

    def replace(
        self, old: dict[str, Any], document: dict[str, Any], id: bytes, old_expires_us: int, expires_us: int
    ) -> None:
        """Another document in the place of *old*."""
        stored = encode_document(document)
        document = self._judged(document, stored)
        entry = values.encode(id)
        key = self._documents + id
        for index in self._definition.indexes:
            before = index.entries(self._name, old, id)
            keys = index.entries(self._name, document, id)
            if before != keys:
                for one in before:
                    if one not in keys:
                        self._release(index, one, entry)
                for one in keys:
                    if one not in before:
                        if index.unique:
                            self._claim(index, one, document, id)
                        self._writes[one] = one, entry, expires_us
                if len(keys) > 1:
                    self._marks.add(index.mark)
            if old_expires_us != expires_us:
                for one in keys:
                    if index.unique and not index.ready:
                        self._claim(index, one, document, id)
                    self._writes[one] = one, entry, expires_us
        self._writes[key] = key, stored, expires_us

    def delete(self, old: dict[str, Any], id: bytes) -> None:
        """No document in the place of *old*."""
        entry = values.encode(id)
        for index in self._definition.indexes:
            for one in index.entries(self._name, old, id):
                self._release(index, one, entry)
        key = self._documents + id
        self._claims.pop(key, None)
        self._writes[key] = key, None, 0

    def index(self, index: Index, document: dict[str, Any], id: bytes, expires_us: int) -> int:
        """The entries of a document that is there already, in an index that is built; how many bytes."""
        entry = values.encode(id)
        keys = index.entries(self._name, document, id)
        if len(keys) > 1:
            self._marks.add(index.mark)
        for one in keys:
            if index.unique:
                self._claim(index, one, document, id)
            self._writes[one] = one, entry, expires_us
        return sum(map(len, keys)) + len(keys) * len(entry)

    def _judged(self, document: dict[str, Any], stored: bytes) -> dict[str, Any]:
        """A document as the indexes by a filter or a function get to see it: as it is read again, since a
        bytearray comes back as bytes."""
        return decode_document(stored[:-1]) if self._definition.judges else document

    def _release(self, index: Index, key: bytes, entry: bytes) -> None:
        """Takes an entry away; unless another document of this batch has come there, which has waited for
        it."""
        own = self._writes.get(key)
        if own is not None and own[1] == entry:
            if self._claims.pop(key, None) is None:
                self._writes[key] = key, None, 0
            else:  # the document came there by this batch, and leaves it to whoever has it
                del self._writes[key]
        elif index.ready or not index.unique or self._has_entry(key, entry):
            self._claims.pop(key, None)
            if own is None:
                self._writes[key] = key, None, 0

    def _has_entry(self, key: bytes, entry: bytes) -> bool:
        """Whether a unique entry is of this document: in an index that is being built it can be another's,
        which has come before the build has met the two."""
        (held,) = layering.payloads(self._tx, [key])
        return held is not None and held == entry[:-1]

    def _claim(self, index: Index, key: bytes, document: dict[str, Any], id: bytes) -> None:
        own = self._writes.get(key)
        if own is None:
            self._claims[key] = index, document, id
        elif own[1] is not None and own[1] != values.encode(id):
            self._refuse(index, document, own[1][:-1])

    # -------------------------------------------------------------------------------------- applying

    def apply(self) -> None:
        """Gives all of it to the transaction, or raises and gives nothing. Raises DuplicateKeyError,
        KeyTooLarge, ValueTooLarge, TransactionTooLarge."""
        self._check_claims()
        for mark in self._marks:
            if SpaceKey(mark) not in self._tx:
                self._writes[mark] = mark, _MARKED, 0
        try:
            if self._columns:
                layering.put_columns(self._tx, self._columns, self._columns_expire_us)
            else:
                layering.put_many(self._tx, self._writes.values())
        except KeyTooLarge as error:
            raise self._too_large(error) from None

    def _check_claims(self) -> None:
        if not self._claims:
            return
        held = layering.payloads(self._tx, list(self._claims))
        for (index, document, id), other in zip(self._claims.values(), held, strict=True):
            if other is None:
                continue
            if index is None:
                self._refuse(None, document, id)
            elif other != id:
                self._refuse(index, document, other)

    def _refuse(self, index: Index | None, document: dict[str, Any], id: bytes) -> NoReturn:
        other = keyspace.id_of(id)
        if index is None:
            raise DuplicateKeyError(
                f"collection {self._name!r} has a document with the _id {other!r}: replace() and update() "
                "change it; leave _id out for a new one",
                collection=self._name,
                index="_id",
                value=other,
                id=other,
            )
        value = None if index.definition.key is not None else index.values_of(document)
        raise DuplicateKeyError(
            f"collection {self._name!r}: the unique index {index.name!r} holds {value!r} of the document "
            f"{other!r} already, and {document.get('_id')!r} would be the second; change one of them, or "
            "make the index not unique",
            collection=self._name,
            index=index.name,
            value=value,
            id=other,
        )

    def _too_large(self, error: KeyTooLarge) -> KeyTooLarge:
        for keys, column in self._columns:
            self._writes.update((key, (key, one, 0)) for key, one in zip(keys, column, strict=True))
        longest = max(self._writes, key=len)
        n = keyspace.index_of_key(longest)
        stored = self._writes[longest][1]
        if n == 0 or stored is None:
            return error
        name, fields = next(
            (one.name, ", ".join(path for path, _ in one.fields))
            for one in self._definition.indexes
            if one.n == n
        )
        return KeyTooLarge(
            f"collection {self._name!r}: the entry of the document {keyspace.id_of(stored[:-1])!r} in index "
            f"{name!r} ({fields or 'its function'}) takes {error.size} bytes, and max_key_bytes is "
            f"{error.limit} bytes: index a shorter field (a function can give a part or a hash of it), or "
            "open the database with a larger max_key_bytes",
            size=error.size,
            limit=error.limit,
        )
