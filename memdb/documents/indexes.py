"""What an index is: its definition, and which entries a document has in it.

Owns: definitions of indexes as they are stored, the values of a document under a path of an index, entries.

Invariants:

* ``entries`` of one document, and nothing else, says what an index holds of it: writing, building, reading
  and checking all ask it. One entry for each distinct element of a list; a missing field counts as null.
* For every value that a filter may find under a path there is an entry: elements of lists, what lies behind
  a list of documents, null where something is missing there, and a place in a list by its number.
* At most one field of an index has several values in one document.
* A function of an index is found in this process (registered, or imported by its name), never loaded from
  the database; without it nobody writes.
"""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final, Self

from memdb.documents import keyspace
from memdb.documents.filters import Filter, compile_filter, same_source
from memdb.documents.paths import Path, index_values, value_of
from memdb.errors import Error, IndexMismatch, UnsupportedType
from memdb.layering import encode_compound, encode_ordered, encode_ordered_column
from memdb.sentinels import MISSING

__all__ = [
    "BUILDING",
    "READY",
    "Index",
    "IndexDefinition",
    "KeyFunction",
    "field_codes",
    "function_name",
    "register",
]

KeyFunction = Callable[[dict[str, Any]], Any]

READY: Final = "ready"
BUILDING: Final = "building"

_FUNCTION_FIELD: Final = Path("value")  # of the document that a key function's result is put into


