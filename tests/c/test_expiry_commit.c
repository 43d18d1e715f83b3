/*
 * Expiry through the commit loop: what a time to live means for each operation, counts while expired keys are overwritten and reaped, the
 * floor of time, and that a replay judges by the time in the record: the same state comes out whatever the time is then.
 * CTEST-MODES: plain asan
 */
#include "commit_rig.h"

#define OS MEMDB_LEVEL_OS
#define SET MEMDB_OP_SET
#define DELETE MEMDB_OP_DELETE
#define TTL MEMDB_OP_HAS_TTL
#define KEEP MEMDB_OP_KEEP_TTL
#define SECOND UINT64_C(1000000)

struct bench {
    struct rig rig;
    struct memdb_lease *lease;
    uint64_t request, begun;
};

static void begin(struct bench *b)
{
    memset(b, 0, sizeof *b);
    rig_start(&b->rig);
    b->lease = rig_join(&b->rig, 1);
    memdb_commit_allow_system(b->rig.commit, b->lease);
    b->begun = memdb_clock_us();
}

static void end(struct bench *b)
{
    CHECK_EQUAL(memdb_store_audit(b->rig.store, NULL, NULL), MEMDB_OK);
    munmap(b->lease, sizeof *b->lease);
    rig_end(&b->rig);
}

/* A time, in seconds from the test's begin: far enough apart that the test's own duration does not matter. */
static uint64_t at(const struct bench *b, unsigned seconds) { return b->begun + seconds * SECOND; }

static struct memdb_arena_header *header(const struct bench *b) { return memdb_arena_header(b->rig.arena); }

/* Time goes on to that point. */
static void travel(struct bench *b, unsigned seconds) { memdb_store_relaxed(&header(b)->time_floor, at(b, seconds)); }

static int op(struct bench *b, uint8_t code, uint8_t flags, const char *key, const char *value, uint64_t number)
{
    rig_op(&b->rig, b->lease, ++b->request, OS, code, flags, key, value, number);
    CHECK(memdb_commit_step(b->rig.commit) >= 0);
    return rig_status(b->lease, b->request);
}

static uint64_t count(struct bench *b) { return RIG_RESULT(b->lease, b->request, count); }
static uint64_t live(struct bench *b) { return memdb_load_relaxed(&header(b)->counts[MEMDB_SPACE_PLAIN]); }

static uint64_t expiry_of(struct memdb_store *store, const char *key)
{
    uint8_t stored[64] = {MEMDB_SPACE_PLAIN};
    memdb_found found;
    memcpy(stored + 1, key, strlen(key));
    CHECK_EQUAL(memdb_store_newest(store, stored, strlen(key) + 1, 0, &found), MEMDB_OK);
    return found.expires_us;
}

/* The due keys as one commit of the group's. How many it deleted. */
static uint64_t reap(struct bench *b, size_t max_keys)
{
    static struct payload payload;
    uint32_t operations;
    payload.len = memdb_store_expired(b->rig.store, memdb_load_relaxed(&header(b)->time_floor), max_keys, payload.bytes, sizeof payload.bytes,
                                      &operations);
    if (operations == 0)
        return 0;
    CHECK_EQUAL(rig_submit(&b->rig, b->lease, MEMDB_ENTRY_COMMIT, ++b->request, MEMDB_LEVEL_MEMORY, 0, &payload), MEMDB_OK);
    CHECK(memdb_commit_step(b->rig.commit) >= 0);
    CHECK_EQUAL(rig_status(b->lease, b->request), MEMDB_OK);
    return count(b);
}

static void test_meaning(void)
{
    static struct bench b;
    begin(&b);
    op(&b, SET, TTL, "k", "1", at(&b, 100));
    op(&b, SET, KEEP, "k", "2", 0);
    CHECK_EQUAL(expiry_of(b.rig.store, "k"), at(&b, 100));
    op(&b, SET, 0, "k", "3", 0); /* a plain set takes it away */
    CHECK_EQUAL(expiry_of(b.rig.store, "k"), 0);
    op(&b, SET, KEEP, "k", "4", 0); /* nothing to keep */
    CHECK_EQUAL(expiry_of(b.rig.store, "k"), 0);
    op(&b, SET, TTL, "k", "5", at(&b, 100));
    travel(&b, 100); /* now it has expired, to the microsecond */
    CHECK(rig_reads(&b.rig, b.lease, "k", NULL));
    CHECK_EQUAL(op(&b, SET, MEMDB_OP_IF_PRESENT, "k", "x", 0), MEMDB_CONDITION);
    CHECK_EQUAL(op(&b, MEMDB_OP_CHECK, MEMDB_OP_IF_VERSION, "k", NULL, RIG_RESULT(b.lease, 5, lsn)), MEMDB_CONDITION);
    CHECK_EQUAL(op(&b, DELETE, 0, "k", NULL, 0), MEMDB_OK);
    CHECK_EQUAL(count(&b), 0); /* it was not there */
    CHECK_EQUAL(live(&b), 1);  /* but is counted until it is reaped or overwritten */
    CHECK_EQUAL(op(&b, SET, KEEP | MEMDB_OP_IF_ABSENT, "k", "6", 0), MEMDB_OK); /* a key that has expired has nothing to keep */
    CHECK_EQUAL(expiry_of(b.rig.store, "k"), 0);
    CHECK(rig_reads(&b.rig, b.lease, "k", "6"));
    CHECK_EQUAL(live(&b), 1);
    CHECK_EQUAL(reap(&b, 10), 0);
    CHECK_EQUAL(live(&b), 1);
    CHECK_EQUAL(memdb_load_relaxed(&header(&b)->next_expiry), UINT64_MAX);
    end(&b);
}

