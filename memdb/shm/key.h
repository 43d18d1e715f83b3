/*
 * The key codec: keys to bytes whose memcmp order is the order of the keys, and back.
 * The encoding is the FoundationDB tuple layer's, byte by byte in docs/formats/keys.md.
 *
 * Owns: nothing. All state is in the caller's writer, reader, item and buffers; there are no globals,
 * locks, atomics or allocations. Any thread of any process may call it, one thread at a time for one
 * writer or reader. Bytes that may change meanwhile (shared memory) must be copied before they are read.
 *
 * Invariants:
 *   - a writer never stores past buf + cap, and a call that fails appends nothing;
 *   - a reader never loads outside [p, end), whatever the bytes are, and a call that fails moves nothing;
 *   - one key, one encoding: what the reader accepts, the writer writes back to the same bytes
 *     (but for float32, which is only read).
 */
#ifndef MEMDB_KEY_H
#define MEMDB_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Byte 0 of a stored key: its space. The mapping's is here; the other spaces belong to their layers. */
#define MEMDB_KEY_SPACE_MAPPING 0x01

/* Tuples inside tuples, at most: ((),) as a stored key is depth 2. */
#define MEMDB_KEY_MAX_DEPTH 64

/* The magnitude of an integer, at most, in bytes. */
#define MEMDB_KEY_MAX_INT_BYTES 255

/* What a function returns when it fails; all are negative, and success is never negative. */
enum {
    MEMDB_KEY_OVERFLOW = -1,   /* the caller's buffer is too small */
    MEMDB_KEY_TRUNCATED = -2,  /* the bytes end inside an element or a tuple */
    MEMDB_KEY_MALFORMED = -3,  /* a type code that is not stored, NaN, an integer not in its shortest form */
    MEMDB_KEY_TOO_DEEP = -4,   /* tuples nested deeper than MEMDB_KEY_MAX_DEPTH */
    MEMDB_KEY_UNSUPPORTED = -5 /* not encodable: NaN, an integer above 255 bytes, an end without a tuple */
};

/* ---- writing: each put appends one element and returns 0, or an error above and appends nothing ---- */

typedef struct memdb_key_writer {
    uint8_t *buf;
    size_t cap;
    size_t len;     /* bytes written; never above cap */
    unsigned depth; /* tuples begun and not ended */
} memdb_key_writer;

static inline void memdb_key_writer_init(memdb_key_writer *writer, uint8_t *buf, size_t cap)
{
    *writer = (memdb_key_writer){.buf = buf, .cap = cap, .len = 0, .depth = 0};
}

/* The space byte of a stored key: comes first, and is no element. */
int memdb_key_put_space(memdb_key_writer *writer, uint8_t space);

int memdb_key_put_null(memdb_key_writer *writer);
/* `s` may be NULL if n is 0; it must not overlap the buffer. */
int memdb_key_put_bytes(memdb_key_writer *writer, const uint8_t *s, size_t n);
/* `s` is UTF-8 that the caller has checked (no lone surrogates). */
int memdb_key_put_str(memdb_key_writer *writer, const uint8_t *s, size_t n);
int memdb_key_put_int64(memdb_key_writer *writer, int64_t value);
int memdb_key_put_uint64(memdb_key_writer *writer, uint64_t value);
/* Any integer: sign and big-endian magnitude. Leading zeros are dropped, and -0 is 0. */
int memdb_key_put_bigint(memdb_key_writer *writer, bool negative, const uint8_t *magnitude, size_t n);
/* -0.0 and 0.0 are two keys. */
int memdb_key_put_double(memdb_key_writer *writer, double value);
int memdb_key_put_bool(memdb_key_writer *writer, bool value);
/* In network order, as uuid.UUID.bytes. */
int memdb_key_put_uuid(memdb_key_writer *writer, const uint8_t uuid[16]);
/* Microseconds since 1970-01-01 00:00 UTC. */
int memdb_key_put_datetime_us(memdb_key_writer *writer, int64_t microseconds);
int memdb_key_put_begin_tuple(memdb_key_writer *writer);
int memdb_key_put_end_tuple(memdb_key_writer *writer);

