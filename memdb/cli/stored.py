"""Stored keys and values as Python objects, of the mapping and of collections: what dumps show.

Owns: how a key of each space is told apart and named. A key of a collection is a dict that says whose it is:
``{"collection": 1, "id": "a"}`` a document, ``{"collection": 1, "index": 2, "values": b"...", "id": "a"}`` an
entry of an index (its values have no way back), ``{"catalogue": "people"}`` a definition.

Invariant: bytes that are no such key raise CorruptionError, whatever they are, and are shown as bytes.
"""

from __future__ import annotations

from typing import Any

from memdb import layering, values
from memdb.errors import CorruptionError
from memdb.shm import _kernel

_MAPPING = b"\x01"
_CATALOGUE = bytes([layering.CATALOGUE])
_COLLECTIONS = bytes([layering.COLLECTIONS])
_OWNER_BYTES = 7  # of a collection's key: space, the collection's number (4), the index's (2; 0: a document)


def objects(key: bytes, value: bytes | None) -> dict[str, Any]:
    """The key, and the value unless that is None, as objects; nothing of the system's own.

    Raises CorruptionError.

    >>> objects(bytes.fromhex("04 00000001 0000 1507"), b"raw" + bytes(1))
    {'key': {'collection': 1, 'id': 7}, 'value': b'raw'}
    """
    space = key[:1]
    decoded = None if value is None else values.decode(value)
    if space == _MAPPING:
        found: Any = _kernel.decode_key(key)
    elif space == _CATALOGUE:
        found = {"catalogue": _element(key[1:])}
    elif space == _COLLECTIONS:
        found = _of_collection(key, decoded)
    else:
        return {}
    return {"key": found} if value is None else {"key": found, "value": decoded}


def named(key: bytes) -> Any:
    """The key as an object; as bytes where it is the system's own, or no key of a known form.

    >>> named(bytes.fromhex("01 02 6100")), named(b"\x02o...")
    ('a', b'\x02o...')
    """
    try:
        return objects(key, None).get("key", key)
    except CorruptionError:
        return key


def _of_collection(key: bytes, value: object) -> dict[str, Any]:
    if len(key) <= _OWNER_BYTES:
        raise CorruptionError(f"a key of a collection has more than {_OWNER_BYTES} bytes, not {len(key)}")
    number = int.from_bytes(key[1:5], "big")
    index = int.from_bytes(key[5:_OWNER_BYTES], "big")
    rest = key[_OWNER_BYTES:]
    if index == 0:
        return {"collection": number, "id": _element(rest)}
    found: dict[str, Any] = {"collection": number, "index": index}
    if not isinstance(value, bytes):  # a deletion: where the entry's values end, its value would tell
        return found | {"entry": rest}
    return found | {"values": rest.removesuffix(value), "id": _element(value)}


def _element(data: bytes) -> Any:
    """What one element of a key stands for, without a space in front of it."""
    return _kernel.decode_key(_MAPPING + data)
