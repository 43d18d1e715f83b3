# engine.pxi: the writer's side of the binding: Store here, and in parts of their own the commit loop (commitloop.pxi), snapshots for tools
# and the checkpointer (reader.pxi), records and checkpoint blocks (records.pxi). Owner of the C state: the cdef object that made it.
#
# Who: Store by the commit thread.
# Invariants: objects keep what they point into alive (Commit -> Store -> arena Mapping; leases while added). Long work runs without
# the GIL. An exception of a write callable is kept and raised by the call that ran the loop; the kernel sees EIO.

import os as _os
from collections import namedtuple as _namedtuple

from memdb.errors import ArenaFullError as _ArenaFullError
from memdb.errors import CorruptionError as _CorruptionError
from memdb.errors import LogFailed as _LogFailed
from memdb.errors import SnapshotExpired as _SnapshotExpired

cdef extern from "<unistd.h>" nogil:
    ssize_t c_pwrite "pwrite"(int, const void *, size_t, int64_t)

cdef extern from "<errno.h>" nogil:
    enum:
        EINTR
        EIO

EVENT_NONE, EVENT_CONTROL, EVENT_ROTATE, EVENT_LOG_FAILED, EVENT_PRESSURE = (
    MEMDB_EVENT_NONE, MEMDB_EVENT_CONTROL, MEMDB_EVENT_ROTATE, MEMDB_EVENT_LOG_FAILED, MEMDB_EVENT_PRESSURE)
STATUS_OK, STATUS_AGAIN, STATUS_LOG_FAILED, STATUS_READ_ONLY, STATUS_STOPPED = (
    MEMDB_OK, MEMDB_AGAIN, MEMDB_LOG_FAILED, MEMDB_READ_ONLY, MEMDB_STOPPED)
RECORD_COMMIT, RECORD_MARK, RECORD_LINK = MEMDB_RECORD_COMMIT, MEMDB_RECORD_MARK, MEMDB_RECORD_LINK
RECORD_GOOD, RECORD_END, RECORD_BAD_HEADER, RECORD_BAD_BODY, RECORD_TOO_NEW = (
    MEMDB_RECORD_GOOD, MEMDB_RECORD_END, MEMDB_RECORD_BAD_HEADER, MEMDB_RECORD_BAD_BODY, MEMDB_RECORD_TOO_NEW)
SEGMENT_HEADER = MEMDB_SEGMENT_HEADER
SPACES = MEMDB_SPACES
PIN_POINT, PIN_SNAPSHOT = MEMDB_PIN_POINT, MEMDB_PIN_SNAPSHOT
PIN_ITERATOR, PIN_CHECKPOINT = MEMDB_PIN_ITERATOR, MEMDB_PIN_CHECKPOINT

ReplayResult = _namedtuple(
    "ReplayResult",
    "records first_lsn last_lsn durable_lsn end_offset lsn_limit time_us last_crc verdict link")
Link = _namedtuple("Link", "lsn_limit previous_segment previous_last_lsn previous_last_crc term")
SyncJob = _namedtuple("SyncJob", "segment bytes lsn")
Record = _namedtuple(
    "Record", "verdict offset padded type op_count lsn durable_lsn client_id request time_us count body header_crc")


cdef str _room_of_shm():
    figures = _os.statvfs("/dev/shm")
    return f"{figures.f_bavail * figures.f_frsize >> 10} of {figures.f_blocks * figures.f_frsize >> 10} KiB free"


