/*
 * The key codec: see key.h for who may call what, docs/formats/keys.md for the bytes.
 *
 * Owns: the type codes. No mutable data and no atomics: a call touches only what it is handed.
 * Invariants kept here: every store is behind a check of the room for a whole element (claim(), and
 * once in encode_text()); every load is behind a comparison with reader->end.
 */
#include "key.h"

#include <limits.h>
#include <string.h>

enum {
    CODE_NULL = 0x00, /* also what ends bytes, str and tuples */
    CODE_BYTES = 0x01,
    CODE_STR = 0x02,
    CODE_TUPLE = 0x05,
    CODE_NEGATIVE_BIGINT = 0x0B,
    CODE_INT_MIN = 0x0C, /* a negative integer of 8 bytes */
    CODE_INT_ZERO = 0x14, /* code - CODE_INT_ZERO: the sign, and the magnitude's length */
    CODE_INT_MAX = 0x1C, /* a positive integer of 8 bytes */
    CODE_POSITIVE_BIGINT = 0x1D,
    CODE_FLOAT32 = 0x20,
    CODE_DOUBLE = 0x21,
    CODE_FALSE = 0x26,
    CODE_TRUE = 0x27,
    CODE_UUID = 0x30,
    CODE_DATETIME = 0x40, /* the first user type code: memdb's own */
    ESCAPE = 0xFF         /* after 00: that is data (or a null in a tuple), not an end; never a type code */
};

#define SIGN_BIT_32 0x80000000u
#define SIGN_BIT_64 0x8000000000000000u
#define INFINITY_BITS_32 0x7F800000u
#define INFINITY_BITS_64 0x7FF0000000000000u

/* ---- writing ---- */

/* Room for `n` bytes, already counted as written; NULL, and nothing changed, if there is less. */
static uint8_t *claim(memdb_key_writer *writer, size_t n)
{
    if (n > writer->cap - writer->len)
        return NULL;
    uint8_t *place = writer->buf + writer->len;
    writer->len += n;
    return place;
}

static int put_code(memdb_key_writer *writer, uint8_t code)
{
    uint8_t *place = claim(writer, 1);
    if (place == NULL)
        return MEMDB_KEY_OVERFLOW;
    *place = code;
    return 0;
}

/* The low `size` bytes of `value`, most significant first. */
static void store_big_endian(uint8_t *place, uint64_t value, unsigned size)
{
    for (unsigned i = size; i > 0; i--, value >>= 8)
        place[i - 1] = (uint8_t)value;
}

static int put_eight(memdb_key_writer *writer, uint8_t code, uint64_t bits)
{
    uint8_t *place = claim(writer, 9);
    if (place == NULL)
        return MEMDB_KEY_OVERFLOW;
    place[0] = code;
    store_big_endian(place + 1, bits, 8);
    return 0;
}

static const uint8_t *find_nul(const uint8_t *s, size_t n)
{
    return n > 0 ? memchr(s, 0, n) : NULL;
}

static size_t count_nuls(const uint8_t *s, const uint8_t *first_nul, size_t n)
{
    size_t count = 0;
    for (const uint8_t *nul = first_nul; nul != NULL; nul = find_nul(nul + 1, (size_t)(s + n - (nul + 1))))
        count++;
    return count;
}

/* `s` with an ESCAPE after each NUL; returns where it ends. */
static uint8_t *store_escaped(uint8_t *place, const uint8_t *s, size_t n)
{
    while (n > 0) {
        const uint8_t *nul = find_nul(s, n);
        size_t run = nul != NULL ? (size_t)(nul - s) + 1 : n;
        memcpy(place, s, run);
        place += run;
        if (nul != NULL)
            *place++ = ESCAPE;
        s += run;
        n -= run;
    }
    return place;
}

static int put_text(memdb_key_writer *writer, uint8_t code, const uint8_t *s, size_t n)
{
    /* Before the sum below, so that it can't wrap: a buffer is never above half of the address space. */
    if (n > writer->cap - writer->len)
        return MEMDB_KEY_OVERFLOW;
    const uint8_t *nul = find_nul(s, n);
    uint8_t *place = claim(writer, 1 + n + count_nuls(s, nul, n) + 1);
    if (place == NULL)
        return MEMDB_KEY_OVERFLOW;
    *place++ = code;
    if (nul != NULL) {
        place = store_escaped(place, s, n);
    } else if (n > 0) {
        memcpy(place, s, n);
        place += n;
    }
    *place = CODE_NULL;
    return 0;
}

