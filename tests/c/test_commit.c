/*
 * The commit loop stepped by hand: levels and the order of publishing, conditions, requests without effect, frames, withdrawal, ranges and
 * expiry, what a client may not do, memory pressure. Log, successor and failures: test_commit_log.c.
 */
#include "commit_rig.h"
#include "commitstate.h" /* to see what a client makes the writer keep */

#define MEMORY MEMDB_LEVEL_MEMORY
#define OS MEMDB_LEVEL_OS
#define FULL MEMDB_LEVEL_FULL
#define SET MEMDB_OP_SET
#define DELETE MEMDB_OP_DELETE

static void step(struct rig *rig)
{
    CHECK(memdb_commit_step(rig->commit) >= 0);
}

static void test_levels_and_order(void)
{
    struct rig rig;
    rig_start(&rig);
    struct memdb_lease *lease = rig_join(&rig, 1);
    unsigned before = rig.writes;
    rig_op(&rig, lease, 1, MEMORY, SET, 0, "a", "1", 0);
    step(&rig);
    CHECK_EQUAL(rig_status(lease, 1), MEMDB_OK);
    CHECK_EQUAL(rig.writes, before); /* no system call for level memory */
    CHECK(rig_reads(&rig, lease, "a", "1"));
    rig_op(&rig, lease, 2, OS, SET, 0, "b", "2", 0);
    rig_op(&rig, lease, 3, OS, SET, 0, "c", "3", 0);
    step(&rig);
    CHECK_EQUAL(rig.writes, before + 1); /* one write for the round */
    CHECK_EQUAL(RIG_RESULT(lease, 3, lsn), RIG_RESULT(lease, 2, lsn) + 1);
    rig_op(&rig, lease, 4, FULL, SET, 0, "d", "4", 0);
    rig_op(&rig, lease, 5, MEMORY, SET, 0, "a", "5", 0);
    step(&rig);
    rig_op(&rig, lease, 6, OS, SET, MEMDB_OP_IF_ABSENT, "d", "6", 0); /* judged by a commit that nobody may see yet */
    rig_op(&rig, lease, 7, OS, DELETE, 0, "absent", NULL, 0);
    step(&rig);
    for (uint64_t request = 4; request <= 7; request++)
        CHECK(!rig_done(lease, request)); /* all behind the `full` one */
    CHECK(rig_reads(&rig, lease, "d", NULL));
    CHECK(rig_reads(&rig, lease, "a", "1"));
    CHECK(rig_sync(&rig, 0));
    step(&rig);
    CHECK_EQUAL(rig_status(lease, 4), MEMDB_OK);
    CHECK_EQUAL(rig_status(lease, 5), MEMDB_OK);
    CHECK_EQUAL(rig_status(lease, 6), MEMDB_CONDITION);
    CHECK_EQUAL(RIG_RESULT(lease, 6, winner), RIG_RESULT(lease, 4, lsn));
    CHECK_EQUAL(rig_status(lease, 7), MEMDB_OK);
    CHECK_EQUAL(RIG_RESULT(lease, 7, count), 0);
    CHECK(rig_reads(&rig, lease, "a", "5"));
    memdb_commit_figures figures;
    memdb_commit_get_figures(rig.commit, &figures);
    CHECK_EQUAL(figures.commits, 5); /* the delete of an absent key left no record */
    CHECK_EQUAL(figures.published_lsn, figures.applied_lsn);
    munmap(lease, sizeof *lease);
    rig_end(&rig);
}

