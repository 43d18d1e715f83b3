# The end of a transaction: what it has read goes before what it writes, and the writer judges both as one (rule C6).
#
# Invariants:
#  - Whatever commit() raises, the transaction is over; nothing of it was done, except where the error is OutcomeUnknown.
#  - A transaction that wrote nothing sends nothing and never conflicts.
#  - The read section never says less than what was read; where it would be too long it says more (ranges for points).
#  - The pin is given back before the writer is asked: a long queue keeps no versions.

cdef enum:
    CONFLICT_SNAPSHOT = 100    # found here: the snapshot was revoked before its versions could be looked up
    LOOK_FOR_CHANGED = 4096    # keys of a range among which the changed ones are looked for
    NAME_CHANGED = 8           # and so many of them are named

cdef dict _REASONS = {C_CONFLICT_POINT: "changed", C_CONFLICT_RANGE: "range", C_CONFLICT_EXPIRED: "expired",
                      C_CONFLICT_WINDOW: "window", C_CONFLICT_GENERATION: "generation", CONFLICT_SNAPSHOT: "snapshot"}


cdef class TxnCommit(TxnState):
    """Ending a transaction. Not for use on its own."""

    cdef Outcome outcome
    cdef bint sent                 # outcome names a commit that was done, or may have been
    cdef bytes unknown_id

    @property
    def lsn(self) -> int:
        """The LSN of the last commit that the transaction's snapshot sees."""
        return self.pin.pin.lsn

    @property
    def closed(self) -> bool:
        """Whether the transaction has ended."""
        return self.state != TXN_OPEN

    @property
    def isolation(self) -> str:
        """``serializable`` or ``snapshot``."""
        return "serializable" if self.serializable else "snapshot"

    @property
    def commit_lsn(self):
        """The LSN of its commit; None before that, and if nothing was written."""
        return self.outcome.lsn if self.state == TXN_COMMITTED and self.sent else None

    @property
    def id(self):
        """The 24 bytes that name its commit for ever, for ``db.outcome``; None before it, and if nothing was written.

        After OutcomeUnknown: the id of the commit in question.
        """
        if self.unknown_id is not None:
            return self.unknown_id
        if self.state != TXN_COMMITTED or not self.sent:
            return None
        return c_bytes_of(<const char *>self.outcome.client_id, 16) + int(self.outcome.request).to_bytes(8, "little")

    def commit(self):
        """Ends the transaction: all of its writes in one atomic commit, if what it read still holds. The block calls it.

        Raises ConflictError, TransactionTooLarge, ArenaFullError, ReadOnlyError, Timeout, OutcomeUnknown, ClosedError;
        after each of them the transaction has ended. Cost: one commit; without writes no message.

        >>> tx.commit()
        """
        self.begin_end()
        try:
            self.send()
        finally:
            self.end_use()

    def abort(self):
        """Ends the transaction without a trace. Idempotent; ClosedError after a commit. Cost: none.

        >>> tx.abort()
        """
        if self.state == TXN_ABORTED:
            return
        self.begin_end()
        self.end(TXN_ABORTED, "was aborted")
        self.end_use()

    cdef int begin_end(self) except -1:
        """begin_use() of what ends the transaction: not from within another call of it, which would go on with nothing."""
        self.begin_use()
        if self.depth > 1:
            self.end_use()
            raise Error("the transaction can't end inside one of its own calls (an iterable that was given to it, or a signal "
                        "handler, tries to): end it when that call has returned")
        return 0

    def __enter__(self):
        self.begin_use()
        self.end_use()
        return self

    def __exit__(self, kind, error, trace):
        if self.state != TXN_OPEN:
            return
        if kind is None:
            self.commit()
        elif self.pin.client.forks == fork_count:
            self.abort()

    cdef void end(self, int state, str why) noexcept:
        self.state, self.why_ended = state, why
        self.pin.close()
        self.reads = self.writes = None
        self.ranges = self.gaps = self.kept = self.order = self.savepoints = self.undo = None

    cdef int send(self) except -1:
        cdef Ops ops
        cdef list entries = None
        cdef int reason = 0
        if not self.writes and self.gaps is None:
            self.end(TXN_COMMITTED, "was committed, without a write")
            return 0
        ops_init(&ops)
        try:
            entries = self.add_reads(&ops)
            self.add_writes(&ops)
            if ops.base and not self.same_generation():
                reason = C_CONFLICT_GENERATION
            else:
                self.pin.close()
                self.handle.commit(&ops, self.level, &self.outcome, self.timeout)
                if self.outcome.status == C_CONFLICT:
                    reason = <int>self.outcome.count
        except SnapshotExpired:
            reason = CONFLICT_SNAPSHOT
            self.outcome.winner = 0
        except OutcomeUnknown as error:
            self.unknown_id = error.id
            self.end(TXN_ABORTED, "was sent, and its outcome is not known (db.outcome of its id tells)")
            raise
        except BaseException as error:
            self.end(TXN_ABORTED, f"failed to commit ({type(error).__name__})")
            raise
        finally:
            ops_free(&ops)
        if reason:
            error = self.conflict(reason, entries)
            self.end(TXN_ABORTED, f"was not committed, because of a conflict ({error.reason})")
            raise error
        self.sent = self.outcome.count > 0
        self.end(TXN_COMMITTED, f"was committed at LSN {self.outcome.lsn}" if self.sent else "was committed, without an effect")
        return 0

    cdef bint same_generation(self) except -1:
        """Whether the writer that serves now can judge the snapshot at all; it looks again itself."""
        cdef Client client = self.handle.live()
        self.outcome.winner = self.outcome.detail = 0
        return client is self.pin.client and client.word == self.word

    # ---- what was written

    cdef int add_writes(self, Ops *ops) except -1:
        cdef uint64_t limit = self.handle.max_transaction
        cdef PyObject *key = NULL
        cdef PyObject *value = NULL
        cdef Py_ssize_t position = 0
        cdef OwnWrite write
        cdef c_op op
        memset(&op, 0, sizeof(op))
        op.code = C_OP_DELETE_RANGE
        for start, stop in self.gaps or ():
            op.key, op.key_len = <const uint8_t *>PyBytes_AS_STRING(start), <uint16_t>PyBytes_GET_SIZE(start)
            op.value = <const uint8_t *>PyBytes_AS_STRING(stop)
            op.value_len = 0 if PyBytes_GET_SIZE(stop) == 1 else <uint32_t>PyBytes_GET_SIZE(stop)  # to the end of the space
            ops_add(ops, &op, limit)
        while PyDict_Next(self.writes, &position, &key, &value):
            write = <OwnWrite>value
            op.key, op.key_len = <const uint8_t *>c_bytes_data(key), <uint16_t>PyBytes_GET_SIZE(<object>key)
            op.flags, op.expires_us = 0, write.expires_us
            if write.data is None:
                op.code, op.value, op.value_len = C_OP_DELETE, NULL, 0
            else:
                op.code = C_OP_SET
                op.value = <const uint8_t *>PyBytes_AS_STRING(write.data)
                op.value_len = <uint32_t>(PyBytes_GET_SIZE(write.data) + write.raw)
                if write.expires_us:
                    op.flags = C_HAS_TTL
            ops_add(ops, &op, limit)
        return 0

    # ---- what was read

    cdef list add_reads(self, Ops *ops):
        """Puts the read section before the operations; its entries as Python objects, or None if there is nothing to validate."""
        cdef dict points
        cdef list ranges
        cdef uint64_t room = self.handle.max_transaction - self.size
        if not self.serializable:  # cost() has made room for all of these
            points = self.versions_of_writes()
            points.update(self.reads)
            return self.put_section(ops, points, merged((self.gaps or []) + (self.kept or []), C_READ_RANGES_MAX))
        points, ranges = self.reads, merged(read_bounds(self.ranges), C_READ_RANGES_MAX)
        if not points and not ranges:
            return None
        if section_size(points, ranges) > room:
            points, ranges = {}, coarser(points, ranges, room)
        return self.put_section(ops, points, ranges)

    cdef dict versions_of_writes(self):
        """Isolation "snapshot": the versions that the commit replaces, as the snapshot has them."""
        cdef dict versions = {}
        cdef c_found found
        cdef bytes stored
        cdef int rc
        for key in self.writes:
            stored = key
            rc = self.look(stored, False, &found, NULL, NULL)
            versions[stored] = found.lsn if rc == C_OK else 0
            if rc == C_OK and found.expires_us:
                self.note_expiry(stored, found.expires_us)
        return versions

    cdef list put_section(self, Ops *ops, dict points, list ranges):
        cdef list entries = []
        cdef uint64_t limit = self.handle.max_transaction
        cdef PyObject *key = NULL
        cdef PyObject *value = NULL
        cdef Py_ssize_t position = 0
        cdef size_t needed, size
        ops.size = C_READS_HEADER
        while PyDict_Next(points, &position, &key, &value):
            needed = POINT_HEADER + <size_t>PyBytes_GET_SIZE(<object>key)
            ops_reserve(ops, needed, limit)
            ops.size += c_reads_put_point(ops.at + ops.size, needed, c_bytes_data(key), needed - POINT_HEADER, <object>value)
        for start, stop in ranges:
            size = 0 if PyBytes_GET_SIZE(stop) == 1 else <size_t>PyBytes_GET_SIZE(stop)
            needed = OP_HEADER + <size_t>PyBytes_GET_SIZE(start) + size
            ops_reserve(ops, needed, limit)
            ops.size += c_reads_put_range(ops.at + ops.size, needed, PyBytes_AS_STRING(start), <size_t>PyBytes_GET_SIZE(start),
                                          PyBytes_AS_STRING(stop), size)
        ops_reserve(ops, 8 + OPS_HEADER, limit)
        ops.base = c_reads_header(ops.at, ops.capacity, ops.size, <uint32_t>(len(points) + len(ranges)), self.pin.pin.lsn,
                                  self.least_us, self.word)
        ops.size = ops.base + OPS_HEADER
        return [points, ranges]

    # ---- conflicts

    cdef object conflict(self, int reason, list entries):
        """The ConflictError of the writer's answer, or of what was found before it was asked."""
        cdef uint64_t winner = self.outcome.winner
        cdef list keys = []
        cdef str verb = "read" if self.serializable else "writes"
        cdef str by = f"the commit at LSN {winner}" if winner else "another commit"
        cdef str what
        entry = entry_at(entries, self.outcome.detail)
        if not self.serializable and (type(entry) is tuple or entry in self.reads):
            verb = "deletes or relies on" if type(entry) is tuple else "relies on"  # guarded by a layer
        if reason == C_CONFLICT_POINT and type(entry) is bytes:
            keys = [key_named(entry)]
            what = f"it {verb} the key {shown(keys[0])}, which {by} has changed since its snapshot at LSN {self.pin.pin.lsn}"
        elif reason == C_CONFLICT_RANGE and type(entry) is tuple:
            keys = self.changed_in(entry, winner)
            told = f": {', '.join(map(shown, keys))}" if keys else ""
            what = (f"it {verb} the range from {shown_bound(entry[0])} to {shown_bound(entry[1])}, where {by} has set or deleted keys "
                    f"since its snapshot at LSN {self.pin.pin.lsn}{told}")
        elif reason == C_CONFLICT_EXPIRED:
            entry = entry if type(entry) is bytes else self.least_key
            keys = [] if entry is None else [key_named(entry)]
            told = f"the value of {shown(keys[0])}" if keys else "a value"
            what = f"{told}, which it {verb}, has expired since its snapshot was taken"
        elif reason == C_CONFLICT_WINDOW:
            what = (f"it {verb} a range, and its snapshot at LSN {self.pin.pin.lsn} is older than the recent commits whose keys the "
                    "writer keeps (65,536 keys, or 4 MiB of them), so the range can't be judged")
        elif reason == C_CONFLICT_GENERATION:
            what = (f"the arena was built anew since its snapshot at LSN {self.pin.pin.lsn} (a writer or group was replaced, or compact() "
                    "ran), so what it read can't be judged")
        elif reason == CONFLICT_SNAPSHOT:
            what = (f"its snapshot at LSN {self.pin.pin.lsn} was revoked (older than snapshot_max_age, or its memory was needed), so "
                    "what it overwrites can't be judged")
        else:
            what = f"{by} has changed what it {verb} (reason {reason})"
        return ConflictError(f"the transaction was not committed: {what}. Nothing of it was done; run it again from its begin, as "
                             "db.transact does by itself", reason=_REASONS.get(reason, "changed"), keys=tuple(keys),
                             winner_lsn=winner or None)

    cdef list changed_in(self, tuple entry, uint64_t winner):
        """The keys of a range that the winner set, as far as they can be seen now: not those that it deleted."""
        cdef list keys = []
        cdef Scan scan
        cdef uint64_t looked = 0
        cdef const uint8_t *item
        if not winner:
            return keys
        scan = Scan.__new__(Scan)
        scan.bounds = bounds_of(entry[0], entry[1])
        scan.limit = LOOK_FOR_CHANGED
        scan.source = self.handle
        scan.kind = SCAN_KEYS
        try:
            while len(keys) < NAME_CHANGED and (scan.left > 0 or scan.more()):
                item = scan.batch.out + scan.at
                version = (<uint64_t *>item)[1]
                key = c_bytes_of(<const char *>item + ITEM_HEADER, <Py_ssize_t>(<uint32_t *>item)[0])
                scan.take()
                if version == winner:
                    keys.append(key_named(key))
        except SnapshotExpired:
            pass  # the range is named in the text
        scan.close()
        return keys


