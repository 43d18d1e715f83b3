"""Filters over a range of documents, evaluated by the readers of the pool, where the data is.

Owns: the job ``documents.filter`` of the table `JOBS`, which a reader process imports by the name of this
module, and the calls `scan` and `count` that hand it out.

Invariants:

* The result is that of the same filter in the caller, at the snapshot of the caller.
* A job's arguments are one stored value, the filter's source; nothing is unpickled.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from memdb import pool, values
from memdb.documents.filters import compile_filter
from memdb.documents.storing import decode_document
from memdb.layering import unpack_plain
from memdb.pool import has_readers

__all__ = ["JOBS", "count", "has_readers", "scan"]

_FILTER: Final = "documents.filter"


def scan(
    source: pool.Lender,
    start: bytes,
    stop: bytes,
    filter_source: Mapping[str, Any],
    *,
    looked: Callable[[int], object] | None = None,
) -> Iterator[dict[str, Any]]:
    """The documents, with stored keys in [start, stop), that a filter finds, in the order of keys.

    ``source``: a snapshot; ``filter_source``: ``Filter.source``; ``looked`` is told, piece by piece, how many
    documents were looked at. Evaluated by the group's readers (``query_workers``) where there are some and
    the range is worth it, else here. While iterating it raises SnapshotExpired, ClosedError,
    ForkedHandleError. Cost: that of decoding and testing each document, divided by the readers, and some µs
    for each one found.

    >>> found = scan(snapshot, first, last, {"age": {"$gte": 18}})
    """
    stored = pool.scan(source, _task(filter_source), start, stop, looked=looked)
    return (decode_document(one[:-1]) for one in stored)


def count(source: pool.Lender, start: bytes, stop: bytes, filter_source: Mapping[str, Any]) -> int:
    """How many documents with stored keys in [start, stop) a filter finds. As `scan`; only numbers travel.

    >>> count(snapshot, first, last, {"age": {"$gte": 18}})
    17
    """
    return pool.count(source, _task(filter_source), start, stop)


def _task(filter_source: Mapping[str, Any]) -> pool.Task:
    return pool.Task(_FILTER, values.encode(dict(filter_source)), _make_filter)


def _make_filter(arguments: bytes) -> pool.Evaluate:
    """Raises InvalidFilter, TypeError, ValueError, CorruptionError for what is no filter."""
    given = values.decode(arguments)
    if not isinstance(given, dict):
        raise TypeError("the arguments of a filter are a dict")
    matches = compile_filter(given).matches

    def found(stored: bytes) -> bytes | None:
        document: Any = unpack_plain(stored[:-1])  # most are plain: without a call more for each
        if type(document) is not dict:
            document = decode_document(stored[:-1])
        return stored if matches(document) else None

    return found


JOBS: Final = {_FILTER: _make_filter}
"""What a reader can do with each stored value of a range."""
