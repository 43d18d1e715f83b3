/* Rules G2 and G3. A segment is taken back for a third generation: the builder stores published = 0, then scans the slots, then overwrites. A reader that
 * still looks there announces first and loads published afterwards: it either sees 0 and goes elsewhere, or its slot is seen. */
#include "model.h"
atomic_int published = 5, slot = 0, block = 7;
#ifdef WEAK_TEARDOWN
#define TEARDOWN REL
#else
#define TEARDOWN SC
#endif
#ifdef WEAK_PIN
#define PIN REL
#else
#define PIN SC
#endif
static void *reader(void *unused)
{
    STORE(slot, 5, PIN);
    if (LOAD(published, SC) == 0)
        return unused; /* MEMDB_MOVED */
    assert(LOAD(block, RLX) == 7);
    cas(&slot, 5, 0);
    return unused;
}
static void *builder(void *unused)
{
    STORE(published, 0, TEARDOWN);
    if (LOAD(slot, SC) == 0)
        STORE(block, 99, RLX);
    return unused;
}
int main(void) { run2(reader, builder); return 0; }
