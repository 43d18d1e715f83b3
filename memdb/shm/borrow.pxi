# borrow.pxi: a snapshot that is read in several processes: what its owner lends, a reader's borrowed pin, stored values in batches.
#
# Invariants:
#  - A borrowed pin keeps the memory under a traversal; the versions are kept by the lender's pin, which has to stand when the
#    lender has got what was found: `_stands` (the argument is in epoch.h).
#  - A batch is believed after its pin was left (rule R2), and says from which key the rest would be read.

cdef enum:
    STORED_FIRST_BYTES = 65536


@cython.no_gc  # as Reader: its slot is given back before its mappings go
cdef class Borrowed:
    """A pin at the snapshot of another process, in this process's own *lease*. One thread at a time. Close it.

    Raises BlockingIOError if *generation* is not what the arena holds, ValueError if no such LSN is published, SnapshotExpired.
    """

    cdef Mapping arena
    cdef Mapping lease
    cdef c_view view
    cdef c_pin pin
    cdef bint held

    def __cinit__(self, Mapping arena not None, unsigned parity, Mapping lease not None, uint64_t generation, uint64_t lsn,
                  uint64_t time_us):
        cdef c_lease *owner = <c_lease *>mapping_base(lease)
        cdef int slot
        self.arena, self.lease = arena, lease
        parity &= 1
        if c_lease_check(owner, mapping_size(lease)) != C_OK:
            raise ValueError("the lease is malformed")
        if c_view_attach(&self.view, mapping_base(arena), mapping_size(arena), parity) != C_OK:
            raise BlockingIOError("the arena does not serve")
        for slot in range(C_SLOTS):
            if c_load_acquire(&owner.slots[parity][slot].word) >> 62 == 0:
                break
        else:
            raise BlockingIOError("all reader slots are in use")
        if c_load_relaxed32(&owner.slots_used) <= <uint32_t>slot:
            c_store_sc32(&owner.slots_used, <uint32_t>slot + 1)
        rc = c_pin_at(&self.pin, &self.view, &owner.slots[parity][slot], lsn, time_us)
        if rc == C_MOVED:
            raise BlockingIOError("the arena is torn down")
        if rc != C_OK:
            raise ValueError(f"no commit with the LSN {lsn} is published")
        self.held = True
        if self.view.header.generation != generation:
            self.close()
            raise BlockingIOError("the arena holds another generation")
        self.leave()

    cdef int enter(self) except -1:
        if not self.held:
            raise ValueError("the borrowed pin is closed")
        if c_pin_enter(&self.pin) != C_OK:
            self.lost()
        return 0

    cdef int leave(self) except -1:
        if c_pin_leave(&self.pin) != C_OK:
            self.lost()
        return 0

    cdef int lost(self) except -1:
        self.close()
        raise SnapshotExpired(f"the borrowed pin at LSN {self.pin.lsn} was revoked", lsn=self.pin.lsn)

    def stored(self, bytes start not None, bytes stop not None, uint32_t max_count, size_t max_bytes):
        """Batches of stored values in key order, of stored keys in [start, stop): see StoredBatches."""
        return stored_batches(&self.pin, None, self, start, stop, max_count, max_bytes)

    def close(self):
        """Gives the slot back. Idempotent."""
        if self.held:
            self.held = False
            c_pin_close(&self.pin)

    def __dealloc__(self):
        if self.held and self.lease is not None and not self.lease.closed:
            c_pin_close(&self.pin)


cdef StoredBatches stored_batches(c_pin *pin, PinRef own, Borrowed borrowed, bytes start, bytes stop, uint32_t max_count,
                                  size_t max_bytes):
    cdef StoredBatches batches = StoredBatches.__new__(StoredBatches)
    batches.pin, batches.own, batches.borrowed = pin, own, borrowed
    batches.start, batches.stop, batches.resume = start, stop, start
    batches.max_bytes = max(max_bytes, <size_t>4096)
    batches.batch.max_count = max(max_count, <uint32_t>1)
    if c_scan_init(&batches.scan, PyBytes_AS_STRING(start), <size_t>len(start), PyBytes_AS_STRING(stop), <size_t>len(stop), False,
                   <uint64_t>-1, False) != C_OK:
        raise MemoryError()
    batches.begun = True
    return batches


