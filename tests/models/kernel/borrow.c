/* A borrowed pin: published is 2, and the version that S = 1 sees goes when no scan sees a pin of 1. The lender's snapshot is revoked while a
 * borrower reads at its S in the slot behind it. What the borrower missed is never believed, and it never finds a block used again. */
#include <time.h>
#define clock_gettime(clock, at) ((at)->tv_sec = 1, (at)->tv_nsec = 0)
#include "epoch.h"

static memdb_a64 linked, answer; /* 1: found, 2: missed */

static void *borrower(void *unused)
{
    memdb_pin pin;
    if (memdb_pin_at(&pin, &view, slot() + 1, 1, 5) != MEMDB_OK)
        return unused;
    uint64_t found = memdb_load_acquire(&linked);
    uint64_t bytes = found ? memdb_load_relaxed(&block) : 7;
    if (memdb_pin_end(&pin) != MEMDB_OK)
        return unused;
    assert(bytes == 7);
    memdb_store_release(&answer, found ? 1 : 2);
    return unused;
}

static void *lender(void *unused)
{
    uint64_t got = memdb_load_acquire(&answer);
    if (memdb_pin_stands(&idle))
        assert(got != 2);
    return unused;
}

static void *writer(void *unused)
{
    memdb_slot_revoke(idle.slot, idle.word);
    memdb_scanner_scan(&scanner, 0);
    if (memdb_scanner_sees(&scanner, 1, 2))
        return unused;
    memdb_store_release(&linked, 0);
    memdb_store_sc(&header.published, 2); /* the same again, as memdb_store_reclaim does */
    memdb_scanner_scan(&scanner, 0);
    if (scanner.active_count == 0)
        memdb_store_relaxed(&block, 99);
    return unused;
}

int main(void)
{
    begin_idle(1);
    memdb_store_relaxed(&lease.slots_used, 2);
    memdb_store_relaxed(&linked, 1);
    memdb_store_relaxed(&header.published, 2);
    pthread_t threads[3];
    pthread_create(&threads[0], 0, borrower, 0);
    pthread_create(&threads[1], 0, lender, 0);
    pthread_create(&threads[2], 0, writer, 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], 0);
    return 0;
}
