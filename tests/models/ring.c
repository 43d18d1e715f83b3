/* Rule C1. A client publishes one entry and rings if the writer is parked; the writer parks only if it sees no entry. Either the writer sees the
 * entry or the bell has moved, so the futex does not sleep. The kernel compares the bell and sleeps in one step, so one word holds both: the low bit
 * says asleep, the rest counts rings. */
#include "model.h"
atomic_int entry = 0, tail = 0, parked = 0, bell = 0;
#ifdef WEAK_TAIL
#define TAIL RLX
#else
#define TAIL SC
#endif
#ifdef WEAK_PARK
#define PARK REL
#else
#define PARK SC
#endif
static void *client(void *unused)
{
    STORE(entry, 42, RLX);
    STORE(tail, 1, TAIL);
    if (LOAD(parked, SC)) {
#ifndef WEAK_BELL
        atomic_fetch_add_explicit(&bell, 2, SC);
#endif
        atomic_fetch_and_explicit(&bell, ~1, SC); /* futex wake */
    }
    return unused;
}
static void *writer(void *unused)
{
    int seen_bell = LOAD(bell, SC);
    STORE(parked, 1, PARK);
    if (LOAD(tail, SC) == 1) {
        assert(LOAD(entry, RLX) == 42);
        return unused;
    }
    cas(&bell, seen_bell, seen_bell | 1); /* futex wait */
    return unused;
}
int main(void)
{
    run2(client, writer);
    assert(!(LOAD(bell, SC) & 1)); /* nobody sleeps for good while an entry waits */
    return 0;
}
