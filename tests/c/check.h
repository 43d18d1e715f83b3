/*
 * What the C tests share: a check that names its place and ends the program, and a seeded generator.
 *
 * Owns: nothing that lasts. A test is a plain program: exit status 0 is a pass, 1 a failed check.
 * NDEBUG does not switch CHECK off, and its condition is evaluated exactly once.
 */
#ifndef MEMDB_TESTS_CHECK_H
#define MEMDB_TESTS_CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition); \
            exit(1); \
        } \
    } while (0)

/* Two unsigned values are equal; prints both in hexadecimal if they are not. */
#define CHECK_EQUAL(actual, expected) \
    do { \
        unsigned long long actual_ = (unsigned long long)(actual); \
        unsigned long long expected_ = (unsigned long long)(expected); \
        if (actual_ != expected_) { \
            fprintf(stderr, "%s:%d: %s is 0x%llx, not 0x%llx\n", __FILE__, __LINE__, #actual, \
                    actual_, expected_); \
            exit(1); \
        } \
    } while (0)

static inline void check_print_bytes(const char *label, const uint8_t *bytes, size_t len)
{
    fprintf(stderr, "  %s (%zu bytes):", label, len);
    for (size_t i = 0; i < len; i++)
        fprintf(stderr, " %02x", bytes[i]);
    fputc('\n', stderr);
}

/* `len` bytes at `actual` are exactly those of the string literal (its final NUL does not count). */
#define CHECK_BYTES(actual, len, literal) \
    check_bytes_at(__FILE__, __LINE__, (actual), (len), (const uint8_t *)(literal), sizeof(literal) - 1)

static inline void check_bytes_at(const char *file, int line, const uint8_t *actual, size_t actual_len,
                                  const uint8_t *expected, size_t expected_len)
{
    if (actual_len == expected_len && (actual_len == 0 || memcmp(actual, expected, actual_len) == 0))
        return;
    fprintf(stderr, "%s:%d: bytes differ\n", file, line);
    check_print_bytes("expected", expected, expected_len);
    check_print_bytes("actual", actual, actual_len);
    exit(1);
}

/* SplitMix64: the next of a sequence that the seed alone decides, so that every failure repeats. */
static inline uint64_t check_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* A number below `bound` (which is at least 1). */
static inline uint64_t check_random_below(uint64_t *state, uint64_t bound)
{
    return check_random(state) % bound;
}

#endif
