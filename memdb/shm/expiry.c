/* expiry.c: see expiry.h. A heap with four children a node; look-ups by tag go through the hash index, and meet every key of that tag.
 *
 * Why an entry names a tag and no cell: cells are freed and their memory used again, and nothing is removed from the middle of a heap.
 * Keys that share a tag are looked at together; that is harmless.
 */
#include <assert.h>
#include <stdlib.h>

#include "store_state.h"

#define POPS_FOR_EACH 4u /* entries looked at in one call for each key that may be handed out ... */
#define POPS_MORE 256u   /* ... and some, because most may have been put off */

/* ---------------------------------------------------------------- heap --------------------------------- */

static uint64_t time_of(const memdb_due *due) { return (uint64_t)due->high << 32 | due->low; }

static memdb_due due_at(uint64_t time, uint32_t tag) { return (memdb_due){(uint32_t)time, (uint32_t)(time >> 32), tag}; }

static void sink(memdb_due *heap, size_t count, size_t at, memdb_due due)
{
    for (;;) {
        size_t first = at * 4 + 1, least = first;
        if (first >= count)
            break;
        for (size_t child = first + 1; child < count && child < first + 4; child++)
            if (time_of(&heap[child]) < time_of(&heap[least]))
                least = child;
        if (time_of(&heap[least]) >= time_of(&due))
            break;
        heap[at] = heap[least];
        at = least;
    }
    heap[at] = due;
}

static memdb_due *room_for(memdb_due *at, size_t count, size_t *cap)
{
    if (count < *cap)
        return at;
    *cap = *cap ? *cap * 2 : 64;
    at = realloc(at, *cap * sizeof *at);
    if (!at)
        abort(); /* as in memdb_items_push */
    return at;
}

static void push(memdb_expiry *e, memdb_due due)
{
    e->heap = room_for(e->heap, e->count, &e->cap);
    size_t at = e->count++;
    for (; at > 0 && time_of(&e->heap[(at - 1) / 4]) > time_of(&due); at = (at - 1) / 4)
        e->heap[at] = e->heap[(at - 1) / 4];
    e->heap[at] = due;
}

static memdb_due pop(memdb_expiry *e)
{
    memdb_due top = e->heap[0];
    e->count--;
    if (e->count)
        sink(e->heap, e->count, 0, e->heap[e->count]);
    return top;
}

/* After many have gone, their memory goes, too. */
static void shrink(memdb_expiry *e)
{
    size_t cap = e->cap;
    while (cap > 4096 && e->count < cap / 4)
        cap /= 2;
    if (cap == e->cap)
        return;
    memdb_due *smaller = realloc(e->heap, cap * sizeof *smaller);
    if (smaller) {
        e->heap = smaller;
        e->cap = cap;
    }
}

static void reap_later(memdb_expiry *e, memdb_due due)
{
    e->reaping = room_for(e->reaping, e->reaping_count, &e->reaping_cap);
    e->reaping[e->reaping_count++] = due;
}

void memdb_expiry_free(memdb_store *s)
{
    free(s->expiry.heap);
    free(s->expiry.reaping);
    s->expiry = (memdb_expiry){0};
}

/* ---------------------------------------------------------------- keys of a tag ------------------------ */

struct walk {
    unsigned table; /* 0 current, 1 old: a cell may be in both, then it comes twice */
    uint64_t steps;
};

static struct memdb_cell *next_cell(memdb_store *s, uint32_t tag, struct walk *walk, memdb_version_at *newest)
{
    for (; walk->table < 2; walk->table++, walk->steps = 0) {
        const memdb_a64 *slots = walk->table ? s->hash.old_slots : s->hash.slots;
        uint64_t mask = walk->table ? s->hash.old_mask : s->hash.mask;
        if (walk->table && !s->hash.old)
            return NULL;
        while (walk->steps <= mask) {
            uint64_t slot = memdb_load_relaxed(&slots[(tag + walk->steps++) & mask]);
            memdb_ref ref = (memdb_ref)slot;
            if (slot == 0)
                break;
            if (slot >> 32 != tag || ref <= 1)
                continue;
            struct memdb_cell *cell = memdb_store_cell(s, ref);
            if (memdb_cell_version(&s->view, ref, cell, memdb_load_relaxed(&cell->key_room), UINT64_MAX, newest) == MEMDB_OK)
                return cell;
        }
    }
    return NULL;
}

