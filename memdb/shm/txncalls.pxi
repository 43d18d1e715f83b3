# The calls of a transaction. Each has the meaning of the same call on the database, judged in the transaction.

cdef class TxnHandle(TxnCommit):
    """The base of ``memdb.Transaction``: its reading and writing calls."""

    # ---- reading

    cdef object fetch(self, object key, object missing):
        cdef c_found found
        cdef PyObject *data = NULL
        cdef int codec = 0
        cdef bytes stored
        cdef OwnWrite own
        self.begin_use()
        try:
            stored = self.key_to_read(key)
            if stored is None:
                return missing
            own = self.own(stored)
            if own is not None:
                return missing if own.data is None else self.own_value(own)
            if self.base(stored, True, &found, &data, &codec) == C_ABSENT:
                return missing
            return self.finish(data, codec, found.lsn)
        finally:
            self.end_use()

    cdef int64_t version_now(self, bytes stored, uint64_t *expires_us) except -2:
        """The version that the transaction sees: -1 none is there, 0 an own write, else its LSN."""
        cdef c_found found
        cdef PyObject *data = NULL
        cdef int codec = 0
        cdef OwnWrite own = self.own(stored)
        expires_us[0] = 0
        if own is not None:
            expires_us[0] = own.expires_us
            return -1 if own.data is None else 0
        if self.base(stored, False, &found, &data, &codec) == C_ABSENT:
            return -1
        expires_us[0] = found.expires_us
        return <int64_t>found.lsn

    def __contains__(self, key):
        cdef uint64_t expires_us
        self.begin_use()
        try:
            stored = self.key_to_read(key)
            return stored is not None and self.version_now(stored, &expires_us) >= 0
        finally:
            self.end_use()

    cdef OwnWrite present(self, bytes stored, uint64_t *lsn):
        """The key's stored value and expiry as the transaction sees them; None if it is missing."""
        cdef c_found found
        cdef PyObject *data = NULL
        cdef int codec = 0
        cdef OwnWrite own = self.own(stored)
        lsn[0] = 0
        if own is not None:
            return None if own.data is None else own
        if self.base(stored, True, &found, &data, &codec) == C_ABSENT:
            return None
        if data == NULL or codec > 1:
            c_decref(data)
            raise damaged_value(codec, found.lsn)
        payload = <object>data
        c_decref(data)
        lsn[0] = found.lsn
        return own_write(payload if codec == 0 else payload + b"\1", codec == 0, found.expires_us)

    def _entry(self, key):
        """(value, version, expires_us) or None; version 0: the transaction's own write."""
        cdef OwnWrite write
        cdef uint64_t lsn
        self.begin_use()
        try:
            stored = self.key_to_read(key)
            write = None if stored is None else self.present(stored, &lsn)
            return None if write is None else (self.own_value(write), lsn, write.expires_us)
        finally:
            self.end_use()

    def get_many(self, keys, default=None):
        """The values of *keys* in their order, *default* for those that are missing.

        Raises UnsupportedType, ClosedError, SnapshotExpired. Cost: as ``get_many`` of the database, and a note a key.

        >>> tx.get_many(["a", "b"], 0)
        [1, 0]
        """
        cdef Keys asked, missed
        cdef list places = [], values, payloads, stored = []
        cdef KeyBytes encoded
        cdef OwnWrite own
        cdef Py_ssize_t i
        cdef uint32_t begins = 0
        self.begin_use()
        try:
            asked, missed = Keys(keys), Keys(())
            values = [default] * asked.count
            for i in range(asked.count):
                key = c_bytes_of(<const char *>asked.at + begins, <Py_ssize_t>(asked.ends[i] - begins))
                begins = asked.ends[i]
                own = self.own(key)
                if own is not None:
                    if own.data is not None:
                        values[i] = self.own_value(own)
                elif key:
                    encoded.at, encoded.size = <uint8_t *>PyBytes_AS_STRING(key), <size_t>PyBytes_GET_SIZE(key)
                    missed.add(&encoded)
                    places.append(i)
                    stored.append(key)
            payloads = [_ABSENT] * missed.count
            packed = set(self.read_noted(missed, stored, payloads))
            for i in range(missed.count):
                if payloads[i] is not _ABSENT:
                    values[places[i]] = self.unpack_value(payloads[i]) if i in packed else payloads[i]
            return values
        finally:
            self.end_use()

    cdef list read_noted(self, Keys keys, list stored, list payloads):
        """The payloads of *keys* in the snapshot; the indexes of those still to be unpacked."""
        cdef bytearray codecs = bytearray(keys.count)
        cdef bytearray seen = bytearray(2 * sizeof(uint64_t) * keys.count)
        cdef uint8_t *codec_at = <uint8_t *>PyByteArray_AS_STRING(codecs)
        cdef uint64_t *seen_at = <uint64_t *>PyByteArray_AS_STRING(seen)
        cdef uint64_t bad_lsn = 0
        cdef Py_ssize_t i
        cdef int rc
        self.pin.enter()
        rc = read_batch(&self.pin.pin, keys, payloads, codec_at, &bad_lsn, seen_at)
        self.pin.leave()
        if rc < 0:
            raise damaged_arena(bad_lsn or self.pin.pin.lsn)
        if self.serializable:
            for i in range(keys.count):
                self.note_read(stored[i], seen_at[2 * i], seen_at[2 * i + 1])
        return codec_indexes(codec_at, keys.count)

    cdef PinRef pin_for_scan(self):
        self.pin.enter()
        return self.pin

    def range(self, start=None, stop=None, *, prefix=None, reverse=False, limit=None):
        """Iterates over (key, value) in key order, over the snapshot and the transaction's own writes.

        Bounds, *prefix*, *reverse* and *limit* as in ``range`` of the database. What is written meanwhile is not seen. It
        counts as read as far as the iteration came. Raises UnsupportedType, ValueError; while iterating SnapshotExpired, and
        ClosedError once the transaction has ended. Cost: as on the database, and a note an item.

        >>> list(tx.range(prefix="user:", reverse=True, limit=1))
        [('user:2', {'name': 'Bob'})]
        """
        return self._scan(SCAN_ITEMS, start, stop, prefix, reverse, limit)

    def _scan(self, int kind, start=None, stop=None, prefix=None, reverse=False, limit=None):
        """range() of items (0), keys (1) or values (2)."""
        self.begin_use()
        self.end_use()
        return make_txn_scan(self, kind, make_bounds(start, stop, prefix), reverse, limit)

    def _count(self, start=None, stop=None, prefix=None):
        """How many keys of the range the transaction sees. Cost: a walk over them."""
        self.begin_use()
        try:
            return self.count_range(make_bounds(start, stop, prefix))
        finally:
            self.end_use()

    cdef uint64_t count_range(self, Bounds bounds) except? 0:
        if bounds.empty:
            return 0
        return make_txn_scan(self, SCAN_KEYS, bounds, False, None).count()

    def __len__(self):
        return self._count()

    def __bool__(self):
        """Whether there is a key: reads as far as the first one."""
        for _ in self._scan(SCAN_KEYS, limit=1):
            return True
        return False

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
        float, and as ``set``. Cost: a read and a write in memory.

        >>> tx.increment("visits", 2)
        3
        """
        cdef bytes stored
        cdef OwnWrite old
        cdef uint64_t lsn
        self.begin_write()
        try:
            check_increment(by)
            stored = self.key_to_write(key)
            old = self.present(stored, &lsn)
            total = add_numbers(key, 0 if old is None else self.own_value(old), by)
            self.put(stored, self.write_of(total, 0 if old is None else old.expires_us))
            return total
        finally:
            self.end_use()

    def setdefault(self, key, default=None, *, ttl=None):
        """The value of *key*; if it is missing, *default* is set there, with *ttl* if given. Raises as ``set``.

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

    cdef uint64_t time_now(self) except? 0:
        """The later of the snapshot's time and now, in microseconds since 1970."""
        return max(self.pin.pin.time_us, self.handle.now_us())

    def ttl(self, key):
        """Seconds that the value of *key* has left; None if it has no TTL. Of what the snapshot has: from its time on.

        An own write whose time has passed within the transaction is still there, with next to nothing left. Raises KeyError
        for a missing key, and as ``get``. Cost: as ``get``.

        >>> tx.ttl("session:1")
        1799.9
        """
        cdef uint64_t expires_us, now
        self.begin_use()
        try:
            stored = self.key_to_read(key)
            if stored is None:
                raise KeyError(key)
            now = self.pin.pin.time_us if self.own(stored) is None else self.time_now()
            if self.version_now(stored, &expires_us) < 0:
                raise KeyError(key)
            if expires_us == 0:
                return None
            return (expires_us - now if expires_us > now else 1) / 1e6
        finally:
            self.end_use()

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
        """As ``dict.update``; nothing is written if *other* raises. Raises as ``set``.

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
        """Deletes *keys*; how many are there now. Reads them. Raises as ``delete``.

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


cdef int check_increment(object by) except -1:
    if type(by) not in (int, float):
        raise TypeError(f"by must be an int or a float, not {type(by).__name__}")
    return 0


cdef object add_numbers(object key, object value, object by):
    if type(value) not in (int, float):
        raise TypeError(f"increment: the value of {shown(key)} is no number but {type(value).__name__}")
    return value + by
