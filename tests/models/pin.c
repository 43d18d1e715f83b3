/* Rule R1. LSN 1 is published; the writer publishes 2, which supersedes a version that only S = 1 sees, and frees that
 * version if no slot pins an S below 2. A reader whose S is 1 must find it. Slot: 0 free, else the pinned S. */
#include "model.h"
atomic_int published = 1, slot = 0, freed = 0;
#ifdef WEAK_ANNOUNCE
#define ANNOUNCE REL
#else
#define ANNOUNCE SC
#endif
#ifdef WEAK_LOAD
#define READ ACQ
#else
#define READ SC
#endif
#ifdef WEAK_SCAN
#define SCAN ACQ
#else
#define SCAN SC
#endif
static void *reader(void *unused)
{
#ifdef WEAK_LATE_ANNOUNCE /* S is taken before anything is announced */
    int s = LOAD(published, SC);
    STORE(slot, s, SC);
#else
    int bound = LOAD(published, RLX);
    STORE(slot, bound, ANNOUNCE);
    int s = LOAD(published, READ);
    if (s != bound && !cas(&slot, bound, s))
        return unused;
#endif
    if (s == 1)
        assert(LOAD(freed, ACQ) == 0);
    cas(&slot, s, 0);
    return unused;
}
static void *writer(void *unused)
{
    STORE(published, 2, SC);
    int pinned = LOAD(slot, SCAN);
    if (pinned == 0 || pinned >= 2)
        STORE(freed, 1, REL);
    return unused;
}
int main(void) { run2(reader, writer); return 0; }
