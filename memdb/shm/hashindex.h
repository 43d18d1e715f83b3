/* hashindex.h: from a key to its cell in one probe (rule I2).
 *
 * Owns: hash tables in the arena. Readers: memdb_hash_find, any thread inside a pin. Writer: the rest, commit thread only.
 *
 * Invariants:
 *  - header->hash holds the current table and, while it is being filled, the old one, in one word (SYNC: hash-word). A
 *    reader probes the current one and then the old one. Nothing is removed from the old one by copying, inserts go to
 *    the current one only, so a reader that holds an older word still finds every key that its S can see.
 *  - A slot is stored (release, SYNC: hash-slot) after its cell is whole. A key removed becomes a tombstone in both tables
 *    before its cell is retired, so no slot ever points to memory that was reused.
 *  - Live slots + tombstones <= 3/4 of the table, so every probe of a sound table ends at an empty slot.
 */
#ifndef MEMDB_HASHINDEX_H
#define MEMDB_HASHINDEX_H

#include "cell.h"

typedef struct memdb_table {
    const memdb_a64 *slots;
    uint64_t mask;
} memdb_table;

static inline uint32_t memdb_hash_tag(uint64_t hash) { return (uint32_t)(hash >> 32); }

static inline bool memdb_table_open(const memdb_view *view, memdb_ref ref, memdb_table *table)
{
    const struct memdb_hash_table *at = memdb_view_at(view, ref, sizeof *at);
    if (!at)
        return false;
    table->mask = memdb_load_relaxed(&at->mask);
    table->slots = (const memdb_a64 *)(at + 1);
    return table->mask < UINT32_MAX && (table->mask & (table->mask + 1)) == 0 &&
           memdb_view_at(view, ref, sizeof *at + 8 * (table->mask + 1));
}

/* OK, ABSENT, or DAMAGED. */
static inline int memdb_table_find(const memdb_view *view, const memdb_table *table, uint32_t tag, const memdb_probe *key,
                                   memdb_ref *ref, const struct memdb_cell **cell, uint32_t *key_room)
{
    uint64_t at = tag & table->mask;
    for (uint64_t n = 0; n <= table->mask; n++, at = (at + 1) & table->mask) {
        uint64_t slot = memdb_load_acquire(&table->slots[at]); /* SYNC: hash-slot */
        if (slot == 0)
            return MEMDB_ABSENT;
        if (slot >> 32 != tag || (memdb_ref)slot <= 1)
            continue;
        const uint8_t *line = view->base + (slot & UINT32_MAX) * MEMDB_GRAIN;
        __builtin_prefetch(line + 64); /* the value lies behind the key: overlap its cache misses */
        __builtin_prefetch(line + 128);
        const struct memdb_cell *found = memdb_cell_at(view, (memdb_ref)slot, key_room);
        if (!found)
            return MEMDB_DAMAGED;
        if (memdb_stored_equals(memdb_cell_key(found), memdb_cell_key_len(*key_room), key)) {
            *ref = (memdb_ref)slot;
            *cell = found;
            return MEMDB_OK;
        }
    }
    return MEMDB_DAMAGED;
}

static inline int memdb_hash_find(const memdb_view *view, uint64_t hash, const memdb_probe *key, memdb_ref *ref,
                                  const struct memdb_cell **cell, uint32_t *key_room)
{
    memdb_table table;
    uint64_t word = memdb_load_acquire(&view->header->hash); /* SYNC: hash-word */
    uint32_t tag = memdb_hash_tag(hash);
    if (!memdb_table_open(view, (memdb_ref)word, &table))
        return MEMDB_DAMAGED;
    int status = memdb_table_find(view, &table, tag, key, ref, cell, key_room);
    if (status != MEMDB_ABSENT || word >> 32 == 0)
        return status;
    if (!memdb_table_open(view, (memdb_ref)(word >> 32), &table))
        return MEMDB_DAMAGED;
    return memdb_table_find(view, &table, tag, key, ref, cell, key_room);
}

/* ---- the writer's side ---- */

typedef struct memdb_retire { /* where unlinked blocks go until grace is over */
    void (*block)(void *arg, memdb_ref ref, uint64_t bytes);
    void *arg;
} memdb_retire;

typedef struct memdb_hash {
    memdb_arena *arena;
    struct memdb_arena_header *header;
    memdb_retire retire;
    memdb_ref current, old;
    memdb_a64 *slots, *old_slots;
    uint64_t mask, old_mask;
    uint64_t live, dead;  /* keys in both tables; tombstones in the current one */
    uint64_t moved;       /* slots of the old one that have been copied */
} memdb_hash;

int memdb_hash_init(memdb_hash *, memdb_arena *, memdb_retire, uint64_t expected_keys);
/* Room for that many more keys: may allocate a table and begin to move. OK, FULL, SHM_FULL. */
int memdb_hash_reserve(memdb_hash *, uint64_t new_keys, enum memdb_purpose purpose);
void memdb_hash_insert(memdb_hash *, uint32_t tag, memdb_ref cell); /* key is not in; reserved */
/* Asks for the cache line where the tag's search begins, some keys before it is needed. */
static inline void memdb_hash_hint(const memdb_hash *h, uint32_t tag) { __builtin_prefetch(&h->slots[tag & h->mask], 1); }
bool memdb_hash_remove(memdb_hash *, uint32_t tag, memdb_ref cell); /* false: was not in */
bool memdb_hash_step(memdb_hash *, uint64_t slots);                 /* moves some; true while there is more */
uint64_t memdb_hash_table_bytes(uint64_t mask);

#endif