static void test_reaping(void)
{
    static struct bench b;
    char key[16];
    begin(&b);
    for (unsigned i = 0; i < 300; i++) {
        snprintf(key, sizeof key, "k%03u", i);
        op(&b, SET, i % 3 ? TTL : 0, key, "v", at(&b, 100 + i % 3 * 100)); /* 100 each: never, after 200 s, after 300 s */
    }
    CHECK_EQUAL(memdb_load_relaxed(&header(&b)->expiring), 200);
    CHECK_EQUAL(memdb_load_relaxed(&header(&b)->next_expiry), at(&b, 200));
    travel(&b, 200);
    op(&b, SET, 0, "k001", "again", 0); /* overwritten, deleted as a range, put off: before the reaper comes */
    op(&b, MEMDB_OP_DELETE_RANGE, 0, "k003", "\1k006", 0);
    CHECK_EQUAL(count(&b), 2);
    op(&b, SET, TTL, "k007", "later", at(&b, 300));
    CHECK_EQUAL(live(&b), 297);
    uint64_t before = memdb_load_relaxed(&header(&b)->time_floor), reaped = 0, some, published = 0;
    while ((some = reap(&b, 16)) > 0) {
        CHECK(some <= 16);
        reaped += some;
        CHECK_EQUAL(live(&b), 297 - reaped);
        CHECK(memdb_load_relaxed(&header(&b)->published) > published);
        published = memdb_load_relaxed(&header(&b)->published);
    }
    CHECK_EQUAL(reaped, 97);
    CHECK(memdb_load_relaxed(&header(&b)->time_floor) >= before);
    CHECK_EQUAL(memdb_load_relaxed(&header(&b)->next_expiry), at(&b, 300));
    travel(&b, 300);
    for (reaped = 0; (some = reap(&b, 100)) > 0;)
        reaped += some;
    CHECK_EQUAL(reaped, 100); /* 99 and the one that was put off; k005 went with the range */
    CHECK_EQUAL(live(&b), 100);
    CHECK_EQUAL(memdb_load_relaxed(&header(&b)->expiring), 0);
    CHECK(rig_reads(&b.rig, b.lease, "k001", "again"));
    end(&b);
}

/* A batch of the reaper that was on its way when one of its keys was written again: that one stays, the other goes. */
static void test_batch_that_comes_late(void)
{
    static struct bench b;
    static struct payload payload;
    begin(&b);
    op(&b, SET, TTL, "gone", "1", at(&b, 100));
    op(&b, SET, TTL, "stays", "1", at(&b, 100));
    travel(&b, 100);
    payload_begin(&payload);
    payload_op(&payload, DELETE, MEMDB_OP_ONLY_EXPIRED, "gone", NULL, 0);
    payload_op(&payload, DELETE, MEMDB_OP_ONLY_EXPIRED, "stays", NULL, 0);
    op(&b, SET, TTL, "stays", "2", at(&b, 300));
    CHECK_EQUAL(rig_submit(&b.rig, b.lease, MEMDB_ENTRY_COMMIT, ++b.request, MEMDB_LEVEL_MEMORY, 0, &payload), MEMDB_OK);
    CHECK(memdb_commit_step(b.rig.commit) >= 0);
    CHECK_EQUAL(rig_status(b.lease, b.request), MEMDB_OK);
    CHECK_EQUAL(count(&b), 1);
    CHECK_EQUAL(live(&b), 1);
    CHECK(rig_reads(&b.rig, b.lease, "stays", "2"));
    CHECK_EQUAL(expiry_of(b.rig.store, "stays"), at(&b, 300));
    end(&b);
}

/* ---------------------------------------------------------------- replay ------------------------------- */

struct content {
    uint8_t bytes[65536];
    size_t used;
};

