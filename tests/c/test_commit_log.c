/*
 * The commit loop and its log: image and file byte for byte, rotation, a successor after the writer's death, exactly once, marks, the LSN
 * limit, SYNC, and a log that fails. Stepped by hand; time is only waited for where a timer is the thing tested.
 */
#include <time.h>

#include "commit_rig.h"

#define MEMORY MEMDB_LEVEL_MEMORY
#define OS MEMDB_LEVEL_OS
#define FULL MEMDB_LEVEL_FULL
#define SET MEMDB_OP_SET

static void step(struct rig *rig)
{
    CHECK(memdb_commit_step(rig->commit) >= 0);
}

static memdb_commit_figures figures_of(struct rig *rig)
{
    memdb_commit_figures figures;
    memdb_commit_get_figures(rig->commit, &figures);
    return figures;
}

/* The file of a segment is the image, up to what was written. */
static void check_file(struct rig *rig, uint64_t segment)
{
    const uint8_t *image = memdb_logbuf_image(rig->logbuf, segment);
    uint64_t written = memdb_load_relaxed(&rig->logbuf->half[segment & 1].written);
    CHECK_EQUAL(rig->file_len[segment], written);
    CHECK(memcmp(image, rig->file[segment], written) == 0);
}

static void test_rotation_and_replay(void)
{
    struct rig rig, copy;
    memdb_commit_config config = rig_config();
    rig_begin(&rig, &config, 32 << 20, 64 << 10);
    rig.short_writes = 1;
    CHECK_EQUAL(rig_open_segment(&rig, 16 << 10, 1 << 20), MEMDB_OK);
    struct memdb_lease *lease = rig_join(&rig, 1);
    char key[32], value[120];
    for (uint64_t request = 1; request <= 400; request++) {
        snprintf(key, sizeof key, "k%u", (unsigned)(request % 50));
        snprintf(value, sizeof value, "value %u %080d", (unsigned)request, 7);
        rig_op(&rig, lease, request, request % 3 ? OS : MEMORY, request % 11 ? SET : MEMDB_OP_DELETE, 0, key, request % 11 ? value : NULL, 0);
        int event = memdb_commit_step(rig.commit);
        if (event == -MEMDB_EVENT_ROTATE) {
            CHECK_EQUAL(-memdb_commit_step(rig.commit), MEMDB_EVENT_ROTATE); /* until it is done */
            CHECK(figures_of(&rig).segment_needed > 0);
            CHECK_EQUAL(memdb_commit_flush(rig.commit), MEMDB_OK);
            check_file(&rig, rig.segment);
            CHECK_EQUAL(rig_open_segment(&rig, 16 << 10, 1 << 20), MEMDB_OK);
            step(&rig); /* the request was kept */
        } else {
            CHECK(event >= 0);
        }
        CHECK_EQUAL(rig_status(lease, request), MEMDB_OK);
    }
    CHECK(rig.segment > 4);
    memset(&copy, 0, sizeof copy); /* every segment's file, replayed, is the same state */
    rig_new_store(&copy, 32 << 20, 2);
    memdb_replay_result result;
    uint64_t last = 1, total = 0;
    CHECK_EQUAL(memdb_commit_flush(rig.commit), MEMDB_OK);
    for (uint64_t segment = 1; segment <= rig.segment; segment++) {
        CHECK_EQUAL(memdb_replay_segment(copy.store, rig.file[segment], 16 << 10, MEMDB_SEGMENT_HEADER, RIG_SALT + segment, last, UINT64_MAX,
                                         NULL, &result), MEMDB_OK);
        CHECK_EQUAL(result.verdict, MEMDB_RECORD_END);
        CHECK_EQUAL(result.end_offset, rig.file_len[segment]);
        CHECK_EQUAL(result.first_lsn, last + 1);
        CHECK_EQUAL(result.link.previous_segment, segment - 1);
        CHECK_EQUAL(result.lsn_limit, 1 << 20);
        last = result.last_lsn;
        total += result.records;
    }
    memdb_commit_figures figures = figures_of(&rig);
    CHECK_EQUAL(last, figures.applied_lsn);
    CHECK_EQUAL(total, figures.commits);
    for (unsigned i = 0; i < 50; i++) {
        memdb_found a, b;
        uint8_t stored[32] = {MEMDB_SPACE_PLAIN};
        int len = 1 + snprintf((char *)stored + 1, 31, "k%u", i);
        int status = memdb_store_newest(rig.store, stored, (size_t)len, memdb_clock_us(), &a);
        CHECK_EQUAL(memdb_store_newest(copy.store, stored, (size_t)len, memdb_clock_us(), &b), status);
        if (status == MEMDB_OK) /* a tombstone may be purged already in one of them */
            CHECK(a.lsn == b.lsn && a.len == b.len);
    }
    memdb_store_free(copy.store);
    memdb_arena_free(copy.arena);
    memdb_scanner_free(copy.scanner);
    munmap(copy.arena_memory, copy.arena_bytes);
    munmap(lease, sizeof *lease);
    rig_end(&rig);
}

