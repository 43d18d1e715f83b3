/* Rule R1: LSN 1 is published. The writer publishes 2 and drops a version that only S = 1 sees, if it finds no such pin; a reader whose
 * S is 1 must find that version, unless its pin was revoked. */
#include "epoch.h"

static void *reader(void *unused)
{
    memdb_pin pin;
    if (memdb_pin_begin(&pin, &view, slot(), MEMDB_PIN_POINT) != MEMDB_OK)
        return unused;
    uint64_t bytes = pin.lsn == 1 ? memdb_load_relaxed(&block) : 7;
    if (memdb_pin_end(&pin) == MEMDB_OK)
        assert(bytes == 7);
    return unused;
}

static void *writer(void *unused)
{
    memdb_store_sc(&header.published, 2); /* as memdb_store_publish does */
    memdb_scanner_scan(&scanner, 0);
    if (!memdb_scanner_sees(&scanner, 1, 2))
        memdb_store_relaxed(&block, 99);
    return unused;
}

int main(void)
{
    begin(1);
    run2(reader, writer);
    return 0;
}
