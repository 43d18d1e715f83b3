/* Rules G2 and G3: an arena is torn down for a third generation: published = 0 is stored, the slots are scanned, the memory is used again.
 * A reader that still looks there sees the 0, or its slot is seen. */
#include "epoch.h"

static void *reader(void *unused)
{
    memdb_pin pin;
    if (memdb_pin_begin(&pin, &view, slot(), MEMDB_PIN_POINT) != MEMDB_OK)
        return unused; /* MEMDB_MOVED */
    uint64_t bytes = memdb_load_relaxed(&block);
    if (memdb_pin_end(&pin) == MEMDB_OK)
        assert(bytes == 7);
    return unused;
}

static void *builder(void *unused)
{
    memdb_store_sc(&header.published, 0);
    memdb_scanner_scan(&scanner, 0);
    if (scanner.active_count == 0)
        memdb_store_relaxed(&block, 99);
    return unused;
}

int main(void)
{
    begin(5);
    run2(reader, builder);
    return 0;
}