static void test_conditions(void)
{
    struct rig rig;
    rig_start(&rig);
    struct memdb_lease *lease = rig_join(&rig, 1);
    static struct payload payload;
    rig_op(&rig, lease, 1, OS, SET, MEMDB_OP_IF_PRESENT, "k", "x", 0);
    rig_op(&rig, lease, 2, OS, SET, MEMDB_OP_IF_ABSENT, "k", "1", 0);
    step(&rig);
    CHECK_EQUAL(rig_status(lease, 1), MEMDB_CONDITION);
    CHECK_EQUAL(rig_status(lease, 2), MEMDB_OK);
    uint64_t lsn = RIG_RESULT(lease, 2, lsn);
    rig_op(&rig, lease, 3, OS, SET, MEMDB_OP_IF_VERSION, "k", "2", lsn);
    rig_op(&rig, lease, 4, OS, SET, MEMDB_OP_IF_VERSION, "k", "3", lsn); /* lost to the one before, in one round */
    payload_begin(&payload); /* all or nothing, and the index of the condition that failed */
    payload_op(&payload, SET, 0, "other", "1", 0);
    payload_op(&payload, MEMDB_OP_CHECK, MEMDB_OP_IF_ABSENT, "k", NULL, 0);
    CHECK_EQUAL(rig_submit(&rig, lease, MEMDB_ENTRY_COMMIT, 5, OS, 0, &payload), MEMDB_OK);
    step(&rig);
    CHECK_EQUAL(rig_status(lease, 3), MEMDB_OK);
    CHECK_EQUAL(rig_status(lease, 4), MEMDB_CONDITION);
    CHECK_EQUAL(RIG_RESULT(lease, 4, winner), RIG_RESULT(lease, 3, lsn));
    CHECK_EQUAL(rig_status(lease, 5), MEMDB_CONDITION);
    CHECK_EQUAL(RIG_RESULT(lease, 5, detail), 1);
    CHECK(rig_reads(&rig, lease, "other", NULL));
    CHECK(rig_reads(&rig, lease, "k", "2"));
    munmap(lease, sizeof *lease);
    rig_end(&rig);
}

static void test_ranges_and_expiry(void)
{
    struct rig rig;
    rig_start(&rig);
    struct memdb_lease *lease = rig_join(&rig, 1);
    uint64_t later = memdb_clock_us() + 1000000000, past = 5;
    rig_op(&rig, lease, 1, OS, SET, MEMDB_OP_HAS_TTL, "live", "1", later);
    rig_op(&rig, lease, 2, OS, SET, MEMDB_OP_HAS_TTL, "gone", "1", past);
    rig_op(&rig, lease, 3, OS, DELETE, MEMDB_OP_ONLY_EXPIRED, "live", NULL, 0);
    rig_op(&rig, lease, 4, OS, SET, MEMDB_OP_IF_PRESENT, "gone", "2", 0);
    rig_op(&rig, lease, 5, OS, DELETE, MEMDB_OP_ONLY_EXPIRED, "gone", NULL, 0);
    rig_op(&rig, lease, 6, OS, DELETE, MEMDB_OP_ONLY_EXPIRED, "gone", NULL, 0);
    rig_op(&rig, lease, 7, OS, SET, MEMDB_OP_KEEP_TTL, "live", "2", 0);
    step(&rig);
    CHECK_EQUAL(RIG_RESULT(lease, 3, count), 0);
    CHECK_EQUAL(rig_status(lease, 4), MEMDB_CONDITION);
    CHECK_EQUAL(RIG_RESULT(lease, 5, count), 1);
    CHECK_EQUAL(RIG_RESULT(lease, 6, count), 0);
    CHECK(rig_reads(&rig, lease, "live", "2"));
    memdb_found found;
    CHECK_EQUAL(memdb_store_newest(rig.store, "\1live", 5, 1, &found), MEMDB_OK);
    CHECK_EQUAL(found.expires_us, later);
    CHECK_EQUAL(memdb_load_relaxed(&memdb_arena_header(rig.arena)->counts[MEMDB_SPACE_PLAIN]), 1);
    rig_op(&rig, lease, 8, OS, SET, MEMDB_OP_HAS_TTL, "gone", "1", past);
    for (uint64_t i = 0; i < 20; i++) {
        char key[16];
        snprintf(key, sizeof key, "r%02u", (unsigned)i);
        rig_op(&rig, lease, 9 + i, MEMORY, SET, 0, key, "v", 0);
    }
    rig_op(&rig, lease, 29, OS, MEMDB_OP_DELETE_RANGE, 0, "r05", "\1r10", 0);
    rig_op(&rig, lease, 30, OS, MEMDB_OP_DELETE_RANGE, 0, "a", NULL, 0); /* to the end of the space, an expired one with it */
    rig_op(&rig, lease, 31, OS, MEMDB_OP_DELETE_RANGE, 0, "a", NULL, 0);
    step(&rig);
    CHECK_EQUAL(RIG_RESULT(lease, 29, count), 5);
    CHECK_EQUAL(RIG_RESULT(lease, 30, count), 16);
    CHECK_EQUAL(RIG_RESULT(lease, 31, count), 0);
    CHECK_EQUAL(memdb_load_relaxed(&memdb_arena_header(rig.arena)->counts[MEMDB_SPACE_PLAIN]), 0);
    munmap(lease, sizeof *lease);
    rig_end(&rig);
}

