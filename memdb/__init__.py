"""memdb: a transactional, ordered, durable key/value database in shared memory, for Python services of
several processes.

>>> import memdb
>>> with memdb.open("data") as db:
...     db["user:1"] = {"name": "Alice"}

Importing works on every platform; :func:`open` raises UnsupportedPlatform where the engine can't run.
"""

import importlib.machinery as _machinery
import os as _os
import sys as _sys
from typing import TYPE_CHECKING, Any

from memdb.errors import (
    ArenaFullError,
    ClosedError,
    ConflictError,
    ContainerMismatch,
    CorruptionError,
    DiskError,
    DiskFullError,
    DuplicateKeyError,
    EngineDied,
    Error,
    ForkedHandleError,
    FormatTooNew,
    IndexMismatch,
    InvalidFilter,
    KeyTooLarge,
    LogFailed,
    ModelError,
    NotADatabase,
    OpenTimeout,
    OptionMismatch,
    OutcomeUnknown,
    PipelineError,
    ReadOnlyError,
    SnapshotExpired,
    Timeout,
    TransactionTooLarge,
    UnsupportedFilesystem,
    UnsupportedPlatform,
    UnsupportedType,
    ValueTooLarge,
    WriterPoisoned,
)

if TYPE_CHECKING:
    from typing import Literal, TypedDict, Unpack

    from memdb.database import Database as Database
    from memdb.documents.collection import Collection as Collection
    from memdb.documents.cursor import Cursor as Cursor
    from memdb.documents.cursor import Plan as Plan
    from memdb.documents.indexview import IndexInfo as IndexInfo
    from memdb.documents.indexview import IndexView as IndexView
    from memdb.documents.pages import Page as Page
    from memdb.info import DiskUsage as DiskUsage
    from memdb.info import Info as Info
    from memdb.info import MemoryUsage as MemoryUsage
    from memdb.info import ReaderInfo as ReaderInfo
    from memdb.info import Report as Report
    from memdb.pipeline import Pipeline as Pipeline
    from memdb.sentinels import KEEP as KEEP
    from memdb.sentinels import MISSING as MISSING
    from memdb.snapshot import Entry as Entry
    from memdb.snapshot import Snapshot as Snapshot
    from memdb.transaction import Transaction as Transaction

    class OpenOptions(TypedDict, total=False):
        """The keyword arguments of :func:`open`."""

        durability: Literal["memory", "os", "full", "none"]
        readonly: bool
        timeout: float
        open_timeout: float
        create: bool
        allow_network_fs: bool
        sync_interval: float
        max_memory: int | str
        max_key_bytes: int | str
        max_value_bytes: int | str
        max_transaction_bytes: int | str
        segment_bytes: int | str
        checkpoint_interval: float
        checkpoint_wal_bytes: int | str
        checkpoint_dirty_keys: int
        keep_checkpoints: int
        keep_segments: int
        recovery: Literal["strict", "until_damage", "salvage"]
        query_workers: int
        linger: float | None
        snapshot_max_age: float


_here = _os.path.dirname(_os.path.abspath(__file__))
if not any(_os.path.exists(f"{_here}/shm/_kernel{_end}") for _end in _machinery.EXTENSION_SUFFIXES):
    # A checkout whose kernel was not built in place, found because it is the current directory: the package
    # that is installed is meant. Where none is, importing still works, and open() says what is missing.
    _above = _os.path.realpath(_os.path.dirname(_here))
    _others = [_place for _place in _sys.path if _os.path.realpath(_place) != _above]
    _installed = _machinery.PathFinder.find_spec("memdb", _others)
    if _installed is not None and _installed.submodule_search_locations:
        __path__ = list(_installed.submodule_search_locations)

__version__ = "0.1.0"