@cython.no_gc
cdef class StoredBatches:
    """Iterates over lists of stored values (payload and codec byte). ``resume``: the smallest key behind what was handed out."""

    cdef PinRef own
    cdef Borrowed borrowed
    cdef c_pin *pin            # of one of them
    cdef c_scan scan
    cdef c_batch batch
    cdef size_t max_bytes
    cdef bytes start           # the scan's bounds lie in these
    cdef bytes stop
    cdef bint begun
    cdef readonly bytes resume

    @property
    def done(self) -> bool:
        """Whether nothing follows what was handed out."""
        return self.scan.done

    def __iter__(self):
        return self

    def __next__(self):
        cdef int rc
        if self.scan.done:
            raise StopIteration
        self.reserve(min(self.max_bytes, <size_t>STORED_FIRST_BYTES) if self.batch.cap == 0 else self.max_bytes)
        while True:
            self.batch.used = self.batch.count = 0
            self.enter()
            rc = c_scan_batch(self.pin, &self.scan, &self.batch)
            self.leave()
            if rc != C_BUFFER or self.batch.count > 0:
                break
            self.reserve(max(2 * self.batch.cap, self.batch.needed))
        if rc == C_DAMAGED:
            raise damaged_arena(self.pin.lsn)
        found = self.take()
        if c_scan_advance(&self.scan, &self.batch) != C_OK:
            raise MemoryError()
        if not self.scan.done:
            self.resume = c_bytes_of(<const char *>self.scan.start, <Py_ssize_t>self.scan.start_len)
        if not found:
            raise StopIteration
        return found

    cdef list take(self):
        cdef list found = []
        cdef uint8_t *item = self.batch.out
        cdef uint32_t i, key_size, value_size
        for i in range(self.batch.count):
            key_size, value_size = (<uint32_t *>item)[0], (<uint32_t *>item)[1]
            found.append(c_bytes_of(<const char *>item + ITEM_HEADER + key_size, <Py_ssize_t>value_size))
            item += (ITEM_HEADER + <size_t>key_size + value_size + 7) & ~<size_t>7
        return found

    cdef int reserve(self, size_t size) except -1:
        cdef void *grown
        if size > self.batch.cap:
            grown = realloc(self.batch.out, size)
            if grown == NULL:
                raise MemoryError()
            self.batch.out, self.batch.cap = <uint8_t *>grown, size
        return 0

    cdef int enter(self) except -1:
        return self.own.enter() if self.borrowed is None else self.borrowed.enter()

    cdef int leave(self) except -1:
        return self.own.leave() if self.borrowed is None else self.borrowed.leave()

    def __dealloc__(self):
        if self.begun:
            c_scan_clear(&self.scan)
        free(self.batch.out)


cdef class Lender(Reads):
    """What a snapshot can do for other processes that read at its point in time. The base of SnapshotHandle."""

    cdef PinRef pin

    def _lending(self):
        """(client, parity, generation, LSN, time in µs): where and when a borrower has to pin. Raises what a read would."""
        self.pin.check()
        return (self.pin.client, self.pin.parity, self.pin.pin.view.header.generation, self.pin.pin.lsn, self.pin.pin.time_us)

    def _stands(self):
        """To be called with an answer in hand: believe it unless this raises SnapshotExpired (or what a read would)."""
        self.pin.check()
        if not c_pin_stands(&self.pin.pin):
            self.pin.lost()

    def _stored(self, bytes start not None, bytes stop not None, uint32_t max_count, size_t max_bytes):
        """Batches of stored values in key order, of stored keys in [start, stop): see StoredBatches."""
        self.pin.check()
        return stored_batches(&self.pin.pin, self.pin, None, start, stop, max_count, max_bytes)

    def _cuts(self, bytes start not None, bytes stop not None, uint64_t every, uint32_t max_cuts):
        """(stored keys between which about *every* keys lie, at most *max_cuts*; keys walked over; did that reach the end?).

        Cost: a walk over block headers, about 30 ns for each 32 keys that lie in cache.
        """
        cdef uint32_t cuts = 0
        cdef uint64_t keys = 0
        cdef size_t used = 0, at = 0, room = <size_t>max_cuts * 128 + 4 + C_KEY_MAX
        cdef uint8_t ended = 0
        cdef uint32_t size
        cdef int rc
        cdef bytes buffer = c_bytes_of(NULL, <Py_ssize_t>room)
        cdef uint8_t *out = <uint8_t *>PyBytes_AS_STRING(buffer)
        self.pin.enter()
        rc = c_store_split(&self.pin.pin, PyBytes_AS_STRING(start), <size_t>len(start), PyBytes_AS_STRING(stop), <size_t>len(stop),
                           every, max_cuts, out, room, &cuts, &used, &keys, <void *>&ended)
        self.pin.leave()
        if rc != C_OK:
            raise damaged_arena(self.pin.pin.lsn)
        found = []
        while at < used:
            memcpy(&size, out + at, 4)
            found.append(c_bytes_of(<const char *>out + at + 4, <Py_ssize_t>size))
            at += 4 + size
        return found, keys, ended != 0
