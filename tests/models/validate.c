/* Rule R2. The writer revokes a reader and reuses the bytes it is copying; the copy is believed only if the unpin says so.
 * Slot: 1 pinned, 2 revoked, 0 free. */
#include "model.h"
atomic_int slot = 1, data = 7;
static void *reader(void *unused)
{
    int copy = LOAD(data, RLX);
#if defined(WEAK_LOAD_AFTER) /* an acquire load does not keep the copy before it */
    int valid = LOAD(slot, ACQ) == 1;
#elif defined(WEAK_NO_CHECK)
    int valid = 1;
#else
    int valid = cas(&slot, 1, 0);
#endif
    if (valid)
        assert(copy == 7);
    return unused;
}
static void *writer(void *unused)
{
    if (cas(&slot, 1, 2))
        STORE(data, 99, RLX);
    return unused;
}
int main(void) { run2(reader, writer); return 0; }
