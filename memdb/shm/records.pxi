# records.pxi: the log's records and checkpoints' blocks as Python sees them: reading, building, judging, and requests as tests send them.
#
# Owns: nothing. Pure functions over buffers, but lease_submit and lease_send, which write into a lease (one thread at a time for each).

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
