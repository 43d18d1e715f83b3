/* verify.c: a reader's check of the whole structure at one snapshot.
 *
 * Owns: nothing. Any thread with an active pin, beside a working writer: what is checked holds at every moment (order, bounds,
 * prefixes, towers), or for keys that the pin sees (the hash index finds them). Void if the pin turns out revoked.
 */
#include "skiplist.h"
#include "store.h"

struct check {
    memdb_pin *pin;
    memdb_problem_fn problem;
    void *arg;
    uint64_t keys, problems;
    uint64_t counts[MEMDB_SPACES];
};

static int report(struct check *c, memdb_ref ref, uint64_t lsn, const char *text)
{
    c->problems++;
    if (c->problem)
        c->problem(c->arg, (uint64_t)ref * MEMDB_GRAIN, lsn, text);
    return MEMDB_DAMAGED;
}

static void check_found(struct check *c, memdb_ref ref, const memdb_a64 *key, uint32_t key_len, uint64_t lsn)
{
    uint64_t words[MEMDB_KEY_MAX / 8 + 1];
    memdb_copy_out(words, key, key_len);
    memdb_probe probe = memdb_probe_of(words, key_len);
    const struct memdb_cell *cell;
    memdb_ref at = 0;
    uint32_t key_room;
    uint64_t hash = memdb_hash_key(words, key_len, c->pin->view.header->hash_seed);
    int status = memdb_hash_find(&c->pin->view, hash, &probe, &at, &cell, &key_room);
    if (status != MEMDB_OK || at != ref)
        report(c, ref, lsn, "key is in the ordered index, but the hash index does not find it");
}

static void check_version(struct check *c, memdb_ref ref, const struct memdb_cell *cell, uint32_t key_room)
{
    memdb_version_at version;
    int status = memdb_cell_version(&c->pin->view, ref, cell, key_room, c->pin->lsn, &version);
    if (status == MEMDB_DAMAGED)
        report(c, ref, 0, "version chain is damaged");
    if (status != MEMDB_OK || version.size_flags & MEMDB_TOMBSTONE)
        return;
    const memdb_a64 *key = memdb_cell_key(cell);
    uint32_t key_len = memdb_cell_key_len(key_room);
    c->counts[(memdb_stored_word(key, 0) >> 56) % MEMDB_SPACES]++;
    c->keys += version.expires_us == 0 || version.expires_us > memdb_pin_time(c->pin);
    if (key_len == 0 || key_len > MEMDB_KEY_MAX)
        report(c, ref, version.lsn, "length of a key is impossible");
    else
        check_found(c, ref, key, key_len, version.lsn);
}

/* Keys rise, lie within [lower, upper), and the prefixes of the block are theirs. */
static int check_block(struct check *c, const memdb_leaf *leaf, const memdb_node_at *node, const memdb_node_at *next)
{
    const memdb_a64 *before = node->lower;
    uint32_t before_len = node->lower_len;
    for (uint32_t i = 0; i < leaf->count; i++) {
        memdb_ref ref = memdb_load_relaxed(&leaf->cells[i]);
        uint32_t key_room;
        const struct memdb_cell *cell = memdb_cell_at(&c->pin->view, ref, &key_room);
        if (!cell)
            return report(c, leaf->block, 0, "block refers to a cell outside of the arena");
        const memdb_a64 *key = memdb_cell_key(cell);
        uint32_t key_len = memdb_cell_key_len(key_room);
        int order = memdb_stored_order(before, before_len, key, key_len);
        if (order > 0 || (order == 0 && i > 0))
            return report(c, ref, 0, "keys of a block do not rise");
        if (next && memdb_stored_order(key, key_len, next->lower, next->lower_len) >= 0)
            return report(c, ref, 0, "key lies behind its block's range");
        if (memdb_stored_prefix(key, key_len, leaf->common) != memdb_load_relaxed(&leaf->prefixes[i]))
            return report(c, leaf->block, 0, "prefix in a block is not its key's");
        check_version(c, ref, cell, key_room);
        before = key;
        before_len = key_len;
    }
    return MEMDB_OK;
}

static int check_leaves(struct check *c)
{
    const memdb_view *view = &c->pin->view;
    memdb_ref ref = memdb_load_relaxed(&view->header->head);
    memdb_node_at node, next;
    memdb_leaf leaf;
    if (!memdb_node_open(view, ref, &node) || node.lower_len != 0)
        return report(c, ref, 0, "first header is damaged");
    for (;;) {
        if (!memdb_leaf_open(view, ref, memdb_load_acquire(&node.node->block) /* SYNC: block-swap */, &leaf))
            return report(c, ref, 0, "block is damaged");
        if (leaf.next && !memdb_node_open(view, leaf.next, &next))
            return report(c, leaf.next, 0, "header is damaged");
        if (leaf.next && memdb_stored_order(node.lower, node.lower_len, next.lower, next.lower_len) >= 0)
            return report(c, leaf.next, 0, "lower bounds of headers do not rise");
        int status = check_block(c, &leaf, &node, leaf.next ? &next : NULL);
        if (status != MEMDB_OK || leaf.next == 0)
            return status;
        ref = leaf.next;
        node = next;
    }
}

static void check_level(struct check *c, uint32_t level)
{
    const memdb_view *view = &c->pin->view;
    memdb_ref ref = memdb_load_relaxed(&view->header->head), right;
    memdb_node_at node, next;
    if (!memdb_node_open(view, ref, &node) || node.height <= level)
        return;
    while ((right = memdb_load_acquire(&node.tower[level - 1])) != 0) { /* SYNC: tower-link */
        if (!memdb_node_open(view, right, &next) || next.height <= level) {
            report(c, right, 0, "tower links to what is no header of its height");
            return;
        }
        if (memdb_stored_order(node.lower, node.lower_len, next.lower, next.lower_len) >= 0) {
            report(c, right, 0, "lower bounds of a tower's level do not rise");
            return;
        }
        node = next;
    }
}

int memdb_store_verify(memdb_pin *pin, memdb_problem_fn problem, void *arg, uint64_t *keys)
{
    struct check c = {.pin = pin, .problem = problem, .arg = arg};
    check_leaves(&c);
    for (uint32_t level = 1; level < MEMDB_HEIGHT_MAX; level++)
        check_level(&c, level);
    bool counted = c.problems == 0;
    for (unsigned space = 0; space < MEMDB_SPACES; space++)
        counted = counted && c.counts[space] == memdb_load_relaxed(&pin->view.header->counts[space]);
    /* The counts are of `published`: they say nothing about an older pin, nor beside a publish. */
    if (!counted && c.problems == 0 && memdb_load_sc(&pin->view.header->published) == pin->lsn &&
        memdb_load_relaxed(&pin->view.header->ready) == 1 && memdb_load_relaxed(&pin->view.header->applied) == pin->lsn)
        report(&c, 0, pin->lsn, "number of keys in the header is not what the index holds");
    *keys = c.keys;
    return c.problems ? MEMDB_DAMAGED : MEMDB_OK;
}
