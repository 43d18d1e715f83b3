# Transactions, first part: one snapshot, what was read of it, and what is to be written. Nothing here talks to the writer.
#
# Invariants:
#  - What a transaction read can be told from `reads`, `ranges` and `least_us` alone; a key in `writes`, or in a gap, adds
#    nothing to them. (Isolation "snapshot" notes no reads but what a layer guards, in `reads` and `kept`: its commit looks at
#    what it writes.)
#  - `writes` and `gaps` are what the commit does, gaps first: a key that is in both was written after its range was deleted.
#  - OwnWrite objects and lists of gaps are never changed once they are in place, so savepoints and iterators share them.
#  - Every call stands between begin_use and end_use: another thread that comes while one is inside gets an error, since
#    encoding a value, or a caller's iterable, may let it in.

from cpython.dict cimport PyDict_GetItemWithError, PyDict_Next
from cpython.pythread cimport PyThread_get_thread_ident

cdef enum:
    TXN_OPEN = 0
    TXN_COMMITTED = 1
    TXN_ABORTED = 2
    GAPS_MAX = 64          # a commit's operations DELETE_RANGE
    OP_HEADER = 8
    POINT_HEADER = 16

cdef uint64_t transactions_begun = 0


@cython.freelist(64)
@cython.no_gc
cdef class OwnWrite:
    """What a transaction will store under one key, or its deletion."""

    cdef bytes data            # None: deleted
    cdef bint raw              # data is the payload of a bytes value: the NUL behind it is its codec byte
    cdef uint64_t expires_us


cdef inline OwnWrite own_write(bytes data, bint raw, uint64_t expires_us):
    cdef OwnWrite write = OwnWrite.__new__(OwnWrite)
    write.data, write.raw, write.expires_us = data, raw, expires_us
    return write


cdef inline uint64_t op_size(bytes stored, OwnWrite write) noexcept:
    cdef uint64_t size = OP_HEADER + <uint64_t>PyBytes_GET_SIZE(stored)
    if write.data is not None:
        size += <uint64_t>PyBytes_GET_SIZE(write.data) + write.raw
    return size + 8 if write.expires_us else size


cdef inline bytes own_payload(OwnWrite write):
    return write.data if write.raw else c_bytes_of(PyBytes_AS_STRING(write.data), PyBytes_GET_SIZE(write.data) - 1)


cdef OwnWrite _DELETED = own_write(None, False, 0)


@cython.freelist(16)
@cython.no_gc
cdef class ReadRange:
    """How far an iteration over [start, stop) came."""

    cdef bytes start
    cdef bytes stop
    cdef bytes last            # the key that it gave last
    cdef bint reverse
    cdef bint done             # it came to its end

    cdef tuple bounds(self):
        """The keys whose presence or absence it told, as (start, stop); None if it told none."""
        if self.done:
            return self.start, self.stop
        if self.last is None:
            return None
        return (self.last, self.stop) if self.reverse else (self.start, self.last + b"\0")


@cython.no_gc
cdef class Savepoint:
    """A point in a transaction to which ``rollback_to`` returns."""

    cdef uint64_t transaction
    cdef Py_ssize_t place      # among the savepoints of its transaction
    cdef Py_ssize_t undone     # how long the undo log was
    cdef list gaps

    def __init__(self):
        raise TypeError("a savepoint is made by savepoint() of a transaction")

    def __reduce__(self):
        raise TypeError("a savepoint belongs to its transaction and can't be pickled")


