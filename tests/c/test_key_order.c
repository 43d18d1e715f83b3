/*
 * The key codec by properties over random keys: byte order is logical order, round trip, every capacity,
 * prefix ranges, hostile bytes. test_key.c has the examples.
 *
 * Random keys are small trees (`struct value`). Their logical order is defined here from the values alone
 * and shares no code with the codec. All seeds are fixed: a failure repeats.
 */
#include "check.h"
#include "key_rewrite.h"

#include "../../memdb/shm/key.h"

#include <math.h>

enum { MAX_CHILDREN = 4, MAX_TEXT = 12 };

/* ---- random keys and their logical order ---- */

struct value {
    memdb_key_kind kind; /* one of kinds_in_order; BIGINT is any integer */
    bool truth;          /* of a BOOL; negative, of an integer */
    size_t n;            /* of text, magnitude (no leading zeros) or children */
    uint8_t data[MEMDB_KEY_MAX_INT_BYTES];
    double number;
    int64_t microseconds;
    struct value *children[MAX_CHILDREN];
};

static const memdb_key_kind kinds_in_order[] = {
    MEMDB_KEY_NULL,   MEMDB_KEY_BYTES, MEMDB_KEY_STR,  MEMDB_KEY_TUPLE_BEGIN, MEMDB_KEY_BIGINT,
    MEMDB_KEY_DOUBLE, MEMDB_KEY_BOOL,  MEMDB_KEY_UUID, MEMDB_KEY_DATETIME,
};
enum { KIND_COUNT = sizeof kinds_in_order / sizeof kinds_in_order[0] };

static void fill_text(struct value *value, uint64_t *seed, bool ascii)
{
    static const uint8_t alphabet[] = {0x00, 0x00, 0x01, 0x02, 'a', 'a', 'b', 0x7F, 0x80, 0xFE, 0xFF, 0xFF};
    value->n = check_random_below(seed, MAX_TEXT + 1);
    for (size_t i = 0; i < value->n; i++)
        value->data[i] = alphabet[check_random_below(seed, ascii ? 8 : sizeof alphabet)];
}

/* Lengths around every boundary of the encoding, bytes that make neighbours likely. */
static void fill_integer(struct value *value, uint64_t *seed)
{
    static const size_t lengths[] = {0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 10, 16, 127, 128, 254, 255};
    static const uint8_t bytes[] = {0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF};
    value->n = lengths[check_random_below(seed, sizeof lengths / sizeof lengths[0])];
    bool uniform = check_random_below(seed, 2) == 0;
    uint8_t fill = bytes[check_random_below(seed, sizeof bytes)];
    for (size_t i = 0; i < value->n; i++)
        value->data[i] = uniform ? fill : (uint8_t)check_random(seed);
    if (value->n > 0 && value->data[0] == 0)
        value->data[0] = 1;
    value->truth = value->n > 0 && check_random_below(seed, 2) == 0;
}

static double random_double(uint64_t *seed)
{
    static const double special[] = {0.0, -0.0, 1.0, -1.0, 5e-324, -5e-324, 1.5, INFINITY, -INFINITY, 1e308};
    if (check_random_below(seed, 2) == 0)
        return special[check_random_below(seed, sizeof special / sizeof special[0])];
    for (;;) {
        uint64_t bits = check_random(seed);
        double number;
        memcpy(&number, &bits, sizeof number);
        if (!isnan(number))
            return number;
    }
}

static struct value *random_value(uint64_t *seed, unsigned depth)
{
    struct value *value = calloc(1, sizeof *value);
    CHECK(value != NULL);
    do
        value->kind = kinds_in_order[check_random_below(seed, KIND_COUNT)];
    while (value->kind == MEMDB_KEY_TUPLE_BEGIN && depth >= 4);
    value->truth = check_random_below(seed, 2) == 0;
    switch (value->kind) {
    case MEMDB_KEY_BYTES:
    case MEMDB_KEY_STR:
        fill_text(value, seed, value->kind == MEMDB_KEY_STR);
        break;
    case MEMDB_KEY_TUPLE_BEGIN:
        value->n = check_random_below(seed, MAX_CHILDREN + 1);
        for (size_t i = 0; i < value->n; i++)
            value->children[i] = random_value(seed, depth + 1);
        break;
    case MEMDB_KEY_BIGINT:
        fill_integer(value, seed);
        break;
    case MEMDB_KEY_UUID:
        for (value->n = 0; value->n < 16; value->n++)
            value->data[value->n] = (uint8_t)(check_random_below(seed, 2) * 255);
        break;
    case MEMDB_KEY_DATETIME:
        value->microseconds = (int64_t)check_random(seed) >> check_random_below(seed, 64);
        break;
    case MEMDB_KEY_DOUBLE:
        value->number = random_double(seed);
        break;
    default:
        break;
    }
    return value;
}

static void free_value(struct value *value)
{
    if (value->kind == MEMDB_KEY_TUPLE_BEGIN)
        for (size_t i = 0; i < value->n; i++)
            free_value(value->children[i]);
    free(value);
}

static int sign_of(int difference)
{
    return (difference > 0) - (difference < 0);
}

