/* arena.h: one generation's segment: creating it, attaching to it, and the writer's allocator in it.
 *
 * Owns: the header's life (built -> ready -> torn down), translation of references, growth chunk by chunk,
 * size classes and page runs. Who: memdb_arena_view by any thread of any process (read only); memdb_arena
 * (the allocator) by the writer's commit thread only. The allocator's own state is private memory of the
 * writer: a dead writer's arena is never written again (a successor builds a new generation by reading).
 *
 * Invariants:
 *  - A block is handed out only from memory that posix_fallocate has passed (never a SIGBUS).
 *  - A block that was visible is freed only through epoch.h (retired, then reused).
 *  - used + free == reserved - header pages, always; memdb_arena_audit() proves it.
 *  - Grains of 16 bytes; blocks up to MEMDB_PAGE/4 come from slabs of one page, larger ones are page runs.
 */
#ifndef MEMDB_ARENA_H
#define MEMDB_ARENA_H

#include <stdbool.h>

#include "layout.h"

/* What a reader knows of an arena. */
typedef struct memdb_view {
    const struct memdb_arena_header *header;
    const uint8_t *base; /* == header */
    uint64_t size;       /* bytes mapped */
    unsigned parity;     /* of the segment: which slots array to pin in */
    memdb_a64 *latest;   /* the highest time that this process has judged an expiry by (lease.latest_time); NULL: not kept */
} memdb_view;

/* Checks magic, layout, size and ready (acquire). OK, AGAIN (not ready), DAMAGED, or INVALID (other layout). */
int memdb_view_attach(memdb_view *view, const void *base, uint64_t size, unsigned parity);

/* Bounds- and alignment-checked translation: NULL if [ref, ref + bytes) does not lie in the arena. */
static inline const void *memdb_view_at(const memdb_view *view, memdb_ref ref, uint64_t bytes)
{
    uint64_t offset = (uint64_t)ref * MEMDB_GRAIN;
    if (offset < sizeof(struct memdb_arena_header) || offset + bytes > view->size)
        return NULL;
    return view->base + offset;
}

typedef struct memdb_arena memdb_arena; /* private state of the writer, malloc'd */

/* fd: the segment, to reserve memory in and punch holes; -1 = anonymous memory (tests), nothing to reserve.
 * Formats the header with ready = 0 and published = 0. limit = max_memory; size >= limit. */
int memdb_arena_create(memdb_arena **out, void *base, uint64_t size, int fd, uint64_t limit, uint64_t generation,
                       uint64_t hash_seed);
void memdb_arena_free(memdb_arena *arena); /* the private state only */
struct memdb_arena_header *memdb_arena_header(memdb_arena *arena);
memdb_view memdb_arena_view(memdb_arena *arena);

/* Makes sure that `bytes` (the sum of blocks as memdb_arena_rounded gives them, of any sizes) plus one run of `run_bytes`
 * can be had without fail (rule C3), until the next reserve. purpose lets deletes and recovery use the quarter above
 * limit: a tombstone for every key of a full arena fits there, so deletes always find room (invariant 14), and writes
 * leave the last 1/64 below it. Provably enough: whole free pages for all of it, as many in one piece as blocks of several pages can take; free
 * blocks inside half-used pages come on top. So that an arena full of such holes can be used, up to 1/16 above `limit`
 * may be backed while the bytes in use stay below 15/16 of it. FULL or SHM_FULL. */
enum memdb_purpose { MEMDB_FOR_WRITE, MEMDB_FOR_DELETE, MEMDB_FOR_RECOVERY, MEMDB_FOR_RECLAIM };
int memdb_arena_reserve(memdb_arena *arena, uint64_t bytes, uint64_t run_bytes, enum memdb_purpose purpose);

/* Bytes that growth for writes leaves free on the segment's file system, `reserved` being the arena's: for leases and for a
 * rebuild where there is room for one arena only. Growth for deletes leaves room for a lease. */
uint64_t memdb_arena_margin(uint64_t reserved);

/* Never fails within what was reserved; returns 0 otherwise. The memory holds old bytes. */
memdb_ref memdb_arena_alloc(memdb_arena *arena, uint64_t bytes);
void memdb_arena_release(memdb_arena *arena, memdb_ref ref, uint64_t bytes); /* same bytes as asked */
uint64_t memdb_arena_rounded(uint64_t bytes);                                /* what a block of bytes really takes */
void *memdb_arena_at(memdb_arena *arena, memdb_ref ref);                     /* writer's own refs: unchecked */
bool memdb_arena_allocated(memdb_arena *arena, memdb_ref ref, uint64_t bytes); /* is it a block in use of that size? */
uint64_t memdb_arena_used(const memdb_arena *arena);   /* bytes handed out, as rounded */
uint64_t memdb_arena_blocks(const memdb_arena *arena); /* blocks handed out */
void memdb_arena_figures(memdb_arena *arena);          /* stores used, reserved and free bytes in the header */
/* Gives whole free pages back to the kernel (R6: the caller has made sure that no slot can reach them). */
uint64_t memdb_arena_punch(memdb_arena *arena);
/* Gathers the next 2 MiB of backed memory into a huge page (hugepage.h): about a millisecond. False: nothing to do. */
bool memdb_arena_gather(memdb_arena *arena);
/* 0 if the books balance: every page is free, a run, or a slab whose counts match. */
int memdb_arena_audit(memdb_arena *arena);

#endif