/*
 * The fast path of point reads and writes: a whole stored key of one bytes or str element,
 * [space][type code][escaped][00], into `out`. Returns its length, or MEMDB_KEY_OVERFLOW.
 * cap = 2 * n + 3 is always enough; n + 3 is if there is no NUL byte in `s`.
 */
int memdb_key_encode_bytes(uint8_t *out, size_t cap, uint8_t space, const uint8_t *s, size_t n);
int memdb_key_encode_str(uint8_t *out, size_t cap, uint8_t space, const uint8_t *s, size_t n);

/* ---- reading ---- */

typedef enum memdb_key_kind {
    MEMDB_KEY_END = 0,     /* nothing is left, and every tuple is ended */
    MEMDB_KEY_NULL,
    MEMDB_KEY_BYTES,       /* span, still escaped: memdb_key_copy_payload */
    MEMDB_KEY_STR,         /* the same, in UTF-8 that has NOT been checked */
    MEMDB_KEY_TUPLE_BEGIN,
    MEMDB_KEY_TUPLE_END,
    MEMDB_KEY_INT64,       /* int64 */
    MEMDB_KEY_BIGINT,      /* an integer beyond int64_t: negative; magnitude by memdb_key_copy_payload */
    MEMDB_KEY_FLOAT32,     /* float64, widened exactly */
    MEMDB_KEY_DOUBLE,      /* float64 */
    MEMDB_KEY_BOOL,        /* boolean */
    MEMDB_KEY_UUID,        /* span: 16 bytes in network order */
    MEMDB_KEY_DATETIME     /* int64: microseconds since the Unix epoch, UTC */
} memdb_key_kind;

typedef struct memdb_key_item {
    memdb_key_kind kind;
    bool negative;       /* of a BIGINT */
    bool boolean;        /* of a BOOL */
    int64_t int64;       /* of an INT64 or DATETIME */
    double float64;      /* of a DOUBLE or FLOAT32; never NaN */
    const uint8_t *span; /* into the input: the element without type code, length byte and terminator */
    size_t span_len;
    size_t payload_len;  /* what memdb_key_copy_payload yields. In BYTES and STR equal to span_len if there
                            is no NUL: the span is the value itself */
} memdb_key_item;

typedef struct memdb_key_reader {
    const uint8_t *p;
    const uint8_t *end;
    unsigned depth; /* tuples begun and not ended */
} memdb_key_reader;

/* Reads the `n` bytes at `encoded`: a stored key without its space byte. */
static inline void memdb_key_reader_init(memdb_key_reader *reader, const uint8_t *encoded, size_t n)
{
    *reader = (memdb_key_reader){.p = encoded, .end = n > 0 ? encoded + n : encoded, .depth = 0};
}

/*
 * The next element into `out`; 0, or an error that the same call would meet again. At the end
 * the kind is MEMDB_KEY_END, as often as it is asked for. Cost: one pass over the element's bytes.
 */
int memdb_key_next(memdb_key_reader *reader, memdb_key_item *out);

/*
 * The value of a BYTES or STR without escapes, the big-endian magnitude of a BIGINT, the 16 bytes of
 * a UUID, into `out`: exactly item->payload_len bytes. Returns 0, MEMDB_KEY_OVERFLOW if that is above
 * `cap`, MEMDB_KEY_UNSUPPORTED for a kind that has none. The bytes read must still be in place.
 */
int memdb_key_copy_payload(const memdb_key_item *item, uint8_t *out, size_t cap);

/*
 * Whether the `n` bytes at `stored` are a space byte and well-formed elements after it: the number of
 * elements outside any tuple (a mapping's key has exactly 1), or an error. UTF-8 is not checked.
 */
int memdb_key_validate(const uint8_t *stored, size_t n);

/*
 * The end of the range that `prefix=` covers. `stored` is the stored key of the prefix: one bytes, str
 * or tuple element. The range is start inclusive, stop exclusive: it starts at the first n - 1 bytes of
 * `stored` (all but the terminator) and stops at what this writes to `stop`. Returns the length
 * of the stop, at most n; MEMDB_KEY_UNSUPPORTED if the key is of another kind; an error if malformed.
 * Comparing with the start alone is NOT enough for tuples: see docs/formats/keys.md, "Prefixes".
 */
int memdb_key_prefix_stop(const uint8_t *stored, size_t n, uint8_t *stop, size_t cap);

#endif