/* One frame or the last part of a staged commit, cut anywhere. */
static void send_part(struct rig *rig, struct memdb_lease *lease, uint64_t request, uint32_t frame, int last, const uint8_t *bytes, size_t len)
{
    struct memdb_entry entry = {.size = (uint32_t)(sizeof entry + len), .kind = last ? MEMDB_ENTRY_COMMIT : MEMDB_ENTRY_FRAME,
                                .flags = last ? MEMDB_ENTRY_STAGED : 0, .level = OS, .request = request,
                                .cell = last ? (uint32_t)(request % MEMDB_CELLS) : MEMDB_CELLS, .frame = frame};
    while (memdb_lease_submit(lease, rig->board, &entry, bytes) == MEMDB_AGAIN)
        step(rig);
}

static void test_frames(void)
{
    struct rig rig;
    rig_start(&rig);
    struct memdb_lease *lease = rig_join(&rig, 1);
    static struct payload payload;
    payload_begin(&payload);
    for (unsigned i = 0; i < 200; i++) {
        char key[32];
        snprintf(key, sizeof key, "f%u", i);
        payload_op(&payload, SET, 0, key, "value", 0);
    }
    size_t third = payload.len / 3;
    send_part(&rig, lease, 1, 0, 0, payload.bytes, third);
    send_part(&rig, lease, 2, 0, 0, payload.bytes, 100); /* another one between its frames, never ended */
    send_part(&rig, lease, 1, 1, 0, payload.bytes + third, third);
    send_part(&rig, lease, 1, 2, 1, payload.bytes + 2 * third, payload.len - 2 * third);
    send_part(&rig, lease, 3, 0, 0, payload.bytes, third); /* its second frame is missing */
    send_part(&rig, lease, 3, 2, 1, payload.bytes + 2 * third, payload.len - 2 * third);
    send_part(&rig, lease, 4, 1, 0, payload.bytes + third, third); /* its first frame died with another writer */
    send_part(&rig, lease, 4, 2, 1, payload.bytes + 2 * third, payload.len - 2 * third);
    step(&rig);
    CHECK_EQUAL(rig_status(lease, 1), MEMDB_OK);
    CHECK_EQUAL(RIG_RESULT(lease, 1, count), 200);
    CHECK(rig_reads(&rig, lease, "f199", "value"));
    CHECK_EQUAL(rig_status(lease, 3), MEMDB_AGAIN);
    CHECK_EQUAL(rig_status(lease, 4), MEMDB_AGAIN);
    send_part(&rig, lease, 5, 0, 0, payload.bytes, 50); /* begins anew: the same request from its first frame */
    send_part(&rig, lease, 5, 0, 0, payload.bytes, third);
    send_part(&rig, lease, 5, 1, 1, payload.bytes + third, payload.len - third);
    send_part(&rig, lease, 8, 0, 0, payload.bytes, third); /* a frame in the middle is missing, and as many came as the last one says */
    send_part(&rig, lease, 8, 2, 0, payload.bytes + third, third);
    send_part(&rig, lease, 8, 2, 1, payload.bytes + 2 * third, payload.len - 2 * third);
    step(&rig);
    CHECK_EQUAL(rig_status(lease, 8), MEMDB_AGAIN);
    static uint8_t noise[MEMDB_FRAME_MAX];
    for (uint32_t frame = 0; frame < 20; frame++) /* 20 x 64 KiB are above 1 MiB */
        send_part(&rig, lease, 6, frame, 0, noise, sizeof noise);
    send_part(&rig, lease, 6, 20, 1, noise, 10);
    step(&rig);
    CHECK_EQUAL(rig_status(lease, 5), MEMDB_OK);
    CHECK_EQUAL((unsigned)rig_status(lease, 6), (unsigned)MEMDB_TOO_LARGE);
    CHECK_EQUAL(RIG_RESULT(lease, 6, detail), 1 << 20);
    send_part(&rig, lease, 7, 0, 0, noise, 0); /* frames with nothing in them */
    send_part(&rig, lease, 7, 1, 1, noise, 0);
    step(&rig);
    CHECK_EQUAL((unsigned)rig_status(lease, 7), (unsigned)MEMDB_INVALID);
    munmap(lease, sizeof *lease);
    rig_end(&rig);
}

