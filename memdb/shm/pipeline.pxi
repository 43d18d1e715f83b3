# Pipelines: writes that go out at once, each a commit of its own, with up to 48 of them under way.
#
# Invariants:
#  - At most one thread is inside a pipeline at a time; the others of the process go on writing: answers that nobody waits for
#    leave their cells to whoever needs one.
#  - Two writes of the same key are never under way together: the second goes out when the first is settled, so that they can't
#    change places where a writer dies and one is sent again. A deletion of a range waits for all before it, and all wait for it.
#  - Every call has one result, in the order of the calls; nothing that was sent is forgotten: it is awaited, or given up and
#    noted, so that outcome() can tell.

cdef enum:
    UNDER_WAY_MAX = 48     # of the 64 cells of a lease: the rest is for the other threads

cdef enum Answer:
    ANSWER_DONE            # True if it was done
    ANSWER_NONE
    ANSWER_COUNT


cdef uint64_t mark_of(const uint8_t *key, size_t size) noexcept:
    """A hash of a stored key; never 0. Two keys of one mark wait for each other without need."""
    cdef uint64_t mark = <uint64_t>0x9e3779b97f4a7c15 ^ size, word
    while size >= 8:
        memcpy(&word, key, 8)
        mark = (mark ^ word) * <uint64_t>0xff51afd7ed558ccd
        mark ^= mark >> 32
        key += 8
        size -= 8
    word = 0
    memcpy(&word, key, size)
    mark = (mark ^ word) * <uint64_t>0xc4ceb9fe1a85ec53
    return mark ^ mark >> 29 or 1


@cython.no_gc
cdef class Slot:
    """One call of a pipeline that is not settled yet; used again for later ones."""

    cdef Flight flight
    cdef Ops ops
    cdef int answer
    cdef object keys       # marks of the keys of a *_many; None: one key, or a range
    cdef object error      # it could not be sent

    def __cinit__(self):
        ops_init(&self.ops)

    def __dealloc__(self):
        ops_free(&self.ops)


