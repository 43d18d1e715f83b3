/* commit.c: the commit loop: draining, deciding one request, rounds, timers. See commit.h.
 *
 * Invariants: 7 (reserve, then log: after a record is appended nothing can fail), 6 (log first: appended before applied), 8 (exactly
 * once), 12 (a client's death or nonsense costs only its own requests).
 * A round is: what the sync thread did -> drain -> write -> ask for a sync -> timers -> publish and answer -> reclaim.
 * Commit thread only, but for memdb_commit_interrupt. Leases are in clients.c, waiting is in park.c.
 */
#include <stdlib.h>
#include <unistd.h>

#include "commitstate.h"
#include "futex.h"

#define RECLAIM_EVERY 16u   /* requests between two turns of reclaiming while work flows */
#define RECLAIM_SHARE 4u    /* items a turn for each of them: more than a commit leaves behind */
#define RECLAIM_HARD 4096u  /* items a turn when a request waits for room */
#define RECLAIM_TURNS 256u
#define GATHER_APART_US 20000u /* between two pieces while work flows: about a millisecond of twenty */
#define DEFAULT_QUOTA 32u
#define MOMENT_SHIFT 14 /* a moment: 16 ms, longer than a process usually keeps a processor */
#define TRANSACTION_MAX (UINT64_C(1) << 31) /* a record's size is a 32-bit word */
#define DEFAULT_LSN_STEP (UINT64_C(1) << 20)

/* ---------------------------------------------------------------- life --------------------------------- */

int memdb_commit_new(memdb_commit **out, memdb_store *store, memdb_scanner *scanner, struct memdb_board *board,
                     struct memdb_logbuf *logbuf, const memdb_commit_config *config, uint64_t last_lsn)
{
    memdb_commit *ctx = calloc(1, sizeof *ctx);
    if (ctx == NULL)
        return MEMDB_FULL;
    ctx->buf = malloc(MEMDB_FRAME_MAX + 8);
    ctx->pending = malloc(MEMDB_PENDING_MAX * sizeof *ctx->pending);
    ctx->window = memdb_window_new(last_lsn);
    if (ctx->buf == NULL || ctx->pending == NULL || ctx->window == NULL) {
        memdb_commit_free(ctx);
        return MEMDB_FULL;
    }
    ctx->store = store;
    ctx->scanner = scanner;
    ctx->arena = memdb_arena_header(memdb_store_arena(store));
    ctx->board = board;
    ctx->logbuf = logbuf;
    ctx->config = *config;
    if (ctx->config.quota == 0)
        ctx->config.quota = DEFAULT_QUOTA;
    if (ctx->config.max_transaction_bytes > TRANSACTION_MAX)
        ctx->config.max_transaction_bytes = TRANSACTION_MAX;
    if (ctx->config.lsn_step == 0)
        ctx->config.lsn_step = DEFAULT_LSN_STEP;
    ctx->applied = ctx->published = ctx->written_lsn = ctx->synced_lsn = last_lsn;
    memdb_store_relaxed(&ctx->sync.lsn, last_lsn);
    ctx->log.limit = last_lsn;
    ctx->log.last_d = last_lsn;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    ctx->processors = processors > 0 ? (unsigned)processors : 1;
    ctx->gap_us = config->spin_us * 4;
    ctx->sync_us = 1000;
    *out = ctx;
    return MEMDB_OK;
}

void memdb_commit_free(memdb_commit *ctx)
{
    if (ctx == NULL)
        return;
    for (uint32_t i = 0; i < ctx->client_count; i++)
        memdb_client_free(ctx->clients[i]);
    free(ctx->clients);
    free(ctx->pending);
    free(ctx->waiting);
    memdb_window_free(ctx->window);
    free(ctx->buf);
    free(ctx);
}

/* ---------------------------------------------------------------- deciding ----------------------------- */

/* The request that is held is answered (through the queue) and is held no more. */
static struct memdb_pending *held_reject(memdb_commit *ctx, int status, uint64_t detail, uint64_t winner)
{
    struct memdb_held *held = &ctx->held;
    struct memdb_pending *item = memdb_pending_push(ctx, held->client, &held->entry, status);
    item->level = MEMDB_LEVEL_MEMORY; /* in order behind what it was judged by */
    item->lsn = status == MEMDB_OK ? ctx->applied : 0;
    item->detail = detail;
    item->winner = winner;
    memdb_stage_drop(held->client, held->entry.request);
    held->client = NULL;
    return item;
}

