/*
 * The key codec by examples: the published vectors, the fast path, prefix ranges, refusals, depth.
 * test_key_order.c has the properties over random keys.
 */
#include "check.h"
#include "key_rewrite.h"

#include "../../memdb/shm/key.h"

#include <math.h>

/* ---- vectors ---- */

/* Encodes with `put_` into a fresh writer called `w`, and compares, and reads back. */
#define CHECK_PUT(put_, literal) \
    do { \
        uint8_t buf_[600]; \
        memdb_key_writer w; \
        memdb_key_writer_init(&w, buf_, sizeof buf_); \
        CHECK((put_) == 0); \
        CHECK_BYTES(buf_, w.len, literal); \
        CHECK(read_and_rewrite(buf_, w.len) == 0); \
    } while (0)

#define BYTES(literal) (const uint8_t *)(literal), sizeof(literal) - 1

/* The test cases in FoundationDB's specification of the tuple layer, and values derived from its rules. */
static void test_vectors_of_text_and_constants(void)
{
    static const uint8_t uuid[16] = {0xFF, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0};
    CHECK_PUT(memdb_key_put_null(&w), "\x00");
    CHECK_PUT(memdb_key_put_bytes(&w, BYTES("foo\0bar")), "\x01" "foo\x00\xff" "bar\x00");
    CHECK_PUT(memdb_key_put_bytes(&w, NULL, 0), "\x01\x00");
    CHECK_PUT(memdb_key_put_bytes(&w, BYTES("\0")), "\x01\x00\xff\x00");
    CHECK_PUT(memdb_key_put_bytes(&w, BYTES("\0\0")), "\x01\x00\xff\x00\xff\x00");
    CHECK_PUT(memdb_key_put_bytes(&w, BYTES("\0\xff")), "\x01\x00\xff\xff\x00");
    CHECK_PUT(memdb_key_put_str(&w, BYTES("F\xc3\x94O\0bar")), "\x02" "F\xc3\x94O\x00\xff" "bar\x00");
    CHECK_PUT(memdb_key_put_str(&w, NULL, 0), "\x02\x00");
    CHECK_PUT(memdb_key_put_bool(&w, false), "\x26");
    CHECK_PUT(memdb_key_put_bool(&w, true), "\x27");
    CHECK_PUT(memdb_key_put_uuid(&w, uuid),
              "\x30\xff\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x00");
    CHECK_PUT(memdb_key_put_datetime_us(&w, 0), "\x40\x80\x00\x00\x00\x00\x00\x00\x00");
    CHECK_PUT(memdb_key_put_datetime_us(&w, -1), "\x40\x7f\xff\xff\xff\xff\xff\xff\xff");
    CHECK_PUT(memdb_key_put_datetime_us(&w, 1767225600000000), "\x40\x80\x06\x47\x48\x46\x20\x40\x00");
    CHECK_PUT(memdb_key_put_datetime_us(&w, INT64_MIN), "\x40\x00\x00\x00\x00\x00\x00\x00\x00");
    CHECK_PUT(memdb_key_put_datetime_us(&w, INT64_MAX), "\x40\xff\xff\xff\xff\xff\xff\xff\xff");
}

