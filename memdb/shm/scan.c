/* scan.c: ordered reading in batches, both ways.
 *
 * Owns: memdb_scan. Any thread with an active pin. A batch is believed after the pin has
 * been left; only then memdb_scan_advance moves the bounds. Every walk ends: keys that are emitted and lower bounds that
 * are passed must rise (fall, in reverse), and steps are limited.
 */
#include <stdlib.h>

#include "skiplist.h"
#include "store.h"

#define AHEAD 12u /* cells whose cache lines are asked for before they are read */

/* ---------------------------------------------------------------- bounds ------------------------------- */

int memdb_scan_init(memdb_scan *scan, const void *start, size_t start_len, const void *stop, size_t stop_len, bool reverse,
                    uint64_t limit, bool keys_only)
{
    *scan = (memdb_scan){.start = start, .start_len = start_len, .stop = stop, .stop_len = stop_len, .reverse = reverse,
                         .keys_only = keys_only, .remaining = limit, .done = limit == 0};
    return MEMDB_OK;
}

void memdb_scan_clear(memdb_scan *scan)
{
    free(scan->moved);
    *scan = (memdb_scan){.done = true};
}

int memdb_scan_advance(memdb_scan *scan, const memdb_batch *batch)
{
    if (scan->remaining != UINT64_MAX)
        scan->remaining -= batch->count < scan->remaining ? batch->count : scan->remaining;
    if (batch->ended || scan->remaining == 0)
        scan->done = true;
    if (batch->count == 0 || scan->done)
        return MEMDB_OK;
    uint32_t key_len;
    memcpy(&key_len, batch->out + batch->last, 4);
    const uint8_t *key = batch->out + batch->last + 24;
    uint8_t *bound = malloc((size_t)key_len + 2);
    if (!bound)
        return MEMDB_FULL;
    memcpy(bound, key, key_len);
    bound[key_len] = 0; /* the smallest key behind it */
    free(scan->moved);
    scan->moved = bound;
    if (scan->reverse)
        scan->stop = bound, scan->stop_len = key_len;
    else
        scan->start = bound, scan->start_len = (size_t)key_len + 1;
    return MEMDB_OK;
}

/* ---------------------------------------------------------------- one item ----------------------------- */

static void ahead(const memdb_view *view, const memdb_leaf *leaf, uint32_t position)
{
    if (position >= leaf->count)
        return;
    const uint8_t *cell = memdb_view_at(view, memdb_load_relaxed(&leaf->cells[position]), 192);
    if (!cell)
        return;
    __builtin_prefetch(cell);
    __builtin_prefetch(cell + 64);
    __builtin_prefetch(cell + 128);
}

static void put_item(memdb_batch *batch, const struct memdb_cell *cell, uint32_t key_len, const memdb_version_at *v, bool keys_only)
{
    uint8_t *out = batch->out + batch->used;
    uint32_t value_len = keys_only ? 0 : v->len;
    memcpy(out, &key_len, 4);
    memcpy(out + 4, &value_len, 4);
    memcpy(out + 8, &v->lsn, 8);
    memcpy(out + 16, &v->expires_us, 8);
    memdb_copy_out(out + 24, memdb_cell_key(cell), key_len);
    memdb_copy_out(out + 24 + key_len, v->data, value_len);
    size_t len = 24 + (size_t)key_len + value_len, padded = (len + 7) / 8 * 8;
    memset(out + len, 0, padded - len); /* batches become blocks of checkpoints: no stray bytes of the heap in them */
    batch->last = batch->used;
    batch->used += padded;
    batch->count++;
}

/* The key lies in the bounds and behind the last one. */
static bool in_order(const memdb_scan *scan, const memdb_batch *batch, const memdb_a64 *key, uint32_t key_len)
{
    memdb_probe bound = memdb_probe_of(scan->reverse ? scan->stop : scan->start, scan->reverse ? scan->stop_len : scan->start_len);
    if (batch->count) {
        uint32_t last_len;
        memcpy(&last_len, batch->out + batch->last, 4);
        bound = memdb_probe_of(batch->out + batch->last + 24, last_len);
    }
    int order = memdb_stored_compare(key, key_len, &bound);
    if (scan->reverse)
        return order < 0 || (!batch->count && scan->stop_len == 0);
    return order > 0 || (order == 0 && !batch->count);
}