/* Rule C6, each time anew: while a request is held nothing is committed, but time goes on, and values expire. True if it holds. */
static int held_validate(memdb_commit *ctx)
{
    struct memdb_held *held = &ctx->held;
    struct memdb_verdict verdict;
    if (held->reads == NULL)
        return 1;
    memdb_validate(ctx, held->client, held->reads, held->reads_size, &verdict);
    if (verdict.status == MEMDB_OK)
        return 1;
    struct memdb_pending *item = held_reject(ctx, verdict.status, verdict.detail, verdict.winner);
    if (verdict.status == MEMDB_CONFLICT) {
        item->count = verdict.reason;
        ctx->conflicts++;
    }
    return 0;
}

/* Rule C2: was this request applied before (by a writer that died, or twice in the ring)? True if it has been answered. */
static int held_settled_before(memdb_commit *ctx)
{
    struct memdb_held *held = &ctx->held;
    struct memdb_outcome outcome;
    int repeat = held->entry.flags & MEMDB_ENTRY_REPEAT;
    uint64_t highest = held->client->highest;
    if (held->entry.request > highest)
        held->client->highest = held->entry.request;
    if (!repeat && held->entry.request > highest)
        return 0;
    int status = memdb_stage_outcome(ctx, held->client, held->entry.request, &outcome);
    if (status == MEMDB_ABSENT || (status == MEMDB_UNKNOWN && !repeat))
        return 0;
    if (status == MEMDB_UNKNOWN) {
        held_reject(ctx, MEMDB_UNKNOWN, outcome.request, outcome.lsn);
        return 1;
    }
    struct memdb_pending *item = memdb_pending_push(ctx, held->client, &held->entry, MEMDB_OK);
    item->level = held->entry.level;
    item->need_lsn = item->lsn = outcome.lsn;
    item->count = outcome.count;
    if (item->level == MEMDB_LEVEL_FULL && outcome.lsn > ctx->full_lsn)
        ctx->full_lsn = outcome.lsn;
    ctx->want_write = 1;
    memdb_stage_drop(held->client, held->entry.request);
    held->client = NULL;
    return 1;
}

/* Makes room for the held request, as far as reclaiming can. */
static int held_reserve(memdb_commit *ctx, const struct memdb_prepared *prepared)
{
    enum memdb_purpose purpose = prepared->deletes_only ? MEMDB_FOR_DELETE : MEMDB_FOR_WRITE;
    int status = memdb_store_reserve(ctx->store, prepared->bytes, prepared->new_keys, purpose);
    for (unsigned turn = 0; status < 0 && turn < RECLAIM_TURNS; turn++) {
        size_t more = memdb_store_reclaim(ctx->store, RECLAIM_HARD);
        status = memdb_store_reserve(ctx->store, prepared->bytes, prepared->new_keys, purpose);
        if (more == 0)
            break;
    }
    return status;
}

/* Room in the log: OK, TOO_LARGE (in no segment), AGAIN (the LSN limit must become durable first), or -event. */
static int held_log_room(memdb_commit *ctx, int deletes_only)
{
    if (!ctx->config.logged)
        return MEMDB_OK;
    uint64_t padded = memdb_log_commit_bytes(ctx->held.len);
    uint64_t needed = MEMDB_SEGMENT_HEADER + padded + 2 * MEMDB_LOGBUF_SLACK; /* with link and marks before it */
    if (needed > ctx->logbuf->half_bytes)
        return MEMDB_TOO_LARGE;
    if (ctx->log.half == NULL || !memdb_log_fits(ctx, padded, deletes_only)) {
        ctx->segment_needed = needed;
        return -MEMDB_EVENT_ROTATE;
    }
    if (ctx->applied + 1 < ctx->log.limit)
        return MEMDB_OK;
    return MEMDB_AGAIN;
}