static void test_vectors_of_integers(void)
{
    uint8_t ones[256];
    memset(ones, 0xFF, sizeof ones);
    CHECK_PUT(memdb_key_put_int64(&w, -5551212), "\x11\xabK\x93");
    CHECK_PUT(memdb_key_put_int64(&w, 0), "\x14");
    CHECK_PUT(memdb_key_put_int64(&w, 1), "\x15\x01");
    CHECK_PUT(memdb_key_put_int64(&w, -1), "\x13\xfe");
    CHECK_PUT(memdb_key_put_int64(&w, 255), "\x15\xff");
    CHECK_PUT(memdb_key_put_int64(&w, -255), "\x13\x00");
    CHECK_PUT(memdb_key_put_int64(&w, 256), "\x16\x01\x00");
    CHECK_PUT(memdb_key_put_int64(&w, -256), "\x12\xfe\xff");
    CHECK_PUT(memdb_key_put_int64(&w, 65535), "\x16\xff\xff");
    CHECK_PUT(memdb_key_put_int64(&w, 65536), "\x17\x01\x00\x00");
    CHECK_PUT(memdb_key_put_int64(&w, INT64_MAX), "\x1c\x7f\xff\xff\xff\xff\xff\xff\xff");
    CHECK_PUT(memdb_key_put_int64(&w, INT64_MIN), "\x0c\x7f\xff\xff\xff\xff\xff\xff\xff");
    CHECK_PUT(memdb_key_put_int64(&w, INT64_MIN + 1), "\x0c\x80\x00\x00\x00\x00\x00\x00\x00");
    CHECK_PUT(memdb_key_put_uint64(&w, UINT64_MAX), "\x1c\xff\xff\xff\xff\xff\xff\xff\xff");
    CHECK_PUT(memdb_key_put_bigint(&w, false, BYTES("\x00\x00\x01\x00")), "\x16\x01\x00");
    CHECK_PUT(memdb_key_put_bigint(&w, true, BYTES("\x00")), "\x14");
    CHECK_PUT(memdb_key_put_bigint(&w, true, NULL, 0), "\x14");
    CHECK_PUT(memdb_key_put_bigint(&w, true, ones, 8), "\x0c\x00\x00\x00\x00\x00\x00\x00\x00");
    CHECK_PUT(memdb_key_put_bigint(&w, false, BYTES("\x01\0\0\0\0\0\0\0\0")), "\x1d\x09\x01\0\0\0\0\0\0\0\0");
    CHECK_PUT(memdb_key_put_bigint(&w, true, BYTES("\x01\0\0\0\0\0\0\0\0")),
              "\x0b\xf6\xfe\xff\xff\xff\xff\xff\xff\xff\xff");

    uint8_t buf[300];
    memdb_key_writer writer;
    memdb_key_writer_init(&writer, buf, sizeof buf);
    CHECK(memdb_key_put_bigint(&writer, true, ones, 256) == MEMDB_KEY_UNSUPPORTED && writer.len == 0);
    CHECK(memdb_key_put_bigint(&writer, true, ones, 255) == 0 && writer.len == 257);
    CHECK(buf[0] == 0x0B && buf[1] == 0x00 && buf[2] == 0x00 && buf[256] == 0x00);
    CHECK(read_and_rewrite(buf, writer.len) == 0);
}

static void test_vectors_of_doubles(void)
{
    memdb_key_reader reader;
    memdb_key_item item;
    uint8_t buf[16];
    memdb_key_writer writer;

    CHECK_PUT(memdb_key_put_double(&w, 0.0), "\x21\x80\x00\x00\x00\x00\x00\x00\x00");
    CHECK_PUT(memdb_key_put_double(&w, -0.0), "\x21\x7f\xff\xff\xff\xff\xff\xff\xff");
    CHECK_PUT(memdb_key_put_double(&w, -42.0), "\x21\x3f\xba\xff\xff\xff\xff\xff\xff");
    CHECK_PUT(memdb_key_put_double(&w, 1.0), "\x21\xbf\xf0\x00\x00\x00\x00\x00\x00");
    CHECK_PUT(memdb_key_put_double(&w, INFINITY), "\x21\xff\xf0\x00\x00\x00\x00\x00\x00");
    CHECK_PUT(memdb_key_put_double(&w, -INFINITY), "\x21\x00\x0f\xff\xff\xff\xff\xff\xff");
    memdb_key_writer_init(&writer, buf, sizeof buf);
    CHECK(memdb_key_put_double(&writer, (double)NAN) == MEMDB_KEY_UNSUPPORTED);
    CHECK(memdb_key_put_double(&writer, -(double)NAN) == MEMDB_KEY_UNSUPPORTED && writer.len == 0);

    memdb_key_reader_init(&reader, BYTES("\x20\x3d\xd7\xff\xff\x20\xff\x80\x00\x00"));
    CHECK(memdb_key_next(&reader, &item) == 0 && item.kind == MEMDB_KEY_FLOAT32 && item.float64 == -42.0);
    CHECK(memdb_key_next(&reader, &item) == 0 && item.kind == MEMDB_KEY_FLOAT32 && item.float64 == INFINITY);
    CHECK(memdb_key_next(&reader, &item) == 0 && item.kind == MEMDB_KEY_END);
    CHECK(memdb_key_next(&reader, &item) == 0 && item.kind == MEMDB_KEY_END);
}

