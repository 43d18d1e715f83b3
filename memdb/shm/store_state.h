/* store_state.h: the writer's private state of one store, shared by store.c, reclaim.c, bulk.c, expiry.c and audit.c.
 *
 * Owns: struct memdb_store; all of it malloc'd memory of the writer's process, so that a dead writer's arena is never
 * written again. Commit thread only.
 *
 * Where a cell or block can wait (each at most once per place):
 *   queue    cells whose chain may have something to prune or move; in order of LSN, worked off up to `published`
 *   held     versions that a pin needs, grouped by the pin; a group goes back to the queue when its pin has gone
 *   fresh    unlinked since the last scan: blocks, and inline versions of cells (bytes 0)
 *   grace    batches of those with the ticket of the scan that followed
 *   viewed   over with grace, but a view's hazard shows them
 */
#ifndef MEMDB_STORE_STATE_H
#define MEMDB_STORE_STATE_H

#include "expiry.h"
#include "ops.h"
#include "skiplist.h"

#define MEMDB_LONG_KEY 256u
#define MEMDB_TICKETS 16u

typedef struct memdb_item {
    uint64_t lsn;   /* queue: nothing to do before this is published */
    memdb_ref ref;
    uint32_t bytes; /* of a block; 0: the inline version of cell `ref`. held: ref of the version */
} memdb_item;

typedef struct memdb_items { /* a list that is filled at the end and emptied from `first` */
    memdb_item *at;
    size_t first, end, cap;
} memdb_items;

typedef struct memdb_held {
    uint64_t holder; /* memdb_scanner_holder() */
    uint64_t bytes;
    memdb_items items; /* ref: cell; bytes: version ref or MEMDB_INLINE */
} memdb_held;

typedef struct memdb_waiting {
    memdb_grace *ticket;
    memdb_items items;
} memdb_waiting;

typedef struct memdb_delta { /* counts of one commit that is not yet published */
    uint64_t lsn;
    int64_t counts[MEMDB_SPACES];
} memdb_delta;

struct memdb_store {
    memdb_arena *arena;
    struct memdb_arena_header *header;
    memdb_view view;
    memdb_scanner *scanner;
    memdb_hash hash;
    memdb_list list;
    uint64_t published, applied, time_floor;
    int64_t counts[MEMDB_SPACES]; /* as of published */
    memdb_delta *deltas;
    size_t delta_first, delta_end, delta_cap;
    memdb_items queue, fresh, viewed;
    memdb_held *held;
    size_t held_count, held_cap;
    memdb_waiting waiting[MEMDB_TICKETS];
    size_t waiting_count;
    memdb_expiry expiry;
    uint64_t retired_bytes, cells, versions, long_keys;
    uint32_t longest_key;
    bool serving;                /* opened: until then the header's published stays 0, so that no reader pins a half-built arena */
    bool unlinked;               /* something was unlinked since `published` was last stored */
    struct memdb_bulk *bulk;     /* while a new generation is built */
    uint8_t *scratch;            /* one key */
};

void memdb_items_push(memdb_items *, memdb_item item);
static inline size_t memdb_items_count(const memdb_items *items) { return items->end - items->first; }
void memdb_items_free(memdb_items *);

static inline struct memdb_cell *memdb_store_cell(memdb_store *s, memdb_ref ref) { return memdb_arena_at(s->arena, ref); }
/* A version of a cell by its reference in the chain. */
static inline struct memdb_version *memdb_store_version(memdb_store *s, memdb_ref cell, memdb_ref ref)
{
    return ref == MEMDB_INLINE ? &memdb_store_cell(s, cell)->inline_version : memdb_arena_at(s->arena, ref);
}
static inline void memdb_cell_mark(struct memdb_cell *cell, uint32_t clear, uint32_t set)
{
    memdb_store_relaxed(&cell->key_room, (memdb_load_relaxed(&cell->key_room) & ~clear) | set);
}

void memdb_store_retire(void *store, memdb_ref ref, uint64_t bytes); /* unlinked: free it after grace */
void memdb_store_queue(memdb_store *, memdb_ref cell, uint64_t lsn); /* unless it is queued already */
void memdb_store_count_change(memdb_store *, uint8_t space, uint64_t lsn, int64_t change);
memdb_ref memdb_store_new_cell(memdb_store *, const memdb_probe *key, const void *value, size_t value_len, uint64_t expires_us,
                               uint64_t lsn); /* whole, in no index; 0: no memory */

#endif
