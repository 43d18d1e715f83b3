# Iterating inside a transaction: the snapshot's keys merged with the transaction's own writes.
#
# Invariants:
#  - An iteration sees the writes that its transaction had made at its first `next`, none later.
#  - Every segment between the gaps has one ReadRange, which covers the last key given and no more until the end is reached.
#  - The snapshot's side is a Scan over the transaction's pin: it is in a pin only while a batch is copied.

cdef enum TxnItem:
    ITEM_NONE = 0
    ITEM_BASE = 1
    ITEM_OWN = 2


cdef class TxnScan:
    """An iterator over a range as a transaction sees it: its snapshot plus its own writes."""

    cdef TxnState txn
    cdef Bounds bounds
    cdef Scan base                 # over the segment at hand
    cdef list ahead                # segments to come, the next one last
    cdef ReadRange seen            # of the segment at hand; None where reads aren't noted
    cdef list own_keys
    cdef list own_writes
    cdef Py_ssize_t own_at
    cdef int kind
    cdef bint reverse
    cdef bint begun
    cdef bint finished
    cdef uint64_t limit

    def __init__(self):
        raise TypeError("an iterator of a transaction is made by its range(), keys(), values() or items()")

    def __iter__(self):
        return self

    def __next__(self):
        if self.finished:
            raise StopIteration
        self.txn.begin_use()
        try:
            item = self.give()
        finally:
            self.txn.end_use()
        if self.finished and item is _ABSENT:
            raise StopIteration
        return item

    def close(self):
        """Ends the iteration. Idempotent."""
        self.finished = True
        self.base = None
        self.own_keys = self.own_writes = self.ahead = None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def __reduce__(self):
        raise TypeError("an iterator of a transaction can't be pickled")

    cdef int begin(self) except -1:
        self.begun = True
        self.ahead = self.txn.segments(self.bounds.start, self.bounds.stop)
        self.own_keys = self.txn.own_between(self.bounds.start, self.bounds.stop)
        if self.reverse:
            self.own_keys.reverse()
        else:
            self.ahead.reverse()
        self.own_writes = [self.txn.writes[key] for key in self.own_keys]
        return 0

    cdef object give(self):
        """The next item; _ABSENT at the end."""
        cdef int which
        cdef bytes key
        cdef Scan base
        if not self.begun:
            self.begin()
        which = self.advance()
        if which == ITEM_NONE:
            self.close()
            return _ABSENT
        if which == ITEM_OWN:
            key = self.own_keys[self.own_at]
            item = self.own_item(key, self.own_writes[self.own_at])
            self.own_at += 1
        else:
            key = self.base_key()
            self.note_expiry(key)
            base = self.base  # decoding may run Python code, which may close this iterator
            item = base.take()
        self.note_given(key)
        if self.limit != <uint64_t>-1:
            self.limit -= 1
            if self.limit == 0:
                self.close()
        return item

    cdef uint64_t count(self) except? 0:
        """How many items follow: reads all of them, decodes none."""
        cdef uint64_t count = 0
        cdef int which
        if not self.begun:
            self.begin()
        while True:
            which = self.advance()
            if which == ITEM_NONE:
                self.close()
                return count
            count += 1
            if which == ITEM_OWN:
                self.own_at += 1
            else:
                if self.base_expiry():
                    self.note_expiry(self.base_key())
                self.skip_base()

    cdef list stored_keys(self):
        """The stored keys that follow."""
        cdef list keys = []
        cdef int which
        if not self.begun:
            self.begin()
        while True:
            which = self.advance()
            if which == ITEM_NONE:
                self.close()
                return keys
            if which == ITEM_OWN:
                keys.append(self.own_keys[self.own_at])
                self.own_at += 1
            else:
                key = self.base_key()
                self.note_expiry(key)
                keys.append(key)
                self.skip_base()

    # ---- merging

    cdef int advance(self) except -1:
        """Where the next item lies: nothing is taken yet. Deleted keys are passed."""
        cdef OwnWrite write
        cdef bint base
        cdef int order
        while True:
            base = self.peek()
            if self.own_at >= len(self.own_keys):
                if base:
                    return ITEM_BASE
                if self.seen is not None:
                    self.seen.done = True
                return ITEM_NONE
            order = self.compare() if base else 1
            if order < 0:
                return ITEM_BASE
            if order == 0:
                self.skip_base()
            write = self.own_writes[self.own_at]
            if write.data is not None:
                return ITEM_OWN
            self.own_at += 1

    cdef bint peek(self) except -1:
        """Whether the snapshot has another key in the range; goes on to the next segment where one is used up."""
        while True:
            if self.base is not None:
                if self.base.left > 0 or self.base.more():
                    return True
                if not self.ahead:
                    return False
                if self.seen is not None:
                    self.seen.done = True
            elif not self.ahead:
                return False
            start, stop = self.ahead.pop()
            self.base = Scan.__new__(Scan)
            self.base.bounds = bounds_of(start, stop)
            # A key of the snapshot may be hidden by an own write: so many more may be needed.
            self.base.limit = self.limit + <uint64_t>len(self.own_keys) if self.limit < <uint64_t>1 << 62 else <uint64_t>-1
            self.base.source = self.txn
            self.base.kind = self.kind
            self.base.reverse = self.reverse
            self.seen = self.txn.note_range(start, stop, self.reverse)

    cdef int compare(self) except -2:
        """-1: the snapshot's next key comes first; 1: the own one; 0: they are the same."""
        cdef const uint8_t *item = self.base.batch.out + self.base.at
        cdef bytes own = self.own_keys[self.own_at]
        cdef size_t size = (<uint32_t *>item)[0]
        cdef size_t own_size = <size_t>PyBytes_GET_SIZE(own)
        cdef int order = memcmp(item + ITEM_HEADER, PyBytes_AS_STRING(own), min(size, own_size))
        if order == 0:
            order = -1 if size < own_size else size > own_size
        if self.reverse:
            order = -order
        return -1 if order < 0 else order > 0

    cdef bytes base_key(self):
        cdef const uint8_t *item = self.base.batch.out + self.base.at
        return c_bytes_of(<const char *>item + ITEM_HEADER, <Py_ssize_t>(<uint32_t *>item)[0])

    cdef uint64_t base_expiry(self) noexcept:
        return (<uint64_t *>(self.base.batch.out + self.base.at))[2]

    cdef void skip_base(self) noexcept:
        cdef const uint8_t *item = self.base.batch.out + self.base.at
        self.base.at += (ITEM_HEADER + <size_t>(<uint32_t *>item)[0] + (<uint32_t *>item)[1] + 7) & ~<size_t>7
        self.base.left -= 1

    cdef object own_item(self, bytes stored, OwnWrite write):
        if self.kind == SCAN_VALUES:
            return self.txn.own_value(write)
        key = key_given(<const uint8_t *>PyBytes_AS_STRING(stored), <size_t>PyBytes_GET_SIZE(stored))
        if self.kind == SCAN_KEYS:
            return key
        return key, (own_payload(write) if self.kind == SCAN_PAYLOADS else self.txn.own_value(write))

    # ---- what was read

    cdef void note_given(self, bytes key) noexcept:
        """An own key that lies in a gap tells nothing of the snapshot."""
        if self.seen is not None and self.seen.start <= key < self.seen.stop:
            self.seen.last = key

    cdef void note_expiry(self, bytes key) noexcept:
        cdef uint64_t expires_us = self.base_expiry()
        if expires_us and self.seen is not None:
            self.txn.note_expiry(key, expires_us)


cdef TxnScan make_txn_scan(TxnState txn, int kind, Bounds bounds, object reverse, object limit):
    cdef TxnScan scan = TxnScan.__new__(TxnScan)
    scan.txn = txn
    scan.bounds = bounds
    scan.limit = limit_of(limit)
    scan.kind = kind
    scan.reverse = bool(reverse)
    scan.finished = bounds.empty or scan.limit == 0
    return scan


from libc.string cimport memcmp