/* A new writer over the same board, log buffer and file: a store from the image, then the segment resumed. */
static void succeed(struct rig *rig, uint64_t generation)
{
    uint64_t segment = memdb_load_acquire(&rig->logbuf->current);
    const struct memdb_logbuf_half *half = &rig->logbuf->half[segment & 1];
    memdb_commit_config config = rig_config();
    memdb_replay_result result;
    rig_new_store(rig, 64 << 20, generation);
    CHECK_EQUAL(memdb_replay_segment(rig->store, memdb_logbuf_image(rig->logbuf, segment), memdb_load_acquire(&half->tail),
                                     MEMDB_SEGMENT_HEADER, memdb_load_relaxed(&half->salt), 1, UINT64_MAX, NULL, &result), MEMDB_OK);
    uint64_t last = result.last_lsn ? result.last_lsn : 1;
    memdb_store_open(rig->store, last);
    CHECK_EQUAL(memdb_commit_new(&rig->commit, rig->store, rig->scanner, rig->board, rig->logbuf, &config, last), MEMDB_OK);
}

static void test_successor(void)
{
    struct rig rig;
    rig_start(&rig);
    struct memdb_lease *lease = rig_join(&rig, 1);
    static struct payload payload;
    for (uint64_t request = 1; request <= 5; request++)
        rig_op(&rig, lease, request, request == 5 ? FULL : MEMORY, SET, 0, "key", request == 5 ? "five" : "x", 0);
    rig.write_error = 0;
    step(&rig);
    CHECK(!rig_done(lease, 5)); /* applied and written, not synced */
    rig_op(&rig, lease, 6, MEMORY, SET, 0, "lazy", "6", 0); /* only in the log buffer */
    step(&rig);
    rig_op(&rig, lease, 7, OS, SET, 0, "waiting", "7", 0); /* in the ring, not taken */
    memdb_commit_figures before = figures_of(&rig);
    CHECK(before.tail > before.written);
    rig_drop_writer(&rig);

    succeed(&rig, 3);
    CHECK_EQUAL(memdb_commit_resume_segment(rig.commit, rig_write, &rig), MEMDB_OK);
    CHECK_EQUAL(memdb_commit_resume_segment(rig.commit, rig_write, &rig), MEMDB_INVALID);
    check_file(&rig, 1);
    CHECK_EQUAL(figures_of(&rig).written, before.tail);
    CHECK_EQUAL(memdb_commit_add_lease(rig.commit, lease), MEMDB_OK);
    for (uint64_t request = 5; request <= 7; request++) { /* the client has seen the new generation: it sends again what is open */
        payload_begin(&payload);
        payload_op(&payload, SET, MEMDB_OP_IF_ABSENT, request == 5 ? "key" : request == 6 ? "lazy" : "waiting", "again", 0);
        if (request != 7 || !rig_done(lease, 7))
            CHECK_EQUAL(rig_submit(&rig, lease, MEMDB_ENTRY_COMMIT, request, request == 5 ? FULL : OS, MEMDB_ENTRY_REPEAT, &payload), MEMDB_OK);
    }
    step(&rig);
    CHECK(!rig_done(lease, 5)); /* it was asked for level full, so its answer waits for that */
    CHECK(rig_sync(&rig, 0));
    step(&rig);
    CHECK_EQUAL(rig_status(lease, 5), MEMDB_OK); /* its stored outcome: not carried out again, or IF_ABSENT had failed */
    CHECK_EQUAL(RIG_RESULT(lease, 5, lsn), 6);
    CHECK_EQUAL(RIG_RESULT(lease, 5, count), 1);
    CHECK_EQUAL(rig_status(lease, 6), MEMDB_OK);
    CHECK_EQUAL(rig_status(lease, 7), MEMDB_OK); /* taken from the ring once; the second entry changed nothing */
    CHECK(rig_reads(&rig, lease, "key", "five"));
    CHECK(rig_reads(&rig, lease, "lazy", "6"));
    CHECK(rig_reads(&rig, lease, "waiting", "7"));
    CHECK_EQUAL(figures_of(&rig).commits, 1);
    payload_begin(&payload); /* long past: its place was taken by request 70 */
    payload_op(&payload, SET, 0, "old", "again", 0);
    rig_op(&rig, lease, 70, OS, SET, 0, "new", "70", 0);
    step(&rig);
    CHECK_EQUAL(rig_submit(&rig, lease, MEMDB_ENTRY_COMMIT, 6, OS, MEMDB_ENTRY_REPEAT, &payload), MEMDB_OK);
    step(&rig);
    CHECK_EQUAL((unsigned)rig_status(lease, 6), (unsigned)MEMDB_UNKNOWN);
    CHECK(rig_reads(&rig, lease, "old", NULL));
    munmap(lease, sizeof *lease);
    rig_end(&rig);
}

