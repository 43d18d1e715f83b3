/* hashindex.c: the writer's side of the hash index, and the hash function.
 *
 * Owns: filling, growing and emptying tables. Commit thread only, except memdb_hash_key (pure).
 */
#include "hashindex.h"

#include "store.h"

#define TOMBSTONE UINT64_C(1)
#define STEP 8u /* slots moved with each insert: growth is over long before the new table is full */

/* ---------------------------------------------------------------- the function ------------------------- */

static uint64_t mix(uint64_t a, uint64_t b)
{
    __extension__ typedef unsigned __int128 wide;
    wide product = (wide)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t read64(const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, 8);
    return word;
}

static uint64_t read32(const uint8_t *p)
{
    uint32_t word;
    memcpy(&word, p, 4);
    return word;
}

/* After wyhash (Wang Yi, public domain): folded multiplications; constants from there. */
uint64_t memdb_hash_key(const void *key, size_t len, uint64_t seed)
{
    static const uint64_t s0 = UINT64_C(0x2d358dccaa6c78a5), s1 = UINT64_C(0x8bb84b93962eacc9),
                          s2 = UINT64_C(0x4b33a62ed433d4a3);
    const uint8_t *p = key;
    uint64_t a, b;
    seed ^= mix(seed ^ s0, s1);
    if (len <= 16) {
        if (len >= 4) {
            size_t middle = (len >> 3) << 2;
            a = read32(p) << 32 | read32(p + middle);
            b = read32(p + len - 4) << 32 | read32(p + len - 4 - middle);
        } else if (len > 0) {
            a = (uint64_t)p[0] << 16 | (uint64_t)p[len >> 1] << 8 | p[len - 1];
            b = 0;
        } else {
            a = b = 0;
        }
    } else {
        size_t left = len;
        for (; left > 16; left -= 16, p += 16)
            seed = mix(read64(p) ^ s1, read64(p + 8) ^ seed);
        a = read64(p + left - 16);
        b = read64(p + left - 8);
    }
    return mix(s1 ^ len, mix(a ^ s1, b ^ seed) ^ s2);
}

/* ---------------------------------------------------------------- tables ------------------------------- */

uint64_t memdb_hash_table_bytes(uint64_t mask) { return sizeof(struct memdb_hash_table) + 8 * (mask + 1); }

static uint64_t mask_for(uint64_t keys)
{
    uint64_t slots = 64;
    while (slots < keys * 2)
        slots *= 2;
    return slots - 1;
}

static bool new_table(memdb_hash *h, uint64_t mask)
{
    uint64_t bytes = memdb_hash_table_bytes(mask);
    memdb_ref ref = memdb_arena_alloc(h->arena, bytes);
    if (!ref)
        return false;
    struct memdb_hash_table *table = memdb_arena_at(h->arena, ref);
    memdb_store_relaxed(&table->mask, mask);
    memdb_store_relaxed(&table->bytes, bytes);
    h->current = ref;
    h->slots = (memdb_a64 *)(table + 1);
    h->mask = mask;
    h->dead = 0;
    for (uint64_t i = 0; i <= mask; i++)
        memdb_store_relaxed(&h->slots[i], 0);
    return true;
}

static void show(memdb_hash *h)
{
    uint64_t bytes = memdb_hash_table_bytes(h->mask) + (h->old ? memdb_hash_table_bytes(h->old_mask) : 0);
    memdb_store_relaxed(&h->header->hash_bytes, bytes);
    memdb_store_release(&h->header->hash, (uint64_t)h->old << 32 | h->current); /* SYNC: hash-word */
}

int memdb_hash_init(memdb_hash *h, memdb_arena *arena, memdb_retire retire, uint64_t expected)
{
    *h = (memdb_hash){.arena = arena, .header = memdb_arena_header(arena), .retire = retire};
    uint64_t mask = mask_for(expected);
    int status = memdb_arena_reserve(arena, 0, memdb_hash_table_bytes(mask), MEMDB_FOR_RECOVERY);
    if (status != MEMDB_OK)
        return status;
    if (!new_table(h, mask))
        return MEMDB_FULL;
    show(h);
    return MEMDB_OK;
}

