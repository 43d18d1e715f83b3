/* compact(), and any death of a writer between taking and answering (rule C2): the old loop answers what it has taken before the new
 * generation is shown; what it has not taken stays in the ring for the new one. A client that sees its entry consumed, another generation,
 * and no answer sends it again as a repetition, which is answered by the stored outcome. It is done once, and answered. tail and head
 * count entries; repeat: it was sent again; outcome: stored with the commit's effects. */
#include "model.h"
atomic_int tail = 0, head = 0, done = 0, word = 1, repeat = 0, outcome = 0, applied = 0;
static void answer(int again)
{
#ifdef WEAK_NO_OUTCOME
    (void)again;
    atomic_fetch_add_explicit(&applied, 1, SC);
#else
    if (!again || !LOAD(outcome, RLX))
        atomic_fetch_add_explicit(&applied, 1, SC);
#endif
    STORE(outcome, 1, RLX);
    STORE(done, 1, SC);
}
static void *client(void *unused)
{
    STORE(tail, 1, SC);
    if (LOAD(done, ACQ))
        return unused;
    if (LOAD(word, ACQ) == 2 && LOAD(head, ACQ) == 1) {
#ifdef WEAK_ASSUME_LOST /* consumed and not answered a moment ago: done anew under no number */
        STORE(repeat, 2, RLX);
#else
        STORE(repeat, 1, RLX);
#endif
        STORE(tail, 2, SC);
    }
    return unused;
}
static void *writer(void *unused)
{
    int taken = 0;
    if (LOAD(tail, SC) == 1) { /* the old loop, intake open */
        STORE(head, 1, REL);
        taken = 1;
    }
#ifdef WEAK_SWITCH_EARLY /* shown before what was taken is answered, and the answer is lost with the old loop */
    STORE(word, 2, REL);
    taken = 0;
#endif
    if (taken)
        answer(0);
    STORE(word, 2, REL);
    int seen = LOAD(tail, SC); /* the new loop */
    if (LOAD(head, RLX) == 0 && seen >= 1) {
        STORE(head, 1, REL);
        answer(0);
    }
    seen = LOAD(tail, SC);
    if (seen == 2)
        answer(LOAD(repeat, RLX) == 1);
    return unused;
}
int main(void)
{
    run2(client, writer);
    assert(LOAD(applied, SC) <= 1);
    if (LOAD(head, RLX) == 1)
        assert(LOAD(done, RLX) == 1);
    return 0;
}
