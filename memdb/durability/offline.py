"""Recovery without an engine's processes: in this one's private memory, for `memdb recover`.

Owns: the memory that such a recovery takes, and what it tells. The caller holds the locks of the directory.

Invariants:

* `preview` changes nothing: it is recovery's own `read`, and what `carry_out` does is what it has shown.
* `carry_out` is the start and the end of an engine like any other, and as safe against crashes (rule L7).
"""

import logging
import mmap
from dataclasses import dataclass
from typing import Final

from memdb.durability import recovery, salvage
from memdb.durability.engine import DurableEngine
from memdb.durability.files import Clock, Files
from memdb.durability.manifest import Manifest
from memdb.durability.rebuild import EngineSegments
from memdb.durability.report import RecoveryReport
from memdb.errors import NotADatabase
from memdb.options import EngineOptions
from memdb.shm import _kernel as kernel

__all__ = ["Outcome", "carry_out", "preview", "room_for"]

_MIB: Final = 1 << 20
_AT_LEAST: Final = 64 * _MIB
_AT_MOST: Final = 48 << 30
_ARENA_PER_BYTE: Final = 5
"""Bytes of arena for one byte of log or checkpoint, at most: a key takes room beside itself and its value."""


@dataclass
class Outcome:
    """What a recovery comes to. ``keys``: of the mapping. ``segments``: read."""

    report: RecoveryReport
    lsn: int
    keys: int
    segments: int


def room_for(files: Files) -> int:
    """A limit of memory that the state of these files fits in; it is taken only as it fills."""
    total = 0
    for directory in ("wal", "checkpoints"):
        for name in files.listdir(directory):
            file = files.open(f"{directory}/{name}")
            total += file.size()
            file.close()
    return min(_AT_LEAST + -(-total * _ARENA_PER_BYTE // _MIB) * _MIB, _AT_MOST)


def preview(files: Files, mode: str, limit: int) -> Outcome:
    """What a recovery would come to; nothing is changed. Errors of recovery.recover; NotADatabase."""
    found, made = recovery.find_manifest(files, mode)
    usable = _refuse_unlogged(files, found)
    arena = kernel.Mapping.anonymous(limit * 5 // 4 // mmap.PAGESIZE * mmap.PAGESIZE)

    def make_store() -> kernel.Store:
        return kernel.Store(arena, -1, limit=limit, generation=1, hash_seed=1)

    reading = recovery.read(files, usable, make_store, mode, made=made)
    reading.store.open(reading.lsn)
    return _outcome(reading.store, reading.report, len(reading.log.pieces))


def carry_out(files: Files, clock: Clock, mode: str, limit: int, log: logging.Logger) -> Outcome:
    """Does it, durably. Errors as preview, OSError; nothing that counts was changed then."""
    _refuse_unlogged(files, recovery.find_manifest(files, mode)[0])
    options = EngineOptions(max_memory=limit, recovery=mode)  # type: ignore[arg-type]
    engine = DurableEngine(files, clock, options, _segments(options), log, threads=False)
    report = engine.start()
    outcome = _outcome(engine.store, report, 0)
    engine.stop(clean=True)
    return outcome


def _refuse_unlogged(files: Files, found: Manifest | None) -> Manifest:
    if found is None:
        raise NotADatabase(f"{files.place()} holds no database", path=files.place())
    if not found.logged or found.state == "creating":
        raise NotADatabase(
            f"{files.place()} has neither a log nor checkpoints (durability none, or never a commit): there "
            "is nothing to recover",
            path=files.place(),
        )
    return found


def _outcome(store: kernel.Store, report: RecoveryReport, segments: int) -> Outcome:
    reader = salvage.snapshot_reader(store)
    try:
        return Outcome(report, report.lsn, reader.count_range(b"\x01", b"\x02"), segments)
    finally:
        reader.close()


def _segments(options: EngineOptions) -> EngineSegments:
    size = options.max_memory * 5 // 4 // mmap.PAGESIZE * mmap.PAGESIZE
    logbuf = kernel.Mapping.anonymous(kernel.logbuf_bytes(options.segment_bytes))
    kernel.logbuf_init(logbuf, options.segment_bytes)
    board = kernel.Mapping.anonymous(kernel.board_bytes())
    kernel.board_init(board)
    page = kernel.Mapping.anonymous(kernel.page_bytes())
    kernel.page_init(page, bytes(16))
    lease = kernel.Mapping.anonymous(kernel.lease_bytes())
    kernel.lease_init(lease, bytes(16))
    arenas = (kernel.Mapping.anonymous(size), kernel.Mapping.anonymous(size))
    return EngineSegments(arenas, (-1, -1), board, logbuf, page, lease, 1)