/* Everything with versions and expiries, expired or not. */
static void content_of(memdb_store *store, struct memdb_lease *lease, struct content *content)
{
    memdb_view view = memdb_arena_view(memdb_store_arena(store));
    memdb_pin pin;
    memdb_scan scan;
    memdb_batch batch = {.out = content->bytes, .cap = sizeof content->bytes};
    memdb_store_sc(&lease->slots_used, 2);
    CHECK_EQUAL(memdb_pin_begin(&pin, &view, &lease->slots[view.parity][1], MEMDB_PIN_SNAPSHOT), MEMDB_OK);
    CHECK_EQUAL(memdb_scan_init(&scan, NULL, 0, NULL, 0, false, UINT64_MAX, false), MEMDB_OK);
    scan.with_expired = true;
    CHECK_EQUAL(memdb_scan_batch(&pin, &scan, &batch), MEMDB_OK);
    CHECK(batch.ended);
    CHECK_EQUAL(memdb_pin_end(&pin), MEMDB_OK);
    memdb_scan_clear(&scan);
    content->used = batch.used;
}

/* A copy read at a time far ahead (another process's clock), then the log above it, into a store whose floor is further still: as the
 * writer's own, that has lived through it all. */
static void test_replay(unsigned first_part)
{
    static struct bench b;
    static struct content lived, replayed;
    static const char *const keys[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    struct rig next;
    memdb_a64 ahead;
    begin(&b);
    uint64_t seed = first_part + 1, base = 1, now = 0;
    memset(&next, 0, sizeof next);
    rig_new_store(&next, 64 << 20, 3);
    for (unsigned turn = 0; turn < 400; turn++) {
        const char *key = keys[check_random_below(&seed, 8)];
        if (turn == first_part) {
            memdb_view view = memdb_arena_view(b.rig.arena);
            memdb_pin pin;
            memdb_store_relaxed(&ahead, at(&b, 1000000));
            view.latest = &ahead;
            memdb_store_sc(&b.lease->slots_used, 2);
            CHECK_EQUAL(memdb_pin_begin(&pin, &view, &b.lease->slots[0][1], MEMDB_PIN_CHECKPOINT), MEMDB_OK);
            CHECK_EQUAL(memdb_pin_time(&pin), at(&b, 1000000));
            base = pin.lsn;
            CHECK_EQUAL(memdb_bulk_copy(next.store, &pin, NULL), MEMDB_OK);
            memdb_pin_close(&pin);
            memdb_store_relaxed(&memdb_arena_header(next.arena)->time_floor, at(&b, 2000000));
        }
        switch (check_random_below(&seed, 8)) {
        case 0: travel(&b, (unsigned)(now += 5 * check_random_below(&seed, 20))); break;
        case 1: case 2: op(&b, SET, TTL, key, "ttl", at(&b, (unsigned)(now + 1 + check_random_below(&seed, 100)))); break;
        case 3: case 4: op(&b, SET, KEEP, key, "kept", 0); break;
        case 5: op(&b, DELETE, MEMDB_OP_ONLY_EXPIRED, key, NULL, 0); break;
        case 6: op(&b, SET, MEMDB_OP_IF_ABSENT, key, "new", 0); break;
        default: reap(&b, 3);
        }
    }
    memdb_replay_result result;
    CHECK_EQUAL(memdb_replay_segment(next.store, memdb_logbuf_image(b.rig.logbuf, 1), memdb_load_acquire(&b.rig.logbuf->half[1].tail),
                                     MEMDB_SEGMENT_HEADER, RIG_SALT + 1, base, UINT64_MAX, NULL, &result), MEMDB_OK);
    CHECK_EQUAL(result.last_lsn, memdb_load_relaxed(&header(&b)->published));
    memdb_store_open(next.store, result.last_lsn);
    content_of(b.rig.store, b.lease, &lived);
    content_of(next.store, b.lease, &replayed);
    CHECK_EQUAL(replayed.used, lived.used);
    CHECK(memcmp(replayed.bytes, lived.bytes, lived.used) == 0);
    const struct memdb_arena_header *copy = memdb_arena_header(next.arena);
    for (unsigned space = 0; space < MEMDB_SPACES; space++)
        CHECK_EQUAL(memdb_load_relaxed(&copy->counts[space]), memdb_load_relaxed(&header(&b)->counts[space]));
    CHECK_EQUAL(memdb_load_relaxed(&copy->expiring), memdb_load_relaxed(&header(&b)->expiring));
    CHECK_EQUAL(memdb_load_relaxed(&copy->time_floor), at(&b, 2000000));
    CHECK_EQUAL(memdb_store_audit(next.store, NULL, NULL), MEMDB_OK);
    rig_drop_writer(&next); /* its commit is NULL */
    end(&b);
}

int main(void)
{
    test_meaning();
    test_reaping();
    test_batch_that_comes_late();
    for (unsigned first_part = 0; first_part < 400; first_part += 23)
        test_replay(first_part);
    return 0;
}
