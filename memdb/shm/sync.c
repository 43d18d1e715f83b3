/* sync.c: the hand-over between the commit thread and the one sync thread (commit.h).
 *
 * The commit thread stores where it writes and how far; the sync thread reads it, syncs the file, stores what is durable and rings
 * the bell. Neither ever waits for the other with a lock.
 * Invariant: a job never claims what its sync does not cover. The job is read before the file is synced, LSN first, then bytes,
 * between two equal looks at the segment; a segment is left only after the caller has synced it, so an LSN read before a newer
 * segment number is durable already.
 * Orders: `wanted` is bumped (seq_cst, SYNC: sync-wanted) after bytes and LSN were stored (release), so who sees the bump sees
 * them. `sleeping` and `wanted` form a Dekker pair. done_* are published by done_count (release, SYNC: sync-done).
 */
#include "commitstate.h"
#include "futex.h"

static void read_job(memdb_commit *ctx, memdb_sync_job *job)
{
    struct memdb_sync *sync = &ctx->sync;
    uint64_t again;
    do {
        job->segment = memdb_load_acquire(&sync->segment); /* SYNC: sync-segment */
        job->lsn = memdb_load_acquire(&sync->lsn);         /* SYNC: sync-lsn */
        job->bytes = memdb_load_acquire(&sync->bytes);     /* SYNC: sync-bytes */
        again = memdb_load_acquire(&sync->segment);
    } while (again != job->segment);
}

int memdb_sync_wait(memdb_commit *ctx, memdb_sync_job *job, uint64_t timeout_us)
{
    struct memdb_sync *sync = &ctx->sync;
    uint64_t started = memdb_clock_monotonic_us();
    for (;;) {
        if (memdb_load_acquire(&sync->stopped))
            return MEMDB_STOPPED;
        uint32_t wanted = memdb_load_sc(&sync->wanted); /* SYNC: sync-wanted */
        if (wanted != sync->taken) {
            sync->taken = wanted;
            read_job(ctx, job);
            return MEMDB_OK;
        }
        uint64_t waited = memdb_clock_monotonic_us() - started;
        if (waited >= timeout_us)
            return MEMDB_AGAIN;
        memdb_store_sc(&sync->sleeping, 1);
        int woken = 0;
        if (memdb_load_sc(&sync->wanted) == wanted && !memdb_load_sc(&sync->stopped))
            woken = memdb_futex_wait(&sync->wanted, wanted, timeout_us - waited);
        memdb_store_sc(&sync->sleeping, 0);
        if (woken == -2)
            return MEMDB_AGAIN;
    }
}

void memdb_sync_done(memdb_commit *ctx, const memdb_sync_job *job, int error)
{
    struct memdb_sync *sync = &ctx->sync;
    if (error != 0) {
        memdb_store_relaxed(&sync->done_error, (uint32_t)error);
    } else {
        memdb_store_relaxed(&sync->done_bytes, job->bytes);
        memdb_store_relaxed(&sync->done_lsn, job->lsn);
        memdb_store_release(&sync->done_segment, job->segment); /* SYNC: sync-done-segment */
    }
    memdb_add_sc(&sync->done_count, 1); /* SYNC: sync-done */
    memdb_bell_ring(ctx->board);
}

void memdb_sync_stop(memdb_commit *ctx)
{
    memdb_store_sc(&ctx->sync.stopped, 1);
    memdb_add_sc(&ctx->sync.wanted, 1);
    memdb_futex_wake(&ctx->sync.wanted, 1);
}

void memdb_sync_request(memdb_commit *ctx)
{
    memdb_add_sc(&ctx->sync.wanted, 1); /* SYNC: sync-wanted */
    if (memdb_load_sc(&ctx->sync.sleeping))
        memdb_futex_wake(&ctx->sync.wanted, 1);
}

void memdb_sync_ask(memdb_commit *ctx)
{
    ctx->sync_asked = 1;
    ctx->asked_lsn = ctx->written_lsn;
    ctx->asked_at = ctx->mono_us;
    memdb_sync_request(ctx);
}

/* What a finished sync makes durable: LSNs, bytes of the present segment, an LSN limit that lies in them. */
static void take_result(memdb_commit *ctx, uint64_t segment, uint64_t bytes, uint64_t lsn)
{
    struct memdb_log *log = &ctx->log;
    if (lsn > ctx->synced_lsn)
        ctx->synced_lsn = lsn;
    memdb_store_relaxed(&ctx->arena->synced, ctx->synced_lsn);
    if (log->half != NULL && segment == log->segment) {
        if (bytes > memdb_load_relaxed(&log->half->synced))
            memdb_store_relaxed(&log->half->synced, bytes);
        if (log->limit_asked != 0 && bytes >= log->limit_offset) {
            log->limit = log->limit_asked;
            log->limit_asked = 0;
            memdb_store_relaxed(&log->half->lsn_limit, log->limit);
        }
    }
    if (ctx->applied <= ctx->synced_lsn)
        ctx->unsynced_since = 0;
    else if (ctx->sync_asked) /* otherwise the caller's own: since when is as it was, or earlier than need be */
        ctx->unsynced_since = ctx->asked_at;
    ctx->synced_at = ctx->mono_us;
    if (ctx->sync_asked) {
        uint64_t took = ctx->mono_us > ctx->asked_at ? ctx->mono_us - ctx->asked_at : 0;
        ctx->sync_us = ctx->sync_us - ctx->sync_us / 4 + (took < 100000 ? took : 100000) / 4;
    }
    ctx->sync_asked = 0;
}

int memdb_sync_collect(memdb_commit *ctx)
{
    struct memdb_sync *sync = &ctx->sync;
    uint64_t done = memdb_load_acquire(&sync->done_count); /* SYNC: sync-done */
    if (done == ctx->done_seen)
        return 0;
    ctx->syncs += done - ctx->done_seen;
    ctx->done_seen = done;
    uint32_t error = memdb_load_relaxed(&sync->done_error);
    if (error != 0)
        memdb_poison(ctx, (int)error);
    else if (ctx->log_errno == 0) {
        /* The sync thread may be storing its next result meanwhile. Segment first: the bytes read after it are its own or later ones,
         * and a job of a segment later than ours does not exist. */
        uint64_t segment = memdb_load_acquire(&sync->done_segment); /* SYNC: sync-done-segment */
        take_result(ctx, segment, memdb_load_relaxed(&sync->done_bytes), memdb_load_relaxed(&sync->done_lsn));
    }
    return 1;
}
