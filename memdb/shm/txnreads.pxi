# Reading in a transaction: own writes first, then the snapshot, and a note of what was seen there.

cdef class TxnReads(TxnCommit):
    """The reading calls of a transaction. Not for use on its own."""

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
        return self.get_all(keys, default, MANY_VALUES)

    cdef list get_all(self, object keys, object default, ManyKind kind):
        cdef Keys asked, missed
        cdef bint unpacked = kind != MANY_LAYER_PAYLOADS
        cdef list places = [], values, payloads, stored = []
        cdef KeyBytes encoded
        cdef OwnWrite own
        cdef Py_ssize_t i
        cdef uint32_t begins = 0
        self.begin_use()
        try:
            asked, missed = Keys(keys) if kind == MANY_VALUES else layer_keys(keys), Keys(())
            values = [default] * asked.count
            for i in range(asked.count):
                key = c_bytes_of(<const char *>asked.at + begins, <Py_ssize_t>(asked.ends[i] - begins))
                begins = asked.ends[i]
                own = self.own(key)
                if own is not None:
                    if own.data is not None:
                        values[i] = self.own_value(own) if unpacked else own_payload(own)
                elif key:
                    encoded.at, encoded.size = <uint8_t *>PyBytes_AS_STRING(key), <size_t>PyBytes_GET_SIZE(key)
                    missed.add(&encoded)
                    places.append(i)
                    stored.append(key)
            payloads = [_ABSENT] * missed.count
            packed = set(self.read_noted(missed, stored, payloads))
            for i in range(missed.count):
                if payloads[i] is not _ABSENT:
                    values[places[i]] = self.unpack_value(payloads[i]) if unpacked and i in packed else payloads[i]
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
