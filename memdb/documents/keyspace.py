"""Where collections keep their things: the stored keys of definitions, documents and index entries.

Owns: the two spaces of collections (docs/formats/documents.md has the same bytes)::

    03 00                                            the id of the next collection
    03 01 ‖ u32 collection ‖ u16 index               how far the build of an index has come
    03 ‖ name                                        the definition of a collection
    04 ‖ u32 collection ‖ 0000 ‖ id                  a document
    04 ‖ u32 collection ‖ u16 index                  there is: some document has several entries in this index
    04 ‖ u32 collection ‖ u16 index ‖ values [‖ id]  an entry; without the id if the index is unique

Invariants:

* Numbers are big-endian, so a collection is one range, its documents are its first part, and each index is a
  range behind them.
* A name and an id are in the key encoding of the mapping, without its space: ids lie in the order of keys.
* Where the last field of an index is descending, the ids behind equal values are too (all bytes
  complemented): an index that is read backwards is exactly the index of the opposite directions.
"""

from typing import Final

from memdb.layering import CATALOGUE, COLLECTIONS, SpaceKey, id_bytes
from memdb.layering import id_of_bytes as id_of

__all__ = [
    "NAMES",
    "NEXT_COLLECTION",
    "build_key",
    "collection_range",
    "complement",
    "definition_key",
    "document_prefix",
    "document_range",
    "following",
    "id_bytes",
    "id_of",
    "index_of_key",
    "index_prefix",
    "index_range",
    "name_of_key",
]

_CATALOGUE: Final = bytes([CATALOGUE])
_COLLECTIONS: Final = bytes([COLLECTIONS])
_COMPLEMENT: Final = bytes(255 - byte for byte in range(256))

NEXT_COLLECTION: Final = SpaceKey(_CATALOGUE + b"\x00")
NAMES: Final = (SpaceKey(_CATALOGUE + b"\x02"), SpaceKey(_CATALOGUE + b"\x03"))
"""The range of the definitions: the encoding of a str begins with 02."""


def definition_key(name: str) -> SpaceKey:
    """The key of a collection's definition."""
    return SpaceKey(_CATALOGUE + id_bytes(name))


def name_of_key(stored: bytes) -> str:
    """The name of the collection whose definition is stored there."""
    name = id_of(stored[1:])
    assert isinstance(name, str)
    return name


def build_key(collection: int, index: int) -> SpaceKey:
    """The key of what is kept of the build of an index."""
    return SpaceKey(_CATALOGUE + b"\x01" + collection.to_bytes(4, "big") + index.to_bytes(2, "big"))


def index_prefix(collection: int, index: int) -> bytes:
    """What the keys of an index begin with; by itself the key of its mark of several entries."""
    return _COLLECTIONS + collection.to_bytes(4, "big") + index.to_bytes(2, "big")


def document_prefix(collection: int) -> bytes:
    """What the keys of the documents begin with; the id follows."""
    return index_prefix(collection, 0)


def index_of_key(stored: bytes) -> int:
    """The number of the index that a key of a collection belongs to; 0: it is a document's."""
    return int.from_bytes(stored[5:7], "big")


def following(prefix: bytes) -> bytes:
    """The first key behind all that begin with *prefix*."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1])


def _range(prefix: bytes) -> tuple[SpaceKey, SpaceKey]:
    return SpaceKey(prefix), SpaceKey(following(prefix))


def document_range(collection: int) -> tuple[SpaceKey, SpaceKey]:
    """The bounds of all documents."""
    return _range(document_prefix(collection))


def index_range(collection: int, index: int) -> tuple[SpaceKey, SpaceKey]:
    """The bounds of an index, its mark included."""
    return _range(index_prefix(collection, index))


def collection_range(collection: int) -> tuple[SpaceKey, SpaceKey]:
    """The bounds of a collection: documents and indexes."""
    return _range(_COLLECTIONS + collection.to_bytes(4, "big"))


def complement(data: bytes) -> bytes:
    """The bytes in the opposite order."""
    return data.translate(_COMPLEMENT)
