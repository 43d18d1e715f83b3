/*
 * The writer killed at every one of its stores to shared memory, rotations included: a successor reads the arena, applies both halves of
 * the log buffer, resumes the segment; the client sends again what was taken and not answered. Nothing that was answered is lost, every
 * request is in the log exactly once, and the state is that of all of them. Every other request is validated, by reads that its own
 * effect makes void: sent again after it was applied it has to be answered as it was.
 * The private memory of a killed writer is left behind, as by a kill, so there is no leak check.
 * CTEST-MODES: plain
 * CTEST-CFLAGS: -DMEMDB_STORE_HOOK -DMEMDB_BLOCK_MAX=4
 */
#include <setjmp.h>

#include "validate_rig.h"

#define REQUESTS 8u
#define LIMIT (UINT64_C(1) << 20)

static jmp_buf killed;
static uint64_t armed, stores;

void memdb_store_hook(void)
{
    if (armed == 0)
        return;
    stores++;
    if (--armed == 0)
        longjmp(killed, 1);
}

struct life {
    struct rig rig;
    struct memdb_lease *lease;
    uint64_t ends[REQUESTS + 1]; /* ring position behind each request; 0 = not sent */
};

static void send(struct life *life, uint64_t request, uint8_t flags)
{
    static struct payload payload, whole;
    static struct section section;
    uint64_t rest = armed;
    char key[16], value[16];
    armed = 0; /* the client is not the one who dies */
    snprintf(key, sizeof key, "k%u", (unsigned)request);
    snprintf(value, sizeof value, "v%u", (unsigned)request);
    payload_begin(&payload);
    payload_op(&payload, MEMDB_OP_SET, 0, key, value, 0);
    payload_op(&payload, MEMDB_OP_SET, 0, "same", value, 0);
    if (request > 1 && request % 3 == 0) {
        snprintf(key, sizeof key, "k%u", (unsigned)request - 1);
        payload_op(&payload, MEMDB_OP_DELETE, 0, key, NULL, 0);
    }
    section_begin(&section, 1);
    section.word = 0; /* as in rig_config */
    snprintf(key, sizeof key, "k%u", (unsigned)request);
    section_point(&section, key, 0);
    section_join(&section, &payload, &whole);
    const struct payload *sent = request % 2 ? &payload : &whole;
    if (request % 2 == 0)
        flags |= MEMDB_ENTRY_VALIDATE;
    struct memdb_entry entry = {.size = (uint32_t)(sizeof entry + sent->len), .kind = MEMDB_ENTRY_COMMIT, .request = request, .flags = flags,
                                .level = (uint8_t)(request % 3), .cell = (uint32_t)(request % MEMDB_CELLS)};
    CHECK_EQUAL(memdb_lease_submit(life->lease, life->rig.board, &entry, sent->bytes), MEMDB_OK);
    life->ends[request] = memdb_load_relaxed(&life->lease->ring_tail);
    armed = rest;
}

static void rotate(struct rig *rig)
{
    CHECK_EQUAL(memdb_commit_flush(rig->commit), MEMDB_OK);
    CHECK_EQUAL(rig_open_segment(rig, 1 << 20, LIMIT), MEMDB_OK); /* plays a caller that has synced */
}

static void work(struct life *life, uint64_t from)
{
    struct rig *rig = &life->rig;
    for (uint64_t request = from; request <= REQUESTS; request += 2) {
        send(life, request, 0);
        if (request < REQUESTS)
            send(life, request + 1, 0);
        CHECK(memdb_commit_step(rig->commit) >= 0);
        if (request % 4 == 1) /* twice in a row, some commits being durable only by it */
            rotate(rig), rotate(rig);
        rig_sync(rig, 0);
        CHECK(memdb_commit_step(rig->commit) >= 0);
    }
}

/* What a successor does: the arena as a reader sees it, the log buffer above that, then the segment goes on. */
static void succeed(struct life *life)
{
    struct rig *rig = &life->rig;
    memdb_view old = memdb_arena_view(rig->arena);
    void *memory = rig->arena_memory;
    uint64_t bytes = rig->arena_bytes, current = memdb_load_acquire(&rig->logbuf->current), last;
    memdb_commit_config config = rig_config();
    memdb_pin pin;
    rig_new_store(rig, 16 << 20, 3);
    memdb_store_sc(&life->lease->slots_used, 2);
    CHECK_EQUAL(memdb_pin_begin(&pin, &old, &life->lease->slots[0][1], MEMDB_PIN_CHECKPOINT), MEMDB_OK);
    last = pin.lsn;
    CHECK_EQUAL(memdb_bulk_copy(rig->store, &pin, NULL), MEMDB_OK);
    memdb_pin_close(&pin);
    for (uint64_t segment = current - (current > 1); segment <= current; segment++) {
        const struct memdb_logbuf_half *half = &rig->logbuf->half[segment & 1];
        memdb_replay_result result;
        if (memdb_load_relaxed(&half->segment) != segment)
            continue; /* its place was being taken for the next one */
        uint64_t tail = memdb_load_acquire(&half->tail);
        CHECK_EQUAL(memdb_replay_segment(rig->store, memdb_logbuf_image(rig->logbuf, segment), tail, MEMDB_SEGMENT_HEADER,
                                         memdb_load_relaxed(&half->salt), last, UINT64_MAX, NULL, &result), MEMDB_OK);
        CHECK_EQUAL(result.end_offset, tail);
        if (result.last_lsn > last)
            last = result.last_lsn;
    }
    memdb_store_open(rig->store, last);
    CHECK_EQUAL(memdb_commit_new(&rig->commit, rig->store, rig->scanner, rig->board, rig->logbuf, &config, last), MEMDB_OK);
    CHECK_EQUAL(memdb_commit_add_lease(rig->commit, life->lease), MEMDB_OK);
    rig->segment = rig->writing = current;
    CHECK_EQUAL(memdb_commit_resume_segment(rig->commit, rig_write, rig), MEMDB_OK);
    munmap(memory, bytes);
}