/* Bytes of the buffer that were damaged are found before anything is written. */
static void test_damaged_buffer(void)
{
    struct rig rig;
    rig_start(&rig);
    struct memdb_lease *lease = rig_join(&rig, 1);
    for (uint64_t request = 1; request <= 5; request++)
        rig_op(&rig, lease, request, MEMORY, SET, 0, "key", "x", 0);
    step(&rig);
    rig_drop_writer(&rig);
    succeed(&rig, 3);
    struct memdb_logbuf_half *half = &rig.logbuf->half[1];
    unsigned writes = rig.writes;
    uint64_t tail = memdb_load_relaxed(&half->tail);
    memdb_store_relaxed(&half->tail, tail - 8);
    CHECK_EQUAL(memdb_commit_resume_segment(rig.commit, rig_write, &rig), MEMDB_DAMAGED);
    memdb_store_relaxed(&half->tail, tail);
    memdb_logbuf_image(rig.logbuf, 1)[tail - 20] ^= 1;
    CHECK_EQUAL(memdb_commit_resume_segment(rig.commit, rig_write, &rig), MEMDB_DAMAGED);
    memdb_logbuf_image(rig.logbuf, 1)[tail - 20] ^= 1;
    memdb_store_relaxed(&half->capacity, UINT64_C(1) << 40);
    CHECK_EQUAL(memdb_commit_resume_segment(rig.commit, rig_write, &rig), MEMDB_DAMAGED);
    CHECK_EQUAL(rig.writes, writes);
    munmap(lease, sizeof *lease);
    rig_end(&rig);
}

