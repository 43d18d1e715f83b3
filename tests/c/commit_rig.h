/*
 * A commit loop in one process on anonymous memory, with a log file in memory: for the tests and the benchmark of the commit path.
 *
 * Owns: arena, store, scanner, board, log buffer, leases, and the bytes that "the file" holds, per segment. The caller steps or
 * runs the loop, plays clients through lease.h and the sync thread through rig_sync. Nothing here sleeps.
 */
#ifndef MEMDB_TESTS_COMMIT_RIG_H
#define MEMDB_TESTS_COMMIT_RIG_H

#include <errno.h>
#include <sys/mman.h>

#include "check.h"
#include "commit.h"
#include "futex.h"
#include "replay.h"

#define RIG_SEGMENTS 64u
#define RIG_SALT 0x5a17u

struct rig {
    void *arena_memory;
    uint64_t arena_bytes, half_bytes;
    memdb_arena *arena;
    memdb_store *store;
    memdb_scanner *scanner;
    struct memdb_board *board;
    struct memdb_logbuf *logbuf;
    memdb_commit *commit;
    uint64_t segment;
    uint8_t *file[RIG_SEGMENTS];   /* what the file has */
    uint64_t file_len[RIG_SEGMENTS];
    uint64_t writing;              /* segment that the write function is for */
    unsigned writes;
    int write_error;               /* errno to fail with */
    int short_writes;              /* every other write is short, every third interrupted */
};

