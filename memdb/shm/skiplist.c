/* skiplist.c: searching (any thread inside a pin), inserting and removing (commit thread) in the ordered index.
 *
 * Owns: how blocks are copied, split and dropped. See skiplist.h for the invariants and the orders.
 */
#include "skiplist.h"

#include <assert.h>

/* ---------------------------------------------------------------- searching ---------------------------- */

static bool passes(const memdb_node_at *at, const memdb_probe *key, bool strict)
{
    int order = memdb_stored_compare(at->lower, at->lower_len, key);
    return order < 0 || (order == 0 && !strict);
}

static void hint(const memdb_view *view, memdb_ref ref)
{
    __builtin_prefetch(view->base + (uint64_t)ref * MEMDB_GRAIN); /* never faults, wherever a damaged reference points */
}

/* Where the search goes if it does not go right: a level down, at last into the block. Asked for before it is known. */
static void hint_below(const memdb_view *view, const memdb_node_at *node, uint32_t level)
{
    hint(view, memdb_load_relaxed(level > 1 ? &node->tower[level - 2] : &node->node->block));
}

static void hint_leaf(const memdb_leaf *leaf)
{
    const uint8_t *at = (const uint8_t *)leaf->prefixes, *end = (const uint8_t *)(leaf->cells + leaf->count);
    for (; at < end; at += 64)
        __builtin_prefetch(at);
}

static int against_common(const memdb_leaf *leaf, const memdb_probe *key);

/* The key is smaller than the leaf's last one, so it belongs here whatever the next header's bound is. Saves the miss on that
 * header for nearly every search; equal prefixes say nothing. */
static bool ends_behind(const memdb_leaf *leaf, const memdb_probe *key)
{
    if (leaf->count == 0)
        return false;
    int side = against_common(leaf, key);
    return side < 0 || (side == 0 && memdb_probe_prefix(key, leaf->common) < memdb_load_relaxed(&leaf->prefixes[leaf->count - 1]));
}

int memdb_list_descend(const memdb_view *view, const memdb_probe *key, bool strict, memdb_ref preds[MEMDB_HEIGHT_MAX],
                       memdb_leaf *leaf)
{
    memdb_ref ref = memdb_load_relaxed(&view->header->head); /* constant since before `ready` */
    memdb_node_at node, next;
    if (!memdb_node_open(view, ref, &node) || node.height != MEMDB_HEIGHT_MAX)
        return MEMDB_DAMAGED;
    uint32_t level = memdb_load_relaxed(&view->header->height);
    if (level > MEMDB_HEIGHT_MAX || level == 0)
        level = MEMDB_HEIGHT_MAX;
    for (uint32_t above = level; preds && above < MEMDB_HEIGHT_MAX; above++)
        preds[above] = ref;
    uint64_t steps = view->size / 32; /* more headers do not fit: a ring of damaged links ends here */
    while (--level > 0) {
        for (;; steps--) {
            if (steps == 0 || level >= node.height)
                return MEMDB_DAMAGED;
            memdb_ref right = memdb_load_acquire(&node.tower[level - 1]); /* SYNC: tower-link */
            hint_below(view, &node, level);
            if (right == 0)
                break;
            if (!memdb_node_open(view, right, &next))
                return MEMDB_DAMAGED;
            if (!passes(&next, key, strict))
                break;
            ref = right;
            node = next;
        }
        if (preds)
            preds[level] = ref;
    }
    for (;; steps--) {
        if (steps == 0 || !memdb_leaf_open(view, ref, memdb_load_acquire(&node.node->block) /* SYNC: block-swap */, leaf))
            return MEMDB_DAMAGED;
        hint_leaf(leaf);
        if (leaf->next == 0 || ends_behind(leaf, key))
            break;
        if (!memdb_node_open(view, leaf->next, &next))
            return MEMDB_DAMAGED;
        if (!passes(&next, key, strict))
            break;
        ref = leaf->next;
        node = next;
    }
    if (preds)
        preds[0] = ref;
    return MEMDB_OK;
}

/* Key against the common prefix of a block: < 0 all keys are greater, > 0 all are smaller, 0 decided behind it. */
static int against_common(const memdb_leaf *leaf, const memdb_probe *key)
{
    for (uint32_t i = 0; i * 8 < leaf->common; i++) {
        uint32_t bytes = leaf->common - i * 8 < 8 ? leaf->common - i * 8 : 8;
        uint64_t mask = bytes == 8 ? UINT64_MAX : ~(UINT64_MAX >> bytes * 8);
        uint64_t sought = memdb_probe_word(key, i) & mask, common = memdb_stored_word(leaf->common_words, i) & mask;
        if (sought != common)
            return sought < common ? -1 : 1;
    }
    return key->len < leaf->common ? -1 : 0;
}

