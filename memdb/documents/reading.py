"""Reading documents by an access: entries in batches, documents to them, the filter, each document once.

Owns: the generators behind every query, and what they count.

Invariants:

* Documents come in the order of the access, one by one: a batch of at most 256 is held, never a result.
* A document with several entries in the ranges comes at the first of them; one that several branches of an
  ``$or`` find comes with the first of those. Neither needs a set of what has come already.
* Where a transaction reads, the filter decides about each document, also behind exact bounds: its own writes
  may lie between an entry and its document. They may also move a document from before the reading to behind
  it, or back: there, and only there, a set of what has come decides.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

from memdb import layering
from memdb.documents import keyspace, parallel
from memdb.documents.catalogue import Definition, Source
from memdb.documents.filters import Filter
from memdb.documents.indexes import Index
from memdb.documents.ordering import Order
from memdb.documents.parallel import has_readers
from memdb.documents.planner import Access
from memdb.documents.storing import decode_document, read_documents
from memdb.layering import SpaceKey
from memdb.snapshot import Snapshot
from memdb.transaction import Transaction

__all__ = ["Counts", "Found", "read", "resumed"]

Found = tuple[bytes, dict[str, Any]]
Matches = Callable[[dict[str, Any]], bool]

_FIRST_BATCH: Final = 16
_LARGEST_BATCH: Final = 256
_ALONE: Final = 1024  # documents of a scan that are looked at before the readers are asked


class Counts:
    """What a query has looked at so far."""

    __slots__ = ("documents", "keys")

    def __init__(self) -> None:
        self.keys = 0
        self.documents = 0

    def add_documents(self, number: int) -> None:
        """As many more documents were looked at."""
        self.documents += number


def read(
    source: Source,
    name: str,
    definition: Definition,
    access: Access,
    filter: Filter,
    counts: Counts,
    wanted: int | None = None,
) -> Iterator[Found]:
    """(id, document) of all that the filter finds, by the access, in its order. *wanted*: after how many the
    caller ends, if it knows: no more documents than that are looked at first."""
    ahead = _FIRST_BATCH if wanted is None else min(wanted, _FIRST_BATCH)
    rows = _read(source, name, definition, access, filter, counts, ahead)
    return _once(rows) if isinstance(source, Transaction) else rows


def _once(rows: Iterator[Found]) -> Iterator[Found]:
    given: set[bytes] = set()
    for row in rows:
        if row[0] not in given:
            given.add(row[0])
            yield row


def _read(
    source: Source,
    name: str,
    definition: Definition,
    access: Access,
    filter: Filter,
    counts: Counts,
    ahead: int,
) -> Iterator[Found]:
    if access.stage == "none":
        return iter(())
    if access.stage == "or":
        return _branches(source, name, definition, access, counts, ahead)
    is_exact = (access.exact and not isinstance(source, Transaction)) or not filter.source
    matches = None if is_exact else filter.matches
    if access.index is None:
        if (
            matches is not None
            and not access.reverse
            and isinstance(source, Snapshot)
            and has_readers(source)
        ):
            return _by_readers(source, definition, access, filter, counts)
        return _documents(source, definition, access, matches, counts)
    return _entries(source, name, definition, access, access.index, matches, counts, ahead)


def _documents(
    source: Source, definition: Definition, access: Access, matches: Matches | None, counts: Counts
) -> Iterator[Found]:
    """Through the documents themselves."""
    at = len(keyspace.document_prefix(definition.id))
    for start, stop in reversed(access.ranges) if access.reverse else access.ranges:
        with layering.scan_payloads(source, SpaceKey(start), SpaceKey(stop), reverse=access.reverse) as scan:
            for key, payload in scan:
                counts.documents += 1
                document = decode_document(payload)
                if matches is None or matches(document):
                    yield key[at:], document


def _by_readers(
    source: Snapshot, definition: Definition, access: Access, filter: Filter, counts: Counts
) -> Iterator[Found]:
    """Through the documents themselves: the first ones here, since many a query ends early, and the rest by
    the readers of the pool."""
    at = len(keyspace.document_prefix(definition.id))
    for start, stop in access.ranges:
        resume = None
        with layering.scan_payloads(source, SpaceKey(start), SpaceKey(stop)) as scan:
            for key, payload in islice(scan, _ALONE):
                counts.documents += 1
                document = decode_document(payload)
                if filter.matches(document):
                    yield key[at:], document
                resume = key + b"\0"
        if resume is not None:
            for document in parallel.scan(source, resume, stop, filter.source, looked=counts.add_documents):
                yield keyspace.id_bytes(document["_id"]), document


def _entries(
    source: Source,
    name: str,
    definition: Definition,
    access: Access,
    index: Index,
    matches: Matches | None,
    counts: Counts,
    ahead: int,
) -> Iterator[Found]:
    """Through an index."""
    prefix = keyspace.document_prefix(definition.id)
    in_transaction = isinstance(source, Transaction)
    is_first = _first_entry(name, access, index) if access.several and not in_transaction else None
    # At one point in time there is a document to each entry.
    takes_all = matches is None and is_first is None and not in_transaction
    for batch in _batches(source, access, ahead):
        counts.keys += len(batch)
        documents = read_documents(source, [prefix + id for _, id in batch])
        if takes_all:
            counts.documents += len(documents)
            yield from zip((id for _, id in batch), documents, strict=True)
            continue
        for (key, id), document in zip(batch, documents, strict=True):
            if document is None:  # deleted by this transaction since the iteration began
                continue
            counts.documents += 1
            if matches is not None and not matches(document):
                continue
            if is_first is None or is_first(key, document, id):
                yield id, document


def _batches(source: Source, access: Access, size: int) -> Iterator[list[tuple[bytes, bytes]]]:
    """(key, id) of the entries, *size* at a time, then more: many a query ends early."""
    batch: list[tuple[bytes, bytes]] = []
    for start, stop in reversed(access.ranges) if access.reverse else access.ranges:
        with layering.scan_payloads(source, SpaceKey(start), SpaceKey(stop), reverse=access.reverse) as scan:
            for entry in scan:
                batch.append(entry)
                if len(batch) == size:
                    yield batch
                    batch = []
                    size = min(size * 4, _LARGEST_BATCH)
    if batch:
        yield batch


def _first_entry(name: str, access: Access, index: Index) -> Callable[[bytes, dict[str, Any], bytes], bool]:
    """Whether an entry is the first one of its document in the ranges, in the direction of reading."""
    ranges = access.ranges
    first = max if access.reverse else min

    def is_first(key: bytes, document: dict[str, Any], id: bytes) -> bool:
        keys = index.entries(name, document, id)
        if len(keys) == 1:
            return True
        inside = [one for one in keys if any(start <= one < stop for start, stop in ranges)]
        return not inside or first(inside) == key

    return is_first


def _branches(
    source: Source, name: str, definition: Definition, access: Access, counts: Counts, ahead: int
) -> Iterator[Found]:
    """What one of several filters finds, each document once."""
    earlier: list[Matches] = []
    for filter, branch in access.branches:
        for id, document in _read(source, name, definition, branch, filter, counts, ahead):
            if not any(matches(document) for matches in earlier):
                yield id, document
        if not isinstance(source, Transaction):
            earlier.append(filter.matches)


def resumed(definition: Definition, access: Access, order: Order, place: list[bytes]) -> None:
    """Lets a sorted access begin behind a place of its order (as ``Order.codes`` gave it)."""
    index = access.index
    if index is None:
        key = keyspace.document_prefix(definition.id) + _turned(place[-1], order.id_descending)
    else:
        held = {path for path, _ in index.fields[: access.fixed]}
        key = access.prefix
        offered = iter(index.fields[access.fixed :])
        for (path, descending), code in zip(order.fields, place, strict=False):
            if path not in held:
                _, has_descending = next(offered)
                key += _turned(code, descending != has_descending)
        if not index.unique:
            key += _turned(place[-1], order.id_descending != index.id_descending)
    access.ranges = [
        (start, min(stop, key)) if access.reverse else (max(start, key + b"\0"), stop)
        for start, stop in access.ranges
        if (start < key if access.reverse else key < stop)
    ]


def _turned(code: bytes, is_turned: bool) -> bytes:
    return keyspace.complement(code) if is_turned else code
