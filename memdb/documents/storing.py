"""Documents as they are stored: what ``memdb.values`` writes, with a short way for the ids that are
generated.

Owns: :func:`encode_document` and :func:`decode_document`. A document begins with its ``_id``; where that is a
UUID, the codec would call Python for it, and look for other such values in the whole document. Here the
UUID's bytes are put in, and cut out, by themselves.

Invariant: the bytes are those of ``values.encode``, and either side can read what the other one wrote.
"""

from collections.abc import Iterable
from typing import Any, cast
from uuid import UUID

from memdb import layering, values
from memdb.documents.identity import uuid_of

__all__ = ["decode_document", "encode_document", "read_documents"]


def encode_document(document: dict[str, Any]) -> bytes:
    """The stored form of a document whose first field is ``_id``, which it lacks for the time of the call.

    Raises UnsupportedType.
    """
    id = document["_id"]
    if type(id) is UUID:
        document["_id"] = None
        try:
            data = values.pack(document)
        finally:
            document["_id"] = id
        # The header of a map takes 1 byte, above 15 fields 3.
        at = 5 if len(document) < 16 else 7
        if data[at - 4 : at + 1] == b"\xa3_id\xc0":
            return b"%b\xd8\x04%b%b\x01" % (data[:at], id.bytes, data[at + 1 :])
    return values.encode(document)


def decode_document(payload: bytes) -> dict[str, Any]:
    """The document of a stored payload. Raises CorruptionError."""
    if payload[1:7] == b"\xa3_id\xd8\x04":
        document = cast(dict[str, Any], values.unpack(b"%b\xc0%b" % (payload[:5], payload[23:])))
        document["_id"] = uuid_of(payload[7:23])
        return document
    return cast(dict[str, Any], values.unpack(payload))


def read_documents(source: layering.Reads, keys: Iterable[bytes]) -> list[dict[str, Any] | None]:
    """The documents under stored keys, in their order; None for those that are missing."""
    decode = decode_document
    return [None if one is None else decode(one) for one in layering.payloads(source, keys)]
