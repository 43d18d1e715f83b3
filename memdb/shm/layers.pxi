# What layers over transactions use besides the calls of a database (memdb/layering.py is their door): stored keys without an
# object around each, values that are encoded already, one instant of expiry for several keys.
#
# Invariants:
#  - Only keys of the layers' spaces: the mapping's values are written through the mapping's calls.
#  - A read here is noted by its transaction as any other; a write is all of its keys or none.

cdef inline bytes layer_key(object key):
    if type(key) is SpaceKey:
        key = (<SpaceKey>key).stored
    elif type(key) is not bytes:
        raise TypeError(f"a layer's key is a SpaceKey or its stored bytes, not {type(key).__name__}")
    check_stored_key(<bytes>key)
    return <bytes>key


cdef inline bytes layer_key_to_write(TxnHandle tx, object key):
    cdef bytes stored = layer_key(key)
    if <uint64_t>PyBytes_GET_SIZE(stored) > tx.handle.max_key + KEY_OVERHEAD:
        raise _key_too_large(PyBytes_GET_SIZE(stored) - KEY_OVERHEAD, tx.handle.max_key)
    return stored


cdef Keys layer_keys(object keys):
    cdef Keys all_of_them = Keys(())
    cdef KeyBytes one
    cdef bytes stored
    one.heap = NULL
    for key in keys:
        stored = layer_key(key)
        one.at, one.size = <uint8_t *>PyBytes_AS_STRING(stored), <size_t>PyBytes_GET_SIZE(stored)
        if one.size > C_KEY_MAX:
            one.size = 0  # no stored key is so long: an empty one is never found
        all_of_them.add(&one)
    return all_of_them


def put(TxnHandle tx not None, key, value, uint64_t expires_us=0):
    """Stores *value* under a SpaceKey when the transaction commits, until *expires_us* (µs since 1970; 0: for good).

    Raises as ``Transaction.set``, and TypeError for another key. Cost: below 1 µs, no message.

    >>> put(tx, SpaceKey(b"\\x04one"), {"_id": 1}, expiry_us(tx, 60))
    """
    cdef bytes stored
    tx.begin_write()
    try:
        stored = layer_key_to_write(tx, key)
        tx.put(stored, tx.write_of(value, expires_us))
    finally:
        tx.end_use()


cdef int check_stored_value(object value, uint64_t limit) except -1:
    cdef Py_ssize_t size
    if type(value) is not bytes:
        raise TypeError(f"a stored value is bytes, as values.encode gives them, not {type(value).__name__}")
    size = PyBytes_GET_SIZE(<bytes>value) - 1
    if size < 0 or PyBytes_AS_STRING(<bytes>value)[size] not in (0, 1):
        raise ValueError("a stored value ends in its codec byte, 0 or 1: take what values.encode gives")
    if <uint64_t>size > limit:
        raise value_too_large(size, limit)
    return 0


def put_many(TxnHandle tx not None, items):
    """Stores or deletes many keys when the transaction commits: all of them or none. Reads nothing.

    *items*: of (key, stored, expires_us): the key as bytes in stored form or a SpaceKey; *stored* what ``values.encode`` gives,
    or None to delete the key; *expires_us* µs since 1970, 0 never. Of one key the last counts. Raises TypeError, ValueError,
    KeyTooLarge, ValueTooLarge, TransactionTooLarge, ReadOnlyError, ClosedError. Cost: about 0.2 µs a key, no message.

    >>> put_many(tx, [(b"\\x04one", values.encode({"_id": 1}), 0), (b"\\x04two", None, 0)])
    """
    cdef list stored = [], writes = []
    cdef uint64_t limit = tx.handle.max_value
    tx.begin_write()
    try:
        for key, value, expires_us in items:
            stored.append(layer_key_to_write(tx, key))
            if value is None:
                writes.append(_DELETED)
                continue
            check_stored_value(value, limit)
            writes.append(own_write(<bytes>value, False, expires_us))
        tx.put_all(stored, writes)
    finally:
        tx.end_use()


def put_columns(TxnHandle tx not None, list columns not None, uint64_t expires_us=0):
    """As put_many(), by columns: for many keys that come together, without an object around each.

    *columns*: of (keys, values), lists of the same length, of stored keys and of what ``values.encode`` gives. All of them
    or none; of one key the last counts. Raises as put_many(). Cost: about 0.1 µs a key, no message.

    >>> put_columns(tx, [([b"\\x04one", b"\\x04two"], [values.encode(1), values.encode(2)])])
    """
    cdef list stored = [], writes = [], keys, column
    cdef uint64_t limit = tx.handle.max_value
    cdef Py_ssize_t i
    tx.begin_write()
    try:
        for keys, column in columns:
            if len(keys) != len(column):
                raise ValueError(f"a column has {len(keys)} keys and {len(column)} values")
            for i in range(len(keys)):
                stored.append(layer_key_to_write(tx, keys[i]))
                check_stored_value(column[i], limit)
                writes.append(own_write(<bytes>column[i], False, expires_us))
        tx.put_all(stored, writes)
    finally:
        tx.end_use()