enum step { STEP_ON, STEP_FULL, STEP_END }; /* or a negative status */

static int visit(memdb_pin *pin, const memdb_scan *scan, memdb_batch *batch, memdb_ref ref)
{
    uint32_t key_room;
    memdb_version_at version;
    const struct memdb_cell *cell = memdb_cell_at(&pin->view, ref, &key_room);
    if (!cell)
        return MEMDB_DAMAGED;
    const memdb_a64 *key = memdb_cell_key(cell);
    uint32_t key_len = memdb_cell_key_len(key_room);
    int status = memdb_cell_version(&pin->view, ref, cell, key_room, pin->lsn, &version);
    if (status != MEMDB_OK)
        return status == MEMDB_ABSENT ? STEP_ON : status;
    if (version.size_flags & MEMDB_TOMBSTONE)
        return STEP_ON;
    if (version.expires_us && !scan->with_expired && version.expires_us <= memdb_pin_time(pin))
        return STEP_ON;
    if (!in_order(scan, batch, key, key_len))
        return MEMDB_DAMAGED;
    size_t bytes = (24 + (size_t)key_len + (scan->keys_only ? 0 : version.len) + 7) / 8 * 8;
    if (bytes > batch->cap - batch->used) {
        batch->needed = bytes;
        return batch->count ? STEP_FULL : MEMDB_BUFFER;
    }
    put_item(batch, cell, key_len, &version, scan->keys_only);
    bool full = (batch->max_count && batch->count >= batch->max_count) || batch->count >= scan->remaining;
    return full ? STEP_FULL : STEP_ON;
}

/* ---------------------------------------------------------------- walking ------------------------------ */

static bool rises(const memdb_view *view, memdb_ref before, memdb_ref after)
{
    memdb_node_at a, b;
    return memdb_node_open(view, before, &a) && memdb_node_open(view, after, &b) &&
           memdb_stored_order(a.lower, a.lower_len, b.lower, b.lower_len) < 0;
}

/* Where the range ends in this leaf: behind its last entry if it goes on. Once for each leaf instead of a comparison for each key. */
static int leaf_end(const memdb_view *view, const memdb_leaf *leaf, const memdb_probe *bound, bool open, uint32_t *end)
{
    bool equal;
    *end = leaf->count;
    return open ? MEMDB_OK : memdb_leaf_search(view, leaf, bound, end, &equal);
}

static int forward(memdb_pin *pin, const memdb_scan *scan, memdb_batch *batch)
{
    memdb_probe start = memdb_probe_of(scan->start, scan->start_len), stop = memdb_probe_of(scan->stop, scan->stop_len);
    memdb_leaf leaf;
    uint32_t position = 0, end;
    bool equal;
    if (memdb_list_descend(&pin->view, &start, false, NULL, &leaf) != MEMDB_OK ||
        memdb_leaf_search(&pin->view, &leaf, &start, &position, &equal) != MEMDB_OK)
        return MEMDB_DAMAGED;
    uint64_t wanted = batch->max_count && batch->max_count < scan->remaining ? batch->max_count : scan->remaining;
    for (;;) {
        for (uint32_t i = 0; i < AHEAD && i < wanted; i++)
            ahead(&pin->view, &leaf, position + i);
        if (leaf_end(&pin->view, &leaf, &stop, scan->stop_len == 0, &end) != MEMDB_OK)
            return MEMDB_DAMAGED;
        for (; position < end; position++) {
            if (wanted > AHEAD)
                ahead(&pin->view, &leaf, position + AHEAD);
            int step = visit(pin, scan, batch, memdb_load_relaxed(&leaf.cells[position]));
            if (step != STEP_ON)
                return step;
        }
        if (end < leaf.count || leaf.next == 0)
            return STEP_END;
        if (!rises(&pin->view, leaf.node, leaf.next) || !memdb_leaf_of(&pin->view, leaf.next, &leaf))
            return MEMDB_DAMAGED;
        position = 0;
    }
}

