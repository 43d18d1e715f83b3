/* window.h: the keys of the most recent commits, so that what a transaction has read as a range can be judged (rule C6).
 *
 * Owns: a ring of keys with the LSN that set or deleted each, and of ranges that were deleted, in the writer's private memory; bounded
 * in entries and in bytes of keys. A successor begins with an empty one. Commit thread only.
 *
 * Invariants:
 *  - Every key of the spaces other than SYSTEM that a commit above `floor` has set, or deleted while it was there, is in the window.
 *  - LSNs never fall from one entry to the next.
 */
#ifndef MEMDB_WINDOW_H
#define MEMDB_WINDOW_H

#include <stdbool.h>

#include "layout.h"

#ifndef MEMDB_WINDOW_ENTRIES
#define MEMDB_WINDOW_ENTRIES 65536u /* power of two */
#endif
#ifndef MEMDB_WINDOW_BYTES
#define MEMDB_WINDOW_BYTES (4u * 1024u * 1024u)
#endif

typedef struct memdb_window memdb_window;
typedef struct memdb_window_entry { /* a key (stop_len 0), or [start, stop) */
    uint64_t lsn;
    const uint8_t *start, *stop;
    uint32_t start_len, stop_len;
} memdb_window_entry;

memdb_window *memdb_window_new(uint64_t floor); /* NULL: no memory */
void memdb_window_free(memdb_window *window);
void memdb_window_note_key(memdb_window *window, uint64_t lsn, const void *key, size_t len);
void memdb_window_note_range(memdb_window *window, uint64_t lsn, const void *start, size_t start_len, const void *stop, size_t stop_len);
/* The highest LSN whose keys are not all in the window: what was read below it can't be judged. */
uint64_t memdb_window_floor(const memdb_window *window);
/* The newest entry first, then those before it; *cursor begins as 0. False: that was the oldest. */
bool memdb_window_back(const memdb_window *window, uint64_t *cursor, memdb_window_entry *entry);

/* < 0: a before b, as byte strings (a prefix comes before what it begins). */
int memdb_keys_order(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len);

#endif