/* First of [low, low + count) whose prefix is >= value (above: > value). */
static uint32_t bound(const memdb_a64 *prefixes, uint32_t low, uint32_t count, uint64_t value, bool above)
{
    while (count > 0) {
        uint32_t half = count / 2;
        uint64_t prefix = memdb_load_relaxed(&prefixes[low + half]);
        bool right = above ? prefix <= value : prefix < value;
        low = right ? low + half + 1 : low;
        count = right ? count - half - 1 : half;
    }
    return low;
}

int memdb_leaf_search(const memdb_view *view, const memdb_leaf *leaf, const memdb_probe *key, uint32_t *position, bool *equal)
{
    *equal = false;
    int side = against_common(leaf, key);
    if (side != 0) {
        *position = side < 0 ? 0 : leaf->count;
        return MEMDB_OK;
    }
    uint64_t prefix = memdb_probe_prefix(key, leaf->common);
    uint32_t low = bound(leaf->prefixes, 0, leaf->count, prefix, false);
    uint32_t end = low;
    if (low < leaf->count && memdb_load_relaxed(&leaf->prefixes[low]) == prefix)
        end = bound(leaf->prefixes, low, leaf->count - low, prefix, true);
    while (low < end) { /* same eight bytes: whole keys decide */
        uint32_t half = low + (end - low) / 2, key_room;
        const struct memdb_cell *cell = memdb_cell_at(view, memdb_load_relaxed(&leaf->cells[half]), &key_room);
        if (!cell)
            return MEMDB_DAMAGED;
        int order = memdb_stored_compare(memdb_cell_key(cell), memdb_cell_key_len(key_room), key);
        if (order == 0) {
            *position = half;
            *equal = true;
            return MEMDB_OK;
        }
        if (order < 0)
            low = half + 1;
        else
            end = half;
    }
    *position = low;
    return MEMDB_OK;
}

/* ---------------------------------------------------------------- drafts ------------------------------- */

static void key_of(memdb_list *list, memdb_ref cell, const memdb_a64 **words, uint32_t *len)
{
    const struct memdb_cell *at = memdb_arena_at(list->arena, cell);
    *words = memdb_cell_key(at);
    *len = memdb_cell_key_len(memdb_load_relaxed(&at->key_room));
}

static void draft_load(memdb_draft *draft, const memdb_leaf *leaf)
{
    draft->count = leaf->count;
    draft->common = leaf->common;
    for (uint32_t i = 0; i * 8 < leaf->common; i++)
        draft->common_words[i] = memdb_load_relaxed(&leaf->common_words[i]);
    for (uint32_t i = 0; i < leaf->count; i++) {
        draft->prefixes[i] = memdb_load_relaxed(&leaf->prefixes[i]);
        draft->cells[i] = memdb_load_relaxed(&leaf->cells[i]);
    }
}

static uint64_t bytes_at(const uint8_t *bytes, uint32_t at, uint32_t end)
{
    uint64_t word = 0;
    if (at < end)
        memcpy(&word, bytes + at, end - at < 8 ? end - at : 8);
    return memdb_big_endian(word);
}

/* Shortens the common prefix: what is cut moves to the front of every entry's prefix. No key is read. */
static void draft_shorten(memdb_draft *draft, uint32_t common)
{
    const uint8_t *old = (const uint8_t *)draft->common_words;
    uint32_t cut = draft->common - common;
    uint64_t front = bytes_at(old, common, draft->common);
    for (uint32_t i = 0; i < draft->count; i++)
        draft->prefixes[i] = cut >= 8 ? front : front | draft->prefixes[i] >> cut * 8;
    uint8_t *bytes = (uint8_t *)draft->common_words;
    memset(bytes + common, 0, draft->common - common);
    draft->common = common;
}

/* Makes the common prefix as long as the first and last key allow; reads each key behind it. */
void memdb_draft_tighten(memdb_list *list, memdb_draft *draft)
{
    const memdb_a64 *first, *last;
    uint32_t first_len, last_len;
    if (draft->count < 2)
        return;
    key_of(list, draft->cells[0], &first, &first_len);
    key_of(list, draft->cells[draft->count - 1], &last, &last_len);
    size_t shared = memdb_stored_shared(first, first_len, last, last_len);
    uint32_t common = shared > MEMDB_COMMON_MAX ? MEMDB_COMMON_MAX : (uint32_t)shared;
    memset(draft->common_words, 0, sizeof draft->common_words);
    memdb_copy_out(draft->common_words, first, common);
    draft->common = common;
    for (uint32_t i = 0; i < draft->count; i++) {
        const memdb_a64 *words;
        uint32_t len;
        key_of(list, draft->cells[i], &words, &len);
        draft->prefixes[i] = memdb_stored_prefix(words, len, common);
    }
}

