/* logbuf.c: the log buffer (a shared image of the log's last two segments), appending to it, and writing it to the file.
 *
 * Invariants: 6 (log first), C4 (append-only, byte-exact at the file's offsets; the tail is stored before the commit is applied),
 * L1 (nothing is written over with other bytes: only what lies below the tail ever reaches the file), L2 (each record carries D).
 * Orders: record bytes are plain stores, published by half->tail (release, SYNC: log-tail); a half is complete before `current`
 * names it (release, SYNC: log-current). Both are read by a successor after its predecessor's death, and by watchers.
 * Commit thread only.
 */
#include <errno.h>

#include "commitstate.h"

#define RECORD_HEADER sizeof(struct memdb_record_header)
#define IMAGE_START 4096u

uint64_t memdb_logbuf_bytes(uint64_t half_bytes)
{
    return IMAGE_START + 2 * half_bytes;
}

void memdb_logbuf_init(struct memdb_logbuf *logbuf, uint64_t half_bytes)
{
    memset((void *)logbuf, 0, sizeof *logbuf); /* nobody else knows the segment yet */
    logbuf->magic = MEMDB_LOGBUF_MAGIC;
    logbuf->layout = MEMDB_LAYOUT;
    logbuf->half_bytes = half_bytes;
}

uint8_t *memdb_logbuf_image(struct memdb_logbuf *logbuf, uint64_t segment)
{
    return (uint8_t *)logbuf + IMAGE_START + (segment & 1) * logbuf->half_bytes;
}

/* ---------------------------------------------------------------- appending ---------------------------- */

static uint64_t pad8(uint64_t bytes)
{
    return (bytes + 7) & ~UINT64_C(7);
}

uint64_t memdb_log_commit_bytes(size_t payload_len)
{
    return pad8(RECORD_HEADER + payload_len);
}

/* The last part of a segment is for deletes: on a full disk, where no next one can be made, they go on. A record that leaves less in
 * any segment of this size may have it all. */
int memdb_log_fits(const memdb_commit *ctx, uint64_t padded, int deletes_only)
{
    const struct memdb_log *log = &ctx->log;
    uint64_t share = log->capacity / MEMDB_LOGBUF_DELETES_SHARE;
    if (share > MEMDB_LOGBUF_DELETES_MAX)
        share = MEMDB_LOGBUF_DELETES_MAX;
    if (deletes_only || log->tail <= MEMDB_SEGMENT_HEADER + MEMDB_LOGBUF_SLACK)
        share = 0;
    return log->tail + padded + MEMDB_LOGBUF_SLACK + share <= log->capacity;
}

/* Seals the record that lies at the tail and makes it part of the log. */
static void append_sealed(memdb_commit *ctx)
{
    struct memdb_log *log = &ctx->log;
    uint8_t *at = log->image + log->tail;
    uint64_t padded = memdb_record_seal(at, log->salt, log->tail);
    log->last_crc = ((struct memdb_record_header *)at)->header_crc;
    log->last_d = ((struct memdb_record_header *)at)->durable_lsn;
    log->tail += padded;
    ctx->bytes_logged += padded;
    memdb_store_relaxed(&log->half->last_lsn, ((struct memdb_record_header *)at)->lsn);
    memdb_store_release(&log->half->tail, log->tail); /* SYNC: log-tail */
}

void memdb_log_append_commit(memdb_commit *ctx, const struct memdb_client *client, const struct memdb_entry *entry, const uint8_t *payload,
                             size_t len, const struct memdb_prepared *prepared, uint64_t lsn)
{
    uint8_t *at = ctx->log.image + ctx->log.tail;
    struct memdb_record_header header = {
        .size = (uint32_t)(RECORD_HEADER + len), .type = MEMDB_RECORD_COMMIT, .op_count = prepared->op_count, .lsn = lsn,
        .durable_lsn = ctx->synced_lsn, .request = entry->request, .time_us = ctx->now_us, .count = prepared->count,
    };
    memcpy(header.client_id, client->client_id, sizeof header.client_id);
    memcpy(at, &header, sizeof header);
    memcpy(at + sizeof header, payload, len);
    append_sealed(ctx);
}

static void append_control(memdb_commit *ctx, uint8_t type, const void *body, size_t len)
{
    uint8_t *at = ctx->log.image + ctx->log.tail;
    struct memdb_record_header header = {
        .size = (uint32_t)(RECORD_HEADER + len), .type = type, .lsn = ctx->applied, .durable_lsn = ctx->synced_lsn,
        .time_us = ctx->now_us,
    };
    memcpy(at, &header, sizeof header);
    memcpy(at + sizeof header, body, len);
    append_sealed(ctx);
}

#define SECTOR UINT64_C(512)
#define MARK_BYTES pad8(RECORD_HEADER + sizeof(struct memdb_mark_body))

static int mark_fits(const memdb_commit *ctx)
{
    return ctx->log.tail + MARK_BYTES <= ctx->log.capacity;
}

/* The last of the marks lies in no sector of what it speaks for: a sector that the disk loses can't take a commit that was durable and
 * all that says so. */
