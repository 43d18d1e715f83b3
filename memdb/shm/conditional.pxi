# Conditional single-key writes that the client repeats (rule C6): TTLs of values that are there, increment,
# compare-and-set, modify.
#
# Invariants:
#  - Each attempt is read, decide, and a write on condition that the key is still what was read. None of these calls raises
#    ConflictError: where somebody else was faster it looks again. So some caller's write gets through in every round.
#  - A key that has expired for this process may still live for the writer, whose clock is read at another moment: then its
#    refusal of IF_ABSENT names the version, and the next attempt replaces exactly that one.
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