static int compare_bytes(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
    int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
    return order != 0 ? sign_of(order) : (a_len > b_len) - (a_len < b_len);
}

static int compare_integers(const struct value *a, const struct value *b)
{
    if (a->truth != b->truth)
        return a->truth ? -1 : 1;
    int order = a->n != b->n ? (a->n > b->n ? 1 : -1) : sign_of(memcmp(a->data, b->data, a->n));
    return a->truth ? -order : order;
}

/* The numbers' order; -0.0 comes before 0.0. */
static int compare_doubles(double a, double b)
{
    if (a != b)
        return a > b ? 1 : -1;
    return (signbit(a) == 0) - (signbit(b) == 0);
}

static int rank_of(memdb_key_kind kind)
{
    int rank = 0;
    while (kinds_in_order[rank] != kind)
        rank++;
    return rank;
}

static int compare_values(const struct value *a, const struct value *b)
{
    if (a->kind != b->kind)
        return sign_of(rank_of(a->kind) - rank_of(b->kind));
    switch (a->kind) {
    case MEMDB_KEY_BYTES:
    case MEMDB_KEY_STR:
    case MEMDB_KEY_UUID:
        return compare_bytes(a->data, a->n, b->data, b->n);
    case MEMDB_KEY_BIGINT:
        return compare_integers(a, b);
    case MEMDB_KEY_DOUBLE:
        return compare_doubles(a->number, b->number);
    case MEMDB_KEY_BOOL:
        return (int)a->truth - (int)b->truth;
    case MEMDB_KEY_DATETIME:
        return (a->microseconds > b->microseconds) - (a->microseconds < b->microseconds);
    case MEMDB_KEY_TUPLE_BEGIN:
        for (size_t i = 0; i < a->n && i < b->n; i++) {
            int order = compare_values(a->children[i], b->children[i]);
            if (order != 0)
                return order;
        }
        return (a->n > b->n) - (a->n < b->n);
    default:
        return 0;
    }
}

static int put_value(memdb_key_writer *writer, const struct value *value)
{
    int result;
    switch (value->kind) {
    case MEMDB_KEY_NULL:
        return memdb_key_put_null(writer);
    case MEMDB_KEY_BYTES:
        return memdb_key_put_bytes(writer, value->data, value->n);
    case MEMDB_KEY_STR:
        return memdb_key_put_str(writer, value->data, value->n);
    case MEMDB_KEY_BIGINT:
        return memdb_key_put_bigint(writer, value->truth, value->data, value->n);
    case MEMDB_KEY_DOUBLE:
        return memdb_key_put_double(writer, value->number);
    case MEMDB_KEY_BOOL:
        return memdb_key_put_bool(writer, value->truth);
    case MEMDB_KEY_UUID:
        return memdb_key_put_uuid(writer, value->data);
    case MEMDB_KEY_DATETIME:
        return memdb_key_put_datetime_us(writer, value->microseconds);
    default:
        CHECK(value->kind == MEMDB_KEY_TUPLE_BEGIN);
        result = memdb_key_put_begin_tuple(writer);
        for (size_t i = 0; i < value->n && result == 0; i++)
            result = put_value(writer, value->children[i]);
        return result == 0 ? memdb_key_put_end_tuple(writer) : result;
    }
}

/* ---- properties ---- */

static size_t encode_value(const struct value *value, uint8_t *out)
{
    memdb_key_writer writer;
    memdb_key_writer_init(&writer, out, KEY_REWRITE_MAX);
    CHECK(put_value(&writer, value) == 0 && writer.depth == 0);
    return writer.len;
}

static void test_order_and_round_trip(uint64_t seed, int rounds)
{
    static uint8_t first[KEY_REWRITE_MAX], second[KEY_REWRITE_MAX];
    for (int i = 0; i < rounds; i++) {
        struct value *a = random_value(&seed, 0);
        struct value *b = random_value(&seed, 0);
        /* Half of the pairs are of one kind: across kinds the type code alone decides. */
        while (i % 2 == 0 && a->kind != b->kind) {
            free_value(b);
            b = random_value(&seed, 0);
        }
        size_t a_len = encode_value(a, first), b_len = encode_value(b, second);
        if (compare_bytes(first, a_len, second, b_len) != compare_values(a, b)) {
            check_print_bytes("a", first, a_len);
            check_print_bytes("b", second, b_len);
            CHECK(!"byte order is the logical order");
        }
        CHECK(read_and_rewrite(first, a_len) == 0);
        free_value(a);
        free_value(b);
    }
}

