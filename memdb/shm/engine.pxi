# engine.pxi: the writer's kernel objects (Store, Commit), a snapshot for tools and the checkpointer (Reader), and the bytes of log
# records and checkpoint blocks. Owner of the C state: the cdef object that made it.
#
# Who: Store and Commit by the commit thread, but Commit.sync_wait, sync_done, sync_stop, sync_request (sync thread) and interrupt (any).
# Invariants: objects keep what they point into alive (Commit -> Store -> arena Mapping; leases while added). Long work runs without
# the GIL. An exception of a write callable is kept and raised by the call that ran the loop; the kernel sees EIO.

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


cdef object _failure(int status, str what):
    if status == MEMDB_FULL:
        return _ArenaFullError(f"{what}: the arena is at its limit (max_memory); raise max_memory or delete keys")
    if status == MEMDB_SHM_FULL:
        return _ArenaFullError(f"{what}: /dev/shm is full; give it more room or lower max_memory")
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

    def ckpt_load(self, payload, uint32_t count):
        """Adds the items of one checked checkpoint block."""
        cdef Py_buffer view
        cdef int status
        PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
        try:
            with nogil:
                status = memdb_ckpt_load(self.store, view.buf, view.len, count)
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


cdef object _replay(memdb_store *store, segment, uint64_t offset, uint64_t salt, uint64_t after_lsn, uint64_t up_to_lsn,
                    memdb_a64 *progress):
    cdef Py_buffer view
    cdef memdb_replay_result r
    cdef int status
    PyObject_GetBuffer(segment, &view, PyBUF_SIMPLE)
    try:
        with nogil:
            status = memdb_replay_segment(store, <const uint8_t *>view.buf, view.len, offset, salt, after_lsn, up_to_lsn, progress, &r)
    finally:
        PyBuffer_Release(&view)
    if status == MEMDB_DAMAGED:
        r.verdict = MEMDB_RECORD_BAD_BODY
    elif status != MEMDB_OK:
        raise _failure(status, f"cannot replay the log behind LSN {r.last_lsn}")
    link = Link(r.link.lsn_limit, r.link.previous_segment, r.link.previous_last_lsn, r.link.previous_last_crc, r.link.term)
    return ReplayResult(r.records, r.first_lsn, r.last_lsn, r.durable_lsn, r.end_offset, r.lsn_limit, r.time_us, r.last_crc,
                        r.verdict, link if r.link.term else None)


def replay_scan(segment, uint64_t offset, uint64_t salt):
    """What Store.replay would find, applied to nothing."""
    return _replay(NULL, segment, offset, salt, 0, MEMDB_LSN_MASK, NULL)


cdef object _record_of(int verdict, memdb_record *r):
    body = PyBytes_FromStringAndSize(<char *>r.body, r.body_len) if r.body != NULL and verdict == MEMDB_RECORD_GOOD else b""
    return Record(verdict, r.offset, r.padded, r.header.type, r.header.op_count, r.header.lsn, r.header.durable_lsn,
                  PyBytes_FromStringAndSize(<char *>r.header.client_id, 16), r.header.request, r.header.time_us, r.header.count,
                  body, r.header.header_crc)


def record_read(segment, uint64_t offset, uint64_t salt):
    """The Record at ``offset`` of a segment's bytes; where its verdict is not RECORD_GOOD, believe only verdict and offset
    (RECORD_BAD_BODY, RECORD_TOO_NEW: the header fields, too)."""
    cdef Py_buffer view
    cdef memdb_record record
    cdef int verdict
    PyObject_GetBuffer(segment, &view, PyBUF_SIMPLE)
    try:
        verdict = memdb_record_read(<const uint8_t *>view.buf, view.len, offset, salt, &record)
        return _record_of(verdict, &record)
    finally:
        PyBuffer_Release(&view)


def record_find(segment, uint64_t offset, uint64_t salt):
    """The first record with a valid header at or behind ``offset``, or None. Its verdict tells about its body."""
    cdef Py_buffer view
    cdef memdb_record record
    cdef int status
    cdef int verdict
    PyObject_GetBuffer(segment, &view, PyBUF_SIMPLE)
    try:
        with nogil:
            status = memdb_record_find(<const uint8_t *>view.buf, view.len, offset, salt, &record)
        if status != MEMDB_OK:
            return None
        verdict = memdb_record_read(<const uint8_t *>view.buf, view.len, record.offset, salt, &record)
        return _record_of(verdict, &record)
    finally:
        PyBuffer_Release(&view)