/* Log, apply, queue. Nothing here can fail. */
static void held_commit(memdb_commit *ctx, const struct memdb_prepared *prepared)
{
    struct memdb_held *held = &ctx->held;
    uint64_t lsn = ctx->applied + 1;
    if (ctx->config.logged)
        memdb_log_append_commit(ctx, held->client, &held->entry, held->payload, held->len, prepared, lsn);
    memdb_apply_ops(ctx->store, held->payload, held->len, held->client->client_id, held->entry.request, lsn, ctx->now_us,
                    prepared->count, ctx->window);
    ctx->applied = lsn;
    memdb_store_relaxed(&ctx->arena->applied, lsn);
    struct memdb_pending *item = memdb_pending_push(ctx, held->client, &held->entry, MEMDB_OK);
    item->level = ctx->config.logged ? held->entry.level : MEMDB_LEVEL_MEMORY;
    item->need_lsn = item->publish_lsn = item->lsn = lsn;
    item->count = prepared->count;
    if (ctx->unsynced_since == 0)
        ctx->unsynced_since = ctx->mono_us;
    if (item->level == MEMDB_LEVEL_MEMORY)
        ctx->lazy_since = ctx->lazy_since ? ctx->lazy_since : ctx->mono_us;
    else
        ctx->want_write = 1;
    if (item->level == MEMDB_LEVEL_FULL)
        ctx->full_lsn = lsn;
    if (!ctx->config.logged)
        ctx->written_lsn = ctx->synced_lsn = lsn, ctx->unsynced_since = ctx->lazy_since = 0;
    ctx->commits++;
    ctx->dirty += prepared->op_count;
    memdb_stage_drop(held->client, held->entry.request);
    held->client = NULL;
}

/* The held commit has nothing to write: what it found is so already. At its own level: a key that a `full` delete did not find must not
 * come back with the power, so what took it away has to be durable too. */
static void held_nothing(memdb_commit *ctx)
{
    uint8_t level = ctx->config.logged ? ctx->held.entry.level : MEMDB_LEVEL_MEMORY;
    struct memdb_pending *item = held_reject(ctx, MEMDB_OK, 0, 0);
    item->level = level;
    item->need_lsn = level == MEMDB_LEVEL_MEMORY ? 0 : ctx->applied;
    if (level == MEMDB_LEVEL_FULL && ctx->applied > ctx->full_lsn)
        ctx->full_lsn = ctx->applied;
    if (level != MEMDB_LEVEL_MEMORY)
        ctx->want_write = 1;
}

/* Not taken while we are read-only: certainly not done, whatever the reason. */
static int held_refuse(memdb_commit *ctx)
{
    held_reject(ctx, MEMDB_READ_ONLY, (uint64_t)ctx->log_errno, 0);
    return MEMDB_OK;
}

/* Decides the held commit. OK: it is held no more. AGAIN: not now. -event: not before the caller has acted. */
static int held_decide(memdb_commit *ctx)
{
    struct memdb_held *held = &ctx->held;
    struct memdb_prepared prepared;
    if (ctx->read_only != 0 && !ctx->takes_deletes)
        return held_refuse(ctx);
    if (!held_validate(ctx))
        return MEMDB_OK;
    memdb_stage_prepare(ctx, held->client, held->payload, held->len, &prepared);
    if (prepared.status == MEMDB_ABSENT) {
        held_nothing(ctx);
        return MEMDB_OK;
    }
    if (prepared.status != MEMDB_OK) {
        held_reject(ctx, prepared.status, prepared.detail, prepared.winner);
        return MEMDB_OK;
    }
    if (ctx->read_only != 0 && !prepared.deletes_only)
        return held_refuse(ctx);
    int status = held_log_room(ctx, prepared.deletes_only);
    if (ctx->read_only != 0 && (status < 0 || (status == MEMDB_AGAIN && ctx->log.limit_asked == 0)))
        return held_refuse(ctx);
    if (status == MEMDB_TOO_LARGE)
        held_reject(ctx, MEMDB_TOO_LARGE, ctx->logbuf->half_bytes, 0);
    if (status != MEMDB_OK)
        return status == MEMDB_TOO_LARGE ? MEMDB_OK : status;
    status = held_reserve(ctx, &prepared);
    if (status != MEMDB_OK) {
        held->pressure = status;
        held->asked = 1;
        ctx->held_bytes = prepared.bytes;
        return -MEMDB_EVENT_PRESSURE;
    }
    held_commit(ctx, &prepared);
    return MEMDB_OK;
}

void memdb_commit_pressure_done(memdb_commit *ctx, int retry)
{
    if (ctx->held.client == NULL || !ctx->held.asked)
        return;
    ctx->held.asked = 0;
    if (!retry)
        held_reject(ctx, ctx->held.pressure, ctx->held_bytes, 0);
}

