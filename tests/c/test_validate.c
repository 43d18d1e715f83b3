/*
 * Commits that are validated (rule C6): every reason for a conflict and its particulars, the order of answers, what the log gets, staging,
 * repeats, the window's bounds, hostile sections. Random transactions: test_validate_model.c.
 * The window is tiny, so that it overflows soon.
 * CTEST-MODES: plain asan
 * CTEST-CFLAGS: -DMEMDB_WINDOW_ENTRIES=64 -DMEMDB_WINDOW_BYTES=400
 */
#include "validate_rig.h"

#define SET MEMDB_OP_SET
#define DELETE MEMDB_OP_DELETE

static void test_points(void)
{
    static struct bench b;
    begin(&b);
    uint64_t first = set(&b, "a"), other = set(&b, "b");
    section_begin(&b.section, other);
    section_point(&b.section, "a", first);
    section_point(&b.section, "absent", 0);
    CHECK_EQUAL(commit(&b, "out"), MEMDB_OK);
    CHECK_EQUAL(RIG_RESULT(b.lease, b.request, count), 1);
    CHECK(rig_reads(&b.rig, b.lease, "out", "t"));
    uint64_t later = set(&b, "absent"); /* the same reads again: what was absent has come to be */
    CHECK_EQUAL(commit(&b, "out2"), MEMDB_CONFLICT);
    check_conflict(&b, MEMDB_CONFLICT_POINT, 1, later);
    CHECK(rig_reads(&b.rig, b.lease, "out2", NULL));
    uint64_t newer = set(&b, "a"); /* and now the first entry does not hold either */
    commit(&b, "out2");
    check_conflict(&b, MEMDB_CONFLICT_POINT, 0, newer);
    uint64_t gone = op(&b, DELETE, 0, "a", NULL, 0);
    commit(&b, "out2");
    check_conflict(&b, MEMDB_CONFLICT_POINT, 0, gone);
    while (memdb_store_reclaim(b.rig.store, 1000) > 0) /* without a trace in the store: the window still knows who it was */
        ;
    memdb_found found;
    CHECK_EQUAL(memdb_store_newest(b.rig.store, "\1a", 2, 1, &found), MEMDB_ABSENT);
    CHECK_EQUAL(found.lsn, 0);
    commit(&b, "out2");
    check_conflict(&b, MEMDB_CONFLICT_POINT, 0, gone);
    section_begin(&b.section, gone); /* deleted, and read as absent: holds */
    section_point(&b.section, "a", 0);
    CHECK_EQUAL(commit(&b, NULL), MEMDB_OK); /* nothing to write, but validated */
    CHECK_EQUAL(RIG_RESULT(b.lease, b.request, count), 0);
    set(&b, "a");
    CHECK_EQUAL(commit(&b, NULL), MEMDB_CONFLICT);
    memdb_commit_figures figures;
    memdb_commit_get_figures(b.rig.commit, &figures);
    CHECK_EQUAL(figures.conflicts, 5);
    CHECK_EQUAL(figures.rejected, 5);
    end(&b);
}

