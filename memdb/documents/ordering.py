"""Sorting: the order in which documents come, and the place of a document in it.

Owns: :class:`Order`. The bytes of a place are those of an index entry with the same fields, so sorting in
memory and reading an index give one order.

Invariants:

* The order is total: documents whose fields are equal come by their ids, in the direction of the last field.
  (Of a sort that does not name ``_id`` the planner may leave that end to a compound index; of a page never.)
* Of a field with several values the first one in the field's direction counts.
* ``_id`` sorts as keys do; fields behind it say nothing.
"""

from collections.abc import Sequence
from typing import Any, Self

from memdb.documents.indexes import field_codes
from memdb.documents.keyspace import complement, id_of
from memdb.documents.paths import Path
from memdb.documents.sorting import sort_keys
from memdb.errors import UnsupportedType
from memdb.layering import encode_ordered

__all__ = ["Order"]


class Order:
    """An order of documents: by fields, each with whether it is descending, then by id."""

    __slots__ = ("_paths", "_plain", "fields", "id_descending", "names_id")

    def __init__(self, fields: Sequence[tuple[str, bool]]) -> None:
        kept: list[tuple[str, bool]] = []
        self.id_descending = False
        self.names_id = False
        for path, descending in fields:
            self.id_descending = descending
            if path == "_id":
                self.names_id = True
                break
            kept.append((path, descending))
        self.fields = tuple(kept)
        self._paths = [(Path(path), descending) for path, descending in kept]
        one = self.fields[0] if len(self.fields) == 1 else None
        # One ascending field without a dot: its value without a walk.
        self._plain = one[0] if one is not None and not one[1] and "." not in one[0] else None

    @classmethod
    def of(cls, sort: Any) -> Self | None:
        """The order that a ``sort=`` asks for; None for None. Raises TypeError, ValueError."""
        return None if sort is None else cls(sort_keys(sort))

    def codes(self, document: dict[str, Any], id: bytes) -> list[bytes]:
        """The codes of the fields, and the id's part. Raises UnsupportedType."""
        tail = complement(id) if self.id_descending else id
        path = self._plain
        try:
            if path is not None:
                value = document.get(path)
                if type(value) is not list and type(value) is not tuple:
                    return [encode_ordered(value), tail]
            found = []
            for split, descending in self._paths:
                path = split.text
                found.append(field_codes(document, split, descending)[0])
        except UnsupportedType as error:
            raise UnsupportedType(
                f"the field {path!r} of the document {id_of(id)!r} can't be sorted by: {error.message}",
                type_name=error.type_name,
                path=path,
            ) from None
        found.append(tail)
        return found

    def place(self, document: dict[str, Any], id: bytes) -> bytes:
        """Where a document stands: bytes that sort as documents do."""
        return b"".join(self.codes(document, id))
