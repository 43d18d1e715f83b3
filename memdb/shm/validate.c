/* validate.c: does what a transaction has read still hold (rule C6)?
 *
 * Judged against the newest state, published or not, at the time of the commit that asks: what holds here holds until the commit is
 * applied, because nothing comes between. Points are looked up in the store; ranges are compared with the window of recent commits.
 * Order of the checks: the section's bytes, the generation, expiry, then points and ranges in the order of the section; of several
 * ranges that do not hold, the one that the newest commit has met. Commit thread only; the section is a private copy.
 * Cost: a look-up for each point; for ranges one pass over the window's entries above the snapshot, log(ranges) comparisons each.
 */
#include <stdlib.h>

#include "commitstate.h"

struct wanted { /* one range that was read, not empty */
    const uint8_t *start, *stop;
    uint32_t start_len, stop_len, index;
    uint32_t farthest; /* of those up to here, sorted by start: the one whose stop is highest */
};

struct judging {
    memdb_commit *ctx;
    const struct memdb_client *client;
    memdb_reads reads;
    struct memdb_verdict *out;
    uint32_t index, range_count;
    struct wanted ranges[MEMDB_READ_RANGES_MAX];
};

static void conflict(struct judging *j, uint32_t index, enum memdb_conflict reason, uint64_t winner)
{
    *j->out = (struct memdb_verdict){.status = MEMDB_CONFLICT, .reason = reason, .detail = index, .winner = winner};
}

/* ---------------------------------------------------------------- points ------------------------------- */

/* The newest commit above the snapshot that the window knows to have set or deleted this key; 0: none. For a key that is gone without
 * a trace: who deleted it. */
static uint64_t deleter(const struct judging *j, const memdb_read *read)
{
    memdb_window_entry entry;
    for (uint64_t cursor = 0; memdb_window_back(j->ctx->window, &cursor, &entry) && entry.lsn > j->reads.lsn;) {
        int order = memdb_keys_order(entry.start, entry.start_len, read->key, read->len);
        if (order == 0 || (order < 0 && entry.stop_len > 0 && memdb_keys_order(read->key, read->len, entry.stop, entry.stop_len) < 0))
            return entry.lsn;
    }
    return 0;
}

/* OK, also if it does not hold: then there is a verdict. Else what the store says. */
static int judge_point(struct judging *j, const memdb_read *read)
{
    memdb_found found;
    int status = memdb_store_newest(j->ctx->store, read->key, read->len, j->ctx->now_us, &found);
    if (status != MEMDB_OK && status != MEMDB_ABSENT)
        return status;
    int same = read->lsn != 0 && found.lsn == read->lsn;
    if (j->out->status == MEMDB_CONFLICT) { /* something has expired: is it this? */
        if (same && status == MEMDB_ABSENT && j->out->detail == j->reads.count)
            j->out->detail = j->index;
    } else if (same && status == MEMDB_ABSENT) {
        conflict(j, j->index, MEMDB_CONFLICT_EXPIRED, 0);
    } else if (read->lsn != 0 && !same) {
        conflict(j, j->index, MEMDB_CONFLICT_POINT, found.lsn != 0 ? found.lsn : deleter(j, read));
    } else if (read->lsn == 0 && status == MEMDB_OK && found.lsn > j->reads.lsn) {
        /* A version that the snapshot had and took for expired is no news: its time may be ahead of ours, if the clock has stepped back. */
        conflict(j, j->index, MEMDB_CONFLICT_POINT, found.lsn);
    }
    return MEMDB_OK;
}

/* ---------------------------------------------------------------- ranges ------------------------------- */

static int range_is_sound(const memdb_read *read)
{
    if (read->key[0] == MEMDB_SPACE_SYSTEM) /* the window knows nothing of them */
        return 0;
    if (read->stop_len == 0 || read->stop[0] == read->key[0])
        return 1;
    return read->stop_len == 1 && read->stop[0] == read->key[0] + 1;
}

static void want_range(struct judging *j, const memdb_read *read)
{
    static const uint8_t ends[MEMDB_SPACES] = {1, 2, 3, 4, 5, 6, 7, 8}; /* of a space: the next one's number */
    struct wanted *range = &j->ranges[j->range_count];
    *range = (struct wanted){.start = read->key, .start_len = read->len, .stop = read->stop, .stop_len = read->stop_len, .index = j->index};
    if (read->stop_len == 0) {
        range->stop = &ends[read->key[0] % MEMDB_SPACES];
        range->stop_len = 1;
    }
    j->range_count += memdb_keys_order(range->start, range->start_len, range->stop, range->stop_len) < 0;
}

