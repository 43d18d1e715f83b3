/* park.c: waiting for work: spin while it flows, then sleep on the bell; and the small doors to the commit loop (figures, settings).
 *
 * Invariants: no wake-up is lost (Dekker: `parked` is stored, then everything that could be work is looked at again, all seq_cst;
 * clients, the sync thread and memdb_commit_interrupt store theirs first and then look at `parked`); an idle group uses no CPU: sleep is
 * bounded only by the caller's deadline and by timers that have something to do.
 * Commit thread only, but for memdb_commit_interrupt.
 */
#include "commitstate.h"
#include "futex.h"

#define RECLAIM_IDLE 1024u
#define SYNC_SPIN_US 150u
#define PREEMPTED_US 500u  /* no pause of 16 turns takes that long */
#define CROWDED_ROUNDS 8u  /* how many waits are slept through after that */
#define RECLAIM_WAIT_MIN_US 1000u
#define RECLAIM_WAIT_MAX_US 1000000u


/* Work has come: how long had there been none? Smoothed over about eight times. */
static void note_arrival(memdb_commit *ctx)
{
    uint64_t gap = 0, most = ctx->config.spin_us * 4;
    if (ctx->idle_since != 0) {
        gap = ctx->mono_us > ctx->idle_since ? ctx->mono_us - ctx->idle_since : 0;
        ctx->gap_us = ctx->gap_us - ctx->gap_us / 8 + (gap < most ? gap : most) / 8;
    }
    ctx->idle_since = 0;
    ctx->reclaim_wait_us = RECLAIM_WAIT_MIN_US;
}

/* Spinning pays only if work is likely to come before a sleep and a wake-up would be over, and if nobody else wants the processor.
 * A lone `full` commit waits for its sync awake as long as syncs are fast. */
static uint64_t spin_budget(const memdb_commit *ctx)
{
    if (ctx->processors < 2 || ctx->crowded > 0)
        return 0;
    if (ctx->sync_asked && ctx->sync_us < SYNC_SPIN_US && memdb_pending_count(ctx) == 1)
        return ctx->config.spin_us > 0 ? SYNC_SPIN_US : 0;
    if (ctx->gap_us > ctx->config.spin_us)
        return 0;
    uint64_t budget = 8 * (ctx->gap_us + 1);
    return budget < ctx->config.spin_us ? budget : ctx->config.spin_us;
}

/* True as soon as there is work. */
static int spin(memdb_commit *ctx)
{
    uint64_t until = ctx->idle_since + spin_budget(ctx);
    for (unsigned turn = 0; ctx->mono_us < until; turn++) {
        if (memdb_commit_ready(ctx))
            return 1;
        memdb_spin_hint();
        if (turn % 16 == 15) {
            uint64_t now = memdb_clock_monotonic_us();
            if (now - ctx->mono_us > PREEMPTED_US) /* somebody else had the processor: sleeping wakes up sooner than spinning gets it back */
                ctx->crowded = CROWDED_ROUNDS;
            ctx->mono_us = now;
        }
    }
    return 0;
}

static void park(memdb_commit *ctx, uint64_t deadline_us)
{
    uint64_t until = memdb_commit_next_timer(ctx);
    if (deadline_us < until)
        until = deadline_us;
    if (memdb_store_reclaim_pending(ctx->store)) { /* a reader's grace or a pin: nobody rings when it ends */
        if (ctx->reclaim_wait_us < RECLAIM_WAIT_MIN_US)
            ctx->reclaim_wait_us = RECLAIM_WAIT_MIN_US;
        if (ctx->mono_us + ctx->reclaim_wait_us < until)
            until = ctx->mono_us + ctx->reclaim_wait_us;
        if (ctx->reclaim_wait_us < RECLAIM_WAIT_MAX_US)
            ctx->reclaim_wait_us *= 2;
    }
    memdb_store_figures(ctx->store); /* what was reclaimed since the last publish shows while nothing happens */
    uint32_t bell = memdb_load_sc(&ctx->board->bell); /* SYNC: bell */
    memdb_store_sc(&ctx->board->parked, 1);           /* SYNC: parked */
    if (!memdb_commit_ready(ctx) && until > ctx->mono_us) {
        ctx->parks++;
        memdb_futex_wait(&ctx->board->bell, bell, until == UINT64_MAX ? UINT64_MAX : until - ctx->mono_us);
    }
    memdb_store_sc(&ctx->board->parked, 0);
}

