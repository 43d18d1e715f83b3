/* Rule C5 and invariant 4: commit 1 is `full`, commit 2 `memory` and applied behind it. The sync thread makes 1 durable and says so; the
 * commit thread publishes 1, then 2; a reader who sees either, or is answered, finds 1 durable. Three threads: what the sync thread has
 * done reaches the reader through the commit thread. */
#include "model.h"
atomic_int durable = 0, done_lsn = 0, done_count = 0, published = 0, answered = 0;
#ifdef WEAK_DONE
#define DONE RLX
#else
#define DONE SC
#endif
#ifdef WEAK_COLLECT
#define COLLECT RLX
#else
#define COLLECT ACQ
#endif
#ifdef WEAK_PUBLISH
#define PUBLISH RLX
#else
#define PUBLISH SC
#endif
#ifdef WEAK_ANSWER
#define ANSWER RLX
#else
#define ANSWER SC
#endif
static void *sync_thread(void *unused)
{
    STORE(durable, 1, RLX);
    STORE(done_lsn, 1, RLX);
    atomic_fetch_add_explicit(&done_count, 1, DONE);
    return unused;
}
static void *commit_thread(void *unused)
{
#ifdef WEAK_BEHIND /* the memory commit does not wait for the one before it */
    STORE(published, 2, SC);
#endif
    if (LOAD(done_count, COLLECT) == 0)
        return unused;
    int safe = LOAD(done_lsn, RLX);
    assert(safe == 1);
#ifdef WEAK_ANSWER_FIRST /* acknowledged before it is published: its client does not read its own write */
    STORE(answered, 1, SC);
#endif
    STORE(published, 1, PUBLISH);
    STORE(published, 2, PUBLISH);
    STORE(answered, 1, ANSWER);
    return unused;
}
static void *reader(void *unused)
{
    int told = LOAD(answered, ACQ), s = LOAD(published, SC);
    if (told)
        assert(s == 2);
    if (s)
        assert(LOAD(durable, RLX) == 1);
    return unused;
}
int main(void)
{
    pthread_t third;
    pthread_create(&third, 0, sync_thread, 0);
    run2(commit_thread, reader);
    pthread_join(third, 0);
    return 0;
}
