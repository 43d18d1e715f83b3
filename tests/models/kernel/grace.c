/* Invariant 5: an idle snapshot enters a traversal while the writer unlinks a block that it does not need, publishes, scans, and uses the
 * block again if nobody was in a traversal. Who finds the link must find the bytes. */
#include "epoch.h"

static memdb_a64 linked;

static void *reader(void *unused)
{
    if (memdb_pin_enter(&idle) != MEMDB_OK)
        return unused;
    if (memdb_load_acquire(&linked))
        assert(memdb_load_relaxed(&block) == 7);
    memdb_pin_leave(&idle);
    return unused;
}

static void *writer(void *unused)
{
    memdb_store_release(&linked, 0);
    memdb_store_sc(&header.published, 1); /* the same again, as memdb_store_reclaim does */
    memdb_scanner_scan(&scanner, 0);
    if (scanner.active_count == 0)
        memdb_store_relaxed(&block, 99);
    return unused;
}

int main(void)
{
    begin_idle(1);
    memdb_store_relaxed(&linked, 1);
    run2(reader, writer);
    return 0;
}
