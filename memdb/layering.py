"""What layers over transactions use besides the public calls: key spaces of their own, and values that are
encoded already.

Owns: the list of what a layer (collections, and what is built like them) may use of the engine. A layer keeps
its keys in a space of its own, where no key of the mapping can meet them: iteration, ``len``, ``clear`` and
views of a database concern the mapping alone. Everything else holds there too: transactions and their
validation, snapshots, expiry, recovery, ``check()``.

Invariants:

* A layer writes through transactions only; there is no call here that the engine would have to know about.
* What is written by one transaction with one ``expires_us`` expires at one instant.
"""

from typing import Any, Final

from memdb.ordered import EMPTY_ARRAY, encode_compound, encode_ordered, encode_ordered_column
from memdb.shm._kernel import (
    SPACE_CATALOGUE,
    SPACE_COLLECTIONS,
    Reads,
    SpaceKey,
    consecutive_uuids,
    decode_key,
    discard_range,
    entry_us,
    expiry_us,
    get_many,
    guard,
    guard_range,
    pack_plain,
    pack_plain_column,
    payloads,
    put,
    put_columns,
    put_many,
    scan_payloads,
    unpack_plain,
)
from memdb.shm._kernel import encode_key as _encode_key

__all__ = [
    "CATALOGUE",
    "COLLECTIONS",
    "EMPTY_ARRAY",
    "Reads",
    "SpaceKey",
    "consecutive_uuids",
    "discard_range",
    "encode_compound",
    "encode_ordered",
    "encode_ordered_column",
    "entry_us",
    "expiry_us",
    "get_many",
    "guard",
    "guard_range",
    "id_bytes",
    "id_of_bytes",
    "pack_plain",
    "pack_plain_column",
    "payloads",
    "put",
    "put_columns",
    "put_many",
    "scan_payloads",
    "unpack_plain",
]

CATALOGUE: Final = SPACE_CATALOGUE
"""The first byte of the catalogue's stored keys: what collections there are."""

COLLECTIONS: Final = SPACE_COLLECTIONS
"""The first byte of the stored keys of documents and index entries."""


def id_bytes(id: object) -> bytes:
    """The bytes of a document's ``_id``, which is any key, in stored keys and as the value of index entries.

    Raises UnsupportedType, KeyTooLarge. Cost: below 1 µs.

    >>> id_bytes("a")
    b'\\x02a\\x00'
    """
    return _encode_key(id)[1:]


def id_of_bytes(data: bytes) -> Any:
    """The ``_id`` that :func:`id_bytes` has encoded. Raises ValueError for bytes that are none. Cost: below 1
    µs.

    >>> id_of_bytes(b"\\x02a\\x00")
    'a'
    """
    return decode_key(b"\x01" + data)