static inline void *rig_map(uint64_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

static inline int64_t rig_write(void *arg, const void *bytes, uint64_t len, uint64_t offset)
{
    struct rig *rig = arg;
    rig->writes++;
    if (rig->write_error)
        return -rig->write_error;
    if (rig->short_writes && rig->writes % 3 == 0)
        return -EINTR;
    if (rig->short_writes && rig->writes % 3 == 1 && len > 8)
        len /= 2;
    CHECK(offset + len <= rig->half_bytes);
    memcpy(rig->file[rig->writing] + offset, bytes, len);
    if (offset + len > rig->file_len[rig->writing])
        rig->file_len[rig->writing] = offset + len;
    return (int64_t)len;
}

static inline int rig_open_segment(struct rig *rig, uint64_t capacity, uint64_t lsn_limit)
{
    static const uint8_t header[MEMDB_SEGMENT_HEADER] = "header";
    struct memdb_link_body link = {.lsn_limit = lsn_limit, .previous_segment = rig->segment, .term = 1};
    uint64_t segment = rig->segment + 1;
    CHECK(segment < RIG_SEGMENTS);
    rig->file[segment] = rig_map(rig->half_bytes);
    rig->file_len[segment] = MEMDB_SEGMENT_HEADER;
    memcpy(rig->file[segment], header, sizeof header);
    rig->segment = rig->writing = segment;
    int status = memdb_commit_open_segment(rig->commit, segment, RIG_SALT + segment, capacity, header, MEMDB_SEGMENT_HEADER, &link,
                                           rig_write, rig);
    if (status == MEMDB_OK)
        memdb_commit_set_lsn(rig->commit, 0, lsn_limit); /* "the caller has synced it" */
    return status;
}

static inline memdb_commit_config rig_config(void)
{
    return (memdb_commit_config){.max_transaction_bytes = 1 << 20, .max_key_bytes = 1024, .max_value_bytes = 1 << 20,
                                 .sync_interval_us = 1000000, .spin_us = 50, .lsn_step = 1 << 20, .quota = 32, .logged = 1};
}

/* A fresh arena and store, nothing in it. */
static inline void rig_new_store(struct rig *rig, uint64_t limit, uint64_t generation)
{
    rig->arena_bytes = limit + limit / 4;
    rig->arena_memory = rig_map(rig->arena_bytes);
    rig->scanner = memdb_scanner_new();
    CHECK(rig->scanner != NULL);
    CHECK_EQUAL(memdb_arena_create(&rig->arena, rig->arena_memory, rig->arena_bytes, -1, limit, generation, 7), MEMDB_OK);
    CHECK_EQUAL(memdb_store_new(&rig->store, rig->arena, rig->scanner), MEMDB_OK);
}

static inline void rig_begin(struct rig *rig, const memdb_commit_config *config, uint64_t limit, uint64_t half_bytes)
{
    memset(rig, 0, sizeof *rig);
    rig->half_bytes = half_bytes;
    rig_new_store(rig, limit, 2);
    memdb_store_open(rig->store, 1);
    rig->board = rig_map(sizeof *rig->board);
    rig->logbuf = rig_map(memdb_logbuf_bytes(half_bytes));
    memdb_logbuf_init(rig->logbuf, half_bytes);
    CHECK_EQUAL(memdb_commit_new(&rig->commit, rig->store, rig->scanner, rig->board, rig->logbuf, config, 1), MEMDB_OK);
}

static inline void rig_start(struct rig *rig)
{
    memdb_commit_config config = rig_config();
    rig_begin(rig, &config, 64 << 20, 4 << 20);
    CHECK_EQUAL(rig_open_segment(rig, 4 << 20, 1 << 20), MEMDB_OK);
}

/* The writer's private memory goes, as by its death; board, log buffer and files stay. */
static inline void rig_drop_writer(struct rig *rig)
{
    memdb_commit_free(rig->commit);
    memdb_store_free(rig->store);
    memdb_arena_free(rig->arena);
    memdb_scanner_free(rig->scanner);
    munmap(rig->arena_memory, rig->arena_bytes);
}

static inline void rig_end(struct rig *rig)
{
    rig_drop_writer(rig);
    munmap(rig->board, sizeof *rig->board);
    munmap(rig->logbuf, memdb_logbuf_bytes(rig->half_bytes));
    for (unsigned i = 0; i < RIG_SEGMENTS; i++)
        if (rig->file[i])
            munmap(rig->file[i], rig->half_bytes);
}

static inline struct memdb_lease *rig_lease_for(uint8_t name)
{
    struct memdb_lease *lease = rig_map(sizeof *lease);
    uint8_t id[16] = {name, 1, 2, 3};
    memdb_lease_init(lease, id);
    return lease;
}

static inline struct memdb_lease *rig_join(struct rig *rig, uint8_t name)
{
    struct memdb_lease *lease = rig_lease_for(name);
    CHECK_EQUAL(memdb_commit_add_lease(rig->commit, lease), MEMDB_OK);
    return lease;
}

/* Plays the sync thread once. True if there was something to sync. */
static inline int rig_sync(struct rig *rig, int error)
{
    memdb_sync_job job;
    if (memdb_sync_wait(rig->commit, &job, 0) != MEMDB_OK)
        return 0;
    memdb_sync_done(rig->commit, &job, error);
    return 1;
}

/* ---------------------------------------------------------------- payloads ----------------------------- */

struct payload {
    uint8_t bytes[MEMDB_FRAME_MAX];
    size_t len;
};

static inline void payload_begin(struct payload *payload)
{
    memset(payload->bytes, 0, 8);
    payload->len = 8;
}

static inline void payload_op(struct payload *payload, uint8_t code, uint8_t flags, const char *key, const char *value, uint64_t number)
{
    uint8_t stored[256];
    uint32_t count;
    memdb_op op = {.code = code, .flags = flags, .key_len = (uint16_t)(strlen(key) + 1), .key = stored,
                   .value = (const uint8_t *)value, .value_len = value ? (uint32_t)strlen(value) : 0,
                   .expires_us = number, .if_lsn = number};
    stored[0] = MEMDB_SPACE_PLAIN;
    memcpy(stored + 1, key, strlen(key));
    payload->len += memdb_ops_put(payload->bytes + payload->len, sizeof payload->bytes - payload->len, &op);
    CHECK(payload->len <= sizeof payload->bytes);
    memcpy(&count, payload->bytes, 4);
    count++;
    memcpy(payload->bytes, &count, 4);
}

static inline int rig_submit(struct rig *rig, struct memdb_lease *lease, uint16_t kind, uint64_t request, uint8_t level, uint8_t flags,
                             const struct payload *payload)
{
    struct memdb_entry entry = {.size = (uint32_t)(sizeof entry + (payload ? payload->len : 0)), .kind = kind, .flags = flags,
                                .level = level, .request = request, .cell = (uint32_t)(request % MEMDB_CELLS)};
    return memdb_lease_submit(lease, rig->board, &entry, payload ? payload->bytes : NULL);
}

/* One operation as one commit. */
static inline void rig_op(struct rig *rig, struct memdb_lease *lease, uint64_t request, uint8_t level, uint8_t code, uint8_t flags,
                          const char *key, const char *value, uint64_t number)
{
    static _Thread_local struct payload payload;
    payload_begin(&payload);
    payload_op(&payload, code, flags, key, value, number);
    CHECK_EQUAL(rig_submit(rig, lease, MEMDB_ENTRY_COMMIT, request, level, 0, &payload), MEMDB_OK);
}

static inline int rig_done(const struct memdb_lease *lease, uint64_t request)
{
    return (memdb_load_acquire(&lease->results[request % MEMDB_CELLS].state) & 0xff) == MEMDB_CELL_DONE;
}

static inline int rig_status(const struct memdb_lease *lease, uint64_t request)
{
    CHECK(rig_done(lease, request));
    return (int)memdb_load_relaxed(&lease->results[request % MEMDB_CELLS].status);
}

#define RIG_RESULT(lease, request, field) memdb_load_relaxed(&(lease)->results[(request) % MEMDB_CELLS].field)

/* The published value of a key is exactly `value` (NULL: there is none). */
static inline int rig_reads(struct rig *rig, struct memdb_lease *lease, const char *key, const char *value)
{
    uint8_t stored[256], got[256];
    memdb_view view = memdb_arena_view(rig->arena);
    memdb_pin pin;
    memdb_found found;
    stored[0] = MEMDB_SPACE_PLAIN;
    memcpy(stored + 1, key, strlen(key));
    memdb_store_sc(&lease->slots_used, 1);
    CHECK_EQUAL(memdb_pin_begin(&pin, &view, &lease->slots[view.parity][0], MEMDB_PIN_POINT), MEMDB_OK);
    int status = memdb_store_get(&pin, stored, strlen(key) + 1, &found);
    if (status == MEMDB_OK && found.len <= sizeof got)
        memdb_copy_out(got, found.data, found.len);
    CHECK_EQUAL(memdb_pin_end(&pin), MEMDB_OK);
    if (value == NULL)
        return status == MEMDB_ABSENT;
    return status == MEMDB_OK && found.len == strlen(value) && memcmp(got, value, found.len) == 0;
}

#endif
