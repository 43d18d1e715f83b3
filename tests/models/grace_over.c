/* Invariant 5, the other way a block is released: the scan saw a reader ACTIVE, and the writer waits for its word to change. A leaf or a
 * table is unlinked; the reader that stands on it leaves, and may come back at once. Bytes that it finds by the link are never reused
 * ones. Slot: state (1 idle, 2 active) | 4 * count.
 * GENMC-IMM: WEAK_LEAVE (RC11 lets no load pass a later store; the IMM, like ARM, does) */
#include "model.h"
atomic_int published = 1, slot = 2, link_ = 1, block = 7;
static void *reader(void *unused)
{
    int first = LOAD(link_, ACQ) == 1 ? LOAD(block, RLX) : 7; /* ACTIVE since before */
#ifdef WEAK_LEAVE /* a plain store: what was read is not before it */
    STORE(slot, 4 + 1, RLX);
#else
    cas(&slot, 2, 4 + 1);
#endif
    assert(first == 7);
    cas(&slot, 4 + 1, 8 + 2);
#ifndef WEAK_NO_LOAD
    (void)LOAD(published, SC);
#endif
    if (LOAD(link_, ACQ) == 1)
        assert(LOAD(block, RLX) == 7);
    cas(&slot, 8 + 2, 12 + 1);
    return unused;
}
static void *writer(void *unused)
{
#ifdef WEAK_UNLINK_LATE
    STORE(published, 1, SC);
    int word = LOAD(slot, SC);
    STORE(link_, 0, REL);
#else
    STORE(link_, 0, REL);
    STORE(published, 1, SC);
    int word = LOAD(slot, SC);
#endif
    int over = (word & 3) != 2; /* nobody is in a traversal … */
#ifdef WEAK_COUNT
    over |= word != 2; /* any later traversal is taken for one that began after the unlinking */
#else
    over |= LOAD(slot, SC) != word; /* … or who was has left it since */
#endif
#ifdef WEAK_NO_GRACE
    over = 1;
#endif
    if (over)
        STORE(block, 99, RLX);
    return unused;
}
int main(void) { run2(reader, writer); return 0; }
