/* Rule C8: a client withdraws a request that the writer has not taken, and uses its cell for the next one; the writer takes what it finds
 * in the ring. A request is withdrawn or taken, never both, and the second one is not taken for the first. Cell: 1 submitted, 2 taken, 4
 * withdrawn. Ring: entry of request 1, then of request 65 in the same cell. */
#include "model.h"
atomic_int state = 1, request = 1, tail = 1;
static int withdrawn, taken[2];
#ifdef WEAK_SUBMIT
#define SUBMIT RLX
#else
#define SUBMIT SC
#endif
static void *client(void *unused)
{
#ifdef WEAK_STORE /* a look and a store instead of one exchange */
    withdrawn = LOAD(state, ACQ) == 1;
    if (withdrawn)
        STORE(state, 4, SC);
#else
    withdrawn = cas(&state, 1, 4);
#endif
    if (!withdrawn)
        return unused;
#ifdef WEAK_REQUEST_LATE /* the cell says submitted before it says which */
    cas(&state, 4, 1);
    STORE(request, 65, RLX);
#else
    STORE(request, 65, RLX);
    cas(&state, 4, 1);
#endif
    STORE(tail, 2, SUBMIT);
    return unused;
}
static int take(int wanted)
{
    int before = LOAD(state, ACQ);
    if (LOAD(request, RLX) != wanted)
        return 0;
    if (before != 1)
        return 0;
#ifdef WEAK_TAKE
    STORE(state, 2, SC);
#else
    if (!cas(&state, 1, 2))
        return 0;
#endif
#ifndef WEAK_ONE_LOOK
    if (LOAD(request, RLX) != wanted) { /* withdrawn and reused between the look and the exchange: given back */
        cas(&state, 2, 1);
        return 0;
    }
#endif
    return 1;
}
static void *writer(void *unused)
{
    taken[0] = take(1);
    if (!taken[0] && LOAD(tail, SC) == 2) {
        taken[1] = take(65);
        assert(taken[1]); /* nobody else can have taken it */
    }
    return unused;
}
int main(void)
{
    run2(client, writer);
    assert(!(withdrawn && taken[0]));
    return 0;
}
