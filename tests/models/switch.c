/* Rule G2: a new generation's arena is whole before GENERATION names it, and GENERATION names it before the first commit in it is
 * answered. A reader in a loop loads the word once an operation, finds a header that is whole and the state of that generation; one that
 * was told of an answer finds that commit. The arena is being used for the second time: `ready` was 1 before. header: plain bytes that who
 * attaches reads; data 2 = what the new generation holds. */
#include "model.h"
atomic_int word = 2, ready = 1, published = 5, data = 1, answered = 0;
static int header = 1;
#ifdef WEAK_WORD
#define WORD RLX
#else
#define WORD REL
#endif
#ifdef WEAK_WORD_LOAD
#define SEE RLX
#else
#define SEE ACQ
#endif
#ifdef WEAK_ANSWER
#define ANSWER RLX
#else
#define ANSWER SC
#endif
static void *reader(void *unused)
{
    int told = LOAD(answered, ACQ), generation = LOAD(word, SEE);
    if (told)
        assert(generation == 3);
    if (generation != 3)
        return unused; /* the other arena, which is not changed */
    if (LOAD(ready, ACQ) == 0)
        return unused;
    assert(header == 3);
    assert(LOAD(published, SC) >= 7);
    assert(LOAD(data, RLX) == 2);
    return unused;
}
static void *writer(void *unused)
{
#ifdef WEAK_WORD_FIRST
    STORE(word, 3, REL);
#endif
    STORE(published, 0, SC);
    STORE(ready, 0, REL);
    header = 3;
    STORE(data, 2, RLX);
    STORE(published, 7, SC);
    STORE(ready, 1, REL);
#ifdef WEAK_ANSWER_FIRST
    STORE(answered, 1, SC);
#endif
    STORE(word, 3, WORD);
    STORE(answered, 1, ANSWER);
    return unused;
}
int main(void) { run2(reader, writer); return 0; }
