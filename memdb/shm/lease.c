/* lease.c: see lease.h. The ring and the result cells, both sides.
 *
 * Why each order is enough:
 *  - ring bytes are relaxed words, published by ring_tail (seq_cst store, SYNC: ring-tail) and given back by ring_head (release,
 *    SYNC: ring-head): a client that sees the new head writes over bytes that the writer has finished reading.
 *  - tail and `parked` form a Dekker pair (both seq_cst on both sides): either the client sees `parked`, or the writer the tail.
 *  - a cell's fields are relaxed, published by its state (SYNC: result): SUBMITTED by the client with release order, DONE by the
 *    writer's compare-exchange.
 * The writer believes nothing that lies here: sizes and indices are checked on copies, and positions are taken modulo the ring, so
 * the worst that a broken client gets is wrong entries of its own.
 */
#include "lease.h"

#include <sched.h>
#include <stdbool.h>
#include <limits.h>

#include "futex.h"

#define RING_WORDS (MEMDB_RING_BYTES / 8)
#define STATE_MASK 0xffu
_Static_assert((MEMDB_RING_BYTES & (MEMDB_RING_BYTES - 1)) == 0, "ring positions are taken modulo a power of two");

static uint64_t padded(uint64_t bytes)
{
    return (bytes + 7) & ~UINT64_C(7);
}

void memdb_lease_init(struct memdb_lease *lease, const uint8_t client_id[16])
{
    memset((void *)lease, 0, offsetof(struct memdb_lease, ring)); /* nobody else knows the segment yet */
    lease->magic = MEMDB_LEASE_MAGIC;
    lease->layout = MEMDB_LAYOUT;
    lease->ring_bytes = MEMDB_RING_BYTES;
    memcpy(lease->client_id, client_id, 16);
    memdb_store_relaxed(&lease->next_request, 1);
    memdb_store_release(&lease->ready, 1); /* SYNC: segment-ready */
}

int memdb_lease_check(const struct memdb_lease *lease, uint64_t bytes)
{
    if (bytes < sizeof *lease)
        return MEMDB_INVALID;
    if (memdb_load_acquire(&lease->ready) != 1) /* SYNC: segment-ready */
        return MEMDB_AGAIN;
    if (lease->magic != MEMDB_LEASE_MAGIC || lease->layout != MEMDB_LAYOUT || lease->ring_bytes != MEMDB_RING_BYTES)
        return MEMDB_INVALID;
    return MEMDB_OK;
}

/* ---------------------------------------------------------------- client ------------------------------- */

/* Copies len bytes into the ring at byte position `at` (8-aligned), around its end. */
static void ring_put(struct memdb_lease *lease, uint64_t at, const void *bytes, size_t len)
{
    size_t first = MEMDB_RING_BYTES - (size_t)(at % MEMDB_RING_BYTES);
    if (first > len)
        first = len;
    memdb_copy_in(&lease->ring[at / 8 % RING_WORDS], bytes, first);
    if (len > first)
        memdb_copy_in(&lease->ring[0], (const uint8_t *)bytes + first, len - first);
}

/* The cell gets the request; a sleeper from before (a resubmission) is still woken by the answer. */
static void cell_submit(struct memdb_result *cell, uint64_t request)
{
    memdb_store_relaxed(&cell->request, request);
    uint32_t state = memdb_load_relaxed(&cell->state);
    while (!memdb_cas_sc(&cell->state, &state, MEMDB_CELL_SUBMITTED | (state & MEMDB_WAITING))) /* SYNC: result */
        ;
}

int memdb_lease_submit(struct memdb_lease *lease, struct memdb_board *board, const struct memdb_entry *entry, const void *payload)
{
    if (entry->size < sizeof *entry || entry->size > sizeof *entry + MEMDB_FRAME_MAX)
        return MEMDB_INVALID;
    if (entry->kind == MEMDB_ENTRY_FRAME ? entry->cell != MEMDB_CELLS : entry->cell >= MEMDB_CELLS)
        return MEMDB_INVALID;
    uint64_t tail = memdb_load_relaxed(&lease->ring_tail); /* only this side stores it */
    uint64_t head = memdb_load_acquire(&lease->ring_head); /* SYNC: ring-head */
    uint64_t used = tail - head;
    if (used > MEMDB_RING_BYTES || (tail & 7) != 0)
        return MEMDB_INVALID;
    if (MEMDB_RING_BYTES - used < padded(entry->size))
        return MEMDB_AGAIN;
    if (entry->kind != MEMDB_ENTRY_FRAME)
        cell_submit(&lease->results[entry->cell], entry->request);
    ring_put(lease, tail, entry, sizeof *entry);
    if (entry->size > sizeof *entry)
        ring_put(lease, tail + sizeof *entry, payload, entry->size - sizeof *entry);
    memdb_store_sc(&lease->ring_tail, tail + padded(entry->size)); /* SYNC: ring-tail */
    if (memdb_load_sc(&board->parked) != 0) /* SYNC: parked */
        memdb_bell_ring(board);
    return MEMDB_OK;
}