def torn_like(segment, uint64_t offset, uint64_t end):
    """Does a whole aligned 512-byte sector of zeros lie in [offset, end)?"""
    cdef Py_buffer view
    PyObject_GetBuffer(segment, &view, PyBUF_SIMPLE)
    try:
        return bool(memdb_record_torn_like(<const uint8_t *>view.buf, view.len, offset, end))
    finally:
        PyBuffer_Release(&view)


def last_nonzero(segment, uint64_t offset):
    """Offset behind the last byte that is not zero in [offset, end of segment); ``offset`` if there is none."""
    cdef Py_buffer view
    cdef const uint8_t *at
    cdef uint64_t end
    PyObject_GetBuffer(segment, &view, PyBUF_SIMPLE)
    try:
        at = <const uint8_t *>view.buf
        end = view.len
        with nogil:
            while end > offset and at[end - 1] == 0:
                end -= 1
        return end
    finally:
        PyBuffer_Release(&view)


def parse_ops(body):
    """The operations of a commit record as dicts: op, key (bytes), value or stop (bytes), expires_us, flags."""
    cdef bytes held = bytes(body)
    cdef memdb_ops_reader reader
    cdef memdb_op op
    cdef int status = memdb_ops_begin(&reader, PyBytes_AS_STRING(held), len(held))
    names = {MEMDB_OP_SET: "set", MEMDB_OP_DELETE: "delete", MEMDB_OP_DELETE_RANGE: "delete_range", MEMDB_OP_CHECK: "check"}
    found = []
    while status == MEMDB_OK:
        status = memdb_ops_next(&reader, &op)
        if status == MEMDB_OK:
            found.append({
                "op": names.get(op.code, str(op.code)), "flags": op.flags,
                "key": PyBytes_FromStringAndSize(<char *>op.key, op.key_len),
                "value": PyBytes_FromStringAndSize(<char *>op.value, op.value_len),
                "expires_us": op.expires_us if op.flags & MEMDB_OP_HAS_TTL else 0,
            })
    if status != MEMDB_ABSENT:
        raise _CorruptionError("the operations of a commit do not parse")
    return found