static void test_timers(void)
{
    struct rig rig;
    memdb_commit_config config = rig_config();
    memdb_replay_result scan;
    config.sync_interval_us = 20000;
    rig_begin(&rig, &config, 32 << 20, 1 << 20);
    CHECK_EQUAL(rig_open_segment(&rig, 1 << 20, 1 << 20), MEMDB_OK);
    struct memdb_lease *lease = rig_join(&rig, 1);
    rig_op(&rig, lease, 1, MEMORY, SET, 0, "k", "1", 0);
    step(&rig);
    CHECK(!rig_sync(&rig, 0));
    CHECK_EQUAL(memdb_commit_run(rig.commit, memdb_clock_monotonic_us() + 60000), MEMDB_EVENT_NONE);
    CHECK(rig_sync(&rig, 0)); /* asked for in the background */
    CHECK(!rig_sync(&rig, 0));
    uint64_t parks = figures_of(&rig).parks, tail = figures_of(&rig).tail;
    CHECK_EQUAL(memdb_commit_run(rig.commit, memdb_clock_monotonic_us() + 60000), MEMDB_EVENT_NONE);
    uint64_t marked = figures_of(&rig).tail, sector = (tail + 511) / 512 * 512;
    CHECK(marked > tail && (marked - tail) % 88 == 0); /* a mark says what is durable */
    CHECK(marked - 88 >= sector && (marked == tail + 88 || marked - 176 < sector)); /* the last one beyond the commit's sector */
    CHECK_EQUAL(figures_of(&rig).written, marked);
    CHECK_EQUAL(memdb_replay_segment(NULL, rig.file[1], 1 << 20, MEMDB_SEGMENT_HEADER, RIG_SALT + 1, 0, UINT64_MAX, NULL, &scan), MEMDB_OK);
    CHECK_EQUAL(scan.durable_lsn, figures_of(&rig).applied_lsn);
    CHECK_EQUAL(memdb_commit_run(rig.commit, memdb_clock_monotonic_us() + 300000), MEMDB_EVENT_NONE);
    CHECK_EQUAL(figures_of(&rig).tail, marked); /* and then there is peace: no further mark, no sync, no wake-ups */
    CHECK(!rig_sync(&rig, 0));
    CHECK(figures_of(&rig).parks - parks < 20);
    memdb_commit_interrupt(rig.commit);
    CHECK_EQUAL(memdb_commit_run(rig.commit, UINT64_MAX), MEMDB_EVENT_CONTROL);
    munmap(lease, sizeof *lease);
    rig_end(&rig);
}

/* With a snapshot open that holds versions back, and a reader stopped in the middle of a read: the loop waits, it does not work. */
static void test_idle_with_pins(void)
{
    struct rig rig;
    rig_start(&rig);
    struct memdb_lease *lease = rig_join(&rig, 1);
    memdb_view view = memdb_arena_view(rig.arena);
    memdb_pin snapshot, stopped;
    rig_op(&rig, lease, 1, OS, SET, 0, "k", "1", 0);
    step(&rig);
    memdb_store_sc(&lease->slots_used, 2);
    CHECK_EQUAL(memdb_pin_begin(&snapshot, &view, &lease->slots[view.parity][0], MEMDB_PIN_SNAPSHOT), MEMDB_OK);
    CHECK_EQUAL(memdb_pin_leave(&snapshot), MEMDB_OK);
    CHECK_EQUAL(memdb_pin_begin(&stopped, &view, &lease->slots[view.parity][1], MEMDB_PIN_POINT), MEMDB_OK);
    for (uint64_t request = 2; request < 40; request++) {
        rig_op(&rig, lease, request, OS, request % 5 ? SET : MEMDB_OP_DELETE, 0, "k", request % 5 ? "2" : NULL, 0);
        step(&rig);
    }
    struct timespec before, after;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
    CHECK_EQUAL(memdb_commit_run(rig.commit, memdb_clock_monotonic_us() + 400000), MEMDB_EVENT_NONE);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
    int64_t used = (after.tv_sec - before.tv_sec) * 1000000000 + (after.tv_nsec - before.tv_nsec);
    CHECK(used < 100000000); /* of 400 ms; a loop that turns uses all of them */
    CHECK_EQUAL(memdb_pin_end(&stopped), MEMDB_OK);
    memdb_pin_close(&snapshot);
    munmap(lease, sizeof *lease);
    rig_end(&rig);
}

static void test_lsn_limit(void)
{
    struct rig rig;
    memdb_commit_config config = rig_config();
    config.lsn_step = 16;
    rig_begin(&rig, &config, 32 << 20, 1 << 20);
    CHECK_EQUAL(rig_open_segment(&rig, 1 << 20, 18), MEMDB_OK);
    struct memdb_lease *lease = rig_join(&rig, 1);
    uint64_t stalled = 0;
    for (uint64_t request = 1; request <= 100; request++) {
        rig_op(&rig, lease, request, OS, SET, 0, "k", "1", 0);
        step(&rig);
        CHECK(figures_of(&rig).applied_lsn < memdb_load_relaxed(&rig.logbuf->half[1].lsn_limit)); /* never at or above a durable limit */
        if (!rig_done(lease, request)) {
            stalled++;
            CHECK(rig_sync(&rig, 0));
            step(&rig); /* takes the limit up and goes on */
        }
        CHECK_EQUAL(rig_status(lease, request), MEMDB_OK);
    }
    CHECK(stalled > 3); /* nobody synced ahead of need here; the limit was raised in time whenever somebody did */
    munmap(lease, sizeof *lease);
    rig_end(&rig);
}

