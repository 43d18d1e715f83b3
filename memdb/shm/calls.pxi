# The writing calls of a handle: each builds the operations of one commit and reads the answer.

cdef class Writes(Conditional):
    """The base of ``memdb.Database``: a handle and its writing calls."""

    cdef int commit_one(self, object key, object value, bint delete, int flags, uint64_t if_lsn, object durability,
                        Outcome *out, object ttl=None) except -1:
        """One SET or DELETE. Returns 1 without a commit for the deletion of a key that can't be stored."""
        cdef Ops ops
        cdef uint64_t expires_us = 0
        cdef int level
        self.check_writable()
        level = self.level_of(durability)
        if ttl is not None:
            flags |= self.expiry_of(ttl, &expires_us)
        ops_init(&ops)
        try:
            if not delete:
                self.add_set(&ops, key, value, flags, if_lsn, expires_us)
            elif self.add_delete(&ops, key, flags, if_lsn):
                return 1
            self.commit(&ops, level, out)
        finally:
            ops_free(&ops)
        return 0

    def _check_writable(self, durability=None):
        """Raises what a writing call raises before it does anything."""
        self.check_writable()
        self.level_of(durability)

    cdef uint64_t version_of(self, object if_version) except? 0:
        if type(if_version) is not int:
            raise TypeError(f"if_version must be a version (an int), not {type(if_version).__name__}")
        if not 0 < if_version < 1 << 48:
            raise ValueError(f"if_version={if_version} is no version: entry(key).version is one")
        return if_version

    cdef int condition_of(self, object if_absent, object if_version, uint64_t *if_lsn) except -1:
        """The flags of a SET with conditions."""
        if if_version is None:
            return C_IF_ABSENT if if_absent else 0
        if if_absent:
            raise ValueError("if_absent and if_version exclude each other")
        if_lsn[0] = self.version_of(if_version)
        return C_IF_VERSION

    def set(self, key, value, *, ttl=None, if_absent=False, if_version=None, durability=None):
        """Stores *value* under *key*; True once it is acknowledged at its level.

        *ttl*: seconds (int or float) or a ``timedelta``, more than 0 and at most 100 years, after which the key is gone for
        every read and count; without one a TTL that the key had is removed, ``memdb.KEEP`` keeps it. *if_absent*: only if the key is missing; *if_version*: only if its version is this one. False, and nothing is
        written, if the condition fails. *durability*: ``memory``, ``os`` or ``full`` for this call. Raises UnsupportedType,
        KeyTooLarge, ValueTooLarge, ReadOnlyError, ArenaFullError, Timeout, OutcomeUnknown. Cost: one commit; a few µs at
        ``os``, a sync of the disk at ``full``.

        >>> db.set("user:1", {"name": "Alice"}, if_absent=True)
        True
        """
        cdef Outcome out
        cdef uint64_t if_lsn = 0
        cdef int flags = self.condition_of(if_absent, if_version, &if_lsn)
        self.commit_one(key, value, False, flags, if_lsn, durability, &out, ttl)
        return out.status == C_OK

    def __setitem__(self, key, value):
        cdef Outcome out
        self.commit_one(key, value, False, 0, 0, None, &out)

    def __delitem__(self, key):
        cdef Outcome out
        if self.commit_one(key, None, True, C_IF_PRESENT, 0, None, &out) or out.status != C_OK:
            raise KeyError(key)

    def delete(self, key, *, if_version=None, durability=None):
        """Deletes *key*; whether it was there (and of version *if_version*, if given).

        Raises UnsupportedType, ReadOnlyError, Timeout, OutcomeUnknown. Cost: one commit; none is logged for a missing key.

        >>> db.delete("user:1")
        True
        """
        cdef Outcome out
        cdef int flags = C_IF_PRESENT
        cdef uint64_t if_lsn = 0
        if if_version is not None:
            if_lsn = self.version_of(if_version)
            flags = C_IF_VERSION
        return not self.commit_one(key, None, True, flags, if_lsn, durability, &out) and out.status == C_OK

    def set_many(self, mapping_or_pairs, *, ttl=None, durability=None):
        """Stores all pairs of a mapping, or of an iterable of (key, value), in one atomic commit.

        *ttl* is that of all of them, as in ``set``. If the iterable raises, nothing is written. Raises as ``set``, and TransactionTooLarge. Cost: one commit; about 1 µs
        a pair.

        >>> db.set_many({"a": 1, "b": 2})
        """
        self.check_writable()
        cdef int level = self.level_of(durability)
        cdef Outcome out
        cdef Ops ops
        ops_init(&ops)
        try:
            self.add_pairs(&ops, mapping_or_pairs, ttl)
            if ops.count:
                self.commit(&ops, level, &out)
        finally:
            ops_free(&ops)

    cdef int add_pairs(self, Ops *ops, object source, object ttl=None) except -1:
        """The pairs of a mapping or of an iterable of pairs, with one TTL for all that is counted from before the first."""
        cdef uint64_t expires_us = 0
        cdef int flags = self.expiry_of(ttl, &expires_us)
        cdef Py_ssize_t position = 0
        if isinstance(source, dict):
            for key, value in (<dict>source).items():
                self.add_set(ops, key, value, flags, 0, expires_us)
            return 0
        if hasattr(source, "keys"):
            for key in source.keys():
                self.add_set(ops, key, source[key], flags, 0, expires_us)
            return 0
        for pair in source:
            if type(pair) is not tuple or len(<tuple>pair) != 2:
                pair = tuple(pair)
                if len(<tuple>pair) != 2:
                    raise ValueError(f"element {position} has length {len(<tuple>pair)}; (key, value) is needed")
            self.add_set(ops, (<tuple>pair)[0], (<tuple>pair)[1], flags, 0, expires_us)
            position += 1
        return 0

    def update(self, other=(), /, *, durability=None, **more):
        """As ``dict.update``, in one atomic commit: if *other* raises, nothing is written.

        *durability* is the level of the commit, so it is no key here: use ``set_many`` for one of that name. Raises as
        ``set_many``. Cost: as ``set_many``.

        >>> db.update({"a": 1}, b=2)
        """
        self.check_writable()
        cdef int level = self.level_of(durability)
        cdef Outcome out
        cdef Ops ops
        ops_init(&ops)
        try:
            self.add_pairs(&ops, other)
            for key, value in more.items():
                self.add_set(&ops, key, value, 0, 0)
            if ops.count:
                self.commit(&ops, level, &out)
        finally:
            ops_free(&ops)

    def delete_many(self, keys, *, durability=None):
        """Deletes *keys* in one atomic commit; how many were there. Raises as ``delete``, and TransactionTooLarge.

        Cost: one commit; about 1 µs a key.

        >>> db.delete_many(["a", "b", "missing"])
        2
        """
        self.check_writable()
        cdef int level = self.level_of(durability)
        cdef Outcome out
        cdef Ops ops
        ops_init(&ops)
        try:
            self.add_deletes(&ops, keys)
            if not ops.count:
                return 0
            self.commit(&ops, level, &out)
            return out.count
        finally:
            ops_free(&ops)

    cdef int add_deletes(self, Ops *ops, object keys) except -1:
        cdef size_t before
        cdef set seen = set()  # a key that is named twice is deleted, and counted, once
        if isinstance(keys, (str, bytes)):
            raise TypeError(f"keys must be an iterable of keys, not {type(keys).__name__}: use delete for one key")
        for key in keys:
            before = ops.size
            if self.add_delete(ops, key, 0, 0):
                continue
            operation = c_bytes_of(<const char *>ops.at + before, <Py_ssize_t>(ops.size - before))
            if operation in seen:
                ops.size = before
                ops.count -= 1
            else:
                seen.add(operation)
        return 0

    def delete_range(self, start=None, stop=None, *, prefix=None, durability=None):
        """Deletes the keys of a range (as ``range``) in one atomic commit; how many there were.

        Raises UnsupportedType, ReadOnlyError, Timeout, OutcomeUnknown. Cost: one small record in the log, and the work of a
        deletion a key in the writer.

        >>> db.delete_range(prefix="user:")
        17
        """
        self.check_writable()
        cdef int level = self.level_of(durability)
        cdef Outcome out
        cdef Ops ops
        ops_init(&ops)
        try:
            self.add_range(&ops, start, stop, prefix)
            if not ops.count:
                return 0
            self.commit(&ops, level, &out)
            return out.count
        finally:
            ops_free(&ops)

    cdef int add_range(self, Ops *ops, object start, object stop, object prefix) except -1:
        """A DELETE_RANGE; none if the range is empty."""
        cdef Bounds bounds = make_bounds(start, stop, prefix)
        cdef c_op op
        if bounds.empty:
            return 0
        if max(bounds.start_size, bounds.stop_size) > self.max_key + 3:
            raise _key_too_large(max(bounds.start_size, bounds.stop_size) - 3, self.max_key)
        memset(&op, 0, sizeof(op))
        op.code = C_OP_DELETE_RANGE
        op.key, op.key_len = bounds.start_at, <uint16_t>bounds.start_size
        op.value, op.value_len = bounds.stop_at, <uint32_t>bounds.stop_size
        if bounds.stop_size == 1:
            op.value_len = 0  # to the end of the space
        return ops_add(ops, &op, self.max_transaction)

    def clear(self, *, durability=None):
        """Deletes every key, in one atomic commit. Raises as ``delete_range``. Cost: as ``delete_range``.

        >>> db.clear()
        """
        self.delete_range(durability=durability)

    def _pop(self, key, durability):
        """(value,) of the key that this call deleted, or None."""
        cdef Outcome out
        self.check_writable()
        self.level_of(durability)
        while True:
            entry = self._entry(key)
            if entry is None:
                return None
            if not self.commit_one(key, None, True, C_IF_VERSION, entry[1], durability, &out) and out.status == C_OK:
                return (entry[0],)

    def setdefault(self, key, default=None, *, ttl=None, durability=None):
        """The value of *key*; if it is missing, stores *default* there, in one atomic step, and returns that.

        *ttl* is that of *default* if it is stored, as in ``set``. Raises as ``set``. Cost: a read; one commit if the key is
        missing.

        >>> db.setdefault("visits", 0)
        0
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
        contest_init(&contest)
        key_encode_checked(&encoded, key, self.max_key)
        try:
            while True:
                payload = self.look(&encoded, &found, &codec)
                if payload is not None:
                    return self.value_of(payload, codec, found.lsn)
                if self.swap_value(&encoded, 0, default, flags, expires_us, level, &contest, &out):
                    return default
        finally:
            key_free(&encoded)