int memdb_log_append_mark(memdb_commit *ctx, uint64_t limit)
{
    struct memdb_mark_body body = {limit};
    uint64_t beyond = (ctx->log.tail + SECTOR - 1) / SECTOR * SECTOR;
    if (ctx->log.half == NULL || ctx->log_errno != 0)
        return MEMDB_FULL;
    if (!mark_fits(ctx)) {
        ctx->want_rotate = ctx->read_only == 0; /* otherwise the caller tries by itself */
        return MEMDB_FULL;
    }
    append_control(ctx, MEMDB_RECORD_MARK, &body, sizeof body);
    while (ctx->log.tail - MARK_BYTES < beyond && mark_fits(ctx))
        append_control(ctx, MEMDB_RECORD_MARK, &body, sizeof body);
    return MEMDB_OK;
}

int memdb_log_mark_due(const memdb_commit *ctx)
{
    return ctx->synced_lsn > ctx->log.last_d && (ctx->read_only == 0 || mark_fits(ctx));
}

/* ---------------------------------------------------------------- to the file -------------------------- */

int memdb_log_flush(memdb_commit *ctx)
{
    struct memdb_log *log = &ctx->log;
    ctx->want_write = 0;
    if (ctx->log_errno != 0)
        return MEMDB_LOG_FAILED;
    if (log->half == NULL)
        return MEMDB_OK;
    while (log->written < log->tail) {
        int64_t n = log->write(log->write_arg, log->image + log->written, log->tail - log->written, log->written);
        if (n == -EINTR)
            continue;
        if (n <= 0 || (uint64_t)n > log->tail - log->written) {
            memdb_poison(ctx, n < 0 ? (int)-n : EIO);
            return MEMDB_LOG_FAILED;
        }
        log->written += (uint64_t)n;
        memdb_store_relaxed(&log->half->written, log->written);
    }
    ctx->lazy_since = 0;
    ctx->written_lsn = ctx->applied; /* every record that was appended is in the file now */
    memdb_store_release(&ctx->sync.bytes, log->written);   /* SYNC: sync-bytes */
    memdb_store_release(&ctx->sync.lsn, ctx->written_lsn); /* SYNC: sync-lsn */
    return MEMDB_OK;
}

int memdb_commit_flush(memdb_commit *ctx)
{
    return memdb_log_flush(ctx);
}

int memdb_commit_mark(memdb_commit *ctx)
{
    if (ctx->log_errno != 0)
        return MEMDB_LOG_FAILED;
    int status = memdb_log_append_mark(ctx, ctx->log.limit_asked > ctx->log.limit ? ctx->log.limit_asked : ctx->log.limit);
    return status == MEMDB_OK ? memdb_log_flush(ctx) : status;
}

/* ---------------------------------------------------------------- segments ----------------------------- */

/* Everything before a new segment is durable: its caller has synced the old one. */
static void leave_segment(memdb_commit *ctx)
{
    struct memdb_log *log = &ctx->log;
    if (log->half == NULL)
        return;
    memdb_store_relaxed(&log->half->synced, log->written);
    if (log->limit_asked != 0)
        log->limit = log->limit_asked;
    ctx->synced_lsn = ctx->written_lsn;
    ctx->unsynced_since = 0;
}

/* The log goes on in `half`. */
static void enter_segment(memdb_commit *ctx, struct memdb_logbuf_half *half, uint64_t segment, memdb_log_write_fn write, void *arg)
{
    struct memdb_log *log = &ctx->log;
    log->half = half;
    log->image = memdb_logbuf_image(ctx->logbuf, segment);
    log->segment = segment;
    log->salt = memdb_load_relaxed(&half->salt);
    log->capacity = memdb_load_relaxed(&half->capacity);
    log->tail = memdb_load_relaxed(&half->tail);
    log->written = memdb_load_relaxed(&half->written);
    log->write = write;
    log->write_arg = arg;
    memdb_store_release(&ctx->sync.bytes, log->written);
    memdb_store_release(&ctx->sync.segment, segment); /* SYNC: sync-segment */
}

static void begin_half(memdb_commit *ctx, struct memdb_logbuf_half *half, uint64_t segment, uint64_t salt, uint64_t capacity)
{
    memdb_store_relaxed(&half->segment, segment);
    memdb_store_relaxed(&half->salt, salt);
    memdb_store_relaxed(&half->capacity, capacity);
    memdb_store_relaxed(&half->written, MEMDB_SEGMENT_HEADER);
    memdb_store_relaxed(&half->synced, MEMDB_SEGMENT_HEADER);
    memdb_store_relaxed(&half->last_lsn, ctx->applied);
    memdb_store_relaxed(&half->lsn_limit, ctx->log.limit);
    memdb_store_release(&half->tail, MEMDB_SEGMENT_HEADER); /* SYNC: log-tail */
}

