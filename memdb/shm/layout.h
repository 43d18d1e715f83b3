/* layout.h: every structure that lies in shared memory, byte for byte.
 *
 * Owns: the four segments (arena, lease, board, log buffer) and the GENERATION page; who stores each field
 * and who reads it. docs/formats/arena.md explains the same bytes.
 *
 * Invariants:
 *  - Fixed-width fields and offsets only, never a pointer: each process maps at its own address.
 *  - A reference (memdb_ref) is an offset into the arena in grains of 16 bytes; 0 is none.
 *  - MEMDB_LAYOUT changes whenever anything here does; attach compares it (a mismatch is FormatTooNew).
 *  - `ready` words are stored last, with release (SYNC: segment-ready).
 */
#ifndef MEMDB_LAYOUT_H
#define MEMDB_LAYOUT_H

#include "atomics.h"

#define MEMDB_LAYOUT 0x4d440003u /* bump with every change of this file */
#define MEMDB_GRAIN 16u
#define MEMDB_PAGE 16384u /* slab and page-run unit of the allocator */
#ifndef MEMDB_BLOCK_MAX   /* sanitizer builds shrink the limits to make rare paths frequent */
#define MEMDB_BLOCK_MAX 32u
#endif
#define MEMDB_HEIGHT_MAX 12u
#define MEMDB_KEY_MAX 65000u
#define MEMDB_SPACES 8u /* byte 0 of a stored key is 1..7; see K2 */
#define MEMDB_SPACE_PLAIN 1u   /* the mapping: db[key] */
#define MEMDB_SPACE_SYSTEM 2u  /* outcomes of clients' commits: the engine's own */
#define MEMDB_SPACE_CATALOGUE 3u   /* of collections: definitions, by name */
#define MEMDB_SPACE_COLLECTIONS 4u /* documents and index entries */

typedef uint32_t memdb_ref;

enum memdb_status { /* negative: an error that a caller acts on; errors.py names each */
    MEMDB_OK = 0,
    MEMDB_ABSENT = 1,       /* no such key at this snapshot */
    MEMDB_CONDITION = 2,    /* a condition of a write did not hold: nothing was changed */
    MEMDB_AGAIN = 3,        /* nothing to do now / bounded step ended: call again */
    MEMDB_CONFLICT = 4,     /* what a transaction has read no longer holds: nothing was changed */
    MEMDB_FULL = -1,        /* arena: the limit is reached */
    MEMDB_SHM_FULL = -2,    /* posix_fallocate says that /dev/shm is full */
    MEMDB_REVOKED = -3,     /* the reader's slot was revoked: what was read may be anything */
    MEMDB_DAMAGED = -4,     /* bytes that cannot be: bounds, alignment, step limit, checksum */
    MEMDB_MOVED = -5,       /* this arena was abandoned: look at the GENERATION word again */
    MEMDB_INVALID = -6,     /* a request that breaks the rules (hostile or buggy client) */
    MEMDB_TOO_LARGE = -7,   /* transaction above max_transaction_bytes */
    MEMDB_LOG_FAILED = -8,  /* write or sync of the log failed: it is poisoned */
    MEMDB_NO_SLOT = -9,     /* all reader slots of the lease are in use */
    MEMDB_TIMEOUT = -10,
    MEMDB_READ_ONLY = -11,  /* the writer does not take writes now (poison, full disk); detail says why */
    MEMDB_BUFFER = -12,     /* caller's buffer too small for one item; needed size is returned */
    MEMDB_STOPPED = -13,    /* the writer ends before taking the request */
};

/* ---------------------------------------------------------------- arena: stored by the writer only ------ */

