/* validate_rig.h: commits that say what they have read, for the tests of the commit loop. Owns: nothing that lasts. */
#ifndef MEMDB_TESTS_VALIDATE_RIG_H
#define MEMDB_TESTS_VALIDATE_RIG_H

#include "commit_rig.h"
#include "readset.h"

#define RIG_WORD ((UINT64_C(5) << 32) | 2)

struct section {
    uint8_t bytes[16384];
    size_t used;
    uint32_t count;
    uint64_t lsn, expires_us, word;
};

static inline void section_begin(struct section *section, uint64_t lsn)
{
    section->used = MEMDB_READS_HEADER;
    section->count = 0;
    section->lsn = lsn;
    section->expires_us = 0;
    section->word = RIG_WORD;
}

static inline size_t section_key(uint8_t stored[256], const char *key)
{
    stored[0] = MEMDB_SPACE_PLAIN;
    memcpy(stored + 1, key, strlen(key));
    return strlen(key) + 1;
}

static inline void section_point(struct section *section, const char *key, uint64_t lsn)
{
    uint8_t stored[256];
    size_t len = section_key(stored, key);
    section->used += memdb_reads_put_point(section->bytes + section->used, sizeof section->bytes - section->used, stored, len, lsn);
    CHECK(section->used <= sizeof section->bytes);
    section->count++;
}

/* stop NULL: to the end of the space. */
static inline void section_range(struct section *section, const char *start, const char *stop)
{
    uint8_t stored[256], end[256];
    size_t len = section_key(stored, start), end_len = stop ? section_key(end, stop) : 0;
    section->used += memdb_reads_put_range(section->bytes + section->used, sizeof section->bytes - section->used, stored, len, end, end_len);
    CHECK(section->used <= sizeof section->bytes);
    section->count++;
}

/* The section before the operations. */
static inline void section_join(struct section *section, const struct payload *ops, struct payload *whole)
{
    size_t size = memdb_reads_header(section->bytes, sizeof section->bytes, section->used, section->count, section->lsn,
                                     section->expires_us, section->word);
    CHECK(size + ops->len <= sizeof whole->bytes);
    memcpy(whole->bytes, section->bytes, size);
    memcpy(whole->bytes + size, ops->bytes, ops->len);
    whole->len = size + ops->len;
}

static inline void section_submit(struct rig *rig, struct memdb_lease *lease, uint64_t request, uint8_t level, uint8_t flags,
                                  struct section *section, const struct payload *ops)
{
    static _Thread_local struct payload whole;
    section_join(section, ops, &whole);
    CHECK_EQUAL(rig_submit(rig, lease, MEMDB_ENTRY_COMMIT, request, level, MEMDB_ENTRY_VALIDATE | flags, &whole), MEMDB_OK);
}

/* ---------------------------------------------------------------- a loop and one client ---------------- */

struct bench {
    struct rig rig;
    struct memdb_lease *lease;
    uint64_t request;
    struct section section;
    struct payload ops;
};

static inline void begin(struct bench *b)
{
    memdb_commit_config config = rig_config();
    config.word = RIG_WORD;
    b->request = 0;
    rig_begin(&b->rig, &config, 64 << 20, 16 << 20);
    CHECK_EQUAL(rig_open_segment(&b->rig, 16 << 20, 1 << 20), MEMDB_OK);
    b->lease = rig_join(&b->rig, 1);
}

static inline void end(struct bench *b)
{
    CHECK_EQUAL(memdb_store_audit(b->rig.store, NULL, NULL), MEMDB_OK);
    munmap(b->lease, sizeof *b->lease);
    rig_end(&b->rig);
}

static inline void step(struct bench *b)
{
    CHECK(memdb_commit_step(b->rig.commit) >= 0);
}

/* One operation as a commit of its own; its LSN. */
static inline uint64_t op(struct bench *b, uint8_t code, uint8_t flags, const char *key, const char *value, uint64_t number)
{
    rig_op(&b->rig, b->lease, ++b->request, MEMDB_LEVEL_MEMORY, code, flags, key, value, number);
    step(b);
    CHECK_EQUAL(rig_status(b->lease, b->request), MEMDB_OK);
    return RIG_RESULT(b->lease, b->request, lsn);
}

static inline uint64_t set(struct bench *b, const char *key)
{
    return op(b, MEMDB_OP_SET, 0, key, "v", 0);
}

/* The section with one write behind it; its status. */
static inline int commit(struct bench *b, const char *key)
{
    payload_begin(&b->ops);
    if (key)
        payload_op(&b->ops, MEMDB_OP_SET, 0, key, "t", 0);
    section_submit(&b->rig, b->lease, ++b->request, MEMDB_LEVEL_MEMORY, 0, &b->section, &b->ops);
    step(b);
    return rig_status(b->lease, b->request);
}

static inline void check_conflict(struct bench *b, enum memdb_conflict reason, uint64_t detail, uint64_t winner)
{
    CHECK_EQUAL(rig_status(b->lease, b->request), MEMDB_CONFLICT);
    CHECK_EQUAL(RIG_RESULT(b->lease, b->request, count), reason);
    CHECK_EQUAL(RIG_RESULT(b->lease, b->request, detail), detail);
    CHECK_EQUAL(RIG_RESULT(b->lease, b->request, winner), winner);
    CHECK_EQUAL(RIG_RESULT(b->lease, b->request, lsn), 0);
}

#endif
