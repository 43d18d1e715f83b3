# Reading: point reads, batches of them, ordered scans; of the newest state (Handle) and of one point in time (Snapshot).
#
# Invariants:
#  - What was read is believed after the pin's CAS (rule R2), and decoded after that, from private copies.
#  - Inside a pin nothing runs Python code: keys are encoded before it, lists made before it, values decoded after it.
#  - Damage is reported only where the pin held; a revoked point read is read again, a revoked snapshot is SnapshotExpired.

cdef enum:
    MANY_AT_ONCE = 256

cdef enum ManyKind:        # what get_many() is given, and gives
    MANY_VALUES = 0
    MANY_LAYER_VALUES = 1  # keys are a layer's, in stored form
    MANY_LAYER_PAYLOADS = 2


cdef PyObject *value_copy(const c_found *found, int *codec) noexcept:
    """A private copy of the payload. NULL: codec -1, no value can be so short; codec -2, no memory."""
    cdef Py_ssize_t size = <Py_ssize_t>found.len - 1
    cdef uint64_t last
    cdef PyObject *data
    codec[0] = -1
    if size < 0:
        return NULL
    data = c_bytes_new(NULL, size)
    if data == NULL:
        PyErr_Clear()
        codec[0] = -2
        return NULL
    c_copy_out(c_bytes_data(data), found.data, <size_t>size)
    last = c_load_relaxed(found.data + (size >> 3))
    codec[0] = (<uint8_t *>&last)[size & 7]
    return data


cdef object damaged_value(int codec, uint64_t lsn):
    if codec == -2:
        return MemoryError("no memory for a copy of the value")
    what = "is empty" if codec == -1 else f"has the unknown codec byte {codec}"
    return CorruptionError(f"a stored value {what}; run check()", "arena", None, lsn or None)


cdef object damaged_arena(uint64_t lsn):
    return CorruptionError("the arena holds bytes that can't be; run check(), and compact() to build it anew", "arena",
                           None, lsn or None)


