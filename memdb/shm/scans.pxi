# Ordered scans: the bounds of a range, and the iterator that reads it in batches.
#
# Invariants:
#  - A batch is decoded only after the pin was left (rule R2): from the scan's own buffer, which nobody else writes.
#  - The first batch is small, so that a short range costs one descent and little copying; a scan that ends with its first
#    batch never leaves an idle pin behind.
#  - An iteration reads one snapshot, its own or one that it shares, from its first `next` to its end.

cdef enum ScanKind:
    SCAN_ITEMS = 0
    SCAN_KEYS = 1
    SCAN_VALUES = 2
    SCAN_PAYLOADS = 3      # (key, payload): a value without its codec byte, not unpacked

cdef enum:
    FIRST_BATCH = 16
    NEXT_BATCH = 256
    FIRST_BYTES = 4096
    NEXT_BYTES = 65536
    ITEM_HEADER = 24


cdef uint8_t *spare_buffer = NULL  # of a scan that ended with its first batch: most do


@cython.freelist(8)
cdef class Bounds:
    """The stored-key bounds of a range: start inclusive, stop exclusive."""

    cdef bytes start
    cdef bytes stop
    cdef bint empty
    cdef const uint8_t *start_at
    cdef size_t start_size
    cdef const uint8_t *stop_at
    cdef size_t stop_size

    cdef bint covers(self, bytes stored):
        return self.start <= stored < self.stop


cdef Bounds bounds_of(bytes start, bytes stop):
    cdef Bounds bounds = Bounds.__new__(Bounds)
    bounds.start, bounds.stop = start, stop
    bounds.empty = start >= stop
    bounds.start_at = <const uint8_t *>PyBytes_AS_STRING(start)
    bounds.start_size = <size_t>PyBytes_GET_SIZE(start)
    bounds.stop_at = <const uint8_t *>PyBytes_AS_STRING(stop)
    bounds.stop_size = <size_t>PyBytes_GET_SIZE(stop)
    return bounds


cdef Bounds make_bounds(object start, object stop, object prefix):
    cdef Bounds bounds = Bounds.__new__(Bounds)
    if type(start) is SpaceKey or type(stop) is SpaceKey:
        check_space_range(start, stop, prefix)
        return bounds_of((<SpaceKey>start).stored, (<SpaceKey>stop).stored)
    bounds.start = _SPACE_START if start is None else stored_key(start, C_SPACE_PLAIN)
    bounds.stop = _SPACE_STOP if stop is None else stored_key(stop, C_SPACE_PLAIN)
    if prefix is not None:
        first, last = encode_prefix(prefix)
        bounds.start = max(bounds.start, first)
        bounds.stop = min(bounds.stop, last)
    bounds.empty = (stop is not None or prefix is not None) and bounds.start >= bounds.stop
    bounds.start_at = <const uint8_t *>PyBytes_AS_STRING(bounds.start)
    bounds.start_size = <size_t>PyBytes_GET_SIZE(bounds.start)
    bounds.stop_at = <const uint8_t *>PyBytes_AS_STRING(bounds.stop)
    bounds.stop_size = <size_t>PyBytes_GET_SIZE(bounds.stop)
    return bounds


cdef bytes _SPACE_START = bytes([C_SPACE_PLAIN])
cdef bytes _SPACE_STOP = bytes([C_SPACE_PLAIN + 1])


def in_range(key, start, stop, prefix):
    """Whether *key* lies in the range. Raises UnsupportedType."""
    cdef Bounds bounds = make_bounds(start, stop, prefix)
    return bounds.covers(stored_key(key, C_SPACE_PLAIN))


def check_range(start, stop, prefix, limit):
    """Raises what a scan over the range would raise for its arguments."""
    make_bounds(start, stop, prefix)
    limit_of(limit)


cdef uint64_t limit_of(object limit) except? 0:
    if limit is None:
        return <uint64_t>-1
    if type(limit) is int and 0 < <object>limit < 1000000:
        return <uint64_t>limit
    number = operator_index(limit)
    if number < 0:
        raise ValueError(f"limit must be None or at least 0, not {number}")
    return <uint64_t>min(number, 1 << 62)


from operator import index as operator_index


cdef Scan make_scan(Reads source, int kind, object start, object stop, object prefix, object reverse, object limit):
    cdef Scan scan = Scan.__new__(Scan)
    scan.bounds = make_bounds(start, stop, prefix)
    scan.limit = limit_of(limit)
    scan.source = source
    scan.kind = kind
    scan.reverse = bool(reverse)
    scan.finished = scan.bounds.empty or scan.limit == 0
    return scan


