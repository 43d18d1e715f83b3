# The client of one attachment: what this process maps of a group, its reader slots and its requests to the writer.
#
# Invariants:
#  - Everything here runs with the GIL held, but for the waits, which touch the lease's words only. The GIL is the lock
#    of the ring, the slots and the cells: between two calls that may run Python code each is whole.
#  - Slot 0 of each parity is for point reads: they begin and end their pin without giving the GIL away, and allocate
#    nothing that the garbage collector tracks meanwhile (a finalizer might read the database).
#  - A child of a fork never touches what it inherited: `forks` differs from the counter that the child has raised.
#  - Request r uses cell r % 64, so no two requests in flight share a cell or an outcome key; numbers only grow and may
#    skip. A cell whose request was given up is used again only when a writer has answered it: collect() sees to it.
#  - A request is sent again only under its own number, only when the writer was replaced (rule C2).

import os as _os
import time as _time

from memdb.errors import (
    ArenaFullError,
    ClosedError,
    EngineDied,
    Error,
    ForkedHandleError,
    LogFailed,
    OpenTimeout,
    OutcomeUnknown,
    ReadOnlyError,
    SnapshotExpired,
    Timeout,
    TransactionTooLarge,
    ValueTooLarge,
    WriterPoisoned,
)
from memdb.sentinels import KEEP as _KEEP, MISSING as _MISSING

cdef int fork_count = 0
cdef int processors = len(_os.sched_getaffinity(0)) if hasattr(_os, "sched_getaffinity") else 1


def _note_fork():
    global fork_count
    fork_count += 1


_os.register_at_fork(after_in_child=_note_fork)

cdef enum:
    POINT_SLOT = 0
    SPIN_US = 60           # covers an answer of a writer that is awake
    SHORT_SPIN_US = 4
    SPINS_TO_FAIL = 8      # long spins in vain before only short ones are tried …
    CALLS_TO_REST = 64     # … for so many calls
    SLICE_US = 50000       # signals, the writer's death and time-outs are looked at this often
    POLL_US = 1000
    OUTCOME_BYTES = 32
    PHASE_READ_ONLY = 3

cdef enum Settled:
    SETTLED_DONE = 0
    SETTLED_REPEAT = 1     # the writer was replaced after it had taken the request
    SETTLED_LOST = 2       # the group was replaced
    SETTLED_NO_WRITER = 4  # writing has been given up for good (rule G4)

cdef struct Outcome:
    uint8_t client_id[16]  # with the request's number: the commit's id
    uint64_t request
    int status
    uint64_t lsn
    uint64_t count
    uint64_t detail
    uint64_t winner

cdef struct Request:
    bint busy              # a thread waits for it, or gave up while the writer had it
    bint given_up
    bint ask               # given up while no writer was sure to answer: collect() asks
    uint64_t number
    uint64_t end           # ring position behind its last entry
    uint64_t word          # GENERATION when it was sent

# A wait that ends when nothing has moved for `limit_us`.
cdef struct Patience:
    uint64_t limit_us
    uint64_t since_us
    uint64_t seen


cdef inline void patience_init(Patience *patience, double seconds) noexcept:
    patience.limit_us = <uint64_t>(seconds * 1e6) if seconds < 1e12 else <uint64_t>1 << 62
    patience.since_us = c_monotonic_us()
    patience.seen = 0


