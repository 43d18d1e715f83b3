/* Rule C1. A client publishes one entry and rings if the writer is parked; the writer parks only if it sees no entry. Either the writer sees the
 * entry or the bell has moved, so the futex does not sleep. `asleep` stands for the futex wait: it sleeps only if the bell is unchanged. */
#include "model.h"
atomic_int entry = 0, tail = 0, parked = 0, bell = 0, asleep = 0;
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
        atomic_fetch_add_explicit(&bell, 1, SC);
#endif
        STORE(asleep, 0, SC); /* futex wake */
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
    /* futex wait, as the kernel does it: compare and sleep in one step */
    if (LOAD(bell, SC) == seen_bell)
        cas(&asleep, 0, 1 + seen_bell);
    return unused;
}
int main(void)
{
    run2(client, writer);
    /* asleep for good although an entry waits: only legal if the bell moved after the kernel's comparison, when the wake had to come after it */
    int woken = LOAD(bell, SC) != 0;
    assert(LOAD(asleep, SC) == 0 || woken);
    return 0;
}
