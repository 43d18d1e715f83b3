/* record.h: log records, byte for byte (docs/formats/wal.md has a worked example), and reading them from bytes.
 *
 * Record = memdb_record_header (80 bytes) + body, padded with zeros to 8. header_crc covers salt, segment offset and the header
 * without itself; body_crc covers the body and lies in the header. A length is believed only after header_crc fits.
 * Pure functions over buffers: any thread.
 */
#ifndef MEMDB_RECORD_H
#define MEMDB_RECORD_H

#include "layout.h"

#define MEMDB_RECORD_MAGIC 0x3152444du /* "MDR1" */
#define MEMDB_SEGMENT_HEADER 4096u     /* first record of a segment starts here */
enum memdb_record_type { MEMDB_RECORD_COMMIT = 1, MEMDB_RECORD_MARK = 2, MEMDB_RECORD_LINK = 3 };

struct memdb_record_header {
    uint32_t magic, size; /* size: header and body without padding */
    uint8_t type, flags;
    uint16_t version;
    uint32_t op_count;
    uint64_t lsn;         /* of the commit; mark and link: the last LSN before them */
    uint64_t durable_lsn; /* D: highest LSN known durable when this was written (L2) */
    uint8_t client_id[16];
    uint64_t request;
    uint64_t time_us;
    uint64_t count;       /* result of the commit, for a stored outcome */
    uint32_t body_crc, header_crc;
};
_Static_assert(sizeof(struct memdb_record_header) == 80, "record header");
struct memdb_mark_body { uint64_t lsn_limit; };
struct memdb_link_body { uint64_t lsn_limit, previous_segment, previous_last_lsn, previous_last_crc, term; }; /* crc: header_crc of the last record before */

/* Completes the CRCs of a record whose header and body lie at `at`; offset = position in the segment. Returns padded size. */
uint64_t memdb_record_seal(uint8_t *at, uint64_t salt, uint64_t offset);

typedef struct memdb_record {
    struct memdb_record_header header;
    uint64_t offset, padded;
    const uint8_t *body;
    uint32_t body_len;
} memdb_record;
enum memdb_record_verdict { MEMDB_RECORD_GOOD = 0, MEMDB_RECORD_END = 1 /* zeros: nothing was written here */,
    MEMDB_RECORD_BAD_HEADER = -1, MEMDB_RECORD_BAD_BODY = -2, MEMDB_RECORD_TOO_NEW = -3 };
/* The record at offset of a segment image of len bytes. */
int memdb_record_read(const uint8_t *segment, uint64_t len, uint64_t offset, uint64_t salt, memdb_record *out);
/* The first valid record header at or behind offset (8-aligned search), to look beyond damage. OK or ABSENT. */
int memdb_record_find(const uint8_t *segment, uint64_t len, uint64_t offset, uint64_t salt, memdb_record *out);
/* Inside [offset, end): a whole aligned 512-byte sector of zeros, or zeros from offset to the end of its sector? A tear in zero-filled
 * space leaves one of them (L3): the second where the record begins in a sector that has reached the disk without it, with an older one. */
int memdb_record_torn_like(const uint8_t *segment, uint64_t len, uint64_t offset, uint64_t end);

#endif