/* The caller's deadline knows of the expiries of before: an earlier one gives it a new deadline. */
int memdb_commit_run(memdb_commit *ctx, uint64_t deadline_us)
{
    uint64_t expiry = memdb_load_relaxed(&ctx->arena->next_expiry);
    for (;;) {
        if (memdb_load_relaxed(&ctx->control) && memdb_exchange_sc(&ctx->control, 0))
            return MEMDB_EVENT_CONTROL;
        int work = memdb_commit_step(ctx);
        if (work < 0)
            return -work;
        if (ctx->mono_us >= deadline_us)
            return MEMDB_EVENT_NONE;
        if (work > 0) {
            note_arrival(ctx);
            if (memdb_load_relaxed(&ctx->arena->next_expiry) < expiry)
                return MEMDB_EVENT_NONE;
            continue;
        }
        if (ctx->idle_since == 0)
            ctx->idle_since = ctx->mono_us;
        if (ctx->crowded > 0)
            ctx->crowded--;
        else if (spin(ctx))
            continue;
        if (memdb_store_reclaim(ctx->store, RECLAIM_IDLE) > 0 || memdb_arena_gather(memdb_store_arena(ctx->store)))
            continue;
        ctx->mono_us = memdb_clock_monotonic_us();
        park(ctx, deadline_us);
    }
}

void memdb_commit_interrupt(memdb_commit *ctx)
{
    memdb_store_sc(&ctx->control, 1);
    memdb_bell_ring(ctx->board);
}

/* ---------------------------------------------------------------- settings and figures ----------------- */

void memdb_commit_want_rotate(memdb_commit *ctx)
{
    ctx->want_rotate = ctx->config.logged && ctx->log_errno == 0;
}

void memdb_commit_read_only(memdb_commit *ctx, int status, int takes_deletes)
{
    if (ctx->log_errno == 0)
        ctx->read_only = status;
    ctx->takes_deletes = takes_deletes && ctx->log_errno == 0;
    if (ctx->read_only != 0)
        ctx->want_rotate = 0; /* entries must not wait behind it: they are refused */
}

void memdb_commit_set_lsn(memdb_commit *ctx, uint64_t last_lsn, uint64_t limit)
{
    if (last_lsn > ctx->applied)
        ctx->applied = last_lsn;
    if (limit <= ctx->log.limit)
        return;
    struct memdb_log *log = &ctx->log;
    int link = log->limit_asked != 0 && log->limit_asked <= limit; /* what asks for it lies before limit_offset, and is durable */
    log->limit = limit;
    if (link)
        log->limit_asked = 0;
    if (log->half == NULL)
        return;
    memdb_store_relaxed(&log->half->lsn_limit, limit);
    if (link && log->limit_offset > memdb_load_relaxed(&log->half->synced))
        memdb_store_relaxed(&log->half->synced, log->limit_offset);
}

void memdb_commit_reset_dirty(memdb_commit *ctx)
{
    ctx->dirty = 0;
}

int memdb_commit_log_errno(memdb_commit *ctx)
{
    return ctx->log_errno;
}

void memdb_commit_get_figures(memdb_commit *ctx, memdb_commit_figures *out)
{
    const struct memdb_log *log = &ctx->log;
    *out = (memdb_commit_figures){
        .applied_lsn = ctx->applied, .published_lsn = ctx->published, .written_lsn = ctx->written_lsn, .synced_lsn = ctx->synced_lsn,
        .lsn_limit = log->limit, .segment = log->segment, .tail = log->tail, .written = log->written, .capacity = log->capacity,
        .synced = log->half != NULL ? memdb_load_relaxed(&log->half->synced) : 0,
        .commits = ctx->commits, .rejected = ctx->rejected, .conflicts = ctx->conflicts, .rounds = ctx->rounds, .syncs = ctx->syncs, .parks = ctx->parks,
        .reclaim_us = ctx->reclaim_us,
        .dirty_keys = ctx->dirty, .bytes_logged = ctx->bytes_logged, .segment_needed = ctx->segment_needed,
        .held_bytes = ctx->held_bytes, .pending = memdb_pending_count(ctx) + ctx->waiting_count + (ctx->held.client != NULL),
        .broken_leases = ctx->broken, .last_crc = log->last_crc, .log_errno = ctx->log_errno, .held_status = ctx->held.pressure,
        .read_only = ctx->read_only,
    };
}