cdef object _failure(int status, str what):
    if status == MEMDB_FULL:
        return _ArenaFullError(f"{what}: the arena is at its limit (max_memory); raise max_memory or delete keys")
    if status == MEMDB_SHM_FULL:
        return _ArenaFullError(f"{what}: /dev/shm is full ({_room_of_shm()}); give it more room, or end what else fills it")
    if status == MEMDB_REVOKED:
        return _SnapshotExpired(f"{what}: the snapshot was revoked")
    if status == MEMDB_DAMAGED:
        return _CorruptionError(f"{what}: the bytes are damaged")
    if status == MEMDB_LOG_FAILED:
        return _LogFailed(f"{what}: the log could not be written")
    if status == MEMDB_MOVED or status == MEMDB_AGAIN:
        return BlockingIOError(f"{what}: the arena does not serve")
    if status == MEMDB_INVALID:
        return ValueError(f"{what}: refused by the kernel as invalid")
    return RuntimeError(f"{what}: kernel status {status}")


cdef void _collect_problem(void *arg, uint64_t offset, uint64_t lsn, const char *text) noexcept with gil:
    problems = <list>arg
    if len(problems) < 1000:
        problems.append((offset, lsn, (<bytes>text).decode("ascii", "replace")))


@cython.no_gc  # it refers to mappings only; a collection that cleared them first would unmap what it still points into
cdef class Store:
    """The writer's store of one generation, in ``arena`` (formatted anew). ``fd`` -1: anonymous memory."""

    cdef memdb_arena *arena
    cdef memdb_store *store
    cdef memdb_scanner *scanner
    cdef readonly Mapping mapping
    cdef readonly uint64_t generation
    cdef Mapping progress

    def __cinit__(self, Mapping mapping, int fd, *, uint64_t limit, uint64_t generation, uint64_t hash_seed,
                  Mapping progress=None):
        cdef int status
        self.mapping = mapping
        self.generation = generation
        self.progress = progress
        if not mapping.writable:
            raise ValueError("the writer's arena must be mapped writable")
        _base_of(mapping, sizeof(memdb_arena_header), "arena")
        self.scanner = memdb_scanner_new()
        if self.scanner == NULL:
            raise MemoryError()
        status = memdb_arena_create(&self.arena, mapping.base, mapping.size, fd, limit, generation, hash_seed)
        if status == MEMDB_OK:
            status = memdb_store_new(&self.store, self.arena, self.scanner)
        if status != MEMDB_OK:
            raise _failure(status, f"cannot format the arena of generation {generation}")

    def __dealloc__(self):
        if self.store != NULL:
            memdb_store_free(self.store)
        if self.arena != NULL:
            memdb_arena_free(self.arena)
        if self.scanner != NULL:
            memdb_scanner_free(self.scanner)

    cdef memdb_a64 *_progress(self):
        if self.progress is None or self.progress.base == NULL:
            return NULL
        return &(<memdb_board *>self.progress.base).progress_done

    def bulk_begin(self, uint64_t expected_keys):
        """Begins to fill a fresh store with sorted keys."""
        cdef int status
        with nogil:
            status = memdb_bulk_begin(self.store, expected_keys)
        if status != MEMDB_OK:
            raise _failure(status, f"cannot make room for {expected_keys} keys")

    def ckpt_load(self, payload, uint32_t count, uint64_t lsn):
        """Adds the items of one checked block of a checkpoint at ``lsn``. CorruptionError: it holds what no such one can."""
        cdef Py_buffer view
        cdef int status
        PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
        try:
            with nogil:
                status = memdb_ckpt_load(self.store, view.buf, view.len, count, lsn)
        finally:
            PyBuffer_Release(&view)
        if status != MEMDB_OK:
            raise _failure(status, "cannot load a checkpoint block")

    def bulk_finish(self):
        """Ends the filling; the store takes single changes from now on."""
        cdef int status
        with nogil:
            status = memdb_bulk_finish(self.store)
        if status != MEMDB_OK:
            raise _failure(status, "cannot finish the load")

    def copy_from(self, Mapping old, unsigned parity, Mapping lease):
        """Fills this fresh store with what another generation has published (rule G1); returns that LSN.

        Pins a slot of ``lease`` there for as long as it takes. ValueError, BlockingIOError, CorruptionError: that arena
        cannot be used.
        """
        cdef Reader reader = Reader(old, parity, lease, MEMDB_PIN_CHECKPOINT)
        cdef memdb_a64 *progress = self._progress()
        cdef int status
        try:
            with nogil:
                status = memdb_bulk_copy(self.store, &reader.pin, progress)
            if status != MEMDB_OK:
                raise _failure(status, "cannot copy the old generation")
            self.raise_time_floor(memdb_load64_relaxed(&_arena_of(old).time_floor))
            return reader.lsn
        finally:
            reader.close()

    def replay(self, segment, uint64_t offset, uint64_t salt, uint64_t after_lsn, uint64_t up_to_lsn):
        """Applies commits with after_lsn < lsn <= up_to_lsn from a segment's bytes; a ReplayResult."""
        return _replay(self.store, segment, offset, salt, after_lsn, up_to_lsn, self._progress())

    def raise_time_floor(self, uint64_t time_us):
        """Time, by which expiry is judged, never goes back: not in the next generation, nor after a restart (rule R3)."""
        cdef memdb_arena_header *header = memdb_arena_get_header(self.arena)
        if time_us > memdb_load64_relaxed(&header.time_floor):
            memdb_store64_relaxed(&header.time_floor, time_us)

    def open(self, uint64_t lsn):
        """Publishes ``lsn`` and lets readers in."""
        memdb_store_open(self.store, lsn)

    def close(self):
        """Lets no new reader in (the arena's header says so); reads under a pin go on."""
        arena_close(self.mapping)

    @property
    def published(self):
        return memdb_load64_acquire(&memdb_arena_get_header(self.arena).published)

    def figures(self):
        """The arena header's figures by name."""
        return arena_figures(self.mapping)

    def reclaim(self, size_t budget=4096):
        """Frees what no reader needs; items left that could go on now."""
        cdef size_t left
        with nogil:
            left = memdb_store_reclaim(self.store, budget)
        return left

    def reclaim_pending(self):
        return bool(memdb_store_reclaim_pending(self.store))

    @property
    def next_expiry(self):
        """Microseconds since 1970 before which no key has expired that is not reaped; None: no key has a time to live."""
        return _next_expiry(memdb_arena_get_header(self.arena))

    def expired(self, uint64_t now_us, size_t max_keys=256):
        """(payload, count): a commit's operations that delete up to ``max_keys`` keys which have expired at ``now_us``, each only if it
        still has when they are committed (``Commit.submit_group``).

        Commit thread; call it when the last batch has been answered: what was not deleted by then is handed out again. A bounded
        number of keys is looked at: count 0 while ``next_expiry <= now_us`` means that there may be more, or that a commit which
        changes them is not yet published. Cost: about a microsecond for a key.
        """
        cdef uint32_t count = 0
        cdef size_t size
        payload = PyBytes_FromStringAndSize(NULL, MEMDB_FRAME_MAX)
        cdef uint8_t *at = <uint8_t *>PyBytes_AS_STRING(payload)
        if max_keys < 1 or max_keys > 65536:
            raise ValueError(f"max_keys is {max_keys}; a batch has 1 to 65536 keys")
        with nogil:
            size = memdb_store_expired(self.store, now_us, max_keys, at, MEMDB_FRAME_MAX, &count)
        return payload[:size], count

    def pinned_bytes(self, uint64_t lsn):
        """Estimate of what only a snapshot at ``lsn`` keeps."""
        return memdb_store_pinned_bytes(self.store, lsn)

    def viewed_bytes(self, Mapping lease not None):
        """What only the zero-copy views of this lease keep: unlinked blocks that they show."""
        return memdb_store_viewed_bytes(self.store, _lease_of(lease))

    def audit(self):
        """[(offset, lsn, problem)]: blocks lost, doubled or not in the books."""
        problems = []
        cdef int status = memdb_store_audit(self.store, _collect_problem, <void *>problems)
        if status != 0 and not problems:
            problems.append((0, 0, "the allocator's books do not balance"))
        return problems


include "records.pxi"
include "reader.pxi"
include "commitloop.pxi"
