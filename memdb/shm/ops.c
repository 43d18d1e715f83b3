/* ops.c: see ops.h. Pure functions over bytes that may be hostile; any thread.
 *
 * Invariant: no byte outside [payload, payload + len) is read, whatever the lengths inside say: every length is compared with
 * what is left before it is used, never added to a pointer first.
 */
#include "ops.h"

#define OP_HEADER 8u
#define OP_CONDITIONS (MEMDB_OP_IF_VERSION | MEMDB_OP_IF_ABSENT | MEMDB_OP_IF_PRESENT)

int memdb_ops_begin(memdb_ops_reader *reader, const void *payload, size_t len)
{
    uint32_t words[2];
    if (len < sizeof words)
        return MEMDB_INVALID;
    memcpy(words, payload, sizeof words);
    reader->at = (const uint8_t *)payload + sizeof words;
    reader->end = (const uint8_t *)payload + len;
    reader->left = words[0];
    return words[1] == 0 ? MEMDB_OK : MEMDB_INVALID;
}

/* Which flags an operation may carry. */
static int flags_fit(const memdb_op *op)
{
    switch (op->code) {
    case MEMDB_OP_SET:
        return (op->flags & ~(OP_CONDITIONS | MEMDB_OP_HAS_TTL | MEMDB_OP_KEEP_TTL)) == 0 &&
               (op->flags & (MEMDB_OP_HAS_TTL | MEMDB_OP_KEEP_TTL)) != (MEMDB_OP_HAS_TTL | MEMDB_OP_KEEP_TTL);
    case MEMDB_OP_DELETE:
        return (op->flags & ~(OP_CONDITIONS | MEMDB_OP_ONLY_EXPIRED)) == 0 && op->value_len == 0;
    case MEMDB_OP_DELETE_RANGE:
        return op->flags == 0 && op->value_len <= MEMDB_KEY_MAX;
    case MEMDB_OP_CHECK:
        return (op->flags & ~OP_CONDITIONS) == 0 && op->flags != 0 && op->value_len == 0;
    default:
        return 0;
    }
}

static int take_u64(memdb_ops_reader *reader, uint64_t *out)
{
    if ((size_t)(reader->end - reader->at) < sizeof *out)
        return 0;
    memcpy(out, reader->at, sizeof *out);
    reader->at += sizeof *out;
    return 1;
}

int memdb_ops_next(memdb_ops_reader *reader, memdb_op *op)
{
    if (reader->left == 0)
        return reader->at == reader->end ? MEMDB_ABSENT : MEMDB_INVALID;
    if (reader->end - reader->at < (ptrdiff_t)OP_HEADER)
        return MEMDB_INVALID;
    op->code = reader->at[0];
    op->flags = reader->at[1];
    memcpy(&op->key_len, reader->at + 2, 2);
    memcpy(&op->value_len, reader->at + 4, 4);
    reader->at += OP_HEADER;
    op->expires_us = op->if_lsn = 0;
    if (op->key_len == 0 || op->key_len > MEMDB_KEY_MAX || op->value_len > MEMDB_SIZE_MASK || !flags_fit(op))
        return MEMDB_INVALID;
    if ((op->flags & MEMDB_OP_HAS_TTL) && !take_u64(reader, &op->expires_us))
        return MEMDB_INVALID;
    if ((op->flags & MEMDB_OP_IF_VERSION) && !take_u64(reader, &op->if_lsn))
        return MEMDB_INVALID;
    if ((uint64_t)(reader->end - reader->at) < (uint64_t)op->key_len + op->value_len)
        return MEMDB_INVALID;
    op->key = reader->at;
    op->value = reader->at + op->key_len;
    reader->at += (size_t)op->key_len + op->value_len;
    reader->left--;
    return MEMDB_OK;
}

size_t memdb_ops_put(uint8_t *buf, size_t cap, const memdb_op *op)
{
    size_t needed = OP_HEADER + op->key_len + (size_t)op->value_len;
    if (op->flags & MEMDB_OP_HAS_TTL)
        needed += 8;
    if (op->flags & MEMDB_OP_IF_VERSION)
        needed += 8;
    if (needed > cap)
        return needed;
    *buf++ = op->code;
    *buf++ = op->flags;
    memcpy(buf, &op->key_len, 2), buf += 2;
    memcpy(buf, &op->value_len, 4), buf += 4;
    if (op->flags & MEMDB_OP_HAS_TTL)
        memcpy(buf, &op->expires_us, 8), buf += 8;
    if (op->flags & MEMDB_OP_IF_VERSION)
        memcpy(buf, &op->if_lsn, 8), buf += 8;
    memcpy(buf, op->key, op->key_len), buf += op->key_len;
    if (op->value_len > 0)
        memcpy(buf, op->value, op->value_len);
    return needed;
}
