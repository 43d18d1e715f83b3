"""Documents as they are stored: the codec of all values, by its short way where a document is plain.

Owns: :func:`encode_document`, :func:`encode_documents` and :func:`decode_document`.

Invariant: the bytes are those of ``values.encode``, and either side can read what the other one wrote.
"""

from collections.abc import Iterable
from typing import Any

from memdb import layering, values
from memdb.errors import CorruptionError
from memdb.layering import pack_plain, pack_plain_column, unpack_plain

__all__ = ["decode_document", "encode_document", "encode_documents", "read_documents"]


def encode_document(document: dict[str, Any]) -> bytes:
    """The stored form of a document. Raises TypeError and ValueError for names that no field can have,
    UnsupportedType."""
    stored = pack_plain(document)
    if stored is None or b"$" in stored:
        _check_names(document)
    return values.encode(document) if stored is None else stored


def encode_documents(documents: list[dict[str, Any]]) -> list[bytes] | None:
    """The stored forms of documents that are all plain; None if one is not, for which encode_document is
    there. Raises as that."""
    stored = pack_plain_column(documents)
    if stored is not None:
        for document, one in zip(documents, stored, strict=True):
            if b"$" in one:
                _check_names(document)
    return stored


def _check_names(document: dict[str, Any]) -> None:
    for name in document:
        if type(name) is not str:
            raise TypeError(
                f"the fields of a document have names of type str, not {type(name).__name__} ({name!r})"
            )
        if name.startswith("$"):
            raise ValueError(
                f"a field's name can't begin with $: {name!r} looks like an operator, and a whole "
                "document has none; update() takes operators"
            )


def decode_document(payload: bytes) -> dict[str, Any]:
    """The document of a stored payload. Raises CorruptionError."""
    document = unpack_plain(payload)
    if document is None:
        document = values.unpack(payload)
    if type(document) is not dict:
        kind = type(document).__name__
        raise CorruptionError(
            f"what is stored as a document is a {kind}, not a dict; run check() on the database"
        )
    return document


def read_documents(source: layering.Reads, keys: Iterable[bytes]) -> list[dict[str, Any] | None]:
    """The documents under stored keys, in their order; None for those that are missing."""
    decode = decode_document
    return [None if one is None else decode(one) for one in layering.payloads(source, keys)]
