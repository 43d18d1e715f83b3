/* probe.h: a searched key, and its comparison with keys that lie in the arena as words.
 *
 * Owns: nothing. Any thread. Stored keys are padded with zeros to whole words, so comparing words and then lengths is
 * comparing bytes. Reads of the arena are relaxed word loads: what they saw is believed after the pin's validation.
 */
#ifndef MEMDB_PROBE_H
#define MEMDB_PROBE_H

#include <stdbool.h>

#include "layout.h"

typedef struct memdb_probe {
    const uint8_t *bytes;
    size_t len;
    uint64_t tail; /* the last, partial word, big-endian value */
} memdb_probe;

static inline uint64_t memdb_big_endian(uint64_t word)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return __builtin_bswap64(word);
#else
    return word;
#endif
}

static inline memdb_probe memdb_probe_of(const void *bytes, size_t len)
{
    memdb_probe probe = {bytes, len, 0};
    if (len % 8) {
        uint64_t word = 0;
        memcpy(&word, probe.bytes + len / 8 * 8, len % 8);
        probe.tail = memdb_big_endian(word);
    }
    return probe;
}

static inline uint64_t memdb_probe_word(const memdb_probe *probe, size_t index)
{
    if (index < probe->len / 8) {
        uint64_t word;
        memcpy(&word, probe->bytes + index * 8, 8);
        return memdb_big_endian(word);
    }
    return index == probe->len / 8 ? probe->tail : 0;
}

/* The eight key bytes behind `at`, zero-padded, as a big-endian value. */
static inline uint64_t memdb_probe_prefix(const memdb_probe *probe, size_t at)
{
    uint64_t word = 0;
    if (at < probe->len)
        memcpy(&word, probe->bytes + at, probe->len - at < 8 ? probe->len - at : 8);
    return memdb_big_endian(word);
}

static inline uint64_t memdb_stored_word(const memdb_a64 *words, size_t index)
{
    return memdb_big_endian(memdb_load_relaxed(&words[index]));
}

/* The same as memdb_probe_prefix for a stored key. */
static inline uint64_t memdb_stored_prefix(const memdb_a64 *words, size_t len, size_t at)
{
    if (at >= len)
        return 0;
    uint64_t high = memdb_stored_word(words, at / 8);
    unsigned shift = (unsigned)(at % 8) * 8;
    if (shift == 0)
        return high;
    uint64_t low = (at / 8 + 1) * 8 < len ? memdb_stored_word(words, at / 8 + 1) : 0;
    return high << shift | low >> (64 - shift);
}

/* < 0: the stored key is smaller. */
static inline int memdb_stored_compare(const memdb_a64 *words, size_t len, const memdb_probe *probe)
{
    size_t shorter = len < probe->len ? len : probe->len;
    for (size_t i = 0; i * 8 < shorter; i++) {
        uint64_t stored = memdb_stored_word(words, i), sought = memdb_probe_word(probe, i);
        if (stored != sought)
            return stored < sought ? -1 : 1;
    }
    return len < probe->len ? -1 : len > probe->len;
}

static inline bool memdb_stored_equals(const memdb_a64 *words, size_t len, const memdb_probe *probe)
{
    if (len != probe->len)
        return false;
    for (size_t i = 0; i * 8 < len; i++)
        if (memdb_stored_word(words, i) != memdb_probe_word(probe, i))
            return false;
    return true;
}

/* < 0: stored key a is smaller than stored key b. */
static inline int memdb_stored_order(const memdb_a64 *a, size_t a_len, const memdb_a64 *b, size_t b_len)
{
    size_t shorter = a_len < b_len ? a_len : b_len;
    for (size_t i = 0; i * 8 < shorter; i++) {
        uint64_t x = memdb_stored_word(a, i), y = memdb_stored_word(b, i);
        if (x != y)
            return x < y ? -1 : 1;
    }
    return a_len < b_len ? -1 : a_len > b_len;
}

/* Bytes that two stored keys share at their beginning. */
static inline size_t memdb_stored_shared(const memdb_a64 *a, size_t a_len, const memdb_a64 *b, size_t b_len)
{
    size_t shorter = a_len < b_len ? a_len : b_len;
    for (size_t i = 0; i * 8 < shorter; i++) {
        uint64_t differ = memdb_stored_word(a, i) ^ memdb_stored_word(b, i);
        if (differ) {
            size_t shared = i * 8 + (size_t)__builtin_clzll(differ) / 8;
            return shared < shorter ? shared : shorter;
        }
    }
    return shorter;
}

#endif
