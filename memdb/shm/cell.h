/* cell.h: key cells and version chains as readers and the writer meet them.
 *
 * Owns: the meaning of key_room and of references inside a chain. Reader functions: any thread inside a pin; every
 * reference is bounds-checked, every chain walk is limited. Marks are stored by the writer only.
 *
 * key_room: key length (16 bits) | room for inline data in words (10) | QUEUED (1) | state of the inline version (2) | expiry (2).
 */
#ifndef MEMDB_CELL_H
#define MEMDB_CELL_H

#include "arena.h"
#include "probe.h"

#define MEMDB_ROOM_SHIFT 16
#define MEMDB_ROOM_MAX 0x3ffu
#define MEMDB_INLINE_DATA_MAX 1024u     /* values up to this lie in their cell when first inserted */
#define MEMDB_CELL_QUEUED (1u << 26)    /* the cell waits in the writer's queue to be pruned */
#define MEMDB_CELL_INLINE_USED (1u << 27) /* the inline version is in the chain */
#define MEMDB_CELL_INLINE_BUSY (1u << 28) /* unlinked, but its grace is not over; neither bit: free for use */
#define MEMDB_CELL_REAPING (1u << 29)     /* has expired; a delete of it has been handed out and not been looked after */
#define MEMDB_CELL_SEEN (1u << 30)        /* while the heap of expiries is made anew: has its entry */

static inline uint32_t memdb_cell_key_len(uint32_t key_room) { return key_room & 0xffff; }
static inline uint32_t memdb_cell_room(uint32_t key_room) { return key_room >> MEMDB_ROOM_SHIFT & MEMDB_ROOM_MAX; }
static inline uint32_t memdb_words(uint64_t bytes) { return (uint32_t)((bytes + 7) / 8); }

static inline uint64_t memdb_cell_bytes(uint32_t key_len, uint32_t room)
{
    return sizeof(struct memdb_cell) + 8 * ((uint64_t)memdb_words(key_len) + room);
}

static inline const memdb_a64 *memdb_cell_key(const struct memdb_cell *cell) { return (const memdb_a64 *)(cell + 1); }

static inline uint32_t memdb_version_words(uint32_t size_flags)
{
    return memdb_words(size_flags & MEMDB_SIZE_MASK) + (size_flags & MEMDB_HAS_EXPIRY ? 1 : 0);
}

static inline uint64_t memdb_version_bytes(uint32_t size_flags)
{
    return sizeof(struct memdb_version) + 8 * (uint64_t)memdb_version_words(size_flags);
}

/* A whole cell inside the arena, or NULL. */
static inline const struct memdb_cell *memdb_cell_at(const memdb_view *view, memdb_ref ref, uint32_t *key_room)
{
    const struct memdb_cell *cell = memdb_view_at(view, ref, sizeof *cell);
    if (!cell)
        return NULL;
    *key_room = memdb_load_relaxed(&cell->key_room);
    uint64_t bytes = memdb_cell_bytes(memdb_cell_key_len(*key_room), memdb_cell_room(*key_room));
    return memdb_view_at(view, ref, bytes) ? cell : NULL;
}

typedef struct memdb_version_at { /* one version, checked to lie inside the arena */
    const struct memdb_version *version;
    const memdb_a64 *data; /* of the bytes, behind the expiry */
    memdb_ref owner;
    uint32_t size_flags, len;
    uint64_t lsn, expires_us;
} memdb_version_at;

/* The newest version with an LSN <= lsn: OK (also for a tombstone), ABSENT, DAMAGED. */
static inline int memdb_cell_version(const memdb_view *view, memdb_ref ref, const struct memdb_cell *cell, uint32_t key_room,
                                     uint64_t lsn, memdb_version_at *found)
{
    memdb_ref at = memdb_load_acquire(&cell->head); /* SYNC: version-head */
    uint64_t limit = view->size / MEMDB_GRAIN;
    const struct memdb_version *version;
    for (;; limit--) {
        if (at == 0)
            return MEMDB_ABSENT;
        if (limit == 0)
            return MEMDB_DAMAGED;
        version = at == MEMDB_INLINE ? &cell->inline_version : memdb_view_at(view, at, sizeof *version);
        if (!version)
            return MEMDB_DAMAGED;
        found->lsn = memdb_load_relaxed(&version->lsn);
        if (found->lsn <= lsn)
            break;
        at = memdb_load_acquire(&version->next); /* SYNC: version-next */
    }
    uint32_t flags = memdb_load_relaxed(&version->size_flags);
    const memdb_a64 *data;
    if (at == MEMDB_INLINE) {
        if (memdb_version_words(flags) > memdb_cell_room(key_room))
            return MEMDB_DAMAGED;
        data = memdb_cell_key(cell) + memdb_words(memdb_cell_key_len(key_room));
    } else {
        if (!memdb_view_at(view, at, memdb_version_bytes(flags)))
            return MEMDB_DAMAGED;
        data = (const memdb_a64 *)(version + 1);
    }
    found->version = version;
    found->owner = at == MEMDB_INLINE ? ref : at;
    found->size_flags = flags;
    found->len = flags & MEMDB_SIZE_MASK;
    found->expires_us = flags & MEMDB_HAS_EXPIRY ? memdb_load_relaxed(data++) : 0;
    found->data = data;
    return MEMDB_OK;
}

static inline bool memdb_version_live(const memdb_version_at *v, uint64_t now_us)
{
    return !(v->size_flags & MEMDB_TOMBSTONE) && (v->expires_us == 0 || v->expires_us > now_us);
}

#endif
