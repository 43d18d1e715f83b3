/* store.c: applying commits: cells, versions, counts, publishing. See store.h for the contract.
 *
 * Owns: the writer's path of puts and deletes. Commit thread only. Reading is in read.c and scan.c, freeing in reclaim.c.
 *
 * Invariants: a version is whole before the release store of its cell's head; a cell is whole before the hash slot and
 * the block that show it are stored; readers at an S below its LSN walk past it.
 */
#include <assert.h>
#include <stdlib.h>

#include "store_state.h"

/* ---------------------------------------------------------------- private lists ------------------------ */

void memdb_items_push(memdb_items *items, memdb_item item)
{
    if (items->first == items->end)
        items->first = items->end = 0;
    if (items->end == items->cap) {
        if (items->first > items->cap / 2) {
            memmove(items->at, items->at + items->first, (items->end - items->first) * sizeof *items->at);
            items->end -= items->first;
            items->first = 0;
        } else {
            items->cap = items->cap ? items->cap * 2 : 64;
            items->at = realloc(items->at, items->cap * sizeof *items->at);
            if (!items->at)
                abort(); /* the process has no memory left: dying here is safe, the arena is built anew from what is published */
        }
    }
    items->at[items->end++] = item;
}

void memdb_items_free(memdb_items *items)
{
    free(items->at);
    *items = (memdb_items){0};
}

void memdb_store_retire(void *store, memdb_ref ref, uint64_t bytes)
{
    memdb_store *s = store;
    s->unlinked = true;
    s->retired_bytes += memdb_arena_rounded(bytes);
    memdb_items_push(&s->fresh, (memdb_item){.ref = ref, .bytes = (uint32_t)bytes});
}

void memdb_store_queue(memdb_store *s, memdb_ref ref, uint64_t lsn)
{
    struct memdb_cell *cell = memdb_store_cell(s, ref);
    if (memdb_load_relaxed(&cell->key_room) & MEMDB_CELL_QUEUED)
        return;
    memdb_cell_mark(cell, 0, MEMDB_CELL_QUEUED);
    memdb_items_push(&s->queue, (memdb_item){.lsn = lsn, .ref = ref});
}

/* ---------------------------------------------------------------- life --------------------------------- */

int memdb_store_new(memdb_store **out, memdb_arena *arena, memdb_scanner *scanner)
{
    memdb_store *s = calloc(1, sizeof *s);
    uint8_t *scratch = malloc(MEMDB_KEY_MAX + 8);
    if (!s || !scratch) {
        free(s);
        free(scratch);
        return MEMDB_FULL;
    }
    s->scratch = scratch;
    s->arena = arena;
    s->header = memdb_arena_header(arena);
    s->view = memdb_arena_view(arena);
    memdb_store_relaxed(&s->header->next_expiry, UINT64_MAX);
    s->scanner = scanner;
    memdb_retire retire = {memdb_store_retire, s};
    uint64_t head = memdb_list_node_cost(0) + memdb_list_insert_cost();
    int status = memdb_arena_reserve(arena, head, 0, MEMDB_FOR_RECOVERY);
    if (status == MEMDB_OK)
        status = memdb_list_init(&s->list, arena, retire);
    if (status == MEMDB_OK)
        status = memdb_hash_init(&s->hash, arena, retire, 0);
    if (status != MEMDB_OK) {
        memdb_store_free(s);
        return status;
    }
    *out = s;
    return MEMDB_OK;
}

void memdb_store_free(memdb_store *s)
{
    if (!s)
        return;
    memdb_items_free(&s->queue);
    memdb_items_free(&s->fresh);
    memdb_items_free(&s->viewed);
    for (size_t i = 0; i < s->held_count; i++)
        memdb_items_free(&s->held[i].items);
    for (size_t i = 0; i < MEMDB_TICKETS; i++) {
        memdb_items_free(&s->waiting[i].items);
        if (i < s->waiting_count)
            memdb_grace_free(s->scanner, s->waiting[i].ticket);
    }
    memdb_expiry_free(s);
    free(s->held);
    free(s->deltas);
    free(s->bulk);
    free(s->scratch);
    free(s);
}

memdb_arena *memdb_store_arena(memdb_store *s) { return s->arena; }

/* ---------------------------------------------------------------- reserving ---------------------------- */

static uint64_t version_cost(uint64_t value_len)
{
    return memdb_arena_rounded(sizeof(struct memdb_version) + 8 + 8 * (uint64_t)memdb_words(value_len));
}

