/* Rule I1: a leaf is split: one release store of the kernel's swap_block shows the left block and, through its link, the right one. A reader
 * that opens the leaf finds both keys. GENMC-CFLAGS: -O0 */
#include "kernel.h"

#include "../../../memdb/shm/skiplist.c"

static struct {
    struct memdb_arena_header header;
    struct memdb_node head;
    memdb_a64 head_tower;
    struct memdb_node right;
    memdb_a64 right_tower;
    struct memdb_block before;
    memdb_a64 before_keys[3];
    memdb_a64 room[8];
    uint64_t end;
} arena;
#define REF(field) ((memdb_ref)(offsetof(__typeof__(arena), field) / MEMDB_GRAIN))
#define NEW(i) ((memdb_ref)(offsetof(__typeof__(arena), room) / MEMDB_GRAIN + 2 * (i))) /* of 32 bytes each */
_Static_assert((offsetof(__typeof__(arena), head) | offsetof(__typeof__(arena), right) | offsetof(__typeof__(arena), before) |
                offsetof(__typeof__(arena), room)) % MEMDB_GRAIN == 0, "references");

static memdb_list list;
static memdb_view view;
static unsigned handed_out;

void *memdb_arena_at(memdb_arena *at, memdb_ref ref)
{
    (void)at;
    if (ref == REF(head))
        return &arena.head;
    if (ref == REF(right))
        return &arena.right;
    return &arena.room[ref == NEW(0) ? 0 : 4];
}

memdb_ref memdb_arena_alloc(memdb_arena *at, uint64_t bytes)
{
    assert(at == NULL && bytes <= 32);
    return NEW(handed_out++);
}

static void retire(void *arg, memdb_ref ref, uint64_t bytes) { (void)arg, (void)ref, (void)bytes; }

static void *reader(void *unused)
{
    memdb_leaf leaf;
    assert(memdb_leaf_of(&view, REF(head), &leaf));
    uint64_t keys = 0;
    for (uint32_t i = 0; i < leaf.count && i < 2; i++)
        keys += memdb_load_relaxed(&leaf.prefixes[i]);
    if (leaf.next != 0) {
        assert(memdb_leaf_of(&view, leaf.next, &leaf));
        keys += memdb_load_relaxed(&leaf.prefixes[0]);
    }
    assert(keys == 3); /* 1 and 2, each once */
    return unused;
}

static void *writer(void *unused)
{
    static memdb_draft both;
    memdb_leaf leaf;
    both.count = 2;
    both.prefixes[0] = 1;
    both.prefixes[1] = 2;
    leaf.node = REF(head);
    leaf.block = REF(before);
    leaf.count = 2;
    leaf.common = 0;
    memdb_ref right = memdb_draft_store(&list, &both, 1, 2, 0);
    memdb_store_relaxed(&arena.right.block, right); /* as split() does: shown by the swap */
    memdb_ref left = memdb_draft_store(&list, &both, 0, 1, REF(right));
    swap_block(&list, &leaf, left);
    return unused;
}

int main(void)
{
    list.retire.block = retire;
    view.base = (const uint8_t *)&arena;
    view.size = sizeof arena;
    memdb_store_relaxed(&arena.head.height_lower, 2);
    memdb_store_relaxed(&arena.right.height_lower, 2);
    memdb_store_relaxed(&arena.before.count_common, 2);
    memdb_store_relaxed(&arena.before_keys[0], 1);
    memdb_store_relaxed(&arena.before_keys[1], 2);
    memdb_store_relaxed(&arena.head.block, REF(before));
    run2(reader, writer);
    return 0;
}