#define MEMDB_ARENA_MAGIC 0x4e4552414244454dull
struct memdb_arena_header {
    memdb_a64 magic;
    memdb_a32 layout;
    uint32_t flags;
    memdb_a64 generation; /* of this arena; even ones lie in segment 0, odd ones in segment 1 */
    memdb_a64 size;       /* bytes mapped: 5/4 of limit, sparse */
    memdb_a64 limit;      /* max_memory */
    uint64_t hash_seed;
    memdb_a64 ready;     /* 1 when the arena serves; 0 while built or torn down */
    uint64_t pad0[9];
    /* line: read by every operation */
    _Alignas(64) memdb_a64 published; /* highest LSN that readers may see; 0 = torn down or not yet whole */
    memdb_a64 time_floor;             /* us since 1970; raised by commits and the reaper, never lowered (R3) */
    memdb_a64 hash;                   /* ref of the current hash table (low 32) and of the one being emptied (high 32) */
    memdb_a32 head;                   /* ref of the first header: lower bound empty, full height */
    memdb_a32 height;                 /* levels in use, a hint */
    memdb_a64 next_expiry;            /* us: before it no key has expired that the counts count; UINT64_MAX: none will. SYNC: next-expiry */
    /* line: counts of live keys per space, as of `published` (stored at publish, not at apply); expired ones until they are
     * reaped. SYNC: counts */
    _Alignas(64) memdb_a64 counts[MEMDB_SPACES];
    /* line: figures for info(); relaxed, each may be a little old */
    _Alignas(64) memdb_a64 used_bytes; /* handed out by the allocator, retired ones included */
    memdb_a64 retired_bytes;
    memdb_a64 reserved_bytes;          /* backed by memory: posix_fallocate has passed it */
    memdb_a64 free_bytes;              /* inside reserved, free for use */
    memdb_a64 headers, blocks, cells, versions;
    memdb_a64 hash_bytes;
    memdb_a64 applied;                 /* highest LSN applied (>= published) */
    memdb_a64 synced;                  /* highest LSN known durable */
    memdb_a64 min_pinned;              /* as of the last scan, UINT64_MAX if none */
    memdb_a64 expiring;                /* keys whose newest version has an expiry */
    memdb_a64 expiry_bytes;            /* the writer's private memory that knows them */
    uint64_t pad1[2];
};
_Static_assert(sizeof(struct memdb_arena_header) % 64 == 0, "whole cache lines");

/* A version: one value of one key. Inline in its cell or a block of its own (16-aligned).
 * data: [expiry u64 us if HAS_EXPIRY][bytes]. A tombstone has no data. */
struct memdb_version {
    memdb_a64 lsn;
    memdb_a32 next; /* older version: 0 none, MEMDB_INLINE = the cell's inline one, else ref */
    memdb_a32 size_flags;
    /* memdb_a64 data[] */
};
#define MEMDB_INLINE 1u
#define MEMDB_SIZE_MASK 0x1fffffffu /* length of bytes, without the expiry */
#define MEMDB_VERSION_HELD 0x20000000u /* the writer's mark: waits in a list of what a pin holds */
#define MEMDB_HAS_EXPIRY 0x40000000u
#define MEMDB_TOMBSTONE 0x80000000u

/* A key cell: lives as long as its key is in the index. Bytes: cell, key padded to 8, data of the inline version. */
struct memdb_cell {
    memdb_a32 head;     /* newest version; SYNC: version-head */
    memdb_a32 key_room; /* key length (low 16), room for inline data in words of 8 (10 bits), the writer's marks (6): cell.h */
    struct memdb_version inline_version;
    /* memdb_a64 key[], data[] */
};
_Static_assert(sizeof(struct memdb_version) == 16 && sizeof(struct memdb_cell) == 24, "cell layout");

/* A leaf block: immutable. Words: this, common prefix padded to 8, prefixes u64[count] (8 key bytes behind the
 * common prefix, big-endian value, zero-padded), cells u32[count] padded to 8. */
struct memdb_block {
    memdb_a32 count_common; /* count (low 16), length of the common prefix (high 16) */
    memdb_a32 next;         /* ref of the next header at level 0; part of the block (rule I1) */
};
#define MEMDB_COMMON_MAX 64u

/* A header: stable owner of a key range [lower, next.lower). Words: this, tower u32[height-1] padded, lower bytes. */
struct memdb_node {
    memdb_a32 block;        /* SYNC: block-swap */
    memdb_a32 height_lower; /* height (low 8), length of lower (high 16 bits: >> 16) */
    /* memdb_a32 tower[height-1]: next header at levels 1..; SYNC: tower-link. then memdb_a64 lower[] */
};

/* Hash table: slots of 8 bytes, power of two. slot: 0 empty, 1 tombstone, else tag (high 32 bits of the hash) << 32 | cell ref.
 * A key's first slot is tag & mask (so growth needs no key); collisions go to the next slot. */
struct memdb_hash_table {
    memdb_a64 mask;  /* slots - 1 */
    memdb_a64 bytes; /* of the page run */
    uint64_t pad[6];
    /* memdb_a64 slots[] */
};

/* ---------------------------------------------------------------- lease: one client process <-> writer -- */

#define MEMDB_LEASE_MAGIC 0x455341454244454dull
#define MEMDB_SLOTS 512u
#define MEMDB_HAZARDS 256u
#define MEMDB_CELLS 64u
#ifndef MEMDB_RING_BYTES
#define MEMDB_RING_BYTES (256u * 1024u)
#endif

/* Reader slot. word: state (2 bits) | exact (1) | count (13) | S (48); see epoch.h. Stored by the client, revoked by the writer. */
struct memdb_slot {
    memdb_a64 word;   /* SYNC: slot */
    memdb_a64 since;  /* us, CLOCK_REALTIME, when pinned; for readers() and snapshot_max_age */
    memdb_a64 time;   /* the snapshot's time for expiry */
    memdb_a64 kind;   /* low 8: 0 point read, 1 snapshot, 2 iterator, 3 checkpointer (never revoked) */
};