static uint64_t cell_cost(size_t key_len, uint64_t value_len)
{
    uint64_t apart = memdb_arena_rounded(memdb_cell_bytes((uint32_t)key_len, 0)) + version_cost(value_len);
    if (value_len > MEMDB_INLINE_DATA_MAX)
        return apart;
    uint64_t inside = memdb_arena_rounded(memdb_cell_bytes((uint32_t)key_len, memdb_words(value_len) + 1));
    return inside > apart ? inside : apart;
}

uint64_t memdb_store_cost_put(size_t key_len, size_t value_len)
{
    uint64_t cell = cell_cost(key_len, value_len), version = version_cost(value_len);
    return (cell > version ? cell : version) + memdb_list_insert_cost() +
           memdb_list_node_cost(key_len > MEMDB_LONG_KEY ? (uint32_t)key_len : MEMDB_LONG_KEY);
}

uint64_t memdb_store_cost_delete(size_t key_len)
{
    (void)key_len;
    return memdb_arena_rounded(sizeof(struct memdb_version));
}

/* A split's header holds a bound as long as some key of the block. Short ones are in memdb_store_cost_put; of the long
 * keys in the index each can be the bound of one split at a time. */
static uint64_t long_bounds(const memdb_store *s, uint64_t new_keys)
{
    uint64_t splits = new_keys < s->long_keys ? new_keys : s->long_keys;
    return splits * memdb_list_node_cost(s->longest_key);
}

static int try_reserve(memdb_store *s, uint64_t bytes, uint64_t new_keys, enum memdb_purpose purpose)
{
    int status = memdb_hash_reserve(&s->hash, new_keys, purpose);
    if (status != MEMDB_OK)
        return status;
    return memdb_arena_reserve(s->arena, bytes + long_bounds(s, new_keys), 0, purpose);
}

int memdb_store_reserve(memdb_store *s, uint64_t bytes, uint64_t new_keys, enum memdb_purpose purpose)
{
    int status = try_reserve(s, bytes, new_keys, purpose);
    for (int round = 0; (status == MEMDB_FULL || status == MEMDB_SHM_FULL) && round < 4; round++) { /* prune, wait for no one, look again */
        if (!memdb_store_reclaim_pending(s))
            break;
        memdb_store_reclaim(s, SIZE_MAX);
        status = try_reserve(s, bytes, new_keys, purpose);
    }
    return status;
}

/* ---------------------------------------------------------------- versions ----------------------------- */

static uint32_t flags_of(size_t value_len, uint64_t expires_us)
{
    return (uint32_t)value_len | (expires_us ? MEMDB_HAS_EXPIRY : 0);
}

static void fill_version(struct memdb_version *version, memdb_a64 *data, memdb_ref next, uint32_t flags, const void *value,
                         uint64_t expires_us, uint64_t lsn)
{
    memdb_store_relaxed(&version->lsn, lsn);
    memdb_store_relaxed(&version->next, next);
    memdb_store_relaxed(&version->size_flags, flags);
    if (flags & MEMDB_TOMBSTONE)
        return;
    if (flags & MEMDB_HAS_EXPIRY)
        memdb_store_relaxed(data++, expires_us);
    memdb_copy_in(data, value, flags & MEMDB_SIZE_MASK);
}

static memdb_a64 *inline_data(struct memdb_cell *cell)
{
    uint32_t key_len = memdb_cell_key_len(memdb_load_relaxed(&cell->key_room));
    return (memdb_a64 *)(cell + 1) + memdb_words(key_len);
}