void memdb_bell_ring(struct memdb_board *board)
{
    memdb_add_sc(&board->bell, 1); /* SYNC: bell */
    if (memdb_load_sc(&board->parked) != 0)
        memdb_futex_wake(&board->bell, 1);
}

/* Spins while the cell is not done. True when it is. */
static int cell_spin(const struct memdb_result *cell, uint64_t spin_us, uint64_t started, bool yielding)
{
    for (unsigned turn = 1;; turn++) {
        if ((memdb_load_acquire(&cell->state) & STATE_MASK) == MEMDB_CELL_DONE) /* SYNC: result */
            return 1;
        if ((yielding || turn % 32 == 0) && memdb_clock_monotonic_us() - started >= spin_us)
            return 0;
        if (yielding)
            sched_yield();
        else
            memdb_spin_hint();
    }
}

void memdb_lease_wait_yielding(struct memdb_lease *lease, uint32_t index, uint64_t spin_us)
{
    if (index < MEMDB_CELLS)
        cell_spin(&lease->results[index], spin_us, memdb_clock_monotonic_us(), true);
}

int memdb_lease_wait(struct memdb_lease *lease, uint32_t index, uint64_t spin_us, uint64_t timeout_us)
{
    if (index >= MEMDB_CELLS)
        return MEMDB_INVALID;
    struct memdb_result *cell = &lease->results[index];
    uint32_t state = memdb_load_acquire(&cell->state);
    if ((state & STATE_MASK) == MEMDB_CELL_DONE)
        return MEMDB_OK;
    uint64_t started = memdb_clock_monotonic_us(), waited = 0;
    if (spin_us > 0 && cell_spin(cell, spin_us < timeout_us ? spin_us : timeout_us, started, false))
        return MEMDB_OK;
    for (;;) {
        state = memdb_load_acquire(&cell->state); /* SYNC: result */
        uint32_t what = state & STATE_MASK;
        if (what == MEMDB_CELL_DONE)
            return MEMDB_OK;
        if (what != MEMDB_CELL_SUBMITTED && what != MEMDB_CELL_TAKEN)
            return MEMDB_INVALID; /* nothing is under way in this cell */
        waited = memdb_clock_monotonic_us() - started;
        if (waited >= timeout_us)
            return MEMDB_TIMEOUT;
        if (!(state & MEMDB_WAITING)) {
            if (!memdb_cas_sc(&cell->state, &state, state | MEMDB_WAITING))
                continue;
            state |= MEMDB_WAITING;
        }
        if (memdb_futex_wait(&cell->state, state, timeout_us - waited) == -2)
            return (memdb_load_acquire(&cell->state) & STATE_MASK) == MEMDB_CELL_DONE ? MEMDB_OK : MEMDB_AGAIN;
    }
}

int memdb_lease_withdraw(struct memdb_lease *lease, uint32_t index)
{
    if (index >= MEMDB_CELLS)
        return MEMDB_INVALID;
    struct memdb_result *cell = &lease->results[index];
    uint32_t state = memdb_load_relaxed(&cell->state);
    while ((state & STATE_MASK) == MEMDB_CELL_SUBMITTED)
        if (memdb_cas_sc(&cell->state, &state, MEMDB_CELL_WITHDRAWN)) {
            if (state & MEMDB_WAITING)
                memdb_futex_wake(&cell->state, INT_MAX);
            return MEMDB_OK;
        }
    return MEMDB_INVALID;
}

/* ---------------------------------------------------------------- writer ------------------------------- */

static void ring_get(const struct memdb_lease *lease, uint64_t at, void *bytes, size_t len)
{
    size_t first = MEMDB_RING_BYTES - (size_t)(at % MEMDB_RING_BYTES);
    if (first > len)
        first = len;
    memdb_copy_out(bytes, &lease->ring[at / 8 % RING_WORDS], first);
    if (len > first)
        memdb_copy_out((uint8_t *)bytes + first, &lease->ring[0], len - first);
}

int memdb_lease_ready(const struct memdb_lease *lease)
{
    return memdb_load_sc(&lease->ring_tail) != memdb_load_relaxed(&lease->ring_head); /* SYNC: ring-tail */
}

