/* Rule C1, the ring's other end: the writer copies an entry, then gives its room back by the head; a client that sees the room writes the next
 * entry over it. The writer's copy is that of the first entry.
 * GENMC-IMM: WEAK_HEAD (RC11 lets no load pass a later store; the IMM, like ARM, does) */
#include "model.h"
atomic_int head = 0, tail = 1, word = 42;
#ifdef WEAK_HEAD
#define HEAD RLX
#else
#define HEAD REL
#endif
static void *client(void *unused)
{
#ifdef WEAK_NO_ROOM /* does not look whether there is room */
    int room = 1;
#else
    int room = LOAD(head, ACQ) == 1;
#endif
    if (room) {
        STORE(word, 43, RLX);
        STORE(tail, 2, SC);
    }
    return unused;
}
static void *writer(void *unused)
{
    if (LOAD(tail, SC) == 0)
        return unused;
#ifdef WEAK_CONSUME_FIRST /* the room is given back before the copy is made */
    STORE(head, 1, REL);
    int copy = LOAD(word, RLX);
#else
    int copy = LOAD(word, RLX);
    STORE(head, 1, HEAD);
#endif
    assert(copy == 42);
    return unused;
}
int main(void) { run2(client, writer); return 0; }
