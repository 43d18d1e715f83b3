/* Rule C6: two transactions each read both keys and write one (write skew). Each takes S, reads, and hands its S in; the writer commits
 * one after the other and takes only those whose reads still hold: no key that was read was written above S, by a commit that is applied,
 * whether it is published or not. Both may commit only if one has seen the other. */
#include "model.h"
atomic_int published = 0, version[2] = {0, 0}, ring[2] = {0, 0}; /* LSN of a key's newest version; S + 1 of a request, 0 none */
static int seen[2], committed[2];
static void transaction(int me)
{
#ifdef WEAK_LATE_S /* S is taken after what was read */
    int other = LOAD(version[1 - me], ACQ), s = LOAD(published, SC);
#else
    int s = LOAD(published, SC), other = LOAD(version[1 - me], ACQ);
    if (other > s)
        other = 0; /* above S: passed over */
#endif
    seen[me] = other != 0;
    STORE(ring[me], s + 1, SC);
}
static void *one(void *unused) { transaction(0); return unused; }
static void *two(void *unused) { transaction(1); return unused; }
static void *writer(void *unused)
{
    int applied = 0, last[2] = {0, 0}; /* the window: LSN of the last commit on each key */
    for (int i = 0; i < 2; i++) {
        int s = LOAD(ring[i], SC);
        if (s == 0)
            continue;
        s--;
#if defined(WEAK_NO_WINDOW)
        int holds = 1;
#elif defined(WEAK_PUBLISHED) /* judged by what is published: a commit that waits for its sync is missed */
        int holds = last[1 - i] <= s || last[1 - i] > LOAD(published, RLX);
#else
        int holds = last[1 - i] <= s;
#endif
        if (holds) {
            last[i] = ++applied;
            committed[i] = 1;
            STORE(version[i], applied, REL);
#ifdef WEAK_PUBLISHED
            if (i == 1)
#endif
                STORE(published, applied, SC);
        }
    }
    return unused;
}
int main(void)
{
    pthread_t third;
    pthread_create(&third, 0, writer, 0);
    run2(one, two);
    pthread_join(third, 0);
    assert(!(committed[0] && committed[1]) || seen[0] || seen[1]);
    return 0;
}
