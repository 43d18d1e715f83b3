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

from typing import Final

from memdb.ordered import EMPTY_ARRAY, encode_compound, encode_ordered
from memdb.shm._kernel import (
    SPACE_CATALOGUE,
    SPACE_COLLECTIONS,
    SpaceKey,
    entry_us,
    expiry_us,
    get_many,
    payloads,
    put,
    put_many,
    scan_payloads,
)
from memdb.shm._kernel import encode_key as _encode_key

__all__ = [
    "CATALOGUE",
    "COLLECTIONS",
    "EMPTY_ARRAY",
    "SpaceKey",
    "encode_compound",
    "encode_ordered",
    "entry_us",
    "expiry_us",
    "get_many",
    "id_bytes",
    "payloads",
    "put",
    "put_many",
    "scan_payloads",
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
