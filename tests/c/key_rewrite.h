/*
 * Shared by the key codec's tests: reads bytes as a key and writes what was read back.
 *
 * Owns: nothing. Checks on the way what holds for any bytes: no read outside, progress with every element,
 * errors that move nothing, and one encoding for one key.
 */
#ifndef MEMDB_TESTS_KEY_REWRITE_H
#define MEMDB_TESTS_KEY_REWRITE_H

#include "check.h"

#include "../../memdb/shm/key.h"

/* The longest encoding that a test makes, in bytes. */
enum { KEY_REWRITE_MAX = 1 << 14 };

static inline int put_item(memdb_key_writer *writer, const memdb_key_item *item)
{
    uint8_t payload[KEY_REWRITE_MAX];
    if (item->kind == MEMDB_KEY_BYTES || item->kind == MEMDB_KEY_STR || item->kind == MEMDB_KEY_BIGINT ||
        item->kind == MEMDB_KEY_UUID) {
        CHECK(memdb_key_copy_payload(item, payload, item->payload_len) == 0);
        if (item->payload_len > 0)
            CHECK(memdb_key_copy_payload(item, payload, item->payload_len - 1) == MEMDB_KEY_OVERFLOW);
    } else {
        CHECK(memdb_key_copy_payload(item, payload, sizeof payload) == MEMDB_KEY_UNSUPPORTED);
    }
    switch (item->kind) {
    case MEMDB_KEY_NULL:
        return memdb_key_put_null(writer);
    case MEMDB_KEY_BYTES:
        return memdb_key_put_bytes(writer, payload, item->payload_len);
    case MEMDB_KEY_STR:
        return memdb_key_put_str(writer, payload, item->payload_len);
    case MEMDB_KEY_TUPLE_BEGIN:
        return memdb_key_put_begin_tuple(writer);
    case MEMDB_KEY_TUPLE_END:
        return memdb_key_put_end_tuple(writer);
    case MEMDB_KEY_INT64:
        return memdb_key_put_int64(writer, item->int64);
    case MEMDB_KEY_BIGINT:
        return memdb_key_put_bigint(writer, item->negative, payload, item->payload_len);
    case MEMDB_KEY_DOUBLE:
        return memdb_key_put_double(writer, item->float64);
    case MEMDB_KEY_BOOL:
        return memdb_key_put_bool(writer, item->boolean);
    case MEMDB_KEY_UUID:
        CHECK(item->payload_len == 16);
        return memdb_key_put_uuid(writer, payload);
    default:
        CHECK(item->kind == MEMDB_KEY_DATETIME);
        return memdb_key_put_datetime_us(writer, item->int64);
    }
}

/*
 * Reads `n` bytes, from an allocation of that exact size so that AddressSanitizer sees every read outside.
 * If they are accepted and hold no float32, writing what was read gives the same bytes again.
 */
static inline int read_and_rewrite(const uint8_t *bytes, size_t n)
{
    uint8_t *exact = malloc(n > 0 ? n : 1);
    uint8_t rewritten[KEY_REWRITE_MAX];
    memdb_key_reader reader;
    memdb_key_writer writer;
    memdb_key_item item;
    bool has_float32 = false;
    int result;

    CHECK(exact != NULL && n <= sizeof rewritten);
    if (n > 0)
        memcpy(exact, bytes, n);
    memdb_key_reader_init(&reader, exact, n);
    memdb_key_writer_init(&writer, rewritten, sizeof rewritten);
    for (;;) {
        const uint8_t *before = reader.p;
        result = memdb_key_next(&reader, &item);
        CHECK(reader.p >= before && reader.p <= reader.end && reader.depth <= MEMDB_KEY_MAX_DEPTH);
        if (result < 0) {
            CHECK(reader.p == before && memdb_key_next(&reader, &item) == result);
            break;
        }
        CHECK(result == 0);
        if (item.kind == MEMDB_KEY_END)
            break;
        CHECK(reader.p > before);
        if (item.kind == MEMDB_KEY_FLOAT32)
            has_float32 = true;
        else
            CHECK(put_item(&writer, &item) == 0);
    }
    if (result == 0 && !has_float32)
        CHECK(writer.len == n && (n == 0 || memcmp(rewritten, bytes, n) == 0));
    free(exact);
    return result;
}

#endif
