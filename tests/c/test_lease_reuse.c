/*
 * A cell that its client gives to another request while the writer is storing the answer to the first: the second request is not
 * answered by it. The store hook plays the client between two stores of the writer.
 * CTEST-CFLAGS: -DMEMDB_STORE_HOOK
 */
#include "commit_rig.h"

static struct memdb_board board;
static struct memdb_lease *lease;
static int armed; /* stores of the writer until the client comes in; 0 = it does not */

static struct memdb_entry entry_of(uint64_t request)
{
    return (struct memdb_entry){.size = sizeof(struct memdb_entry), .kind = MEMDB_ENTRY_SYNC, .request = request,
                                .cell = (uint32_t)(request % MEMDB_CELLS)};
}

void memdb_store_hook(void)
{
    if (armed == 0 || --armed > 0)
        return;
    struct memdb_entry entry = entry_of(1 + MEMDB_CELLS);
    CHECK_EQUAL(memdb_lease_submit(lease, &board, &entry, NULL), MEMDB_OK);
}

int main(void)
{
    unsigned reused = 0;
    for (int at = 1; at <= 8; at++) {
        struct memdb_entry entry = entry_of(1), got;
        uint8_t buf[64];
        lease = rig_lease_for(1);
        CHECK_EQUAL(memdb_lease_submit(lease, &board, &entry, NULL), MEMDB_OK);
        CHECK_EQUAL(memdb_lease_peek(lease, &got, buf, sizeof buf), MEMDB_OK);
        CHECK_EQUAL(memdb_lease_take(lease, &got), MEMDB_OK);
        memdb_lease_consume(lease, &got);
        armed = at;
        memdb_lease_complete(lease, 1, 1, MEMDB_OK, 7, 1, 0, 0);
        int came = armed == 0;
        armed = 0;
        uint32_t state = memdb_load_acquire(&lease->results[1].state) & 0xff;
        CHECK_EQUAL(state, came ? MEMDB_CELL_SUBMITTED : MEMDB_CELL_DONE);
        CHECK_EQUAL(memdb_load_relaxed(&lease->results[1].request), came ? 1 + MEMDB_CELLS : 1);
        reused += came;
        munmap(lease, sizeof *lease);
    }
    CHECK(reused >= 6); /* five fields and the state */
    return 0;
}