def record_build(uint8_t type, uint64_t lsn, uint64_t durable_lsn, bytes client_id, uint64_t request, uint64_t time_us, uint64_t count,
                 uint32_t op_count, bytes body, *, uint64_t salt, uint64_t offset):
    """The bytes of one sealed record for ``offset`` of a segment with ``salt`` (documents and tests; the writer seals in place)."""
    cdef memdb_record_header header
    cdef bytearray out = bytearray((sizeof(memdb_record_header) + len(body) + 7) // 8 * 8)
    if len(client_id) != 16:
        raise ValueError("a client id has 16 bytes")
    memset(&header, 0, sizeof(header))
    header.size = <uint32_t>(sizeof(header) + len(body))
    header.type = type
    header.op_count = op_count
    header.lsn = lsn
    header.durable_lsn = durable_lsn
    memcpy(header.client_id, PyBytes_AS_STRING(client_id), 16)
    header.request = request
    header.time_us = time_us
    header.count = count
    cdef uint8_t *at = <uint8_t *><char *>out
    memcpy(at, &header, sizeof(header))
    memcpy(at + sizeof(header), PyBytes_AS_STRING(body), len(body))
    memdb_record_seal(at, salt, offset)
    return bytes(out)


def ops_build(operations):
    """The payload of a commit from dicts: op ("set", "delete", "delete_range", "check"), key, and value (or stop), flags, expires_us, if_lsn."""
    codes = {"set": MEMDB_OP_SET, "delete": MEMDB_OP_DELETE, "delete_range": MEMDB_OP_DELETE_RANGE, "check": MEMDB_OP_CHECK}
    cdef memdb_op op
    cdef size_t size
    cdef bytes key, value
    parts = [len(operations).to_bytes(4, "little") + bytes(4)]
    for one in operations:
        key, value = one["key"], one.get("value", b"")
        op.code, op.flags = codes[one["op"]], one.get("flags", 0)
        op.key_len, op.value_len = len(key), len(value)
        op.expires_us, op.if_lsn = one.get("expires_us", 0), one.get("if_lsn", 0)
        op.key, op.value = <const uint8_t *>PyBytes_AS_STRING(key), <const uint8_t *>PyBytes_AS_STRING(value)
        size = memdb_ops_put(NULL, 0, &op)
        part = PyBytes_FromStringAndSize(NULL, size)
        memdb_ops_put(<uint8_t *>PyBytes_AS_STRING(part), size, &op)
        parts.append(part)
    return b"".join(parts)


def lease_submit(Mapping lease, Mapping board, uint32_t cell, uint64_t request, bytes payload, *, int level=MEMDB_LEVEL_OS, int flags=0):
    """Puts one small commit into a lease's ring (the group's own commits, and tests). False: the ring is full."""
    cdef memdb_entry entry
    memset(&entry, 0, sizeof(entry))
    entry.size = <uint32_t>(sizeof(memdb_entry) + len(payload))
    entry.kind = MEMDB_ENTRY_COMMIT
    entry.level, entry.flags = level, flags
    entry.request, entry.cell = request, cell
    if len(payload) > MEMDB_FRAME_MAX:
        raise ValueError(f"one entry holds {MEMDB_FRAME_MAX} bytes")
    return memdb_lease_submit(_lease_of(lease), _board_of(board), &entry, PyBytes_AS_STRING(payload)) == MEMDB_OK


GROUP_CELL = 63  # of the group's own lease: the commit that Commit.submit_group waits for


cdef uint64_t _lease_send(Mapping lease, Mapping board, bytes payload, int level, bint in_group_cell) except? 0:
    cdef memdb_lease *at = _lease_of(lease)
    cdef uint64_t request = max(memdb_load64_relaxed(&at.next_request), <uint64_t>1)
    cdef uint64_t residue = request % MEMDB_CELLS
    if in_group_cell:
        request += MEMDB_CELLS - 1 - residue
    elif residue == MEMDB_CELLS - 1:
        request += 1
    if not lease_submit(lease, board, <uint32_t>(request % MEMDB_CELLS), request, payload, level=level):
        return 0
    memdb_store64_relaxed(&at.next_request, request + 1)
    return request


def lease_send(Mapping lease, Mapping board, bytes payload, *, int level=MEMDB_LEVEL_MEMORY):
    """A small commit of the group's own that nobody waits for, under the lease's next number. False: the ring is full. Commit thread."""
    return _lease_send(lease, board, payload, level, False) != 0


def lease_result(Mapping lease, uint32_t cell):
    """(state, status, request, lsn, count) of a result cell; state 3: done."""
    cdef memdb_result *result = &_lease_of(lease).results[cell % MEMDB_CELLS]
    cdef uint32_t state = memdb_load32_acquire(&result.state) & 0xff
    return (state, <int32_t>memdb_load32_acquire(&result.status), memdb_load64_acquire(&result.request),
            memdb_load64_acquire(&result.lsn), memdb_load64_acquire(&result.count))


# ---- checkpoint blocks ----

CKPT_BLOCK_HEADER = sizeof(memdb_ckpt_block)


def ckpt_seal(uint64_t salt, uint64_t index, uint32_t count, payload):
    """The header bytes of one checkpoint block."""
    cdef Py_buffer view
    cdef memdb_ckpt_block block
    PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
    try:
        with nogil:
            memdb_ckpt_seal(&block, salt, index, count, view.buf, view.len)
        return PyBytes_FromStringAndSize(<char *>&block, sizeof(block))
    finally:
        PyBuffer_Release(&view)


def ckpt_check(buffer, uint64_t offset, uint64_t salt, uint64_t index):
    """(count, payload bytes) of the block at ``offset`` if both its checksums fit, else None."""
    cdef Py_buffer view
    cdef memdb_ckpt_block block
    cdef int status
    cdef const uint8_t *at
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    try:
        if offset > <uint64_t>view.len or <uint64_t>view.len - offset < sizeof(block):
            return None
        at = <const uint8_t *>view.buf + offset
        memcpy(&block, at, sizeof(block))
        with nogil:
            status = memdb_ckpt_check(&block, salt, index, at + sizeof(memdb_ckpt_block),
                                      <uint64_t>view.len - offset - sizeof(memdb_ckpt_block))
        return (block.count, block.bytes) if status == MEMDB_OK else None
    finally:
        PyBuffer_Release(&view)


def batch_items(bytes payload):
    """The items of a scan batch or checkpoint block: [(key, value, lsn, expires_us)] of stored bytes."""
    cdef const uint8_t *at = <const uint8_t *>PyBytes_AS_STRING(payload)
    cdef uint64_t left = len(payload), lsn, expires, size
    cdef uint32_t key_len, value_len
    found = []
    while left >= 24:
        memcpy(&key_len, at, 4)
        memcpy(&value_len, at + 4, 4)
        memcpy(&lsn, at + 8, 8)
        memcpy(&expires, at + 16, 8)
        size = (24 + <uint64_t>key_len + value_len + 7) & ~<uint64_t>7
        if size > left:
            break
        found.append((PyBytes_FromStringAndSize(<char *>at + 24, key_len),
                      PyBytes_FromStringAndSize(<char *>at + 24 + key_len, value_len), lsn, expires))
        at += size
        left -= size
    if left:
        raise _CorruptionError("the items of a block do not parse")
    return found


# ---- a snapshot for tools ----

@cython.no_gc  # as Store: its slot is given back before its mappings go
cdef class Reader:
    """One pinned snapshot of an arena. ``lease``: whose slot it takes (this process's own). Close it.

    One of kind PIN_CHECKPOINT carries expired keys, too, until they are reaped: a commit of the log above it may still find them, if the
    clock is set back, and what it did has to come out the same when it is replayed.
    """

    cdef memdb_pin pin
    cdef bint carries_expired
    cdef memdb_view view
    cdef Mapping arena, lease
    cdef bint open
    cdef readonly unsigned parity

    def __cinit__(self, Mapping arena, unsigned parity, Mapping lease, int kind=MEMDB_PIN_SNAPSHOT):
        cdef memdb_lease *owner = _lease_of(lease)
        cdef uint32_t i
        cdef int status
        self.arena, self.lease, self.parity = arena, lease, parity & 1
        self.carries_expired = kind == MEMDB_PIN_CHECKPOINT
        status = memdb_view_attach(&self.view, _base_of(arena, sizeof(memdb_arena_header), "arena"), arena.size, self.parity)
        if status != MEMDB_OK:
            raise _failure(status, "cannot attach to the arena")
        for i in range(MEMDB_SLOTS):
            if memdb_load64_sc(&owner.slots[self.parity][i].word) >> 62 == MEMDB_SLOT_FREE:
                break
        else:
            raise _failure(MEMDB_NO_SLOT, "all reader slots of this process are in use")
        if memdb_load32_sc(&owner.slots_used) <= i:
            memdb_store32_sc(&owner.slots_used, i + 1)
        status = memdb_pin_begin(&self.pin, &self.view, &owner.slots[self.parity][i], kind)
        if status != MEMDB_OK:
            raise _failure(status, "cannot pin the arena")
        self.open = True
        self._left(memdb_pin_leave(&self.pin))

    cdef int _left(self, int status) except -1:
        if status != MEMDB_OK:
            self.close()
            raise _SnapshotExpired(f"the snapshot at LSN {self.pin.lsn} was revoked", lsn=self.pin.lsn)
        return 0

    @property
    def lsn(self):
        return self.pin.lsn

    @property
    def time_us(self):
        """The snapshot's time, by which expiry is judged."""
        return memdb_pin_time(&self.pin)

    def batches(self, size_t max_bytes=1 << 20, *, bytes start=b"", bytes stop=b""):
        """(payload, count) of all visible items in key order, each payload at most ``max_bytes`` (one larger item: as needed)."""
        return _Batches(self, max_bytes, start, stop)

    @property
    def count(self):
        """Visible keys of all spaces: walks the whole index."""
        return self.count_range()

    def count_range(self, bytes start=b"", bytes stop=b""):
        """Visible keys in [start, stop) of stored keys; all if both are empty."""
        cdef uint64_t found = 0
        cdef int status
        cdef const char *a = start
        cdef const char *b = stop
        cdef size_t a_len = len(start), b_len = len(stop)
        self._check_open()
        self._left(memdb_pin_enter(&self.pin))
        with nogil:
            status = memdb_store_count(&self.pin, a, a_len, b, b_len, &found)
        self._left(memdb_pin_leave(&self.pin))
        if status < 0:
            raise _failure(status, "cannot count")
        return found

    def get(self, bytes key):
        """(value, lsn, expires_us) of a stored key, or None."""
        cdef memdb_found found
        cdef int status
        cdef bytes value = b""
        self._check_open()
        self._left(memdb_pin_enter(&self.pin))
        status = memdb_store_get(&self.pin, PyBytes_AS_STRING(key), len(key), &found)
        if status == MEMDB_OK:
            value = PyBytes_FromStringAndSize(NULL, found.len)
            memdb_copy_out(PyBytes_AS_STRING(value), found.data, found.len)
        self._left(memdb_pin_leave(&self.pin))
        if status < 0:
            raise _failure(status, "cannot read")
        return (value, found.lsn, found.expires_us) if status == MEMDB_OK else None

    def verify(self):
        """[(offset, lsn, problem)]: structure, order, hash and counts as seen from this snapshot; empty if all is well."""
        problems = []
        cdef uint64_t keys = 0
        cdef int status
        self._check_open()
        self._left(memdb_pin_enter(&self.pin))
        with nogil:
            status = memdb_store_verify(&self.pin, _collect_problem, <void *>problems, &keys)
        self._left(memdb_pin_leave(&self.pin))
        if status < 0 and not problems:
            problems.append((0, self.pin.lsn, "the walk met bytes that cannot be"))
        return problems

    def _check_open(self):
        if not self.open:
            raise ValueError("the snapshot is closed")

    def close(self):
        """Gives the slot back."""
        if self.open:
            self.open = False
            memdb_pin_close(&self.pin)

    def __dealloc__(self):
        if self.open and self.lease is not None and self.lease.base != NULL:
            memdb_pin_close(&self.pin)


cdef class _Batches:
    cdef Reader reader
    cdef memdb_scan scan
    cdef size_t max_bytes
    cdef bint begun
    cdef bytes start  # the scan's bounds lie in these
    cdef bytes stop

    def __cinit__(self, Reader reader, size_t max_bytes, bytes start, bytes stop):
        self.reader = reader
        self.start, self.stop = start, stop
        self.max_bytes = max(max_bytes, <size_t>4096)
        if memdb_scan_init(&self.scan, PyBytes_AS_STRING(start), len(start), PyBytes_AS_STRING(stop), len(stop), False,
                           <uint64_t>-1, False) != MEMDB_OK:
            raise MemoryError()
        self.scan.with_expired = reader.carries_expired
        self.begun = True

    def __dealloc__(self):
        if self.begun:
            memdb_scan_clear(&self.scan)

    def __iter__(self):
        return self

    def __next__(self):
        cdef memdb_batch batch
        cdef int status
        cdef size_t room = self.max_bytes
        self.reader._check_open()
        while not self.scan.done:
            out = PyBytes_FromStringAndSize(NULL, room)
            memset(&batch, 0, sizeof(batch))
            batch.out = <uint8_t *>PyBytes_AS_STRING(out)
            batch.cap = room
            batch.max_count = <uint32_t>-1
            self.reader._left(memdb_pin_enter(&self.reader.pin))
            with nogil:
                status = memdb_scan_batch(&self.reader.pin, &self.scan, &batch)
            self.reader._left(memdb_pin_leave(&self.reader.pin))
            if status == MEMDB_BUFFER and batch.count == 0:
                room = batch.needed
                continue
            if status < 0 and status != MEMDB_BUFFER:
                raise _failure(status, "cannot scan the arena")
            if memdb_scan_advance(&self.scan, &batch) != MEMDB_OK:
                raise MemoryError()
            if batch.count == 0:
                break
            return out[:batch.used], batch.count
        raise StopIteration


# ---- the commit loop ----

cdef struct LogTarget:
    int fd          # >= 0: written here
    void *owner     # else: the Commit whose callable writes
    int index


cdef int64_t _write_fd(void *arg, const void *data, uint64_t length, uint64_t offset) noexcept nogil:
    cdef LogTarget *target = <LogTarget *>arg
    cdef ssize_t done
    while True:
        done = c_pwrite(target.fd, data, length, <int64_t>offset)
        if done >= 0:
            return done
        if c_errno != EINTR:
            return -c_errno


cdef int64_t _write_callable(void *arg, const void *data, uint64_t length, uint64_t offset) noexcept nogil:
    with gil:
        return _call_writer(<LogTarget *>arg, data, length, offset)


cdef int64_t _call_writer(LogTarget *target, const void *data, uint64_t length, uint64_t offset) noexcept:
    cdef Commit commit = <Commit>target.owner
    try:
        return commit.writers[target.index](PyBytes_FromStringAndSize(<char *>data, length), offset)
    except OSError as error:
        return -(error.errno or EIO)
    except BaseException as error:
        commit.escaped = error
        return -EIO


@cython.no_gc_clear  # its callables may be part of a cycle; its store and mappings must outlive it
cdef class Commit:
    """The commit loop over one store. ``logbuf`` None: durability none, nothing is logged. ``word``: the GENERATION word that the store
    is shown under, with which what a transaction has read is compared."""

    cdef memdb_commit *commit
    cdef readonly Store store
    cdef Mapping board, logbuf
    cdef LogTarget targets[2]
    cdef Mapping group_lease  # of the group's own commit that is under way
    cdef uint64_t group_request
    cdef list writers
    cdef dict leases
    cdef object escaped

    def __cinit__(self, Store store, Mapping board, Mapping logbuf, *, uint64_t max_transaction_bytes, uint64_t max_key_bytes,
                  uint64_t max_value_bytes, double sync_interval=0.2, uint64_t spin_us=50, uint64_t lsn_step=1 << 20,
                  uint32_t quota=64, uint64_t last_lsn=0, uint64_t word=0):
        cdef memdb_commit_config config
        cdef int status
        self.store, self.board, self.logbuf = store, board, logbuf
        self.writers, self.leases = [None, None], {}
        memset(&config, 0, sizeof(config))
        config.max_transaction_bytes = max_transaction_bytes
        config.max_key_bytes = max_key_bytes
        config.max_value_bytes = max_value_bytes
        config.sync_interval_us = <uint64_t>(sync_interval * 1e6)
        config.spin_us = spin_us
        config.lsn_step = lsn_step
        config.quota = quota
        config.word = word
        config.logged = logbuf is not None
        status = memdb_commit_new(&self.commit, store.store, store.scanner, _board_of(board),
                                  NULL if logbuf is None else _logbuf_of(logbuf), &config, last_lsn)
        if status != MEMDB_OK:
            raise _failure(status, "cannot start the commit loop")

    def __dealloc__(self):
        if self.commit != NULL:
            memdb_commit_free(self.commit)

    cdef int _settle(self) except -1:
        if self.escaped is not None:
            escaped, self.escaped = self.escaped, None
            raise escaped
        return 0

    def add_lease(self, Mapping lease, bint system=False):
        """Takes commits from this lease; ``system``: it may write spaces other than the mapping's."""
        cdef int status = memdb_commit_add_lease(self.commit, _lease_of(lease))
        if status != MEMDB_OK:
            raise _failure(status, "cannot take up the lease")
        if system:
            memdb_commit_allow_system(self.commit, _lease_of(lease))
        self.leases[lease.address] = lease

    def remove_lease(self, Mapping lease):
        """Ends a lease: what its client had published is committed by the steps that follow."""
        if self.leases.pop(lease.address, None) is not None:
            memdb_commit_remove_lease(self.commit, _lease_of(lease))

    def submit_group(self, Mapping lease, bytes payload, int level=MEMDB_LEVEL_MEMORY):
        """Puts the operations into the ring of the group's own lease as one commit, to be taken by the steps that follow.

        One at a time: ``group_done`` says when it has been answered. False: the ring is full, nothing was sent. ValueError: the last
        one is not done, or the payload is above the 64 KiB of one entry. Commit thread.
        """
        if not self.group_done():
            raise ValueError("the group's last commit has not been answered; look at group_done() first")
        self.group_request = _lease_send(lease, self.board, payload, level, True)
        self.group_lease = lease if self.group_request else None
        return self.group_request != 0

    def take_group(self, Mapping lease):
        """Decides what ``submit_group`` has put there now, out of turn, also while another commit waits for room. A status, or minus an EVENT."""
        cdef const memdb_lease *at = _lease_of(lease)
        cdef int status
        with nogil:
            status = memdb_commit_take_now(self.commit, at)
        self._settle()
        return status

    def group_done(self):
        """Whether the commit of ``submit_group`` has been answered; True if there was none. Its answer: ``lease_result`` of GROUP_CELL."""
        cdef memdb_result *result
        if self.group_lease is None:
            return True
        result = &_lease_of(self.group_lease).results[MEMDB_CELLS - 1]
        if memdb_load64_acquire(&result.request) == self.group_request and memdb_load32_acquire(&result.state) & 0xff != MEMDB_CELL_DONE:
            return False
        self.group_lease = None
        return True

    cdef memdb_log_write_fn _target(self, uint64_t segment, object write) except NULL:
        cdef LogTarget *target = &self.targets[segment & 1]
        target.owner = <void *>self
        target.index = segment & 1
        if isinstance(write, int):
            target.fd = write
            self.writers[target.index] = None
            return _write_fd
        target.fd = -1
        self.writers[target.index] = write
        return _write_callable

    def open_segment(self, uint64_t segment, uint64_t salt, uint64_t capacity, bytes header, link, write):
        """Goes on in a new segment; ``link`` a Link, ``write`` a descriptor or a callable (bytes, offset) -> count. A status."""
        cdef memdb_link_body body
        cdef memdb_log_write_fn function = self._target(segment, write)
        cdef int status
        if len(header) != MEMDB_SEGMENT_HEADER:
            raise ValueError(f"a segment header has {MEMDB_SEGMENT_HEADER} bytes")
        body.lsn_limit, body.previous_segment, body.previous_last_lsn, body.previous_last_crc, body.term = link
        status = memdb_commit_open_segment(self.commit, segment, salt, capacity, PyBytes_AS_STRING(header), MEMDB_SEGMENT_HEADER,
                                           &body, function, &self.targets[segment & 1])
        self._settle()
        return status

    def resume_segment(self, uint64_t segment, write):
        """Goes on in the log buffer's current segment, writing first what the file lacks (rule C4). A status."""
        cdef int status = memdb_commit_resume_segment(self.commit, self._target(segment, write), &self.targets[segment & 1])
        self._settle()
        return status

    def run(self, double deadline):
        """Works until an event (EVENT_…) or the monotonic time ``deadline`` in seconds."""
        cdef uint64_t until = <uint64_t>(max(deadline, 0.0) * 1e6)
        cdef int event
        with nogil:
            event = memdb_commit_run(self.commit, until)
        self._settle()
        return event

    def step(self):
        """One round without waiting: how much was done, or minus an EVENT."""
        cdef int done
        with nogil:
            done = memdb_commit_step(self.commit)
        self._settle()
        return done

    def flush(self):
        """Writes all that was appended. A status."""
        cdef int status
        with nogil:
            status = memdb_commit_flush(self.commit)
        self._settle()
        return status

    def mark(self):
        """Appends and writes a mark. A status."""
        cdef int status
        with nogil:
            status = memdb_commit_mark(self.commit)
        self._settle()
        return status

    def interrupt(self):
        """Any thread: run returns EVENT_CONTROL."""
        memdb_commit_interrupt(self.commit)

    def pressure_done(self, bint retry):
        memdb_commit_pressure_done(self.commit, retry)

    def close_intake(self, bint closed):
        """Takes nothing more from the rings, or takes again."""
        memdb_commit_close_intake(self.commit, closed)

    def read_only(self, int status):
        """Refuses writes with this status; 0 takes them again."""
        memdb_commit_read_only(self.commit, status)

    def set_lsn(self, uint64_t last_lsn, uint64_t limit):
        memdb_commit_set_lsn(self.commit, last_lsn, limit)

    def reset_dirty(self):
        memdb_commit_reset_dirty(self.commit)

    def figures(self):
        """The loop's figures by name."""
        cdef memdb_commit_figures f
        memdb_commit_get_figures(self.commit, &f)
        return f

    # -- the sync thread --

    def sync_wait(self, double timeout):
        """The next SyncJob, None if none came in ``timeout`` seconds. EOFError: the thread is to end."""
        cdef memdb_sync_job job
        cdef int status
        cdef uint64_t wait_us = <uint64_t>(timeout * 1e6)
        with nogil:
            status = memdb_sync_wait(self.commit, &job, wait_us)
        if status == MEMDB_STOPPED:
            raise EOFError("the commit loop has ended")
        return SyncJob(job.segment, job.bytes, job.lsn) if status == MEMDB_OK else None

    def sync_done(self, job, int error):
        """Reports a finished job: 0 or an errno."""
        cdef memdb_sync_job done
        done.segment, done.bytes, done.lsn = job
        memdb_sync_done(self.commit, &done, error)

    def sync_request(self):
        memdb_sync_request(self.commit)

    def sync_stop(self):
        """Makes sync_wait raise EOFError."""
        memdb_sync_stop(self.commit)
