/* store.h: the ordered multi-version map of bytes of one generation: skip list, cells, versions, hash index.
 *
 * Owns: skiplist.c (ordered index), hashindex.c (point index), store.c (applying commits), expiry.c (which keys are due), reclaim.c
 * (prune, purge, grace), bulk.c (building from sorted input), read.c and scan.c (reading), verify.c (a reader's check), audit.c (the writer's check).
 * Knows no documents, no msgpack, no log.
 *
 * Invariants: 3 (publish last) and 5 (retire, then reuse) of the architecture; rules I1, I2, I3, R5.
 *  - Until memdb_store_publish(lsn) no reader sees anything of lsn.
 *  - After memdb_store_reserve() returned OK, memdb_store_put/delete of that batch cannot fail.
 *  - A key's newest version is inline in its cell once grace has passed (moved in by reclaim), if it fits.
 *
 * Readers: any thread with an active memdb_pin. Writer functions: the commit thread only.
 */
#ifndef MEMDB_STORE_H
#define MEMDB_STORE_H

#include "epoch.h"

/* ---------------------------------------------------------------- reading ------------------------------ */

uint64_t memdb_hash_key(const void *key, size_t len, uint64_t seed); /* of header->hash_seed; 64 good bits */

typedef struct memdb_found {
    const memdb_a64 *data; /* in the arena: copy with memdb_copy_out, believe after memdb_pin_end/leave */
    uint32_t len;
    memdb_ref owner;       /* for a hazard: the cell or version block that holds the bytes */
    uint64_t lsn;          /* of the version */
    uint64_t expires_us;   /* 0 = never */
} memdb_found;

/* All: OK, ABSENT (missing, deleted or expired at the pin's time), DAMAGED (void if the pin turns out revoked). */
int memdb_store_get(memdb_pin *pin, const void *key, size_t len, memdb_found *found);

/* n point reads with the cache misses overlapped. keys: concatenated; ends[i]: where key i ends. OK: found[i].data is NULL
 * where there is no value; DAMAGED. */
int memdb_store_get_many(memdb_pin *pin, const uint8_t *keys, const uint32_t *ends, size_t n, memdb_found *found);

/* Ordered scan in batches. The caller enters the pin, calls memdb_scan_batch, leaves the pin, then believes `out`. */
typedef struct memdb_scan {
    const uint8_t *start, *stop;  /* bounds in stored-key bytes; start inclusive, stop exclusive; the caller's, who keeps them */
    uint8_t *moved;               /* the one that has been moved: the scan's own */
    size_t start_len, stop_len;   /* stop_len 0 = to the end of all */
    bool reverse, done, keys_only;
    bool with_expired;            /* expired values too: for copies of a whole generation */
    uint64_t remaining;           /* limit; UINT64_MAX = none */
} memdb_scan;
/* Item in out: {u32 key_len, u32 value_len, u64 lsn, u64 expires_us, key, value}, each item padded to 8. */
typedef struct memdb_batch {
    uint8_t *out;
    size_t cap, used;
    uint32_t count, max_count; /* max_count 0 = as many as fit */
    bool ended;                /* nothing follows what the batch holds */
    size_t last;               /* offset of the last item */
    size_t needed; /* with MEMDB_BUFFER: bytes that the next item takes */
} memdb_batch;
int memdb_scan_init(memdb_scan *, const void *start, size_t start_len, const void *stop, size_t stop_len, bool reverse,
                    uint64_t limit, bool keys_only);
int memdb_scan_batch(memdb_pin *pin, memdb_scan *scan, memdb_batch *batch); /* OK: batch may be empty if done; BUFFER; DAMAGED */
/* After leave has said OK: the scan moves behind what the batch holds. (Before, a revoked batch must not move it.) */
int memdb_scan_advance(memdb_scan *scan, const memdb_batch *batch);
void memdb_scan_clear(memdb_scan *scan);
/* Keys in [start, stop) visible at the pin; step-limited walk, no copying. For len of a snapshot and checks. */
int memdb_store_count(memdb_pin *pin, const void *start, size_t start_len, const void *stop, size_t stop_len, uint64_t *count);

/* Where to cut [start, stop) into parts of about `every` keys of any time (one leaf block more at most): into `out` lower bounds of
 * blocks, each as {u32 len, bytes}, rising, strictly inside the range; max_cuts of them at most. *cuts: how many; *used: bytes. *keys: those
 * of the blocks that were walked; *ended: the walk came to the end of the range. Walks headers, touches no key. OK; DAMAGED; BUFFER: not one
 * found room. */
int memdb_store_split(memdb_pin *pin, const void *start, size_t start_len, const void *stop, size_t stop_len, uint64_t every,
                      uint32_t max_cuts, uint8_t *out, size_t cap, uint32_t *cuts, size_t *used, uint64_t *keys, bool *ended);

/* Live keys of a space, of the newest published state, at time now_us (memdb_view_time): OK. AGAIN: some may have expired and are not
 * reaped yet; memdb_store_count at a pin says how many. Any thread, no pin needed. */
int memdb_store_quick_count(const memdb_view *view, unsigned space, uint64_t now_us, uint64_t *count);

/* Structural check at the pin: order, bounds, towers, hash finds each cell, counts; problems as text. */
typedef void (*memdb_problem_fn)(void *arg, uint64_t offset, uint64_t lsn, const char *text);
int memdb_store_verify(memdb_pin *pin, memdb_problem_fn problem, void *arg, uint64_t *keys);

