/* reclaim.c: pruning version chains, purging deleted keys, moving versions inline, and freeing what grace has released.
 *
 * Owns: the way of a version or block from "unlinked" to "free" (store_state.h lists the places on it). Commit thread only.
 *
 * Invariants (rules 5, R4, R5):
 *  - A version v under a newer one n goes only if n.lsn <= published and no pin of the last scan sees [v.lsn, n.lsn).
 *  - A block, or a cell's inline place, is reused only after the ticket of a scan that followed its unlinking is over, and
 *    then only if no hazard shows it.
 *  - A purged key's newest version is a published tombstone and the only one: whoever looks finds nothing either way.
 *  - A cell is freed only by purge, and purge waits while its inline place is in grace: nothing refers to a freed cell.
 */
#include <assert.h>
#include <stdlib.h>

#include "store_state.h"

#define HASH_STEP 256u

/* ---------------------------------------------------------------- held versions ------------------------ */

static memdb_held *group_of(memdb_store *s, uint64_t holder)
{
    for (size_t i = s->held_count; i-- > 0;)
        if (s->held[i].holder == holder)
            return &s->held[i];
    if (s->held_count == s->held_cap) {
        s->held_cap = s->held_cap ? s->held_cap * 2 : 8;
        s->held = realloc(s->held, s->held_cap * sizeof *s->held);
        if (!s->held)
            abort(); /* as in memdb_items_push */
    }
    s->held[s->held_count] = (memdb_held){.holder = holder};
    return &s->held[s->held_count++];
}

static void hold(memdb_store *s, memdb_ref cell, memdb_ref ref, struct memdb_version *version, uint64_t holder)
{
    memdb_held *group = group_of(s, holder);
    uint32_t flags = memdb_load_relaxed(&version->size_flags);
    memdb_store_relaxed(&version->size_flags, flags | MEMDB_VERSION_HELD);
    memdb_items_push(&group->items, (memdb_item){.ref = cell, .bytes = ref});
    group->bytes += memdb_version_bytes(flags);
}

/* Versions of pins that have gone are looked at again: perhaps another pin needs them. */
static void release_groups(memdb_store *s)
{
    for (size_t i = 0; i < s->held_count; i++) {
        if (memdb_scanner_holds(s->scanner, s->held[i].holder))
            continue;
        memdb_held group = s->held[i];
        s->held[i--] = s->held[--s->held_count];
        for (size_t k = group.items.first; k < group.items.end; k++) {
            memdb_item item = group.items.at[k];
            struct memdb_version *version = memdb_store_version(s, item.ref, item.bytes);
            uint32_t flags = memdb_load_relaxed(&version->size_flags);
            memdb_store_relaxed(&version->size_flags, flags & ~MEMDB_VERSION_HELD);
            memdb_store_queue(s, item.ref, 0);
        }
        memdb_items_free(&group.items);
    }
}

uint64_t memdb_store_pinned_bytes(memdb_store *s, uint64_t lsn)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < s->held_count; i++)
        if ((s->held[i].holder & MEMDB_LSN_MASK) == lsn)
            bytes += s->held[i].bytes;
    return bytes;
}

/* ---------------------------------------------------------------- pruning ------------------------------ */

static void drop(memdb_store *s, memdb_ref ref, memdb_ref at)
{
    s->versions--;
    if (at != MEMDB_INLINE) {
        struct memdb_version *version = memdb_arena_at(s->arena, at);
        memdb_store_retire(s, at, memdb_version_bytes(memdb_load_relaxed(&version->size_flags)));
        return;
    }
    memdb_cell_mark(memdb_store_cell(s, ref), MEMDB_CELL_INLINE_USED, MEMDB_CELL_INLINE_BUSY);
    s->unlinked = true;
    memdb_items_push(&s->fresh, (memdb_item){.ref = ref, .bytes = 0});
}

static void prune(memdb_store *s, memdb_ref ref, struct memdb_version *newest)
{
    struct memdb_version *kept = newest;
    uint64_t newer = memdb_load_relaxed(&newest->lsn);
    memdb_ref next, at = memdb_load_relaxed(&newest->next);
    for (; at; at = next) {
        struct memdb_version *version = memdb_store_version(s, ref, at);
        uint64_t lsn = memdb_load_relaxed(&version->lsn), holder;
        next = memdb_load_relaxed(&version->next);
        if (newer > s->published || memdb_load_relaxed(&version->size_flags) & MEMDB_VERSION_HELD) {
            kept = version;
        } else if ((holder = memdb_scanner_holder(s->scanner, lsn, newer)) != 0) {
            hold(s, ref, at, version, holder);
            kept = version;
        } else {
            memdb_store_release(&kept->next, next); /* SYNC: version-next */
            drop(s, ref, at);
        }
        newer = lsn;
    }
}

