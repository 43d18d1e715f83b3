/* audit.c: the writer's proof that no block was lost or doubled.
 *
 * Owns: nothing. Commit thread only, between commits. Walks everything that is reachable (nodes, blocks, cells, versions,
 * hash tables) and everything that waits to be freed, and compares with the allocator's books. Cost: the whole store.
 */
#include <stdlib.h>

#include "store_state.h"

struct audit {
    memdb_store *store;
    memdb_problem_fn problem;
    void *arg;
    uint64_t *seen; /* one bit a grain: a block begins here */
    memdb_due *due; /* all entries of the heap of expiries, sorted */
    size_t due_count;
    uint64_t blocks, problems, queued, held, busy, cells, versions, nodes, leaves, expiring;
};

static void report(struct audit *a, memdb_ref ref, uint64_t lsn, const char *text)
{
    a->problems++;
    if (a->problem)
        a->problem(a->arg, (uint64_t)ref * MEMDB_GRAIN, lsn, text);
}

static void own(struct audit *a, memdb_ref ref, uint64_t bytes, const char *what)
{
    if (!memdb_arena_allocated(a->store->arena, ref, bytes)) {
        report(a, ref, 0, what);
        return;
    }
    if (a->seen[ref / 64] >> (ref % 64) & 1)
        report(a, ref, 0, "block is referred to twice");
    a->seen[ref / 64] |= UINT64_C(1) << (ref % 64);
    a->blocks++;
}

/* The newest version's expiry is counted, and an entry of the heap will come up in time. */
static void audit_expiry(struct audit *a, memdb_ref ref, const struct memdb_cell *cell, uint32_t key_room)
{
    memdb_store *s = a->store;
    memdb_version_at newest;
    uint32_t key_len = memdb_cell_key_len(key_room);
    if (memdb_cell_version(&s->view, ref, cell, key_room, UINT64_MAX, &newest) != MEMDB_OK || newest.expires_us == 0)
        return;
    a->expiring++;
    memdb_copy_out(s->scratch, memdb_cell_key(cell), key_len);
    uint32_t tag = memdb_hash_tag(memdb_hash_key(s->scratch, key_len, s->header->hash_seed));
    if (!memdb_expiry_covers(a->due, a->due_count, tag, newest.expires_us))
        report(a, ref, newest.lsn, "no entry of the heap of expiries covers the key");
    if (key_room & MEMDB_CELL_SEEN)
        report(a, ref, newest.lsn, "a mark of the heap's making was left behind");
}

static void audit_cell(struct audit *a, memdb_ref ref)
{
    memdb_store *s = a->store;
    uint32_t key_room;
    const struct memdb_cell *cell = memdb_cell_at(&s->view, ref, &key_room);
    if (!cell) {
        report(a, ref, 0, "cell lies outside of the arena");
        return;
    }
    own(a, ref, memdb_cell_bytes(memdb_cell_key_len(key_room), memdb_cell_room(key_room)), "cell is not allocated");
    a->cells++;
    audit_expiry(a, ref, cell, key_room);
    a->queued += (key_room & MEMDB_CELL_QUEUED) != 0;
    a->busy += (key_room & MEMDB_CELL_INLINE_BUSY) != 0;
    bool inside = false;
    uint64_t above = UINT64_MAX;
    for (memdb_ref at = memdb_load_relaxed(&cell->head); at;) {
        const struct memdb_version *version = memdb_store_version(s, ref, at);
        uint32_t flags = memdb_load_relaxed(&version->size_flags);
        uint64_t lsn = memdb_load_relaxed(&version->lsn);
        a->versions++;
        a->held += (flags & MEMDB_VERSION_HELD) != 0;
        if (lsn > above)
            report(a, ref, lsn, "version is newer than the one before it");
        above = lsn;
        if (at == MEMDB_INLINE && inside) {
            report(a, ref, lsn, "inline version is in its chain twice");
            return;
        }
        if (at == MEMDB_INLINE)
            inside = true;
        else
            own(a, at, memdb_version_bytes(flags), "version is not allocated");
        at = memdb_load_relaxed(&version->next);
    }
    if (inside != ((key_room & MEMDB_CELL_INLINE_USED) != 0) || (inside && key_room & MEMDB_CELL_INLINE_BUSY))
        report(a, ref, 0, "marks of the inline version are wrong");
}

