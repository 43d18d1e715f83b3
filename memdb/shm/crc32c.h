/*
 * CRC-32C: the Castagnoli checksum of log records, checkpoints, manifest and shared pages.
 *
 * Owns: nothing. Every function is pure: no state, no allocation, no locks, and the only data is
 * constant tables. So any thread of any process may call any of them at any time, and no memory
 * order is involved.
 * Invariant: every path (SSE4.2, ARMv8 CRC, tables) gives the same result for the same bytes.
 */
#ifndef MEMDB_CRC32C_H
#define MEMDB_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/*
 * The CRC-32C of `len` bytes at `data`, continuing from `crc`. Chains like zlib's crc32: start with 0;
 * the result is final and may be passed back in with the bytes that follow, so
 * crc(crc(0, a), b) == crc(0, ab). `data` may be NULL if `len` is 0. Needs no alignment.
 * Bytes that another process may change meanwhile must be copied first: this reads them with plain loads.
 */
uint32_t memdb_crc32c(uint32_t crc, const void *data, size_t len);

/* The same by tables alone, on any processor: the fallback, and what tests hold the hardware against. */
uint32_t memdb_crc32c_by_table(uint32_t crc, const void *data, size_t len);

/* What memdb_crc32c uses on this processor: "sse4.2", "armv8-crc" or "table". A constant string. */
const char *memdb_crc32c_path(void);

#endif