memdb_ref memdb_store_new_cell(memdb_store *s, const memdb_probe *key, const void *value, size_t value_len, uint64_t expires_us,
                               uint64_t lsn)
{
    uint32_t flags = flags_of(value_len, expires_us), room = memdb_version_words(flags), key_len = (uint32_t)key->len;
    bool inside = 8 * (uint64_t)room <= MEMDB_INLINE_DATA_MAX;
    uint64_t bytes = memdb_cell_bytes(key_len, inside ? room : 0);
    if (inside) /* what rounding adds becomes room for a longer value */
        room += (uint32_t)(memdb_arena_rounded(bytes) - bytes) / 8;
    if (room > MEMDB_ROOM_MAX || bytes > MEMDB_PAGE / 4) /* rounded up to pages: do not keep that as room */
        room = memdb_version_words(flags);
    bytes = memdb_cell_bytes(key_len, inside ? room : 0);
    memdb_ref ref = memdb_arena_alloc(s->arena, bytes), version = 0;
    if (!ref || (!inside && !(version = memdb_arena_alloc(s->arena, memdb_version_bytes(flags)))))
        return 0;
    struct memdb_cell *cell = memdb_store_cell(s, ref);
    uint32_t marks = inside ? MEMDB_CELL_INLINE_USED | room << MEMDB_ROOM_SHIFT : 0;
    memdb_store_relaxed(&cell->key_room, key_len | marks);
    memdb_copy_in((memdb_a64 *)(cell + 1), key->bytes, key->len);
    if (inside) {
        fill_version(&cell->inline_version, inline_data(cell), 0, flags, value, expires_us, lsn);
        memdb_store_relaxed(&cell->head, MEMDB_INLINE); /* shown by the slot and the block that refer to the cell */
    } else {
        struct memdb_version *out = memdb_arena_at(s->arena, version);
        fill_version(out, (memdb_a64 *)(out + 1), 0, flags, value, expires_us, lsn);
        memdb_store_relaxed(&cell->head, version);
    }
    s->cells++;
    s->versions++;
    s->long_keys += key_len > MEMDB_LONG_KEY;
    s->longest_key = key_len > s->longest_key ? key_len : s->longest_key;
    return ref;
}

/* A newer version on a chain: in the cell if its inline place is free, else in a block of its own. */
static void push_version(memdb_store *s, memdb_ref ref, uint32_t flags, const void *value, uint64_t expires_us, uint64_t lsn)
{
    struct memdb_cell *cell = memdb_store_cell(s, ref);
    uint32_t marks = memdb_load_relaxed(&cell->key_room);
    memdb_ref head = memdb_load_relaxed(&cell->head), at = MEMDB_INLINE;
    bool free_inside = !(marks & (MEMDB_CELL_INLINE_USED | MEMDB_CELL_INLINE_BUSY));
    if (free_inside && memdb_version_words(flags) <= memdb_cell_room(marks)) {
        memdb_cell_mark(cell, 0, MEMDB_CELL_INLINE_USED);
        fill_version(&cell->inline_version, inline_data(cell), head, flags, value, expires_us, lsn);
    } else {
        at = memdb_arena_alloc(s->arena, memdb_version_bytes(flags));
        assert(at); /* reserved (rule C3) */
        struct memdb_version *version = memdb_arena_at(s->arena, at);
        fill_version(version, (memdb_a64 *)(version + 1), head, flags, value, expires_us, lsn);
    }
    memdb_store_release(&cell->head, at); /* SYNC: version-head */
    s->versions++;
    memdb_store_queue(s, ref, lsn);
}

/* ---------------------------------------------------------------- applying ----------------------------- */

static int find(memdb_store *s, const memdb_probe *key, uint64_t hash, memdb_ref *ref, memdb_version_at *newest)
{
    const struct memdb_cell *cell;
    uint32_t key_room;
    int status = memdb_hash_find(&s->view, hash, key, ref, &cell, &key_room);
    if (status == MEMDB_OK)
        status = memdb_cell_version(&s->view, *ref, cell, key_room, UINT64_MAX, newest);
    return status;
}

int memdb_store_newest(memdb_store *s, const void *key, size_t len, uint64_t now_us, memdb_found *found)
{
    memdb_probe probe = memdb_probe_of(key, len);
    memdb_version_at newest;
    memdb_ref ref;
    *found = (memdb_found){0};
    int status = find(s, &probe, memdb_hash_key(key, len, s->header->hash_seed), &ref, &newest);
    if (status != MEMDB_OK)
        return status;
    found->lsn = newest.lsn;
    if (!memdb_version_live(&newest, now_us))
        return MEMDB_ABSENT;
    found->data = newest.data;
    found->len = newest.len;
    found->owner = newest.owner;
    found->expires_us = newest.expires_us;
    return MEMDB_OK;
}

void memdb_store_hint_slot(memdb_store *s, const void *key, size_t len)
{
    memdb_hash_hint(&s->hash, memdb_hash_tag(memdb_hash_key(key, len, s->header->hash_seed)));
}

void memdb_store_hint_cell(memdb_store *s, const void *key, size_t len)
{
    uint32_t tag = memdb_hash_tag(memdb_hash_key(key, len, s->header->hash_seed));
    const uint8_t *cell = s->view.base + (memdb_load_relaxed(&s->hash.slots[tag & s->hash.mask]) & UINT32_MAX) * MEMDB_GRAIN;
    __builtin_prefetch(cell); /* of another key, or of none: a hint never faults */
    __builtin_prefetch(cell + 64);
}