cdef class PipelineHandle:
    """The base of ``memdb.Pipeline``."""

    cdef Writes handle
    cdef int level
    cdef int forks
    cdef bint running      # inside the with block
    cdef bint busy
    cdef Patience patience
    cdef list slots
    cdef uint64_t marks[UNDER_WAY_MAX]   # of the key of each; 0: of many keys
    cdef int first
    cdef int under_way
    cdef int wide          # under way with many keys
    cdef list settled
    cdef int failures

    def __cinit__(self, *_, **__):
        self.slots = [Slot() for _ in range(UNDER_WAY_MAX)]
        self.settled = []

    def __init__(self, Writes handle not None, durability=None):
        handle.check_writable()
        self.handle = handle
        self.level = handle.level_of(durability)
        self.forks = fork_count
        patience_init(&self.patience, handle.timeout)

    @property
    def results(self) -> list:
        """What each call gave, in the order of the calls, as far as they are settled: all of them after the block.

        As the call of the database would have returned it, or the exception that it would have raised.
        """
        return self.settled

    def __len__(self):
        """How many calls were made."""
        return len(self.settled) + self.under_way

    # ---- the block

    def _begin(self):
        self.check_process()
        if self.running or self.settled or self.under_way:
            raise ClosedError("a pipeline is for one with block; make another with db.pipeline()")
        self.handle.check_writable()
        self.running = True

    def _inherited(self):
        """Is this the child of a fork, and the pipeline its parent's?"""
        return self.forks != fork_count

    def _finish(self):
        """Waits for all that is under way. The number of calls that failed."""
        self.running = False
        self.check_process()
        self.enter()
        try:
            self.drain()
        finally:
            self.busy = False
        return self.failures

    cdef int check_process(self) except -1:
        if self.forks != fork_count:
            raise ForkedHandleError("the pipeline belongs to the process that made it, and this is its child: make one here with "
                                    "db.pipeline()")
        return 0

    cdef int enter(self) except -1:
        if self.busy:
            raise Error("the pipeline is in use by another thread: make one for each with db.pipeline()")
        self.busy = True
        self.patience.seen = self.patience.since_us = 0  # counted from the first look: no clock for calls that don't wait
        return 0

    cdef int begin_call(self) except -1:
        self.check_process()
        if not self.running:
            raise ClosedError("the pipeline is used outside its with block; make another with db.pipeline()")
        self.handle.check_writable()
        return self.enter()

    cdef int level_of(self, object durability) except -1:
        return self.level if durability is None else self.handle.level_of(durability)

    # ---- sending and settling

    cdef Slot next_slot(self, int answer):
        """A slot for one more call, its operations empty; waits for the oldest one if too many are under way."""
        cdef Slot slot
        if self.under_way == UNDER_WAY_MAX:
            self.settle_half()
        slot = self.slots[(self.first + self.under_way) % UNDER_WAY_MAX]
        ops_free(&slot.ops)
        ops_init(&slot.ops)
        slot.answer, slot.keys, slot.error, slot.flight = answer, None, None, None
        return slot

    cdef int send(self, Slot slot, int level) except -1:
        """Sends the operations of *slot* once what they must wait for is settled."""
        cdef Flight flight = Flight.__new__(Flight)
        cdef uint64_t mark = self.mark_keys(slot)
        cdef int index = (self.first + self.under_way) % UNDER_WAY_MAX
        flight.collectable = True
        flight.level, flight.ops, flight.patience = level, &slot.ops, &self.patience
        if slot.ops.count == 0:
            flight.settled = True
            flight.out.status = C_ABSENT
        else:
            self.wait_for_others(slot, mark)
            try:
                self.handle.launch(flight)
            except TransactionTooLarge:
                raise
            except Error as error:
                slot.error = error
        slot.flight = flight
        self.marks[index] = mark
        self.wide += mark == 0
        self.under_way += 1
        if slot.error is not None:
            self.drain()
            self.stop(slot.error)
        return 0

    cdef uint64_t mark_keys(self, Slot slot) except? 0:
        """The mark of the one key; 0, and the marks in slot.keys (none for a range), if there are many."""
        cdef const uint8_t *at = slot.ops.at + OPS_HEADER
        cdef const uint8_t *end = slot.ops.at + slot.ops.size
        cdef uint64_t mark = 0
        cdef size_t size
        cdef uint32_t value_len
        cdef uint16_t key_len
        keys = set() if slot.ops.count != 1 else None
        while at < end:
            if at[0] == C_OP_DELETE_RANGE:
                return 0
            memcpy(&key_len, at + 2, 2)
            memcpy(&value_len, at + 4, 4)
            size = 8 + (8 if at[1] & C_HAS_TTL else 0) + (8 if at[1] & C_IF_VERSION else 0)
            mark = mark_of(at + size, key_len)
            if keys is not None:
                keys.add(mark)
            at += size + key_len + value_len
        slot.keys = keys
        return mark if keys is None else 0

    cdef int wait_for_others(self, Slot slot, uint64_t mark) except -1:
        """Settles, oldest first, up to the last one under way that has a key in common."""
        cdef int i, index, last = -1
        for i in range(self.under_way):
            index = (self.first + i) % UNDER_WAY_MAX
            if mark and self.marks[index]:
                if self.marks[index] == mark:
                    last = i
            elif (mark == 0 or self.wide) and self.overlap(slot, mark, self.slots[index], self.marks[index]):
                last = i
        for i in range(last + 1):
            self.settle_oldest()
        return 0

    cdef bint overlap(self, Slot one, uint64_t mark, Slot other, uint64_t other_mark) except -1:
        if other.flight.settled:
            return False
        if mark == 0 and one.keys is None or other_mark == 0 and other.keys is None:
            return True  # a range
        if mark:
            return mark in other.keys
        if other_mark:
            return other_mark in one.keys
        return not one.keys.isdisjoint(other.keys)

    cdef int settle_half(self) except -1:
        """Waits once for the older half, so that the writer always has the other and wakes this thread seldom."""
        cdef Slot slot = self.slots[(self.first + UNDER_WAY_MAX // 2 - 1) % UNDER_WAY_MAX]
        cdef Flight flight = slot.flight
        cdef int i
        if slot.error is None and not flight.settled and not flight.answered:
            flight.client.flights[flight.number % C_CELLS] = None  # somebody waits in its cell now
            flight.client.nap(flight.number)
        for i in range(UNDER_WAY_MAX // 2):
            self.settle_oldest()
        return 0

    cdef int settle_oldest(self) except -1:
        """Waits for the oldest call and notes its result. Where nothing can be waited for any more, all end and this raises."""
        error = self.take_oldest()
        if error is None:
            return 0
        if isinstance(error, (TimeoutError, OutcomeUnknown, EngineDied, LogFailed, ReadOnlyError, WriterPoisoned, ClosedError)):
            self.drain()
            self.stop(error)
        return 0

    cdef int stop(self, object error) except -1:
        self.running = False
        raise self._error()

    cdef object take_oldest(self):
        cdef Slot slot = self.slots[self.first]
        cdef Flight flight = slot.flight
        cdef object result = slot.error
        try:
            if result is None:
                self.handle.land(flight)
        except Error as error:
            result = error
        except BaseException as error:
            self.failures += 1
            self.drop_oldest(error)
            self.give_up_rest(error)
            raise
        if result is not None:
            self.failures += 1
            self.drop_oldest(result)
            return result
        if slot.answer == ANSWER_COUNT:
            self.drop_oldest(flight.out.count if flight.out.status == C_OK else 0)
        else:
            self.drop_oldest(flight.out.status == C_OK if slot.answer == ANSWER_DONE else None)
        return None

    cdef int drop_oldest(self, object result) except -1:
        cdef Slot slot = self.slots[self.first]
        self.settled.append(result)
        self.wide -= self.marks[self.first] == 0
        slot.flight = slot.error = slot.keys = None
        self.first = (self.first + 1) % UNDER_WAY_MAX
        self.under_way -= 1
        return 0

    cdef int drain(self) except -1:
        while self.under_way:
            self.take_oldest()
        return 0

    cdef int give_up_rest(self, object why) except -1:
        """The wait was interrupted: what is still under way is withdrawn, or its outcome left to outcome()."""
        cdef Slot slot
        while self.under_way:
            slot = self.slots[self.first]
            if slot.error is None and not slot.flight.settled and not slot.flight.answered:
                self.handle.abandon(slot.flight, True, None)
            self.failures += 1
            self.drop_oldest(why if slot.error is None else slot.error)
        return 0

    def __dealloc__(self):
        cdef Slot slot
        cdef int i
        if self.handle is None or self.forks != fork_count:
            return
        for i in range(self.under_way):
            slot = self.slots[(self.first + i) % UNDER_WAY_MAX]
            if slot.flight is not None and not slot.flight.settled and not slot.flight.answered and slot.error is None:
                slot.flight.client.flights[slot.flight.number % C_CELLS] = None
                slot.flight.client.withdraw(slot.flight.number, True, slot.flight.flags)

    # ---- the calls

    def set(self, key, value, *, ttl=None, if_absent=False, if_version=None, durability=None):
        """``db.set`` without the wait; its result is True, or False if the condition failed.

        Raises at once what is wrong with the arguments; what the engine says is in ``results``. Cost: about 1 µs; a wait
        only where many calls are under way.

        >>> with db.pipeline() as p:
        ...     p.set("user:1", {"name": "Alice"}, ttl=3600)
        """
        cdef Slot slot
        cdef uint64_t if_lsn = 0, expires_us = 0
        cdef int level, flags = 0
        self.begin_call()
        try:
            flags = self.handle.condition_of(if_absent, if_version, &if_lsn)
            level = self.level_of(durability)
            if ttl is not None:
                flags |= self.handle.expiry_of(ttl, &expires_us)
            slot = self.next_slot(ANSWER_DONE)
            self.handle.add_set(&slot.ops, key, value, flags, if_lsn, expires_us)
            self.send(slot, level)
        finally:
            self.busy = False

    def delete(self, key, *, if_version=None, durability=None):
        """``db.delete`` without the wait; its result is whether the key was there (and of that version).

        Raises as ``set``. Cost: as ``set``.

        >>> with db.pipeline() as p:
        ...     p.delete("user:1")
        """
        cdef Slot slot
        cdef uint64_t if_lsn = 0
        cdef int level, flags = C_IF_PRESENT
        self.begin_call()
        try:
            level = self.level_of(durability)
            if if_version is not None:
                if_lsn, flags = self.handle.version_of(if_version), C_IF_VERSION
            slot = self.next_slot(ANSWER_DONE)
            self.handle.add_delete(&slot.ops, key, flags, if_lsn)
            self.send(slot, level)
        finally:
            self.busy = False

    def set_many(self, mapping_or_pairs, *, ttl=None, durability=None):
        """``db.set_many`` without the wait: one atomic commit; its result is None. Raises as ``set``, and what the iterable
        raises: then nothing of it is sent. Cost: about 1 µs a pair.

        >>> with db.pipeline() as p:
        ...     p.set_many({"a": 1, "b": 2})
        """
        cdef Slot slot
        cdef int level
        self.begin_call()
        try:
            level = self.level_of(durability)
            slot = self.next_slot(ANSWER_NONE)
            self.handle.add_pairs(&slot.ops, mapping_or_pairs, ttl)
            self.send(slot, level)
        finally:
            self.busy = False

    def delete_many(self, keys, *, durability=None):
        """``db.delete_many`` without the wait: one atomic commit; its result is how many were there. Raises as ``set_many``.
        Cost: about 1 µs a key.

        >>> with db.pipeline() as p:
        ...     p.delete_many(["a", "b"])
        """
        cdef Slot slot
        cdef int level
        self.begin_call()
        try:
            level = self.level_of(durability)
            slot = self.next_slot(ANSWER_COUNT)
            self.handle.add_deletes(&slot.ops, keys)
            self.send(slot, level)
        finally:
            self.busy = False

    def delete_range(self, start=None, stop=None, *, prefix=None, durability=None):
        """``db.delete_range`` without the wait; its result is how many there were. It goes out when all before it is settled,
        and what follows waits for it. Raises as ``set``. Cost: one commit.

        >>> with db.pipeline() as p:
        ...     p.delete_range(prefix="user:")
        """
        cdef Slot slot
        cdef int level
        self.begin_call()
        try:
            level = self.level_of(durability)
            slot = self.next_slot(ANSWER_COUNT)
            self.handle.add_range(&slot.ops, start, stop, prefix)
            self.send(slot, level)
        finally:
            self.busy = False
