/*
 * CRC-32C: published answers, both paths against a bit-by-bit reference, chaining, every alignment.
 * `test_crc32c speed` prints the throughput of both paths instead.
 */
#include "check.h"

#include "../../memdb/shm/crc32c.h"

#include <time.h>

typedef uint32_t (*crc_function)(uint32_t crc, const void *data, size_t len);

/* The definition itself, one bit at a time: shares nothing with what it judges. */
static uint32_t reference_crc(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *p = data;
    uint32_t state = ~crc;
    for (size_t i = 0; i < len; i++) {
        state ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            state = state & 1 ? state >> 1 ^ 0x82F63B78u : state >> 1;
    }
    return ~state;
}

/* The check value of the CRC catalogue, and the examples of RFC 3720, appendix B.4. */
static void test_known_answers(crc_function crc)
{
    uint8_t block[32];

    CHECK_EQUAL(crc(0, NULL, 0), 0);
    CHECK_EQUAL(crc(0x12345678u, NULL, 0), 0x12345678u);
    CHECK_EQUAL(crc(0, "a", 1), 0xC1D04330u);
    CHECK_EQUAL(crc(0, "123456789", 9), 0xE3069283u);
    memset(block, 0, sizeof block);
    CHECK_EQUAL(crc(0, block, sizeof block), 0x8A9136AAu);
    memset(block, 0xFF, sizeof block);
    CHECK_EQUAL(crc(0, block, sizeof block), 0x62A8AB43u);
    for (int i = 0; i < 32; i++)
        block[i] = (uint8_t)i;
    CHECK_EQUAL(crc(0, block, sizeof block), 0x46DD794Eu);
    for (int i = 0; i < 32; i++)
        block[i] = (uint8_t)(31 - i);
    CHECK_EQUAL(crc(0, block, sizeof block), 0x113FDB5Cu);
}

/* Every single byte in every lane of the eight-byte step: all 2048 table entries are used. */
static void test_every_table_entry(crc_function crc)
{
    for (int lane = 0; lane < 8; lane++) {
        for (int byte = 0; byte < 256; byte++) {
            uint8_t word[8] = {0};
            word[lane] = (uint8_t)byte;
            CHECK_EQUAL(crc(0xFFFFFFFFu, word, 8), reference_crc(0xFFFFFFFFu, word, 8));
        }
    }
}

/* Each buffer is allocated at its exact size, so that AddressSanitizer sees a read past it. */
static void test_lengths_and_alignments(crc_function crc, uint64_t seed)
{
    for (size_t len = 0; len <= 200; len++) {
        for (size_t offset = 0; offset < 8; offset++) {
            uint8_t *data = malloc(offset + len + 1);
            CHECK(data != NULL);
            uint8_t *exact = realloc(data, offset + len > 0 ? offset + len : 1);
            CHECK(exact != NULL);
            for (size_t i = 0; i < offset + len; i++)
                exact[i] = (uint8_t)check_random(&seed);
            uint32_t start = (uint32_t)check_random(&seed);
            CHECK_EQUAL(crc(start, exact + offset, len), reference_crc(start, exact + offset, len));
            free(exact);
        }
    }
}

static void test_chaining(crc_function crc, uint64_t seed)
{
    uint8_t data[97];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)check_random(&seed);
    uint32_t whole = reference_crc(0, data, sizeof data);
    for (size_t cut = 0; cut <= sizeof data; cut++)
        CHECK_EQUAL(crc(crc(0, data, cut), data + cut, sizeof data - cut), whole);
}

static void test_large_buffer(uint64_t seed)
{
    size_t len = 1u << 20;
    uint8_t *data = malloc(len);
    CHECK(data != NULL);
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)check_random(&seed);
    uint32_t expected = reference_crc(0, data, len);
    CHECK_EQUAL(memdb_crc32c(0, data, len), expected);
    CHECK_EQUAL(memdb_crc32c_by_table(0, data, len), expected);
    data[len / 2] ^= 1;
    CHECK(memdb_crc32c(0, data, len) != expected);
    free(data);
}

static double seconds_now(void)
{
    struct timespec now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void print_speed(const char *name, crc_function crc, size_t len, size_t rounds)
{
    uint8_t *data = calloc(1, len);
    CHECK(data != NULL);
    double start = seconds_now();
    uint32_t value = 0;
    for (size_t i = 0; i < rounds; i++)
        value = crc(value, data, len);
    double spent = seconds_now() - start;
    printf("%-10s %7zu bytes: %6.2f GB/s, %8.1f ns a call (%08x)\n", name, len,
           (double)len * (double)rounds / spent / 1e9, spent / (double)rounds * 1e9, (unsigned)value);
    free(data);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "speed") == 0) {
        const size_t sizes[] = {16, 128, 4096, 1u << 18};
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            print_speed(memdb_crc32c_path(), memdb_crc32c, sizes[i], (1u << 28) / (sizes[i] + 64));
            print_speed("table", memdb_crc32c_by_table, sizes[i], (1u << 27) / (sizes[i] + 64));
        }
        return 0;
    }
    const crc_function paths[] = {reference_crc, memdb_crc32c_by_table, memdb_crc32c};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        test_known_answers(paths[i]);
        test_every_table_entry(paths[i]);
        test_lengths_and_alignments(paths[i], 1);
        test_chaining(paths[i], 2);
    }
    test_large_buffer(3);
    printf("crc32c: ok (%s and table)\n", memdb_crc32c_path());
    return 0;
}