/* Tightens only if the first and last prefix agree so far that less than half of the prefixes' bytes tell keys apart. */
static void draft_tighten_if_dull(memdb_list *list, memdb_draft *draft)
{
    if (draft->count >= 2 && draft->common < MEMDB_COMMON_MAX &&
        (draft->prefixes[0] ^ draft->prefixes[draft->count - 1]) >> 32 == 0)
        memdb_draft_tighten(list, draft);
}

static uint32_t shared_with_common(const memdb_draft *draft, const memdb_probe *key)
{
    const uint8_t *bytes = (const uint8_t *)draft->common_words;
    uint32_t i = 0;
    while (i < draft->common && i < key->len && bytes[i] == key->bytes[i])
        i++;
    return i;
}

static void draft_insert(memdb_draft *draft, uint32_t position, const memdb_probe *key, memdb_ref cell)
{
    uint32_t common = shared_with_common(draft, key);
    if (common < draft->common)
        draft_shorten(draft, common);
    uint32_t behind = draft->count - position;
    memmove(draft->prefixes + position + 1, draft->prefixes + position, behind * sizeof *draft->prefixes);
    memmove(draft->cells + position + 1, draft->cells + position, behind * sizeof *draft->cells);
    draft->prefixes[position] = memdb_probe_prefix(key, draft->common);
    draft->cells[position] = cell;
    draft->count++;
}

memdb_ref memdb_draft_store(memdb_list *list, const memdb_draft *draft, uint32_t from, uint32_t to, memdb_ref next)
{
    uint32_t count = to - from;
    memdb_ref ref = memdb_arena_alloc(list->arena, memdb_block_bytes(count, draft->common));
    if (!ref)
        return 0;
    struct memdb_block *block = memdb_arena_at(list->arena, ref);
    memdb_store_relaxed(&block->count_common, count | draft->common << 16);
    memdb_store_relaxed(&block->next, next);
    memdb_a64 *words = (memdb_a64 *)(block + 1);
    memdb_copy_in(words, draft->common_words, draft->common);
    words += memdb_words(draft->common);
    for (uint32_t i = 0; i < count; i++)
        memdb_store_relaxed(&words[i], draft->prefixes[from + i]);
    memdb_a32 *cells = (memdb_a32 *)(words + count);
    for (uint32_t i = 0; i < count; i++)
        memdb_store_relaxed(&cells[i], draft->cells[from + i]);
    if (count % 2)
        memdb_store_relaxed(&cells[count], 0);
    list->blocks++;
    return ref;
}

/* ---------------------------------------------------------------- nodes -------------------------------- */

/* Every header has a tower: a step at level 0 costs a block besides a header, steps above only a header. From there on each
 * level has a quarter of the one below. */
static uint32_t random_height(memdb_list *list)
{
    list->random ^= list->random << 13;
    list->random ^= list->random >> 7;
    list->random ^= list->random << 17;
    uint32_t height = 2;
    for (uint64_t bits = list->random >> 8; (bits & 3) == 0 && height < MEMDB_HEIGHT_MAX; bits >>= 2)
        height++;
    return height;
}

static memdb_ref new_node(memdb_list *list, uint32_t height, const memdb_a64 *lower, uint32_t lower_len)
{
    memdb_ref ref = memdb_arena_alloc(list->arena, memdb_node_bytes(height, lower_len));
    if (!ref)
        return 0;
    struct memdb_node *node = memdb_arena_at(list->arena, ref);
    memdb_store_relaxed(&node->block, 0);
    memdb_store_relaxed(&node->height_lower, height | lower_len << 16);
    memdb_a32 *tower = (memdb_a32 *)(node + 1);
    for (uint32_t i = 0; i < memdb_words(4 * (height - 1)) * 2; i++)
        memdb_store_relaxed(&tower[i], 0);
    memdb_a64 *words = (memdb_a64 *)(node + 1) + memdb_words(4 * (height - 1));
    for (uint32_t i = 0; i * 8 < lower_len; i++) {
        uint64_t word = memdb_load_relaxed(&lower[i]);
        if (lower_len - i * 8 < 8) { /* zero-pad where the bound ends inside the key */
            uint64_t padded = 0;
            memcpy(&padded, &word, lower_len - i * 8);
            word = padded;
        }
        memdb_store_relaxed(&words[i], word);
    }
    list->nodes++;
    return ref;
}

