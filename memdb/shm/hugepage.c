/* hugepage.c: see hugepage.h. */
#include "hugepage.h"

#include <errno.h>
#include <sys/mman.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

bool memdb_gather_next(memdb_gathering *gathering, uint8_t *base, uint64_t backed)
{
    if (gathering->refused || gathering->next + MEMDB_HUGE_PAGE > backed)
        return false;
    if ((uintptr_t)base % MEMDB_HUGE_PAGE != 0) {
        gathering->refused = true;
        return false;
    }
    if (madvise(base + gathering->next, MEMDB_HUGE_PAGE, MADV_COLLAPSE) != 0 && (errno == EINVAL || errno == ENOSYS || errno == EPERM))
        gathering->refused = true;
    gathering->next += MEMDB_HUGE_PAGE; /* one for which there was no memory, or that was in use otherwise, stays as it is */
    return !gathering->refused;
}
