/* expiry.h: which keys have a time to live, and which of them are due.
 *
 * Owns: a heap of {time, tag of the key's hash} in the writer's private memory, part of memdb_store (store_state.h), and the words
 * next_expiry, expiring and expiry_bytes of the arena's header. Commit thread only.
 *
 * Invariants:
 *  - For every key whose newest version has an expiry, `heap` or `reaping` holds an entry with its tag and a time <= that expiry; also
 *    for a newest version that is published, while a newer one is not.
 *  - So header->next_expiry, the least time of both, is a lower bound: before it no key has expired that the counts still count.
 *  - An entry leaves only when a published version has put it in the wrong. What was handed out to be deleted stays in `reaping` until
 *    it is looked at again: a batch that was never committed loses nothing.
 * A value that is set again with a later time keeps its entry: it is corrected when it comes up. An entry in vain costs 12 bytes; when
 * there are more than twice as many entries as keys with an expiry, the heap is made anew.
 */
#ifndef MEMDB_EXPIRY_H
#define MEMDB_EXPIRY_H

#include "store.h"

#ifndef MEMDB_EXPIRY_SLACK
#define MEMDB_EXPIRY_SLACK 65536u /* entries in vain that are always allowed */
#endif

typedef struct memdb_due { /* 12 bytes: the time in halves */
    uint32_t low, high, tag;
} memdb_due;

typedef struct memdb_expiry {
    memdb_due *heap, *reaping;
    size_t count, cap, reaping_count, reaping_cap;
    size_t kept;       /* entries when the heap was last made anew */
    uint64_t expiring; /* cells whose newest version has an expiry */
} memdb_expiry;

/* A key's newest version has changed: its expiry was `before` and is now `after` (0: none, or no version). Call when the index shows it. */
void memdb_expiry_note(memdb_store *s, uint32_t tag, uint64_t before, uint64_t after);
uint64_t memdb_expiry_next(const memdb_store *s); /* UINT64_MAX: nothing expires */
void memdb_expiry_show(memdb_store *s);           /* raises or lowers what the header says. After the counts, if it rises */
void memdb_expiry_free(memdb_store *s);

/* For the audit: all entries sorted by tag and time (malloc'd; NULL: none or no memory), and whether they cover a key. */
memdb_due *memdb_expiry_sorted(const memdb_store *s, size_t *count);
bool memdb_expiry_covers(const memdb_due *sorted, size_t count, uint32_t tag, uint64_t expires_us);

#endif