/* In every smaller buffer: an overflow is reported, nothing behind the end is touched. */
static void test_every_capacity(uint64_t seed, int rounds)
{
    static uint8_t encoded[KEY_REWRITE_MAX];
    for (int i = 0; i < rounds; i++) {
        struct value *value = random_value(&seed, 0);
        size_t len = encode_value(value, encoded);
        for (size_t cap = 0; cap < len; cap++) {
            uint8_t *exact = malloc(cap > 0 ? cap : 1);
            CHECK(exact != NULL);
            memdb_key_writer writer;
            memdb_key_writer_init(&writer, exact, cap);
            CHECK(put_value(&writer, value) == MEMDB_KEY_OVERFLOW);
            CHECK(writer.len <= cap && memcmp(exact, encoded, writer.len) == 0);
            free(exact);
        }
        /* Cut short it is refused, but between a 00 and its escape, where what is left is a key in itself. */
        for (size_t n = 1; n < len; n++)
            CHECK(read_and_rewrite(encoded, n) < 0 || (encoded[n - 1] == 0x00 && encoded[n] == 0xFF));
        free_value(value);
    }
}

/* ---- prefixes ---- */

static bool takes_prefix(memdb_key_kind kind)
{
    return kind == MEMDB_KEY_BYTES || kind == MEMDB_KEY_STR || kind == MEMDB_KEY_TUPLE_BEGIN;
}

static bool logically_covered(const struct value *prefix, const struct value *key)
{
    if (prefix->kind != key->kind || key->n < prefix->n)
        return false;
    if (prefix->kind != MEMDB_KEY_TUPLE_BEGIN)
        return memcmp(prefix->data, key->data, prefix->n) == 0;
    for (size_t i = 0; i < prefix->n; i++)
        if (compare_values(prefix->children[i], key->children[i]) != 0)
            return false;
    return true;
}

/* A copy of `value` with something more behind it or, in a tuple, inside its last text or tuple. */
static void extend(struct value *value, uint64_t *seed)
{
    if (value->kind == MEMDB_KEY_TUPLE_BEGIN && value->n > 0 && check_random_below(seed, 2) == 0) {
        struct value *last = value->children[value->n - 1];
        if (takes_prefix(last->kind))
            extend(last, seed);
    } else if (value->kind == MEMDB_KEY_TUPLE_BEGIN && value->n < MAX_CHILDREN) {
        value->children[value->n++] = random_value(seed, 3);
    } else if (value->kind != MEMDB_KEY_TUPLE_BEGIN) {
        value->data[value->n++] = (uint8_t)(check_random_below(seed, 2) * 0x61);
    }
}

static void test_prefixes(uint64_t seed, int rounds)
{
    static uint8_t start[KEY_REWRITE_MAX], stop[KEY_REWRITE_MAX], key[KEY_REWRITE_MAX];
    int covered = 0;
    for (int i = 0; i < rounds; i++) {
        uint64_t same_seed = seed;
        struct value *prefix = random_value(&seed, 0);
        struct value *other = i % 4 == 0 ? random_value(&seed, 0) : random_value(&same_seed, 0);
        start[0] = key[0] = MEMDB_KEY_SPACE_MAPPING;
        size_t len = 1 + encode_value(prefix, start + 1);
        int stop_len = memdb_key_prefix_stop(start, len, stop, sizeof stop);
        CHECK(takes_prefix(prefix->kind) ? stop_len > 0 && (size_t)stop_len <= len
                                         : stop_len == MEMDB_KEY_UNSUPPORTED);
        if (takes_prefix(prefix->kind)) {
            if (i % 4 > 1 && prefix->kind == other->kind)
                extend(other, &seed);
            size_t key_len = 1 + encode_value(other, key + 1);
            bool in_range = compare_bytes(start, len - 1, key, key_len) <= 0 &&
                            compare_bytes(key, key_len, stop, (size_t)stop_len) < 0;
            CHECK(in_range == logically_covered(prefix, other));
            covered += in_range;
        }
        free_value(prefix);
        free_value(other);
    }
    CHECK(covered > rounds / 20);
}

/* ---- hostile bytes ---- */

static void test_hostile_bytes(uint64_t seed, int rounds)
{
    static const uint8_t telling[] = {0x00, 0x00, 0x00, 0xFF, 0xFF, 0x01, 0x02, 0x05, 0x05, 0x0B, 0x0C, 0x13,
                                      0x14, 0x15, 0x1C, 0x1D, 0x09, 0xF6, 0x20, 0x21, 0x26, 0x27, 0x30, 0x40};
    static uint8_t bytes[KEY_REWRITE_MAX];
    int accepted = 0;
    for (int i = 0; i < rounds; i++) {
        size_t n = check_random_below(&seed, 48);
        if (i % 3 == 2) { /* a good key with one byte changed */
            struct value *value = random_value(&seed, 0);
            n = encode_value(value, bytes);
            free_value(value);
            bytes[check_random_below(&seed, n)] = telling[check_random_below(&seed, sizeof telling)];
        }
        for (size_t k = 0; k < n && i % 3 != 2; k++)
            bytes[k] = i % 3 == 0 ? (uint8_t)check_random(&seed)
                                  : telling[check_random_below(&seed, sizeof telling)];
        accepted += read_and_rewrite(bytes, n) == 0;
    }
    CHECK(accepted > rounds / 50 && accepted < rounds);
}

int main(void)
{
    test_order_and_round_trip(11, 60000);
    test_every_capacity(12, 1500);
    test_prefixes(14, 60000);
    test_hostile_bytes(15, 200000);
    printf("key order: ok\n");
    return 0;
}
