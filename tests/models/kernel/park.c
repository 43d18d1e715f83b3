/* Rule C1 and park.c: the writer parks while somebody interrupts it (a message, a signal, the sync thread's result ring the same bell):
 * it sees what was stored before the ring, or it is woken. GENMC-CFLAGS: -O0 */
#include "sleep.h"

#include "../../../memdb/shm/park.c"

static struct memdb_board board;
static struct memdb_arena_header header;
static struct memdb_commit commit;

void memdb_bell_ring(struct memdb_board *at)
{
    memdb_add_sc(&at->bell, 1);
    if (memdb_load_sc(&at->parked) != 0)
        memdb_futex_wake(&at->bell, 1);
}

int memdb_commit_ready(memdb_commit *ctx) { return memdb_load_sc(&ctx->control) != 0; } /* the first thing that commit.c looks at */
uint64_t memdb_commit_next_timer(const memdb_commit *ctx) { return ctx ? UINT64_MAX : 0; }
bool memdb_store_reclaim_pending(memdb_store *s) { return s != NULL; }
void memdb_store_figures(memdb_store *s) { (void)s; }

static void *client(void *unused)
{
    memdb_commit_interrupt(&commit);
    return unused;
}

static void *writer(void *unused)
{
    park(&commit, UINT64_MAX);
    return unused;
}

int main(void)
{
    commit.board = &board;
    commit.arena = &header;
    run2(client, writer);
    nobody_sleeps_for_good();
    return 0;
}
