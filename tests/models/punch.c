/* Rule R6. An arena is closed (published = 0), its pins are revoked, and its pages are given back when every slot is free again: by its
 * own unpin, or by the owner's acknowledgement of the revocation. A read of a page that was given back may be a SIGBUS, so none may
 * happen, also by a revoked reader, whose read is void. page: 7, 0 = given back. Slot: 0 free, 1 pinned, 3 revoked. */
#include "model.h"
atomic_int published = 5, slot = 0, page = 7;
#ifdef WEAK_ANNOUNCE
#define ANNOUNCE REL
#else
#define ANNOUNCE SC
#endif
#ifdef WEAK_CLOSE
#define CLOSE REL
#else
#define CLOSE SC
#endif
static void *reader(void *unused)
{
    STORE(slot, 1, ANNOUNCE);
#ifdef WEAK_NO_LOOK
    int open = 1;
#else
    int open = LOAD(published, SC) != 0;
#endif
    if (open)
        assert(LOAD(page, RLX) == 7);
#ifdef WEAK_ACK /* says that it has left before it reads for the last time */
    STORE(slot, 0, SC);
    assert(!open || LOAD(page, RLX) == 7);
#else
    if (!cas(&slot, 1, 0))
        STORE(slot, 0, SC); /* revoked: acknowledged, and the read is void */
#endif
    return unused;
}
static void *writer(void *unused)
{
    STORE(published, 0, CLOSE);
    cas(&slot, 1, 3);
#ifdef WEAK_NO_ACK /* revoked is taken for gone */
    if (LOAD(slot, SC) != 1)
#else
    if (LOAD(slot, SC) == 0)
#endif
        STORE(page, 0, RLX);
    return unused;
}
int main(void) { run2(reader, writer); return 0; }