__all__ = [
    "KEEP",
    "MISSING",
    "ArenaFullError",
    "ClosedError",
    "Collection",
    "ConflictError",
    "ContainerMismatch",
    "CorruptionError",
    "Cursor",
    "Database",
    "DiskError",
    "DiskFullError",
    "DiskUsage",
    "DuplicateKeyError",
    "EngineDied",
    "Entry",
    "Error",
    "ForkedHandleError",
    "FormatTooNew",
    "IndexInfo",
    "IndexMismatch",
    "IndexView",
    "Info",
    "InvalidFilter",
    "KeyTooLarge",
    "LogFailed",
    "MemoryUsage",
    "ModelError",
    "NotADatabase",
    "OpenTimeout",
    "OptionMismatch",
    "OutcomeUnknown",
    "Page",
    "Pipeline",
    "PipelineError",
    "Plan",
    "ReadOnlyError",
    "ReaderInfo",
    "Report",
    "Snapshot",
    "SnapshotExpired",
    "Timeout",
    "Transaction",
    "TransactionTooLarge",
    "UnsupportedFilesystem",
    "UnsupportedPlatform",
    "UnsupportedType",
    "ValueTooLarge",
    "WriterPoisoned",
    "open",
]

# Where these names live. They need the compiled kernel, so they are imported when they are asked for.
_NEEDS_KERNEL = {
    "Collection": "memdb.documents.collection",
    "Cursor": "memdb.documents.cursor",
    "IndexInfo": "memdb.documents.indexview",
    "IndexView": "memdb.documents.indexview",
    "Page": "memdb.documents.pages",
    "Plan": "memdb.documents.cursor",
    "Database": "memdb.database",
    "DiskUsage": "memdb.info",
    "Entry": "memdb.snapshot",
    "Info": "memdb.info",
    "KEEP": "memdb.sentinels",
    "MISSING": "memdb.sentinels",
    "MemoryUsage": "memdb.info",
    "ReaderInfo": "memdb.info",
    "Pipeline": "memdb.pipeline",
    "Report": "memdb.info",
    "Snapshot": "memdb.snapshot",
    "Transaction": "memdb.transaction",
}


def __getattr__(name: str) -> Any:
    module = _NEEDS_KERNEL.get(name)
    if module is None:
        raise AttributeError(f"module 'memdb' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def open(path: "str | _os.PathLike[str] | None" = None, **options: "Unpack[OpenOptions]") -> "Database":
    """Opens the database of a directory: starts its engine, or joins the one that runs. Without *path*: in
    memory only.

    Returns when the engine serves. The options and their defaults, of this handle: ``durability="os"``,
    ``readonly=False``, ``timeout=30.0`` and ``open_timeout=10.0`` (seconds without progress),
    ``create=True``, ``allow_network_fs=False``; of the engine, compared with the running one's only if
    passed: ``sync_interval=0.2``, ``max_memory="1GiB"``, ``max_key_bytes=1024``, ``max_value_bytes="1MiB"``,
    ``max_transaction_bytes="32MiB"``, ``segment_bytes="64MiB"``, ``checkpoint_interval=300``,
    ``checkpoint_wal_bytes="100MiB"``, ``checkpoint_dirty_keys=1_000_000``, ``keep_checkpoints=3``,
    ``keep_segments=5``, ``recovery="strict"``, ``query_workers=0``, ``linger=2.0``, ``snapshot_max_age=600``.
    Sizes: an int of bytes or a string like ``"64MiB"``.

    Raises TypeError and ValueError for options; NotADatabase, UnsupportedFilesystem, UnsupportedPlatform,
    ContainerMismatch, FormatTooNew, OptionMismatch, OpenTimeout, ReadOnlyError, EngineDied, CorruptionError.
    Cost: about 0.3 s where the engine is started, a few ms where it runs.

    >>> db = memdb.open("data", durability="full", max_memory="2GiB")
    """
    if not _sys.platform.startswith("linux"):
        raise UnsupportedPlatform(
            f"memdb's engine needs Linux 5.8 or later, and this is {_sys.platform}: "
            "run it in a Linux container or machine"
        )
    from memdb.database import open_database

    return open_database(path, dict(options))