@dataclass(frozen=True, slots=True)
class IndexDefinition:
    """An index as the catalogue has it."""

    name: str
    fields: tuple[tuple[str, bool], ...]
    """Path and whether it is descending; none where a function gives the value."""
    unique: bool = False
    where: Mapping[str, Any] | None = None
    """The filter of a partial index."""
    key: str | None = None
    """``module:function``; "" for one that can't be imported; None for an index of fields."""
    state: str = BUILDING
    n: int = 0

    def to_facts(self) -> dict[str, Any]:
        """As it is stored."""
        return {
            "n": self.n,
            "name": self.name,
            "fields": [list(field) for field in self.fields],
            "unique": self.unique,
            "where": self.where,
            "key": self.key,
            "state": self.state,
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """What :meth:`to_facts` has given."""
        given = {name: facts[name] for name in ("name", "unique", "where", "key", "state", "n")}
        return cls(fields=tuple((path, descending) for path, descending in facts["fields"]), **given)

    def same_as(self, other: "IndexDefinition") -> bool:
        """Whether both mean the same entries, built or not."""
        mine = (self.name, self.fields, self.unique, self.key)
        is_same = mine == (other.name, other.fields, other.unique, other.key)
        return is_same and same_source(self.where, other.where)

    def __str__(self) -> str:
        what = [f"key={self.key or 'a function without a name'}"] if self.key is not None else []
        what += [("-" if descending else "") + path for path, descending in self.fields]
        what += ["unique"] if self.unique else []
        what += [f"where={self.where}"] if self.where is not None else []
        return ", ".join(what)


# ---------------------------------------------------------------------------------------- values of a path


def field_codes(document: Mapping[str, Any], path: Path, descending: bool) -> list[bytes]:
    """The distinct codes of what lies under a path, in their order. Raises UnsupportedType."""
    found, _ = index_values(document, path)
    if len(found) == 1:
        codes = [encode_ordered(found[0])]
    else:
        codes = sorted({encode_ordered(value) for value in found}, reverse=descending)
    return [keyspace.complement(code) for code in codes] if descending else codes


# ------------------------------------------------------------------------------------------- key functions

_functions: dict[tuple[int, int, int, str, str | None], KeyFunction] = {}


def function_name(function: KeyFunction) -> str:
    """``module:qualname`` of a function that every process can import by it; "" if there is no such name."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == "__main__":
        return ""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}:{name}" if found is function else ""


def register(index: "Index", function: KeyFunction) -> None:
    """Makes a key function known to this process."""
    _functions[index.identity] = function


def _imported(name: str) -> KeyFunction | None:
    """The function of that name; None if it can't be had."""
    module, _, path = name.partition(":")
    if not module or not path:
        return None
    try:
        found: Any = importlib.import_module(module)
    except ImportError:
        return None
    for part in path.split("."):
        found = getattr(found, part, None)
    return found if callable(found) else None


# ------------------------------------------------------------------------------------------------- indexes


class Index:
    """An index of a collection, ready for use in this process. Made by the catalogue."""

    __slots__ = (
        "_filter",
        "_plain",
        "definition",
        "descending",
        "fields",
        "id_descending",
        "identity",
        "n",
        "name",
        "paths",
        "prefix",
        "ready",
        "unique",
    )

    def __init__(self, collection: int, created: int, definition: IndexDefinition) -> None:
        self.definition = definition
        self.n, self.name, self.unique = definition.n, definition.name, definition.unique
        self.fields = definition.fields or (("", False),)
        self.paths = tuple(Path(path) for path, _ in self.fields)
        self.descending = tuple(descending for _, descending in self.fields)
        self.id_descending = self.descending[-1]
        self.prefix = keyspace.index_prefix(collection, definition.n)
        # A number alone is not enough: one of a transaction that failed is given again, to any other index.
        self.identity = created, collection, definition.n, definition.name, definition.key
        self.ready = definition.state == READY
        self._filter: Filter | None = None
        # One field without a dot, as most are: its value without a walk.
        is_plain = definition.key is None and len(self.fields) == 1 and len(self.paths[0].parts) == 1
        self._plain = self.fields[0][0] if is_plain and not self.descending[0] else None

    @property
    def decides(self) -> bool:
        """Whether one entry says which document has a value of its field, and that none has it."""
        is_whole = self.ready and self.definition.where is None and self.definition.key is None
        return is_whole and self.unique and len(self.fields) == 1 and not self.descending[0]

    @property
    def mark(self) -> bytes:
        """The key that is there once a document has had several entries."""
        return self.prefix

    @property
    def where(self) -> Filter | None:
        """The filter of a partial index."""
        if self._filter is None and self.definition.where is not None:
            self._filter = compile_filter(self.definition.where)
        return self._filter

    def function(self, collection: str) -> KeyFunction:
        """The key function. Raises IndexMismatch if this process doesn't know it."""
        function = _functions.get(self.identity)
        if function is None:
            name = self.definition.key or ""
            function = _imported(name)
            if function is None:
                raise IndexMismatch(
                    f"collection {collection!r}: index {self.name!r} is made by the function "
                    f"{name or '(without a name to import it by)'}, which this process doesn't have: without "
                    "it the index would go stale. Register it: "
                    f"db.collection({collection!r}, keys={{{self.name!r}: function}})"
                    + (f", or make {name} importable" if name else ""),
                    collection=collection,
                    index=self.name,
                    function=name or None,
                )
            register(self, function)
        return function

    def entries(self, collection: str, document: dict[str, Any], id: bytes) -> Sequence[bytes]:
        """The keys of the document's entries; more than one if a field has several values.

        Raises UnsupportedType for values that have no place in the order, or lists in two fields.
        """
        if self.definition.where is not None:
            where = self.where
            assert where is not None
            if not where.matches(document):
                return ()
        if self._plain is not None:
            value = document.get(self._plain)
            if type(value) is not list and type(value) is not tuple:
                try:
                    code = encode_ordered(value)
                except UnsupportedType as error:
                    raise self._refused(collection, id, self._plain, error) from None
                return (self.prefix + code,) if self.unique else (self.prefix + code + id,)
        return self._many(collection, document, id)

    def entries_of_all(self, documents: list[dict[str, Any]], ids: list[bytes]) -> list[bytes] | None:
        """The keys of the entries of documents that have one each; None where :meth:`entries` is needed."""
        if self._plain is None or self.definition.where is not None:
            return None
        path = self._plain
        values = [document.get(path) for document in documents]
        try:
            return encode_ordered_column(values, self.prefix, None if self.unique else ids)
        except Error:
            return None  # entries() says of which document

    def _many(self, collection: str, document: dict[str, Any], id: bytes) -> Sequence[bytes]:
        codes = self._codes(collection, document, id)
        tail = b"" if self.unique else keyspace.complement(id) if self.id_descending else id
        prefix = self.prefix
        if len(codes) == 1:
            return [prefix + code + tail for code in codes[0]]
        several = [place for place, one in enumerate(codes) if len(one) > 1]
        if len(several) > 1:
            first, second = (self.fields[place][0] for place in several[:2])
            raise UnsupportedType(
                f"collection {collection!r}: index {self.name!r}: both {first!r} and {second!r} hold lists "
                f"in the document {keyspace.id_of(id)!r}, and at most one field of an index may; make an "
                "index for each",
                type_name="list",
                path=second,
            )
        return [prefix + b"".join(one) + tail for one in product(*codes)]

    def _codes(self, collection: str, document: dict[str, Any], id: bytes) -> list[list[bytes]]:
        path = ""
        try:
            if self.definition.key is not None:
                value = self._value(collection, document, id)
                return [field_codes({"value": value}, _FUNCTION_FIELD, False)]
            codes = []
            for split, descending in zip(self.paths, self.descending, strict=True):
                path = split.text
                codes.append(field_codes(document, split, descending))
            return codes
        except UnsupportedType as error:
            raise self._refused(collection, id, path, error) from None

    def _value(self, collection: str, document: dict[str, Any], id: bytes) -> Any:
        """What the key function gives; what it raises is passed on, with a note of where it was called."""
        function = self.function(collection)
        try:
            return function(document)
        except Exception as error:
            error.add_note(
                f"raised by the key function of the index {self.name!r} of collection {collection!r}, for "
                f"the document {keyspace.id_of(id)!r}"
            )
            raise

    def _refused(self, collection: str, id: bytes, path: str, error: UnsupportedType) -> UnsupportedType:
        what = f"the field {path!r}" if path else "what its function gives"
        return UnsupportedType(
            f"collection {collection!r}: index {self.name!r}: {what} of the document "
            f"{keyspace.id_of(id)!r} can't be indexed: {error.message}",
            type_name=error.type_name,
            path=path or error.path,
        )

    def values_of(self, document: dict[str, Any]) -> Any:
        """What the fields of the index hold, for an error's text: a tuple if there are several."""
        found = []
        for path in self.paths:
            value = value_of(document, path)
            found.append(None if value is MISSING else value)
        return found[0] if len(found) == 1 else tuple(found)

    def code_of(self, values: Sequence[Any]) -> bytes:
        """What the keys of entries with these leading values begin with. Raises UnsupportedType."""
        return self.prefix + encode_compound(tuple(values), self.descending[: len(values)])
