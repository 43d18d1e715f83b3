/* bulk.c: building a store from sorted input: the next generation, or a checkpoint's content.
 *
 * Owns: struct memdb_bulk, the block being filled and the last node of each level. Writer only, before the arena is ready:
 * no reader is there, so links are stored in any order and nothing is retired.
 */
#include <assert.h>
#include <stdlib.h>

#include "store_state.h"

#define FILL (MEMDB_BLOCK_MAX - MEMDB_BLOCK_MAX / 8) /* room for a few inserts before the first split */
#define BATCH_BYTES (256u * 1024u)

#define UNINDEXED 32u /* cells on their way into the hash index */

struct memdb_unindexed {
    uint32_t tag;
    memdb_ref cell; /* 0: none */
};

struct memdb_bulk {
    memdb_draft draft;
    struct memdb_unindexed unindexed[UNINDEXED];
    uint32_t added;
    memdb_ref node, last_cell; /* owner of the draft; the last cell in or before it */
    memdb_ref tails[MEMDB_HEIGHT_MAX];
    uint64_t highest;
};

int memdb_bulk_begin(memdb_store *s, uint64_t expected_keys)
{
    assert(!s->bulk && s->cells == 0);
    s->bulk = calloc(1, sizeof *s->bulk);
    if (!s->bulk)
        return MEMDB_FULL;
    s->bulk->node = memdb_load_relaxed(&s->header->head);
    for (unsigned level = 0; level < MEMDB_HEIGHT_MAX; level++)
        s->bulk->tails[level] = s->bulk->node;
    uint64_t mask = s->hash.mask;
    memdb_ref small = s->hash.current;
    int status = expected_keys * 2 <= mask + 1 ? MEMDB_OK : memdb_hash_init(&s->hash, s->arena, s->hash.retire, expected_keys);
    if (status == MEMDB_OK && s->hash.current != small)
        memdb_arena_release(s->arena, small, memdb_hash_table_bytes(mask));
    return status;
}

static struct memdb_node *node_at(memdb_store *s, memdb_ref ref) { return memdb_arena_at(s->arena, ref); }

/* Closes the draft into the block of its node; `next` follows it. The head's empty block goes. */
static void close_block(memdb_store *s, memdb_ref next)
{
    struct memdb_bulk *bulk = s->bulk;
    memdb_draft_tighten(&s->list, &bulk->draft);
    memdb_ref block = memdb_draft_store(&s->list, &bulk->draft, 0, bulk->draft.count, next);
    assert(block); /* reserved in memdb_bulk_add */
    memdb_ref empty = memdb_load_relaxed(&node_at(s, bulk->node)->block);
    if (empty) {
        memdb_arena_release(s->arena, empty, memdb_block_bytes(0, 0));
        s->list.blocks--;
    }
    memdb_store_release(&node_at(s, bulk->node)->block, block); /* SYNC: block-swap */
}

static void next_block(memdb_store *s, memdb_ref cell)
{
    struct memdb_bulk *bulk = s->bulk;
    memdb_ref node = memdb_list_new_node(&s->list, bulk->last_cell, cell);
    assert(node);
    close_block(s, node);
    uint32_t height = memdb_load_relaxed(&node_at(s, node)->height_lower) & 0xff;
    for (uint32_t level = 1; level < height; level++) {
        memdb_a32 *tower = (memdb_a32 *)(node_at(s, bulk->tails[level]) + 1);
        memdb_store_release(&tower[level - 1], node); /* SYNC: tower-link */
        bulk->tails[level] = node;
    }
    if (height > memdb_load_relaxed(&s->header->height))
        memdb_store_relaxed(&s->header->height, height);
    bulk->node = node;
    bulk->draft.count = bulk->draft.common = 0;
}

/* The hash index is written at random: each slot is asked for a few keys before it is stored. */
static void index_later(memdb_store *s, uint32_t tag, memdb_ref cell)
{
    struct memdb_unindexed *place = &s->bulk->unindexed[s->bulk->added++ % UNINDEXED];
    if (place->cell)
        memdb_hash_insert(&s->hash, place->tag, place->cell);
    *place = (struct memdb_unindexed){tag, cell};
    memdb_hash_hint(&s->hash, tag);
}

static void index_rest(memdb_store *s)
{
    for (uint32_t i = 0; i < UNINDEXED; i++)
        if (s->bulk->unindexed[i].cell)
            memdb_hash_insert(&s->hash, s->bulk->unindexed[i].tag, s->bulk->unindexed[i].cell);
}

