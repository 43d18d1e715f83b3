"""Filters over a range of documents, evaluated by the readers of the pool, where the data is.

Owns: the job ``documents.filter`` of the table `JOBS`, which a reader process imports by the name of this
module, and the calls `scan` and `count` that hand it out.

Invariants:

* The result is that of the same filter and projection in the caller, at the snapshot of the caller.
* A job's arguments are one stored value: the filter's source and the projection; nothing is unpickled.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from memdb import pool, values
from memdb.documents.filters import compile_filter
from memdb.documents.projection import compile_projection

__all__ = ["JOBS", "count", "scan"]

_FILTER: Final = "documents.filter"


def scan(
    source: pool.Lender,
    start: bytes,
    stop: bytes,
    filter_source: Mapping[str, Any] | None,
    *,
    limit: int | None = None,
    project: Any = None,
    ordered: bool = True,
) -> Iterator[bytes]:
    """The stored documents, with stored keys in [start, stop), that a filter finds; ``values.decode`` reads
    one.

    ``source``: a snapshot; ``filter_source``: ``Filter.source``, None or {}: all; ``limit``: documents at
    most; ``project``: as the fields of ``find``; in the order of keys, or as they come if not ``ordered``.
    Evaluated by the group's readers (``query_workers``) where there are some and the range is worth it, else
    here. Raises InvalidFilter, UnsupportedType; while iterating SnapshotExpired, ClosedError,
    ForkedHandleError. Cost: that of decoding and testing each document, divided by the readers, and about
    2 µs for each one found.

    >>> found = scan(snapshot, first, last, {"age": {"$gte": 18}}, limit=10)
    """
    return pool.scan(source, _task(filter_source, project), start, stop, limit=limit, ordered=ordered)


def count(source: pool.Lender, start: bytes, stop: bytes, filter_source: Mapping[str, Any] | None) -> int:
    """How many documents with stored keys in [start, stop) a filter finds. As `scan`; only numbers travel.

    >>> count(snapshot, first, last, {"age": {"$gte": 18}})
    17
    """
    return pool.count(source, _task(filter_source, None), start, stop)


def _task(filter_source: Mapping[str, Any] | None, project: Any) -> pool.Task:
    arguments = values.encode({"filter": dict(filter_source or {}), "project": project})
    return pool.Task(_FILTER, arguments, _make_filter)


def _make_filter(arguments: bytes) -> pool.Evaluate:
    """Raises InvalidFilter, TypeError, ValueError, CorruptionError for what is no filter."""
    given = values.decode(arguments)
    if not isinstance(given, dict):
        raise TypeError("the arguments of a filter are a dict")
    matches = compile_filter(given.get("filter")).matches
    project = compile_projection(given.get("project"))
    decode, encode = values.decode, values.encode

    def found(stored: bytes) -> bytes | None:
        return stored if matches(decode(stored)) else None  # type: ignore[arg-type]

    def projected(stored: bytes) -> bytes | None:
        document: Any = decode(stored)
        return encode(project(document)) if project and matches(document) else None

    return found if project is None else projected


JOBS: Final = {_FILTER: _make_filter}
"""What a reader can do with each stored value of a range."""
