# The writing calls of a transaction, and savepoints. Each has the meaning of the same call on the database, judged in the
# transaction.

cdef class TxnHandle(TxnReads):
    """The base of ``memdb.Transaction``: its reading and writing calls."""

    # ---- writing one key

    cdef bint holds(self, bytes stored, bint if_absent, object if_version) except -1:
        """Whether the condition of a write does."""
        cdef uint64_t expires_us
        if if_version is not None:
            if if_absent:
                raise ValueError("if_absent and if_version exclude each other")
            return <uint64_t>self.version_now(stored, &expires_us) == self.handle.version_of(if_version)
        return not if_absent or self.version_now(stored, &expires_us) < 0

    cdef uint64_t expiry(self, bytes stored, object ttl) except? 0:
        """When a value set with *ttl* expires: 0 never. KEEP: when what is there now does."""
        cdef uint64_t expires_us = 0
        if ttl is _KEEP:
            self.version_now(stored, &expires_us)
            return expires_us
        return self.time_now() + ttl_us(ttl)

    def set(self, key, value, *, ttl=None, if_absent=False, if_version=None):
        """Stores *value* under *key* when the transaction commits; False, and nothing is done, if the condition fails.

        *ttl*: seconds or timedelta after the later of the snapshot's time and now; ``memdb.KEEP`` keeps what is there.
        *if_absent*, *if_version*: as on the database, judged in the transaction; its own writes have no version. Raises
        UnsupportedType, KeyTooLarge, ValueTooLarge, TransactionTooLarge, ReadOnlyError, ClosedError. Cost: below 1 µs, no
        message.

        >>> tx.set("user:1", {"name": "Alice"}, if_absent=True)
        True
        """
        cdef bytes stored
        cdef OwnWrite write
        self.begin_write()
        try:
            stored = self.key_to_write(key)
            write = self.write_of(value, 0 if ttl is None else self.expiry(stored, ttl))
            if (if_absent or if_version is not None) and not self.holds(stored, if_absent, if_version):
                return False
            self.put(stored, write)
            return True
        finally:
            self.end_use()

    def __setitem__(self, key, value):
        cdef bytes stored
        self.begin_write()
        try:
            stored = self.key_to_write(key)
            self.put(stored, self.write_of(value, 0))
        finally:
            self.end_use()

    cdef bint remove(self, object key, object if_version) except -1:
        """Whether it was there, and of that version."""
        cdef uint64_t expires_us
        cdef int64_t version
        cdef bytes stored = self.key_to_read(key)
        if if_version is not None:
            wanted = self.handle.version_of(if_version)
        if stored is None or <uint64_t>PyBytes_GET_SIZE(stored) > self.handle.max_key + KEY_OVERHEAD:
            return False
        version = self.version_now(stored, &expires_us)
        if version < 0 or (if_version is not None and wanted != version):
            return False
        self.put(stored, _DELETED)
        return True

    def delete(self, key, *, if_version=None):
        """Deletes *key* when the transaction commits; whether it is there now (and of version *if_version*, if given).

        Reads the key. Raises UnsupportedType, TransactionTooLarge, ReadOnlyError, ClosedError. Cost: as ``get``.

        >>> tx.delete("user:1")
        True
        """
        self.begin_write()
        try:
            return self.remove(key, if_version)
        finally:
            self.end_use()

    def __delitem__(self, key):
        self.begin_write()
        try:
            if not self.remove(key, None):
                raise KeyError(key)
        finally:
            self.end_use()

    def increment(self, key, by=1):
        """Adds *by* to the number under *key*, where missing counts as 0, and returns the sum. The TTL is kept.

        Reads the key, so it can conflict; ``increment`` of the database never does. Raises TypeError if either is no int or
        float (a bool is none), and as ``set``. Cost: a read and a write in memory.

        >>> tx.increment("visits", 2)
        3
        """
        cdef bytes stored
        cdef OwnWrite old
        cdef uint64_t lsn
        self.begin_write()
        try:
            by = addend(by)
            stored = self.key_to_write(key)
            old = self.present(stored, &lsn)
            total = by if old is None else added(key, self.own_value(old), by)
            self.put(stored, self.write_of(total, 0 if old is None else old.expires_us))
            return total
        finally:
            self.end_use()

    def setdefault(self, key, default=None, *, ttl=None):
        """The value of *key*; if it is missing, *default* is set there, with *ttl* if given. Raises as ``set``.
        Cost: a read.

        >>> tx.setdefault("visits", 0)
        0
        """
        self.begin_write()
        try:
            value = self.fetch(key, _ABSENT)
            if value is _ABSENT:
                self.set(key, default, ttl=ttl)
                value = default
            return value
        finally:
            self.end_use()

    def _pop(self, key):
        """(value,) of the key that this call deleted, or None."""
        self.begin_write()
        try:
            value = self.fetch(key, _ABSENT)
            if value is _ABSENT:
                return None
            self.remove(key, None)
            return (value,)
        finally:
            self.end_use()

    # ---- expiry

    cdef bint expire_at(self, object key, uint64_t expires_us) except -1:
        """Gives a present value another expiry; False if there is none, or there is nothing to change."""
        cdef OwnWrite old
        cdef uint64_t lsn
        cdef bytes stored = self.key_to_read(key)
        if stored is None:
            return False
        old = self.present(stored, &lsn)
        if old is None or (expires_us == 0 and old.expires_us == 0):
            return False
        self.put(stored, own_write(old.data, old.raw, expires_us))
        return True

    def expire(self, key, ttl):
        """Lets *key* expire *ttl* (seconds or timedelta) from now; whether it is there. Reads the key. Raises as ``set``.
        Cost: a read.

        >>> tx.expire("session:1", 1800)
        True
        """
        if ttl is None or ttl is _KEEP:
            raise TypeError(f"ttl must be seconds (int or float) or a timedelta, not {ttl!r}; persist(key) removes a TTL")
        self.begin_write()
        try:
            return self.expire_at(key, self.time_now() + ttl_us(ttl))
        finally:
            self.end_use()

    def persist(self, key):
        """Takes the TTL of *key* away; whether it had one. Reads the key. Raises as ``set``.
        Cost: a read.

        >>> tx.persist("session:1")
        True
        """
        self.begin_write()
        try:
            return self.expire_at(key, 0)
        finally:
            self.end_use()

    # ---- writing many

    def set_many(self, mapping_or_pairs, *, ttl=None):
        """Stores all pairs of a mapping, or of an iterable of (key, value); none of them if the iterable raises.

        Raises as ``set``. Cost: about 0.5 µs a pair, no message.

        >>> tx.set_many({"a": 1, "b": 2})
        """
        self.begin_write()
        try:
            self.put_pairs(mapping_or_pairs, {}, ttl)
        finally:
            self.end_use()

    def update(self, other=(), /, **more):
        """As ``dict.update``; nothing is written if *other* raises. Raises as ``set``. Cost: as ``set_many``.

        >>> tx.update({"a": 1}, b=2)
        """
        self.begin_write()
        try:
            self.put_pairs(other, more, None)
        finally:
            self.end_use()

    cdef int put_pairs(self, object source, dict more, object ttl) except -1:
        """All of them or none; their TTL counts from before the first."""
        cdef list stored = [], writes = []
        cdef uint64_t expires_us = 0 if ttl is None or ttl is _KEEP else self.expiry(None, ttl)
        for pairs in (pairs_of(source), more.items()):
            for key, value in pairs:
                name = self.key_to_write(key)
                writes.append(self.write_of(value, self.expiry(name, ttl) if ttl is _KEEP else expires_us))
                stored.append(name)
        self.put_all(stored, writes)
        return 0

    def delete_many(self, keys):
        """Deletes *keys*; how many are there now. Reads them. Raises as ``delete``. Cost: a read a key.

        >>> tx.delete_many(["a", "b", "missing"])
        2
        """
        if isinstance(keys, (str, bytes)):
            raise TypeError(f"keys must be an iterable of keys, not {type(keys).__name__}: use delete for one key")
        cdef Py_ssize_t count = 0
        cdef uint64_t expires_us
        cdef dict there = {}
        self.begin_write()
        try:
            for key in keys:
                stored = self.key_to_read(key)
                if stored is not None and stored not in there and self.version_now(stored, &expires_us) >= 0:
                    there[stored] = _DELETED
            self.put_all(list(there), list(there.values()))
            return len(there)
        finally:
            self.end_use()

    def delete_range(self, start=None, stop=None, *, prefix=None):
        """Deletes the keys of a range (as ``range``); how many are there now. Reads the range.

        Raises UnsupportedType, TransactionTooLarge, ReadOnlyError, ClosedError. Cost: a walk over the range; one small
        record in the log. Above 64 separate ranges, one a key.

        >>> tx.delete_range(prefix="user:")
        17
        """
        cdef Bounds bounds
        cdef uint64_t count
        self.begin_write()
        try:
            bounds = make_bounds(start, stop, prefix)
            if max(bounds.start_size, bounds.stop_size) > self.handle.max_key + KEY_OVERHEAD:
                raise _key_too_large(max(bounds.start_size, bounds.stop_size) - KEY_OVERHEAD, self.handle.max_key)
            count = self.count_range(bounds)
            if count and not self.cut(bounds.start, bounds.stop):
                found = make_txn_scan(self, SCAN_KEYS, bounds, False, None).stored_keys()
                self.put_all(found, [_DELETED] * len(found))
            return count
        finally:
            self.end_use()

    def clear(self):
        """Deletes every key, those included that others add until the commit. Reads nothing. Raises as ``delete_range``.
        Cost: none until the commit.

        >>> tx.clear()
        """
        self.begin_write()
        try:
            self.cut(_SPACE_START, _SPACE_STOP)
        finally:
            self.end_use()

    # ---- savepoints

    def savepoint(self):
        """A point to which ``rollback_to`` returns. Raises ClosedError. Cost: none; writes after it are logged in memory.

        >>> before = tx.savepoint()
        """
        self.begin_use()
        try:
            return self.mark()
        finally:
            self.end_use()

    def rollback_to(self, savepoint):
        """Takes back every write since *savepoint*, which stays; later savepoints are gone. What was read stays read.

        Raises ValueError for a savepoint of another transaction, or one that is gone; ClosedError. Cost: that of the
        writes taken back.

        >>> tx.rollback_to(before)
        """
        if type(savepoint) is not Savepoint:
            raise TypeError(f"savepoint must be what savepoint() returned, not {type(savepoint).__name__}")
        self.begin_use()
        try:
            self.back_to(savepoint)
        finally:
            self.end_use()


cdef object pairs_of(object source):
    """The (key, value) pairs of a mapping or of an iterable of pairs."""
    if isinstance(source, dict):
        return (<dict>source).items()
    if hasattr(source, "keys"):
        return [(key, source[key]) for key in source.keys()]
    return checked_pairs(source)


def checked_pairs(source):
    for position, pair in enumerate(source):
        pair = tuple(pair)
        if len(pair) != 2:
            raise ValueError(f"element {position} has length {len(pair)}; (key, value) is needed")
        yield pair


cdef object addend(object by):
    if isinstance(by, bool) or not isinstance(by, (int, float)):
        raise TypeError(f"by must be an int or float, not {type(by).__name__}")
    return int(by) if isinstance(by, int) else float(by)


cdef object added(object key, object value, object by):
    if type(value) is not int and type(value) is not float:
        raise TypeError(f"increment({key!r}): its value is a {type(value).__name__}, and only an int or float can be incremented")
    return value + by
