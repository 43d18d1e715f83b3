/* Invariant 3. A transaction writes two keys at LSN 2: heads are stored with release, then published. A reader at S sees both new versions
 * or neither. head: LSN of the newest version; the version's bytes are written before its head. */
#include "model.h"
atomic_int published = 1, head_a = 1, head_b = 1, bytes_a = 0, bytes_b = 0;
#ifdef WEAK_PUBLISH
#define PUBLISH RLX
#else
#define PUBLISH SC
#endif
static void *reader(void *unused)
{
#ifdef WEAK_PUBLISH
    int s = LOAD(published, RLX);
#else
    int s = LOAD(published, SC);
#endif
    int a = LOAD(head_a, ACQ), b = LOAD(head_b, ACQ);
    if (s >= 2) {
        assert(a == 2 && b == 2);
        assert(LOAD(bytes_a, RLX) == 22 && LOAD(bytes_b, RLX) == 22);
    }
    return unused;
}
static void *writer(void *unused)
{
    STORE(bytes_a, 22, RLX);
    STORE(head_a, 2, REL);
#ifdef WEAK_EARLY
    STORE(published, 2, SC);
#endif
    STORE(bytes_b, 22, RLX);
    STORE(head_b, 2, REL);
    STORE(published, 2, PUBLISH);
    return unused;
}
int main(void) { run2(reader, writer); return 0; }
