# Writing: commits, and what happens when the other side dies.
#
# Invariants:
#  - Every limit is checked before anything is sent; a call that raises before that has changed nothing.
#  - One call is one commit. Its bytes stay here until it is settled, so that it can be sent again under its number.
#  - A wait ends: with an answer, with Timeout (withdrawn, certainly not done), or with OutcomeUnknown (rule C8).

cdef enum:
    REFUSALS = 4               # of one commit, each by a log that works again when it is asked why


cdef int note_id(Outcome *out, Client client, uint64_t number) noexcept:
    out.request = number
    memcpy(out.client_id, client.lease.client_id, sizeof(out.client_id))
    return 0


cdef dict _LEVELS = {"memory": C_LEVEL_MEMORY, "os": C_LEVEL_OS, "full": C_LEVEL_FULL}


@cython.final
@cython.freelist(8)
@cython.no_gc
cdef class Flight:
    """One commit under way. launch() sends it, land() waits for it; its bytes are its owner's."""

    cdef Client client         # to whose group it was sent
    cdef Ops *ops
    cdef Patience *patience
    cdef uint64_t number       # its request's; 0: none yet
    cdef int level
    cdef int flags             # REPEAT, if it was sent before
    cdef bint collectable      # nobody waits in its cell: whoever needs a cell may collect the answer
    cdef bint answered         # which was done
    cdef bint settled
    cdef int refusals          # how often a log that had failed refused it
    cdef Outcome out

    cdef int settle(self) noexcept:
        self.settled = True
        note_id(&self.out, self.client, self.number)
        return 0