int memdb_commit_open_segment(memdb_commit *ctx, uint64_t segment, uint64_t salt, uint64_t capacity, const void *header, uint64_t tail,
                              const struct memdb_link_body *link, memdb_log_write_fn write, void *arg)
{
    struct memdb_log *log = &ctx->log;
    if (tail != MEMDB_SEGMENT_HEADER || segment == 0 || (log->half != NULL && segment <= log->segment) || write == NULL)
        return MEMDB_INVALID;
    if (capacity > ctx->logbuf->half_bytes || capacity < MEMDB_SEGMENT_HEADER + 2 * MEMDB_LOGBUF_SLACK)
        return MEMDB_INVALID;
    if (ctx->log_errno != 0)
        return MEMDB_LOG_FAILED;
    if (log->half != NULL && log->written != log->tail)
        return MEMDB_AGAIN;
    leave_segment(ctx);
    memdb_store_relaxed(&ctx->arena->synced, ctx->synced_lsn); /* also where the arena is new, or recovery has just ended */
    memdb_publish_pending(ctx); /* all of it is durable: a successor must find it in the arena once its half is written over */
    struct memdb_logbuf_half *half = &ctx->logbuf->half[segment & 1];
    begin_half(ctx, half, segment, salt, capacity);
    memcpy(memdb_logbuf_image(ctx->logbuf, segment), header, MEMDB_SEGMENT_HEADER);
    enter_segment(ctx, half, segment, write, arg);
    log->limit_asked = 0;
    if (link != NULL) {
        append_control(ctx, MEMDB_RECORD_LINK, link, sizeof *link);
        log->limit_asked = link->lsn_limit > log->limit ? link->lsn_limit : 0;
        log->limit_offset = log->tail;
    }
    memdb_store_release(&ctx->logbuf->current, segment); /* SYNC: log-current */
    ctx->want_rotate = 0;
    ctx->segment_needed = 0;
    return memdb_log_flush(ctx);
}

/* Reads the whole image; the LSN that its synced part makes durable. OK, INVALID (other last LSN), DAMAGED. */
static int check_image(memdb_commit *ctx, const struct memdb_logbuf_half *half, uint64_t segment, uint64_t *synced_lsn, uint64_t *last_d)
{
    const uint8_t *image = memdb_logbuf_image(ctx->logbuf, segment);
    uint64_t salt = memdb_load_relaxed(&half->salt), synced = memdb_load_relaxed(&half->synced);
    uint64_t tail = memdb_load_acquire(&half->tail); /* SYNC: log-tail */
    uint64_t last_lsn = 0, at = MEMDB_SEGMENT_HEADER;
    memdb_record record;
    *synced_lsn = *last_d = 0;
    for (; at < tail; at += record.padded) {
        if (memdb_record_read(image, tail, at, salt, &record) != MEMDB_RECORD_GOOD || record.header.lsn < last_lsn)
            return MEMDB_DAMAGED;
        last_lsn = record.header.lsn;
        *last_d = record.header.durable_lsn;
        if (record.header.durable_lsn > *synced_lsn)
            *synced_lsn = record.header.durable_lsn;
        if (at + record.padded <= synced && last_lsn > *synced_lsn)
            *synced_lsn = last_lsn;
        ctx->log.last_crc = record.header.header_crc;
    }
    if (at != tail)
        return MEMDB_DAMAGED;
    return last_lsn == ctx->applied || tail == MEMDB_SEGMENT_HEADER ? MEMDB_OK : MEMDB_INVALID;
}

static int half_is_sound(const memdb_commit *ctx, const struct memdb_logbuf_half *half, uint64_t segment)
{
    uint64_t tail = memdb_load_acquire(&half->tail), written = memdb_load_relaxed(&half->written);
    uint64_t capacity = memdb_load_relaxed(&half->capacity);
    return memdb_load_relaxed(&half->segment) == segment && capacity <= ctx->logbuf->half_bytes && tail <= capacity && (tail & 7) == 0 &&
           written <= tail && written >= MEMDB_SEGMENT_HEADER;
}

int memdb_commit_resume_segment(memdb_commit *ctx, memdb_log_write_fn write, void *arg)
{
    struct memdb_log *log = &ctx->log;
    uint64_t segment = memdb_load_acquire(&ctx->logbuf->current); /* SYNC: log-current */
    if (segment == 0)
        return MEMDB_ABSENT;
    struct memdb_logbuf_half *half = &ctx->logbuf->half[segment & 1];
    uint64_t synced_lsn;
    if (log->half != NULL || write == NULL)
        return MEMDB_INVALID;
    if (!half_is_sound(ctx, half, segment))
        return MEMDB_DAMAGED;
    int status = check_image(ctx, half, segment, &synced_lsn, &log->last_d);
    if (status != MEMDB_OK)
        return status;
    ctx->synced_lsn = synced_lsn;
    memdb_store_relaxed(&ctx->arena->synced, synced_lsn);
    log->limit = memdb_load_relaxed(&half->lsn_limit);
    log->limit_asked = 0;
    enter_segment(ctx, half, segment, write, arg);
    if (ctx->applied > synced_lsn)
        ctx->unsynced_since = 1; /* long ago: the timer asks for a sync at once */
    return memdb_log_flush(ctx);
}
