/* Rule R4. A view announces its block, then leaves the traversal; if that succeeds the view is valid for good. The writer revokes,
 * then looks for hazards, then reuses. Slot: 2 ACTIVE, 1 IDLE, 3 revoked. */
#include "model.h"
atomic_int slot = 2, hazard = 0, block = 7;
#ifdef WEAK_SET
#define SET RLX
#else
#define SET SC
#endif
static void *reader(void *unused)
{
#ifdef WEAK_ORDER /* leave first, announce afterwards */
    int valid = cas(&slot, 2, 1);
    STORE(hazard, 1, SC);
#elif defined(WEAK_SET)
    STORE(hazard, 1, RLX);
    int valid = LOAD(slot, RLX) == 2;
#else
    STORE(hazard, 1, SET);
    int valid = cas(&slot, 2, 1);
#endif
    if (valid)
        assert(LOAD(block, RLX) == 7);
    return unused;
}
static void *writer(void *unused)
{
    if (!cas(&slot, 2, 3) && !cas(&slot, 1, 3))
        return unused;
    if (LOAD(hazard, SC) == 0)
        STORE(block, 99, RLX);
    return unused;
}
int main(void) { run2(reader, writer); return 0; }