cdef class Reads:
    """What a database handle and a snapshot have in common. Not for use on its own."""

    cdef object encode_value
    cdef object unpack_value

    cdef int read(self, KeyBytes *key, bint copy, c_found *found, PyObject **data, int *codec) except -100:
        raise NotImplementedError

    cdef PinRef pin_for_scan(self):
        """The pin of a scan, ACTIVE; its own, or one shared with a snapshot."""
        raise NotImplementedError

    cdef object fetch(self, object key, object missing):
        cdef KeyBytes encoded
        cdef c_found found
        cdef PyObject *data = NULL
        cdef int rc, codec = 0
        if key_encode(&encoded, key, C_SPACE_PLAIN):
            return missing
        try:
            rc = self.read(&encoded, True, &found, &data, &codec)
        finally:
            key_free(&encoded)
        if rc == C_ABSENT:
            return missing
        return self.finish(data, codec, found.lsn)

    cdef object finish(self, PyObject *data, int codec, uint64_t lsn):
        """The value of a copied payload, whose reference this takes."""
        if data == NULL:
            raise damaged_value(codec, lsn)
        value = <object>data
        c_decref(data)
        if codec == 0:
            return value
        if codec == 1:
            return self.unpack_value(value)
        raise damaged_value(codec, lsn)

    def get(self, key, default=None):
        """The value of *key*, or *default*.

        Raises UnsupportedType, ClosedError. Cost: one probe of a hash index in shared memory, without a lock or a system
        call; about 0.3 µs for bytes.

        >>> db.get("user:1", {})
        {'name': 'Alice'}
        """
        return self.fetch(key, default)

    def __getitem__(self, key):
        value = self.fetch(key, _ABSENT)
        if value is _ABSENT:
            raise KeyError(key)
        return value

    def __contains__(self, key):
        cdef KeyBytes encoded
        cdef c_found found
        cdef PyObject *data = NULL
        cdef int codec = 0
        if key_encode(&encoded, key, C_SPACE_PLAIN):
            return False
        try:
            return self.read(&encoded, False, &found, &data, &codec) == C_OK
        finally:
            key_free(&encoded)

    def exists(self, key):
        """Whether *key* is there: ``key in db`` as a call. Raises UnsupportedType, ClosedError. Cost: as ``get``.

        >>> db.exists("user:1")
        True
        """
        return key in self

    def _entry(self, key):
        """(value, version, expires_us) or None; expires_us 0: never."""
        cdef KeyBytes encoded
        cdef c_found found
        cdef PyObject *data = NULL
        cdef int rc, codec = 0
        if key_encode(&encoded, key, C_SPACE_PLAIN):
            return None
        try:
            rc = self.read(&encoded, True, &found, &data, &codec)
        finally:
            key_free(&encoded)
        if rc == C_ABSENT:
            return None
        return self.finish(data, codec, found.lsn), found.lsn, found.expires_us

    def get_many(self, keys, default=None):
        """The values of *keys* in their order, *default* for those that are missing: all of one point in time.

        Raises UnsupportedType, ClosedError. Cost: cache misses of up to 256 keys overlap; about 0.1 µs a key.

        >>> db.get_many(["a", "b"], 0)
        [1, 0]
        """
        return self.get_all(keys, default, MANY_VALUES)

    cdef list get_all(self, object keys, object default, ManyKind kind):
        """The values of *keys*, or their payloads, all of one point in time."""
        cdef Keys encoded = Keys(keys) if kind == MANY_VALUES else layer_keys(keys)
        cdef list values = [default] * encoded.count
        cdef list packed = self.read_many(encoded, values)
        if kind != MANY_LAYER_PAYLOADS:
            for index in packed:
                values[index] = self.unpack_value(values[index])
        return values

    cdef list read_many(self, Keys keys, list values):
        """Puts payloads into *values*; the indexes of those still to be unpacked."""
        raise NotImplementedError

    def range(self, start=None, stop=None, *, prefix=None, reverse=False, limit=None):
        """Iterates over (key, value) in key order, from *start* (inclusive) to *stop* (exclusive), over one snapshot.

        *prefix*: of str or bytes the leading characters, of a tuple the leading elements; with *start* or *stop* the
        part that both cover. *limit*: items at most. The snapshot is taken at the first ``next`` and given back at the
        end, at ``close()`` or on collection. Raises UnsupportedType, ValueError; while iterating SnapshotExpired if
        the snapshot was revoked. Cost: a descent of about 1 µs, then about 0.1 µs an item and what its objects cost.

        >>> list(db.range("user:", "user;", limit=2))
        [('user:1', {'name': 'Alice'}), ('user:2', {'name': 'Bob'})]
        """
        return make_scan(self, SCAN_ITEMS, start, stop, prefix, reverse, limit)

    def _scan(self, int kind, start=None, stop=None, prefix=None, reverse=False, limit=None):
        """range() of items (0), keys (1) or values (2)."""
        return make_scan(self, kind, start, stop, prefix, reverse, limit)

    def _count(self, start=None, stop=None, prefix=None):
        """How many keys lie in the range, at one point in time. Cost: a walk over their blocks."""
        cdef Bounds bounds = make_bounds(start, stop, prefix)
        cdef PinRef pin
        cdef uint64_t count = 0
        cdef int rc
        pin = self.pin_for_scan()
        rc = C_OK
        if not bounds.empty:
            rc = c_store_count(&pin.pin, bounds.start_at, bounds.start_size, bounds.stop_at, bounds.stop_size, &count)
        pin.leave_scan(True)
        if rc == C_DAMAGED:
            raise damaged_arena(pin.pin.lsn)
        return count


cdef object _ABSENT = object()


cdef class Keys:
    """Many stored keys, one behind the other."""

    cdef uint8_t *at
    cdef uint32_t *ends
    cdef size_t size
    cdef size_t capacity
    cdef Py_ssize_t count
    cdef Py_ssize_t room

    def __cinit__(self, keys):
        cdef KeyBytes encoded
        if isinstance(keys, (str, bytes)):
            raise TypeError(f"keys must be an iterable of keys, not {type(keys).__name__}: put one key into a list")
        for key in keys:
            if key_encode(&encoded, key, C_SPACE_PLAIN):
                encoded.size = 0  # no stored key is so long: an empty one is never found
            try:
                self.add(&encoded)
            finally:
                key_free(&encoded)

    cdef int add(self, KeyBytes *key) except -1:
        cdef void *grown
        if self.size + key.size > <size_t>0xffffffff:
            raise TransactionTooLarge("more than 4 GiB of keys in one call; ask for fewer at once")
        if self.size + key.size > self.capacity:
            capacity = max(2 * self.capacity, self.size + key.size + 4096)
            grown = realloc(self.at, capacity)
            if grown == NULL:
                raise MemoryError()
            self.at, self.capacity = <uint8_t *>grown, capacity
        if self.count == self.room:
            room = 2 * self.room + 64
            grown = realloc(self.ends, room * sizeof(uint32_t))
            if grown == NULL:
                raise MemoryError()
            self.ends, self.room = <uint32_t *>grown, room
        memcpy(self.at + self.size, key.at, key.size)
        self.size += key.size
        self.ends[self.count] = <uint32_t>self.size
        self.count += 1
        return 0

    def __dealloc__(self):
        free(self.at)
        free(self.ends)


