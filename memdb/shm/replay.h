/* replay.h: log records and checkpoint blocks into a store: recovery, and the log above an old arena. Commit thread. */
#ifndef MEMDB_REPLAY_H
#define MEMDB_REPLAY_H

#include "ops.h"
#include "record.h"
#include "store.h"
#include "window.h"

typedef struct memdb_replay_result {
    uint64_t records;             /* commits applied (store NULL: commits seen) */
    uint64_t first_lsn, last_lsn; /* of the commits seen; 0 if none */
    uint64_t durable_lsn;         /* highest D of any record seen */
    uint64_t end_offset;          /* where reading stopped */
    uint64_t lsn_limit;           /* highest in a mark or link seen */
    uint64_t time_us;             /* latest commit time */
    uint32_t last_crc;            /* header_crc of the last good record: what the next link must name */
    int verdict;                  /* enum memdb_record_verdict of what lies at end_offset */
    struct memdb_link_body link;  /* of the segment, if its first record is one (else term and previous_segment are 0) */
} memdb_replay_result;

/* Applies every commit record in [offset, ...) of a segment image with lsn > after_lsn and <= up_to_lsn, publishing as it goes and reclaiming,
 * until the first record that is not GOOD (verdict, end_offset). Records outside these LSNs are read, not applied. store NULL: only scans.
 * progress (NULL or) counts records. Returns OK; FULL or SHM_FULL: the arena has no room; DAMAGED: a record with good checksums that
 * cannot be (LSN not above the one before or not above what the store has, operations that are none), at end_offset. */
int memdb_replay_segment(memdb_store *store, const uint8_t *segment, uint64_t len, uint64_t offset, uint64_t salt, uint64_t after_lsn,
                         uint64_t up_to_lsn, memdb_a64 *progress, memdb_replay_result *out);

/* The outcome key of a commit (space MEMDB_SPACE_SYSTEM): 'o', client id, request % MEMDB_CELLS. Value: request, lsn, count, time_us (u64 LE). */
#define MEMDB_OUTCOME_KEY 19u
#define MEMDB_OUTCOME_VALUE 32u
void memdb_outcome_key(uint8_t key[MEMDB_OUTCOME_KEY], const uint8_t client_id[16], uint64_t request);
struct memdb_outcome { uint64_t request, lsn, count, time_us; };
_Static_assert(sizeof(struct memdb_outcome) == MEMDB_OUTCOME_VALUE, "outcome value");
/* Applies the operations of one commit (conditions ignored) and its outcome, in which `count` (counted before the commit was logged:
 * it is in the record) is kept. A client id of zeros keeps no outcome. Shared by commit.c and replay. OK, or DAMAGED (bytes that are no
 * operations: nothing before them is undone). window (NULL or) is told each key that was set, or was there and deleted. Needs what memdb_op_need() and memdb_outcome_need() said, reserved. */
int memdb_apply_ops(memdb_store *store, const void *payload, size_t len, const uint8_t client_id[16], uint64_t request, uint64_t lsn,
                    uint64_t time_us, uint64_t count, memdb_window *window);
/* What applying one operation may allocate, added to *bytes and *new_keys (memdb_store_reserve). keys_in_range: of a DELETE_RANGE. */
void memdb_op_need(const memdb_op *op, uint64_t keys_in_range, uint64_t *bytes, uint64_t *new_keys);
void memdb_outcome_need(uint64_t *bytes, uint64_t *new_keys);
/* The bounds of a DELETE_RANGE: an empty stop means the end of the space of start (then *room holds it). */
const uint8_t *memdb_op_range_stop(const memdb_op *op, uint8_t *room, size_t *len);

/* Checkpoint block = this header + the bytes of a scan batch (store.h). */
#define MEMDB_CKPT_BLOCK_MAGIC 0x4b4c424du /* "MBLK" */
struct memdb_ckpt_block { uint32_t magic, count; uint64_t index, bytes; uint32_t payload_crc, header_crc; };
_Static_assert(sizeof(struct memdb_ckpt_block) == 32, "checkpoint block header");
void memdb_ckpt_seal(struct memdb_ckpt_block *block, uint64_t salt, uint64_t index, uint32_t count, const void *payload, uint64_t bytes);
int memdb_ckpt_check(const struct memdb_ckpt_block *block, uint64_t salt, uint64_t index, const void *payload, uint64_t room); /* OK, DAMAGED */
/* memdb_bulk_add of every item, in order. DAMAGED: keys do not grow over the whole checkpoint, or an item is of no LSN up to `lsn`. */
int memdb_ckpt_load(memdb_store *store, const void *payload, uint64_t bytes, uint32_t count, uint64_t lsn);

#endif