static void test_ranges(void)
{
    static struct bench b;
    begin(&b);
    uint64_t base = set(&b, "k3");
    section_begin(&b.section, base);
    section_range(&b.section, "k2", "k5");
    set(&b, "k1");
    set(&b, "k5"); /* its end is not in it */
    set(&b, "k19");
    op(&b, DELETE, 0, "k4", NULL, 0); /* was not there */
    op(&b, MEMDB_OP_DELETE_RANGE, 0, "k35", "\1k45", 0); /* empty */
    CHECK_EQUAL(commit(&b, "k9"), MEMDB_OK);
    uint64_t phantom = set(&b, "k2");
    commit(&b, "out");
    check_conflict(&b, MEMDB_CONFLICT_RANGE, 0, phantom);
    section_begin(&b.section, phantom);
    section_range(&b.section, "z", "y"); /* none */
    section_range(&b.section, "k7", "k8");
    section_range(&b.section, "k4", NULL);
    section_range(&b.section, "k0", "k25");
    CHECK_EQUAL(commit(&b, NULL), MEMDB_OK);
    uint64_t deleted = op(&b, MEMDB_OP_DELETE_RANGE, 0, "k25", "\1k4", 0); /* k3, between them */
    CHECK_EQUAL(commit(&b, NULL), MEMDB_OK);
    section_range(&b.section, "k39", "k40");
    CHECK_EQUAL(commit(&b, NULL), MEMDB_CONFLICT); /* the range that was deleted reaches in */
    check_conflict(&b, MEMDB_CONFLICT_RANGE, 4, deleted);
    section_begin(&b.section, deleted);
    section_range(&b.section, "k", NULL);
    uint64_t last = op(&b, DELETE, 0, "k5", NULL, 0);
    commit(&b, NULL);
    check_conflict(&b, MEMDB_CONFLICT_RANGE, 0, last);
    section_begin(&b.section, last);
    section_range(&b.section, "k", NULL);
    CHECK_EQUAL(commit(&b, "k5"), MEMDB_OK); /* its own write is no conflict */
    commit(&b, "k5");
    check_conflict(&b, MEMDB_CONFLICT_RANGE, 0, last + 1); /* but another's */
    end(&b);
}

static void test_expiry(void)
{
    static struct bench b;
    begin(&b);
    uint64_t now = memdb_clock_us(), soon = now + 3600000000;
    uint64_t lsn = op(&b, SET, MEMDB_OP_HAS_TTL, "ttl", "v", soon), plain = set(&b, "plain");
    section_begin(&b.section, plain);
    section_point(&b.section, "plain", plain);
    section_point(&b.section, "ttl", lsn);
    b.section.expires_us = soon;
    CHECK_EQUAL(commit(&b, NULL), MEMDB_OK);
    memdb_store_relaxed(&memdb_arena_header(b.rig.arena)->time_floor, soon - 1); /* time goes on */
    CHECK_EQUAL(commit(&b, NULL), MEMDB_OK);
    memdb_store_relaxed(&memdb_arena_header(b.rig.arena)->time_floor, soon);
    commit(&b, "out");
    check_conflict(&b, MEMDB_CONFLICT_EXPIRED, 1, 0);
    b.section.expires_us = 0; /* the point says it, too */
    commit(&b, "out");
    check_conflict(&b, MEMDB_CONFLICT_EXPIRED, 1, 0);
    section_begin(&b.section, plain); /* it was in a range: no entry to name */
    section_range(&b.section, "a", NULL);
    b.section.expires_us = soon;
    commit(&b, "out");
    check_conflict(&b, MEMDB_CONFLICT_EXPIRED, 1, 0);
    section_begin(&b.section, plain); /* read as absent at a time ahead of ours: nothing has come to be since */
    section_point(&b.section, "plain", 0);
    CHECK_EQUAL(commit(&b, NULL), MEMDB_OK);
    section_begin(&b.section, plain); /* expired: absent */
    section_point(&b.section, "ttl", 0);
    CHECK_EQUAL(commit(&b, NULL), MEMDB_OK);
    end(&b);
}

static void test_generation(void)
{
    static struct bench b;
    begin(&b);
    uint64_t lsn = set(&b, "a");
    section_begin(&b.section, lsn + 1000); /* counts of another generation may be ahead */
    section_point(&b.section, "a", 12);
    b.section.word = RIG_WORD - 1;
    commit(&b, "out");
    check_conflict(&b, MEMDB_CONFLICT_GENERATION, 1, 0);
    b.section.word = RIG_WORD;
    CHECK_EQUAL((unsigned)commit(&b, "out"), (unsigned)MEMDB_INVALID); /* a snapshot of the future */
    CHECK(rig_reads(&b.rig, b.lease, "out", NULL));
    end(&b);
}

