/* ops.h: the operations of one commit as bytes: in ring entries, in log records, the same.
 *
 * payload = u32 count, u32 zero, then per operation, packed, little-endian:
 *   u8 op, u8 flags, u16 key_len, u32 value_len, [u64 expires_us if HAS_TTL], [u64 lsn if IF_VERSION], key, value
 * SET; DELETE; DELETE_RANGE (key = start, value = stop; stop empty = end of the space of start). Keys are stored keys (space byte first).
 * A condition that fails rejects the whole commit. The decoder is given hostile bytes and never reads outside them.
 * A commit has at most MEMDB_RANGES_MAX operations DELETE_RANGE; one with more is INVALID. The writer looks at every key of a range
 * before anything is changed, so without a bound a few kilobytes could keep it busy for minutes. (A record of the log is applied
 * whatever it has: it was judged when it was committed.)
 */
#ifndef MEMDB_OPS_H
#define MEMDB_OPS_H

#include "layout.h"

#define MEMDB_RANGES_MAX 64u

enum memdb_op_code { MEMDB_OP_SET = 1, MEMDB_OP_DELETE = 2, MEMDB_OP_DELETE_RANGE = 3, MEMDB_OP_CHECK = 4 /* condition only */ };
enum memdb_op_flags {
    MEMDB_OP_HAS_TTL = 1,
    MEMDB_OP_IF_VERSION = 2, /* newest live version has this LSN */
    MEMDB_OP_IF_ABSENT = 4,
    MEMDB_OP_IF_PRESENT = 8,
    MEMDB_OP_KEEP_TTL = 16,  /* SET: keep the expiry of the value it replaces; not together with HAS_TTL */
    MEMDB_OP_ONLY_EXPIRED = 32, /* DELETE: without effect unless the newest version has expired at the commit's time (the reaper's delete) */
};
typedef struct memdb_op {
    uint8_t code, flags;
    uint16_t key_len;
    uint32_t value_len;
    uint64_t expires_us, if_lsn;
    const uint8_t *key, *value;
} memdb_op;
typedef struct memdb_ops_reader {
    const uint8_t *at, *end;
    uint32_t left;
} memdb_ops_reader;
int memdb_ops_begin(memdb_ops_reader *reader, const void *payload, size_t len);
int memdb_ops_next(memdb_ops_reader *reader, memdb_op *op); /* OK, ABSENT (end, all bytes used), INVALID */
/* Appends to buf (writes nothing beyond cap); returns bytes the op takes. Count word is the caller's. */
size_t memdb_ops_put(uint8_t *buf, size_t cap, const memdb_op *op);

#endif
