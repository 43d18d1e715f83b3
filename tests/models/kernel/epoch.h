/* epoch.h: epoch.c with one lease and a scanner that has room for it. */
#ifndef KERNEL_MODEL_EPOCH_H
#define KERNEL_MODEL_EPOCH_H

#include "kernel.h"

#include "../../../memdb/shm/epoch.c"

static struct memdb_arena_header header;
static struct memdb_lease lease, *leases[1];
static uint64_t exact[2], bounds[2], hazards[2];
static struct active actives[2];
static struct memdb_scanner scanner;
static memdb_pin idle; /* of a snapshot */
static memdb_view view;
static memdb_a64 block; /* 7: its bytes; 99: used again */

static void begin(uint64_t published)
{
    memdb_store_relaxed(&header.published, published);
    memdb_store_relaxed(&lease.slots_used, 1);
    memdb_store_relaxed(&block, 7);
    view.header = &header;
    leases[0] = &lease;
    scanner.leases = leases;
    scanner.lease_count = 1;
    scanner.exact = exact;
    scanner.open = bounds;
    scanner.active = actives;
    scanner.hazards = hazards;
}

static struct memdb_slot *slot(void) { return &lease.slots[0][0]; }

/* A snapshot that no call is using. */
static void begin_idle(uint64_t lsn)
{
    begin(lsn);
    memdb_pin made;
    assert(memdb_pin_begin(&made, &view, slot(), MEMDB_PIN_POINT) == MEMDB_OK);
    assert(memdb_pin_leave(&made) == MEMDB_OK);
    idle.view.header = made.view.header; /* field by field: GenMC takes no copies of whole structs in memory */
    idle.slot = made.slot;
    idle.word = made.word;
    idle.lsn = made.lsn;
}

#endif
