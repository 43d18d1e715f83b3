/* skiplist.h: the ordered index: headers with towers over immutable leaf blocks (rule I1).
 *
 * Owns: nodes and blocks in the arena. Readers: memdb_list_descend and the leaf functions, any thread inside a pin.
 * Writer: insert and remove, commit thread only.
 *
 * Invariants:
 *  - A node owns the keys in [lower, next.lower); the link at level 0 is inside its block, so one release store of
 *    node.block (SYNC: block-swap) shows a changed block together with its successor.
 *  - A new node is whole before the block that links it is stored; towers are linked afterwards, bottom up (SYNC:
 *    tower-link), and unlinked top down before level 0. So a node that a tower shows is on level 0 or was a moment ago.
 *  - Within one search: a node's block is loaded once, with acquire, and `next` is taken from that block.
 */
#ifndef MEMDB_SKIPLIST_H
#define MEMDB_SKIPLIST_H

#include "hashindex.h"

typedef struct memdb_node_at { /* a header, checked to lie inside the arena */
    const struct memdb_node *node;
    const memdb_a32 *tower;
    const memdb_a64 *lower;
    uint32_t height, lower_len;
} memdb_node_at;

typedef struct memdb_leaf { /* a block, likewise */
    memdb_ref node, block, next;
    uint32_t count, common;
    const memdb_a64 *common_words, *prefixes;
    const memdb_a32 *cells;
} memdb_leaf;

static inline uint64_t memdb_node_bytes(uint32_t height, uint32_t lower_len)
{
    return sizeof(struct memdb_node) + 8 * (uint64_t)memdb_words(4 * (height - 1)) + 8 * (uint64_t)memdb_words(lower_len);
}

static inline uint64_t memdb_block_bytes(uint32_t count, uint32_t common)
{
    return sizeof(struct memdb_block) + 8 * ((uint64_t)memdb_words(common) + count + memdb_words(4 * count));
}

static inline bool memdb_node_open(const memdb_view *view, memdb_ref ref, memdb_node_at *at)
{
    const struct memdb_node *node = memdb_view_at(view, ref, sizeof *node);
    if (!node)
        return false;
    uint32_t word = memdb_load_relaxed(&node->height_lower);
    at->node = node;
    at->height = word & 0xff;
    at->lower_len = word >> 16;
    if (at->height == 0 || at->height > MEMDB_HEIGHT_MAX || !memdb_view_at(view, ref, memdb_node_bytes(at->height, at->lower_len)))
        return false;
    at->tower = (const memdb_a32 *)(node + 1);
    at->lower = (const memdb_a64 *)(node + 1) + memdb_words(4 * (at->height - 1));
    return true;
}

static inline bool memdb_leaf_open(const memdb_view *view, memdb_ref node, memdb_ref ref, memdb_leaf *leaf)
{
    const struct memdb_block *block = memdb_view_at(view, ref, sizeof *block);
    if (!block)
        return false;
    uint32_t word = memdb_load_relaxed(&block->count_common);
    leaf->node = node;
    leaf->block = ref;
    leaf->count = word & 0xffff;
    leaf->common = word >> 16;
    leaf->next = memdb_load_relaxed(&block->next); /* ordered by the acquire of node.block */
    if (leaf->count > MEMDB_BLOCK_MAX || leaf->common > MEMDB_COMMON_MAX ||
        !memdb_view_at(view, ref, memdb_block_bytes(leaf->count, leaf->common)))
        return false;
    leaf->common_words = (const memdb_a64 *)(block + 1);
    leaf->prefixes = leaf->common_words + memdb_words(leaf->common);
    leaf->cells = (const memdb_a32 *)(leaf->prefixes + leaf->count);
    return true;
}

static inline bool memdb_leaf_of(const memdb_view *view, memdb_ref node, memdb_leaf *leaf)
{
    memdb_node_at at;
    return memdb_node_open(view, node, &at) &&
           memdb_leaf_open(view, node, memdb_load_acquire(&at.node->block) /* SYNC: block-swap */, leaf);
}

/* The leaf whose node has the greatest lower bound <= key (strict: < key; the head's counts as smaller than all).
 * preds (may be NULL): the last node of each level that was passed. OK or DAMAGED. */
int memdb_list_descend(const memdb_view *view, const memdb_probe *key, bool strict, memdb_ref preds[MEMDB_HEIGHT_MAX],
                       memdb_leaf *leaf);
/* Position of the first key >= key; equal: it is there. OK or DAMAGED. */
int memdb_leaf_search(const memdb_view *view, const memdb_leaf *leaf, const memdb_probe *key, uint32_t *position, bool *equal);

/* ---- the writer's side ---- */

typedef struct memdb_list {
    memdb_arena *arena;
    struct memdb_arena_header *header;
    memdb_view view;
    memdb_retire retire;
    uint64_t random;
    memdb_ref appended;      /* node whose end got the last insert: ascending loads keep the left block full */
    uint64_t nodes, blocks;
} memdb_list;

int memdb_list_init(memdb_list *, memdb_arena *, memdb_retire);
void memdb_list_insert(memdb_list *, const memdb_probe *key, memdb_ref cell); /* key is not in; reserved */
int memdb_list_remove(memdb_list *, const memdb_probe *key, memdb_ref cell);  /* OK, FULL (nothing changed), ABSENT */
uint64_t memdb_list_insert_cost(void);                                        /* blocks of one insert */
uint64_t memdb_list_node_cost(uint32_t lower_len);                            /* header of one split */

/* For bulk.c: blocks and nodes while no reader is there. */
typedef struct memdb_draft { /* a block under construction */
    uint32_t count, common;
    uint64_t common_words[MEMDB_COMMON_MAX / 8];
    uint64_t prefixes[MEMDB_BLOCK_MAX + 1];
    memdb_ref cells[MEMDB_BLOCK_MAX + 1];
} memdb_draft;
void memdb_draft_tighten(memdb_list *, memdb_draft *);                                  /* the longest common prefix */
memdb_ref memdb_draft_store(memdb_list *, const memdb_draft *, uint32_t from, uint32_t to, memdb_ref next);
memdb_ref memdb_list_new_node(memdb_list *, memdb_ref left_cell, memdb_ref right_cell); /* lower bound between both keys */

#endif
