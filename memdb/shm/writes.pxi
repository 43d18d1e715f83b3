# Writing, and the handle: point reads of the newest state, commits, and what happens when the other side dies.
#
# Invariants:
#  - Every limit is checked before anything is sent; a call that raises before that has changed nothing.
#  - One call is one commit. Its bytes stay here until it is settled, so that it can be sent again under its number.
#  - A wait ends: with an answer, with Timeout (withdrawn, certainly not done), or with OutcomeUnknown (rule C8).

cdef enum:
    OPS_INLINE = 1024
    OPS_HEADER = 8

cdef struct Ops:
    uint8_t *at
    size_t size
    size_t capacity
    size_t base            # where the operations begin: behind what the commit has read, if it is to be validated
    uint32_t count
    uint8_t *heap
    uint8_t inline_bytes[OPS_INLINE]


cdef inline void ops_init(Ops *ops) noexcept:
    ops.heap = NULL
    ops.at = ops.inline_bytes
    ops.capacity = OPS_INLINE
    ops.size = OPS_HEADER
    ops.base = 0
    ops.count = 0


cdef inline void ops_free(Ops *ops) noexcept:
    if ops.heap != NULL:
        free(ops.heap)
        ops.heap = NULL


cdef int ops_reserve(Ops *ops, size_t needed, uint64_t limit) except -1:
    """Room for *needed* bytes more. Raises TransactionTooLarge."""
    cdef size_t capacity
    cdef void *grown
    if needed <= ops.capacity - ops.size:
        return 0
    if ops.size + needed > limit:
        raise transaction_too_large(ops.size + needed, limit)
    capacity = max(2 * ops.capacity, ops.size + needed)
    grown = realloc(ops.heap, capacity)
    if grown == NULL:
        raise MemoryError()
    if ops.heap == NULL:
        memcpy(grown, ops.inline_bytes, ops.size)
    ops.at = ops.heap = <uint8_t *>grown
    ops.capacity = capacity
    return 0


cdef int ops_add_reads(Ops *ops, const uint8_t *section, size_t size, uint64_t limit) except -1:
    """Puts a read section before the first operation: the commit is validated against it."""
    ops_reserve(ops, size, limit)
    memcpy(ops.at, section, size)
    ops.base = size
    ops.size = size + OPS_HEADER
    return 0


cdef int ops_add(Ops *ops, const c_op *op, uint64_t limit) except -1:
    cdef size_t needed = c_ops_put(ops.at + ops.size, ops.capacity - ops.size, op)
    if needed > ops.capacity - ops.size:
        ops_reserve(ops, needed, limit)
        needed = c_ops_put(ops.at + ops.size, ops.capacity - ops.size, op)
    ops.size += needed
    ops.count += 1
    return 0


cdef object transaction_too_large(object size, object limit):
    return TransactionTooLarge(f"the commit takes {size} bytes and max_transaction_bytes is {limit} bytes: split it, or open "
                               "the database with a larger max_transaction_bytes", size=size, limit=limit)


cdef int note_id(Outcome *out, Client client, uint64_t number) noexcept:
    out.request = number
    memcpy(out.client_id, client.lease.client_id, sizeof(out.client_id))
    return 0


_TTL_SECONDS_MAX = 3155760000  # 100 years of 365.25 days


cdef uint64_t ttl_us(object ttl) except 0:
    """Seconds or a timedelta in microseconds."""
    if isinstance(ttl, _timedelta):
        us = ttl // _MICROSECOND
    elif isinstance(ttl, bool) or not isinstance(ttl, (int, float)):
        raise TypeError(f"ttl must be seconds (int or float) or a timedelta, not {type(ttl).__name__}")
    elif not 0 < ttl <= _TTL_SECONDS_MAX:
        us = 0
    else:
        us = max(1, int(ttl * 1000000))
    if not 0 < us <= _TTL_SECONDS_MAX * 1000000:
        raise ValueError(f"ttl={ttl!r} is out of range: a TTL is more than 0 s and at most 100 years ({_TTL_SECONDS_MAX} s)")
    return us


