/* A lease is claimed and given back: the client is told of its lease after the writer has said that it scans it, and the lease is given
 * back after the last pin and view. The writer's commit thread adds and removes leases between two scans. scanned: the writer's own list.
 * bytes are those of a view: plain loads (NumPy), so a reuse that is not ordered behind them is a data race. */
#include "model.h"
atomic_int published = 1, told = 0, gone = 0, slot = 0, hazard = 0;
static int bytes = 7;
#ifdef WEAK_TOLD
#define TOLD RLX
#else
#define TOLD REL
#endif
#ifdef WEAK_GONE
#define GONE RLX
#else
#define GONE REL
#endif
static void *client(void *unused)
{
    if (!LOAD(told, ACQ))
        return unused;
    STORE(slot, 1, SC);
    if (LOAD(published, SC) != 1) {
        cas(&slot, 1, 0);
        return unused;
    }
    STORE(hazard, 1, SC);
    cas(&slot, 1, 0);
#ifdef WEAK_GONE_EARLY /* the process says goodbye, but a view stays */
    STORE(gone, 1, GONE);
#endif
    assert(bytes == 7);
    STORE(hazard, 0, SC);
    STORE(gone, 1, GONE);
    return unused;
}
static void *writer(void *unused)
{
#ifdef WEAK_TELL_EARLY
    STORE(told, 1, TOLD);
    STORE(published, 2, SC);
    bytes = 99; /* before the lease is known: nobody can be there */
#else
    STORE(published, 2, SC);
    bytes = 99; /* of a time before the lease; its client can't see it */
    bytes = 7;
    STORE(published, 1, SC); /* the arena as the client finds it */
    STORE(told, 1, TOLD);    /* scanned from here on */
    STORE(published, 2, SC); /* what S = 1 sees is unlinked */
    if (LOAD(gone, ACQ) || (LOAD(slot, SC) == 0 && LOAD(hazard, SC) == 0))
        bytes = 99;
#endif
    return unused;
}
int main(void) { run2(client, writer); return 0; }
