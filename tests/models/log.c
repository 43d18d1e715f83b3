/* Rule C4: record bytes, then the tail, then apply and publish. A watcher of the log buffer (a successor after a death is one that sees
 * less of it) finds every record below the tail whole, and every LSN that the arena shows below the tail. The second record lies in the
 * next segment, whose half is complete before `current` names it. */
#include "model.h"
atomic_int current = 1, salt[3] = {0, 5, 0}, tail[3] = {0, 0, 0}, published = 0;
static int record[3];
#ifdef WEAK_TAIL
#define TAIL RLX
#else
#define TAIL REL
#endif
#ifdef WEAK_CURRENT
#define CURRENT RLX
#else
#define CURRENT REL
#endif
#ifdef WEAK_PUBLISH
#define PUBLISH RLX
#else
#define PUBLISH SC
#endif
static void *watcher(void *unused)
{
    int shown = LOAD(published, SC);
    int segment = LOAD(current, ACQ);
    assert(shown < 2 || segment == 2);
    if (segment == 2) {
        assert(LOAD(salt[2], RLX) == 6);
        if (LOAD(tail[2], ACQ))
            assert(record[2] == 22);
        else
            assert(shown < 2);
    }
    if (LOAD(tail[1], ACQ))
        assert(record[1] == 11);
    else
        assert(shown < 1);
    return unused;
}
static void *writer(void *unused)
{
#ifdef WEAK_APPLY_FIRST
    STORE(published, 1, SC);
#endif
    record[1] = 11;
    STORE(tail[1], 1, TAIL);
    STORE(published, 1, PUBLISH);
#ifdef WEAK_CURRENT_FIRST
    STORE(current, 2, REL);
#endif
    STORE(salt[2], 6, RLX);
    STORE(current, 2, CURRENT);
    record[2] = 22;
    STORE(tail[2], 1, TAIL);
    STORE(published, 2, PUBLISH);
    return unused;
}
int main(void) { run2(watcher, writer); return 0; }