/* Rule C7: whatever a client sends and never ends, the writer keeps a bounded part of it. */
static void test_staging_is_bounded(void)
{
    struct rig rig;
    rig_start(&rig);
    struct memdb_lease *lease = rig_join(&rig, 1);
    static uint8_t noise[MEMDB_FRAME_MAX];
    uint64_t most = 2 * rig_config().max_transaction_bytes; /* memory is doubled as it grows */
    for (uint32_t frame = 0; frame < 100; frame++)
        for (uint64_t request = 1; request <= 2 * MEMDB_STAGINGS; request++) {
            send_part(&rig, lease, request, frame, 0, noise, sizeof noise);
            step(&rig);
            const struct memdb_client *client = rig.commit->clients[0];
            for (unsigned i = 0; i < MEMDB_STAGINGS; i++)
                CHECK(client->staging[i].cap <= most);
        }
    munmap(lease, sizeof *lease);
    rig_end(&rig);
}

static void test_withdraw_and_departure(void)
{
    struct rig rig;
    rig_start(&rig);
    struct memdb_lease *lease = rig_join(&rig, 1), *other = rig_join(&rig, 2);
    static struct payload payload;
    rig_op(&rig, lease, 1, OS, SET, 0, "w", "1", 0);
    CHECK_EQUAL(memdb_lease_withdraw(lease, 1), MEMDB_OK);
    step(&rig);
    CHECK(rig_reads(&rig, other, "w", NULL));
    rig_op(&rig, lease, 2, FULL, SET, 0, "published", "1", 0);
    step(&rig);
    rig_op(&rig, lease, 3, OS, SET, 0, "published2", "1", 0);
    payload_begin(&payload);
    payload_op(&payload, SET, 0, "half", "1", 0);
    send_part(&rig, lease, 4, 0, 0, payload.bytes, payload.len / 2); /* it dies in the middle of a transaction */
    memdb_commit_remove_lease(rig.commit, lease);
    munmap(lease, sizeof *lease); /* nothing touches it any more */
    step(&rig);
    CHECK(rig_sync(&rig, 0));
    step(&rig);
    CHECK(rig_reads(&rig, other, "published", "1"));
    CHECK(rig_reads(&rig, other, "published2", "1"));
    CHECK(rig_reads(&rig, other, "half", NULL));
    memdb_commit_figures figures;
    memdb_commit_get_figures(rig.commit, &figures);
    CHECK_EQUAL(figures.pending, 0);
    munmap(other, sizeof *other);
    rig_end(&rig);
}

/* A loop that is about to be replaced finishes what departed clients left: nobody else knows of it. */
static void test_departure_and_closed_intake(void)
{
    struct rig rig;
    rig_start(&rig);
    struct memdb_lease *lease = rig_join(&rig, 1), *other = rig_join(&rig, 2);
    for (uint64_t request = 1; request <= 40; request++) { /* more than one turn takes */
        rig_op(&rig, lease, request, OS, SET, 0, "count", request < 40 ? "on" : "last", 0);
        rig_op(&rig, other, request, OS, SET, 0, "waits", "1", 0);
    }
    memdb_commit_close_intake(rig.commit, 1);
    CHECK_EQUAL(memdb_commit_step(rig.commit), 0);
    memdb_commit_remove_lease(rig.commit, lease);
    munmap(lease, sizeof *lease);
    CHECK(memdb_commit_step(rig.commit) > 0);
    while (memdb_commit_step(rig.commit) > 0)
        ;
    CHECK(rig_reads(&rig, other, "count", "last"));
    CHECK(rig_reads(&rig, other, "waits", NULL) && !rig_done(other, 1));
    memdb_commit_close_intake(rig.commit, 0);
    step(&rig);
    CHECK(rig_done(other, 1));
    munmap(other, sizeof *other);
    rig_end(&rig);
}