/* ---------------------------------------------------------------- draining ----------------------------- */

static void begin_sync_entry(memdb_commit *ctx, struct memdb_client *client, const struct memdb_entry *entry)
{
    if (ctx->log_errno != 0 || memdb_pending_wait_sync(ctx, client, entry) != MEMDB_OK) {
        struct memdb_pending *item = memdb_pending_push(ctx, client, entry, ctx->log_errno != 0 ? MEMDB_LOG_FAILED : MEMDB_FULL);
        item->detail = (uint64_t)ctx->log_errno;
        return;
    }
    ctx->want_write = 1;
    if (ctx->applied > ctx->full_lsn)
        ctx->full_lsn = ctx->applied;
}

/* Parts what was read from the operations behind it. OK or INVALID. */
static int held_split(struct memdb_held *held)
{
    memdb_reads reads;
    int status = memdb_reads_begin(&reads, held->payload, held->len);
    if (status != MEMDB_OK)
        return status;
    held->reads = held->payload;
    held->reads_size = reads.size;
    held->payload += reads.size;
    held->len -= reads.size;
    return MEMDB_OK;
}

/* A commit that was taken becomes the held one and is decided if it can be. */
static int begin_commit(memdb_commit *ctx, struct memdb_client *client, const struct memdb_entry *entry, size_t len)
{
    struct memdb_held *held = &ctx->held;
    *held = (struct memdb_held){.client = client, .entry = *entry, .payload = ctx->buf, .len = len};
    if (held_settled_before(ctx))
        return MEMDB_OK;
    if (entry->flags & MEMDB_ENTRY_STAGED) {
        int status = memdb_stage_finish(ctx, client, entry, ctx->buf, len, &held->payload, &held->len);
        if (status != MEMDB_OK) {
            held_reject(ctx, status, ctx->config.max_transaction_bytes, 0);
            return MEMDB_OK;
        }
    }
    if (held->len > ctx->config.max_transaction_bytes) {
        held_reject(ctx, MEMDB_TOO_LARGE, ctx->config.max_transaction_bytes, 0);
        return MEMDB_OK;
    }
    if ((entry->flags & MEMDB_ENTRY_VALIDATE) && held_split(held) != MEMDB_OK) {
        held_reject(ctx, MEMDB_INVALID, 0, 0);
        return MEMDB_OK;
    }
    return held_decide(ctx);
}

/* One entry of one client. ABSENT: none left. Otherwise as held_decide. */
static int drain_entry(memdb_commit *ctx, struct memdb_client *client)
{
    struct memdb_entry entry;
    int status = memdb_lease_peek(client->lease, &entry, ctx->buf, MEMDB_FRAME_MAX);
    if (status == MEMDB_ABSENT)
        return MEMDB_ABSENT;
    if (status == MEMDB_OK && entry.kind != MEMDB_ENTRY_FRAME)
        status = client->in_flight[entry.cell] == entry.request ? MEMDB_ABSENT /* the same twice: one answer serves both */
                                                                 : memdb_lease_take(client->lease, &entry);
    if (status == MEMDB_INVALID) {
        client->broken = 1;
        ctx->broken++;
        memdb_stage_drop_all(client);
        return MEMDB_ABSENT;
    }
    memdb_lease_consume(client->lease, &entry);
    size_t len = entry.size - sizeof entry;
    if (entry.kind == MEMDB_ENTRY_FRAME)
        return memdb_stage_frame(ctx, client, &entry, ctx->buf, len);
    if (status == MEMDB_ABSENT) { /* withdrawn */
        if (client->in_flight[entry.cell] != entry.request)
            memdb_stage_drop(client, entry.request);
        return MEMDB_OK;
    }
    if (client->moment != ctx->moment) {
        client->moment = ctx->moment;
        ctx->busy++;
    }
    if (entry.kind == MEMDB_ENTRY_COMMIT)
        return begin_commit(ctx, client, &entry, len);
    begin_sync_entry(ctx, client, &entry);
    return MEMDB_OK;
}

/* True while entries may be taken: memdb_commit_ready and the loop ask the same. */
static int may_drain(const memdb_commit *ctx)
{
    return ctx->held.client == NULL && !ctx->want_rotate && memdb_pending_count(ctx) < MEMDB_PENDING_MAX &&
           ctx->waiting_count < MEMDB_PENDING_MAX;
}