static void begin_change(memdb_store *s, uint64_t lsn, uint64_t now_us)
{
    assert(lsn >= s->applied);
    if (lsn > s->applied) {
        s->applied = lsn;
        memdb_store_relaxed(&s->header->applied, lsn);
    }
    if (now_us > s->time_floor) { /* rule R3: time never goes back behind what a commit has seen */
        s->time_floor = now_us;
        if (now_us > memdb_load_relaxed(&s->header->time_floor)) /* its caller may have raised it; it is never lowered */
            memdb_store_relaxed(&s->header->time_floor, now_us); /* shown by the publish that follows */
    }
}

void memdb_store_count_change(memdb_store *s, uint8_t space, uint64_t lsn, int64_t change)
{
    memdb_delta *last = s->delta_end > s->delta_first ? &s->deltas[s->delta_end - 1] : NULL;
    if (!last || last->lsn != lsn) {
        if (s->delta_first == s->delta_end)
            s->delta_first = s->delta_end = 0;
        if (s->delta_end == s->delta_cap) {
            s->delta_cap = s->delta_cap ? s->delta_cap * 2 : 64;
            s->deltas = realloc(s->deltas, s->delta_cap * sizeof *s->deltas);
            if (!s->deltas)
                abort(); /* as in memdb_items_push */
        }
        last = &s->deltas[s->delta_end++];
        *last = (memdb_delta){.lsn = lsn};
    }
    last->counts[space % MEMDB_SPACES] += change;
}

void memdb_store_put(memdb_store *s, const void *key, size_t len, const void *value, size_t value_len, uint64_t expires_us,
                     uint64_t lsn, uint64_t now_us, bool *existed)
{
    assert(len > 0 && len <= MEMDB_KEY_MAX && value_len <= MEMDB_SIZE_MASK);
    memdb_probe probe = memdb_probe_of(key, len);
    uint64_t hash = memdb_hash_key(key, len, s->header->hash_seed);
    memdb_version_at newest;
    memdb_ref ref;
    begin_change(s, lsn, now_us);
    int status = find(s, &probe, hash, &ref, &newest);
    assert(status == MEMDB_OK || status == MEMDB_ABSENT);
    *existed = status == MEMDB_OK && memdb_version_live(&newest, now_us);
    if (status == MEMDB_ABSENT || newest.size_flags & MEMDB_TOMBSTONE)
        memdb_store_count_change(s, probe.bytes[0], lsn, 1);
    if (status == MEMDB_OK) {
        uint64_t before = newest.expires_us;
        push_version(s, ref, flags_of(value_len, expires_us), value, expires_us, lsn);
        if (before | expires_us)
            memdb_expiry_note(s, memdb_hash_tag(hash), before, expires_us);
        return;
    }
    ref = memdb_store_new_cell(s, &probe, value, value_len, expires_us, lsn);
    assert(ref); /* reserved (rule C3) */
    memdb_list_insert(&s->list, &probe, ref);
    memdb_hash_insert(&s->hash, memdb_hash_tag(hash), ref);
    if (expires_us)
        memdb_expiry_note(s, memdb_hash_tag(hash), 0, expires_us);
}

static void bury(memdb_store *s, memdb_ref ref, uint8_t space, const memdb_version_at *newest, uint64_t lsn)
{
    if (newest->size_flags & MEMDB_TOMBSTONE)
        return;
    memdb_store_count_change(s, space, lsn, -1);
    if (newest->expires_us)
        memdb_expiry_note(s, 0, newest->expires_us, 0); /* its entry goes when it comes up */
    push_version(s, ref, MEMDB_TOMBSTONE, NULL, 0, lsn);
}

void memdb_store_delete(memdb_store *s, const void *key, size_t len, uint64_t lsn, uint64_t now_us, bool *existed)
{
    memdb_probe probe = memdb_probe_of(key, len);
    memdb_version_at newest;
    memdb_ref ref;
    begin_change(s, lsn, now_us);
    int status = find(s, &probe, memdb_hash_key(key, len, s->header->hash_seed), &ref, &newest);
    assert(status == MEMDB_OK || status == MEMDB_ABSENT);
    *existed = status == MEMDB_OK && memdb_version_live(&newest, now_us);
    if (status == MEMDB_OK)
        bury(s, ref, probe.bytes[0], &newest, lsn);
}