static void test_sync_request(void)
{
    struct rig rig;
    rig_start(&rig);
    struct memdb_lease *lease = rig_join(&rig, 1);
    rig_op(&rig, lease, 1, MEMORY, SET, 0, "k", "1", 0);
    CHECK_EQUAL(rig_submit(&rig, lease, MEMDB_ENTRY_SYNC, 2, FULL, 0, NULL), MEMDB_OK);
    step(&rig);
    CHECK_EQUAL(rig_status(lease, 1), MEMDB_OK);
    CHECK(!rig_done(lease, 2));
    rig_op(&rig, lease, 3, MEMORY, SET, 0, "k", "2", 0);
    step(&rig);
    CHECK_EQUAL(rig_status(lease, 3), MEMDB_OK); /* a sync() holds nobody up */
    CHECK(rig_sync(&rig, 0));
    step(&rig);
    CHECK_EQUAL(rig_status(lease, 2), MEMDB_OK);
    memdb_replay_result scan;
    CHECK_EQUAL(memdb_replay_segment(NULL, rig.file[1], 1 << 20, MEMDB_SEGMENT_HEADER, RIG_SALT + 1, 0, UINT64_MAX, NULL, &scan), MEMDB_OK);
    CHECK(scan.durable_lsn >= 2); /* its mark is in the file */
    munmap(lease, sizeof *lease);
    rig_end(&rig);
}

static void test_failed_write(void)
{
    struct rig rig;
    rig_start(&rig);
    struct memdb_lease *lease = rig_join(&rig, 1);
    rig_op(&rig, lease, 1, OS, SET, 0, "k", "1", 0);
    step(&rig);
    rig.write_error = EIO;
    rig_op(&rig, lease, 2, OS, SET, 0, "k", "2", 0);
    rig_op(&rig, lease, 3, OS, SET, MEMDB_OP_IF_ABSENT, "k", "3", 0);
    CHECK_EQUAL(-memdb_commit_step(rig.commit), MEMDB_EVENT_LOG_FAILED);
    CHECK_EQUAL((unsigned)rig_status(lease, 2), (unsigned)MEMDB_LOG_FAILED);
    CHECK_EQUAL(RIG_RESULT(lease, 2, detail), EIO);
    CHECK_EQUAL((unsigned)rig_status(lease, 3), (unsigned)MEMDB_READ_ONLY);
    CHECK(rig_reads(&rig, lease, "k", "1"));
    rig.write_error = 0;
    unsigned writes = rig.writes;
    memdb_commit_read_only(rig.commit, 0, 0); /* there is no way back in this writer */
    rig_op(&rig, lease, 4, MEMORY, SET, 0, "k", "4", 0);
    CHECK_EQUAL(rig_submit(&rig, lease, MEMDB_ENTRY_SYNC, 5, FULL, 0, NULL), MEMDB_OK);
    step(&rig); /* the event comes once */
    CHECK_EQUAL((unsigned)rig_status(lease, 4), (unsigned)MEMDB_READ_ONLY); /* certainly not done */
    CHECK_EQUAL((unsigned)rig_status(lease, 5), (unsigned)MEMDB_LOG_FAILED);
    CHECK_EQUAL((unsigned)memdb_commit_flush(rig.commit), (unsigned)MEMDB_LOG_FAILED); /* nor by who asks for it */
    CHECK_EQUAL(rig.writes, writes); /* a poisoned file is never written to again */
    CHECK_EQUAL(memdb_commit_log_errno(rig.commit), EIO);
    CHECK_EQUAL((unsigned)memdb_commit_mark(rig.commit), (unsigned)MEMDB_LOG_FAILED); /* not "no room" */
    CHECK(rig_reads(&rig, lease, "k", "1"));
    munmap(lease, sizeof *lease);
    rig_end(&rig);
}