/* From this client? What a departed one has left is nowhere but here (rule C1), so it counts as taken when the intake closes. */
static int may_take_from(const memdb_commit *ctx, const struct memdb_client *client)
{
    return !client->broken && (!ctx->intake_closed || client->departed);
}

/* Round robin over the leases, `quota` entries each. 0, or -event. */
static int drain(memdb_commit *ctx, unsigned *work)
{
    int status = MEMDB_OK;
    if (ctx->want_rotate)
        return -MEMDB_EVENT_ROTATE;
    if (ctx->held.client != NULL) {
        if (ctx->held.asked)
            return -MEMDB_EVENT_PRESSURE;
        status = held_decide(ctx);
        if (status != MEMDB_OK)
            return status < 0 ? status : 0;
        *work += 1;
    }
    uint32_t count = ctx->client_count, first = count ? ctx->next_client++ % count : 0;
    for (uint32_t i = 0; i < count; i++) {
        struct memdb_client *client = ctx->clients[(first + i) % count];
        for (uint32_t q = 0; q < ctx->config.quota && may_take_from(ctx, client) && may_drain(ctx); q++) {
            status = drain_entry(ctx, client);
            if (status == MEMDB_ABSENT)
                break;
            *work += 1;
            if (status != MEMDB_OK)
                return status < 0 ? status : 0;
        }
    }
    return 0;
}

void memdb_commit_close_intake(memdb_commit *ctx, int closed)
{
    ctx->intake_closed = closed != 0;
}

int memdb_commit_ready(memdb_commit *ctx)
{
    if (memdb_load_sc(&ctx->control) || memdb_load_sc(&ctx->sync.done_count) != ctx->done_seen) /* SYNC: sync-done */
        return 1;
    if (ctx->want_rotate) /* the next step says so to the caller; entries wait behind it */
        return 1;
    if (!may_drain(ctx))
        return 0;
    for (uint32_t i = 0; i < ctx->client_count; i++)
        if (may_take_from(ctx, ctx->clients[i]) && memdb_lease_ready(ctx->clients[i]->lease))
            return 1;
    return 0;
}

/* ---------------------------------------------------------------- rounds ------------------------------- */

/* Appends a mark that raises the LSN limit and asks for its sync, well before the limit is reached (rule L4). */
static void extend_limit(memdb_commit *ctx)
{
    struct memdb_log *log = &ctx->log;
    if (log->limit_asked != 0 || ctx->applied + ctx->config.lsn_step / 2 < log->limit)
        return;
    uint64_t limit = ctx->applied + ctx->config.lsn_step;
    if (memdb_log_append_mark(ctx, limit) != MEMDB_OK)
        return;
    log->limit_asked = limit;
    log->limit_offset = log->tail;
    if (memdb_log_flush(ctx) == MEMDB_OK)
        memdb_sync_ask(ctx);
}

static void write_and_sync(memdb_commit *ctx)
{
    const struct memdb_log *log = &ctx->log;
    uint64_t interval = ctx->config.sync_interval_us;
    if (!ctx->config.logged || log->half == NULL || ctx->log_errno != 0)
        return;
    int overdue = ctx->unsynced_since != 0 && ctx->mono_us - ctx->unsynced_since >= interval && !ctx->sync_asked;
    int lazy = log->tail > log->written &&
               (log->tail - log->written > MEMDB_LAZY_BYTES || (ctx->lazy_since != 0 && ctx->mono_us - ctx->lazy_since >= interval));
    if ((ctx->want_write || lazy || overdue) && memdb_log_flush(ctx) != MEMDB_OK)
        return;
    if (overdue || (ctx->full_lsn > ctx->asked_lsn && ctx->full_lsn > ctx->synced_lsn))
        memdb_sync_ask(ctx);
    extend_limit(ctx);
    if (memdb_log_mark_due(ctx) && ctx->mono_us - ctx->synced_at >= MEMDB_MARK_DELAY_US && memdb_commit_mark(ctx) == MEMDB_OK)
        return; /* the mark says what is durable (rule L2); it needs no sync of its own */
}