def get_many(Reads source not None, keys, default=None):
    """The values of *keys* (SpaceKeys or their stored bytes) in their order, *default* for those that are missing.

    *source*: a Database, Snapshot or Transaction; all of one point in time. Raises as its ``get_many``, and TypeError,
    ValueError for other keys. Cost: as its ``get_many``.

    >>> get_many(db, [b"\\x04one", b"\\x04none"])
    [{'_id': 1}, None]
    """
    return source.get_all(keys, default, MANY_LAYER_VALUES)


def payloads(Reads source not None, keys):
    """As get_many(), but each value as its stored payload (``values.unpack`` reads one that is no ``bytes``); None where missing.

    Raises as get_many(). Cost: as get_many(), without unpacking.

    >>> payloads(db, [b"\\x04one"])
    [b'\\x81\\xa3_id\\x01']
    """
    return source.get_all(keys, None, MANY_LAYER_PAYLOADS)


def scan_payloads(Reads source not None, start, stop, *, reverse=False, limit=None):
    """Iterates over (stored key, payload) of a range between two SpaceKeys: as ``range``, without unpacking the values.

    Raises as ``range``. Cost: as ``range``, less what values cost to unpack.

    >>> list(scan_payloads(db, SpaceKey(b"\\x04"), SpaceKey(b"\\x05")))
    [(b'\\x04one', b'\\x81\\xa3_id\\x01')]
    """
    if type(start) is not SpaceKey:
        check_space_range(start, stop, None)
    return source._scan(SCAN_PAYLOADS, start, stop, None, reverse, limit)


def expiry_us(TxnHandle tx not None, ttl):
    """When a value that is written now with *ttl* (seconds or a timedelta) expires, in µs since 1970; 0 for None: never.

    For several keys that shall expire at one instant. Raises TypeError, ValueError, ClosedError. Cost: below 1 µs.

    >>> expiry_us(tx, 60)
    1764000060000000
    """
    tx.begin_use()
    try:
        return 0 if ttl is None else tx.time_now() + ttl_us(ttl)
    finally:
        tx.end_use()


def entry_us(Reads source not None, key):
    """(value, version, expires_us) of a key as *source* sees it, or None; expires_us 0: never, version 0: an own write.

    Raises as ``entry``. Cost: as ``get``.

    >>> entry_us(db, SpaceKey(b"\\x04one"))
    ({'_id': 1}, 17, 0)
    """
    return source._entry(key)


def guard(TxnHandle tx not None, key):
    """Makes the commit fail if the value under a SpaceKey is written meanwhile, as a read does: at isolation ``snapshot`` too,
    where reads are not validated.

    Raises TypeError, ValueError, TransactionTooLarge, ClosedError. Cost: as ``get``.

    >>> guard(tx, SpaceKey(b"\\x03people"))
    """
    cdef bytes stored = layer_key(key)
    tx.begin_use()
    try:
        tx.keep_unchanged(stored)
    finally:
        tx.end_use()


def guard_range(TxnHandle tx not None, start, stop):
    """As guard(), of all keys between two SpaceKeys: the commit fails if any of them is set or deleted meanwhile.

    Raises TypeError, ValueError, TransactionTooLarge, ClosedError. Cost: below 1 µs.

    >>> guard_range(tx, SpaceKey(b"\\x04\\x01"), SpaceKey(b"\\x04\\x02"))
    """
    cdef Bounds bounds
    if type(start) is not SpaceKey:
        check_space_range(start, stop, None)
    tx.begin_use()
    try:
        bounds = make_bounds(start, stop, None)
        if not bounds.empty:
            tx.keep_range_unchanged(bounds.start, bounds.stop)
    finally:
        tx.end_use()


def discard_range(TxnHandle tx not None, start, stop):
    """Deletes what lies between two SpaceKeys when the transaction commits, also what others put there until then. Reads
    nothing, so nothing there can make the commit fail at isolation ``serializable``.

    Raises TypeError, ValueError, TransactionTooLarge, ReadOnlyError, ClosedError. Cost: none until the commit. Above 64 separate
    ranges in one transaction it is a walk over the range, and the commit fails if anything there is written meanwhile.

    >>> discard_range(tx, SpaceKey(b"\\x04\\x01"), SpaceKey(b"\\x04\\x02"))
    """
    cdef Bounds bounds
    cdef list found
    if type(start) is not SpaceKey:
        check_space_range(start, stop, None)
    tx.begin_write()
    try:
        bounds = make_bounds(start, stop, None)
        if not bounds.empty and not tx.cut(bounds.start, bounds.stop):
            tx.keep_range_unchanged(bounds.start, bounds.stop)
            found = make_txn_scan(tx, SCAN_KEYS, bounds, False, None).stored_keys()
            tx.put_all(found, [_DELETED] * len(found))
    finally:
        tx.end_use()