static void test_window(void)
{
    static struct bench b;
    begin(&b);
    char key[64];
    section_begin(&b.section, 1); /* from before this loop's first commit */
    section_range(&b.section, "x", "y");
    CHECK_EQUAL(commit(&b, NULL), MEMDB_OK);
    b.section.lsn = 0;
    commit(&b, NULL);
    check_conflict(&b, MEMDB_CONFLICT_WINDOW, 0, 0);
    section_begin(&b.section, 0); /* points need no window */
    section_point(&b.section, "x", 0);
    CHECK_EQUAL(commit(&b, NULL), MEMDB_OK);
    uint64_t lsn = set(&b, "first");
    section_begin(&b.section, lsn);
    section_point(&b.section, "x", 0);
    section_range(&b.section, "x", "y");
    for (unsigned i = 0; i < 64; i++) {
        snprintf(key, sizeof key, "%02u", i);
        set(&b, key);
        CHECK_EQUAL(commit(&b, NULL), MEMDB_OK); /* the window has room for 64 keys of 3 bytes */
    }
    set(&b, "65");
    commit(&b, NULL);
    check_conflict(&b, MEMDB_CONFLICT_WINDOW, 1, 0);
    b.section.lsn++;
    CHECK_EQUAL(commit(&b, NULL), MEMDB_OK);
    for (unsigned i = 0; i < 8; i++) { /* in bytes: 8 times 50 are its room, less what is left at the ring's end */
        snprintf(key, sizeof key, "long key %040u", i);
        uint64_t at = set(&b, key);
        if (i == 0)
            b.section.lsn = at - 1;
        if (i < 7)
            CHECK_EQUAL(commit(&b, NULL), MEMDB_OK);
    }
    set(&b, key);
    commit(&b, NULL);
    check_conflict(&b, MEMDB_CONFLICT_WINDOW, 1, 0);
    payload_begin(&b.ops); /* one commit above the window's room */
    for (unsigned i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "many%u", i);
        payload_op(&b.ops, SET, 0, key, "v", 0);
    }
    CHECK_EQUAL(rig_submit(&b.rig, b.lease, MEMDB_ENTRY_COMMIT, ++b.request, MEMDB_LEVEL_MEMORY, 0, &b.ops), MEMDB_OK);
    step(&b);
    lsn = RIG_RESULT(b.lease, b.request, lsn);
    b.section.lsn = lsn - 1;
    commit(&b, NULL);
    check_conflict(&b, MEMDB_CONFLICT_WINDOW, 1, 0);
    b.section.lsn = lsn;
    CHECK_EQUAL(commit(&b, NULL), MEMDB_OK);
    end(&b);
}

/* The answer to a conflict with a commit that is not published waits for it; the system's keys are nobody's conflict. */
static void test_order(void)
{
    static struct bench b;
    begin(&b);
    uint64_t lsn = set(&b, "a");
    rig_op(&b.rig, b.lease, ++b.request, MEMDB_LEVEL_FULL, SET, 0, "a", "2", 0);
    step(&b);
    uint64_t full = b.request;
    section_begin(&b.section, lsn);
    section_point(&b.section, "a", lsn);
    payload_begin(&b.ops);
    section_submit(&b.rig, b.lease, ++b.request, MEMDB_LEVEL_MEMORY, 0, &b.section, &b.ops);
    step(&b);
    CHECK(!rig_done(b.lease, full));
    CHECK(!rig_done(b.lease, b.request));
    CHECK(rig_sync(&b.rig, 0));
    step(&b);
    check_conflict(&b, MEMDB_CONFLICT_POINT, 0, RIG_RESULT(b.lease, full, lsn));
    section_begin(&b.section, RIG_RESULT(b.lease, full, lsn));
    section_range(&b.section, "", NULL);
    CHECK_EQUAL(commit(&b, NULL), MEMDB_OK); /* though each commit stores an outcome */
    end(&b);
}

/* The log has the operations and no more: a record is as long as without a section, and reads as the same operations. */
static void test_log(void)
{
    static struct bench b;
    begin(&b);
    uint64_t lsn = set(&b, "a");
    section_begin(&b.section, lsn);
    for (unsigned i = 0; i < 50; i++)
        section_point(&b.section, "a", lsn);
    CHECK_EQUAL(commit(&b, "out"), MEMDB_OK);
    memdb_record record, last = {0};
    CHECK_EQUAL(memdb_commit_flush(b.rig.commit), MEMDB_OK);
    for (uint64_t at = MEMDB_SEGMENT_HEADER; memdb_record_read(b.rig.file[1], b.rig.half_bytes, at, RIG_SALT + 1, &record) == MEMDB_RECORD_GOOD;
         at += record.padded)
        if (record.header.type == MEMDB_RECORD_COMMIT)
            last = record;
    CHECK_EQUAL(last.header.request, b.request);
    CHECK_EQUAL(last.body_len, b.ops.len);
    CHECK(memcmp(last.body, b.ops.bytes, b.ops.len) == 0);
    end(&b);
}