static void test_vectors_of_tuples(void)
{
    uint8_t buf[64];
    memdb_key_writer w;
    memdb_key_writer_init(&w, buf, sizeof buf);
    CHECK(memdb_key_put_begin_tuple(&w) == 0 && memdb_key_put_bytes(&w, BYTES("foo\0bar")) == 0);
    CHECK(memdb_key_put_null(&w) == 0 && memdb_key_put_begin_tuple(&w) == 0);
    CHECK(memdb_key_put_end_tuple(&w) == 0 && memdb_key_put_end_tuple(&w) == 0);
    CHECK_BYTES(buf, w.len, "\x05\x01" "foo\x00\xff" "bar\x00\x00\xff\x05\x00\x00");
    CHECK(read_and_rewrite(buf, w.len) == 0);
    CHECK(memdb_key_put_end_tuple(&w) == MEMDB_KEY_UNSUPPORTED);

    /* A stored key: the space, then the tuple ("a", 1). */
    memdb_key_writer_init(&w, buf, sizeof buf);
    CHECK(memdb_key_put_space(&w, MEMDB_KEY_SPACE_MAPPING) == 0 && memdb_key_put_begin_tuple(&w) == 0);
    CHECK(memdb_key_put_str(&w, BYTES("a")) == 0 && memdb_key_put_int64(&w, 1) == 0);
    CHECK(memdb_key_put_end_tuple(&w) == 0);
    CHECK_BYTES(buf, w.len, "\x01\x05\x02" "a\x00\x15\x01\x00");
    CHECK(memdb_key_validate(buf, w.len) == 1);
    CHECK(memdb_key_validate(buf, w.len - 1) == MEMDB_KEY_TRUNCATED);
    CHECK(memdb_key_validate(buf, 1) == 0 && memdb_key_validate(buf, 0) == MEMDB_KEY_TRUNCATED);
    CHECK(memdb_key_validate(BYTES("\x02\x00\x14\x05\x14\x14\x00")) == 3);
}

/* ---- small ones, one by one ---- */

static bool sorts_before(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
    int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
    return order < 0 || (order == 0 && a_len < b_len);
}

static void test_order_of_small_integers(void)
{
    uint8_t previous[9], present[9];
    size_t previous_len = 0;
    for (int64_t i = -70000; i <= 70000; i++) {
        memdb_key_writer writer;
        memdb_key_writer_init(&writer, present, sizeof present);
        CHECK(memdb_key_put_int64(&writer, i) == 0);
        CHECK(previous_len == 0 || sorts_before(previous, previous_len, present, writer.len));
        memdb_key_reader reader;
        memdb_key_item item;
        memdb_key_reader_init(&reader, present, writer.len);
        CHECK(memdb_key_next(&reader, &item) == 0 && item.kind == MEMDB_KEY_INT64 && item.int64 == i);
        memcpy(previous, present, previous_len = writer.len);
    }
}

static void test_fast_path(uint64_t seed)
{
    uint8_t expected[64], actual[64], text[12];
    for (int i = 0; i < 20000; i++) {
        size_t n = check_random_below(&seed, sizeof text + 1);
        for (size_t k = 0; k < n; k++)
            text[k] = (uint8_t)(check_random_below(&seed, 4) * 0x55);
        memdb_key_writer writer;
        memdb_key_writer_init(&writer, expected, sizeof expected);
        bool is_str = i % 2 == 0;
        CHECK(memdb_key_put_space(&writer, 7) == 0);
        CHECK((is_str ? memdb_key_put_str : memdb_key_put_bytes)(&writer, text, n) == 0);
        int (*encode)(uint8_t *, size_t, uint8_t, const uint8_t *, size_t) =
            is_str ? memdb_key_encode_str : memdb_key_encode_bytes;
        CHECK(writer.len <= 2 * n + 3);
        memset(actual, 0xAA, sizeof actual);
        CHECK(encode(actual, writer.len, 7, text, n) == (int)writer.len);
        CHECK(memcmp(actual, expected, writer.len) == 0 && actual[writer.len] == 0xAA);
        for (size_t cap = 0; cap < writer.len; cap++) {
            memset(actual, 0xAA, sizeof actual);
            CHECK(encode(actual, cap, 7, text, n) == MEMDB_KEY_OVERFLOW && actual[cap] == 0xAA);
        }
    }
    CHECK(memdb_key_encode_str(actual, sizeof actual, 1, NULL, 0) == 3);
    CHECK_BYTES(actual, 3, "\x01\x02\x00");
    CHECK(memdb_key_encode_bytes(actual, sizeof actual, 1, text, SIZE_MAX) == MEMDB_KEY_OVERFLOW);
}

static void test_prefix_examples(void)
{
    uint8_t stop[16];
    int len = memdb_key_prefix_stop(BYTES("\x01\x02" "ab\x00"), stop, sizeof stop);
    CHECK_BYTES(stop, (size_t)len, "\x01\x02" "ac");
    len = memdb_key_prefix_stop(BYTES("\x01\x01" "a\xff\xff\x00"), stop, sizeof stop);
    CHECK_BYTES(stop, (size_t)len, "\x01\x01" "b");
    len = memdb_key_prefix_stop(BYTES("\x01\x01\x00"), stop, sizeof stop);
    CHECK_BYTES(stop, (size_t)len, "\x01\x02");
    len = memdb_key_prefix_stop(BYTES("\x01\x05\x02" "k\x00\x15\x01\x00"), stop, sizeof stop);
    CHECK_BYTES(stop, (size_t)len, "\x01\x05\x02" "k\x00\x15\x01\xff");
    CHECK(memdb_key_prefix_stop(BYTES("\x01\x02" "ab\x00"), stop, 4) == MEMDB_KEY_OVERFLOW);
    CHECK(memdb_key_prefix_stop(BYTES("\x01\x02" "ab"), stop, sizeof stop) == MEMDB_KEY_TRUNCATED);
    CHECK(memdb_key_prefix_stop(BYTES("\x01\x15\x01"), stop, sizeof stop) == MEMDB_KEY_UNSUPPORTED);
    CHECK(memdb_key_prefix_stop(BYTES("\x01\x02\x00\x02\x00"), stop, sizeof stop) == MEMDB_KEY_UNSUPPORTED);
}