/* A newer version than the published one decides nothing: readers still see the older one, and the counts are of then. */
static bool undecided(const memdb_store *s, const memdb_version_at *newest) { return newest->lsn > s->published; }

/* ---------------------------------------------------------------- noting ------------------------------- */

/* One entry for each key that has an expiry, with its true time; those that are undecided stay as they are. Cost: a look-up for each
 * entry there was. */
static void rebuild(memdb_store *s)
{
    memdb_expiry *e = &s->expiry;
    memdb_version_at newest;
    struct memdb_cell *cell;
    memdb_due *kept = NULL;
    size_t count = 0, cap = 0;
    for (size_t i = 0; i < e->count; i++) {
        bool as_it_is = false;
        for (struct walk walk = {0}; (cell = next_cell(s, e->heap[i].tag, &walk, &newest)) != NULL;) {
            as_it_is = as_it_is || undecided(s, &newest);
            if (newest.expires_us == 0 || memdb_load_relaxed(&cell->key_room) & MEMDB_CELL_SEEN)
                continue;
            memdb_cell_mark(cell, 0, MEMDB_CELL_SEEN);
            kept = room_for(kept, count, &cap);
            kept[count++] = due_at(newest.expires_us, e->heap[i].tag);
        }
        if (as_it_is) {
            kept = room_for(kept, count, &cap);
            kept[count++] = e->heap[i];
        }
    }
    for (size_t i = 0; i < count; i++)
        for (struct walk walk = {0}; (cell = next_cell(s, kept[i].tag, &walk, &newest)) != NULL;)
            memdb_cell_mark(cell, MEMDB_CELL_SEEN, 0);
    for (size_t i = count / 4 + 1; i-- > 0;)
        if (i < count)
            sink(kept, count, i, kept[i]);
    free(e->heap);
    e->heap = kept;
    e->count = e->kept = count;
    e->cap = cap;
}

void memdb_expiry_note(memdb_store *s, uint32_t tag, uint64_t before, uint64_t after)
{
    memdb_expiry *e = &s->expiry;
    e->expiring -= before != 0;
    e->expiring += after != 0;
    if (after == 0 || (before != 0 && before <= after))
        return;
    push(e, due_at(after, tag));
    if (e->count > 2 * e->expiring + MEMDB_EXPIRY_SLACK && e->count > 2 * e->kept)
        rebuild(s);
}

/* ---------------------------------------------------------------- showing ------------------------------ */

uint64_t memdb_expiry_next(const memdb_store *s)
{
    const memdb_expiry *e = &s->expiry;
    uint64_t next = e->count ? time_of(&e->heap[0]) : UINT64_MAX;
    if (e->reaping_count && time_of(&e->reaping[0]) < next) /* they came up in the order of their times */
        next = time_of(&e->reaping[0]);
    return next;
}

void memdb_expiry_show(memdb_store *s)
{
    uint64_t next = memdb_expiry_next(s), bytes = (s->expiry.cap + s->expiry.reaping_cap) * sizeof(memdb_due);
    if (memdb_load_relaxed(&s->header->next_expiry) != next)
        memdb_store_release(&s->header->next_expiry, next); /* SYNC: next-expiry: whoever sees it raised sees the counts without them */
    if (memdb_load_relaxed(&s->header->expiring) != s->expiry.expiring)
        memdb_store_relaxed(&s->header->expiring, s->expiry.expiring);
    if (memdb_load_relaxed(&s->header->expiry_bytes) != bytes)
        memdb_store_relaxed(&s->header->expiry_bytes, bytes);
}

/* ---------------------------------------------------------------- reaping ------------------------------ */

/* What was handed out, or was undecided, comes back unless there is nothing left to expire. */
static void settle(memdb_store *s)
{
    memdb_expiry *e = &s->expiry;
    memdb_version_at newest;
    struct memdb_cell *cell;
    for (size_t i = 0; i < e->reaping_count; i++) {
        bool left = false;
        for (struct walk walk = {0}; (cell = next_cell(s, e->reaping[i].tag, &walk, &newest)) != NULL;) {
            memdb_cell_mark(cell, MEMDB_CELL_REAPING, 0);
            left = left || newest.expires_us != 0 || undecided(s, &newest);
        }
        if (left)
            push(e, e->reaping[i]);
    }
    e->reaping_count = 0;
}

