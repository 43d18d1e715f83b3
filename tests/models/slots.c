/* Slot reuse, and how far the scan looks: a client raises slots_used before it first announces in a slot; the scan loads slots_used, then
 * that many slots. The slot was revoked from an earlier use: the announcement replaces the word and is the acknowledgement. Slot: 0 free,
 * 1 pinned at S = 1, 3 revoked. */
#include "model.h"
atomic_int published = 1, used = 0, slot = 3, freed = 0;
#ifdef WEAK_USED
#define USED RLX
#else
#define USED SC
#endif
#ifdef WEAK_USED_LOAD
#define SEE ACQ
#else
#define SEE SC
#endif
static void *reader(void *unused)
{
#ifndef WEAK_USED_LATE
    STORE(used, 1, USED);
#endif
#ifdef WEAK_ACKNOWLEDGE /* a revoked word is set free first, and the pin is what it was freed as */
    STORE(slot, 0, SC);
#else
    STORE(slot, 1, SC);
#endif
    int s = LOAD(published, SC);
#ifdef WEAK_USED_LATE
    STORE(used, 1, SC);
#endif
    if (s == 1)
        assert(LOAD(freed, ACQ) == 0);
    return unused;
}
static void *writer(void *unused)
{
    STORE(published, 2, SC);
    int pinned = LOAD(used, SEE) ? LOAD(slot, SC) : 0;
    if (pinned != 1)
        STORE(freed, 1, REL);
    return unused;
}
int main(void) { run2(reader, writer); return 0; }
