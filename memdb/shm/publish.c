/* publish.c: the queue between "applied" and "answered": publishing in LSN order, each commit at its own level, completion, poison.
 *
 * Invariants: 4 (seen means safe: `published` passes a commit only at its own level, in order) and C5. A rejected request and one that
 * had nothing to write wait in the same queue, so its client learns only what others may see. Publish comes before completion: a
 * client that was answered reads its own write. Commit thread only.
 */
#include <stdlib.h>

#include "commitstate.h"

/* Requests taken are at most MEMDB_CELLS a client, and draining stops at MEMDB_PENDING_MAX: the ring never overflows. */
struct memdb_pending *memdb_pending_push(memdb_commit *ctx, struct memdb_client *client, const struct memdb_entry *entry, int status)
{
    struct memdb_pending *item = &ctx->pending[ctx->pending_tail++ & (MEMDB_PENDING_MAX - 1)];
    *item = (struct memdb_pending){.client = client, .request = entry->request, .status = status, .cell = (uint16_t)entry->cell};
    client->in_flight[entry->cell] = entry->request;
    client->flying++;
    return item;
}

int memdb_pending_wait_sync(memdb_commit *ctx, struct memdb_client *client, const struct memdb_entry *entry)
{
    if (ctx->waiting_count == ctx->waiting_cap) {
        uint32_t cap = ctx->waiting_cap ? ctx->waiting_cap * 2 : 64;
        struct memdb_pending *grown = realloc(ctx->waiting, cap * sizeof *grown);
        if (grown == NULL)
            return MEMDB_FULL;
        ctx->waiting = grown;
        ctx->waiting_cap = cap;
    }
    ctx->waiting[ctx->waiting_count++] = (struct memdb_pending){
        .client = client, .request = entry->request, .need_lsn = ctx->applied, .lsn = ctx->applied, .cell = (uint16_t)entry->cell,
    };
    client->in_flight[entry->cell] = entry->request;
    client->flying++;
    return MEMDB_OK;
}

static void answer(memdb_commit *ctx, const struct memdb_pending *item)
{
    struct memdb_client *client = item->client;
    if (client->in_flight[item->cell] == item->request)
        client->in_flight[item->cell] = 0;
    client->flying--;
    if (item->status != MEMDB_OK)
        ctx->rejected++;
    if (!client->broken)
        memdb_lease_complete(client->lease, item->cell, item->request, item->status, item->lsn, item->count, item->detail, item->winner);
}

static int is_safe(const memdb_commit *ctx, const struct memdb_pending *item)
{
    switch (item->level) {
    case MEMDB_LEVEL_MEMORY: return 1;
    case MEMDB_LEVEL_OS: return ctx->written_lsn >= item->need_lsn;
    default: return ctx->synced_lsn >= item->need_lsn;
    }
}

static void publish(memdb_commit *ctx, uint64_t lsn)
{
    if (lsn <= ctx->published)
        return;
    memdb_store_publish(ctx->store, lsn);
    ctx->published = lsn;
}

/* What is durable is said to be so in the file (rule L2). OK; AGAIN: there was no room for the mark, and the link of the next segment,
 * for which it has asked, will say it; else the reason why there is none (the caller could not rotate, and made us read-only). */
static int say_durable(memdb_commit *ctx)
{
    const struct memdb_log *log = &ctx->log;
    if (!ctx->config.logged || log->half == NULL)
        return MEMDB_OK;
    if (ctx->log_errno == 0 && log->last_d < ctx->synced_lsn &&
        memdb_log_append_mark(ctx, log->limit_asked > log->limit ? log->limit_asked : log->limit) != MEMDB_OK)
        return ctx->read_only != 0 ? ctx->read_only : MEMDB_AGAIN;
    return memdb_log_flush(ctx);
}

/* SYNC requests are answered when they are durable, and the file says so. */
static unsigned answer_syncs(memdb_commit *ctx)
{
    uint32_t done = 0;
    while (done < ctx->waiting_count && ctx->waiting[done].need_lsn <= ctx->synced_lsn)
        done++;
    if (done == 0)
        return 0;
    int status = say_durable(ctx);
    if (status == MEMDB_AGAIN || ctx->log_errno != 0) /* the log failed: memdb_poison answers them, or just has */
        return 0;
    for (uint32_t i = 0; i < done; i++) {
        ctx->waiting[i].status = status;
        answer(ctx, &ctx->waiting[i]);
    }
    ctx->waiting_count -= done;
    memmove(ctx->waiting, ctx->waiting + done, ctx->waiting_count * sizeof *ctx->waiting);
    return done;
}

unsigned memdb_publish_pending(memdb_commit *ctx)
{
    uint64_t end = ctx->pending_head, lsn = 0;
    for (; end != ctx->pending_tail; end++) {
        const struct memdb_pending *item = &ctx->pending[end & (MEMDB_PENDING_MAX - 1)];
        if (!is_safe(ctx, item))
            break;
        if (item->publish_lsn != 0)
            lsn = item->publish_lsn;
    }
    unsigned answered = (unsigned)(end - ctx->pending_head);
    publish(ctx, lsn);
    while (ctx->pending_head != end)
        answer(ctx, &ctx->pending[ctx->pending_head++ & (MEMDB_PENDING_MAX - 1)]);
    return answered;
}

unsigned memdb_publish_round(memdb_commit *ctx)
{
    unsigned answered = memdb_publish_pending(ctx);
    return answered + (ctx->waiting_count > 0 ? answer_syncs(ctx) : 0);
}

/* A commit that was logged may or may not survive: LOG_FAILED. One that was rejected or wrote nothing is certainly not done, but what it
 * was judged by may be lost: READ_ONLY. */
static void answer_failed(memdb_commit *ctx, struct memdb_pending *item)
{
    item->status = item->publish_lsn != 0 || item->need_lsn != 0 ? MEMDB_LOG_FAILED : MEMDB_READ_ONLY;
    item->detail = (uint64_t)ctx->log_errno;
    answer(ctx, item);
}

void memdb_poison(memdb_commit *ctx, int error)
{
    if (ctx->log_errno != 0)
        return;
    ctx->log_errno = error;
    ctx->read_only = MEMDB_LOG_FAILED;
    ctx->report_failure = 1;
    ctx->unsynced_since = ctx->lazy_since = 0;
    ctx->sync_asked = ctx->want_rotate = ctx->takes_deletes = 0;
    memdb_publish_round(ctx); /* what is safe already is published */
    while (ctx->pending_head != ctx->pending_tail)
        answer_failed(ctx, &ctx->pending[ctx->pending_head++ & (MEMDB_PENDING_MAX - 1)]);
    for (uint32_t i = 0; i < ctx->waiting_count; i++) {
        ctx->waiting[i].need_lsn = 1;
        answer_failed(ctx, &ctx->waiting[i]);
    }
    ctx->waiting_count = 0;
}