@cython.freelist(8)
cdef class Scan:
    """An iterator over one snapshot, taken at its first ``next``. ``close()`` gives it back early."""

    cdef Reads source
    cdef Bounds bounds
    cdef PinRef pin
    cdef c_scan scan
    cdef c_batch batch
    cdef size_t at
    cdef uint32_t left
    cdef int kind
    cdef bint reverse
    cdef bint begun
    cdef bint finished
    cdef bint busy
    cdef uint64_t limit

    def __iter__(self):
        return self

    def __next__(self):
        if self.busy:
            raise ValueError("the iterator is in use by another thread")
        if self.left == 0 and not self.more():
            raise StopIteration  # outside of try: so it costs no exception object and no traceback
        self.busy = True  # decoding may run Python code, and so another thread
        try:
            return self.take()
        finally:
            self.busy = False

    cdef bint more(self) except -1:
        if self.finished:
            return False
        self.busy = True
        try:
            self.fill()
        finally:
            self.busy = False
        return self.left > 0

    def close(self):
        """Gives the snapshot back; the iteration is over. Idempotent."""
        self.finished = True
        self.left = 0
        if self.pin is not None and not self.pin.shared:
            self.pin.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    cdef object take(self):
        cdef uint8_t *item = self.batch.out + self.at
        cdef uint32_t key_size = (<uint32_t *>item)[0]
        cdef uint32_t value_size = (<uint32_t *>item)[1]
        cdef const uint8_t *value_at = item + ITEM_HEADER + key_size
        cdef object payload = None
        cdef object key
        cdef uint8_t codec = 0
        self.at += (ITEM_HEADER + <size_t>key_size + value_size + 7) & ~<size_t>7
        self.left -= 1
        if self.kind == SCAN_KEYS:
            return key_given(item + ITEM_HEADER, key_size)
        if value_size == 0:
            raise damaged_value(-1, (<uint64_t *>item)[1])
        codec = value_at[value_size - 1]
        payload = c_bytes_of(<const char *>value_at, <Py_ssize_t>value_size - 1)
        if codec > 1:
            raise damaged_value(codec, (<uint64_t *>item)[1])
        if self.kind == SCAN_VALUES:
            return payload if codec == 0 else self.source.unpack_value(payload)
        key = key_given(item + ITEM_HEADER, key_size)
        return key, (payload if codec == 0 or self.kind == SCAN_PAYLOADS else self.source.unpack_value(payload))

    cdef int reserve(self, size_t size) except -1:
        cdef void *grown
        global spare_buffer
        if size > self.batch.cap:
            if size == FIRST_BYTES and spare_buffer != NULL:
                self.batch.out, self.batch.cap, spare_buffer = spare_buffer, size, NULL
                return 0
            grown = realloc(self.batch.out, size)
            if grown == NULL:
                raise MemoryError()
            self.batch.out, self.batch.cap = <uint8_t *>grown, size
        return 0

    cdef int fill(self) except -1:
        """The next batch. Afterwards left is 0 only at the end."""
        cdef int rc
        cdef bint done
        self.reserve(NEXT_BYTES if self.begun else FIRST_BYTES)
        self.batch.max_count = NEXT_BATCH if self.begun else FIRST_BATCH
        while True:
            self.enter()
            self.batch.used = self.batch.count = 0
            rc = c_scan_batch(&self.pin.pin, &self.scan, &self.batch)
            done = self.scan.done or (rc == C_OK and self.batch.count >= self.scan.remaining)
            try:
                self.pin.leave_scan(rc == C_DAMAGED or (rc == C_OK and done))
            except SnapshotExpired:
                self.finished = True
                raise
            if rc != C_BUFFER or self.batch.count > 0:
                break
            self.reserve(max(2 * self.batch.cap, self.batch.needed))
        if rc == C_DAMAGED:
            self.finished = True
            raise damaged_arena(self.pin.pin.lsn)
        self.at, self.left = 0, self.batch.count
        if self.batch.count == 0 or done:
            self.finished = True
            if not self.pin.shared:
                self.pin.close()
        elif c_scan_advance(&self.scan, &self.batch) != C_OK:
            raise MemoryError()
        return 0

    cdef int enter(self) except -1:
        """Begins the scan, or goes on with it: the pin is ACTIVE."""
        if self.begun:
            if self.pin.shared:
                return self.pin.enter()
            (<Handle>self.source).check_open()
            return self.pin.enter()
        if c_scan_init(&self.scan, self.bounds.start_at, self.bounds.start_size, self.bounds.stop_at,
                       self.bounds.stop_size, self.reverse, self.limit, self.kind == SCAN_KEYS) != C_OK:
            raise MemoryError()
        self.begun = True
        self.pin = self.source.pin_for_scan()
        return 0

    def __dealloc__(self):
        global spare_buffer
        if self.begun:
            c_scan_clear(&self.scan)
        if self.batch.cap == FIRST_BYTES and spare_buffer == NULL:
            spare_buffer = self.batch.out
        else:
            free(self.batch.out)
