/* Rule I2: slots that become free in a table under readers. Keys A and B begin their search at slot 0: A lies there, B behind it in slot
 * 1. A is purged, and C, which begins there too, takes its place. B is always found, C from LSN 2 on, whole. The purged cell is used again
 * once no pin stands on it. A slot: 0 empty, 9 tombstone, else 1, 2, 3 for A, B, C. cell[key]: its bytes, 99 used again. */
#include "model.h"
atomic_int published = 1, pin = 0, slots[3] = {1, 2, 0}, cell[4] = {0, 10, 20, 0};
#ifdef WEAK_SLOT
#define SLOT RLX
#else
#define SLOT REL
#endif
static int find(int key)
{
    for (int at = 0; at < 3; at++) {
        int seen = LOAD(slots[at], ACQ);
        if (seen == 0)
            return 0;
        if (seen == 9)
            continue;
        int bytes = LOAD(cell[seen], RLX); /* the key is compared: it lies in the cell */
        assert(bytes == 10 * seen);
        if (seen == key)
            return bytes;
    }
    return 0;
}
static void *reader(void *unused)
{
    STORE(pin, 1, SC);
    int s = LOAD(published, SC);
    assert(find(2) == 20);
    if (s == 2)
        assert(find(3) == 30);
    cas(&pin, 1, 0);
    return unused;
}
static void *writer(void *unused)
{
#if defined(WEAK_EMPTY) /* a search for B ends here */
    STORE(slots[0], 0, RLX);
#elif defined(WEAK_SHIFT) /* B moves to where its search begins: who has passed that slot misses it */
    STORE(slots[0], 2, REL);
    STORE(slots[1], 0, REL);
#else
    STORE(slots[0], 9, RLX);
#endif
#ifndef WEAK_NO_REPUBLISH
    STORE(published, 1, SC);
#endif
#ifdef WEAK_NO_GRACE
    STORE(cell[1], 99, RLX);
#else
    if (LOAD(pin, SC) == 0)
        STORE(cell[1], 99, RLX);
#endif
    STORE(cell[3], 30, RLX);
#ifdef WEAK_SHIFT
    STORE(slots[1], 3, SLOT);
#else
    STORE(slots[0], 3, SLOT);
#endif
    STORE(published, 2, SC);
    return unused;
}
int main(void) { run2(reader, writer); return 0; }
