# mapping.pxi: segments mapped into this process, and the small shared structures that Python reads or formats (board, page, lease
# and log buffer headers). Owner of a mapping: the Mapping object; other cdef classes keep a reference to it and use `base`.
#
# Invariants: a Mapping never unmaps while a buffer of it is exported or another object holds it; words that other processes store
# are read by the orders of atomics.h, never as plain bytes. A mapping that fork did not copy is never unmapped by the child, whose
# address space may have something else there.

import errno as _errno
import os as _os

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer, PyBUF_SIMPLE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport errno as c_errno
from libc.string cimport memcpy, memset

cimport cython

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *, size_t, int, int, int, int64_t)
    int munmap(void *, size_t)
    int madvise(void *, size_t, int)
    void *MAP_FAILED
    int PROT_NONE, PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_SHARED, MAP_ANONYMOUS, MAP_NORESERVE, MADV_DONTFORK, MADV_DONTDUMP

cdef extern from "hugepage.h":
    enum:
        C_HUGE_PAGE "MEMDB_HUGE_PAGE"

cdef extern from "<fcntl.h>" nogil:
    int c_fallocate "fallocate"(int, int, int64_t, int64_t)
    int FALLOC_FL_PUNCH_HOLE, FALLOC_FL_KEEP_SIZE


cdef void *map_aligned_place(size_t size) noexcept:
    """Where a large segment could lie so that huge pages fit; NULL: anywhere. Only a hint: another thread may be faster."""
    cdef size_t room = size + C_HUGE_PAGE
    cdef void *found
    if size < 2 * C_HUGE_PAGE:
        return NULL
    found = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if found == MAP_FAILED:
        return NULL
    munmap(found, room)
    return <void *>((<size_t>found + C_HUGE_PAGE - 1) & ~<size_t>(C_HUGE_PAGE - 1))


cdef class Mapping:
    """One segment mapped with MAP_SHARED. ``fork_private``: a child of a fork does not have it. Never in core dumps."""

    cdef uint8_t *base
    cdef readonly size_t size
    cdef readonly bint writable
    cdef bint fork_private
    cdef int forks
    cdef int exports

    def __cinit__(self, int fd, size_t size, *, bint writable, bint fork_private=False):
        cdef int protection = PROT_READ | (PROT_WRITE if writable else 0)
        cdef int flags = MAP_SHARED | MAP_NORESERVE | (MAP_ANONYMOUS if fd < 0 else 0)
        cdef void *at
        if size == 0:
            raise ValueError("a mapping has at least one byte")
        at = mmap(map_aligned_place(size), size, protection, flags, fd, 0)
        if at == MAP_FAILED:
            raise OSError(c_errno, f"cannot map {size} bytes of descriptor {fd}: {_os.strerror(c_errno)}")
        self.base = <uint8_t *>at
        self.size = size
        self.writable = writable
        self.fork_private = fork_private
        self.forks = fork_count
        if fork_private:
            madvise(at, size, MADV_DONTFORK)
        madvise(at, size, MADV_DONTDUMP)

    @classmethod
    def anonymous(cls, size_t size):
        """Zeroed memory that only this process and its later children have."""
        return cls(-1, size, writable=True)

    @property
    def address(self):
        """Where it is mapped in this process; 0 once closed."""
        return <size_t>self.base

    @property
    def closed(self):
        return self.base == NULL

    def close(self):
        """Unmaps. BufferError while a buffer of it is in use. The caller has ended all that uses the address."""
        if self.exports:
            raise BufferError(f"{self.exports} buffers of this mapping are still in use")
        self.unmap()

    cdef void unmap(self) noexcept:
        if self.base != NULL and not (self.fork_private and self.forks != fork_count):
            munmap(self.base, self.size)
        self.base = NULL

    def __dealloc__(self):
        self.unmap()

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.base == NULL:
            raise BufferError("the mapping is closed")
        PyBuffer_FillInfo(view, self, self.base, <Py_ssize_t>self.size, not self.writable, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *view):
        self.exports -= 1


cdef uint8_t *mapping_base(Mapping mapping) except NULL:
    """Where a mapping begins: what the other parts of this module point into. ValueError once closed."""
    return _base_of(mapping, 1, "segment")


cdef inline size_t mapping_size(Mapping mapping):
    return mapping.size