/* Result cell of one request: state is the futex. */
struct memdb_result {
    memdb_a32 state;   /* enum memdb_cell_state | MEMDB_WAITING; SYNC: result */
    memdb_a32 status;  /* enum memdb_status as two's complement */
    memdb_a64 request; /* request number */
    memdb_a64 lsn;     /* of the commit; 0 if nothing was written */
    memdb_a64 count;   /* keys that the operations deleted or set, by meaning of the request */
    memdb_a64 detail;  /* op index of a failed condition, bytes needed, errno ... by status */
    memdb_a64 winner;  /* LSN of the version that a failed condition met */
    uint64_t pad[2];
};
_Static_assert(sizeof(struct memdb_result) == 64, "one cache line each");
enum memdb_cell_state { MEMDB_CELL_IDLE = 0, MEMDB_CELL_SUBMITTED = 1, MEMDB_CELL_TAKEN = 2, MEMDB_CELL_DONE = 3, MEMDB_CELL_WITHDRAWN = 4 };
#define MEMDB_WAITING 0x100u /* a thread sleeps on the word */

struct memdb_lease {
    uint64_t magic;
    uint32_t layout;
    uint32_t ring_bytes;
    uint8_t client_id[16];
    memdb_a64 ready;
    uint64_t pad0[3];
    _Alignas(64) memdb_a64 ring_tail;  /* published by the client; SYNC: ring-tail */
    memdb_a32 slots_used;              /* high-water mark of slots ever used, per parity max; client stores sc */
    memdb_a32 hazards_used;
    uint64_t pad1[6];
    _Alignas(64) memdb_a64 ring_head;  /* consumed by the writer; SYNC: ring-head */
    memdb_a64 next_request;            /* client-private counter kept here so that info can show it */
    memdb_a64 latest_time;             /* client-private: the highest time that it has judged an expiry by (rule R3) */
    uint64_t pad2[5];
    _Alignas(64) struct memdb_result results[MEMDB_CELLS];
    struct memdb_slot slots[2][MEMDB_SLOTS]; /* by parity of the arena's generation */
    memdb_a64 hazards[2][MEMDB_HAZARDS];     /* ref of the cell or version block that a view shows; 0 free */
    _Alignas(64) memdb_a64 ring[MEMDB_RING_BYTES / 8];
};

/* ---------------------------------------------------------------- board: small words that all may store - */

struct memdb_board {
    uint64_t magic;
    uint32_t layout;
    uint32_t pad;
    _Alignas(64) memdb_a32 bell;   /* futex: counts rings at the writer's door; SYNC: bell */
    memdb_a32 parked;              /* 1 while the writer may sleep on bell; SYNC: parked */
    _Alignas(64) memdb_a64 writer_lsn; /* progress, for time-outs that count seconds without any: bumps as work goes on */
    memdb_a64 writer_pid;
    memdb_a64 phase;               /* 0 none, 1 rebuilding, 2 serving, 3 read-only (poisoned), 4 ending */
    memdb_a64 progress_done, progress_total; /* of recovery or rebuild */
    memdb_a64 clients;
    memdb_a64 busy_clients;        /* processes whose commits came in the last moments: as many may wait for an answer; writer stores */
};

/* ---------------------------------------------------------------- GENERATION page (a file) -------------- */

struct memdb_generation_page {
    uint64_t magic;     /* "MEMDBGEN" */
    uint32_t layout;
    uint32_t pad;
    memdb_a64 word;     /* attach epoch (high 32) | generation (low 32); 0 = none; SYNC: generation */
    uint8_t group_id[16];
};

/* ---------------------------------------------------------------- log buffer ---------------------------- */

/* Two halves, each the image of one log segment from offset 0; half = segment number & 1. */
struct memdb_logbuf_half {
    memdb_a64 segment; /* its number, 0 = unused */
    memdb_a64 salt;
    memdb_a64 tail;    /* bytes appended: whole records only; SYNC: log-tail (stored before apply) */
    memdb_a64 written; /* bytes that the file has */
    memdb_a64 synced;  /* bytes that are durable */
    memdb_a64 last_lsn;/* LSN of the last whole record */
    memdb_a64 lsn_limit; /* numbers are handed out below this; durable in links and marks (L4) */
    memdb_a64 capacity;  /* size of the segment file */
};
struct memdb_logbuf {
    uint64_t magic;
    uint32_t layout;
    uint32_t pad;
    uint64_t half_bytes;   /* room of each half */
    memdb_a64 current;     /* number of the segment that is appended to; SYNC: log-current */
    uint64_t pad1[4];
    _Alignas(64) struct memdb_logbuf_half half[2];
    /* the halves' bytes follow at 4096 and 4096 + half_bytes */
};

#endif
