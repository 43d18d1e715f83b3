/* Rule R1 with versions pruned by interval: 6 and 7 are published, and version 6 is seen by S = 6 only. A reader that announced 5 may have
 * taken 6 and not narrowed its word yet: its bound pins everything above. */
#include "epoch.h"

static void *reader(void *unused)
{
    memdb_pin pin;
    if (memdb_pin_begin(&pin, &view, slot(), MEMDB_PIN_POINT) != MEMDB_OK)
        return unused;
    uint64_t bytes = pin.lsn == 6 ? memdb_load_relaxed(&block) : 7;
    if (memdb_pin_end(&pin) == MEMDB_OK)
        assert(bytes == 7);
    return unused;
}

static void *writer(void *unused)
{
    memdb_store_sc(&header.published, 6);
    memdb_store_sc(&header.published, 7);
    memdb_scanner_scan(&scanner, 0);
    if (!memdb_scanner_sees(&scanner, 6, 7))
        memdb_store_relaxed(&block, 99);
    return unused;
}

int main(void)
{
    begin(5);
    run2(reader, writer);
    return 0;
}