cdef class TxnState(Reads):
    """Reads of a snapshot plus own writes. The base of TxnHandle; not for use on its own."""

    cdef Writes handle
    cdef PinRef pin
    cdef uint64_t word             # GENERATION when the snapshot was pinned
    cdef uint64_t number           # tells this process's transactions apart
    cdef bint serializable
    cdef int level
    cdef double timeout
    cdef dict reads                # stored key: LSN of the version seen, 0 if there was none
    cdef list ranges               # of ReadRange
    cdef uint64_t least_us         # the first expiry among the values read; 0: none expires
    cdef bytes least_key
    cdef dict writes               # stored key: OwnWrite
    cdef list gaps                 # deleted ranges, as (start, stop), in order and apart; None: none
    cdef list kept                 # isolation "snapshot": ranges that a layer guards, as (start, stop); None: none
    cdef list order                # the keys of writes; None: to be made anew
    cdef bint unsorted
    cdef uint64_t size             # bytes of the operations
    cdef list savepoints
    cdef list undo                 # (stored key, what was in writes before)
    cdef int state
    cdef str why_ended
    cdef int depth                 # calls under way, of one thread
    cdef unsigned long user

    def __cinit__(self, Writes handle not None, str isolation not None="serializable", durability=None, timeout=None):
        if isolation != "serializable" and isolation != "snapshot":
            raise ValueError(f"isolation={isolation!r} is unknown: use 'serializable' or 'snapshot'")
        self.handle = handle
        self.encode_value, self.unpack_value = handle.encode_value, handle.unpack_value
        self.serializable = isolation == "serializable"
        self.level = handle.level_of(durability)
        self.timeout = handle.timeout if timeout is None else transaction_timeout(timeout)
        self.writes = {}
        self.reads = {}
        self.size = OPS_HEADER
        global transactions_begun
        transactions_begun += 1
        self.number = transactions_begun
        cdef PinRef pin = PinRef.__new__(PinRef)
        pin.open(handle, C_PIN_SNAPSHOT)
        pin.shared = pin.of_transaction = True
        self.word = pin.client.word
        self.pin = pin
        pin.leave()

    # ---- who may use it

    cdef inline int begin_use(self) except -1:
        cdef unsigned long me = PyThread_get_thread_ident()
        if self.state != TXN_OPEN or self.pin.client.forks != fork_count:
            self.refuse_use()
        if self.depth > 0 and self.user != me:
            raise Error("the transaction is in use by another thread at this moment: it is for one thread at a time; give each "
                        "thread a transaction of its own")
        self.user = me
        self.depth += 1
        return 0

    cdef inline void end_use(self) noexcept:
        self.depth -= 1

    cdef int refuse_use(self) except -1:
        if self.pin.client.forks != fork_count:
            raise ForkedHandleError("the transaction belongs to the process that began it, and this is its child: begin one "
                                    "here with db.transaction()")
        raise ClosedError(f"the transaction has ended: it {self.why_ended}; begin a new one with db.transaction()")

    cdef int begin_write(self) except -1:
        self.begin_use()
        try:
            self.handle.check_writable()
        except BaseException:
            self.end_use()
            raise
        return 0

    # ---- keys

    cdef bytes key_to_read(self, object key):
        """The stored key; None if none can be so long."""
        cdef KeyBytes encoded
        if key_encode(&encoded, key, C_SPACE_PLAIN):
            return None
        if type(key) is SpaceKey:
            return (<SpaceKey>key).stored
        try:
            return c_bytes_of(<const char *>encoded.at, <Py_ssize_t>encoded.size)
        finally:
            key_free(&encoded)

    cdef bytes key_to_write(self, object key):
        cdef KeyBytes encoded
        key_encode_checked(&encoded, key, self.handle.max_key)
        if type(key) is SpaceKey:
            return (<SpaceKey>key).stored
        try:
            return c_bytes_of(<const char *>encoded.at, <Py_ssize_t>encoded.size)
        finally:
            key_free(&encoded)

    # ---- what is read of the snapshot

    cdef int look(self, bytes stored, bint copy, c_found *found, PyObject **data, int *codec) except -100:
        """OK or ABSENT, of the snapshot alone."""
        cdef int rc
        self.pin.enter()
        rc = c_store_get(&self.pin.pin, PyBytes_AS_STRING(stored), <size_t>PyBytes_GET_SIZE(stored), found)
        if rc == C_OK and copy:
            data[0] = value_copy(found, codec)
        if c_pin_leave(&self.pin.pin) != C_OK:
            c_decref(data[0])
            data[0] = NULL
            self.pin.lost()
        if rc < 0:
            raise damaged_arena(self.pin.pin.lsn)
        return rc

    cdef int base(self, bytes stored, bint copy, c_found *found, PyObject **data, int *codec) except -100:
        """As look(), and notes what was seen."""
        cdef int rc = self.look(stored, copy, found, data, codec)
        if self.serializable:
            self.note_read(stored, found.lsn if rc == C_OK else 0, found.expires_us if rc == C_OK else 0)
        return rc

    cdef int keep_unchanged(self, bytes stored) except -1:
        """The commit is judged by this key too, whatever the isolation. Only what may not change is in `reads` at "snapshot"."""
        cdef c_found found
        cdef uint64_t cost
        cdef int rc
        if stored in self.reads:
            return 0
        rc = self.look(stored, False, &found, NULL, NULL)
        if not self.serializable:
            cost = POINT_HEADER + <uint64_t>PyBytes_GET_SIZE(stored)
            self.check_room(self.size + cost)
            self.size += cost
        self.note_read(stored, found.lsn if rc == C_OK else 0, found.expires_us if rc == C_OK else 0)
        return 0

    cdef int note_read(self, bytes stored, uint64_t lsn, uint64_t expires_us) except -1:
        self.reads[stored] = lsn
        if expires_us:
            self.note_expiry(stored, expires_us)
        return 0

    cdef void note_expiry(self, bytes stored, uint64_t expires_us) noexcept:
        if self.least_us == 0 or expires_us < self.least_us:
            self.least_us, self.least_key = expires_us, stored

    cdef int keep_range_unchanged(self, bytes start, bytes stop) except -1:
        """As keep_unchanged(), of all keys in [start, stop), those that are not there included."""
        cdef uint64_t cost
        if self.serializable:
            self.note_range(start, stop, False).done = True
            return 0
        if self.kept is None:
            self.kept = []
        if (start, stop) in self.kept:
            return 0
        cost = OP_HEADER + <uint64_t>(len(start) + len(stop))
        self.check_room(self.size + cost)
        self.size += cost
        self.kept.append((start, stop))
        return 0

    cdef ReadRange note_range(self, bytes start, bytes stop, bint reverse):
        """A range of which an iteration begins to read; None if that needs no note."""
        cdef ReadRange seen
        if not self.serializable:
            return None
        seen = ReadRange.__new__(ReadRange)
        seen.start, seen.stop, seen.reverse = start, stop, reverse
        if self.ranges is None:
            self.ranges = []
        self.ranges.append(seen)
        return seen

    # ---- what is written

    cdef OwnWrite own(self, bytes stored):
        """What this transaction did to the key; None if nothing."""
        cdef PyObject *found = PyDict_GetItemWithError(self.writes, stored)
        if found != NULL:
            return <OwnWrite>found
        if self.gaps is not None:
            for start, stop in self.gaps:
                if <bytes>stored < <bytes>start:
                    return None
                if <bytes>stored < <bytes>stop:
                    return _DELETED
        return None

    cdef object own_value(self, OwnWrite write):
        """The value that reading *write* gives: a new object, as a read of the store would."""
        if write.raw:
            return write.data
        cdef Py_ssize_t size = PyBytes_GET_SIZE(write.data) - 1
        cdef const char *at = PyBytes_AS_STRING(write.data)
        payload = c_bytes_of(at, size)
        return self.unpack_value(payload) if at[size] else payload

    cdef OwnWrite write_of(self, object value, uint64_t expires_us):
        cdef bytes data
        cdef bint raw = type(value) is bytes
        data = value if raw else self.encode_value(value)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data) - (0 if raw else 1)
        if <uint64_t>size > self.handle.max_value:
            raise value_too_large(size, self.handle.max_value)
        return own_write(data, raw, expires_us)

    cdef uint64_t cost(self, bytes stored, OwnWrite write) noexcept:
        """Bytes that one write adds to the commit; at "snapshot" also those by which its key is validated."""
        if write is None:
            return 0
        return op_size(stored, write) + (0 if self.serializable else POINT_HEADER + <uint64_t>PyBytes_GET_SIZE(stored))

    cdef uint64_t room(self) noexcept:
        """The most that the operations may take: what is read must have place too, if only as one range."""
        cdef uint64_t reads = C_READS_HEADER + 16 + 2 * (self.handle.max_key + KEY_OVERHEAD + 1) + 8
        return self.handle.max_transaction - min(reads, self.handle.max_transaction)

    cdef inline int check_room(self, uint64_t size) except -1:
        """Raises TransactionTooLarge if the operations would grow beyond room() to *size*."""
        cdef uint64_t limit
        if size > self.size and size > self.room():
            limit = self.handle.max_transaction
            raise transaction_too_large(size + limit - self.room(), limit)
        return 0

    cdef int put(self, bytes stored, OwnWrite write) except -1:
        """Raises TransactionTooLarge, and has changed nothing then."""
        cdef PyObject *found = PyDict_GetItemWithError(self.writes, stored)
        cdef OwnWrite old = None if found == NULL else <OwnWrite>found
        self.check_room(self.size + self.cost(stored, write) - self.cost(stored, old))
        return self.place(stored, write, old)

    cdef int place(self, bytes stored, OwnWrite write, OwnWrite old) except -1:
        """put(), where there is room."""
        if self.savepoints:
            self.undo.append((stored, old))
        self.writes[stored] = write
        self.size += self.cost(stored, write) - self.cost(stored, old)
        if old is None and self.order is not None:
            self.order.append(stored)
            self.unsorted = True
        return 0

    cdef int put_all(self, list stored, list writes) except -1:
        """All or none of them."""
        cdef uint64_t size = self.size
        cdef Py_ssize_t i
        cdef dict last = {}
        for i in range(len(stored)):
            last[stored[i]] = writes[i]
        for key, write in last.items():
            size += self.cost(<bytes>key, <OwnWrite>write)
        if self.writes:
            for key in last:
                size -= self.cost(<bytes>key, self.writes.get(key))
        self.check_room(size)
        if not self.writes and not self.savepoints and self.order is None:  # nobody has to hear of each
            self.writes.update(last)
            self.size = size
            return 0
        for key, write in last.items():  # what grows may come before what shrinks: only the whole was judged
            self.place(<bytes>key, <OwnWrite>write, <OwnWrite>self.writes.get(key))
        return 0

    cdef int forget(self, bytes stored) except -1:
        """Takes one's own write back; what the snapshot has shows again, unless it lies in a gap."""
        cdef OwnWrite old = self.writes.pop(stored)
        self.size -= self.cost(stored, old)
        self.order = None
        if self.savepoints:
            self.undo.append((stored, old))
        return 0

    cdef int cut(self, bytes start, bytes stop) except -1:
        """Deletes a range; False if that would be one range too many."""
        cdef list gaps = []
        cdef bytes first = start, end = stop
        for gap in self.gaps or ():
            if <bytes>gap[1] < first or <bytes>gap[0] > end or <bytes>gap[0][:1] != first[:1]:
                gaps.append(gap)
            else:
                first, end = min(first, <bytes>gap[0]), max(end, <bytes>gap[1])
        gaps.append((first, end))
        if len(gaps) > GAPS_MAX:
            return False
        gaps.sort()
        cdef uint64_t size = self.size - self.gaps_size(self.gaps) + self.gaps_size(gaps)
        cdef list own = self.own_between(start, stop)
        for key in own:
            size -= self.cost(key, self.writes[key])
        self.check_room(size)
        for key in own:
            self.forget(key)
        self.gaps, self.size = gaps, size
        return True

    cdef uint64_t gaps_size(self, list gaps) except? 0:
        cdef uint64_t size = 0
        for start, stop in gaps or ():
            size += (OP_HEADER + len(start) + len(stop)) * (1 if self.serializable else 2)
        return size

    cdef list own_between(self, bytes start, bytes stop):
        """The keys in [start, stop) that this transaction set or deleted one by one, in order."""
        if not self.writes:
            return []
        if self.order is None:
            self.order = sorted(self.writes)
        elif self.unsorted:
            self.order.sort()  # a sorted list with a tail: one merge
        self.unsorted = False
        return self.order[_bisect_left(self.order, start):_bisect_left(self.order, stop)]

    cdef list segments(self, bytes start, bytes stop):
        """The parts of [start, stop) outside of gaps, in order."""
        cdef list parts = []
        for first, end in self.gaps or ():
            if <bytes>end <= start:
                continue
            if <bytes>first >= stop:
                break
            if <bytes>first > start:
                parts.append((start, first))
            start = end
        if start < stop:
            parts.append((start, stop))
        return parts

    # ---- savepoints

    cdef Savepoint mark(self):
        cdef Savepoint savepoint = Savepoint.__new__(Savepoint)
        if self.savepoints is None:
            self.savepoints, self.undo = [], []
        savepoint.transaction = self.number
        savepoint.place = len(self.savepoints)
        savepoint.undone = len(self.undo)
        savepoint.gaps = self.gaps
        self.savepoints.append(savepoint)
        return savepoint

    cdef int back_to(self, Savepoint savepoint) except -1:
        if savepoint.transaction != self.number:
            raise ValueError("the savepoint is of another transaction: use one that savepoint() of this one returned")
        if savepoint.place >= len(self.savepoints) or self.savepoints[savepoint.place] is not savepoint:
            raise ValueError("the savepoint is gone: the transaction was rolled back to an earlier one; make it anew")
        del self.savepoints[savepoint.place + 1:]
        while len(self.undo) > savepoint.undone:
            stored, old = self.undo.pop()
            self.size -= self.cost(stored, self.writes.get(stored))
            self.size += self.cost(stored, old)
            if old is None:
                del self.writes[stored]
            else:
                self.writes[stored] = old
        self.size = self.size - self.gaps_size(self.gaps) + self.gaps_size(savepoint.gaps)
        self.gaps = savepoint.gaps
        self.order = None
        return 0


from bisect import bisect_left as _bisect_left


cdef double transaction_timeout(object timeout) except -1:
    if type(timeout) not in (int, float):
        raise TypeError(f"timeout must be seconds (an int or a float), not {type(timeout).__name__}")
    if not timeout > 0:
        raise ValueError(f"timeout={timeout!r}: give seconds above 0")
    return timeout


cdef object value_too_large(object size, object limit):
    return ValueTooLarge(f"the value takes {size} bytes and max_value_bytes is {limit} bytes: store it in parts, or open the "
                         "database with a larger max_value_bytes", size=size, limit=limit)
