/*
 * Read sections as bytes: round trips, every truncation and many mutations decoded without a step outside (each input lies at the very
 * end of its own allocation, so that the address sanitizer sees one), limits, builders that write nothing where there is no room.
 * CTEST-MODES: plain asan
 */
#include "check.h"
#include "readset.h"

#define ENTRIES_MAX 24u

struct built {
    uint8_t bytes[8192];
    size_t size;
    uint32_t count;
    memdb_read reads[ENTRIES_MAX];
    uint8_t keys[ENTRIES_MAX][2][40];
};

static void fill(uint64_t *seed, uint8_t *key, size_t len)
{
    for (size_t i = 0; i < len; i++)
        key[i] = (uint8_t)check_random(seed);
}

static void build(struct built *b, uint64_t *seed)
{
    size_t used = MEMDB_READS_HEADER;
    b->count = (uint32_t)check_random_below(seed, ENTRIES_MAX + 1);
    for (uint32_t i = 0; i < b->count; i++) {
        memdb_read *read = &b->reads[i];
        *read = (memdb_read){.kind = (uint8_t)(1 + check_random_below(seed, 2)), .len = 1 + (uint32_t)check_random_below(seed, 40)};
        read->key = b->keys[i][0];
        read->stop = b->keys[i][1];
        fill(seed, b->keys[i][0], read->len);
        if (read->kind == MEMDB_READ_POINT) {
            read->lsn = check_random(seed);
            used += memdb_reads_put_point(b->bytes + used, sizeof b->bytes - used, read->key, read->len, read->lsn);
        } else {
            read->stop_len = (uint32_t)check_random_below(seed, 40);
            fill(seed, b->keys[i][1], read->stop_len);
            used += memdb_reads_put_range(b->bytes + used, sizeof b->bytes - used, read->key, read->len, read->stop, read->stop_len);
        }
    }
    memset(b->bytes + used, 0xff, 8); /* the rest has to be zeroed by the header */
    b->size = memdb_reads_header(b->bytes, sizeof b->bytes, used, b->count, 77, 88, 99);
    CHECK(b->size >= used && b->size < used + 8 && b->size % 8 == 0);
}

/* Walks as the writer does. The last status: ABSENT if all was sound. */
static int walk(const uint8_t *bytes, size_t len, uint32_t *entries)
{
    memdb_reads reads;
    memdb_read read;
    *entries = 0;
    int status = memdb_reads_begin(&reads, bytes, len);
    if (status != MEMDB_OK)
        return status;
    CHECK(reads.size <= len && reads.size % 8 == 0);
    while ((status = memdb_reads_next(&reads, &read)) == MEMDB_OK) {
        CHECK(read.len > 0 && read.key >= bytes && read.key + read.len <= bytes + reads.size);
        CHECK(read.stop >= bytes && read.stop + read.stop_len <= bytes + reads.size);
        unsigned sum = 0;
        for (uint32_t i = 0; i < read.len; i++)
            sum += read.key[i];
        for (uint32_t i = 0; i < read.stop_len; i++)
            sum += read.stop[i];
        *entries += 1 + (sum & 0); /* all bytes were touched */
    }
    return status;
}

/* The same bytes where nothing lies behind them. */
static int walk_copy(const uint8_t *bytes, size_t len, uint32_t *entries)
{
    uint8_t *copy = malloc(len ? len : 1);
    CHECK(copy != NULL);
    memcpy(copy, bytes, len);
    int status = walk(copy, len, entries);
    free(copy);
    return status;
}

static void test_round_trips(void)
{
    static struct built b;
    uint64_t seed = 1;
    for (unsigned round = 0; round < 3000; round++) {
        memdb_reads reads;
        memdb_read read;
        build(&b, &seed);
        CHECK_EQUAL(memdb_reads_begin(&reads, b.bytes, sizeof b.bytes), MEMDB_OK); /* operations follow */
        CHECK_EQUAL(reads.size, b.size);
        CHECK_EQUAL(reads.lsn, 77);
        CHECK_EQUAL(reads.expires_us, 88);
        CHECK_EQUAL(reads.word, 99);
        for (uint32_t i = 0; i < b.count; i++) {
            const memdb_read *expected = &b.reads[i];
            CHECK_EQUAL(memdb_reads_next(&reads, &read), MEMDB_OK);
            CHECK_EQUAL(read.kind, expected->kind);
            CHECK_EQUAL(read.len, expected->len);
            CHECK_EQUAL(read.stop_len, expected->stop_len);
            CHECK_EQUAL(read.lsn, expected->lsn);
            CHECK(memcmp(read.key, expected->key, read.len) == 0);
            CHECK(memcmp(read.stop, expected->stop, read.stop_len) == 0);
        }
        CHECK_EQUAL(memdb_reads_next(&reads, &read), MEMDB_ABSENT);
    }
}