static void test_failed_sync(void)
{
    struct rig rig;
    rig_start(&rig);
    struct memdb_lease *lease = rig_join(&rig, 1);
    rig_op(&rig, lease, 1, FULL, SET, 0, "k", "1", 0);
    rig_op(&rig, lease, 2, MEMORY, SET, 0, "m", "2", 0);
    CHECK_EQUAL(rig_submit(&rig, lease, MEMDB_ENTRY_SYNC, 3, FULL, 0, NULL), MEMDB_OK);
    step(&rig);
    CHECK(rig_sync(&rig, EIO));
    CHECK_EQUAL(-memdb_commit_step(rig.commit), MEMDB_EVENT_LOG_FAILED);
    for (uint64_t request = 1; request <= 3; request++)
        CHECK_EQUAL((unsigned)rig_status(lease, request), (unsigned)MEMDB_LOG_FAILED);
    CHECK(rig_reads(&rig, lease, "k", NULL));
    CHECK(rig_reads(&rig, lease, "m", NULL)); /* nothing is published over an unsafe commit */
    unsigned writes = rig.writes;
    memdb_commit_read_only(rig.commit, 0);
    rig_op(&rig, lease, 4, FULL, SET, 0, "k", "4", 0);
    step(&rig);
    CHECK_EQUAL((unsigned)rig_status(lease, 4), (unsigned)MEMDB_LOG_FAILED);
    CHECK_EQUAL((unsigned)memdb_commit_flush(rig.commit), (unsigned)MEMDB_LOG_FAILED);
    CHECK_EQUAL(rig.writes, writes); /* a file that could not be synced is not written to again */
    munmap(lease, sizeof *lease);
    rig_end(&rig);
}

/* Two rotations with no step between: the second takes the half in which commits lay that were durable, but not published. A successor
 * reads the arena and both halves, so they have to be in the arena by then. */
static void test_rotations_in_a_row(void)
{
    struct rig rig;
    rig_start(&rig);
    struct memdb_lease *lease = rig_join(&rig, 1);
    rig_op(&rig, lease, 1, FULL, SET, 0, "k", "1", 0);
    CHECK_EQUAL(rig_submit(&rig, lease, MEMDB_ENTRY_SYNC, 2, FULL, 0, NULL), MEMDB_OK);
    step(&rig);
    CHECK(!rig_done(lease, 1));
    for (unsigned turn = 0; turn < 2; turn++) {
        CHECK_EQUAL(memdb_commit_flush(rig.commit), MEMDB_OK);
        CHECK_EQUAL(rig_open_segment(&rig, 4 << 20, 1 << 20), MEMDB_OK); /* whose caller has synced the one before */
    }
    CHECK_EQUAL(figures_of(&rig).published_lsn, figures_of(&rig).applied_lsn);
    CHECK(rig_reads(&rig, lease, "k", "1"));
    CHECK_EQUAL(rig_status(lease, 1), MEMDB_OK);
    memdb_replay_result scan; /* what was sealed stays as its link says: nothing was appended behind */
    CHECK_EQUAL(memdb_replay_segment(NULL, rig.file[1], 4 << 20, MEMDB_SEGMENT_HEADER, RIG_SALT + 1, 0, UINT64_MAX, NULL, &scan), MEMDB_OK);
    CHECK_EQUAL(scan.last_lsn, figures_of(&rig).applied_lsn);
    step(&rig);
    CHECK_EQUAL(rig_status(lease, 2), MEMDB_OK);
    munmap(lease, sizeof *lease);
    rig_end(&rig);
}

