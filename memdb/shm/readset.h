/* readset.h: what a transaction has read, as bytes before the operations of its commit (MEMDB_ENTRY_VALIDATE, rule C6).
 *
 * A read section, little-endian, packed; size is a multiple of 8, the rest behind the last entry zeros (fewer than 8):
 *   u32 size (of all of it), u32 count, u64 lsn (S of the snapshot), u64 expires_us (the least expiry of all live values that were read;
 *   0: none), u64 word (GENERATION word under which the snapshot was pinned), u64 zero
 * then `count` entries:
 *   POINT  u8 1, u8 0, u16 key_len, u32 0, u64 lsn (of the version seen; 0: none was there), key
 *   RANGE  u8 2, u8 0, u16 start_len, u32 stop_len, start, stop (exclusive; stop_len 0: the end of the space of start)
 * Keys are stored keys (space byte first). At most MEMDB_READ_RANGES_MAX entries are ranges: who has read more merges neighbours.
 * The section is judged and forgotten: neither the log nor an outcome keeps it.
 *
 * The decoder is given hostile bytes and never reads outside them. Pure functions over bytes: any thread.
 */
#ifndef MEMDB_READSET_H
#define MEMDB_READSET_H

#include "layout.h"

#define MEMDB_READS_HEADER 40u
#define MEMDB_READ_RANGES_MAX 256u

enum memdb_read_kind { MEMDB_READ_POINT = 1, MEMDB_READ_RANGE = 2 };

/* Why a commit was answered MEMDB_CONFLICT: `count` of its result. */
enum memdb_conflict {
    MEMDB_CONFLICT_POINT = 1,      /* a key that was read has another version, or none, or has come to be */
    MEMDB_CONFLICT_RANGE = 2,      /* a later commit set or deleted a key in a range that was read */
    MEMDB_CONFLICT_EXPIRED = 3,    /* a value that was read has expired by now */
    MEMDB_CONFLICT_WINDOW = 4,     /* ranges can't be judged: the keys of commits behind the snapshot are no longer all kept */
    MEMDB_CONFLICT_GENERATION = 5, /* the snapshot is of another generation */
};

/* --- client --- */
/* Each writes one entry at buf if it fits into cap, and returns the bytes that it takes. 0: a length that no key has. */
size_t memdb_reads_put_point(uint8_t *buf, size_t cap, const void *key, size_t len, uint64_t lsn);
size_t memdb_reads_put_range(uint8_t *buf, size_t cap, const void *start, size_t start_len, const void *stop, size_t stop_len);
/* Completes a section whose entries lie at buf + MEMDB_READS_HEADER up to buf + used: writes the header and the zeros at its end.
 * Returns the section's size; if that is above cap (or no size that a section can have) nothing was written. */
size_t memdb_reads_header(uint8_t *buf, size_t cap, size_t used, uint32_t count, uint64_t lsn, uint64_t expires_us, uint64_t word);

/* --- writer --- */
typedef struct memdb_reads {
    uint32_t size, count, left, ranges; /* ranges: met so far */
    uint64_t lsn, expires_us, word;
    const uint8_t *at, *end;
} memdb_reads;
typedef struct memdb_read {
    uint8_t kind;
    uint32_t len, stop_len; /* of key or start; of stop */
    uint64_t lsn;
    const uint8_t *key, *stop;
} memdb_read;
/* The section at the beginning of a payload of len bytes. OK, or INVALID. */
int memdb_reads_begin(memdb_reads *reads, const void *payload, size_t len);
int memdb_reads_next(memdb_reads *reads, memdb_read *read); /* OK, ABSENT (end, all bytes used), INVALID */

#endif
