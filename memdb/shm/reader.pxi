# reader.pxi: a snapshot for the checkpointer and for tools: batches of items that become checkpoint blocks, and the structural check.
#
# Who: one thread at a time for each Reader. Invariant: what a batch holds is believed only after the pin was left (rule R2).

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
