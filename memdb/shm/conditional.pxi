# Conditional single-key writes that the client repeats (rule C6): TTLs of values that are there, increment,
# compare-and-set, modify.
#
# Invariants:
#  - Each attempt is read, decide, and a write on condition that the key is still what was read. None of these calls raises
#    ConflictError: where somebody else was faster it looks again. So some caller's write gets through in every round.
#  - A key that has expired for this process may still live for the writer, whose clock is read at another moment: then its
#    refusal of IF_ABSENT names the version, and the next attempt replaces exactly that one, and keeps nothing of its TTL.
#  - Between two attempts a call waits a short random time that grows with their number, so that callers of one hot key get
#    through one after the other and none of them for good.

cdef enum:
    PATIENT_ATTEMPTS = 2   # so many before a call begins to give way
    LONGEST_PAUSE_LOG2 = 7 # 128 us

cdef struct Contest:
    uint64_t ghost         # version that expired here and lives for the writer; 0 none
    uint64_t attempts
    uint64_t random        # xorshift state; 0 not yet used


cdef inline void contest_init(Contest *contest) noexcept:
    contest.ghost = contest.attempts = contest.random = 0


cdef int contest_lost(Contest *contest) except -1:
    """Somebody else was faster: gives way for a moment."""
    cdef uint64_t until
    contest.attempts += 1
    if contest.attempts & 63 == 0:
        PyErr_CheckSignals()
    if contest.attempts <= PATIENT_ATTEMPTS:
        return 0
    if contest.random == 0:
        contest.random = c_monotonic_us() * <uint64_t>0x9e3779b97f4a7c15 ^ <uint64_t><uintptr_t>contest | 1
    contest.random ^= contest.random << 13
    contest.random ^= contest.random >> 7
    contest.random ^= contest.random << 17
    until = min(contest.attempts - PATIENT_ATTEMPTS, <uint64_t>LONGEST_PAUSE_LOG2)
    until = c_monotonic_us() + (contest.random >> 20) % (<uint64_t>1 << until)
    with nogil:
        while c_monotonic_us() < until:
            c_spin_hint()
    return 0


cdef enum:
    INT_STORED_MAX = 10    # a msgpack integer of 64 bits and the codec byte


cdef bint read_int(bytes payload, int64_t *value) noexcept:
    """The integer that a msgpack payload is, if it is one and fits."""
    cdef const uint8_t *at = <const uint8_t *>PyBytes_AS_STRING(payload)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(payload)
    cdef uint64_t bits = 0
    cdef int width
    if size == 1:
        if at[0] < 0x80 or at[0] >= 0xe0:
            value[0] = <signed char>at[0]
            return True
        return False
    if size == 0 or not (0xcc <= at[0] <= 0xd3):
        return False
    width = 1 << (at[0] & 3)
    if size != 1 + width:
        return False
    for i in range(1, width + 1):
        bits = bits << 8 | at[i]
    if at[0] >= 0xd0:
        value[0] = <int64_t>(bits << (64 - 8 * width)) >> (64 - 8 * width)
        return True
    value[0] = <int64_t>bits
    return bits >> 63 == 0


cdef Py_ssize_t write_int(uint8_t *out, int64_t value) noexcept:
    """The stored form of an integer, as values.encode() gives it: the shortest msgpack, and the codec byte."""
    cdef int width = 0, i
    if -32 <= value < 128:
        out[0] = <uint8_t>value
    elif value >= 0:
        width = 1 if value < 1 << 8 else 2 if value < 1 << 16 else 4 if value < <int64_t>1 << 32 else 8
        out[0] = <uint8_t>(0xcc + (0 if width == 1 else 1 if width == 2 else 2 if width == 4 else 3))
    else:
        width = 1 if value >= -128 else 2 if value >= -32768 else 4 if value >= -(<int64_t>1 << 31) else 8
        out[0] = <uint8_t>(0xd0 + (0 if width == 1 else 1 if width == 2 else 2 if width == 4 else 3))
    for i in range(width):
        out[1 + i] = <uint8_t>(<uint64_t>value >> (8 * (width - 1 - i)))
    out[1 + width] = 1
    return 2 + width


