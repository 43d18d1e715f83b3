/* Rule C1: a client publishes an entry, and rings if the writer is parked. The writer finds the entry whole, or it is woken. */
#include "sleep.h"

#include "../../../memdb/shm/lease.c"

static struct memdb_lease lease;
static struct memdb_board board;
static const struct memdb_entry entry = {.size = sizeof entry, .kind = MEMDB_ENTRY_SYNC, .request = 9, .cell = 0};

static void *client(void *unused)
{
    assert(memdb_lease_submit(&lease, &board, &entry, NULL) == MEMDB_OK);
    return unused;
}

static void *writer(void *unused)
{
    uint32_t bell = memdb_load_sc(&board.bell); /* as park() of park.c, which the model park.c runs */
    memdb_store_sc(&board.parked, 1);
    if (!memdb_lease_ready(&lease)) {
        memdb_futex_wait(&board.bell, bell, UINT64_MAX);
        return unused;
    }
    assert(memdb_load_relaxed(&lease.ring[1]) == 9); /* its request: GenMC can't take an entry apart as memdb_lease_peek does */
    assert(memdb_lease_take(&lease, &entry) == MEMDB_OK);
    return unused;
}

int main(void)
{
    run2(client, writer);
    nobody_sleeps_for_good();
    return 0;
}