/* The last leaf below `bound`, and where the bound stands in it. */
static int leaf_before(memdb_pin *pin, const memdb_probe *bound, memdb_leaf *leaf, uint32_t *position)
{
    bool equal;
    int status = memdb_list_descend(&pin->view, bound, true, NULL, leaf);
    return status == MEMDB_OK ? memdb_leaf_search(&pin->view, leaf, bound, position, &equal) : status;
}

static int backward(memdb_pin *pin, const memdb_scan *scan, memdb_batch *batch, uint8_t *scratch)
{
    static const uint8_t behind_all[1] = {0xff}; /* stored keys begin with their space, 1..7 */
    memdb_probe bound = scan->stop_len ? memdb_probe_of(scan->stop, scan->stop_len) : memdb_probe_of(behind_all, 1);
    memdb_probe start = memdb_probe_of(scan->start, scan->start_len);
    uint64_t steps = pin->view.size / 32;
    for (; steps > 0; steps--) {
        memdb_leaf leaf;
        memdb_node_at node;
        uint32_t position, end;
        if (leaf_before(pin, &bound, &leaf, &position) != MEMDB_OK ||
            leaf_end(&pin->view, &leaf, &start, false, &end) != MEMDB_OK)
            return MEMDB_DAMAGED;
        for (uint32_t i = 0; i < AHEAD && i < position; i++)
            ahead(&pin->view, &leaf, position - 1 - i);
        while (position-- > end) {
            if (position >= AHEAD)
                ahead(&pin->view, &leaf, position - AHEAD);
            int step = visit(pin, scan, batch, memdb_load_relaxed(&leaf.cells[position]));
            if (step != STEP_ON)
                return step;
        }
        if (!memdb_node_open(&pin->view, leaf.node, &node))
            return MEMDB_DAMAGED;
        if (end > 0 || node.lower_len == 0)
            return STEP_END;
        memdb_copy_out(scratch, node.lower, node.lower_len);
        bound = memdb_probe_of(scratch, node.lower_len); /* strictly falls: descend passes smaller bounds only */
    }
    return MEMDB_DAMAGED;
}

/* What was emitted rises (falls), so the last key tells whether all lie within the range: a damaged block could say otherwise. */
static bool last_within(const memdb_scan *scan, const memdb_batch *batch)
{
    uint32_t key_len;
    if (batch->count == 0 || (!scan->reverse && scan->stop_len == 0))
        return true;
    memcpy(&key_len, batch->out + batch->last, 4);
    const uint8_t *key = batch->out + batch->last + 24, *edge = scan->reverse ? scan->start : scan->stop;
    size_t edge_len = scan->reverse ? scan->start_len : scan->stop_len;
    size_t shared = key_len < edge_len ? key_len : edge_len;
    int order = shared ? memcmp(key, edge, shared) : 0;
    if (order == 0)
        order = key_len < edge_len ? -1 : key_len > edge_len;
    return scan->reverse ? order >= 0 : order < 0;
}

int memdb_scan_batch(memdb_pin *pin, memdb_scan *scan, memdb_batch *batch)
{
    batch->used = batch->last = batch->needed = 0;
    batch->count = 0;
    batch->ended = scan->done;
    if (scan->done)
        return MEMDB_OK;
    int step;
    if (scan->reverse) {
        uint8_t *scratch = malloc(UINT16_MAX + 1);
        if (!scratch)
            return MEMDB_FULL;
        step = backward(pin, scan, batch, scratch);
        free(scratch);
    } else {
        step = forward(pin, scan, batch);
    }
    batch->ended = step == STEP_END;
    if (step >= 0 && !last_within(scan, batch))
        return MEMDB_DAMAGED;
    return step < 0 ? step : MEMDB_OK;
}