static void test_truncations(void)
{
    static struct built b;
    uint64_t seed = 2;
    uint32_t entries;
    for (unsigned round = 0; round < 60; round++) {
        build(&b, &seed);
        for (size_t len = 0; len < b.size; len++)
            CHECK_EQUAL((unsigned)walk_copy(b.bytes, len, &entries), (unsigned)MEMDB_INVALID);
        for (uint32_t size = MEMDB_READS_HEADER; size < b.size; size += 8) { /* the header says so, too */
            memcpy(b.bytes, &size, 4);
            CHECK_EQUAL((unsigned)walk_copy(b.bytes, size, &entries), (unsigned)MEMDB_INVALID);
        }
    }
}

static void test_mutations(void)
{
    static struct built b;
    uint64_t seed = 3;
    unsigned sound = 0, refused = 0;
    uint32_t entries;
    for (unsigned round = 0; round < 60000; round++) {
        build(&b, &seed);
        for (uint64_t i = 1 + check_random_below(&seed, 4); i > 0; i--) {
            size_t at = check_random_below(&seed, check_random_below(&seed, 2) ? b.size : 64 < b.size ? 64 : b.size);
            b.bytes[at] = check_random_below(&seed, 3) ? (uint8_t)(b.bytes[at] ^ 1u << check_random_below(&seed, 8)) : (uint8_t)check_random(&seed);
        }
        int status = walk_copy(b.bytes, b.size, &entries);
        CHECK(status == MEMDB_ABSENT || status == MEMDB_INVALID);
        *(status == MEMDB_ABSENT ? &sound : &refused) += 1;
    }
    CHECK(sound > 1000 && refused > 1000);
}

static void test_limits(void)
{
    static uint8_t bytes[40000];
    uint8_t key[4] = {1, 'a', 'b', 'c'};
    uint32_t entries;
    for (uint32_t ranges = MEMDB_READ_RANGES_MAX; ranges <= MEMDB_READ_RANGES_MAX + 1; ranges++) {
        size_t used = MEMDB_READS_HEADER;
        for (uint32_t i = 0; i < ranges; i++)
            used += memdb_reads_put_range(bytes + used, sizeof bytes - used, key, 4, key, 0);
        size_t size = memdb_reads_header(bytes, sizeof bytes, used, ranges, 1, 0, 0);
        CHECK_EQUAL((unsigned)walk(bytes, size, &entries), (unsigned)(ranges > MEMDB_READ_RANGES_MAX ? MEMDB_INVALID : MEMDB_ABSENT));
    }
    memset(bytes, 7, sizeof bytes);
    CHECK_EQUAL(memdb_reads_put_point(bytes, 19, key, 4, 1), 20);
    CHECK_EQUAL(memdb_reads_put_range(bytes, 15, key, 4, key, 4), 16);
    CHECK_EQUAL(memdb_reads_header(bytes, 40, 41, 1, 1, 0, 0), 48);
    for (unsigned i = 0; i < 64; i++)
        CHECK_EQUAL(bytes[i], 7); /* no room: nothing was written */
    CHECK_EQUAL(memdb_reads_put_point(bytes, sizeof bytes, key, 0, 1), 0);
    CHECK_EQUAL(memdb_reads_put_point(bytes, sizeof bytes, key, MEMDB_KEY_MAX + 1, 1), 0);
    CHECK_EQUAL(memdb_reads_put_range(bytes, sizeof bytes, key, 4, key, MEMDB_KEY_MAX + 1), 0);
}

/* The worked example of docs/formats/arena.md. */
static void test_example(void)
{
    uint8_t bytes[64];
    size_t used = MEMDB_READS_HEADER;
    used += memdb_reads_put_point(bytes + used, sizeof bytes - used, "\1\2a\0", 4, 0);
    size_t size = memdb_reads_header(bytes, sizeof bytes, used, 1, 9, 0, UINT64_C(1) << 32 | 2);
    CHECK_BYTES(bytes, size,
                "\x40\0\0\0\1\0\0\0\x09\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\2\0\0\0\1\0\0\0"
                "\0\0\0\0\0\0\0\0\1\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\1\2\x61\0\0\0\0\0");
}

int main(void)
{
    test_example();
    test_round_trips();
    test_truncations();
    test_mutations();
    test_limits();
    return 0;
}
