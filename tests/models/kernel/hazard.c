/* Rule R4: a view names its block, then leaves the traversal; if that succeeds the bytes are its own for good. The writer revokes, then
 * reads the hazards, then uses what none of them names again. */
#include "epoch.h"

#define OWNER 5u

static void *reader(void *unused)
{
    if (memdb_pin_enter(&idle) != MEMDB_OK)
        return unused;
    int index = memdb_hazard_set(&lease, 0, OWNER);
    if (memdb_pin_leave(&idle) == MEMDB_OK) {
        assert(index == 0);
        assert(memdb_load_relaxed(&block) == 7);
    }
    return unused;
}

static void *writer(void *unused)
{
    uint64_t word = memdb_load_sc(&slot()->word);
    if (!memdb_slot_revoke(slot(), word))
        return unused;
    memdb_scanner_read_hazards(&scanner, 0);
    if (!memdb_scanner_hazarded(&scanner, OWNER))
        memdb_store_relaxed(&block, 99);
    return unused;
}

int main(void)
{
    begin_idle(1);
    run2(reader, writer);
    return 0;
}