/* A round that ends with "the segment is full" and found no work tells its caller at once: it does not sleep over it. */
static void test_rotation_for_a_mark(void)
{
    struct rig rig;
    memdb_commit_config config = rig_config();
    rig_begin(&rig, &config, 32 << 20, 64 << 10);
    CHECK_EQUAL(rig_open_segment(&rig, 16 << 10, UINT64_C(1) << 30), MEMDB_OK);
    while (figures_of(&rig).capacity - figures_of(&rig).tail >= 88)
        CHECK_EQUAL(memdb_commit_mark(rig.commit), MEMDB_OK);
    memdb_commit_set_lsn(rig.commit, (UINT64_C(1) << 30) - 2, 0); /* close to the limit: a mark has to raise it */
    uint64_t began = memdb_clock_monotonic_us();
    CHECK_EQUAL(memdb_commit_run(rig.commit, began + 3000000), MEMDB_EVENT_ROTATE);
    CHECK(memdb_clock_monotonic_us() - began < 1500000);
    rig_end(&rig);
}

/* Fills a segment with marks until not one more fits, with a SYNC under way whose own mark has to go somewhere. */
static struct memdb_lease *begin_without_room(struct rig *rig)
{
    memdb_commit_config config = rig_config();
    rig_begin(rig, &config, 32 << 20, 64 << 10);
    CHECK_EQUAL(rig_open_segment(rig, 16 << 10, UINT64_C(1) << 30), MEMDB_OK);
    struct memdb_lease *lease = rig_join(rig, 1);
    rig_op(rig, lease, 1, MEMORY, SET, 0, "k", "1", 0);
    CHECK_EQUAL(rig_submit(rig, lease, MEMDB_ENTRY_SYNC, 2, FULL, 0, NULL), MEMDB_OK);
    step(rig);
    while (figures_of(rig).capacity - figures_of(rig).tail >= 88)
        CHECK_EQUAL(memdb_commit_mark(rig->commit), MEMDB_OK);
    CHECK(rig_sync(rig, 0));
    return lease;
}

static void test_sync_waits_for_its_mark(void)
{
    struct rig rig;
    struct memdb_lease *lease = begin_without_room(&rig);
    memdb_replay_result scan;
    step(&rig);
    CHECK(!rig_done(lease, 2));
    CHECK_EQUAL(-memdb_commit_step(rig.commit), MEMDB_EVENT_ROTATE);
    CHECK(!rig_done(lease, 2));
    CHECK_EQUAL(memdb_commit_flush(rig.commit), MEMDB_OK);
    CHECK_EQUAL(rig_open_segment(&rig, 16 << 10, UINT64_C(1) << 30), MEMDB_OK);
    step(&rig);
    CHECK_EQUAL(rig_status(lease, 2), MEMDB_OK);
    CHECK_EQUAL(memdb_replay_segment(NULL, rig.file[2], 16 << 10, MEMDB_SEGMENT_HEADER, RIG_SALT + 2, 0, UINT64_MAX, NULL, &scan), MEMDB_OK);
    CHECK_EQUAL(scan.durable_lsn, figures_of(&rig).applied_lsn); /* its link says so, in the file */
    munmap(lease, sizeof *lease);
    rig_end(&rig);
}

/* The same, and the caller finds no room on the disk for a next segment: everybody is told, and the loop rests. */
static void test_sync_without_room_for_its_mark(void)
{
    struct rig rig;
    struct memdb_lease *lease = begin_without_room(&rig);
    step(&rig);
    CHECK_EQUAL(-memdb_commit_step(rig.commit), MEMDB_EVENT_ROTATE);
    memdb_commit_read_only(rig.commit, MEMDB_READ_ONLY, 0);
    rig_op(&rig, lease, 3, OS, SET, 0, "k", "3", 0);
    step(&rig);
    CHECK_EQUAL((unsigned)rig_status(lease, 2), (unsigned)MEMDB_READ_ONLY);
    CHECK_EQUAL((unsigned)rig_status(lease, 3), (unsigned)MEMDB_READ_ONLY);
    uint64_t parks = figures_of(&rig).parks;
    CHECK_EQUAL(memdb_commit_run(rig.commit, memdb_clock_monotonic_us() + 50000), MEMDB_EVENT_NONE);
    CHECK(figures_of(&rig).parks > parks);
    CHECK(figures_of(&rig).parks - parks < 20);
    memdb_commit_read_only(rig.commit, MEMDB_OK, 0);
    CHECK_EQUAL(memdb_commit_flush(rig.commit), MEMDB_OK);
    CHECK_EQUAL(rig_open_segment(&rig, 16 << 10, UINT64_C(1) << 30), MEMDB_OK);
    rig_op(&rig, lease, 4, OS, SET, 0, "k", "4", 0);
    step(&rig);
    CHECK_EQUAL(rig_status(lease, 4), MEMDB_OK);
    munmap(lease, sizeof *lease);
    rig_end(&rig);
}

