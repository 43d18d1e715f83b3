/* Rule C1: the writer stores an outcome, the client waits for it: it sees it whole, or it is woken. */
#include "sleep.h"

#include "../../../memdb/shm/lease.c"

static struct memdb_lease lease;

static void *client(void *unused)
{
    if (memdb_lease_wait(&lease, 0, 0, UINT64_MAX) == MEMDB_OK) {
        assert(memdb_load_relaxed(&lease.results[0].lsn) == 5);
        assert(memdb_load_relaxed(&lease.results[0].count) == 6);
    }
    return unused;
}

static void *writer(void *unused)
{
    memdb_lease_complete(&lease, 0, 9, MEMDB_OK, 5, 6, 0, 0);
    return unused;
}

int main(void)
{
    memdb_store_relaxed(&lease.results[0].request, 9);
    memdb_store_relaxed(&lease.results[0].state, MEMDB_CELL_TAKEN);
    run2(client, writer);
    nobody_sleeps_for_good();
    return 0;
}