/* Counts the live keys of a range in the newest state; bury_at != 0: deletes them in that commit. */
static uint64_t range(memdb_store *s, const void *start, size_t start_len, const void *stop, size_t stop_len, uint64_t now_us,
                      uint64_t bury_at)
{
    memdb_probe low = memdb_probe_of(start, start_len), high = memdb_probe_of(stop, stop_len);
    memdb_leaf leaf;
    uint32_t position = 0, key_room;
    bool equal;
    uint64_t live = 0;
    int status = memdb_list_descend(&s->view, &low, false, NULL, &leaf);
    if (status == MEMDB_OK)
        status = memdb_leaf_search(&s->view, &leaf, &low, &position, &equal);
    while (status == MEMDB_OK) {
        for (; position < leaf.count; position++) {
            memdb_ref ref = memdb_load_relaxed(&leaf.cells[position]);
            const struct memdb_cell *cell = memdb_cell_at(&s->view, ref, &key_room);
            memdb_version_at newest;
            if (!cell || (stop_len && memdb_stored_compare(memdb_cell_key(cell), memdb_cell_key_len(key_room), &high) >= 0))
                return live;
            if (memdb_cell_version(&s->view, ref, cell, key_room, UINT64_MAX, &newest) != MEMDB_OK)
                continue;
            live += memdb_version_live(&newest, now_us);
            if (bury_at) {
                uint8_t first = (uint8_t)(memdb_stored_word(memdb_cell_key(cell), 0) >> 56);
                bury(s, ref, first, &newest, bury_at); /* changes the chain, not the block that is walked */
            }
        }
        if (leaf.next == 0)
            break;
        position = 0;
        status = memdb_leaf_of(&s->view, leaf.next, &leaf) ? MEMDB_OK : MEMDB_DAMAGED;
    }
    return live;
}

uint64_t memdb_store_count_range(memdb_store *s, const void *start, size_t start_len, const void *stop, size_t stop_len, uint64_t now_us)
{
    return range(s, start, start_len, stop, stop_len, now_us, 0);
}

uint64_t memdb_store_delete_range(memdb_store *s, const void *start, size_t start_len, const void *stop, size_t stop_len,
                                  uint64_t lsn, uint64_t now_us)
{
    begin_change(s, lsn, now_us);
    return range(s, start, start_len, stop, stop_len, now_us, lsn);
}

/* ---------------------------------------------------------------- publishing --------------------------- */

uint64_t memdb_store_retired(const memdb_store *s) { return s->retired_bytes; }

void memdb_store_figures(memdb_store *s)
{
    memdb_arena_figures(s->arena);
    memdb_store_relaxed(&s->header->retired_bytes, s->retired_bytes);
    memdb_store_relaxed(&s->header->headers, s->list.nodes);
    memdb_store_relaxed(&s->header->blocks, s->list.blocks);
    memdb_store_relaxed(&s->header->cells, s->cells);
    memdb_store_relaxed(&s->header->versions, s->versions);
}

void memdb_store_publish(memdb_store *s, uint64_t lsn)
{
    bool changed[MEMDB_SPACES] = {false};
    assert(lsn >= s->published);
    for (; s->delta_first < s->delta_end && s->deltas[s->delta_first].lsn <= lsn; s->delta_first++)
        for (unsigned space = 0; space < MEMDB_SPACES; space++) {
            s->counts[space] += s->deltas[s->delta_first].counts[space];
            changed[space] = changed[space] || s->deltas[s->delta_first].counts[space] != 0;
        }
    uint64_t next = memdb_expiry_next(s);
    if (next < memdb_load_relaxed(&s->header->next_expiry)) /* before the counts that it is about, and after them if it rises */
        memdb_store_release(&s->header->next_expiry, next);
    for (unsigned space = 0; space < MEMDB_SPACES; space++)
        if (changed[space])
            memdb_store_release(&s->header->counts[space], (uint64_t)s->counts[space]); /* SYNC: counts */
    memdb_expiry_show(s);
    memdb_store_figures(s);
    s->published = lsn;
    s->unlinked = false;
    if (s->serving)
        memdb_store_sc(&s->header->published, lsn); /* SYNC: published: all of lsn is in place (invariant 3) */
}

uint64_t memdb_store_reached(const memdb_store *s) { return s->applied > s->published ? s->applied : s->published; }

void memdb_store_open(memdb_store *s, uint64_t lsn)
{
    s->applied = lsn > s->applied ? lsn : s->applied;
    s->serving = true;
    memdb_store_publish(s, lsn);
    memdb_store_release(&s->header->ready, 1); /* SYNC: segment-ready */
}