static void send_staged(struct bench *b, const struct payload *whole)
{
    uint32_t frame = 0;
    size_t sent = 0, part = 777; /* the section is cut anywhere */
    for (b->request++; whole->len - sent > part; sent += part, frame++) {
        struct memdb_entry entry = {.size = (uint32_t)(sizeof entry + part), .kind = MEMDB_ENTRY_FRAME, .level = MEMDB_LEVEL_OS, .request = b->request,
                                    .cell = MEMDB_CELLS, .frame = frame};
        CHECK_EQUAL(memdb_lease_submit(b->lease, b->rig.board, &entry, whole->bytes + sent), MEMDB_OK);
    }
    struct memdb_entry entry = {.size = (uint32_t)(sizeof entry + whole->len - sent), .kind = MEMDB_ENTRY_COMMIT, .level = MEMDB_LEVEL_OS,
                                .flags = MEMDB_ENTRY_STAGED | MEMDB_ENTRY_VALIDATE, .request = b->request,
                                .cell = (uint32_t)(b->request % MEMDB_CELLS), .frame = frame};
    CHECK_EQUAL(memdb_lease_submit(b->lease, b->rig.board, &entry, whole->bytes + sent), MEMDB_OK);
    step(b);
}

static void test_staged(void)
{
    static struct bench b;
    static struct payload whole;
    begin(&b);
    uint64_t lsn = set(&b, "a");
    section_begin(&b.section, lsn);
    for (unsigned i = 0; i < 200; i++)
        section_point(&b.section, i % 2 ? "a" : "none", i % 2 ? lsn : 0);
    payload_begin(&b.ops);
    for (unsigned i = 0; i < 100; i++) {
        char key[16];
        snprintf(key, sizeof key, "s%u", i);
        payload_op(&b.ops, SET, 0, key, "t", 0);
    }
    section_join(&b.section, &b.ops, &whole);
    send_staged(&b, &whole);
    CHECK_EQUAL(rig_status(b.lease, b.request), MEMDB_OK);
    CHECK_EQUAL(RIG_RESULT(b.lease, b.request, count), 100);
    CHECK(rig_reads(&b.rig, b.lease, "s99", "t"));
    uint64_t winner = set(&b, "none");
    send_staged(&b, &whole);
    check_conflict(&b, MEMDB_CONFLICT_POINT, 0, winner);
    end(&b);
}

/* Rule C2 before C6: what was applied is answered as it was, whatever has happened since; what was not is judged like any other. */
static void test_repeat(void)
{
    static struct bench b;
    begin(&b);
    uint64_t lsn = set(&b, "a");
    section_begin(&b.section, lsn);
    section_point(&b.section, "a", lsn);
    CHECK_EQUAL(commit(&b, "a"), MEMDB_OK); /* from now on its own reads do not hold */
    uint64_t applied = RIG_RESULT(b.lease, b.request, lsn);
    section_submit(&b.rig, b.lease, b.request, MEMDB_LEVEL_MEMORY, MEMDB_ENTRY_REPEAT, &b.section, &b.ops);
    step(&b);
    CHECK_EQUAL(rig_status(b.lease, b.request), MEMDB_OK);
    CHECK_EQUAL(RIG_RESULT(b.lease, b.request, lsn), applied);
    CHECK_EQUAL(RIG_RESULT(b.lease, b.request, count), 1);
    section_submit(&b.rig, b.lease, ++b.request, MEMDB_LEVEL_MEMORY, MEMDB_ENTRY_REPEAT, &b.section, &b.ops);
    step(&b);
    check_conflict(&b, MEMDB_CONFLICT_POINT, 0, applied);
    section_submit(&b.rig, b.lease, b.request, MEMDB_LEVEL_MEMORY, MEMDB_ENTRY_REPEAT, &b.section, &b.ops); /* it left no outcome */
    step(&b);
    check_conflict(&b, MEMDB_CONFLICT_POINT, 0, applied);
    end(&b);
}