struct batch {
    uint8_t *at;
    size_t used, cap, max_keys;
    uint32_t count;
};

/* A delete that is without effect if the key turns out not to have expired when it is committed. False: no room. */
static bool put_delete(memdb_store *s, struct batch *batch, const struct memdb_cell *cell)
{
    uint32_t key_len = memdb_cell_key_len(memdb_load_relaxed(&cell->key_room));
    memdb_op op = {.code = MEMDB_OP_DELETE, .flags = MEMDB_OP_ONLY_EXPIRED, .key_len = (uint16_t)key_len, .key = s->scratch};
    if (batch->count == batch->max_keys)
        return false;
    memdb_copy_out(s->scratch, memdb_cell_key(cell), key_len);
    size_t needed = memdb_ops_put(batch->at + batch->used, batch->cap - batch->used, &op);
    if (needed > batch->cap - batch->used)
        return false;
    batch->used += needed;
    batch->count++;
    return true;
}

/* One entry that has come up. False: the batch is full. */
static bool reap(memdb_store *s, memdb_due due, uint64_t now_us, struct batch *batch)
{
    memdb_version_at newest;
    struct memdb_cell *cell;
    uint64_t later = UINT64_MAX;
    bool keep = false, full = false;
    for (struct walk walk = {0}; !full && (cell = next_cell(s, due.tag, &walk, &newest)) != NULL;) {
        if (newest.expires_us != 0 && newest.expires_us <= now_us) {
            if (memdb_load_relaxed(&cell->key_room) & MEMDB_CELL_REAPING)
                continue; /* by another entry, or found in both tables */
            full = !put_delete(s, batch, cell);
            if (full)
                break;
            memdb_cell_mark(cell, 0, MEMDB_CELL_REAPING);
            keep = true;
        } else if (undecided(s, &newest)) {
            keep = true;
        } else if (newest.expires_us != 0 && newest.expires_us < later) {
            later = newest.expires_us;
        }
    }
    if (keep)
        reap_later(&s->expiry, due);
    else if (full)
        push(&s->expiry, due);
    else if (later != UINT64_MAX)
        push(&s->expiry, due_at(later, due.tag));
    return !full;
}

size_t memdb_store_expired(memdb_store *s, uint64_t now_us, size_t max_keys, uint8_t *buf, size_t cap, uint32_t *count)
{
    memdb_expiry *e = &s->expiry;
    struct batch batch = {.at = buf, .used = 8, .cap = cap, .max_keys = max_keys};
    size_t left = max_keys * POPS_FOR_EACH + POPS_MORE;
    assert(cap >= 8 && max_keys < UINT32_MAX);
    settle(s);
    while (left-- > 0 && batch.count < max_keys && e->count && time_of(&e->heap[0]) <= now_us)
        if (!reap(s, pop(e), now_us, &batch))
            break;
    shrink(e);
    memdb_expiry_show(s);
    memcpy(buf, &batch.count, 4);
    memset(buf + 4, 0, 4);
    *count = batch.count;
    return batch.used;
}

/* ---------------------------------------------------------------- audit -------------------------------- */

static int by_tag(const void *a, const void *b)
{
    const memdb_due *x = a, *y = b;
    if (x->tag != y->tag)
        return x->tag < y->tag ? -1 : 1;
    return time_of(x) < time_of(y) ? -1 : time_of(x) > time_of(y);
}

memdb_due *memdb_expiry_sorted(const memdb_store *s, size_t *count)
{
    const memdb_expiry *e = &s->expiry;
    *count = e->count + e->reaping_count;
    memdb_due *sorted = *count ? malloc(*count * sizeof *sorted) : NULL;
    if (!sorted)
        return NULL;
    if (e->count)
        memcpy(sorted, e->heap, e->count * sizeof *sorted);
    if (e->reaping_count)
        memcpy(sorted + e->count, e->reaping, e->reaping_count * sizeof *sorted);
    qsort(sorted, *count, sizeof *sorted, by_tag);
    return sorted;
}

bool memdb_expiry_covers(const memdb_due *sorted, size_t count, uint32_t tag, uint64_t expires_us)
{
    size_t low = 0, total = count;
    while (count > 0) {
        size_t half = count / 2;
        if (sorted[low + half].tag < tag) {
            low += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return low < total && sorted[low].tag == tag && time_of(&sorted[low]) <= expires_us;
}
