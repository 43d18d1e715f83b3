/* Rule R2: a reader copies while the writer revokes it and uses the bytes again; the copy is believed only if the unpin says so. */
#include "epoch.h"

static void *reader(void *unused)
{
    if (memdb_pin_enter(&idle) != MEMDB_OK)
        return unused;
    uint64_t copy = memdb_load_relaxed(&block);
    if (memdb_pin_end(&idle) == MEMDB_OK)
        assert(copy == 7);
    return unused;
}

static void *writer(void *unused)
{
    if (memdb_slot_revoke(slot(), memdb_load_sc(&slot()->word)))
        memdb_store_relaxed(&block, 99);
    return unused;
}

int main(void)
{
    begin_idle(1);
    run2(reader, writer);
    return 0;
}