/* A mark that lies in the image only is not in the file: SYNC writes what carries D before it answers. */
static void test_sync_writes_what_says_so(void)
{
    struct rig rig;
    rig_start(&rig);
    struct memdb_lease *lease = rig_join(&rig, 1);
    memdb_replay_result scan;
    rig_op(&rig, lease, 1, MEMORY, SET, 0, "k", "1", 0);
    CHECK_EQUAL(memdb_commit_step(rig.commit) >= 0, 1);
    CHECK_EQUAL(memdb_commit_flush(rig.commit), MEMDB_OK);
    memdb_sync_request(rig.commit);
    CHECK(rig_sync(&rig, 0));
    rig_op(&rig, lease, 2, MEMORY, SET, 0, "k", "2", 0);
    step(&rig); /* takes the result of the sync first: the record of the second commit says that the first is durable */
    CHECK_EQUAL(rig_status(lease, 2), MEMDB_OK);
    CHECK_EQUAL(rig_submit(&rig, lease, MEMDB_ENTRY_SYNC, 3, FULL, 0, NULL), MEMDB_OK);
    step(&rig);
    CHECK(rig_sync(&rig, 0));
    rig_op(&rig, lease, 4, MEMORY, SET, 0, "k", "4", 0);
    step(&rig);
    CHECK_EQUAL(rig_status(lease, 3), MEMDB_OK);
    CHECK_EQUAL(memdb_replay_segment(NULL, rig.file[1], 1 << 20, MEMDB_SEGMENT_HEADER, RIG_SALT + 1, 0, UINT64_MAX, NULL, &scan), MEMDB_OK);
    CHECK(scan.durable_lsn >= 3);
    munmap(lease, sizeof *lease);
    rig_end(&rig);
}

/* A sync that the caller asked for leaves what was committed meanwhile to the timer. */
static void test_sync_by_caller(void)
{
    struct rig rig;
    memdb_commit_config config = rig_config();
    memdb_sync_job job;
    config.sync_interval_us = 20000;
    rig_begin(&rig, &config, 32 << 20, 1 << 20);
    CHECK_EQUAL(rig_open_segment(&rig, 1 << 20, 1 << 20), MEMDB_OK);
    struct memdb_lease *lease = rig_join(&rig, 1);
    rig_op(&rig, lease, 1, OS, SET, 0, "k", "1", 0);
    step(&rig);
    memdb_sync_request(rig.commit);
    CHECK_EQUAL(memdb_sync_wait(rig.commit, &job, 0), MEMDB_OK);
    rig_op(&rig, lease, 2, OS, SET, 0, "k", "2", 0);
    step(&rig);
    memdb_sync_done(rig.commit, &job, 0);
    CHECK_EQUAL(memdb_commit_run(rig.commit, memdb_clock_monotonic_us() + 60000), MEMDB_EVENT_NONE);
    CHECK(rig_sync(&rig, 0));
    step(&rig);
    CHECK_EQUAL(figures_of(&rig).synced_lsn, figures_of(&rig).applied_lsn);
    munmap(lease, sizeof *lease);
    rig_end(&rig);
}

int main(void)
{
    test_rotation_and_replay();
    test_successor();
    test_damaged_buffer();
    test_timers();
    test_idle_with_pins();
    test_lsn_limit();
    test_sync_request();
    test_failed_write();
    test_failed_sync();
    test_rotations_in_a_row();
    test_rotation_for_a_mark();
    test_sync_waits_for_its_mark();
    test_sync_without_room_for_its_mark();
    test_sync_writes_what_says_so();
    test_sync_by_caller();
    return 0;
}