int memdb_bulk_add(memdb_store *s, const void *key, size_t len, const void *value, size_t value_len, uint64_t expires_us, uint64_t lsn)
{
    struct memdb_bulk *bulk = s->bulk;
    if (len == 0 || len > MEMDB_KEY_MAX || value_len > MEMDB_SIZE_MASK)
        return MEMDB_INVALID;
    memdb_probe probe = memdb_probe_of(key, len);
    if (bulk->last_cell) {
        const struct memdb_cell *last = memdb_store_cell(s, bulk->last_cell);
        uint32_t last_len = memdb_cell_key_len(memdb_load_relaxed(&last->key_room));
        if (memdb_stored_compare(memdb_cell_key(last), last_len, &probe) >= 0)
            return MEMDB_INVALID;
    }
    int status = memdb_store_reserve(s, memdb_store_cost_put(len, value_len), 1 + UNINDEXED, MEMDB_FOR_RECOVERY);
    if (status != MEMDB_OK)
        return status;
    memdb_ref ref = memdb_store_new_cell(s, &probe, value, value_len, expires_us, lsn);
    assert(ref);
    if (bulk->draft.count == FILL)
        next_block(s, ref);
    bulk->draft.cells[bulk->draft.count] = ref;
    bulk->draft.prefixes[bulk->draft.count++] = memdb_probe_prefix(&probe, 0);
    bulk->last_cell = ref;
    uint32_t tag = memdb_hash_tag(memdb_hash_key(key, len, s->header->hash_seed));
    index_later(s, tag, ref);
    if (expires_us)
        memdb_expiry_note(s, tag, 0, expires_us);
    s->counts[probe.bytes[0] % MEMDB_SPACES]++;
    bulk->highest = lsn > bulk->highest ? lsn : bulk->highest;
    return MEMDB_OK;
}

int memdb_bulk_finish(memdb_store *s)
{
    struct memdb_bulk *bulk = s->bulk;
    if (bulk->draft.count)
        close_block(s, 0);
    index_rest(s);
    for (unsigned space = 0; space < MEMDB_SPACES; space++)
        memdb_store_relaxed(&s->header->counts[space], (uint64_t)s->counts[space]);
    if (bulk->highest > s->applied) {
        s->applied = bulk->highest;
        memdb_store_relaxed(&s->header->applied, s->applied);
    }
    memdb_hash_step(&s->hash, UINT64_MAX);
    free(bulk);
    s->bulk = NULL;
    return MEMDB_OK;
}

/* ---------------------------------------------------------------- copying a generation ----------------- */

static int add_batch(memdb_store *s, const memdb_batch *batch)
{
    const uint8_t *item = batch->out;
    for (uint32_t i = 0; i < batch->count; i++) {
        uint32_t key_len, value_len;
        uint64_t lsn, expires_us;
        memcpy(&key_len, item, 4);
        memcpy(&value_len, item + 4, 4);
        memcpy(&lsn, item + 8, 8);
        memcpy(&expires_us, item + 16, 8);
        const uint8_t *key = item + 24;
        int status = memdb_bulk_add(s, key, key_len, key + key_len, value_len, expires_us, lsn);
        if (status != MEMDB_OK)
            return status == MEMDB_INVALID ? MEMDB_DAMAGED : status;
        item += (24 + (size_t)key_len + value_len + 7) / 8 * 8;
    }
    return MEMDB_OK;
}

static int copy_batches(memdb_store *s, memdb_pin *from, memdb_scan *scan, memdb_batch *batch, memdb_a64 *progress)
{
    while (!scan->done) {
        int status = memdb_pin_enter(from);
        if (status != MEMDB_OK)
            return status;
        int read = memdb_scan_batch(from, scan, batch);
        if ((status = memdb_pin_leave(from)) != MEMDB_OK)
            return status; /* revoked: what was read may be anything */
        if (read == MEMDB_BUFFER) {
            uint8_t *larger = realloc(batch->out, batch->needed);
            if (!larger)
                return MEMDB_FULL;
            batch->out = larger;
            batch->cap = batch->needed;
            continue;
        }
        if (read != MEMDB_OK || (status = add_batch(s, batch)) != MEMDB_OK ||
            (status = memdb_scan_advance(scan, batch)) != MEMDB_OK)
            return read != MEMDB_OK ? read : status;
        if (progress)
            memdb_add_sc(progress, batch->count);
    }
    return MEMDB_OK;
}

/* Rule R3: time does not go back in the next generation either. */
static void raise_floor(memdb_store *s, uint64_t floor)
{
    if (floor <= s->time_floor)
        return;
    s->time_floor = floor;
    memdb_store_relaxed(&s->header->time_floor, floor);
}

int memdb_bulk_copy(memdb_store *s, memdb_pin *from, memdb_a64 *progress)
{
    uint64_t expected = 0, cells = from->view.size / 64; /* a damaged count must not size the table */
    for (unsigned space = 0; space < MEMDB_SPACES; space++)
        expected += memdb_load_relaxed(&from->view.header->counts[space]) % cells;
    if (memdb_pin_leave(from) == MEMDB_REVOKED && memdb_pin_enter(from) != MEMDB_OK)
        return MEMDB_REVOKED;
    memdb_pin_leave(from);
    memdb_scan scan;
    memdb_batch batch = {.out = malloc(BATCH_BYTES), .cap = BATCH_BYTES};
    int status = memdb_scan_init(&scan, NULL, 0, NULL, 0, false, UINT64_MAX, false);
    scan.with_expired = true;
    if (status == MEMDB_OK)
        status = batch.out ? memdb_bulk_begin(s, expected < cells ? expected : cells) : MEMDB_FULL;
    if (status == MEMDB_OK)
        status = copy_batches(s, from, &scan, &batch, progress);
    if (status == MEMDB_OK)
        status = memdb_bulk_finish(s);
    if (status == MEMDB_OK)
        raise_floor(s, memdb_load_relaxed(&from->view.header->time_floor));
    memdb_scan_clear(&scan);
    free(batch.out);
    return status;
}
