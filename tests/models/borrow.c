/* A borrowed pin: the lender's snapshot is S = 1; another process reads at S = 1 under a pin of its own and answers; the lender believes the
 * answer if its own pin still stands. LSN 2 is published and supersedes the version that S = 1 sees. The writer revokes the lender, or
 * the lender lets go when it is done; the writer scans the borrower's slot, then the lender's, and unlinks the version if neither pins
 * 1. A second pass uses the block again if no pin of the borrower was seen after the unlinking: the borrower must never find that.
 * Slots: 0 free, 1 pinned at S = 1, 3 revoked. The version: 7 there, 9 used again. */
#include "model.h"
atomic_int published = 2, lender = 1, borrower = 0, linked = 1, block = 7, answer = 0;
#ifdef WEAK_ANNOUNCE
#define ANNOUNCE REL
#else
#define ANNOUNCE SC
#endif
#ifdef WEAK_ANSWER
#define TELL RLX
#else
#define TELL REL
#endif
#ifdef WEAK_TAKE
#define TAKE RLX
#else
#define TAKE ACQ
#endif
enum { FOUND = 1, MISSED = 2, PINNED = 4 };
static void *borrow(void *unused)
{
    STORE(borrower, 1, ANNOUNCE);
#ifndef WEAK_NO_LOAD
    (void)LOAD(published, SC);
#endif
#ifdef WEAK_LET_GO
    STORE(answer, PINNED, TELL);
#endif
    int found = LOAD(linked, ACQ);
    if (found)
        assert(LOAD(block, RLX) == 7); /* memory safety: the borrower's own pin */
    if (!cas(&borrower, 1, 0))
        return unused;
    STORE(answer, found ? FOUND : MISSED, TELL);
    return unused;
}
static void *lend(void *unused)
{
#ifdef WEAK_LET_GO /* a handshake at the begin: the borrower pins, the lender looks and lets go; what comes later is believed */
    int told = LOAD(answer, TAKE);
    int stands = LOAD(lender, SC) == 1;
    if (told == 0)
        return unused;
    cas(&lender, 1, 0);
    int got = LOAD(answer, TAKE);
#elif defined(WEAK_CHECK_FIRST)
    int stands = LOAD(lender, SC) == 1;
    int got = LOAD(answer, TAKE);
#else
    int got = LOAD(answer, TAKE);
#ifdef WEAK_NO_CHECK
    int stands = 1;
#else
    int stands = LOAD(lender, SC) == 1;
#endif
#endif
    if (stands)
        assert(got != MISSED);
    cas(&lender, 1, 0); /* done with the snapshot */
    return unused;
}
static void *writer(void *unused)
{
#ifndef WEAK_LET_GO
    cas(&lender, 1, 3); /* or the lender was first */
#endif
    int pinned = LOAD(borrower, SC) == 1 || LOAD(lender, SC) == 1;
    if (pinned)
        return unused;
    STORE(linked, 0, REL);
    STORE(published, 2, SC); /* the same again: whoever pins from now on sees the unlinking */
    if (LOAD(borrower, SC) == 0)
        STORE(block, 9, RLX);
    return unused;
}
int main(void)
{
    pthread_t threads[3];
    pthread_create(&threads[0], 0, borrow, 0);
    pthread_create(&threads[1], 0, lend, 0);
    pthread_create(&threads[2], 0, writer, 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], 0);
    return 0;
}
