/* Rule R4, the end of a view: it outlives its pin and the handle's close(); NumPy reads its bytes by plain loads until the last export is
 * gone, then the hazard is cleared. The writer has revoked or outlived the pin, reads the hazards and uses the block again: a plain load
 * that is not before it is a data race. */
#include "model.h"
atomic_int hazard = 1, hazards_used = 1;
static int bytes = 7;
#ifdef WEAK_CLEAR
#define CLEAR RLX
#else
#define CLEAR SC
#endif
#ifdef WEAK_HAZARD_LOAD
#define SEE RLX
#else
#define SEE SC
#endif
static void *viewer(void *unused)
{
#ifdef WEAK_EARLY /* cleared when the handle is closed, not when the last export is gone */
    STORE(hazard, 0, SC);
#endif
    assert(bytes == 7);
    STORE(hazard, 0, CLEAR);
    return unused;
}
static void *writer(void *unused)
{
    if (LOAD(hazards_used, SC) && LOAD(hazard, SEE) == 0)
        bytes = 99;
    return unused;
}
int main(void) { run2(viewer, writer); return 0; }