/* ---------------------------------------------------------------- writing ------------------------------ */

typedef struct memdb_store memdb_store; /* private state of the writer */

int memdb_store_new(memdb_store **out, memdb_arena *arena, memdb_scanner *scanner);
void memdb_store_free(memdb_store *);
memdb_arena *memdb_store_arena(memdb_store *);

/* Upper bound of what one put/delete can allocate; sum them, then reserve the sum, before the record is logged. A reservation
 * holds until the next one (they do not add up): reserve, log and apply one commit, or reserve the sum of several. FULL means
 * that also pruning did not help: revoke (rule R5), reclaim, try again. A delete of an absent key allocates nothing; new_keys
 * counts puts of keys that may be new. */
uint64_t memdb_store_cost_put(size_t key_len, size_t value_len);
uint64_t memdb_store_cost_delete(size_t key_len);
int memdb_store_reserve(memdb_store *, uint64_t bytes, uint64_t new_keys, enum memdb_purpose purpose);

/* The newest version, published or not (the writer's view): for conditions. ABSENT if none, deleted or expired at now_us
 * (then found->lsn is still the LSN of the newest version, 0 if no cell). */
int memdb_store_newest(memdb_store *, const void *key, size_t len, uint64_t now_us, memdb_found *found);

/* Asks for the memory that a look-up of the key begins with: the hash slot; some time later, the cell that it refers to. */
void memdb_store_hint_slot(memdb_store *, const void *key, size_t len);
void memdb_store_hint_cell(memdb_store *, const void *key, size_t len);

/* Apply one operation of commit `lsn`; lsn never decreases. expires_us 0 = never. existed: was there a live value (at now_us)? */
void memdb_store_put(memdb_store *, const void *key, size_t len, const void *value, size_t value_len, uint64_t expires_us,
                     uint64_t lsn, uint64_t now_us, bool *existed);
void memdb_store_delete(memdb_store *, const void *key, size_t len, uint64_t lsn, uint64_t now_us, bool *existed);
/* Range delete: first count (to reserve), then apply. Both see the writer's newest state. */
uint64_t memdb_store_count_range(memdb_store *, const void *start, size_t start_len, const void *stop, size_t stop_len, uint64_t now_us);
uint64_t memdb_store_delete_range(memdb_store *, const void *start, size_t start_len, const void *stop, size_t stop_len,
                                  uint64_t lsn, uint64_t now_us);

/* Sets the published LSN (sc), after the counts as of that LSN. Commits above it stay unseen. Before memdb_store_open readers see
 * none of it: a reader that slept through two generations must not pin an arena that is being built. */
void memdb_store_publish(memdb_store *, uint64_t lsn);
uint64_t memdb_store_reached(const memdb_store *); /* the highest LSN that was applied or published */

/* Prune, purge, move versions inline, free what grace has released. Bounded by `budget` items; returns items left that
 * could make progress now (0: nothing to do until a pin goes). Call often: after publishes and before parking. */
size_t memdb_store_reclaim(memdb_store *, size_t budget);
void memdb_store_figures(memdb_store *); /* stores the header's figures; publishing does so, too */
uint64_t memdb_store_retired(const memdb_store *); /* bytes that wait for reclaim */
bool memdb_store_reclaim_pending(memdb_store *); /* anything waiting for grace or for a pin at all */

/* An ops payload (ops.h) into buf (cap >= 8; one of MEMDB_FRAME_MAX holds any key) that deletes up to max_keys keys which have expired at
 * now_us, each only if it still has when that is committed; returns its bytes, *count = its operations. What is handed out is not lost if
 * it is never committed: the next call hands it out again. So it is called when the last batch has been answered. It looks at a bounded
 * number of entries: 0 operations while header->next_expiry <= now_us means that there may be more, or that a commit is not published. */
size_t memdb_store_expired(memdb_store *, uint64_t now_us, size_t max_keys, uint8_t *buf, size_t cap, uint32_t *count);

/* Pressure (R5): bytes that only the snapshot of this slot pins (estimate), to choose whom to revoke. */
uint64_t memdb_store_pinned_bytes(memdb_store *, uint64_t lsn);
/* Bytes of unlinked blocks that are kept only because views of this lease show them (rule R4). */
uint64_t memdb_store_viewed_bytes(memdb_store *, const struct memdb_lease *lease);

/* 0 if every allocated block is reachable, queued for reclaim, or the free lists' own: none lost, none doubled. */
int memdb_store_audit(memdb_store *, memdb_problem_fn problem, void *arg);

/* ---------------------------------------------------------------- building ----------------------------- */

/* Sorted, distinct keys into a fresh store (a new generation, a checkpoint): fills blocks one after the other; the hash table
 * is sized for expected_keys. Versions keep their own LSN. finish() makes the list whole; publish and ready follow later. */
int memdb_bulk_begin(memdb_store *, uint64_t expected_keys);
int memdb_bulk_add(memdb_store *, const void *key, size_t len, const void *value, size_t value_len, uint64_t expires_us, uint64_t lsn);
int memdb_bulk_finish(memdb_store *);
/* Copies everything visible at `from` (an active or idle pin on the old arena) into a fresh store, entering and leaving the pin
 * between batches. progress (may be NULL) is raised by keys copied. expired keys are carried (reaping is the reaper's). */
int memdb_bulk_copy(memdb_store *, memdb_pin *from, memdb_a64 *progress);
void memdb_store_open(memdb_store *, uint64_t lsn); /* publish lsn, then ready = 1 */

#endif
