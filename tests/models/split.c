/* Rule I1. Header H stands over block {1, 2}. A split makes header N over {2} and replaces H's block by {1} whose next is N: the link is part of
 * the block, so one release store shows both halves. A reader that starts at H must find both keys.
 * A block is a number: bits 0-1 its keys, bit 2 = its next is N. */
#include "model.h"
atomic_int h_block = 3, n_block = 0, old_next = 0;
#ifdef WEAK_SWAP
#define SWAP RLX
#else
#define SWAP REL
#endif
static void *reader(void *unused)
{
    int block = LOAD(h_block, ACQ), keys = block & 3;
#ifdef WEAK_LEFT_FIRST
    int next = LOAD(old_next, ACQ); /* the link lies beside the block */
#else
    int next = block & 4;
#endif
    if (next)
        keys |= LOAD(n_block, ACQ) & 3;
    assert(keys == 3);
    return unused;
}
static void *writer(void *unused)
{
    STORE(n_block, 2, RLX);
#ifdef WEAK_LEFT_FIRST
    STORE(h_block, 1, REL);
    STORE(old_next, 4, REL);
#else
    STORE(h_block, 1 | 4, SWAP);
#endif
    return unused;
}
int main(void) { run2(reader, writer); return 0; }