/* A client names keys of the mapping and of the layers, and ranges within one of them. */
static void test_spaces(void)
{
    struct rig rig;
    rig_start(&rig);
    struct memdb_lease *lease = rig_join(&rig, 1);
    static struct payload payload;
    uint64_t request = 0;
    for (unsigned space = 0; space <= MEMDB_SPACES; space++) {
        int allowed = space == MEMDB_SPACE_PLAIN || space == MEMDB_SPACE_CATALOGUE || space == MEMDB_SPACE_COLLECTIONS;
        payload_begin(&payload);
        payload_op(&payload, SET, 0, "k", "1", 0);
        payload.bytes[16] = (uint8_t)space; /* the key's first byte */
        CHECK_EQUAL(rig_submit(&rig, lease, MEMDB_ENTRY_COMMIT, ++request, OS, 0, &payload), MEMDB_OK);
        step(&rig);
        CHECK_EQUAL((unsigned)rig_status(lease, request), (unsigned)(allowed ? MEMDB_OK : MEMDB_INVALID));
    }
    static const char *const stops[] = {"\4", "\3z", "\5", "\4z", "\1z"}; /* of a range that begins in space 3 */
    static const int sound[] = {1, 1, 0, 0, 0};
    for (unsigned i = 0; i < 5; i++) {
        payload_begin(&payload);
        payload_op(&payload, MEMDB_OP_DELETE_RANGE, 0, "a", stops[i], 0);
        payload.bytes[16] = MEMDB_SPACE_CATALOGUE;
        CHECK_EQUAL(rig_submit(&rig, lease, MEMDB_ENTRY_COMMIT, ++request, OS, 0, &payload), MEMDB_OK);
        step(&rig);
        CHECK_EQUAL((unsigned)rig_status(lease, request) == (unsigned)MEMDB_INVALID, !sound[i]);
    }
    munmap(lease, sizeof *lease);
    rig_end(&rig);
}

static void test_refusals(void)
{
    struct rig rig;
    rig_start(&rig);
    struct memdb_lease *lease = rig_join(&rig, 1);
    static struct payload payload;
    payload_begin(&payload);
    payload_op(&payload, SET, 0, "k", "1", 0);
    payload.bytes[16] = MEMDB_SPACE_SYSTEM; /* the key's first byte */
    CHECK_EQUAL(rig_submit(&rig, lease, MEMDB_ENTRY_COMMIT, 1, OS, 0, &payload), MEMDB_OK);
    rig_op(&rig, lease, 2, OS, MEMDB_OP_DELETE_RANGE, 0, "a", "\2z", 0); /* over the end of its space */
    payload.bytes[8] = 77; /* no such operation */
    CHECK_EQUAL(rig_submit(&rig, lease, MEMDB_ENTRY_COMMIT, 3, OS, 0, &payload), MEMDB_OK);
    rig_op(&rig, lease, 4, OS, SET, 0, "k", "1", 0);
    step(&rig);
    CHECK_EQUAL((unsigned)rig_status(lease, 1), (unsigned)MEMDB_INVALID);
    CHECK_EQUAL((unsigned)rig_status(lease, 2), (unsigned)MEMDB_INVALID);
    CHECK_EQUAL((unsigned)rig_status(lease, 3), (unsigned)MEMDB_INVALID);
    CHECK_EQUAL(rig_status(lease, 4), MEMDB_OK);
    memdb_commit_allow_system(rig.commit, lease);
    payload.bytes[8] = SET;
    CHECK_EQUAL(rig_submit(&rig, lease, MEMDB_ENTRY_COMMIT, 5, OS, 0, &payload), MEMDB_OK);
    memdb_commit_read_only(rig.commit, 0, 0);
    step(&rig);
    CHECK_EQUAL(rig_status(lease, 5), MEMDB_OK);
    memdb_commit_read_only(rig.commit, MEMDB_READ_ONLY, 0);
    rig_op(&rig, lease, 6, OS, SET, 0, "k", "2", 0);
    step(&rig);
    CHECK_EQUAL((unsigned)rig_status(lease, 6), (unsigned)MEMDB_READ_ONLY);
    CHECK(rig_reads(&rig, lease, "k", "1"));
    munmap(lease, sizeof *lease);
    rig_end(&rig);
}