/* OK, or FULL when the changed block finds no memory. */
static int purge(memdb_store *s, memdb_ref ref, memdb_ref head)
{
    struct memdb_cell *cell = memdb_store_cell(s, ref);
    uint32_t key_room = memdb_load_relaxed(&cell->key_room), key_len = memdb_cell_key_len(key_room);
    memdb_copy_out(s->scratch, memdb_cell_key(cell), key_len);
    memdb_probe key = memdb_probe_of(s->scratch, key_len);
    int status = memdb_list_remove(&s->list, &key, ref);
    if (status == MEMDB_FULL)
        return status;
    assert(status == MEMDB_OK);
    uint32_t tag = memdb_hash_tag(memdb_hash_key(s->scratch, key_len, s->header->hash_seed));
    bool removed = memdb_hash_remove(&s->hash, tag, ref);
    assert(removed);
    (void)removed;
    if (head != MEMDB_INLINE)
        memdb_store_retire(s, head, sizeof(struct memdb_version));
    memdb_store_retire(s, ref, memdb_cell_bytes(key_len, memdb_cell_room(key_room)));
    s->cells--;
    s->versions--;
    s->long_keys -= key_len > MEMDB_LONG_KEY;
    return MEMDB_OK;
}

/* Copies the newest version into the cell's free inline place; readers that stand on the block keep it until grace. */
static void move_in(memdb_store *s, memdb_ref ref, memdb_ref head)
{
    struct memdb_cell *cell = memdb_store_cell(s, ref);
    struct memdb_version *from = memdb_arena_at(s->arena, head), *to = &cell->inline_version;
    uint32_t flags = memdb_load_relaxed(&from->size_flags), words = memdb_version_words(flags);
    uint32_t key_len = memdb_cell_key_len(memdb_load_relaxed(&cell->key_room));
    memdb_a64 *source = (memdb_a64 *)(from + 1), *target = (memdb_a64 *)(cell + 1) + memdb_words(key_len);
    memdb_store_relaxed(&to->lsn, memdb_load_relaxed(&from->lsn));
    memdb_store_relaxed(&to->next, memdb_load_relaxed(&from->next));
    memdb_store_relaxed(&to->size_flags, flags);
    for (uint32_t i = 0; i < words; i++)
        memdb_store_relaxed(&target[i], memdb_load_relaxed(&source[i]));
    memdb_cell_mark(cell, 0, MEMDB_CELL_INLINE_USED);
    memdb_store_release(&cell->head, MEMDB_INLINE); /* SYNC: version-head */
    memdb_store_retire(s, head, memdb_version_bytes(flags));
}

static void look_at(memdb_store *s, memdb_ref ref)
{
    struct memdb_cell *cell = memdb_store_cell(s, ref);
    memdb_cell_mark(cell, MEMDB_CELL_QUEUED, 0);
    memdb_ref head = memdb_load_relaxed(&cell->head);
    struct memdb_version *newest = memdb_store_version(s, ref, head);
    prune(s, ref, newest);
    uint64_t lsn = memdb_load_relaxed(&newest->lsn);
    uint32_t flags = memdb_load_relaxed(&newest->size_flags), marks = memdb_load_relaxed(&cell->key_room);
    if (lsn > s->published) {
        memdb_store_queue(s, ref, lsn);
    } else if (flags & MEMDB_TOMBSTONE) {
        bool alone = memdb_load_relaxed(&newest->next) == 0 && !(marks & MEMDB_CELL_INLINE_BUSY);
        if (alone && purge(s, ref, head) != MEMDB_OK)
            memdb_store_queue(s, ref, s->published + 1); /* again after the next commit */
    } else if (head != MEMDB_INLINE && !(marks & (MEMDB_CELL_INLINE_USED | MEMDB_CELL_INLINE_BUSY)) &&
               memdb_version_words(flags) <= memdb_cell_room(marks)) {
        move_in(s, ref, head);
    }
}

/* ---------------------------------------------------------------- grace -------------------------------- */

static void free_item(memdb_store *s, memdb_item item)
{
    if (item.bytes) {
        memdb_arena_release(s->arena, item.ref, item.bytes);
        s->retired_bytes -= memdb_arena_rounded(item.bytes);
        return;
    }
    memdb_cell_mark(memdb_store_cell(s, item.ref), MEMDB_CELL_INLINE_BUSY, 0);
    memdb_store_queue(s, item.ref, 0);
}

/* What was unlinked before the scan gets that scan's ticket. */
static void begin_grace(memdb_store *s)
{
    if (memdb_items_count(&s->fresh) == 0 || s->waiting_count == MEMDB_TICKETS)
        return;
    memdb_waiting *waiting = &s->waiting[s->waiting_count++];
    memdb_items spare = waiting->items;
    waiting->items = s->fresh;
    spare.first = spare.end = 0;
    s->fresh = spare;
    waiting->ticket = memdb_scanner_ticket(s->scanner, s->view.parity);
}

