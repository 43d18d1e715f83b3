/* Rule C8: the client withdraws a request and gives its cell to the next one while the writer takes: with the kernel's functions. One of both has
 * the first request, and the second is taken once, as itself. */
#include "sleep.h"

#include "../../../memdb/shm/lease.c"

static struct memdb_lease lease;
static struct memdb_board board;
static const struct memdb_entry first = {.size = sizeof first, .kind = MEMDB_ENTRY_SYNC, .request = 1, .cell = 1};
static const struct memdb_entry second = {.size = sizeof second, .kind = MEMDB_ENTRY_SYNC, .request = 65, .cell = 1};
static int withdrawn, taken;

static void *client(void *unused)
{
    withdrawn = memdb_lease_withdraw(&lease, 1) == MEMDB_OK;
    if (withdrawn)
        assert(memdb_lease_submit(&lease, &board, &second, NULL) == MEMDB_OK);
    return unused;
}

static void *writer(void *unused)
{
    taken = memdb_lease_take(&lease, &first) == MEMDB_OK;
    memdb_lease_consume(&lease, &first);
    if (memdb_lease_ready(&lease)) {
        assert(!taken);
        assert(memdb_lease_take(&lease, &second) == MEMDB_OK);
    }
    return unused;
}

int main(void)
{
    assert(memdb_lease_submit(&lease, &board, &first, NULL) == MEMDB_OK);
    run2(client, writer);
    assert(withdrawn != taken);
    return 0;
}