cdef uint64_t section_size(dict points, list ranges) except? 0:
    cdef uint64_t size = C_READS_HEADER + 8
    for key in points:
        size += POINT_HEADER + <uint64_t>PyBytes_GET_SIZE(key)
    for start, stop in ranges:
        size += OP_HEADER + <uint64_t>(len(start) + len(stop))
    return size


cdef list read_bounds(list ranges):
    cdef list found = []
    cdef ReadRange seen
    for one in ranges or ():
        seen = one
        told = seen.bounds()
        if told is not None and told[0] < told[1]:
            found.append(told)
    return found


cdef list merged(list ranges, Py_ssize_t most):
    """The same ranges in order and apart; neighbours of one space are drawn together until there are no more than *most*,
    or one a space."""
    cdef dict spaces = {}
    cdef list apart
    cdef Py_ssize_t count = 0, room
    for start, stop in sorted(ranges):
        apart = spaces.setdefault(start[:1], [])
        if apart and start <= apart[len(apart) - 1][1]:
            start, last = apart.pop()
            stop = max(stop, last)
        apart.append((start, stop))
    for apart in spaces.values():
        count += len(apart)
    # Each space gets one and its share of what is left.
    room = max(0, most - len(spaces))
    return [one for apart in spaces.values()
            for one in (apart if count <= most else drawn_together(apart, 1 + room * len(apart) // count))]


cdef list drawn_together(list apart, Py_ssize_t most):
    cdef Py_ssize_t group = (len(apart) + most - 1) // most
    return [(apart[i][0], apart[min(i + group, len(apart)) - 1][1]) for i in range(0, len(apart), group)]


cdef list coarser(dict points, list ranges, uint64_t room):
    """All that was read as ranges, as few as fit into *room* bytes: they hold more than was read, never less."""
    cdef list all_of_it = ranges + [(key, behind(key)) for key in points]
    cdef Py_ssize_t most = C_READ_RANGES_MAX
    while True:
        fewer = merged(all_of_it, most)
        if section_size({}, fewer) <= room:
            return fewer
        if most == 1:  # keys longer than any that can be written now were read
            return [(start[:1], space_end(start)) for start, _ in fewer]
        most //= 2


cdef bytes behind(bytes key):
    """A bound above *key* that is no longer than a key may be: above nothing else that can be stored."""
    return key + b"\0" if PyBytes_GET_SIZE(key) < C_KEY_MAX else key[:C_KEY_MAX - 1] + b"\xff"


cdef object entry_at(list entries, uint64_t index):
    """The stored key, or the (start, stop), of one entry of the section."""
    if entries is None:
        return None
    points, ranges = entries
    if index < <uint64_t>len(points):
        return next(_islice(points, index, None))
    index -= <uint64_t>len(points)
    return ranges[index] if index < <uint64_t>len(ranges) else None


cdef str shown(object key):
    text = repr(key)
    return text if len(text) <= 80 else text[:77] + "..."


cdef str shown_bound(bytes bound):
    """A bound as a key where it is one; its bytes where it lies between keys."""
    if bound == _SPACE_START:
        return "the first key"
    if bound == _SPACE_STOP:
        return "the last key"
    if bound[:1] != _SPACE_START:
        return f"the stored bytes {shown(bound)}"
    try:
        return shown(decode_key(bound))
    except CorruptionError:
        pass
    try:
        return f"behind {shown(decode_key(bound[:len(bound) - 1]))}"
    except CorruptionError:
        return f"the bytes {shown(bound[1:])}"


from itertools import islice as _islice

from memdb.errors import ConflictError