cdef uint8_t *_base_of(Mapping mapping, size_t needed, str what) except NULL:
    if mapping is None or mapping.base == NULL:
        raise ValueError(f"the mapping of the {what} is closed")
    if mapping.size < needed:
        raise ValueError(f"the mapping of the {what} has {mapping.size} bytes, {needed} are needed")
    return mapping.base


# ---- sizes ----

def lease_bytes():
    """Bytes of a lease segment."""
    return (sizeof(memdb_lease) + 4095) // 4096 * 4096


def board_bytes():
    """Bytes of the board segment."""
    return (sizeof(memdb_board) + 4095) // 4096 * 4096


def page_bytes():
    """Bytes of the GENERATION file."""
    return 4096


def logbuf_bytes(uint64_t half):
    """Bytes of a log buffer whose halves hold ``half`` bytes each (>= the largest segment)."""
    return memdb_logbuf_bytes(half)


def layout_version():
    """MEMDB_LAYOUT: attach compares it."""
    return MEMDB_LAYOUT


# ---- lease ----

cdef memdb_lease *_lease_of(Mapping mapping) except NULL:
    return <memdb_lease *>_base_of(mapping, sizeof(memdb_lease), "lease")


def lease_init(Mapping mapping, bytes client_id):
    """Formats a lease for the client of this id (16 bytes)."""
    if len(client_id) != 16:
        raise ValueError("a client id has 16 bytes")
    memdb_lease_init(_lease_of(mapping), <const uint8_t *>PyBytes_AS_STRING(client_id))


def lease_client(Mapping mapping):
    """The client id of a lease."""
    return PyBytes_FromStringAndSize(<char *>_lease_of(mapping).client_id, 16)


def lease_readers(Mapping mapping, unsigned parity):
    """Pinned slots of a lease as (slot, state, lsn, since_us, kind): state 1 idle, 2 active, 3 revoked."""
    cdef memdb_lease *lease = _lease_of(mapping)
    cdef uint32_t used = memdb_load32_sc(&lease.slots_used)
    cdef uint64_t word
    cdef uint32_t i
    found = []
    for i in range(min(used, <uint32_t>MEMDB_SLOTS)):
        word = memdb_load64_sc(&lease.slots[parity & 1][i].word)
        if word >> 62:
            found.append((i, word >> 62, word & MEMDB_LSN_MASK, memdb_load64_relaxed(&lease.slots[parity & 1][i].since),
                          memdb_load64_relaxed(&lease.slots[parity & 1][i].kind) & 0xff))
    return found


def lease_hazards(Mapping mapping, unsigned parity):
    """How many zero-copy views of this lease stand in the arena of ``parity``."""
    cdef memdb_lease *lease = _lease_of(mapping)
    cdef uint32_t i, found = 0
    for i in range(min(memdb_load32_sc(&lease.hazards_used), <uint32_t>MEMDB_HAZARDS)):
        found += memdb_load64_sc(&lease.hazards[parity & 1][i]) != 0
    return found


def lease_revoke(Mapping mapping, unsigned parity, uint32_t slot, uint64_t lsn):
    """Revokes one slot if it still pins ``lsn``. True if this call did it."""
    cdef memdb_lease *lease = _lease_of(mapping)
    cdef uint64_t word
    if slot >= MEMDB_SLOTS:
        raise ValueError(f"slot {slot} of {MEMDB_SLOTS}")
    word = memdb_load64_sc(&lease.slots[parity & 1][slot].word)
    if (word >> 62) not in (MEMDB_SLOT_IDLE, MEMDB_SLOT_ACTIVE) or (word & MEMDB_LSN_MASK) != lsn:
        return False
    return bool(memdb_slot_revoke(&lease.slots[parity & 1][slot], word))


def lease_revoke_idle(Mapping mapping, unsigned parity, uint32_t slot, uint64_t lsn):
    """Revokes one slot if it still pins ``lsn`` and no read is under way in it. True if this call did it.

    Such a slot needs no acknowledgement: its owner can't read again before it has noticed (rule R6).
    """
    cdef memdb_lease *lease = _lease_of(mapping)
    cdef uint64_t word
    if slot >= MEMDB_SLOTS:
        raise ValueError(f"slot {slot} of {MEMDB_SLOTS}")
    word = memdb_load64_sc(&lease.slots[parity & 1][slot].word)
    if (word >> 62) != MEMDB_SLOT_IDLE or (word & MEMDB_LSN_MASK) != lsn:
        return False
    return bool(memdb_slot_revoke(&lease.slots[parity & 1][slot], word))