int memdb_store_count(memdb_pin *pin, const void *start, size_t start_len, const void *stop, size_t stop_len, uint64_t *count)
{
    memdb_probe low = memdb_probe_of(start, start_len), high = memdb_probe_of(stop, stop_len);
    memdb_leaf leaf;
    uint32_t position = 0, key_room;
    bool equal;
    *count = 0;
    if (memdb_list_descend(&pin->view, &low, false, NULL, &leaf) != MEMDB_OK ||
        memdb_leaf_search(&pin->view, &leaf, &low, &position, &equal) != MEMDB_OK)
        return MEMDB_DAMAGED;
    for (;;) {
        for (; position < leaf.count; position++) {
            memdb_version_at version;
            memdb_ref ref = memdb_load_relaxed(&leaf.cells[position]);
            const struct memdb_cell *cell = memdb_cell_at(&pin->view, ref, &key_room);
            ahead(&pin->view, &leaf, position + AHEAD);
            if (!cell)
                return MEMDB_DAMAGED;
            if (stop_len && memdb_stored_compare(memdb_cell_key(cell), memdb_cell_key_len(key_room), &high) >= 0)
                return MEMDB_OK;
            int status = memdb_cell_version(&pin->view, ref, cell, key_room, pin->lsn, &version);
            if (status == MEMDB_DAMAGED)
                return status;
            *count += status == MEMDB_OK && !(version.size_flags & MEMDB_TOMBSTONE) &&
                      (version.expires_us == 0 || version.expires_us > memdb_pin_time(pin));
        }
        if (leaf.next == 0)
            return MEMDB_OK;
        if (!rises(&pin->view, leaf.node, leaf.next) || !memdb_leaf_of(&pin->view, leaf.next, &leaf))
            return MEMDB_DAMAGED;
        position = 0;
    }
}

/* ---------------------------------------------------------------- cutting ------------------------------ */

/* Does the range end before this block? */
static bool beyond(const memdb_node_at *node, const void *stop, size_t stop_len)
{
    memdb_probe high = memdb_probe_of(stop, stop_len);
    return stop_len && memdb_stored_compare(node->lower, node->lower_len, &high) >= 0;
}

int memdb_store_split(memdb_pin *pin, const void *start, size_t start_len, const void *stop, size_t stop_len, uint64_t every,
                      uint32_t max_cuts, uint8_t *out, size_t cap, uint32_t *cuts, size_t *used, uint64_t *keys, bool *ended)
{
    memdb_probe low = memdb_probe_of(start, start_len);
    memdb_leaf leaf;
    memdb_node_at node;
    uint64_t part = 0;
    *cuts = 0, *used = 0, *keys = 0, *ended = false;
    if (memdb_list_descend(&pin->view, &low, false, NULL, &leaf) != MEMDB_OK)
        return MEMDB_DAMAGED;
    for (;;) {
        part += leaf.count;
        *keys += leaf.count;
        if (leaf.next == 0) {
            *ended = true;
            return MEMDB_OK;
        }
        if (!rises(&pin->view, leaf.node, leaf.next) || !memdb_node_open(&pin->view, leaf.next, &node))
            return MEMDB_DAMAGED;
        if (beyond(&node, stop, stop_len)) {
            *ended = true;
            return MEMDB_OK;
        }
        if (part >= every) {
            if (4 + (size_t)node.lower_len > cap - *used)
                return *cuts ? MEMDB_OK : MEMDB_BUFFER;
            memcpy(out + *used, &node.lower_len, 4);
            memdb_copy_out(out + *used + 4, node.lower, node.lower_len);
            *used += 4 + (size_t)node.lower_len;
            part = 0;
            if (++*cuts == max_cuts)
                return MEMDB_OK;
        }
        if (!memdb_leaf_of(&pin->view, leaf.next, &leaf))
            return MEMDB_DAMAGED;
    }
}
