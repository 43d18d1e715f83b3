/* readset.c: see readset.h. Pure functions over bytes that may be hostile; any thread.
 *
 * Invariant: as in ops.c, no byte outside the section is read, whatever the lengths inside say: every length is compared with what
 * is left before it is used, never added to a pointer first.
 */
#include "readset.h"

#define ENTRY_HEADER 8u

/* ---------------------------------------------------------------- building ----------------------------- */

static uint8_t *put_entry(uint8_t *at, uint8_t kind, size_t len, size_t second)
{
    uint16_t len16 = (uint16_t)len;
    uint32_t second32 = (uint32_t)second;
    at[0] = kind;
    at[1] = 0;
    memcpy(at + 2, &len16, 2);
    memcpy(at + 4, &second32, 4);
    return at + ENTRY_HEADER;
}

size_t memdb_reads_put_point(uint8_t *buf, size_t cap, const void *key, size_t len, uint64_t lsn)
{
    size_t needed = ENTRY_HEADER + sizeof lsn + len;
    if (len == 0 || len > MEMDB_KEY_MAX)
        return 0;
    if (needed > cap)
        return needed;
    buf = put_entry(buf, MEMDB_READ_POINT, len, 0);
    memcpy(buf, &lsn, sizeof lsn);
    memcpy(buf + sizeof lsn, key, len);
    return needed;
}

size_t memdb_reads_put_range(uint8_t *buf, size_t cap, const void *start, size_t start_len, const void *stop, size_t stop_len)
{
    size_t needed = ENTRY_HEADER + start_len + stop_len;
    if (start_len == 0 || start_len > MEMDB_KEY_MAX || stop_len > MEMDB_KEY_MAX)
        return 0;
    if (needed > cap)
        return needed;
    buf = put_entry(buf, MEMDB_READ_RANGE, start_len, stop_len);
    memcpy(buf, start, start_len);
    if (stop_len > 0)
        memcpy(buf + start_len, stop, stop_len);
    return needed;
}

size_t memdb_reads_header(uint8_t *buf, size_t cap, size_t used, uint32_t count, uint64_t lsn, uint64_t expires_us, uint64_t word)
{
    size_t size = (used + 7) & ~(size_t)7;
    uint64_t words[4] = {lsn, expires_us, word, 0};
    uint32_t sizes[2] = {(uint32_t)size, count};
    if (size > cap || size > UINT32_MAX || used < MEMDB_READS_HEADER)
        return size;
    memcpy(buf, sizes, sizeof sizes);
    memcpy(buf + sizeof sizes, words, sizeof words);
    memset(buf + used, 0, size - used);
    return size;
}

/* ---------------------------------------------------------------- decoding ----------------------------- */

int memdb_reads_begin(memdb_reads *reads, const void *payload, size_t len)
{
    const uint8_t *at = payload;
    uint64_t words[4];
    uint32_t sizes[2];
    if (len < MEMDB_READS_HEADER)
        return MEMDB_INVALID;
    memcpy(sizes, at, sizeof sizes);
    memcpy(words, at + sizeof sizes, sizeof words);
    if (sizes[0] < MEMDB_READS_HEADER || sizes[0] > len || sizes[0] % 8 != 0 || words[3] != 0)
        return MEMDB_INVALID;
    *reads = (memdb_reads){.size = sizes[0], .count = sizes[1], .left = sizes[1], .lsn = words[0], .expires_us = words[1], .word = words[2],
                           .at = at + MEMDB_READS_HEADER, .end = at + sizes[0]};
    return MEMDB_OK;
}

/* Behind the last entry: zeros up to the next multiple of 8, and nothing else. */
static int ended(const memdb_reads *reads)
{
    if (reads->end - reads->at >= 8)
        return MEMDB_INVALID;
    for (const uint8_t *at = reads->at; at < reads->end; at++)
        if (*at != 0)
            return MEMDB_INVALID;
    return MEMDB_ABSENT;
}

int memdb_reads_next(memdb_reads *reads, memdb_read *read)
{
    uint16_t len;
    uint32_t second;
    if (reads->left == 0)
        return ended(reads);
    if (reads->end - reads->at < (ptrdiff_t)ENTRY_HEADER)
        return MEMDB_INVALID;
    *read = (memdb_read){.kind = reads->at[0]};
    memcpy(&len, reads->at + 2, 2);
    memcpy(&second, reads->at + 4, 4);
    if (reads->at[1] != 0 || len == 0 || len > MEMDB_KEY_MAX)
        return MEMDB_INVALID;
    reads->at += ENTRY_HEADER;
    uint64_t rest = (uint64_t)(reads->end - reads->at);
    read->len = len;
    if (read->kind == MEMDB_READ_POINT) {
        if (second != 0 || rest < sizeof read->lsn + (uint64_t)len)
            return MEMDB_INVALID;
        memcpy(&read->lsn, reads->at, sizeof read->lsn);
        reads->at += sizeof read->lsn;
    } else if (read->kind == MEMDB_READ_RANGE) {
        if (second > MEMDB_KEY_MAX || rest < (uint64_t)len + second || ++reads->ranges > MEMDB_READ_RANGES_MAX)
            return MEMDB_INVALID;
    } else {
        return MEMDB_INVALID;
    }
    read->key = reads->at;
    read->stop = reads->at + len;
    read->stop_len = second;
    reads->at += (size_t)len + second;
    reads->left--;
    return MEMDB_OK;
}