cdef str condition_of(object pid):
    """What the kernel says of a process that can't work; None of another, and where it can't be seen."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state = file.read().rpartition(b")")[2][1:2]
    except OSError:
        return None
    if state in (b"T", b"t"):
        return "is stopped (kill -CONT lets it go on)"
    return "has ended and was not replaced" if state in (b"Z", b"X") else None


@cython.no_gc  # it refers to mappings only; cleared as part of a cycle, its memory would go before those who point into it
cdef class Client:
    """What one process knows of one group: its mappings, its lease, its requests. Made by ``memdb.attach``."""

    cdef readonly Mapping arena0
    cdef readonly Mapping arena1
    cdef readonly Mapping lease_mapping
    cdef readonly Mapping board_mapping
    cdef readonly Mapping page_mapping
    cdef readonly bytes client_id
    cdef public double snapshot_max_age  # the engine's option, seconds: for texts
    cdef c_lease *lease
    cdef c_board *board
    cdef c_page *page
    cdef c_view views[2]
    cdef c_view *view
    cdef c_slot *point_slot
    cdef uint64_t word
    cdef uint64_t epoch
    cdef uint64_t first_epoch       # that of the time when it was made; remap() raises the other
    cdef int forks
    cdef int waiting
    cdef int spins_failed           # long spins in vain, one after the other
    cdef int calls_resting          # calls left that spin only shortly
    cdef uint64_t next_request
    cdef Request requests[64]
    cdef list flights          # by cell: the commits whose answers whoever needs a cell may collect
    cdef uint16_t free_slots[2][512]
    cdef int free_count[2]

    def __init__(self, Mapping arena0 not None, Mapping arena1 not None, Mapping lease not None, Mapping board not None,
                 Mapping page not None, uint64_t word, bytes client_id not None):
        cdef int parity, slot
        self.arena0, self.arena1 = arena0, arena1
        self.lease_mapping, self.board_mapping, self.page_mapping = lease, board, page
        self.client_id = client_id
        self.lease = <c_lease *>mapping_base(lease)
        self.board = <c_board *>mapping_base(board)
        self.page = <c_page *>mapping_base(page)
        if c_lease_check(self.lease, mapping_size(lease)) != C_OK:
            raise Error("the lease segment that the engine sent has another layout; engine and client differ in version")
        self.epoch = self.first_epoch = word >> 32
        self.forks = fork_count
        self.next_request = max(c_load_relaxed(&self.lease.next_request), 1)
        memset(self.requests, 0, sizeof(self.requests))
        self.flights = [None] * C_CELLS
        for parity in range(2):
            self.free_count[parity] = C_SLOTS - 1
            for slot in range(C_SLOTS - 1):
                self.free_slots[parity][slot] = <uint16_t>(C_SLOTS - 1 - slot)
        c_store_sc32(&self.lease.slots_used, 1)

    @property
    def usable(self) -> bool:
        """Whether this process made it and neither its group nor a segment of it has been replaced."""
        return self.forks == fork_count and c_load_acquire(&self.page.word) >> 32 == self.epoch

    def remap(self, Mapping arena0 not None, Mapping arena1 not None, uint64_t epoch):
        """Goes on in the arenas of another attach epoch of the same group; lease and requests stay.

        Snapshots and views keep the mapping that they stand in.
        """
        self.arena0, self.arena1 = arena0, arena1
        self.epoch = epoch
        self.word = 0  # no generation's: the next operation attaches its view

    def keep_time(self, Client old not None):
        """Time does not go back in this process, though its engine was replaced (rule R3): goes on from the time of *old*."""
        cdef uint64_t latest
        if old.forks == fork_count and not old.lease_mapping.closed:
            latest = c_load_relaxed(&old.lease.latest_time)
            if latest > c_load_relaxed(&self.lease.latest_time):
                c_store_relaxed(&self.lease.latest_time, latest)

    # ---- generations

    cdef int refresh(self) except -100:
        """Makes the view that of the generation that GENERATION names. OK, AGAIN (not serving yet), MOVED (other group)."""
        cdef uint64_t word = c_load_acquire(&self.page.word)
        cdef unsigned parity = <unsigned>(word & 1)
        cdef Mapping arena = self.arena1 if parity else self.arena0
        cdef int rc
        if word >> 32 != self.epoch:
            return C_MOVED
        rc = c_view_attach(&self.views[parity], mapping_base(arena), mapping_size(arena), parity)
        if rc == C_AGAIN:
            return C_AGAIN
        if rc != C_OK:
            raise CorruptionError(f"the header of the arena of generation {word & 0xffffffff} is malformed; "
                                  "end the engine with `memdb stop` and open again", "arena", 0)
        self.views[parity].latest = &self.lease.latest_time
        self.view = &self.views[parity]
        self.point_slot = &self.lease.slots[parity][POINT_SLOT]
        self.word = word
        return C_OK

    # ---- reader slots

    cdef int slot_take(self, unsigned parity) except -1:
        if self.free_count[parity] == 0:
            raise Error(f"{<int>C_SLOTS - 1} snapshots and iterators are open in this process, which is the limit: "
                        "close some, or exhaust them")
        self.free_count[parity] -= 1
        cdef int slot = self.free_slots[parity][self.free_count[parity]]
        if c_load_relaxed32(&self.lease.slots_used) <= <uint32_t>slot:
            c_store_sc32(&self.lease.slots_used, <uint32_t>slot + 1)
        return slot

    cdef void slot_give(self, unsigned parity, int slot) noexcept:
        self.free_slots[parity][self.free_count[parity]] = <uint16_t>slot
        self.free_count[parity] += 1

    # ---- waiting

    cdef bint out_of_patience(self, Patience *patience) noexcept:
        cdef uint64_t seen = c_load_relaxed(&self.board.writer_lsn) * 31
        seen = (seen + c_load_relaxed(&self.board.progress_done)) * 31
        seen = (seen + c_load_relaxed(&self.board.phase)) * 31 + c_load_relaxed(&self.lease.ring_head)
        seen = seen * 31 + c_load_relaxed(&self.page.word)
        cdef uint64_t now = c_monotonic_us()
        if seen != patience.seen:
            patience.seen = seen
            patience.since_us = now
        return now - patience.since_us > patience.limit_us

    cdef bint no_writer(self) noexcept:
        """Has the group given up writing? A writer that is only read-only (a failed log) says so itself, with its pid."""
        return c_load_relaxed(&self.board.phase) == PHASE_READ_ONLY and c_load_relaxed(&self.board.writer_pid) == 0

    cdef str describe_writer(self):
        phase = c_load_relaxed(&self.board.phase)
        names = ("not running", "being rebuilt", "serving", "read-only", "ending")
        pid = c_load_relaxed(&self.board.writer_pid)
        text = f"the writer (pid {pid}) {condition_of(pid) or f'is {names[phase] if phase < 5 else phase}'}"
        total = c_load_relaxed(&self.board.progress_total)
        if phase == 1 and total:
            text += f", {c_load_relaxed(&self.board.progress_done)} of {total} keys done"
        return f"{text}, at LSN {c_load_relaxed(&self.board.writer_lsn)}"

    # ---- requests

    cdef uint64_t find_number(self) noexcept:
        """The next request number whose cell is free; 0 if all 64 are in use."""
        cdef uint64_t number = self.next_number()
        if number == 0:
            self.collect_flights()
            number = self.next_number()
        return number

    cdef uint64_t next_number(self) noexcept:
        cdef uint64_t number = self.next_request
        cdef int tried
        cdef Request *request
        for tried in range(C_CELLS):
            request = &self.requests[number % C_CELLS]
            if request.given_up:
                self.collect(request)
            if not request.busy:
                self.next_request = number + 1
                c_store_relaxed(&self.lease.next_request, number + 1)
                request.busy = True
                request.given_up = request.ask = False
                request.number = number
                return number
            number += 1
        return 0

    cdef void collect(self, Request *request) noexcept:
        """Frees the cell of a request that nobody waits for, if a writer has answered.

        One that was replaced never will, and nobody knows whether its successor has taken the request from the ring: that one
        is asked. Until it answers the cell stays taken.
        """
        cdef uint32_t state = c_load_acquire32(&self.lease.results[request.number % C_CELLS].state) & 0xff
        cdef bint consumed = c_load_acquire(&self.lease.ring_head) >= request.end
        cdef uint64_t word = c_load_acquire(&self.page.word)
        if state == C_CELL_DONE or (state == C_CELL_WITHDRAWN and not request.ask):
            request.busy = False
            request.given_up = False
        elif word == self.word and (request.ask or (consumed and request.word != word)):
            self.ask_again(request, word)

    cdef bint may_come_back(self, Request *request, uint64_t number) noexcept:
        """Could a restart find this commit in a log that has failed (rule L5)? Not once a new log has begun: its generation says so."""
        cdef c_result *cell = &self.lease.results[number % C_CELLS]
        cdef bint failed = c_load_acquire(&cell.request) == number and <int32_t>c_load_acquire32(&cell.status) == C_LOG_FAILED
        return (c_load_relaxed(&self.board.phase) == PHASE_READ_ONLY
                or (failed and request.number == number and request.word == c_load_acquire(&self.page.word)))

    cdef void ask_again(self, Request *request, uint64_t word) noexcept:
        """Repeats a request that was given up, without its operations: answered behind what it repeats, and changes nothing."""
        cdef c_entry entry
        cdef uint64_t no_operations = 0
        memset(&entry, 0, sizeof(entry))
        entry.kind = C_ENTRY_COMMIT
        entry.flags = C_ENTRY_REPEAT
        entry.level = C_LEVEL_MEMORY
        entry.request = request.number
        entry.cell = <uint32_t>(request.number % C_CELLS)
        entry.size = sizeof(entry) + sizeof(no_operations)
        if c_lease_submit(self.lease, self.board, &entry, <const uint8_t *>&no_operations) == C_OK:
            request.ask = False
            request.word = word
            request.end = c_load_relaxed(&self.lease.ring_tail)

    cdef int push(self, const c_entry *entry, const uint8_t *payload, Patience *patience, Attached handle) except -100:
        """Puts one entry into the ring. OK, MOVED (another generation or group), TIMEOUT as AGAIN, READ_ONLY (no_writer)."""
        cdef int rc
        cdef uint64_t word = self.word
        cdef uint64_t head
        while True:
            rc = c_lease_submit(self.lease, self.board, entry, payload)
            if rc != C_AGAIN:
                break
            head = c_load_acquire(&self.lease.ring_head)
            with nogil:
                c_futex_wait(<const c_a32 *>&self.lease.ring_head, <uint32_t>head, POLL_US)
            PyErr_CheckSignals()
            if c_load_acquire(&self.page.word) != word:
                return C_MOVED
            if self.no_writer():
                return C_READ_ONLY
            if self.out_of_patience(patience):
                return C_AGAIN
            if c_monotonic_us() - patience.since_us > SLICE_US and not handle.serves(self):
                return C_MOVED
        if rc != C_OK:
            raise Error(f"the submission ring of this process is malformed (status {rc}); open the database again")
        return C_OK

    cdef int send(self, uint64_t number, const uint8_t *payload, size_t size, int level, int flags, Patience *patience,
                  Attached handle) except -100:
        """Sends one commit, in frames if it is large. As push(): anything but OK leaves nothing that could be committed."""
        cdef c_entry entry
        cdef Request *request = &self.requests[number % C_CELLS]
        cdef uint32_t frames = 0
        cdef int rc
        memset(&entry, 0, sizeof(entry))
        entry.request = number
        entry.level = <uint8_t>level
        request.word = self.word
        while size > C_FRAME_MAX:
            entry.kind = C_ENTRY_FRAME
            entry.cell = C_CELLS
            entry.frame = frames
            entry.size = sizeof(entry) + C_FRAME_MAX
            rc = self.push(&entry, payload, patience, handle)
            if rc != C_OK:
                return rc
            payload += C_FRAME_MAX
            size -= C_FRAME_MAX
            frames += 1
        entry.kind = C_ENTRY_COMMIT
        entry.flags = <uint8_t>(flags | (C_ENTRY_STAGED if frames else 0))
        entry.cell = <uint32_t>(number % C_CELLS)
        entry.frame = frames
        entry.size = <uint32_t>(sizeof(entry) + size)
        rc = self.push(&entry, payload, patience, handle)
        if rc == C_OK:
            request.end = c_load_relaxed(&self.lease.ring_tail)
        return rc

    cdef bint crowded(self) noexcept:
        """Do more processes write than there are processors beside the writer's? Then a processor that waits is missed."""
        return c_load_relaxed(&self.board.busy_clients) >= <uint64_t>processors

    cdef uint64_t spin_time(self) noexcept:
        """Long while one thread waits and the answers come that fast; every other core may be needed otherwise."""
        if self.waiting > 0:
            return SHORT_SPIN_US
        if self.calls_resting > 0:
            self.calls_resting -= 1
            return SHORT_SPIN_US
        return SPIN_US

    cdef void note_spin(self, bint answered) noexcept:
        self.spins_failed = 0 if answered else self.spins_failed + 1
        if self.spins_failed >= SPINS_TO_FAIL:
            self.spins_failed = SPINS_TO_FAIL - 1  # one more in vain, and it rests again
            self.calls_resting = CALLS_TO_REST

    cdef bint is_done(self, uint64_t number) noexcept:
        return c_load_acquire32(&self.lease.results[number % C_CELLS].state) & 0xff == C_CELL_DONE

    cdef void nap(self, uint64_t number) noexcept:
        """A first wait for an answer, for a moment at most; settle() is to follow."""
        cdef uint64_t spin = self.spin_time()
        if self.is_done(number):
            return
        self.waiting += 1
        with nogil:
            c_lease_wait(self.lease, <uint32_t>(number % C_CELLS), spin, SLICE_US)
        self.waiting -= 1

    cdef int settle(self, uint64_t number, int level, Outcome *out, Patience *patience, Attached handle) except -100:
        """Waits for the answer. One of Settled, or AGAIN: patience is over. The caller withdraws if this raises."""
        cdef uint32_t cell = <uint32_t>(number % C_CELLS)
        cdef c_result *result = &self.lease.results[cell]
        cdef Request *request = &self.requests[cell]
        cdef uint64_t began, word, spin
        cdef bint yielding
        cdef int rc
        if self.is_done(number):
            self.take_answer(number, out)
            return SETTLED_DONE
        began, spin, yielding = c_monotonic_us(), self.spin_time(), self.crowded()
        while True:
            self.waiting += 1
            with nogil:
                if yielding:
                    c_lease_wait_yielding(self.lease, cell, spin)
                rc = c_lease_wait(self.lease, cell, 0 if yielding else spin, SLICE_US)
            self.waiting -= 1
            if rc == C_OK:
                if spin == SPIN_US and not yielding:
                    self.note_spin(c_monotonic_us() - began <= SPIN_US)
                break
            spin = 0
            PyErr_CheckSignals()
            word = c_load_acquire(&self.page.word)
            if word >> 32 != self.epoch and not handle.serves(self):
                return SETTLED_LOST
            if self.no_writer():
                return SETTLED_NO_WRITER
            if word != request.word and c_load_acquire(&self.lease.ring_head) >= request.end:
                if c_load_acquire32(&result.state) & 0xff != C_CELL_DONE:
                    return SETTLED_REPEAT
                continue
            if self.out_of_patience(patience):
                return C_AGAIN
            if c_monotonic_us() - began > SLICE_US and not handle.serves(self):
                return SETTLED_LOST
        self.take_answer(number, out)
        return SETTLED_DONE

    cdef void take_answer(self, uint64_t number, Outcome *out) noexcept:
        """Copies the answer of a request that is done, and frees its cell."""
        cdef c_result *result = &self.lease.results[number % C_CELLS]
        out.status = <int>c_load_relaxed32(&result.status)
        out.lsn = c_load_relaxed(&result.lsn)
        out.count = c_load_relaxed(&result.count)
        out.detail = c_load_relaxed(&result.detail)
        out.winner = c_load_relaxed(&result.winner)
        self.requests[number % C_CELLS].busy = False

    cdef void collect_flights(self) noexcept:
        """Frees the cells of commits that have been answered and that nobody waits for at the moment."""
        cdef Flight flight
        cdef int cell
        for cell in range(C_CELLS):
            flight = self.flights[cell]
            if flight is None or not self.is_done(flight.number):
                continue
            self.take_answer(flight.number, &flight.out)
            flight.answered = True
            self.flights[cell] = None

    cdef bint withdraw(self, uint64_t number, bint sent, int flags) noexcept:
        """True: the request is certainly not done. Else a writer has it, and the cell waits until that is settled.

        *sent*: it is in the ring. Of a repeat a writer may have what was sent before, even if the repeat itself can be withdrawn.
        """
        cdef Request *request = &self.requests[number % C_CELLS]
        cdef bint nowhere = not sent or c_lease_withdraw(self.lease, <uint32_t>(number % C_CELLS)) == C_OK
        if nowhere and not flags & C_ENTRY_REPEAT:
            request.busy = False
            return True
        request.given_up = True
        request.ask = nowhere
        return False

    cdef bytes id_of(self, uint64_t number):
        return self.client_id + int(number).to_bytes(8, "little")


include "reads.pxi"
include "scans.pxi"
include "borrow.pxi"
include "views.pxi"
include "operations.pxi"
include "handle.pxi"
include "writes.pxi"
include "conditional.pxi"
include "calls.pxi"
include "pipeline.pxi"
include "txn.pxi"
include "txnscan.pxi"
include "txncommit.pxi"
include "txnreads.pxi"
include "txncalls.pxi"
include "layers.pxi"
