/* record.c: see record.h. Pure functions over buffers; any thread. Bytes read here come from files: nothing is believed before its
 * checksum, and no length before the header's own checksum.
 *
 * Invariant: header_crc = CRC-32C(salt, offset, header without header_crc), so a record is valid only in its segment at its place;
 * body_crc lies in the header, so the body is bound to it likewise.
 */
#include "record.h"

#include "crc32c.h"
#include "epoch.h"

#define HEADER sizeof(struct memdb_record_header)
#define SECTOR 512u
#define RECORD_VERSION 1u

static uint32_t header_crc(const uint8_t *at, uint64_t salt, uint64_t offset)
{
    uint64_t place[2] = {salt, offset};
    return memdb_crc32c(memdb_crc32c(0, place, sizeof place), at, offsetof(struct memdb_record_header, header_crc));
}

static int all_zero(const uint8_t *at, uint64_t len)
{
    for (uint64_t i = 0; i < len; i++)
        if (at[i] != 0)
            return 0;
    return 1;
}

uint64_t memdb_record_seal(uint8_t *at, uint64_t salt, uint64_t offset)
{
    struct memdb_record_header header;
    memcpy(&header, at, HEADER);
    uint64_t padded = ((uint64_t)header.size + 7) & ~UINT64_C(7);
    header.magic = MEMDB_RECORD_MAGIC;
    header.version = RECORD_VERSION;
    header.body_crc = memdb_crc32c(0, at + HEADER, header.size - HEADER);
    memcpy(at, &header, HEADER);
    header.header_crc = header_crc(at, salt, offset);
    memcpy(at, &header, HEADER);
    memset(at + header.size, 0, padded - header.size);
    return padded;
}

/* A header whose checksum fits, at offset. 1 if so. */
static int header_good(const uint8_t *segment, uint64_t len, uint64_t offset, uint64_t salt, struct memdb_record_header *header)
{
    if (offset > len || len - offset < HEADER)
        return 0;
    memcpy(header, segment + offset, HEADER);
    return header->magic == MEMDB_RECORD_MAGIC && header->header_crc == header_crc(segment + offset, salt, offset) &&
           header->size >= HEADER && header->lsn <= MEMDB_LSN_MASK && header->durable_lsn <= MEMDB_LSN_MASK;
}

static int body_size_fits(const struct memdb_record_header *header)
{
    uint64_t body = header->size - HEADER;
    switch (header->type) {
    case MEMDB_RECORD_COMMIT: return body >= 8;
    case MEMDB_RECORD_MARK: return body == sizeof(struct memdb_mark_body);
    case MEMDB_RECORD_LINK: return body == sizeof(struct memdb_link_body);
    default: return 0;
    }
}

/* Numbers go on above those of marks and links: they must leave room. */
static int numbers_fit(const memdb_record *record)
{
    struct memdb_link_body link = {0};
    if (record->header.type == MEMDB_RECORD_COMMIT)
        return 1;
    memcpy(&link, record->body, record->body_len); /* a mark's one word is a link's first */
    return link.lsn_limit <= MEMDB_LSN_MASK && link.previous_last_lsn <= MEMDB_LSN_MASK && link.previous_segment <= INT64_MAX &&
           link.term <= INT64_MAX;
}

int memdb_record_read(const uint8_t *segment, uint64_t len, uint64_t offset, uint64_t salt, memdb_record *out)
{
    memset(out, 0, sizeof *out);
    out->offset = offset;
    if (offset >= len)
        return MEMDB_RECORD_END;
    if (!header_good(segment, len, offset, salt, &out->header)) {
        uint64_t look = len - offset < HEADER ? len - offset : HEADER;
        return all_zero(segment + offset, look) ? MEMDB_RECORD_END : MEMDB_RECORD_BAD_HEADER;
    }
    out->body = segment + offset + HEADER;
    out->body_len = (uint32_t)(out->header.size - HEADER);
    out->padded = ((uint64_t)out->header.size + 7) & ~UINT64_C(7);
    if (len - offset < out->padded)
        return MEMDB_RECORD_BAD_BODY;
    if (memdb_crc32c(0, out->body, out->body_len) != out->header.body_crc)
        return MEMDB_RECORD_BAD_BODY;
    if (!all_zero(segment + offset + out->header.size, out->padded - out->header.size))
        return MEMDB_RECORD_BAD_BODY;
    if (out->header.version != RECORD_VERSION)
        return MEMDB_RECORD_TOO_NEW;
    if (!body_size_fits(&out->header))
        return MEMDB_RECORD_TOO_NEW;
    return numbers_fit(out) ? MEMDB_RECORD_GOOD : MEMDB_RECORD_BAD_BODY;
}

int memdb_record_find(const uint8_t *segment, uint64_t len, uint64_t offset, uint64_t salt, memdb_record *out)
{
    const uint32_t magic = MEMDB_RECORD_MAGIC;
    for (uint64_t at = (offset + 7) & ~UINT64_C(7); at + HEADER <= len; at += 8) {
        struct memdb_record_header header;
        if (memcmp(segment + at, &magic, 4) != 0 || !header_good(segment, len, at, salt, &header))
            continue;
        memdb_record_read(segment, len, at, salt, out); /* its body may be bad: the header alone tells D */
        return MEMDB_OK;
    }
    return MEMDB_ABSENT;
}

int memdb_record_torn_like(const uint8_t *segment, uint64_t len, uint64_t offset, uint64_t end)
{
    uint64_t first = (offset + SECTOR - 1) / SECTOR * SECTOR;
    if (end > len)
        end = len;
    if (first > offset && first <= end && all_zero(segment + offset, first - offset))
        return 1;
    for (uint64_t at = first; at + SECTOR <= end; at += SECTOR)
        if (all_zero(segment + at, SECTOR))
            return 1;
    return 0;
}