int memdb_lease_peek(struct memdb_lease *lease, struct memdb_entry *entry, void *buf, size_t cap)
{
    uint64_t head = memdb_load_relaxed(&lease->ring_head);
    uint64_t used = memdb_load_sc(&lease->ring_tail) - head; /* SYNC: ring-tail */
    if (used == 0)
        return MEMDB_ABSENT;
    if (used > MEMDB_RING_BYTES || (used & 7) != 0 || (head & 7) != 0 || used < sizeof *entry)
        return MEMDB_INVALID;
    ring_get(lease, head, entry, sizeof *entry);
    if (entry->size < sizeof *entry || padded(entry->size) > used || entry->size - sizeof *entry > MEMDB_FRAME_MAX)
        return MEMDB_INVALID;
    size_t len = entry->size - sizeof *entry;
    if (len > cap || entry->request == 0 || entry->level > MEMDB_LEVEL_FULL)
        return MEMDB_INVALID;
    if (entry->flags & ~(MEMDB_ENTRY_STAGED | MEMDB_ENTRY_REPEAT | (entry->kind == MEMDB_ENTRY_COMMIT ? MEMDB_ENTRY_VALIDATE : 0)))
        return MEMDB_INVALID;
    switch (entry->kind) {
    case MEMDB_ENTRY_COMMIT:
    case MEMDB_ENTRY_SYNC:
        if (entry->cell >= MEMDB_CELLS)
            return MEMDB_INVALID;
        break;
    case MEMDB_ENTRY_FRAME:
        if (entry->cell != MEMDB_CELLS)
            return MEMDB_INVALID;
        break;
    default:
        return MEMDB_INVALID;
    }
    ring_get(lease, head + sizeof *entry, buf, len);
    return MEMDB_OK;
}

void memdb_lease_consume(struct memdb_lease *lease, const struct memdb_entry *entry)
{
    memdb_store_release(&lease->ring_head, memdb_load_relaxed(&lease->ring_head) + padded(entry->size)); /* SYNC: ring-head */
}

int memdb_lease_take(struct memdb_lease *lease, const struct memdb_entry *entry)
{
    if (entry->cell >= MEMDB_CELLS)
        return MEMDB_INVALID;
    struct memdb_result *cell = &lease->results[entry->cell];
    uint32_t state = memdb_load_acquire(&cell->state); /* SYNC: result */
    if (memdb_load_relaxed(&cell->request) != entry->request)
        return MEMDB_ABSENT;
    for (;;) {
        uint32_t what = state & STATE_MASK;
        if (what == MEMDB_CELL_TAKEN)
            return MEMDB_OK; /* by a writer that died: ours are known to the commit loop */
        if (what == MEMDB_CELL_DONE || what == MEMDB_CELL_WITHDRAWN || what == MEMDB_CELL_IDLE)
            return MEMDB_ABSENT;
        if (what != MEMDB_CELL_SUBMITTED)
            return MEMDB_INVALID;
        if (memdb_cas_sc(&cell->state, &state, MEMDB_CELL_TAKEN | (state & MEMDB_WAITING)))
            break;
    }
    if (memdb_load_relaxed(&cell->request) == entry->request)
        return MEMDB_OK;
    /* Withdrawn and reused between the look and the exchange: what we took is a later entry's. Give it back. */
    state = memdb_load_relaxed(&cell->state);
    while ((state & STATE_MASK) == MEMDB_CELL_TAKEN &&
           !memdb_cas_sc(&cell->state, &state, MEMDB_CELL_SUBMITTED | (state & MEMDB_WAITING)))
        ;
    return MEMDB_ABSENT;
}

void memdb_lease_complete(struct memdb_lease *lease, uint32_t index, uint64_t request, int status, uint64_t lsn, uint64_t count,
                          uint64_t detail, uint64_t winner)
{
    if (index >= MEMDB_CELLS)
        return;
    struct memdb_result *cell = &lease->results[index];
    /* The state is loaded before the request: a cell that the client gives to another one meanwhile fails the exchange. */
    uint32_t state = memdb_load_acquire(&cell->state); /* SYNC: result */
    do {
        if (memdb_load_relaxed(&cell->request) != request)
            return;
        memdb_store_relaxed(&cell->status, (uint32_t)status);
        memdb_store_relaxed(&cell->lsn, lsn);
        memdb_store_relaxed(&cell->count, count);
        memdb_store_relaxed(&cell->detail, detail);
        memdb_store_relaxed(&cell->winner, winner);
    } while (!memdb_cas_sc(&cell->state, &state, MEMDB_CELL_DONE)); /* SYNC: result */
    if (state & MEMDB_WAITING)
        memdb_futex_wake(&cell->state, INT_MAX);
}