memdb_ref memdb_list_new_node(memdb_list *list, memdb_ref left_cell, memdb_ref right_cell)
{
    const memdb_a64 *left, *right;
    uint32_t left_len, right_len;
    key_of(list, left_cell, &left, &left_len);
    key_of(list, right_cell, &right, &right_len);
    uint32_t shared = (uint32_t)memdb_stored_shared(left, left_len, right, right_len);
    return new_node(list, random_height(list), right, shared + 1); /* the shortest bound: left < it <= right */
}

int memdb_list_init(memdb_list *list, memdb_arena *arena, memdb_retire retire)
{
    *list = (memdb_list){.arena = arena, .header = memdb_arena_header(arena), .retire = retire};
    list->view = memdb_arena_view(arena);
    list->random = list->header->hash_seed * 2 + 1;
    memdb_draft none = {0};
    memdb_ref head = new_node(list, MEMDB_HEIGHT_MAX, NULL, 0);
    memdb_ref block = memdb_draft_store(list, &none, 0, 0, 0);
    if (!head || !block)
        return MEMDB_FULL;
    struct memdb_node *node = memdb_arena_at(arena, head);
    memdb_store_release(&node->block, block); /* SYNC: block-swap */
    memdb_store_relaxed(&list->header->height, 1);
    memdb_store_relaxed(&list->header->head, head); /* readers come after `ready` */
    return MEMDB_OK;
}

uint64_t memdb_list_insert_cost(void)
{
    uint32_t half = MEMDB_BLOCK_MAX; /* an append leaves the left block full and makes one of a single entry */
    return memdb_arena_rounded(memdb_block_bytes(half, MEMDB_COMMON_MAX)) +
           memdb_arena_rounded(memdb_block_bytes(MEMDB_BLOCK_MAX / 2 + 1, MEMDB_COMMON_MAX));
}

uint64_t memdb_list_node_cost(uint32_t lower_len)
{
    return memdb_arena_rounded(memdb_node_bytes(MEMDB_HEIGHT_MAX, lower_len));
}

static struct memdb_node *node_at(memdb_list *list, memdb_ref ref) { return memdb_arena_at(list->arena, ref); }

/* One release store shows the changed block and its successor; the old block waits for grace. */
static void swap_block(memdb_list *list, const memdb_leaf *leaf, memdb_ref block)
{
    memdb_store_release(&node_at(list, leaf->node)->block, block); /* SYNC: block-swap */
    list->blocks--;
    list->retire.block(list->retire.arg, leaf->block, memdb_block_bytes(leaf->count, leaf->common));
}

static void link_tower(memdb_list *list, memdb_ref ref, const memdb_ref preds[MEMDB_HEIGHT_MAX])
{
    uint32_t height = memdb_load_relaxed(&node_at(list, ref)->height_lower) & 0xff;
    memdb_a32 *tower = (memdb_a32 *)(node_at(list, ref) + 1);
    for (uint32_t level = 1; level < height; level++) {
        memdb_a32 *before = (memdb_a32 *)(node_at(list, preds[level]) + 1);
        memdb_store_relaxed(&tower[level - 1], memdb_load_relaxed(&before[level - 1]));
        memdb_store_release(&before[level - 1], ref); /* SYNC: tower-link */
    }
    if (height > memdb_load_relaxed(&list->header->height))
        memdb_store_relaxed(&list->header->height, height); /* a hint: the head has all levels */
}

static void split(memdb_list *list, const memdb_leaf *leaf, memdb_draft *all, uint32_t position, const memdb_ref preds[MEMDB_HEIGHT_MAX])
{
    bool ascending = position == leaf->count && (leaf->next == 0 || list->appended == leaf->node);
    uint32_t middle = ascending ? leaf->count : all->count / 2;
    memdb_draft right = {.count = all->count - middle, .common = all->common};
    memcpy(right.common_words, all->common_words, sizeof right.common_words);
    memcpy(right.prefixes, all->prefixes + middle, right.count * sizeof *right.prefixes);
    memcpy(right.cells, all->cells + middle, right.count * sizeof *right.cells);
    memdb_ref node = memdb_list_new_node(list, all->cells[middle - 1], all->cells[middle]);
    all->count = middle;
    draft_tighten_if_dull(list, all);
    draft_tighten_if_dull(list, &right);
    memdb_ref right_block = memdb_draft_store(list, &right, 0, right.count, leaf->next);
    memdb_ref left_block = memdb_draft_store(list, all, 0, middle, node);
    assert(node && right_block && left_block); /* reserved (rule C3) */
    memdb_store_relaxed(&node_at(list, node)->block, right_block); /* shown by the swap below */
    swap_block(list, leaf, left_block);
    link_tower(list, node, preds);
    list->appended = ascending ? node : 0;
}