/* One client writes noise over its lease; the other's commits go on, and nothing is read or written outside. */
/* So many ranges a commit and no more: each is looked through before anything is changed. */
static void test_many_ranges(void)
{
    struct rig rig;
    rig_start(&rig);
    struct memdb_lease *lease = rig_join(&rig, 1);
    static struct payload payload;
    rig_op(&rig, lease, 1, OS, SET, 0, "k", "1", 0);
    step(&rig);
    payload_begin(&payload);
    for (unsigned i = 0; i < MEMDB_RANGES_MAX; i++)
        payload_op(&payload, MEMDB_OP_DELETE_RANGE, 0, "a", "\1b", 0);
    CHECK_EQUAL(rig_submit(&rig, lease, MEMDB_ENTRY_COMMIT, 2, OS, 0, &payload), MEMDB_OK);
    payload_op(&payload, MEMDB_OP_DELETE_RANGE, 0, "k", "\1l", 0);
    CHECK_EQUAL(rig_submit(&rig, lease, MEMDB_ENTRY_COMMIT, 3, OS, 0, &payload), MEMDB_OK);
    step(&rig);
    CHECK_EQUAL(rig_status(lease, 2), MEMDB_OK);
    CHECK_EQUAL((unsigned)rig_status(lease, 3), (unsigned)MEMDB_INVALID);
    CHECK_EQUAL(RIG_RESULT(lease, 3, detail), MEMDB_RANGES_MAX);
    CHECK(rig_reads(&rig, lease, "k", "1"));
    munmap(lease, sizeof *lease);
    rig_end(&rig);
}

static void test_hostile_client(void)
{
    struct rig rig;
    rig_start(&rig);
    struct memdb_lease *good = rig_join(&rig, 1);
    static struct payload payload;
    uint64_t seed = 4, request = 0;
    for (unsigned round = 0; round < 400; round++) {
        struct memdb_lease *bad = rig_join(&rig, 2);
        for (uint64_t turn = 1; turn < 12; turn++) {
            payload_begin(&payload);
            payload_op(&payload, SET, 0, "hostile", "value", 0);
            payload_op(&payload, MEMDB_OP_DELETE_RANGE, 0, "hostile", "\1hostilf", 0);
            for (unsigned i = 0; i < 3; i++)
                payload.bytes[check_random_below(&seed, payload.len)] ^= (uint8_t)(1u << check_random_below(&seed, 8));
            uint16_t kind = (uint16_t)(1 + check_random_below(&seed, 3));
            struct memdb_entry entry = {.size = (uint32_t)(sizeof entry + payload.len), .kind = kind, .request = turn,
                                        .flags = (uint8_t)check_random_below(&seed, 4), .level = (uint8_t)check_random_below(&seed, 2),
                                        .cell = kind == MEMDB_ENTRY_FRAME ? MEMDB_CELLS : (uint32_t)check_random_below(&seed, MEMDB_CELLS)};
            memdb_lease_submit(bad, rig.board, &entry, payload.bytes);
            if (turn % 4 == 0)
                memdb_store_relaxed(&bad->ring[check_random_below(&seed, 200)], check_random(&seed));
            if (turn % 5 == 0)
                memdb_store_relaxed(&bad->results[check_random_below(&seed, 64)].state, (uint32_t)check_random(&seed));
            if (turn == 11)
                memdb_store_relaxed(&bad->ring_tail, memdb_load_relaxed(&bad->ring_tail) + check_random_below(&seed, 64));
        }
        request++;
        rig_op(&rig, good, request, OS, SET, 0, "good", "1", 0);
        step(&rig);
        step(&rig);
        CHECK_EQUAL(rig_status(good, request), MEMDB_OK);
        memdb_commit_remove_lease(rig.commit, bad);
        munmap(bad, sizeof *bad);
        step(&rig);
        rig_sync(&rig, 0);
    }
    munmap(good, sizeof *good);
    rig_end(&rig);
}