static void end_grace(memdb_store *s, size_t *budget)
{
    bool hazards_read = false;
    for (size_t i = 0; i < s->waiting_count && *budget; i++) {
        memdb_waiting *waiting = &s->waiting[i];
        if (!memdb_grace_over(s->scanner, waiting->ticket))
            continue;
        memdb_grace_free(s->scanner, waiting->ticket);
        waiting->ticket = NULL; /* over, also if the budget ends inside */
        if (!hazards_read) /* after grace: a hazard that was set inside a pin of then is there now */
            memdb_scanner_read_hazards(s->scanner, s->view.parity);
        hazards_read = true;
        for (; waiting->items.first < waiting->items.end && *budget; --*budget) {
            memdb_item item = waiting->items.at[waiting->items.first++];
            if (memdb_scanner_hazarded(s->scanner, item.ref))
                memdb_items_push(&s->viewed, item);
            else
                free_item(s, item);
        }
        if (memdb_items_count(&waiting->items) == 0) {
            memdb_waiting done = *waiting;
            *waiting = s->waiting[--s->waiting_count];
            s->waiting[s->waiting_count] = done; /* its memory is used again */
            i--;
        }
    }
}

static void look_at_views(memdb_store *s)
{
    if (memdb_items_count(&s->viewed) == 0)
        return;
    memdb_scanner_read_hazards(s->scanner, s->view.parity);
    memdb_items still = s->viewed;
    s->viewed = (memdb_items){0};
    for (size_t i = still.first; i < still.end; i++) {
        if (memdb_scanner_hazarded(s->scanner, still.at[i].ref))
            memdb_items_push(&s->viewed, still.at[i]);
        else
            free_item(s, still.at[i]);
    }
    memdb_items_free(&still);
}

static bool shows(const struct memdb_lease *lease, unsigned parity, memdb_ref ref)
{
    for (uint32_t i = 0; i < MEMDB_HAZARDS; i++)
        if (memdb_load_relaxed(&lease->hazards[parity][i]) == ref)
            return true;
    return false;
}

uint64_t memdb_store_viewed_bytes(memdb_store *s, const struct memdb_lease *lease)
{
    uint64_t bytes = 0;
    for (size_t i = s->viewed.first; i < s->viewed.end; i++) {
        const memdb_item *item = &s->viewed.at[i];
        if (!shows(lease, s->view.parity, item->ref))
            continue;
        bytes += item->bytes ? item->bytes : 8 * (uint64_t)memdb_cell_room(memdb_load_relaxed(&memdb_store_cell(s, item->ref)->key_room));
    }
    return bytes;
}

/* ---------------------------------------------------------------- reclaim ------------------------------ */

bool memdb_store_reclaim_pending(memdb_store *s)
{
    return memdb_items_count(&s->queue) || memdb_items_count(&s->fresh) || memdb_items_count(&s->viewed) || s->held_count ||
           s->waiting_count || s->hash.old;
}

static bool queue_ready(const memdb_store *s)
{
    return memdb_items_count(&s->queue) && s->queue.at[s->queue.first].lsn <= s->published;
}

static size_t ready_items(const memdb_store *s)
{
    size_t ready = s->hash.old ? 1 : 0;
    if (s->waiting_count < MEMDB_TICKETS)
        ready += memdb_items_count(&s->fresh);
    for (size_t i = 0; i < s->waiting_count; i++)
        if (!s->waiting[i].ticket)
            ready += memdb_items_count(&s->waiting[i].items);
    if (queue_ready(s))
        ready += memdb_items_count(&s->queue);
    return ready;
}

size_t memdb_store_reclaim(memdb_store *s, size_t budget)
{
    if (!memdb_store_reclaim_pending(s))
        return 0;
    if (s->unlinked) { /* the argument in epoch.h: a reader that the scan misses has to see what was unlinked */
        if (s->serving)
            memdb_store_sc(&s->header->published, s->published); /* SYNC: published */
        s->unlinked = false;
    }
    memdb_scanner_scan(s->scanner, s->view.parity);
    uint64_t oldest = memdb_scanner_oldest(s->scanner);
    if (memdb_load_relaxed(&s->header->min_pinned) != oldest)
        memdb_store_relaxed(&s->header->min_pinned, oldest);
    begin_grace(s);
    end_grace(s, &budget);
    look_at_views(s);
    release_groups(s);
    for (; budget && queue_ready(s); budget--)
        look_at(s, s->queue.at[s->queue.first++].ref);
    memdb_hash_step(&s->hash, HASH_STEP);
    memdb_store_relaxed(&s->header->retired_bytes, s->retired_bytes);
    memdb_arena_figures(s->arena);
    return ready_items(s);
}