void memdb_list_insert(memdb_list *list, const memdb_probe *key, memdb_ref cell)
{
    memdb_ref preds[MEMDB_HEIGHT_MAX];
    memdb_leaf leaf;
    memdb_draft draft;
    uint32_t position = 0;
    bool equal = false;
    int status = memdb_list_descend(&list->view, key, false, preds, &leaf);
    if (status == MEMDB_OK)
        status = memdb_leaf_search(&list->view, &leaf, key, &position, &equal);
    assert(status == MEMDB_OK && !equal);
    draft_load(&draft, &leaf);
    draft_insert(&draft, position, key, cell);
    if (draft.count > MEMDB_BLOCK_MAX) {
        split(list, &leaf, &draft, position, preds);
        return;
    }
    memdb_ref block = memdb_draft_store(list, &draft, 0, draft.count, leaf.next);
    assert(block); /* reserved (rule C3) */
    swap_block(list, &leaf, block);
    list->appended = position == leaf.count ? leaf.node : 0;
}

/* ---------------------------------------------------------------- removing ----------------------------- */

static int drop_node(memdb_list *list, const memdb_leaf *gone)
{
    memdb_node_at node;
    memdb_ref preds[MEMDB_HEIGHT_MAX];
    memdb_leaf before;
    static const uint8_t none[1];
    if (!memdb_node_open(&list->view, gone->node, &node))
        return MEMDB_DAMAGED;
    /* The bound as a plain key: it lies in arena memory that nobody but the writer changes. */
    memdb_probe lower = memdb_probe_of(node.lower_len ? (const void *)node.lower : none, node.lower_len);
    int status = memdb_list_descend(&list->view, &lower, true, preds, &before);
    if (status != MEMDB_OK || before.next != gone->node)
        return MEMDB_DAMAGED;
    memdb_draft draft = {0};
    draft_load(&draft, &before);
    memdb_ref block = memdb_draft_store(list, &draft, 0, draft.count, gone->next);
    if (!block)
        return MEMDB_FULL;
    for (uint32_t level = node.height - 1; level > 0; level--) {
        memdb_a32 *tower = (memdb_a32 *)(node_at(list, preds[level]) + 1);
        assert(memdb_load_relaxed(&tower[level - 1]) == gone->node);
        memdb_store_release(&tower[level - 1], memdb_load_relaxed(&node.tower[level - 1])); /* SYNC: tower-link */
    }
    swap_block(list, &before, block);
    list->blocks--;
    list->nodes--;
    if (list->appended == gone->node)
        list->appended = 0;
    list->retire.block(list->retire.arg, gone->block, memdb_block_bytes(gone->count, gone->common));
    list->retire.block(list->retire.arg, gone->node, memdb_node_bytes(node.height, node.lower_len));
    return MEMDB_OK;
}

int memdb_list_remove(memdb_list *list, const memdb_probe *key, memdb_ref cell)
{
    memdb_leaf leaf;
    uint32_t position = 0;
    bool equal = false;
    int status = memdb_list_descend(&list->view, key, false, NULL, &leaf);
    if (status == MEMDB_OK)
        status = memdb_leaf_search(&list->view, &leaf, key, &position, &equal);
    if (status != MEMDB_OK)
        return status;
    if (!equal || memdb_load_relaxed(&leaf.cells[position]) != cell)
        return MEMDB_ABSENT;
    if (leaf.count == 1 && leaf.node != memdb_load_relaxed(&list->header->head))
        return drop_node(list, &leaf);
    memdb_draft draft = {0};
    draft_load(&draft, &leaf);
    draft.count--;
    uint32_t behind = draft.count - position;
    memmove(draft.prefixes + position, draft.prefixes + position + 1, behind * sizeof *draft.prefixes);
    memmove(draft.cells + position, draft.cells + position + 1, behind * sizeof *draft.cells);
    memdb_ref block = memdb_draft_store(list, &draft, 0, draft.count, leaf.next);
    if (!block)
        return MEMDB_FULL;
    swap_block(list, &leaf, block);
    return MEMDB_OK;
}