static unsigned count_bytes(uint64_t magnitude)
{
    return magnitude == 0 ? 0 : 8 - (unsigned)__builtin_clzll(magnitude) / 8;
}

/* A negative magnitude is stored complemented, so that the larger one sorts first. */
static int put_magnitude(memdb_key_writer *writer, bool negative, uint64_t magnitude)
{
    unsigned size = count_bytes(magnitude);
    uint8_t *place = claim(writer, 1 + size);
    if (place == NULL)
        return MEMDB_KEY_OVERFLOW;
    place[0] = (uint8_t)(negative ? CODE_INT_ZERO - size : CODE_INT_ZERO + size);
    store_big_endian(place + 1, negative ? ~magnitude : magnitude, size);
    return 0;
}

int memdb_key_put_space(memdb_key_writer *writer, uint8_t space)
{
    return put_code(writer, space);
}

int memdb_key_put_null(memdb_key_writer *writer)
{
    if (writer->depth == 0)
        return put_code(writer, CODE_NULL);
    uint8_t *place = claim(writer, 2);
    if (place == NULL)
        return MEMDB_KEY_OVERFLOW;
    place[0] = CODE_NULL;
    place[1] = ESCAPE;
    return 0;
}

int memdb_key_put_bytes(memdb_key_writer *writer, const uint8_t *s, size_t n)
{
    return put_text(writer, CODE_BYTES, s, n);
}

int memdb_key_put_str(memdb_key_writer *writer, const uint8_t *s, size_t n)
{
    return put_text(writer, CODE_STR, s, n);
}