cdef class Handle(Attached):
    """What ``memdb.Database`` is built on: reads of the newest state, and commits."""

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
        return max(c_view_time(self.live().view), c_clock_us())  # that of reads is a tick of the kernel behind the clock

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
        cdef Flight flight = Flight.__new__(Flight)
        cdef Patience patience
        flight.ops, flight.level, flight.patience = ops, level, &patience
        patience_init(&patience, timeout if timeout > 0 else self.timeout)
        self.launch(flight)
        self.land(flight)
        out[0] = flight.out
        return 0

    cdef int launch(self, Flight flight) except -1:
        """Sends a commit, or what was sent before again under its number; settled at once if that turns out to be done."""
        cdef Client client
        cdef Ops *ops = flight.ops
        cdef int rc
        if ops.size > self.max_transaction:
            raise transaction_too_large(ops.size, self.max_transaction)
        (<uint32_t *>(ops.at + ops.base))[0] = ops.count
        (<uint32_t *>(ops.at + ops.base))[1] = 0
        while True:
            try:
                client = self.live()
                if (flight.number and flight.client is not client
                        and self.find_outcome(flight.client.client_id, flight.number, &flight.out) == 1):
                    return flight.settle()
            except BaseException as error:
                if flight.number:
                    self.leave_open(flight.client, flight.number, error)
                raise
            if flight.client is not client:
                flight.number, flight.client, flight.flags = 0, client, 0
            if client.no_writer() and not flight.flags:
                if not flight.number:
                    raise self.no_writes()
                self.give_up_writing(client, flight.number, True, 0, &flight.out)
                return flight.settle()
            if flight.number == 0:
                flight.number = self.take_number(client, flight.patience)
                if flight.number == 0:
                    continue
            rc = self.post(flight)
            if rc == C_OK:
                return 0
            if rc != C_MOVED:
                self.give_up(flight, False)
                return 0
            # Frames at most went out, and a repeated request's frames begin anew: again under its number, here or elsewhere.
            if client.usable or self.serves(client):
                flight.flags = C_ENTRY_REPEAT
            else:
                self.leave_group(flight)

    cdef int post(self, Flight flight) except -100:
        """The entries of one commit into the ring. OK; or MOVED, AGAIN (patience is over), READ_ONLY, and nothing was sent."""
        cdef Client client = flight.client
        cdef int flags = flight.flags | (C_ENTRY_VALIDATE if flight.ops.base else 0)
        cdef int rc
        try:
            rc = client.send(flight.number, flight.ops.at, flight.ops.size, flight.level, flags, flight.patience, self)
        except BaseException as error:
            self.abandon(flight, False, error)
            raise
        if rc == C_OK and flight.collectable:
            client.flights[flight.number % C_CELLS] = flight
        return rc

    cdef int land(self, Flight flight) except -1:
        """Waits for the answer of what was launched: status OK, CONDITION or CONFLICT, or the error is raised."""
        cdef Client client
        cdef int rc
        while not flight.settled:
            client = flight.client
            if flight.collectable:
                client.flights[flight.number % C_CELLS] = None
            rc = SETTLED_DONE
            if not flight.answered:
                try:
                    rc = client.settle(flight.number, flight.level, &flight.out, flight.patience, self)
                except BaseException as error:
                    self.abandon(flight, True, error)
                    raise
            flight.answered = False
            if rc == SETTLED_DONE:
                if self.judge(flight):
                    return flight.settle()
            elif rc == SETTLED_REPEAT:
                flight.flags = C_ENTRY_REPEAT
            elif rc == SETTLED_LOST:
                self.leave_group(flight)
            else:
                self.give_up(flight, True)
                return 0
            self.launch(flight)
        return 0

    cdef bint judge(self, Flight flight) except -1:
        """True: answered for good. False: certainly not done, and to be sent again."""
        cdef int status = flight.out.status
        cdef Client client = flight.client
        cdef uint64_t number = flight.number
        if status == C_OK or status == C_CONDITION or status == C_CONFLICT:
            return True
        flight.number = flight.flags = 0
        if status == C_AGAIN:
            return False
        if status == C_STOPPED:
            self.reattach()
            return False
        if status == C_READ_ONLY:
            why = self._attachment.why_read_only()  # asked once: it may be over when it is asked again
            if why is not None or flight.refusals == REFUSALS:
                raise why or self.not_taken()
            flight.refusals += 1
            return False
        raise self.refusal(client, number, &flight.out)

    cdef int leave_group(self, Flight flight) except -1:
        """The group has ended: attaches to the next, unless another thread has done it."""
        if flight.client.usable:
            try:
                self.reattach()
            except BaseException as error:
                self.leave_open(flight.client, flight.number, error)
                raise
        return 0

    cdef int abandon(self, Flight flight, bint sent, object error) except -1:
        """Nobody waits for it any more: withdrawn, or noted so that outcome() can tell."""
        if flight.collectable:
            flight.client.flights[flight.number % C_CELLS] = None
        if not flight.client.withdraw(flight.number, sent, flight.flags):
            self.note_unsettled(flight.client, flight.number)
            if error is not None:
                self.add_note(flight.client, flight.number, error)
        return 0

    cdef int leave_open(self, Client client, uint64_t number, object error) except -1:
        """A request that was sent can't be settled, because no writer was found again."""
        client.withdraw(number, False, C_ENTRY_REPEAT)
        self.note_unsettled(client, number)
        if isinstance(error, (Timeout, OpenTimeout)):
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
        """Why the engine took no write, as it tells itself."""
        return self._attachment.why_read_only() or self.not_taken()

    cdef object not_taken(self):
        return ReadOnlyError("the engine refused the write while its log had failed or its disk was full, and takes writes "
                             "again since: this one is certainly not done; try again")

    cdef int give_up(self, Flight flight, bint sent) except -1:
        """Patience is over, or no writer comes back: raises, unless the commit turns out to be done."""
        cdef Client client = flight.client
        cdef uint64_t number = flight.number
        if client.no_writer():
            self.give_up_writing(client, number, sent, flight.flags, &flight.out)
            return flight.settle()
        seconds = flight.patience.limit_us / 1e6
        who = client.describe_writer()
        if client.withdraw(number, sent, flight.flags):
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
            return self._arena_full(out.detail or None, limit)
        if status == C_SHM_FULL:
            return self._shm_full(out.detail or None, c_arena_margin(c_load_relaxed(&client.view.header.reserved_bytes)))
        if status == C_TOO_LARGE:
            return transaction_too_large("more than allowed", self.max_transaction)
        if status == C_LOG_FAILED:  # it was in the log, which has failed (rule L5)
            self.note_unsettled(client, number)
            told = self._attachment.why_read_only()
            why = _os.strerror(<int>(out.detail & 0xffff)) if told is None else told
            unknown = self.unknown(client, number, f"because the log failed meanwhile: {why}")
            unknown.__cause__ = told
            return unknown
        if status == C_UNKNOWN:
            return self.unknown(client, number, "because the record of its outcome is gone")
        return Error(f"the writer refused the write as malformed (status {status}, detail {out.detail}); client and engine may "
                     "differ in version")

    def _arena_full(self, needed, limit):
        """The error of a full arena, as far as it is known here."""
        return ArenaFullError(f"the arena is at its limit: max_memory is {limit} bytes and the write needs more",
                              needed=needed, limit=limit)

    def _shm_full(self, needed, margin):
        """The error where /dev/shm has no room for the arena to grow, as far as it is known here."""
        return ArenaFullError(f"/dev/shm is full: the arena can't grow and leave {margin} bytes free there", needed=needed)

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
