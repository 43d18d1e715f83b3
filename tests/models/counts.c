/* Invariant I3 with a time to live: a reader of len() looks at next_expiry, at the count, and at next_expiry again; before both the count
 * is exact. It is 4 o'clock. A key of expiry 3 was there and counted (next_expiry 3); it is reaped (count 1, next_expiry 9), then one that
 * expired at 2 is added and counted: alive is 1 throughout. */
#include "model.h"
atomic_int next_expiry = 3, count = 2;
#ifdef WEAK_RAISE
#define RAISE RLX
#else
#define RAISE REL
#endif
#ifdef WEAK_COUNT
#define COUNT RLX
#else
#define COUNT REL
#endif
#ifdef WEAK_COUNT_LOAD
#define SEE RLX
#else
#define SEE ACQ
#endif
#ifdef WEAK_FIRST_LOAD
#define FIRST RLX
#else
#define FIRST ACQ
#endif
static void *reader(void *unused)
{
    int a = LOAD(next_expiry, FIRST), n = LOAD(count, SEE), b = LOAD(next_expiry, ACQ);
#ifdef WEAK_FIRST_ONLY
    b = a;
#endif
#ifdef WEAK_LAST_ONLY
    a = b;
#endif
    if (4 < a && 4 < b)
        assert(n == 1);
    return unused;
}
static void *writer(void *unused)
{
#ifdef WEAK_RAISE_FIRST
    STORE(next_expiry, 9, REL);
    STORE(count, 1, REL);
#else
    STORE(count, 1, COUNT);
    STORE(next_expiry, 9, RAISE);
#endif
#ifdef WEAK_LOWER_LATE
    STORE(count, 2, COUNT);
    STORE(next_expiry, 2, REL);
#else
    STORE(next_expiry, 2, REL);
    STORE(count, 2, COUNT);
#endif
    return unused;
}
int main(void) { run2(reader, writer); return 0; }