static void audit_list(struct audit *a)
{
    memdb_store *s = a->store;
    memdb_node_at node;
    memdb_leaf leaf;
    for (memdb_ref ref = memdb_load_relaxed(&s->header->head); ref; ref = leaf.next) {
        if (!memdb_node_open(&s->view, ref, &node) || !memdb_leaf_of(&s->view, ref, &leaf)) {
            report(a, ref, 0, "node or block is damaged");
            return;
        }
        a->nodes++;
        a->leaves++;
        own(a, ref, memdb_node_bytes(node.height, node.lower_len), "node is not allocated");
        own(a, leaf.block, memdb_block_bytes(leaf.count, leaf.common), "block is not allocated");
        for (uint32_t i = 0; i < leaf.count; i++)
            audit_cell(a, memdb_load_relaxed(&leaf.cells[i]));
    }
}

static uint64_t audit_items(struct audit *a, const memdb_items *items)
{
    uint64_t inlines = 0;
    for (size_t i = items->first; i < items->end; i++) {
        if (items->at[i].bytes)
            own(a, items->at[i].ref, items->at[i].bytes, "retired block is not allocated");
        else
            inlines++;
    }
    return inlines;
}

static uint64_t dead_slots(const memdb_hash *hash)
{
    uint64_t dead = 0;
    for (uint64_t i = 0; i <= hash->mask; i++)
        dead += memdb_load_relaxed(&hash->slots[i]) == 1;
    return dead;
}

static void expect(struct audit *a, bool holds, const char *text)
{
    if (!holds)
        report(a, 0, 0, text);
}

int memdb_store_audit(memdb_store *s, memdb_problem_fn problem, void *arg)
{
    struct audit a = {.store = s, .problem = problem, .arg = arg};
    a.seen = calloc(s->view.size / MEMDB_GRAIN / 64 + 1, sizeof *a.seen);
    if (!a.seen)
        return MEMDB_FULL;
    a.due = memdb_expiry_sorted(s, &a.due_count);
    if (!a.due && a.due_count) {
        free(a.seen);
        return MEMDB_FULL;
    }
    audit_list(&a);
    free(a.due);
    own(&a, s->hash.current, memdb_hash_table_bytes(s->hash.mask), "hash table is not allocated");
    if (s->hash.old)
        own(&a, s->hash.old, memdb_hash_table_bytes(s->hash.old_mask), "old hash table is not allocated");
    uint64_t inlines = audit_items(&a, &s->fresh) + audit_items(&a, &s->viewed), held = 0;
    for (size_t i = 0; i < s->waiting_count; i++)
        inlines += audit_items(&a, &s->waiting[i].items);
    for (size_t i = 0; i < s->held_count; i++)
        held += memdb_items_count(&s->held[i].items);
    expect(&a, a.blocks == memdb_arena_blocks(s->arena), "blocks are allocated that nothing refers to");
    expect(&a, memdb_arena_audit(s->arena) == 0, "the allocator's books do not balance");
    expect(&a, a.cells == s->cells && a.cells == s->hash.live, "the number of cells is wrong");
    expect(&a, dead_slots(&s->hash) == s->hash.dead, "the number of the hash index's tombstones is wrong");
    expect(&a, a.versions == s->versions, "the number of versions is wrong");
    expect(&a, a.nodes == s->list.nodes && a.leaves == s->list.blocks, "the number of nodes or blocks is wrong");
    expect(&a, a.queued == memdb_items_count(&s->queue), "queued cells and the queue differ");
    expect(&a, a.expiring == s->expiry.expiring, "the number of keys with an expiry is wrong");
    expect(&a, a.held == held, "held versions and their lists differ");
    expect(&a, a.busy == inlines, "inline versions in grace and their lists differ");
    free(a.seen);
    return a.problems ? MEMDB_DAMAGED : MEMDB_OK;
}