static int by_start(const void *a, const void *b)
{
    const struct wanted *x = a, *y = b;
    return memdb_keys_order(x->start, x->start_len, y->start, y->start_len);
}

static void sort_ranges(struct judging *j)
{
    qsort(j->ranges, j->range_count, sizeof *j->ranges, by_start);
    for (uint32_t i = 0, farthest = 0; i < j->range_count; i++) {
        if (memdb_keys_order(j->ranges[i].stop, j->ranges[i].stop_len, j->ranges[farthest].stop, j->ranges[farthest].stop_len) > 0)
            farthest = i;
        j->ranges[i].farthest = farthest;
    }
}

/* A range that was read and has a key in common with the entry; NULL: none. */
static const struct wanted *meets(const struct judging *j, const memdb_window_entry *entry)
{
    const uint8_t *last = entry->stop_len > 0 ? entry->stop : entry->start;
    uint32_t last_len = entry->stop_len > 0 ? entry->stop_len : entry->start_len;
    int inside = entry->stop_len > 0 ? 0 : 1; /* a key counts itself, the end of a range does not */
    uint32_t low = 0, high = j->range_count;  /* ranges that begin in time: those before `low` */
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (memdb_keys_order(j->ranges[middle].start, j->ranges[middle].start_len, last, last_len) < inside)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return NULL;
    const struct wanted *range = &j->ranges[j->ranges[low - 1].farthest];
    return memdb_keys_order(range->stop, range->stop_len, entry->start, entry->start_len) > 0 ? range : NULL;
}

static void judge_ranges(struct judging *j)
{
    memdb_window_entry entry;
    if (j->range_count == 0)
        return;
    if (j->reads.lsn < memdb_window_floor(j->ctx->window)) {
        if (j->out->status == MEMDB_OK) /* what is known for certain says more */
            conflict(j, j->ranges[0].index, MEMDB_CONFLICT_WINDOW, 0);
        return;
    }
    sort_ranges(j);
    for (uint64_t cursor = 0; memdb_window_back(j->ctx->window, &cursor, &entry) && entry.lsn > j->reads.lsn;) {
        const struct wanted *range = meets(j, &entry);
        if (range != NULL) {
            conflict(j, range->index, MEMDB_CONFLICT_RANGE, entry.lsn);
            return;
        }
    }
}

/* ---------------------------------------------------------------- the whole ---------------------------- */

static int judge_header(struct judging *j)
{
    const memdb_reads *reads = &j->reads;
    if (reads->word != j->ctx->config.word)
        conflict(j, reads->count, MEMDB_CONFLICT_GENERATION, 0);
    else if (reads->lsn > j->ctx->applied)
        return MEMDB_INVALID;
    else if (reads->expires_us != 0 && reads->expires_us <= j->ctx->now_us)
        conflict(j, reads->count, MEMDB_CONFLICT_EXPIRED, 0);
    return MEMDB_OK;
}

static int judge_entry(struct judging *j, const memdb_read *read)
{
    const struct memdb_verdict *out = j->out;
    if (!memdb_stage_space_allowed(j->client, read->key[0]) || (read->kind == MEMDB_READ_RANGE && !range_is_sound(read)))
        return MEMDB_INVALID;
    if (out->status == MEMDB_CONFLICT && (out->reason != MEMDB_CONFLICT_EXPIRED || out->detail != j->reads.count))
        return MEMDB_OK; /* decided: the rest is looked at for its form only */
    if (read->kind == MEMDB_READ_POINT)
        return judge_point(j, read);
    want_range(j, read);
    return MEMDB_OK;
}

void memdb_validate(memdb_commit *ctx, const struct memdb_client *client, const uint8_t *section, size_t len, struct memdb_verdict *out)
{
    struct judging j;
    memdb_read read;
    j.ctx = ctx;
    j.client = client;
    j.out = out;
    j.index = j.range_count = 0;
    *out = (struct memdb_verdict){.status = MEMDB_OK};
    int status = memdb_reads_begin(&j.reads, section, len);
    if (status == MEMDB_OK)
        status = judge_header(&j);
    int by_header = out->status == MEMDB_CONFLICT;
    for (; status == MEMDB_OK && (status = memdb_reads_next(&j.reads, &read)) == MEMDB_OK; j.index++)
        if ((status = judge_entry(&j, &read)) != MEMDB_OK)
            break;
    if (status != MEMDB_ABSENT)
        *out = (struct memdb_verdict){.status = status, .detail = j.index};
    else if (!by_header) /* those before a point that does not hold come first */
        judge_ranges(&j);
}