int memdb_key_put_int64(memdb_key_writer *writer, int64_t value)
{
    return put_magnitude(writer, value < 0, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

int memdb_key_put_uint64(memdb_key_writer *writer, uint64_t value)
{
    return put_magnitude(writer, false, value);
}

int memdb_key_put_bigint(memdb_key_writer *writer, bool negative, const uint8_t *magnitude, size_t n)
{
    while (n > 0 && magnitude[0] == 0) {
        magnitude++;
        n--;
    }
    if (n <= 8) {
        uint64_t small = 0;
        for (size_t i = 0; i < n; i++)
            small = small << 8 | magnitude[i];
        return put_magnitude(writer, negative, small);
    }
    if (n > MEMDB_KEY_MAX_INT_BYTES)
        return MEMDB_KEY_UNSUPPORTED;
    uint8_t *place = claim(writer, 2 + n);
    if (place == NULL)
        return MEMDB_KEY_OVERFLOW;
    uint8_t flip = negative ? 0xFF : 0x00;
    place[0] = negative ? CODE_NEGATIVE_BIGINT : CODE_POSITIVE_BIGINT;
    place[1] = (uint8_t)n ^ flip;
    for (size_t i = 0; i < n; i++)
        place[2 + i] = magnitude[i] ^ flip;
    return 0;
}

int memdb_key_put_double(memdb_key_writer *writer, double value)
{
    uint64_t bits;
    _Static_assert(sizeof bits == sizeof value, "a double is IEEE 754 binary64");
    memcpy(&bits, &value, sizeof bits);
    if ((bits & ~SIGN_BIT_64) > INFINITY_BITS_64)
        return MEMDB_KEY_UNSUPPORTED;
    return put_eight(writer, CODE_DOUBLE, (bits & SIGN_BIT_64) != 0 ? ~bits : bits ^ SIGN_BIT_64);
}

int memdb_key_put_bool(memdb_key_writer *writer, bool value)
{
    return put_code(writer, value ? CODE_TRUE : CODE_FALSE);
}

int memdb_key_put_uuid(memdb_key_writer *writer, const uint8_t uuid[16])
{
    uint8_t *place = claim(writer, 17);
    if (place == NULL)
        return MEMDB_KEY_OVERFLOW;
    place[0] = CODE_UUID;
    memcpy(place + 1, uuid, 16);
    return 0;
}

int memdb_key_put_datetime_us(memdb_key_writer *writer, int64_t microseconds)
{
    return put_eight(writer, CODE_DATETIME, (uint64_t)microseconds ^ SIGN_BIT_64);
}

int memdb_key_put_begin_tuple(memdb_key_writer *writer)
{
    if (writer->depth >= MEMDB_KEY_MAX_DEPTH)
        return MEMDB_KEY_TOO_DEEP;
    int result = put_code(writer, CODE_TUPLE);
    if (result == 0)
        writer->depth++;
    return result;
}

int memdb_key_put_end_tuple(memdb_key_writer *writer)
{
    if (writer->depth == 0)
        return MEMDB_KEY_UNSUPPORTED;
    int result = put_code(writer, CODE_NULL);
    if (result == 0)
        writer->depth--;
    return result;
}

static int encode_text(uint8_t *out, size_t cap, uint8_t space, uint8_t code, const uint8_t *s, size_t n)
{
    memdb_key_writer writer;
    if (cap > INT_MAX)
        cap = INT_MAX;
    /* Nearly every key of a point read: it fits and has no NUL. Measured: 30 % below the writer. */
    if (n > 0 && n < cap && cap - n >= 3 && memchr(s, 0, n) == NULL) {
        out[0] = space;
        out[1] = code;
        memcpy(out + 2, s, n);
        out[2 + n] = CODE_NULL;
        return (int)(n + 3);
    }
    memdb_key_writer_init(&writer, out, cap);
    int result = put_code(&writer, space);
    if (result == 0)
        result = put_text(&writer, code, s, n);
    return result < 0 ? result : (int)writer.len;
}

int memdb_key_encode_bytes(uint8_t *out, size_t cap, uint8_t space, const uint8_t *s, size_t n)
{
    return encode_text(out, cap, space, CODE_BYTES, s, n);
}

int memdb_key_encode_str(uint8_t *out, size_t cap, uint8_t space, const uint8_t *s, size_t n)
{
    return encode_text(out, cap, space, CODE_STR, s, n);
}

/* ---- reading: p is always just behind the type code ---- */

static uint64_t load_big_endian(const uint8_t *p, unsigned size)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value = value << 8 | p[i];
    return value;
}

/* The element's bytes are [p, p + n): sets the span and moves the reader behind it. */
static int take_span(memdb_key_reader *reader, const uint8_t *p, size_t n, memdb_key_item *out)
{
    if (n > (size_t)(reader->end - p))
        return MEMDB_KEY_TRUNCATED;
    out->span = p;
    out->span_len = out->payload_len = n;
    reader->p = p + n;
    return 0;
}

static int read_text(memdb_key_reader *reader, const uint8_t *p, memdb_key_kind kind, memdb_key_item *out)
{
    size_t escapes = 0;
    const uint8_t *nul = find_nul(p, (size_t)(reader->end - p));
    while (nul != NULL && reader->end - nul > 1 && nul[1] == ESCAPE) {
        escapes++;
        nul = find_nul(nul + 2, (size_t)(reader->end - (nul + 2)));
    }
    if (nul == NULL)
        return MEMDB_KEY_TRUNCATED;
    out->kind = kind;
    out->span = p;
    out->span_len = (size_t)(nul - p);
    out->payload_len = out->span_len - escapes;
    reader->p = nul + 1;
    return 0;
}

static int read_int(memdb_key_reader *reader, const uint8_t *p, uint8_t code, memdb_key_item *out)
{
    bool negative = code < CODE_INT_ZERO;
    unsigned size = negative ? CODE_INT_ZERO - code : code - CODE_INT_ZERO;
    if (size > (size_t)(reader->end - p))
        return MEMDB_KEY_TRUNCATED;
    uint64_t magnitude = load_big_endian(p, size);
    if (negative)
        magnitude = ~magnitude & UINT64_MAX >> (64 - 8 * size);
    if (count_bytes(magnitude) != size)
        return MEMDB_KEY_MALFORMED;
    if (magnitude <= (uint64_t)INT64_MAX) {
        out->kind = MEMDB_KEY_INT64;
        out->int64 = negative ? -(int64_t)magnitude : (int64_t)magnitude;
    } else if (negative && magnitude == SIGN_BIT_64) {
        out->kind = MEMDB_KEY_INT64;
        out->int64 = INT64_MIN;
    } else {
        out->kind = MEMDB_KEY_BIGINT;
        out->negative = negative;
    }
    return take_span(reader, p, size, out);
}

static int read_bigint(memdb_key_reader *reader, const uint8_t *p, bool negative, memdb_key_item *out)
{
    uint8_t flip = negative ? 0xFF : 0x00;
    if (reader->end - p < 1)
        return MEMDB_KEY_TRUNCATED;
    size_t size = (uint8_t)(p[0] ^ flip);
    if (size <= 8)
        return MEMDB_KEY_MALFORMED;
    if (size > (size_t)(reader->end - p) - 1)
        return MEMDB_KEY_TRUNCATED;
    if ((uint8_t)(p[1] ^ flip) == 0)
        return MEMDB_KEY_MALFORMED;
    out->kind = MEMDB_KEY_BIGINT;
    out->negative = negative;
    return take_span(reader, p + 1, size, out);
}

static int read_float32(memdb_key_reader *reader, const uint8_t *p, memdb_key_item *out)
{
    float value;
    if (reader->end - p < 4)
        return MEMDB_KEY_TRUNCATED;
    uint32_t bits = (uint32_t)load_big_endian(p, 4);
    bits = (bits & SIGN_BIT_32) != 0 ? bits ^ SIGN_BIT_32 : ~bits;
    if ((bits & ~SIGN_BIT_32) > INFINITY_BITS_32)
        return MEMDB_KEY_MALFORMED;
    memcpy(&value, &bits, sizeof value);
    out->kind = MEMDB_KEY_FLOAT32;
    out->float64 = value;
    return take_span(reader, p, 4, out);
}

static int read_double(memdb_key_reader *reader, const uint8_t *p, memdb_key_item *out)
{
    if (reader->end - p < 8)
        return MEMDB_KEY_TRUNCATED;
    uint64_t bits = load_big_endian(p, 8);
    bits = (bits & SIGN_BIT_64) != 0 ? bits ^ SIGN_BIT_64 : ~bits;
    if ((bits & ~SIGN_BIT_64) > INFINITY_BITS_64)
        return MEMDB_KEY_MALFORMED;
    memcpy(&out->float64, &bits, sizeof bits);
    out->kind = MEMDB_KEY_DOUBLE;
    return take_span(reader, p, 8, out);
}

static int read_datetime(memdb_key_reader *reader, const uint8_t *p, memdb_key_item *out)
{
    if (reader->end - p < 8)
        return MEMDB_KEY_TRUNCATED;
    uint64_t bits = load_big_endian(p, 8) ^ SIGN_BIT_64;
    memcpy(&out->int64, &bits, sizeof bits);
    out->kind = MEMDB_KEY_DATETIME;
    return take_span(reader, p, 8, out);
}

/* 00 is a null outside tuples; inside one it is the tuple's end, unless ESCAPE follows. */
static int read_nul(memdb_key_reader *reader, const uint8_t *p, memdb_key_item *out)
{
    bool escaped = reader->depth > 0 && reader->end - p > 0 && *p == ESCAPE;
    if (reader->depth > 0 && !escaped) {
        out->kind = MEMDB_KEY_TUPLE_END;
        reader->depth--;
    } else {
        out->kind = MEMDB_KEY_NULL;
    }
    reader->p = escaped ? p + 1 : p;
    return 0;
}

static int read_tuple_begin(memdb_key_reader *reader, const uint8_t *p, memdb_key_item *out)
{
    if (reader->depth >= MEMDB_KEY_MAX_DEPTH)
        return MEMDB_KEY_TOO_DEEP;
    out->kind = MEMDB_KEY_TUPLE_BEGIN;
    reader->depth++;
    reader->p = p;
    return 0;
}

int memdb_key_next(memdb_key_reader *reader, memdb_key_item *out)
{
    *out = (memdb_key_item){.kind = MEMDB_KEY_END};
    if (reader->p == reader->end)
        return reader->depth == 0 ? 0 : MEMDB_KEY_TRUNCATED;

    uint8_t code = *reader->p;
    const uint8_t *p = reader->p + 1;
    switch (code) {
    case CODE_NULL:
        return read_nul(reader, p, out);
    case CODE_BYTES:
        return read_text(reader, p, MEMDB_KEY_BYTES, out);
    case CODE_STR:
        return read_text(reader, p, MEMDB_KEY_STR, out);
    case CODE_TUPLE:
        return read_tuple_begin(reader, p, out);
    case CODE_NEGATIVE_BIGINT:
    case CODE_POSITIVE_BIGINT:
        return read_bigint(reader, p, code == CODE_NEGATIVE_BIGINT, out);
    case CODE_FLOAT32:
        return read_float32(reader, p, out);
    case CODE_DOUBLE:
        return read_double(reader, p, out);
    case CODE_FALSE:
    case CODE_TRUE:
        out->kind = MEMDB_KEY_BOOL;
        out->boolean = code == CODE_TRUE;
        return take_span(reader, p, 0, out);
    case CODE_UUID:
        out->kind = MEMDB_KEY_UUID;
        return take_span(reader, p, 16, out);
    case CODE_DATETIME:
        return read_datetime(reader, p, out);
    default:
        if (code >= CODE_INT_MIN && code <= CODE_INT_MAX)
            return read_int(reader, p, code, out);
        return MEMDB_KEY_MALFORMED;
    }
}

static void copy_unescaped(const memdb_key_item *item, uint8_t *out)
{
    const uint8_t *p = item->span;
    size_t left = item->span_len;
    while (left > 0) {
        const uint8_t *nul = find_nul(p, left);
        size_t run = nul != NULL ? (size_t)(nul - p) + 1 : left;
        memcpy(out, p, run);
        out += run;
        size_t taken = nul != NULL ? run + 1 : run; /* the ESCAPE behind the NUL is left out */
        p += taken;
        left -= taken;
    }
}

int memdb_key_copy_payload(const memdb_key_item *item, uint8_t *out, size_t cap)
{
    if (item->kind != MEMDB_KEY_BYTES && item->kind != MEMDB_KEY_STR && item->kind != MEMDB_KEY_BIGINT &&
        item->kind != MEMDB_KEY_UUID)
        return MEMDB_KEY_UNSUPPORTED;
    if (item->payload_len > cap)
        return MEMDB_KEY_OVERFLOW;
    if (item->kind == MEMDB_KEY_BIGINT) {
        for (size_t i = 0; i < item->span_len; i++)
            out[i] = item->negative ? (uint8_t)~item->span[i] : item->span[i];
    } else if (item->payload_len != item->span_len) {
        copy_unescaped(item, out);
    } else if (item->span_len > 0) {
        memcpy(out, item->span, item->span_len);
    }
    return 0;
}

int memdb_key_validate(const uint8_t *stored, size_t n)
{
    memdb_key_reader reader;
    memdb_key_item item;
    int count = 0;

    if (n == 0)
        return MEMDB_KEY_TRUNCATED;
    if (n > INT_MAX)
        return MEMDB_KEY_OVERFLOW;
    memdb_key_reader_init(&reader, stored + 1, n - 1);
    for (;;) {
        bool outside = reader.depth == 0;
        int result = memdb_key_next(&reader, &item);
        if (result < 0)
            return result;
        if (item.kind == MEMDB_KEY_END)
            return count;
        if (outside)
            count++;
    }
}

int memdb_key_prefix_stop(const uint8_t *stored, size_t n, uint8_t *stop, size_t cap)
{
    int count = memdb_key_validate(stored, n);
    if (count < 0)
        return count;
    if (count != 1 || (stored[1] != CODE_BYTES && stored[1] != CODE_STR && stored[1] != CODE_TUPLE))
        return MEMDB_KEY_UNSUPPORTED;
    if (n > cap)
        return MEMDB_KEY_OVERFLOW;
    size_t len = n - 1;
    memcpy(stop, stored, len);
    if (stored[1] == CODE_TUPLE) {
        /* What follows a complete element is a type code or the tuple's 00, never ESCAPE: where
         * ESCAPE follows, the prefix's last 00 was inside a longer element. */
        stop[len++] = ESCAPE;
    } else {
        while (stop[len - 1] == 0xFF) /* ends at the type code at the latest */
            len--;
        stop[len - 1]++;
    }
    return (int)len;
}
