"""The catalogue: which collections there are, and how each of their indexes is defined.

Owns: the definitions (format 1, docs/formats/documents.md), how they change, and what a process keeps of
them.

Invariants:

* A definition is read in the transaction or at the point in time that uses it, so nobody writes or reads by
  one that does not hold any more: whoever has read it conflicts with whoever changes it.
* The bytes of a definition say which one it is: what was made of them once is kept under them, and they hold
  the time at which the collection was made.
* The numbers of collections and of indexes are never used again.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from memdb import layering, values
from memdb.documents import keyspace
from memdb.documents.indexes import Index, IndexDefinition
from memdb.errors import CorruptionError, FormatTooNew
from memdb.transaction import Transaction

__all__ = [
    "NAME_BYTES",
    "Definition",
    "Source",
    "check_name",
    "create",
    "drop",
    "hold",
    "load",
    "names",
    "prepare",
    "rename",
    "save",
    "writes_of",
]

Source: TypeAlias = "layering.Reads"
"""What is read from: a Database, a Snapshot or a Transaction."""

NAME_BYTES: Final = 120
"""UTF-8 bytes that the name of a collection, or of an index, may have."""
_INDEXES: Final = (1 << 16) - 1
"""Indexes that a collection may have had in its life: a number has 16 bits, and is not used again."""
_VERSION: Final = 1
_KEPT: Final = 256  # definitions; those of a process that opens more are decoded again


@dataclass(frozen=True, slots=True)
class Definition:
    """A collection as the catalogue has it."""

    id: int
    created: int
    """Microseconds since 1970."""
    next_index: int
    indexes: tuple[Index, ...] = ()
    raw: bytes = b""
    """As it is stored."""
    documents: bytes = b""
    """What the keys of its documents begin with."""
    unique: Mapping[str, Index] = field(default_factory=dict)
    """The whole unique indexes of one field, by the field."""
    judges: bool = False
    """Whether a filter or a function decides about entries of an index."""

    def index(self, name: str) -> Index | None:
        """The index of that name; None if there is none."""
        for index in self.indexes:
            if index.name == name:
                return index
        return None

    @property
    def ready(self) -> tuple[Index, ...]:
        """The indexes that hold every document."""
        return tuple(index for index in self.indexes if index.ready)

    def with_indexes(
        self, indexes: tuple[IndexDefinition, ...], next_index: int | None = None
    ) -> "Definition":
        """This definition with other indexes, as it would be stored."""
        return _of(self.id, self.created, next_index or self.next_index, indexes)


_definitions: dict[bytes, Definition] = {}


def check_name(name: object) -> str:
    """*name*, if a collection can be called so. Raises TypeError, ValueError."""
    if type(name) is not str:
        raise TypeError(f"the name of a collection is a str, not {type(name).__name__}")
    size = len(name.encode("utf-8", "surrogatepass"))
    if not 0 < size <= NAME_BYTES:
        raise ValueError(
            f"the name of a collection has 1 to {NAME_BYTES} bytes in UTF-8, and {name[:40]!r} has {size}"
        )
    return name


# ------------------------------------------------------------------------------------------------- reading


def load(source: Source, name: str) -> Definition | None:
    """The definition of a collection as *source* sees it; None if there is no such collection."""
    raw = source.get(keyspace.definition_key(name))
    return None if raw is None else known(raw)


def hold(tx: Transaction, name: str) -> Definition | None:
    """As :func:`load`, for what writes by it: the commit fails if somebody changes the definition meanwhile,
    at either isolation."""
    key = keyspace.definition_key(name)
    layering.guard(tx, key)
    raw = tx.get(key)
    return None if raw is None else known(raw)


def known(raw: bytes) -> Definition:
    """The definition that is stored as *raw*."""
    found = _definitions.get(raw)
    if found is None:
        found = _decoded(raw)
        if len(_definitions) >= _KEPT:
            _definitions.clear()
        _definitions[raw] = found
    return found


def names(source: Source) -> list[str]:
    """The names of all collections, in order."""
    return [keyspace.name_of_key(key) for key, _ in source.range(*keyspace.NAMES)]


def _decoded(raw: bytes) -> Definition:
    facts: Any = values.unpack(raw) if type(raw) is bytes else None
    if not isinstance(facts, Mapping) or "v" not in facts:
        raise CorruptionError("the catalogue holds a definition that can't be; run check()")
    if facts["v"] > _VERSION:
        raise FormatTooNew(
            f"a collection was defined by a newer memdb: its definition has format {facts['v']}, and this "
            f"one reads up to {_VERSION}; update memdb",
            found=facts["v"],
            supported=_VERSION,
        )
    definitions = (IndexDefinition.from_facts(one) for one in facts["indexes"])
    indexes = tuple(Index(facts["id"], facts["created"], one) for one in definitions)
    unique = {index.fields[0][0]: index for index in indexes if index.decides}
    prefix = keyspace.document_prefix(facts["id"])
    judges = any(index.definition.where is not None or index.definition.key is not None for index in indexes)
    return Definition(facts["id"], facts["created"], facts["next"], indexes, raw, prefix, unique, judges)


def _of(id: int, created: int, next_index: int, indexes: tuple[IndexDefinition, ...]) -> Definition:
    facts = {
        "v": _VERSION,
        "id": id,
        "created": created,
        "next": next_index,
        "indexes": [one.to_facts() for one in indexes],
    }
    return known(values.pack(facts))


# ------------------------------------------------------------------------------------------------ changing


def save(tx: Transaction, name: str, definition: Definition) -> None:
    """Stores the definition of a collection when the transaction commits."""
    tx.set(keyspace.definition_key(name), definition.raw)


def prepare(tx: Transaction) -> Definition:
    """A definition for a collection that is not there. Nothing is written: see :func:`writes_of`."""
    return _of(tx.get(keyspace.NEXT_COLLECTION, 1), time.time_ns() // 1000, 1, ())


def writes_of(name: str, prepared: Definition) -> list[tuple[bytes, bytes, int]]:
    """What is to be stored so that a prepared definition holds."""
    key = keyspace.definition_key(name).stored
    return [
        (key, values.encode(prepared.raw), 0),
        (keyspace.NEXT_COLLECTION.stored, values.encode(prepared.id + 1), 0),
    ]


def create(tx: Transaction, name: str) -> Definition:
    """Defines a collection that is not there."""
    definition = prepare(tx)
    layering.put_many(tx, writes_of(name, definition))
    return definition


def drop(tx: Transaction, name: str) -> bool:
    """Deletes a collection with all that is in it; False if it is not there."""
    definition = hold(tx, name)
    if definition is None:
        return False
    tx.delete(keyspace.definition_key(name))
    layering.discard_range(tx, *keyspace.collection_range(definition.id))
    for index in definition.indexes:
        tx.delete(keyspace.build_key(definition.id, index.n))
    return True


def rename(tx: Transaction, old: str, new: str) -> None:
    """Gives a collection another name. Raises KeyError, and ValueError if *new* is taken."""
    definition = hold(tx, old)
    if definition is None:
        raise KeyError(
            f"there is no collection {old!r} to be renamed; there are: {', '.join(names(tx)) or 'none'}"
        )
    if old == new:
        return
    if hold(tx, new) is not None:
        raise ValueError(
            f"collection {old!r} can't be renamed: {new!r} exists; drop it first, or take another name"
        )
    tx.delete(keyspace.definition_key(old))
    save(tx, new, definition)


def change_index(definition: Definition, index: Index, **changes: Any) -> Definition:
    """The definition with one index changed."""
    changed = tuple(
        replace(one.definition, **changes) if one.n == index.n else one.definition
        for one in definition.indexes
    )
    return definition.with_indexes(changed)


def without_index(definition: Definition, index: Index) -> Definition:
    """The definition without one of its indexes."""
    return definition.with_indexes(tuple(one.definition for one in definition.indexes if one.n != index.n))


def with_index(definition: Definition, added: IndexDefinition) -> Definition:
    """The definition with one more index, which gets the next number."""
    if definition.next_index > _INDEXES:
        raise ValueError(
            f"the collection has had {_INDEXES} indexes, and gets no further one: their numbers are used up; "
            "copy its documents into a new collection"
        )
    numbered = replace(added, n=definition.next_index)
    every = (*(one.definition for one in definition.indexes), numbered)
    return definition.with_indexes(every, definition.next_index + 1)
