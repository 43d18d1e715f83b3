/* Rule R1 with versions pruned by interval: an announced bound is not yet an S. LSN 5 is published; 6 and 7 each replace a key's version. Version 6 is
 * seen by S = 6 only, so the writer drops it when no slot pins 6. A reader that announced 5 may have taken S = 6 and not narrowed its word yet:
 * a bound counts as a pin of [bound, infinity) until the word is marked exact. Slot: 2 * S + exact, 0 = free. */
#include "model.h"
atomic_int published = 5, slot = 0, freed6 = 0;
static void *reader(void *unused)
{
    int bound = LOAD(published, RLX), word = 2 * bound;
    STORE(slot, word, SC);
    int s = LOAD(published, SC);
    if (s != bound) {
        if (!cas(&slot, word, 2 * s + 1))
            return unused;
        word = 2 * s + 1;
    }
    if (s == 6)
        assert(LOAD(freed6, ACQ) == 0);
    cas(&slot, word, 0);
    return unused;
}
static void *writer(void *unused)
{
    STORE(published, 6, SC);
    STORE(published, 7, SC);
    int word = LOAD(slot, SC), pinned = word / 2;
#ifdef WEAK_BOUND_AS_PIN
    int needed = word && pinned == 6;
#else
    int needed = word && (word & 1 ? pinned == 6 : pinned < 7);
#endif
    if (!needed)
        STORE(freed6, 1, REL);
    return unused;
}
int main(void) { run2(reader, writer); return 0; }