# ---- board ----

cdef uint64_t _BOARD_MAGIC = 0x4452424244454d4d

cdef memdb_board *_board_of(Mapping mapping) except NULL:
    return <memdb_board *>_base_of(mapping, sizeof(memdb_board), "board")


def board_init(Mapping mapping):
    """Formats the board."""
    cdef memdb_board *board = _board_of(mapping)
    memset(board, 0, sizeof(memdb_board))
    board.layout = MEMDB_LAYOUT
    board.magic = _BOARD_MAGIC


def board_words(Mapping mapping):
    """The board's words by name."""
    cdef memdb_board *board = _board_of(mapping)
    return {
        "writer_lsn": memdb_load64_relaxed(&board.writer_lsn), "writer_pid": memdb_load64_relaxed(&board.writer_pid),
        "phase": memdb_load64_relaxed(&board.phase), "clients": memdb_load64_relaxed(&board.clients),
        "progress_done": memdb_load64_relaxed(&board.progress_done),
        "progress_total": memdb_load64_relaxed(&board.progress_total),
    }


def board_set(Mapping mapping, **words):
    """Stores words of the board by name: writer_pid, phase, progress_done, progress_total, clients."""
    cdef memdb_board *board = _board_of(mapping)
    for name, value in words.items():
        if name == "writer_pid":
            memdb_store64_relaxed(&board.writer_pid, value)
        elif name == "phase":
            memdb_store64_relaxed(&board.phase, value)
        elif name == "progress_done":
            memdb_store64_relaxed(&board.progress_done, value)
        elif name == "progress_total":
            memdb_store64_relaxed(&board.progress_total, value)
        elif name == "clients":
            memdb_store64_relaxed(&board.clients, value)
        else:
            raise TypeError(f"the board has no settable word {name!r}")


def bell_ring(Mapping board):
    """Wakes a parked writer."""
    memdb_bell_ring(_board_of(board))


# ---- GENERATION page ----

cdef uint64_t _PAGE_MAGIC = 0x4e454742444d454d  # "MEMDBGEN"

cdef memdb_generation_page *_page_of(Mapping mapping) except NULL:
    return <memdb_generation_page *>_base_of(mapping, sizeof(memdb_generation_page), "GENERATION page")


def page_init(Mapping mapping, bytes group_id):
    """Formats the page for a group (16 bytes) with no generation yet; a word that clients see changes only by page_store."""
    cdef memdb_generation_page *page = _page_of(mapping)
    if len(group_id) != 16:
        raise ValueError("a group id has 16 bytes")
    memcpy(page.group_id, PyBytes_AS_STRING(group_id), 16)
    page.layout = MEMDB_LAYOUT
    page.magic = _PAGE_MAGIC


def page_check(Mapping mapping):
    """(magic fits, layout, group id)."""
    cdef memdb_generation_page *page = _page_of(mapping)
    return page.magic == _PAGE_MAGIC, page.layout, PyBytes_FromStringAndSize(<char *>page.group_id, 16)


def page_word(Mapping mapping):
    """attach epoch << 32 | generation; 0 = none."""
    return memdb_load64_acquire(&_page_of(mapping).word)  # SYNC: generation


def page_store(Mapping mapping, uint64_t word):
    """Who loads it with acquire sees all of the arena that it names."""
    memdb_store64_release(&_page_of(mapping).word, word)  # SYNC: generation


# ---- log buffer ----

cdef memdb_logbuf *_logbuf_of(Mapping mapping) except NULL:
    return <memdb_logbuf *>_base_of(mapping, sizeof(memdb_logbuf), "log buffer")


def logbuf_init(Mapping mapping, uint64_t half):
    """Formats the log buffer."""
    _base_of(mapping, memdb_logbuf_bytes(half), "log buffer")
    memdb_logbuf_init(_logbuf_of(mapping), half)