uint64_t memdb_commit_next_timer(const memdb_commit *ctx)
{
    const struct memdb_log *log = &ctx->log;
    uint64_t next = UINT64_MAX;
    if (!ctx->config.logged || log->half == NULL || ctx->log_errno != 0)
        return next;
    if (log->tail > log->written && ctx->lazy_since != 0)
        next = ctx->lazy_since + ctx->config.sync_interval_us;
    if (ctx->unsynced_since != 0 && !ctx->sync_asked && ctx->unsynced_since + ctx->config.sync_interval_us < next)
        next = ctx->unsynced_since + ctx->config.sync_interval_us;
    if (memdb_log_mark_due(ctx) && ctx->synced_at + MEMDB_MARK_DELAY_US < next)
        next = ctx->synced_at + MEMDB_MARK_DELAY_US;
    return next;
}

static void read_clocks(memdb_commit *ctx)
{
    uint64_t floor = memdb_load_relaxed(&ctx->arena->time_floor);
    ctx->mono_us = memdb_clock_monotonic_us();
    ctx->now_us = memdb_clock_us();
    if (ctx->now_us < floor)
        ctx->now_us = floor;
}

/* How many processes write, so that those who wait for an answer know whether somebody else needs their processor. */
static void count_busy(memdb_commit *ctx)
{
    uint64_t moment = ctx->mono_us >> MOMENT_SHIFT;
    if (moment == ctx->moment)
        return;
    memdb_store_relaxed(&ctx->board->busy_clients, ctx->busy); /* a hint: nothing depends on it but a choice of waiting */
    ctx->moment = moment;
    ctx->busy = 0;
}

int memdb_commit_step(memdb_commit *ctx)
{
    unsigned work = 0;
    read_clocks(ctx);
    count_busy(ctx);
    work += (unsigned)memdb_sync_collect(ctx);
    int event = drain(ctx, &work);
    write_and_sync(ctx);
    work += memdb_publish_round(ctx);
    if (work > 0) {
        ctx->rounds++;
        memdb_store_relaxed(&ctx->board->writer_lsn, memdb_load_relaxed(&ctx->board->writer_lsn) + 1); /* progress: a figure */
        ctx->reclaim_debt += work;
    }
    if (ctx->reclaim_debt >= RECLAIM_EVERY) {
        uint64_t began = memdb_clock_monotonic_us();
        memdb_store_reclaim(ctx->store, ctx->reclaim_debt * RECLAIM_SHARE);
        ctx->reclaim_us += memdb_clock_monotonic_us() - began;
        ctx->reclaim_debt = 0;
        if (ctx->mono_us - ctx->gathered_at >= GATHER_APART_US && memdb_arena_gather(memdb_store_arena(ctx->store)))
            ctx->gathered_at = ctx->mono_us;
    }
    memdb_clients_bury(ctx);
    if (ctx->report_failure) {
        ctx->report_failure = 0;
        return -MEMDB_EVENT_LOG_FAILED;
    }
    return event < 0 ? event : (int)work;
}

/* The request that waits for room keeps its place and its bytes; the group's own that can't be decided at once is answered `full`. */
int memdb_commit_take_now(memdb_commit *ctx, const struct memdb_lease *lease)
{
    struct memdb_client *client = NULL;
    for (uint32_t i = 0; i < ctx->client_count; i++)
        if (ctx->clients[i]->lease == lease)
            client = ctx->clients[i];
    if (client == NULL || client->broken)
        return MEMDB_INVALID;
    if (ctx->want_rotate || ctx->intake_closed || memdb_pending_count(ctx) + 2 > MEMDB_PENDING_MAX)
        return MEMDB_AGAIN;
    struct memdb_held waiting = ctx->held;
    uint8_t *buf = ctx->buf, *other = NULL;
    if (waiting.client != NULL) {
        other = malloc(MEMDB_FRAME_MAX + 8);
        if (other == NULL)
            return MEMDB_AGAIN;
        ctx->buf = other;
        ctx->held.client = NULL;
    }
    read_clocks(ctx);
    uint64_t dirty = ctx->dirty;
    int status = drain_entry(ctx, client);
    memdb_store_reclaim(ctx->store, (size_t)(ctx->dirty - dirty) * RECLAIM_SHARE); /* what the last one has left, in this one's time */
    if (waiting.client == NULL)
        return status;
    if (ctx->held.client != NULL) {
        held_reject(ctx, MEMDB_FULL, 0, 0);
        status = MEMDB_AGAIN;
    }
    free(other);
    ctx->buf = buf;
    ctx->held = waiting;
    return status;
}
