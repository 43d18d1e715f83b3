/* Rule G2: a client attaches to the arena that a GENERATION word of a moment ago named, while the arena is formatted for a later generation. It gets a
 * view of a whole header, is told to look again, or to look again later: never that the arena is damaged. GENMC-CFLAGS: -O0 */
#include "kernel.h"

#define FALLOC_FL_PUNCH_HOLE 0 /* not called here */
#define FALLOC_FL_KEEP_SIZE 0
#include "../../../memdb/shm/arena.c"

static struct memdb_arena_header header;

static void *client(void *unused)
{
    static memdb_view view;
    int status = memdb_view_attach(&view, &header, sizeof header, 1);
    assert(status == MEMDB_OK || status == MEMDB_AGAIN);
    if (status == MEMDB_OK)
        assert(view.size == sizeof header);
    return unused;
}

static void *builder(void *unused)
{
    format(&header, sizeof header, 0, 3, 42);
    memdb_store_sc(&header.published, 7);
    memdb_store_release(&header.ready, 1); /* as memdb_store_open does */
    return unused;
}

int main(void)
{
    format(&header, sizeof header, 0, 1, 41);
    memdb_store_sc(&header.published, 5);
    memdb_store_release(&header.ready, 1);
    run2(client, builder);
    return 0;
}
