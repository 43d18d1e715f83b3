/* sync.c: the commit thread writes and asks for a sync; the sync thread's job says no more than was written before it was read, and
 * a request that comes while it goes to sleep wakes it. GENMC-CFLAGS: -O0 */
#include "sleep.h"

#include "../../../memdb/shm/sync.c"

static struct memdb_board board;
static struct memdb_commit commit;

void memdb_bell_ring(struct memdb_board *at) { (void)at; }
void memdb_poison(memdb_commit *ctx, int error) { (void)ctx, (void)error; }

static void *commit_thread(void *unused)
{
    memdb_store_release(&commit.sync.bytes, 4096); /* as memdb_log_flush does */
    memdb_store_release(&commit.sync.lsn, 5);
    memdb_sync_request(&commit);
    return unused;
}

static void *sync_thread(void *unused)
{
    memdb_sync_job job;
    if (memdb_sync_wait(&commit, &job, UINT64_MAX) == MEMDB_OK) {
        assert(job.lsn == 5);
        assert(job.bytes == 4096);
    }
    return unused;
}

int main(void)
{
    commit.board = &board;
    run2(commit_thread, sync_thread);
    nobody_sleeps_for_good();
    return 0;
}