/* ---- hostile bytes ---- */

static void test_refusals(void)
{
    CHECK(read_and_rewrite(BYTES("\x01" "abc")) == MEMDB_KEY_TRUNCATED);
    CHECK(read_and_rewrite(BYTES("\x01" "a\x00\xff")) == MEMDB_KEY_TRUNCATED);
    CHECK(read_and_rewrite(BYTES("\x05\x00\xff")) == MEMDB_KEY_TRUNCATED);
    CHECK(read_and_rewrite(BYTES("\x00\xff")) == MEMDB_KEY_MALFORMED);     /* escaped in tuples only */
    CHECK(read_and_rewrite(BYTES("\x15\x00")) == MEMDB_KEY_MALFORMED);     /* 0 is 14 */
    CHECK(read_and_rewrite(BYTES("\x16\x00\x05")) == MEMDB_KEY_MALFORMED); /* 5 is 15 05 */
    CHECK(read_and_rewrite(BYTES("\x12\xff\xfe")) == MEMDB_KEY_MALFORMED); /* -1 is 13 fe */
    CHECK(read_and_rewrite(BYTES("\x1d\x08\x01\0\0\0\0\0\0\0")) == MEMDB_KEY_MALFORMED);
    CHECK(read_and_rewrite(BYTES("\x1d\x09\x00\0\0\0\0\0\0\0\x01")) == MEMDB_KEY_MALFORMED);
    CHECK(read_and_rewrite(BYTES("\x1d\xff\x01")) == MEMDB_KEY_TRUNCATED);
    CHECK(read_and_rewrite(BYTES("\x0b\x00\x01")) == MEMDB_KEY_TRUNCATED);
    CHECK(read_and_rewrite(BYTES("\x0b")) == MEMDB_KEY_TRUNCATED);
    CHECK(read_and_rewrite(BYTES("\x21\xff\xf8\0\0\0\0\0\0")) == MEMDB_KEY_MALFORMED); /* NaN */
    CHECK(read_and_rewrite(BYTES("\x21\x00\x07\0\0\0\0\0\0")) == MEMDB_KEY_MALFORMED); /* -NaN */
    CHECK(read_and_rewrite(BYTES("\x20\xff\xc0\0\0")) == MEMDB_KEY_MALFORMED);
    for (int code = 0; code < 256; code++) {
        bool known = code <= 0x02 || code == 0x05 || (code >= 0x0B && code <= 0x1D) || code == 0x20 ||
                     code == 0x21 || code == 0x26 || code == 0x27 || code == 0x30 || code == 0x40;
        uint8_t byte = (uint8_t)code;
        CHECK((read_and_rewrite(&byte, 1) == MEMDB_KEY_MALFORMED) == !known);
    }
}

static void test_depth(void)
{
    uint8_t buf[2 * MEMDB_KEY_MAX_DEPTH + 2];
    memdb_key_writer writer;
    memdb_key_writer_init(&writer, buf, sizeof buf);
    for (int i = 0; i < MEMDB_KEY_MAX_DEPTH; i++)
        CHECK(memdb_key_put_begin_tuple(&writer) == 0);
    CHECK(memdb_key_put_begin_tuple(&writer) == MEMDB_KEY_TOO_DEEP && writer.len == MEMDB_KEY_MAX_DEPTH);
    for (int i = 0; i < MEMDB_KEY_MAX_DEPTH; i++)
        CHECK(memdb_key_put_end_tuple(&writer) == 0);
    CHECK(read_and_rewrite(buf, writer.len) == 0);
    memset(buf, 0x05, MEMDB_KEY_MAX_DEPTH + 1);
    memset(buf + MEMDB_KEY_MAX_DEPTH + 1, 0x00, MEMDB_KEY_MAX_DEPTH + 1);
    CHECK(read_and_rewrite(buf, sizeof buf) == MEMDB_KEY_TOO_DEEP);
}

int main(void)
{
    test_vectors_of_text_and_constants();
    test_vectors_of_integers();
    test_vectors_of_doubles();
    test_vectors_of_tuples();
    test_order_of_small_integers();
    test_fast_path(13);
    test_prefix_examples();
    test_refusals();
    test_depth();
    printf("key: ok\n");
    return 0;
}
