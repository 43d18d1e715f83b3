/* Rule C1. The writer stores an outcome and then the state DONE; the client marks the state WAITING and sleeps on it. State: 2 taken, 2|4 taken and waited
 * for, 3 done. The kernel compares and sleeps in one step, modelled by a CAS to itself. */
#include "model.h"
atomic_int state = 2, outcome = 0, wake = 0, slept = 0;
#ifdef WEAK_DONE
#define DONE RLX
#else
#define DONE SC
#endif
static void *client(void *unused)
{
#ifdef WEAK_WAIT /* sleeps without telling the writer */
    int told = 0;
    if (LOAD(state, SC) == 2)
        STORE(slept, 1, SC);
#else
    int told = cas(&state, 2, 2 | 4);
    if (told && cas(&state, 2 | 4, 2 | 4))
        STORE(slept, 1, SC);
#endif
    if (!told && !LOAD(slept, SC) && LOAD(state, ACQ) == 3)
        assert(LOAD(outcome, RLX) == 9);
    return unused;
}
static void *writer(void *unused)
{
    STORE(outcome, 9, RLX);
    int before = LOAD(state, ACQ);
    while (!atomic_compare_exchange_strong_explicit(&state, &before, 3, DONE, RLX)) {
    }
    if (before & 4)
        STORE(wake, 1, SC);
    return unused;
}
int main(void)
{
    run2(client, writer);
    assert(!LOAD(slept, SC) || LOAD(wake, SC)); /* whoever slept is woken */
    return 0;
}
