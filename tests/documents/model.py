"""A plain model of collections: dicts, and indexes that only refuse.

What a filter finds it asks of the filter itself, document by document; how one is changed, of the update.
What it has of its own is which documents there are, which index refuses what, and transactions.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from memdb.documents.filters import compile_filter
from memdb.documents.updates import compile_update

Document = dict[str, Any]


class Refused(Exception):
    """A call that the model refuses. ``args[0]``: the name of the error."""


@dataclass
class Defined:
    """An index."""

    fields: tuple[str, ...]
    unique: bool
    where: Document | None

    def entries(self, one: Document) -> set[Any]:
        """What it holds of a document, each value with its type. Refuses lists in two fields."""
        if self.where is not None and not compile_filter(self.where).matches(one):
            return set()
        parts = [_values(one.get(name.lstrip("-"))) for name in self.fields]
        if sum(len(part) > 1 for part in parts) > 1:
            raise Refused("UnsupportedType")
        return set(product(*parts))


def _values(value: Any) -> set[Any]:
    if isinstance(value, list):
        return {_typed(one) for one in value} or {"an empty list"}
    return {_typed(value)}


def _typed(value: Any) -> Any:
    return ("number", float(value)) if type(value) in (int, float) else (type(value).__name__, value)


@dataclass
class Stored:
    """A collection."""

    documents: dict[Any, Document] = field(default_factory=dict)
    indexes: dict[str, Defined] = field(default_factory=dict)

    def found(self, filter: Document) -> list[Any]:
        """The ids of what a filter finds."""
        matches = compile_filter(filter).matches
        return [id for id, one in self.documents.items() if matches(one)]

    def put(self, changed: Iterable[Document]) -> None:
        """Stores documents at once, if the indexes let them."""
        after = dict(self.documents)
        for one in changed:
            after[one["_id"]] = one
        for index in self.indexes.values():
            _check(index, after.values())
        self.documents = after


def _check(index: Defined, documents: Iterable[Document]) -> None:
    held: set[Any] = set()
    for one in documents:
        entries = index.entries(one)
        if index.unique and held & entries:
            raise Refused("DuplicateKeyError")
        held |= entries


class Model:
    """All collections of a database. Each method is named as the call that it is the model of."""

    def __init__(self) -> None:
        self.collections: dict[str, Stored] = {}

    def copy(self) -> "Model":
        return copy.deepcopy(self)

    def _of(self, name: str) -> Stored:
        return self.collections.setdefault(name, Stored())

    def insert_many(self, name: str, documents: list[Document]) -> list[Document]:
        stored = self._of(name)
        ids = [one["_id"] for one in documents]
        if len(set(map(repr, ids))) < len(ids) or any(id in stored.documents for id in ids):
            raise Refused("DuplicateKeyError")
        stored.put(documents)
        return documents

    def update(self, name: str, id: Any, changes: Document, upsert: bool) -> Document:
        stored = self._of(name)
        if id not in stored.documents and not upsert:
            raise Refused("KeyError")
        changed = compile_update(changes).apply(stored.documents.get(id, {"_id": id}))
        stored.put([changed])
        return changed

    def replace(self, name: str, id: Any, one: Document) -> Document:
        stored = self._of(name)
        if id not in stored.documents:
            raise Refused("KeyError")
        stored.put([{"_id": id, **one}])
        return {"_id": id, **one}

    def delete_many(self, name: str, ids: list[Any]) -> int:
        documents = self.collections.get(name, Stored()).documents
        return sum(documents.pop(id, None) is not None for id in ids)

    def update_where(self, name: str, filter: Document, changes: Document) -> int:
        stored = self.collections.get(name, Stored())
        update, found = compile_update(changes), stored.found(filter)
        stored.put([update.apply(stored.documents[id]) for id in found])
        return len(found)

    def delete_where(self, name: str, filter: Document) -> int:
        stored = self.collections.get(name, Stored())
        return self.delete_many(name, stored.found(filter))

    def create_index(self, name: str, index: str, fields: tuple[str, ...], unique: bool, where: Any) -> str:
        stored = self._of(name)
        wanted = Defined(fields, unique, where)
        if index in stored.indexes:
            if stored.indexes[index] != wanted:
                raise Refused("IndexMismatch")
            return index
        _check(wanted, stored.documents.values())
        stored.indexes[index] = wanted
        return index

    def drop_index(self, name: str, index: str) -> bool:
        return self.collections.get(name, Stored()).indexes.pop(index, None) is not None

    def drop_collection(self, name: str) -> bool:
        return self.collections.pop(name, None) is not None

    def rename_collection(self, old: str, new: str) -> None:
        if old not in self.collections:
            raise Refused("KeyError")
        if old != new and new in self.collections:
            raise Refused("ValueError")
        self.collections[new] = self.collections.pop(old)