static void submit_raw(struct bench *b, uint8_t flags, const void *bytes, size_t len)
{
    static struct payload raw;
    memcpy(raw.bytes, bytes, len);
    raw.len = len;
    CHECK_EQUAL(rig_submit(&b->rig, b->lease, MEMDB_ENTRY_COMMIT, ++b->request, MEMDB_LEVEL_MEMORY, flags, &raw), MEMDB_OK);
    step(b);
}

/* Sections that are cut, mutated or out of bounds: refused, or judged; nothing is changed by one that is refused, and the loop goes on. */
static void test_hostile(void)
{
    static struct bench b;
    static struct payload whole, bent;
    begin(&b);
    uint64_t lsn = set(&b, "a"), seed = 9;
    section_begin(&b.section, lsn);
    section_point(&b.section, "a", lsn);
    section_range(&b.section, "p", "q");
    section_point(&b.section, "none", 0);
    payload_begin(&b.ops);
    payload_op(&b.ops, SET, 0, "hostile", "v", 0);
    section_join(&b.section, &b.ops, &whole);
    for (size_t len = 0; len < whole.len; len++) {
        submit_raw(&b, MEMDB_ENTRY_VALIDATE, whole.bytes, len);
        CHECK_EQUAL((unsigned)rig_status(b.lease, b.request), (unsigned)MEMDB_INVALID);
    }
    submit_raw(&b, 0, whole.bytes, whole.len); /* without the flag it is no list of operations */
    CHECK_EQUAL((unsigned)rig_status(b.lease, b.request), (unsigned)MEMDB_INVALID);
    CHECK(rig_reads(&b.rig, b.lease, "hostile", NULL));
    for (unsigned turn = 0; turn < 20000; turn++) {
        bent = whole;
        for (uint64_t i = 1 + check_random_below(&seed, 3); i > 0; i--)
            bent.bytes[check_random_below(&seed, bent.len - 20)] ^= (uint8_t)(1u << check_random_below(&seed, 8));
        submit_raw(&b, MEMDB_ENTRY_VALIDATE, bent.bytes, bent.len);
        int status = rig_status(b.lease, b.request);
        CHECK(status == MEMDB_OK || status == MEMDB_CONFLICT || status == MEMDB_INVALID || status == MEMDB_TOO_LARGE);
    }
    static const char *const foreign[] = {"\2x", "\1", "\1x", "\1x", "\7x", "\3x", "\3", "\3x", "\4"};
    static const char *const foreign_stops[] = {"", "\3", "\2a", "\3", "\7y", "\4a", "\5", "\4", "\5"};
    static const int sound[] = {0, 0, 0, 0, 0, 0, 0, 1, 1};
    for (unsigned i = 0; i < 9; i++) { /* other spaces, and ranges over the end of theirs */
        size_t used = MEMDB_READS_HEADER;
        used += memdb_reads_put_range(bent.bytes + used, 1000, foreign[i], strlen(foreign[i]), foreign_stops[i], strlen(foreign_stops[i]));
        size_t size = memdb_reads_header(bent.bytes, 1000, used, 1, lsn, 0, RIG_WORD);
        memset(bent.bytes + size, 0, 8);
        submit_raw(&b, MEMDB_ENTRY_VALIDATE, bent.bytes, size + 8);
        CHECK_EQUAL((unsigned)rig_status(b.lease, b.request) != (unsigned)MEMDB_INVALID, sound[i]);
    }
    CHECK_EQUAL(set(&b, "still"), RIG_RESULT(b.lease, b.request, lsn));
    end(&b);
}

int main(void)
{
    test_points();
    test_ranges();
    test_expiry();
    test_generation();
    test_window();
    test_order();
    test_log();
    test_staged();
    test_repeat();
    test_hostile();
    return 0;
}
