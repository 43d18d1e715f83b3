/* Rule I1, an empty block goes: N, empty, stands between H and the header Z, and a tower of H points to N. The writer unlinks N above,
 * then at level 0, publishes the same again, scans, and uses N again if nobody is in a traversal. A reader, through the tower or along
 * level 0, meets no reused bytes, and finds Z behind N. Blocks hold only their link here: 1 = N, 2 = Z, 99 = used again. */
#include "model.h"
atomic_int published = 1, slot = 0, tower = 1, h_next = 1, n_next = 2;
#ifdef WEAK_REPUBLISH
#define REPUBLISH REL
#else
#define REPUBLISH SC
#endif
#ifdef WEAK_ENTER
#define ENTER REL
#else
#define ENTER SC
#endif
static void *reader(void *unused)
{
    STORE(slot, 1, ENTER);
    (void)LOAD(published, SC);
    int at = LOAD(tower, ACQ); /* 0: stays at H */
    if (at == 0)
        at = LOAD(h_next, ACQ);
    if (at == 1)
        at = LOAD(n_next, ACQ);
    assert(at == 2);
    cas(&slot, 1, 0);
    return unused;
}
static void *writer(void *unused)
{
#ifndef WEAK_TOWER_STAYS
    STORE(tower, 0, REL);
#endif
#ifndef WEAK_NEXT_STAYS
    STORE(h_next, 2, REL);
#endif
#ifndef WEAK_NO_REPUBLISH
    STORE(published, 1, REPUBLISH);
#endif
#ifdef WEAK_NO_GRACE
    STORE(n_next, 99, RLX);
#else
    if (LOAD(slot, SC) == 0)
        STORE(n_next, 99, RLX);
#endif
    return unused;
}
int main(void) { run2(reader, writer); return 0; }