cdef bint same_value(object one, object other) except -1:
    """Equal, and of the same type at every depth: 1, 1.0 and True are stored as three values."""
    if type(one) is not type(other):
        return False
    if type(one) is list or type(one) is tuple:
        return len(one) == len(other) and all([same_value(a, b) for a, b in zip(one, other)])
    if type(one) is dict:
        if len(one) != len(other):
            return False
        keys = {key: key for key in other}
        for key, value in (<dict>one).items():
            if key not in keys or not same_value(key, keys[key]) or not same_value(value, other[key]):
                return False
        return True
    if type(one) is set or type(one) is frozenset:
        members = {member: member for member in other}
        return len(one) == len(other) and all([one_ in members and same_value(one_, members[one_]) for one_ in one])
    return one == other


cdef class Conditional(Handle):
    """The calls of a handle that look before they write."""

    cdef object look(self, KeyBytes *key, c_found *found, int *codec):
        """The payload of the newest value, or None; found.lsn is 0 for absence."""
        cdef PyObject *data = NULL
        if self.read(key, True, found, &data, codec) == C_ABSENT:
            found.lsn = found.expires_us = 0
            return None
        if data == NULL:
            raise damaged_value(codec[0], found.lsn)
        payload = <object>data
        c_decref(data)
        return payload

    cdef object value_of(self, object payload, int codec, uint64_t lsn):
        if codec == 0:
            return payload
        if codec == 1:
            return self.unpack_value(payload)
        raise damaged_value(codec, lsn)

    cdef bint swap(self, KeyBytes *key, uint64_t seen, const uint8_t *value, Py_ssize_t size, int flags, uint64_t expires_us,
                   int level, Contest *contest, Outcome *out) except -1:
        """One attempt: the stored bytes *value* (NULL: none, a deletion) in place of version *seen* (0: absence).

        False: somebody else was faster, or the writer's clock judged otherwise; look again.
        """
        cdef Ops ops
        cdef c_op op
        if seen == 0 and contest.ghost:
            seen, contest.ghost = contest.ghost, 0
            flags &= ~<int>C_KEEP_TTL  # the writer would keep that of the value which has expired here
        ops_init(&ops)
        try:
            flags |= C_IF_VERSION if seen else C_IF_ABSENT
            if value != NULL:
                self.add_stored(&ops, key, value, size, flags, seen, expires_us)
            else:
                memset(&op, 0, sizeof(op))
                op.code, op.flags, op.if_lsn = C_OP_DELETE, <uint8_t>flags, seen
                op.key, op.key_len = key.at, <uint16_t>key.size
                ops_add(&ops, &op, self.max_transaction)
            self.commit(&ops, level, out)
        finally:
            ops_free(&ops)
        if out.status == C_OK:
            return True
        contest.ghost = 0 if seen else out.winner
        contest_lost(contest)
        return False

    cdef bint swap_value(self, KeyBytes *key, uint64_t seen, object value, int flags, uint64_t expires_us, int level,
                         Contest *contest, Outcome *out) except -1:
        """swap() to a Python value; MISSING deletes."""
        if value is _MISSING:
            return self.swap(key, seen, NULL, 0, 0, 0, level, contest, out)
        if type(value) is bytes:
            return self.swap(key, seen, <const uint8_t *>PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value) + 1, flags, expires_us,
                             level, contest, out)
        stored = self.encode_value(value)
        return self.swap(key, seen, <const uint8_t *>PyBytes_AS_STRING(stored), PyBytes_GET_SIZE(stored), flags, expires_us, level,
                         contest, out)

    # ---- the TTL of what is there

    def ttl(self, key):
        """Seconds that the value of *key* has left; None if it has no TTL.

        Raises KeyError for a missing key, UnsupportedType, ClosedError. Cost: as ``get``.

        >>> db.set("session", b"...", ttl=30)
        True
        >>> db.ttl("session")
        29.99984
        """
        cdef KeyBytes encoded
        cdef c_found found
        cdef PyObject *data = NULL
        cdef int rc, codec = 0
        if key_encode(&encoded, key, C_SPACE_PLAIN):
            raise KeyError(key)
        try:
            rc = self.read(&encoded, False, &found, &data, &codec)
        finally:
            key_free(&encoded)
        if rc == C_ABSENT:
            raise KeyError(key)
        if found.expires_us == 0:
            return None
        return max(<int64_t>(found.expires_us - self.now_us()), 1) / 1e6

    cdef bint restamp(self, object key, object ttl, object durability) except -1:
        """Writes the value of *key* again, with *ttl*, or without one (None). False: missing, or had none to remove."""
        cdef KeyBytes encoded
        cdef c_found found
        cdef Outcome out
        cdef Contest contest
        cdef uint64_t expires_us = 0
        cdef int level, codec = 0, flags = 0
        self.check_writable()
        level = self.level_of(durability)
        if ttl is not None:
            flags = C_HAS_TTL
            expires_us = self.now_us() + ttl_us(ttl)
        if key_encode(&encoded, key, C_SPACE_PLAIN):
            return False
        contest_init(&contest)
        try:
            while True:
                payload = self.look(&encoded, &found, &codec)
                if payload is None or (ttl is None and found.expires_us == 0):
                    return False
                stored = payload + bytes((codec,))
                if self.swap(&encoded, found.lsn, <const uint8_t *>PyBytes_AS_STRING(stored), PyBytes_GET_SIZE(stored), flags,
                             expires_us, level, &contest, &out):
                    return True
        finally:
            key_free(&encoded)

    def expire(self, key, ttl, *, durability=None):
        """Gives the value of *key* a new TTL, counted from now; whether the key was there.

        *ttl*: seconds (int or float) or a ``timedelta``, more than 0 and at most 100 years. It is a write of the same value:
        the key's version changes. Raises TypeError and ValueError for *ttl*, UnsupportedType, ReadOnlyError, ArenaFullError,
        Timeout, OutcomeUnknown; never ConflictError. Cost: a read and one commit, repeated where somebody else was faster.

        >>> db.expire("session", 3600)
        True
        """
        if ttl is None or ttl is _KEEP:
            raise TypeError(f"ttl must be seconds (int or float) or a timedelta, not {ttl!r}; persist(key) removes a TTL")
        return self.restamp(key, ttl, durability)

    def persist(self, key, *, durability=None):
        """Removes the TTL of *key*, so that it stays; False if it is missing or had none.

        It is a write of the same value: the key's version changes. Raises as ``expire``. Cost: as ``expire``; a read if
        there is nothing to remove.

        >>> db.persist("session")
        True
        """
        return self.restamp(key, None, durability)

    # ---- counting, comparing, changing

    def increment(self, key, by=1, *, durability=None):
        """Adds *by* to the number under *key*, in one atomic step, and returns the new value; a missing key counts as 0.

        *by*: int or float, also negative. Ints are exact, however large. A TTL of the key is kept. Raises TypeError if the
        value is no int or float (a bool is none), KeyTooLarge, ReadOnlyError, ArenaFullError, Timeout, OutcomeUnknown; never
        ConflictError: where somebody else was faster it looks again. Cost: a read and one commit, a few µs at ``os``; on a
        key that many processes count at the same time a few attempts.

        >>> db.increment("visits")
        1
        >>> db.increment("visits", 10)
        11
        """
        cdef KeyBytes encoded
        cdef c_found found
        cdef Outcome out
        cdef Contest contest
        cdef int level, codec = 0
        self.check_writable()
        level = self.level_of(durability)
        if isinstance(by, bool) or not isinstance(by, (int, float)):
            raise TypeError(f"by must be an int or float, not {type(by).__name__}")
        by = int(by) if isinstance(by, int) else float(by)
        contest_init(&contest)
        key_encode_checked(&encoded, key, self.max_key)
        try:
            while True:
                payload = self.look(&encoded, &found, &codec)
                result = self.add_to(key, payload, codec, found.lsn, by)
                if self.swap_number(&encoded, found.lsn, result, level, &contest, &out):
                    return result
        finally:
            key_free(&encoded)

    cdef object add_to(self, object key, object payload, int codec, uint64_t lsn, object by):
        cdef int64_t small = 0
        if payload is None:
            return by
        if codec == 1 and read_int(payload, &small):
            return small + by
        old = self.value_of(payload, codec, lsn)
        if type(old) is not int and type(old) is not float:
            raise TypeError(f"increment({key!r}): its value is a {type(old).__name__}, and only an int or float can be incremented")
        return old + by

    cdef bint swap_number(self, KeyBytes *key, uint64_t seen, object number, int level, Contest *contest, Outcome *out) except -1:
        cdef uint8_t stored[INT_STORED_MAX]
        cdef int overflow = 0
        cdef int64_t small = 0
        if type(number) is int:
            small = c_long_value(number, &overflow)
            if not overflow:
                return self.swap(key, seen, stored, write_int(stored, small), C_KEEP_TTL, 0, level, contest, out)
        return self.swap_value(key, seen, number, C_KEEP_TTL, 0, level, contest, out)

    def compare_and_set(self, key, expected, new, *, ttl=None, durability=None):
        """Stores *new* under *key* if its value is *expected*, in one atomic step; whether it was.

        ``memdb.MISSING`` stands for absence: as *expected* the key must be missing, as *new* it is deleted. The value must be
        equal and, at every depth, of the same type, as it would be stored: 1 and True differ, the order of a dict's keys does
        not matter. *ttl* as in ``set``. Raises UnsupportedType (also for *expected*), KeyTooLarge, ValueTooLarge,
        ReadOnlyError, ArenaFullError, Timeout, OutcomeUnknown; never ConflictError. Cost: a read, and one commit if the value
        is the expected one.

        >>> db.compare_and_set("leader", memdb.MISSING, "worker-7", ttl=10)
        True
        """
        cdef KeyBytes encoded
        cdef c_found found
        cdef Outcome out
        cdef Contest contest
        cdef uint64_t expires_us = 0
        cdef int level, flags, codec = 0
        self.check_writable()
        level = self.level_of(durability)
        flags = self.expiry_of(ttl, &expires_us)
        wanted = None if expected is _MISSING else self.encode_value(expected)
        if new is not _MISSING:
            self.encode_value(new)  # refused also where the comparison would fail
        contest_init(&contest)
        key_encode_checked(&encoded, key, self.max_key)
        try:
            while True:
                payload = self.look(&encoded, &found, &codec)
                if not self.is_value(payload, codec, found.lsn, wanted):
                    return False
                if payload is None and new is _MISSING:
                    return True
                if self.swap_value(&encoded, found.lsn, new, flags, expires_us, level, &contest, &out):
                    return True
        finally:
            key_free(&encoded)

    cdef bint is_value(self, object payload, int codec, uint64_t lsn, object wanted) except -1:
        """Is what was read the value whose stored form is *wanted* (None: absence)?"""
        if payload is None or wanted is None:
            return payload is None and wanted is None
        if payload + bytes((codec,)) == wanted:
            return True
        stored_codec, wanted_payload = self.split_stored(wanted)
        if codec == 0 or stored_codec == 0:
            return False
        return same_value(self.value_of(payload, codec, lsn), self.unpack_value(wanted_payload))

    cdef tuple split_stored(self, bytes stored):
        """Codec and payload of a stored form."""
        cdef Py_ssize_t size = len(stored) - 1
        return stored[size], stored[:size]

    def modify(self, key, fn, default=_MISSING, *, ttl=None, durability=None):
        """Replaces the value of *key* by ``fn(value)``, in one atomic step, and returns what *fn* returned.

        For a missing key *fn* is called with *default*, ``memdb.MISSING`` unless given; if it returns MISSING the key is
        deleted. *fn* is called again, with the new value, when somebody else was faster, so it should do nothing else; it gets
        a copy each time, of *default* too (which must be storable), and what it raises is raised here, with nothing written.
        *ttl* as in ``set``: without one the TTL is removed. Raises TypeError, UnsupportedType, KeyTooLarge, ValueTooLarge,
        ReadOnlyError, ArenaFullError, Timeout, OutcomeUnknown; never ConflictError. Cost: a read and one commit, repeated
        where somebody else was faster.

        >>> db.modify("tags", lambda tags: tags | {"new"}, default=set())
        {'new'}
        """
        cdef KeyBytes encoded
        cdef c_found found
        cdef Outcome out
        cdef Contest contest
        cdef uint64_t expires_us = 0
        cdef int level, flags, codec = 0
        self.check_writable()
        level = self.level_of(durability)
        if not callable(fn):
            raise TypeError(f"fn must be callable, not {type(fn).__name__}")
        flags = self.expiry_of(ttl, &expires_us)
        stored_default = None if default is _MISSING else self.encode_value(default)
        contest_init(&contest)
        key_encode_checked(&encoded, key, self.max_key)
        try:
            while True:
                payload = self.look(&encoded, &found, &codec)
                if payload is not None:
                    old = self.value_of(payload, codec, found.lsn)
                elif stored_default is None:
                    old = _MISSING
                else:
                    default_codec, default_payload = self.split_stored(stored_default)
                    old = self.value_of(default_payload, default_codec, 0)
                new = fn(old)
                if payload is None and new is _MISSING:
                    return new
                if expires_us:
                    flags = self.expiry_of(ttl, &expires_us)  # counted from the write, however long fn took
                if self.swap_value(&encoded, found.lsn, new, flags, expires_us, level, &contest, &out):
                    return new
        finally:
            key_free(&encoded)