/* The first empty or dead slot: the key is in neither table. */
static void fill(memdb_hash *h, uint64_t entry)
{
    uint64_t at = (entry >> 32) & h->mask, seen;
    while ((seen = memdb_load_relaxed(&h->slots[at])) > TOMBSTONE)
        at = (at + 1) & h->mask;
    h->dead -= seen == TOMBSTONE;
    memdb_store_release(&h->slots[at], entry); /* SYNC: hash-slot */
}

bool memdb_hash_step(memdb_hash *h, uint64_t slots)
{
    if (!h->old)
        return false;
    for (; slots > 0 && h->moved <= h->old_mask; slots--, h->moved++) {
        uint64_t entry = memdb_load_relaxed(&h->old_slots[h->moved]);
        if (entry > TOMBSTONE)
            fill(h, entry);
    }
    if (h->moved <= h->old_mask)
        return true;
    memdb_ref old = h->old;
    h->old = 0;
    show(h);
    h->retire.block(h->retire.arg, old, memdb_hash_table_bytes(h->old_mask));
    return false;
}

int memdb_hash_reserve(memdb_hash *h, uint64_t new_keys, enum memdb_purpose purpose)
{
    if ((h->live + h->dead + new_keys) * 4 <= (h->mask + 1) * 3)
        return MEMDB_OK;
    uint64_t mask = mask_for(h->live + new_keys);
    int status = memdb_arena_reserve(h->arena, 0, memdb_hash_table_bytes(mask), purpose);
    if (status != MEMDB_OK)
        return status;
    memdb_hash_step(h, UINT64_MAX); /* two tables are all a reader looks in */
    memdb_hash before = *h;
    if (!new_table(h, mask)) {
        *h = before;
        return MEMDB_FULL;
    }
    h->old = before.current;
    h->old_slots = before.slots;
    h->old_mask = before.mask;
    h->moved = 0;
    show(h);
    return MEMDB_OK;
}

void memdb_hash_insert(memdb_hash *h, uint32_t tag, memdb_ref cell)
{
    fill(h, (uint64_t)tag << 32 | cell);
    h->live++;
    memdb_hash_step(h, STEP);
}

/* Tombstones before an empty slot serve nobody: a probe that passes them ends there anyway. */
static uint64_t bury(memdb_a64 *slots, uint64_t mask, uint64_t at)
{
    uint64_t emptied = 0;
    memdb_store_relaxed(&slots[at], TOMBSTONE);
    if (memdb_load_relaxed(&slots[(at + 1) & mask]) != 0)
        return 0;
    for (; memdb_load_relaxed(&slots[at]) == TOMBSTONE; at = (at - 1) & mask, emptied++)
        memdb_store_relaxed(&slots[at], 0);
    return emptied;
}

static bool find_slot(const memdb_a64 *slots, uint64_t mask, uint64_t entry, uint64_t *found)
{
    uint64_t seen, at = (entry >> 32) & mask;
    for (; (seen = memdb_load_relaxed(&slots[at])) != 0; at = (at + 1) & mask)
        if (seen == entry) {
            *found = at;
            return true;
        }
    return false;
}

bool memdb_hash_remove(memdb_hash *h, uint32_t tag, memdb_ref cell)
{
    uint64_t at, entry = (uint64_t)tag << 32 | cell;
    bool removed = false;
    if (find_slot(h->slots, h->mask, entry, &at)) {
        uint64_t emptied = bury(h->slots, h->mask, at);
        h->dead = h->dead + 1 - emptied;
        removed = true;
    }
    if (h->old && find_slot(h->old_slots, h->old_mask, entry, &at)) {
        bury(h->old_slots, h->old_mask, at);
        removed = true;
    }
    h->live -= removed;
    return removed;
}