def logbuf_words(Mapping mapping):
    """{"current", "half_bytes", "halves": [{"segment", "salt", "tail", …}, …]}. SYNC: log-current, log-tail (acquire)."""
    cdef memdb_logbuf *logbuf = _logbuf_of(mapping)
    cdef memdb_logbuf_half *half
    cdef int i
    halves = []
    for i in range(2):
        half = &logbuf.half[i]
        halves.append({
            "segment": memdb_load64_acquire(&half.segment), "salt": memdb_load64_acquire(&half.salt),
            "tail": memdb_load64_acquire(&half.tail), "written": memdb_load64_acquire(&half.written),
            "synced": memdb_load64_acquire(&half.synced), "last_lsn": memdb_load64_acquire(&half.last_lsn),
            "lsn_limit": memdb_load64_acquire(&half.lsn_limit), "capacity": memdb_load64_acquire(&half.capacity),
        })
    return {"current": memdb_load64_acquire(&logbuf.current), "half_bytes": logbuf.half_bytes, "halves": halves}


def logbuf_image(Mapping mapping, uint64_t segment):
    """A memoryview of the half that holds ``segment``: believe only what lies below its tail."""
    cdef memdb_logbuf *logbuf = _logbuf_of(mapping)
    cdef size_t start = memdb_logbuf_image(logbuf, segment) - mapping.base
    return memoryview(mapping)[start:start + logbuf.half_bytes]


# ---- arena ----

cdef memdb_arena_header *_arena_of(Mapping mapping) except NULL:
    return <memdb_arena_header *>_base_of(mapping, sizeof(memdb_arena_header), "arena")


cdef object _next_expiry(memdb_arena_header *header):
    cdef uint64_t next = memdb_load64_acquire(&header.next_expiry)
    return None if next == <uint64_t>-1 else next


def arena_figures(Mapping mapping):
    """The figures of an arena's header by name; each may be a little old. ``next_expiry``: microseconds, or None."""
    cdef memdb_arena_header *h = _arena_of(mapping)
    return {
        "generation": h.generation, "size": h.size, "limit": h.limit, "hash_seed": h.hash_seed,
        "ready": memdb_load64_acquire(&h.ready), "published": memdb_load64_acquire(&h.published),
        "applied": memdb_load64_relaxed(&h.applied), "synced": memdb_load64_relaxed(&h.synced),
        "time_floor": memdb_load64_relaxed(&h.time_floor), "min_pinned": memdb_load64_relaxed(&h.min_pinned),
        "used_bytes": memdb_load64_relaxed(&h.used_bytes), "retired_bytes": memdb_load64_relaxed(&h.retired_bytes),
        "reserved_bytes": memdb_load64_relaxed(&h.reserved_bytes), "free_bytes": memdb_load64_relaxed(&h.free_bytes),
        "hash_bytes": memdb_load64_relaxed(&h.hash_bytes), "headers": memdb_load64_relaxed(&h.headers),
        "blocks": memdb_load64_relaxed(&h.blocks), "cells": memdb_load64_relaxed(&h.cells),
        "versions": memdb_load64_relaxed(&h.versions), "expiring": memdb_load64_relaxed(&h.expiring),
        "expiry_bytes": memdb_load64_relaxed(&h.expiry_bytes), "next_expiry": _next_expiry(h),
        "counts": [memdb_load64_relaxed(&h.counts[i]) for i in range(MEMDB_SPACES)],
    }


def arena_close(Mapping mapping):
    """Tears an arena down for new pins: published = 0 (seq_cst: a pin that was announced before is seen by a later scan)."""
    cdef memdb_arena_header *header = _arena_of(mapping)
    memdb_store64_sc(&header.published, 0)
    memdb_store64_release(&header.ready, 0)


def punch(int fd, int64_t offset, int64_t length):
    """Gives a range of a segment back to the kernel; it reads as zeros afterwards. Nobody may still read it (rule R6)."""
    if c_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length) != 0:
        raise OSError(c_errno, f"cannot give back {length} bytes of a segment: {_os.strerror(c_errno)}")


def clock_us():
    """Microseconds since 1970."""
    return memdb_clock_us()


def crc32c(data, uint32_t start=0):
    """CRC-32C of a buffer, continuing from ``start``."""
    cdef Py_buffer view
    cdef uint32_t crc
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        with nogil:
            crc = memdb_crc32c(start, view.buf, view.len)
    finally:
        PyBuffer_Release(&view)
    return crc


def crc32c_path():
    """How CRC-32C is computed on this processor."""
    return memdb_crc32c_path().decode()