static void test_pressure(void)
{
    struct rig rig;
    memdb_commit_config config = rig_config();
    rig_begin(&rig, &config, 4 << 20, 16 << 20);
    CHECK_EQUAL(rig_open_segment(&rig, 16 << 20, 1 << 20), MEMDB_OK);
    struct memdb_lease *lease = rig_join(&rig, 1);
    static char value[4000];
    memset(value, 'v', sizeof value - 1);
    uint64_t request = 0;
    int event = 0;
    while (event >= 0) {
        char key[32];
        snprintf(key, sizeof key, "p%u", (unsigned)++request);
        rig_op(&rig, lease, request, OS, SET, 0, key, value, 0);
        event = memdb_commit_step(rig.commit);
        CHECK(request < 5000);
    }
    CHECK_EQUAL(-event, MEMDB_EVENT_PRESSURE);
    CHECK_EQUAL(-memdb_commit_step(rig.commit), MEMDB_EVENT_PRESSURE); /* until the caller has decided */
    memdb_commit_pressure_done(rig.commit, 1);
    CHECK_EQUAL(-memdb_commit_step(rig.commit), MEMDB_EVENT_PRESSURE); /* nothing was gained */
    memdb_commit_pressure_done(rig.commit, 0);
    step(&rig);
    CHECK_EQUAL((unsigned)rig_status(lease, request), (unsigned)MEMDB_FULL);
    for (uint64_t i = 1; i < request; i++) { /* deletes always find room */
        char key[32];
        snprintf(key, sizeof key, "p%u", (unsigned)i);
        rig_op(&rig, lease, request + i, OS, DELETE, 0, key, NULL, 0);
        step(&rig);
        CHECK_EQUAL(rig_status(lease, request + i), MEMDB_OK);
    }
    rig_op(&rig, lease, 2 * request, OS, SET, 0, "again", value, 0);
    step(&rig);
    CHECK_EQUAL(rig_status(lease, 2 * request), MEMDB_OK);
    munmap(lease, sizeof *lease);
    rig_end(&rig);
}

/* Rule C3: full of small keys, none of which can go because a snapshot sees them all: each can be deleted nevertheless. */
static void test_deletes_under_a_snapshot(void)
{
    struct rig rig;
    memdb_commit_config config = rig_config();
    rig_begin(&rig, &config, 1 << 20, 16 << 20);
    CHECK_EQUAL(rig_open_segment(&rig, 16 << 20, 1 << 20), MEMDB_OK);
    struct memdb_lease *lease = rig_join(&rig, 1);
    uint64_t request = 0, key_count;
    char key[32];
    int event = 0;
    while (event >= 0) {
        snprintf(key, sizeof key, "%u", (unsigned)++request);
        rig_op(&rig, lease, request, OS, SET, 0, key, "v", 0);
        event = memdb_commit_step(rig.commit);
        CHECK(request < 100000);
    }
    CHECK_EQUAL(-event, MEMDB_EVENT_PRESSURE);
    memdb_commit_pressure_done(rig.commit, 0);
    step(&rig);
    key_count = request - 1;
    memdb_view view = memdb_arena_view(rig.arena);
    memdb_pin snapshot;
    memdb_store_sc(&lease->slots_used, 2);
    CHECK_EQUAL(memdb_pin_begin(&snapshot, &view, &lease->slots[view.parity][1], MEMDB_PIN_SNAPSHOT), MEMDB_OK);
    CHECK_EQUAL(memdb_pin_leave(&snapshot), MEMDB_OK);
    for (uint64_t i = 1; i <= key_count; i++) {
        snprintf(key, sizeof key, "%u", (unsigned)i);
        rig_op(&rig, lease, request + i, OS, DELETE, 0, key, NULL, 0);
        step(&rig);
        CHECK_EQUAL((unsigned)rig_status(lease, request + i), (unsigned)MEMDB_OK);
    }
    CHECK(rig_reads(&rig, lease, "1", NULL));
    memdb_pin_close(&snapshot);
    munmap(lease, sizeof *lease);
    rig_end(&rig);
}

static void test_without_log(void)
{
    struct rig rig;
    memdb_commit_config config = rig_config();
    config.logged = 0;
    rig_begin(&rig, &config, 16 << 20, 1 << 20);
    struct memdb_lease *lease = rig_join(&rig, 1);
    rig_op(&rig, lease, 1, FULL, SET, 0, "k", "1", 0);
    CHECK_EQUAL(rig_submit(&rig, lease, MEMDB_ENTRY_SYNC, 2, FULL, 0, NULL), MEMDB_OK);
    step(&rig);
    CHECK_EQUAL(rig_status(lease, 1), MEMDB_OK);
    CHECK_EQUAL(rig_status(lease, 2), MEMDB_OK);
    CHECK(rig_reads(&rig, lease, "k", "1"));
    munmap(lease, sizeof *lease);
    rig_end(&rig);
}

int main(void)
{
    test_levels_and_order();
    test_conditions();
    test_ranges_and_expiry();
    test_frames();
    test_staging_is_bounded();
    test_withdraw_and_departure();
    test_departure_and_closed_intake();
    test_spaces();
    test_refusals();
    test_many_ranges();
    test_hostile_client();
    test_pressure();
    test_deletes_under_a_snapshot();
    test_without_log();
    return 0;
}