static void check_answered(struct life *life, const int *answered)
{
    for (uint64_t request = 1; request <= REQUESTS; request++) {
        char key[16], value[16];
        snprintf(key, sizeof key, "k%u", (unsigned)request);
        snprintf(value, sizeof value, "v%u", (unsigned)request);
        int deleted = (request + 1) % 3 == 0;
        if (answered[request] && !deleted)
            CHECK(rig_reads(&life->rig, life->lease, key, value));
    }
}

/* Each request once in the files. (What is sent again may come behind what was waiting in the ring.) */
static void check_log(struct rig *rig)
{
    unsigned seen[REQUESTS + 1] = {0};
    for (uint64_t segment = 1; segment <= rig->segment; segment++) {
        memdb_record record;
        for (uint64_t at = MEMDB_SEGMENT_HEADER;
             memdb_record_read(rig->file[segment], rig->half_bytes, at, RIG_SALT + segment, &record) == MEMDB_RECORD_GOOD; at += record.padded)
            if (record.header.type == MEMDB_RECORD_COMMIT)
                seen[record.header.request]++;
    }
    for (unsigned request = 1; request <= REQUESTS; request++)
        CHECK_EQUAL(seen[request], 1);
}

/* True if the writer was killed at that store. */
static int live(uint64_t stop)
{
    static struct life life;
    static int answered[REQUESTS + 1];
    memdb_commit_config config = rig_config();
    memset(&life, 0, sizeof life);
    memset(answered, 0, sizeof answered);
    rig_begin(&life.rig, &config, 16 << 20, 1 << 20);
    CHECK_EQUAL(rig_open_segment(&life.rig, 1 << 20, LIMIT), MEMDB_OK);
    life.lease = rig_join(&life.rig, 1);
    int dead = setjmp(killed);
    if (!dead) {
        armed = stop;
        work(&life, 1);
        armed = 0;
        rig_drop_writer(&life.rig);
    } else {
        uint64_t next = 1;
        for (; next <= REQUESTS && life.ends[next]; next++)
            answered[next] = rig_done(life.lease, next);
        succeed(&life);
        check_answered(&life, answered);
        for (uint64_t request = 1; request < next; request++)
            if (!rig_done(life.lease, request) && memdb_load_acquire(&life.lease->ring_head) >= life.ends[request])
                send(&life, request, MEMDB_ENTRY_REPEAT);
        for (unsigned turn = 0; turn < 3; turn++) {
            CHECK(memdb_commit_step(life.rig.commit) >= 0);
            rig_sync(&life.rig, 0);
        }
        work(&life, next);
        for (uint64_t request = 1; request <= REQUESTS; request++) {
            CHECK_EQUAL(rig_status(life.lease, request), MEMDB_OK);
            answered[request] = 1;
        }
        check_answered(&life, answered);
        CHECK(rig_reads(&life.rig, life.lease, "same", "v8") || rig_reads(&life.rig, life.lease, "same", "v7"));
        CHECK_EQUAL(memdb_store_audit(life.rig.store, NULL, NULL), MEMDB_OK);
        CHECK_EQUAL(memdb_commit_flush(life.rig.commit), MEMDB_OK);
        check_log(&life.rig);
        rig_drop_writer(&life.rig);
    }
    munmap(life.rig.board, sizeof *life.rig.board);
    munmap(life.rig.logbuf, memdb_logbuf_bytes(life.rig.half_bytes));
    munmap(life.lease, sizeof *life.lease);
    for (unsigned i = 0; i < RIG_SEGMENTS; i++)
        if (life.rig.file[i])
            munmap(life.rig.file[i], life.rig.half_bytes);
    return dead;
}

int main(void)
{
    uint64_t stop = 1;
    while (live(stop))
        stop++;
    printf("test_commit_stop: killed at each of %u stores\n", (unsigned)stop - 1);
    CHECK(stop > 500);
    return 0;
}