cdef int read_batch(c_pin *pin, Keys keys, list values, uint8_t *codecs, uint64_t *bad_lsn, uint64_t *seen) noexcept:
    """All of *keys* inside an active pin. OK or DAMAGED. Puts payloads into *values*, and their codecs beside.

    *seen* (or NULL) gets of each key the LSN of its version, 0 if there is none, and its expiry.
    """
    cdef c_found found[MANY_AT_ONCE]
    cdef uint32_t ends[MANY_AT_ONCE]
    cdef Py_ssize_t first = 0, n, i
    cdef uint32_t base = 0
    cdef int rc, codec = 0, status = C_OK
    cdef PyObject *data
    while first < keys.count:
        n = min(<Py_ssize_t>MANY_AT_ONCE, keys.count - first)
        for i in range(n):
            ends[i] = keys.ends[first + i] - base
            found[i].data = NULL
        rc = c_store_get_many(pin, keys.at + base, ends, <size_t>n, found)
        if rc < 0:
            return rc
        for i in range(n):
            codecs[first + i] = 255
            if seen != NULL:
                seen[2 * (first + i)] = 0 if found[i].data == NULL else found[i].lsn
                seen[2 * (first + i) + 1] = 0 if found[i].data == NULL else found[i].expires_us
            if found[i].data == NULL:
                continue
            data = value_copy(&found[i], &codec)
            if data == NULL:
                bad_lsn[0] = found[i].lsn
                status = C_DAMAGED
                continue
            codecs[first + i] = <uint8_t>codec
            value = <object>data
            c_decref(data)
            values[first + i] = value
        base = keys.ends[first + n - 1]
        first += n
    return status


cdef list codec_indexes(const uint8_t *codecs, Py_ssize_t count):
    cdef list packed = []
    cdef Py_ssize_t i
    for i in range(count):
        if codecs[i] == 1:
            packed.append(i)
        elif codecs[i] != 0 and codecs[i] != 255:
            raise damaged_value(codecs[i], 0)
    return packed


@cython.freelist(8)
@cython.no_gc
cdef class PinRef:
    """One snapshot's place among the reader slots of the lease."""

    cdef Client client
    cdef Mapping arena        # where it stands: the client may have gone on to another segment
    cdef c_pin pin
    cdef int slot
    cdef unsigned parity
    cdef bint held
    cdef bint shared          # of a Snapshot: scans leave it pinned
    cdef bint of_transaction
    cdef bint expired

    cdef int open(self, Handle handle, int kind) except -1:
        """Pins the newest state; the pin is ACTIVE: leave() or close() before anything else."""
        cdef Client client
        cdef int rc
        while True:
            client = handle.live()
            self.client = client
            self.parity = client.view.parity
            self.slot = client.slot_take(self.parity)
            rc = c_pin_begin(&self.pin, client.view, &client.lease.slots[self.parity][self.slot], kind)
            if rc == C_OK:
                self.held = True
                self.arena = client.arena1 if self.parity else client.arena0
                return 0
            client.slot_give(self.parity, self.slot)
            handle.arena_moved(client)

    cdef int check(self) except -1:
        if self.client is None or not self.held:
            if self.expired:
                raise self.expiry()
            raise ClosedError("the snapshot is closed; take a new one with db.snapshot()")
        if self.client.forks != fork_count:
            raise ForkedHandleError("the snapshot belongs to the process that took it, and this is its child: take one "
                                    "here with db.snapshot()")
        return 0

    cdef object expiry(self):
        whose, again = "the snapshot", "take a new one"
        if self.of_transaction:
            whose, again = "the transaction's snapshot", "run the transaction again from its begin"
        return SnapshotExpired(f"{whose} at LSN {self.pin.lsn} was revoked: it was older than snapshot_max_age "
                               f"({self.client.snapshot_max_age:g} s), or the "
                               f"memory that it kept was needed; {again}", lsn=self.pin.lsn)

    cdef int enter(self) except -1:
        self.check()
        if c_pin_enter(&self.pin) != C_OK:
            self.lost()
        return 0

    cdef int leave(self) except -1:
        """Back to IDLE: after this, what was read is whole. Raises SnapshotExpired if it is void."""
        if c_pin_leave(&self.pin) != C_OK:
            self.lost()
        return 0

    cdef int leave_scan(self, bint done) except -1:
        cdef int rc
        if self.shared or not done:
            return self.leave()
        rc = c_pin_end(&self.pin)
        if rc != C_OK:
            self.lost()
        self.release_slot()
        return 0

    cdef int lost(self) except -1:
        self.expired = True
        c_pin_close(&self.pin)
        self.release_slot()
        raise self.expiry()

    cdef void release_slot(self) noexcept:
        self.held = False
        self.client.slot_give(self.parity, self.slot)

    cdef void close(self) noexcept:
        if self.held and self.client.forks == fork_count:
            c_pin_close(&self.pin)
            self.release_slot()
        self.held = False

    def __dealloc__(self):
        if self.held and self.client is not None:
            self.close()
