/* The two-state pin: a snapshot is IDLE and enters a traversal while the writer unlinks a block that the snapshot does not need,
 * publishes (or publishes the same LSN again), scans, and reuses the block if nobody was ACTIVE. The traversal must not meet reused bytes.
 * link: 1 = the block is linked. block: 7 = its bytes, 99 = reused. Slot: 1 IDLE, 2 ACTIVE. */
#include "model.h"
atomic_int published = 1, slot = 1, link_ = 1, block = 7;
static void *reader(void *unused)
{
#ifdef WEAK_ENTER
    STORE(slot, 2, REL);
#else
    if (!cas(&slot, 1, 2))
        return unused;
#endif
#ifndef WEAK_NO_LOAD
    (void)LOAD(published, SC); /* its value is not used: it orders what follows behind what was unlinked before the publish */
#endif
    if (LOAD(link_, ACQ) == 1)
        assert(LOAD(block, RLX) == 7);
    cas(&slot, 2, 1);
    return unused;
}
static void *writer(void *unused)
{
    STORE(link_, 0, REL);
#ifndef WEAK_NO_REPUBLISH
    STORE(published, 1, SC);
#endif
    if (LOAD(slot, SC) != 2)
        STORE(block, 99, RLX);
    return unused;
}
int main(void) { run2(reader, writer); return 0; }
