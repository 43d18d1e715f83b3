/* Rule R3: a commit that has judged a key by time T raises the floor to T before it is published. A reader takes S, then the greater of
 * its clock and the floor, so that it does not see a key alive that a commit of its S has seen expired, though its clock is behind. The
 * key expires at 5; the commit at LSN 2 saw that, and says so in `witness`. */
#include "model.h"
atomic_int published = 1, floor_ = 0, witness = 0;
#ifdef WEAK_PUBLISH
#define PUBLISH RLX
#else
#define PUBLISH SC
#endif
static void *reader(void *unused)
{
    int clock = 3;
#ifdef WEAK_TIME_FIRST
    int time = LOAD(floor_, RLX), s = LOAD(published, SC);
#else
    int s = LOAD(published, SC), time = LOAD(floor_, RLX);
#endif
    if (time < clock)
        time = clock;
    if (s >= 2 && LOAD(witness, ACQ) == 2)
        assert(time >= 5);
    return unused;
}
static void *writer(void *unused)
{
#ifndef WEAK_FLOOR_LATE
    STORE(floor_, 6, RLX);
#endif
    STORE(witness, 2, REL);
    STORE(published, 2, PUBLISH);
#ifdef WEAK_FLOOR_LATE
    STORE(floor_, 6, RLX);
#endif
    return unused;
}
int main(void) { run2(reader, writer); return 0; }