cdef dict _LEVELS = {"memory": C_LEVEL_MEMORY, "os": C_LEVEL_OS, "full": C_LEVEL_FULL}


cdef class Handle(Reads):
    """What ``memdb.Database`` is built on: one handle's options and its attachment's client."""

    cdef readonly object _attachment
    cdef Client client
    cdef int level
    cdef bint readonly_handle
    cdef bint closed_handle
    cdef double timeout
    cdef uint64_t max_key
    cdef uint64_t max_value
    cdef uint64_t max_transaction
    cdef uint64_t seen_lsn     # shown while a rebuild in the only arena has torn it down
    cdef dict unsettled        # ids given up by this handle: the GENERATION word of their time

    def _bind(self, attachment, *, str durability, bint readonly, double timeout, max_key_bytes, max_value_bytes,
              max_transaction_bytes, encode, unpack):
        """Ties the handle to its attachment. *encode*: value to stored bytes; *unpack*: msgpack payload to value."""
        self._attachment = attachment
        self.client = None
        self.level = _LEVELS.get(durability, C_LEVEL_OS)
        self.readonly_handle = readonly
        self.timeout = timeout
        self.max_key, self.max_value, self.max_transaction = max_key_bytes, max_value_bytes, max_transaction_bytes
        self.encode_value, self.unpack_value = encode, unpack
        self.unsettled = {}
        self.live()

    def _unbind(self):
        """Ends the handle; the attachment that it had, or None if it was closed before."""
        attachment, self._attachment = self._attachment, None
        self.client = None
        self.closed_handle = True
        return attachment

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self.closed_handle

    # ---- the client that serves

    cdef int check_open(self) except -1:
        if self.closed_handle or self._attachment is None:
            raise ClosedError("the database handle is closed; open it again with memdb.open")
        return 0

    cdef inline Client live(self):
        cdef Client client = self.client
        if client is None or client.forks != fork_count or c_load_acquire(&client.page.word) != client.word:
            client = self.renew()
        return client

    cdef Client renew(self):
        """The client of the group and generation that serve now; attaches anew where they were replaced."""
        cdef Client client
        cdef Patience patience
        cdef int rc
        self.check_open()
        patience_init(&patience, self.timeout)
        while True:
            client = self._attachment.client
            if client is None or client.forks != fork_count:
                rc = C_MOVED
            else:
                rc = client.refresh()
            if rc == C_OK:
                self.client = client
                return client
            if rc == C_MOVED:
                self.reattach()
                continue
            self.pause(client, &patience)

    cdef int arena_moved(self, Client client) except -1:
        """A pin met an arena that is torn down: waits until GENERATION names another."""
        cdef Patience patience
        patience_init(&patience, self.timeout)
        while c_load_acquire(&client.page.word) == client.word:
            self.pause(client, &patience)
        return 0

    cdef int pause(self, Client client, Patience *patience) except -1:
        cdef uint64_t word = c_load_acquire(&client.page.word)
        with nogil:
            c_futex_wait(<const c_a32 *>&client.page.word, <uint32_t>word, POLL_US)
        PyErr_CheckSignals()
        if client.out_of_patience(patience):
            raise Timeout(f"no generation of the arena served for {self.timeout:g} s without progress: "
                          f"{client.describe_writer()}; see engine.log", seconds=self.timeout)
        if c_monotonic_us() - patience.since_us > SLICE_US and not self._attachment.group_alive():
            self.reattach()
        return 0

    cdef int reattach(self) except -1:
        self.check_open()
        self._attachment.reattach(_time.monotonic() + self.timeout)
        return 0

    # ---- reads

    cdef int read(self, KeyBytes *key, bint copy, c_found *found, PyObject **data, int *codec) except -100:
        cdef Client client
        cdef c_pin pin
        cdef int rc
        while True:
            client = self.live()
            if c_pin_begin(&pin, client.view, client.point_slot, C_PIN_POINT) != C_OK:
                self.arena_moved(client)
                continue
            rc = c_store_get(&pin, key.at, key.size, found)
            if rc == C_OK and copy:
                data[0] = value_copy(found, codec)
            if c_pin_end(&pin) == C_OK:
                break
            c_decref(data[0])
            data[0] = NULL
        if rc < 0:
            raise damaged_arena(pin.lsn)
        return rc

    cdef PinRef pin_for_scan(self):
        cdef PinRef pin = PinRef()
        pin.open(self, C_PIN_ITERATOR)
        return pin

    cdef list read_many(self, Keys keys, list values):
        cdef bytearray codecs = bytearray(keys.count)
        cdef uint8_t *codec_at = <uint8_t *>PyByteArray_AS_STRING(codecs)
        cdef object missing = list(values)
        cdef uint64_t bad_lsn = 0
        cdef Client client
        cdef c_pin pin
        cdef int rc
        while True:
            client = self.live()
            if c_pin_begin(&pin, client.view, client.point_slot, C_PIN_POINT) != C_OK:
                self.arena_moved(client)
                continue
            rc = read_batch(&pin, keys, values, codec_at, &bad_lsn, NULL)
            if c_pin_end(&pin) == C_OK:
                break
            values[:] = missing
        if rc < 0:
            raise damaged_arena(bad_lsn or pin.lsn)
        return codec_indexes(codec_at, keys.count)

    def __len__(self):
        return c_load_acquire(&self.live().view.header.counts[C_SPACE_PLAIN])

    @property
    def lsn(self) -> int:
        """The LSN of the newest commit that readers see."""
        cdef uint64_t published = c_load_acquire(&self.live().view.header.published)
        if published != 0:
            self.seen_lsn = published
        return self.seen_lsn

    @property
    def durable_lsn(self) -> int:
        """The highest LSN that is known to survive a power cut."""
        return c_load_acquire(&self.live().view.header.synced)

    def _arena_figures(self):
        cdef const c_arena_header *header = self.live().view.header
        return {
            "generation": header.generation, "limit": header.limit, "keys": c_load_relaxed(&header.counts[1]),
            "used": c_load_relaxed(&header.used_bytes), "retired": c_load_relaxed(&header.retired_bytes),
            "reserved": c_load_relaxed(&header.reserved_bytes), "free": c_load_relaxed(&header.free_bytes),
        }

    # ---- commits

    cdef int level_of(self, object durability) except -1:
        if durability is None:
            return self.level
        level = _LEVELS.get(durability) if type(durability) is str else None
        if level is None:
            if not isinstance(durability, str):
                raise TypeError(f"durability must be a str, not {type(durability).__name__}")
            raise ValueError(f"durability={durability!r}: a write takes 'memory', 'os' or 'full'"
                             + ("; 'none' is for a whole database, when it is opened" if durability == "none" else ""))
        return level

    cdef int check_writable(self) except -1:
        self.check_open()
        if self.readonly_handle:
            raise ReadOnlyError("this handle was opened with readonly=True; open another one to write")
        return 0

    cdef uint64_t now_us(self) except? 0:
        """The time of rule R3, in microseconds since 1970: nothing that this process has seen expire is alive at it."""
        cdef Client client = self.live()
        cdef c_pin pin
        memset(&pin, 0, sizeof(pin))
        pin.view = client.view[0]
        return max(c_pin_time(&pin), c_clock_us())  # that of pins is a tick of the kernel behind the clock

    cdef int expiry_of(self, object ttl, uint64_t *expires_us) except -1:
        """The flags of a SET for *ttl* (None, KEEP, seconds or a timedelta), and when it expires (0: it doesn't)."""
        expires_us[0] = 0
        if ttl is None:
            return 0
        if ttl is _KEEP:
            return C_KEEP_TTL
        expires_us[0] = self.now_us() + ttl_us(ttl)
        return C_HAS_TTL

    cdef int add_stored(self, Ops *ops, KeyBytes *key, const uint8_t *value, Py_ssize_t size, int flags, uint64_t if_lsn,
                        uint64_t expires_us) except -1:
        """A SET of stored bytes: payload and codec byte."""
        cdef c_op op
        if <uint64_t>size - 1 > self.max_value:
            raise ValueTooLarge(f"the value takes {size - 1} bytes and max_value_bytes is {self.max_value} bytes: store it in "
                                "parts, or open the database with a larger max_value_bytes",
                                size=size - 1, limit=self.max_value)
        memset(&op, 0, sizeof(op))
        op.code = C_OP_SET
        op.flags = <uint8_t>flags
        op.if_lsn, op.expires_us = if_lsn, expires_us
        op.key, op.key_len = key.at, <uint16_t>key.size
        op.value, op.value_len = value, <uint32_t>size
        return ops_add(ops, &op, self.max_transaction)

    cdef int add_set(self, Ops *ops, object key, object value, int flags, uint64_t if_lsn, uint64_t expires_us=0) except -1:
        cdef KeyBytes encoded
        cdef const uint8_t *at
        cdef Py_ssize_t size
        cdef object stored = None
        if type(value) is bytes:
            # The NUL that CPython keeps behind every bytes object is the codec byte of raw bytes.
            at = <const uint8_t *>PyBytes_AS_STRING(value)
            size = PyBytes_GET_SIZE(value) + 1
        else:
            stored = self.encode_value(value)
            at = <const uint8_t *>PyBytes_AS_STRING(stored)
            size = PyBytes_GET_SIZE(stored)
        key_encode_checked(&encoded, key, self.max_key)
        try:
            self.add_stored(ops, &encoded, at, size, flags, if_lsn, expires_us)
        finally:
            key_free(&encoded)
        return 0

    cdef int add_delete(self, Ops *ops, object key, int flags, uint64_t if_lsn) except -1:
        """0, or 1 if no stored key can be so long."""
        cdef KeyBytes encoded
        cdef c_op op
        if key_encode(&encoded, key, C_SPACE_PLAIN):
            return 1
        if encoded.size > self.max_key + 3:
            key_free(&encoded)
            return 1
        memset(&op, 0, sizeof(op))
        op.code = C_OP_DELETE
        op.flags = <uint8_t>flags
        op.if_lsn = if_lsn
        op.key, op.key_len = encoded.at, <uint16_t>encoded.size
        try:
            ops_add(ops, &op, self.max_transaction)
        finally:
            key_free(&encoded)
        return 0

    cdef int commit(self, Ops *ops, int level, Outcome *out, double timeout=0) except -1:
        """Sends the operations as one commit and waits for its answer: status OK, CONDITION or CONFLICT, or an error is raised.

        *timeout*: seconds without progress; 0: the handle's.
        """
        cdef Client client, asked = None
        cdef Patience patience
        cdef uint64_t number = 0
        cdef int rc, flags = 0
        cdef int validate = C_ENTRY_VALIDATE if ops.base else 0
        if ops.size > self.max_transaction:
            raise transaction_too_large(ops.size, self.max_transaction)
        (<uint32_t *>(ops.at + ops.base))[0] = ops.count
        (<uint32_t *>(ops.at + ops.base))[1] = 0
        patience_init(&patience, timeout if timeout > 0 else self.timeout)
        while True:
            try:
                client = self.live()
                if number and asked is not client and self.find_outcome(asked.client_id, number, out) == 1:
                    return note_id(out, asked, number)
            except BaseException as error:
                if number:
                    self.leave_open(asked, number, error)
                raise
            if client.no_writer() and not flags:
                raise self.no_writes()
            if asked is not client:
                number, asked, flags = 0, client, 0
            if number == 0:
                number = self.take_number(client, &patience)
                if number == 0:
                    continue
            rc = self.exchange(client, number, ops, level, flags | validate, out, &patience)
            if rc == SETTLED_REPEAT:
                flags = C_ENTRY_REPEAT
                continue
            if rc == SETTLED_LOST:
                if client.usable:
                    try:
                        self.reattach()
                    except BaseException as error:
                        self.leave_open(asked, number, error)
                        raise
                continue
            if out.status == C_OK or out.status == C_CONDITION or out.status == C_CONFLICT:
                return note_id(out, asked, number)
            if out.status == C_AGAIN:
                number = flags = 0
                continue
            if out.status == C_STOPPED:
                number = flags = 0
                self.reattach()
                continue
            raise self.refusal(client, number, out)

    cdef int leave_open(self, Client client, uint64_t number, object error) except -1:
        """A request that was sent can't be settled, because no writer was found again."""
        client.withdraw(number, False, C_ENTRY_REPEAT)
        self.note_unsettled(client, number)
        if isinstance(error, Timeout):
            raise self.unknown(client, number, f"because no writer came back in time: {error}") from error
        self.add_note(client, number, error)
        return 0

    cdef int add_note(self, Client client, uint64_t number, object error) except -1:
        error.add_note(f"the write was taken before this and may still commit: db.outcome({client.id_of(number)!r}) tells")
        return 0

    cdef uint64_t take_number(self, Client client, Patience *patience) except? 0:
        """A request number whose cell is free; 0 if the client was replaced meanwhile."""
        cdef uint64_t number = client.find_number()
        while number == 0:
            if client.no_writer():
                raise self.no_writes()
            with nogil:
                c_futex_wait(<const c_a32 *>&client.lease.ring_head, <uint32_t>c_load_acquire(&client.lease.ring_head), POLL_US)
            PyErr_CheckSignals()
            if self.live() is not client:
                return 0
            number = client.find_number()
            if number == 0 and client.out_of_patience(patience):
                seconds = patience.limit_us / 1e6
                raise Timeout(f"{<int>C_CELLS} writes of this process are under way and none ended for {seconds:g} s: "
                              f"{client.describe_writer()}; nothing was sent", seconds=seconds)
        return number

    cdef int exchange(self, Client client, uint64_t number, Ops *ops, int level, int flags, Outcome *out,
                      Patience *patience) except -100:
        """One request sent and waited for. One of Settled; the cell is free again unless the answer is REPEAT."""
        cdef object alive = self._attachment.group_alive
        cdef bint sent = False
        cdef int rc
        try:
            rc = client.send(number, ops.at, ops.size, level, flags, patience, alive)
            if rc == C_MOVED:
                # Frames at most went out, and a repeated request's frames begin anew.
                return self.sort_move(client)
            sent = rc == C_OK
            if sent:
                rc = client.settle(number, level, out, patience, alive)
                if rc != C_AGAIN and rc != SETTLED_NO_WRITER:
                    return rc
        except BaseException as error:
            if not client.withdraw(number, sent, flags):
                self.note_unsettled(client, number)
                self.add_note(client, number, error)
            raise
        if client.no_writer():
            return self.give_up_writing(client, number, sent, flags, out)
        return self.give_up(client, number, sent, flags, patience.limit_us / 1e6)

    cdef int sort_move(self, Client client) except -100:
        """The ring was left before the last entry: again under the same number, here or in another group."""
        if not client.usable and not self._attachment.group_alive():
            return SETTLED_LOST
        return SETTLED_REPEAT

    cdef int give_up_writing(self, Client client, uint64_t number, bint sent, int flags, Outcome *out) except -100:
        """No writer will answer any more: the request is certainly not done, was done, or nobody can tell."""
        cdef bint certain = client.withdraw(number, sent, flags)
        why = self.no_writes()
        if certain:
            raise why
        if self.find_outcome(client.client_id, number, out) == 1:
            return SETTLED_DONE
        self.note_unsettled(client, number)
        raise self.unknown(client, number, f"because writing has stopped: {why}") from why

    cdef object no_writes(self):
        """Why the engine takes no writes now, as it tells itself."""
        why = self._attachment.why_read_only()
        return ReadOnlyError("the engine takes no writes now; db.info() says why") if why is None else why

    cdef int give_up(self, Client client, uint64_t number, bint sent, int flags, double seconds) except -100:
        """Patience is over."""
        who = client.describe_writer()
        if client.withdraw(number, sent, flags):
            raise Timeout(f"the writer did not take the write for {seconds:g} s without progress, and it was withdrawn: "
                          f"it is certainly not done; {who}; try again, or see engine.log", seconds=seconds)
        self.note_unsettled(client, number)
        raise self.unknown(client, number, f"for {seconds:g} s without progress; {who}")

    cdef object unknown(self, Client client, uint64_t number, str why):
        return OutcomeUnknown(f"the writer took the write and it could not be settled {why}; ask db.outcome(error.id) later",
                              id=client.id_of(number))

    cdef int note_unsettled(self, Client client, uint64_t number) except -1:
        self.unsettled[client.id_of(number)] = client.requests[number % C_CELLS].word
        return 0

    cdef object refusal(self, Client client, uint64_t number, Outcome *out):
        """The error for a request that the writer answered without doing it."""
        cdef int status = out.status
        limit = client.view.header.limit
        if status == C_FULL:
            return ArenaFullError(f"the arena is at its limit: max_memory is {limit} bytes and the write needs more; delete "
                                  "something, close old snapshots (db.readers() lists them), or open the database with a "
                                  "larger max_memory", needed=out.detail or None, limit=limit)
        if status == C_SHM_FULL:
            return DiskFullError("no room on /dev/shm for the arena to grow; nothing was done: free some shared memory, or "
                                 "give the machine or container more", file="/dev/shm")
        if status == C_TOO_LARGE:
            return transaction_too_large("more than allowed", self.max_transaction)
        if status == C_LOG_FAILED:
            number_ = <int>(out.detail & 0xffff)
            told = self._attachment.why_read_only()
            if told is not None:
                return told
            why = _os.strerror(number_) if number_ else "see engine.log"
            return LogFailed(f"the log could not be written or synced ({why}): writing has stopped, reads go on; "
                             "db.info().wal names what is at risk", errno=number_ or None)
        if status == C_READ_ONLY:
            return self.no_writes()
        if status == C_UNKNOWN:
            return self.unknown(client, number, "because the record of its outcome is gone")
        return Error(f"the writer refused the write as malformed (status {status}, detail {out.detail}); client and engine may "
                     "differ in version")

    # ---- outcomes

    cdef int find_outcome(self, bytes client_id, uint64_t number, Outcome *out) except -100:
        """1: the commit is done, with its LSN and count. 2: a later request of that client has taken its place. 0: none."""
        cdef KeyBytes key
        cdef c_found found
        cdef PyObject *data = NULL
        cdef int rc, codec = 0
        cdef uint64_t words[4]
        stored = b"\x02o" + client_id + bytes([number % C_CELLS])
        key.heap = NULL
        key.at, key.size = <uint8_t *>PyBytes_AS_STRING(stored), <size_t>PyBytes_GET_SIZE(stored)
        rc = self.read(&key, True, &found, &data, &codec)
        if rc != C_OK or data == NULL or found.len != OUTCOME_BYTES:
            c_decref(data)
            return 0
        memcpy(words, c_bytes_data(data), OUTCOME_BYTES - 1)
        (<uint8_t *>words)[OUTCOME_BYTES - 1] = <uint8_t>codec
        c_decref(data)
        if words[0] != number:
            return 2 if words[0] > number else 0
        out.status, out.lsn, out.count = C_OK, words[1], words[2]
        return 1

    def outcome(self, id):
        """Whether the commit of *id* (from an OutcomeUnknown) was done: True, False, or None if it can't be told (yet).

        Raises TypeError, ValueError, ClosedError. Cost: a point read. Outcomes are kept while their client lives and ten
        minutes more, the last 64 of each.

        >>> db.outcome(error.id)
        True
        """
        cdef Outcome out
        cdef Client client
        cdef Request *request
        cdef int found
        cdef uint64_t number
        if type(id) is not bytes:
            raise TypeError(f"a commit's id is bytes, not {type(id).__name__}")
        if len(id) != 24:
            raise ValueError(f"a commit's id has 24 bytes, this one has {len(id)}")
        number = int.from_bytes(id[16:], "little")
        client = self.live()
        found = self.find_outcome(id[:16], number, &out)
        if found == 1:
            return True
        word = self.unsettled.get(id)
        if word is None or found == 2:
            return None
        if not client.first_epoch <= word >> 32 <= client.epoch:
            return False
        request = &client.requests[number % C_CELLS]
        if request.number == number and request.given_up:
            # The order matters: an answer that comes between is seen by the next call.
            client.collect(request)
            if request.given_up:
                return None
        if self.find_outcome(id[:16], number, &out) != 0:
            return True
        return None if client.may_come_back(request, number) else False
