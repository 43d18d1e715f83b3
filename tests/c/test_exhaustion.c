/* CTEST-MODES: plain asan
 * CTEST-CFLAGS: -Wl,--wrap=malloc -Wl,--wrap=calloc -Wl,--wrap=realloc -Wl,--wrap=aligned_alloc -Wl,--wrap=posix_fallocate
 *
 * Every allocation fails in its turn: the n-th alone, and the n-th with all that follow, for each n until a life of the kernel needs no
 * more. The life is a process of its own, because the writer may end at once where it cannot go on (memdb_items_push); the segments are
 * shared, and the parent judges them as a successor does.
 *
 * Verdict: no crash but abort(), no leak (under ASan), statuses only that the headers name, no half transaction for any reader, and
 * nothing acknowledged is missing from what a successor reads. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "commit_rig.h"

#define LIMIT (UINT64_C(8) << 20)
#define ROUNDS 40u
#define LEASES 20u
#define FIRST_KEY 1000u

/* ---------------------------------------------------------------- the allocator ------------------------ */

struct ledger {
    uint64_t calls, acked; /* allocations so far; the last transaction that was acknowledged */
};

static struct ledger *ledger; /* shared with the parent */
static uint64_t fail_at;      /* 0: never */
static int sticky;

static int refuse(void)
{
    if (ledger == NULL)
        return 0;
    ledger->calls++;
    return fail_at != 0 && (ledger->calls == fail_at || (sticky && ledger->calls > fail_at));
}

void *__real_malloc(size_t);
void *__real_calloc(size_t, size_t);
void *__real_realloc(void *, size_t);
void *__real_aligned_alloc(size_t, size_t);
int __real_posix_fallocate(int, off_t, off_t);
void *__wrap_malloc(size_t size) { return refuse() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t count, size_t size) { return refuse() ? NULL : __real_calloc(count, size); }
void *__wrap_realloc(void *at, size_t size) { return refuse() ? NULL : __real_realloc(at, size); }
void *__wrap_aligned_alloc(size_t to, size_t size) { return refuse() ? NULL : __real_aligned_alloc(to, size); }
int __wrap_posix_fallocate(int fd, off_t at, off_t size) { return refuse() ? ENOSPC : __real_posix_fallocate(fd, at, size); }

/* ---------------------------------------------------------------- the life ----------------------------- */

struct world {
    struct rig rig;
    int fd, fresh_fd;
    void *fresh;
    uint64_t bytes;
    struct memdb_lease *leases[LEASES];
    struct memdb_lease *reader; /* the parent's */
};

static void *shared_file(uint64_t bytes, int *fd)
{
    *fd = memfd_create("exhaustion", MFD_CLOEXEC);
    CHECK(*fd >= 0 && ftruncate(*fd, (off_t)bytes) == 0);
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

static void world_begin(struct world *world)
{
    struct rig *rig = &world->rig;
    memset(world, 0, sizeof *world);
    world->bytes = LIMIT + LIMIT / 4;
    rig->half_bytes = UINT64_C(1) << 20;
    rig->arena_bytes = world->bytes;
    rig->arena_memory = shared_file(world->bytes, &world->fd);
    world->fresh = shared_file(world->bytes, &world->fresh_fd);
    rig->board = rig_map(sizeof *rig->board);
    rig->logbuf = rig_map(memdb_logbuf_bytes(rig->half_bytes));
    memdb_logbuf_init(rig->logbuf, rig->half_bytes);
    for (uint32_t i = 0; i < LEASES; i++)
        world->leases[i] = rig_lease_for((uint8_t)(i + 1));
    world->reader = rig_lease_for(99);
    memdb_store_sc(&world->reader->slots_used, 64);
}

static void world_end(struct world *world)
{
    struct rig *rig = &world->rig;
    munmap(rig->arena_memory, world->bytes);
    munmap(world->fresh, world->bytes);
    munmap(rig->board, sizeof *rig->board);
    munmap(rig->logbuf, memdb_logbuf_bytes(rig->half_bytes));
    for (uint32_t i = 0; i < LEASES; i++)
        munmap(world->leases[i], sizeof *world->leases[i]);
    munmap(world->reader, sizeof *world->reader);
    for (unsigned i = 0; i < RIG_SEGMENTS; i++)
        if (rig->file[i])
            munmap(rig->file[i], rig->half_bytes);
    close(world->fd);
    close(world->fresh_fd);
}

static int is_refusal(int status) { return status == MEMDB_FULL || status == MEMDB_SHM_FULL; }

static int build(struct world *world)
{
    struct rig *rig = &world->rig;
    memdb_commit_config config = rig_config();
    int status = memdb_arena_create(&rig->arena, rig->arena_memory, world->bytes, world->fd, LIMIT, 2, 7);
    if (status != MEMDB_OK)
        return status;
    rig->scanner = memdb_scanner_new();
    if (rig->scanner == NULL)
        return MEMDB_FULL;
    if ((status = memdb_store_new(&rig->store, rig->arena, rig->scanner)) != MEMDB_OK)
        return status;
    memdb_store_open(rig->store, 1);
    if ((status = memdb_commit_new(&rig->commit, rig->store, rig->scanner, rig->board, rig->logbuf, &config, 1)) != MEMDB_OK)
        return status;
    for (uint32_t i = 0; i < LEASES; i++)
        if ((status = memdb_commit_add_lease(rig->commit, world->leases[i])) != MEMDB_OK && !is_refusal(status))
            return status;
    return rig_open_segment(rig, rig->half_bytes, 1 << 20);
}

/* Two keys that belong together, a key with a TTL, and one that goes again. */
static void transaction(struct payload *payload, unsigned round)
{
    char value[32], name[32];
    snprintf(value, sizeof value, "%u", round);
    payload_begin(payload);
    payload_op(payload, MEMDB_OP_SET, 0, "left", value, 0);
    snprintf(name, sizeof name, "k%u", FIRST_KEY + round);
    payload_op(payload, MEMDB_OP_SET, MEMDB_OP_HAS_TTL, name, value, memdb_clock_us() + (round % 3 ? 1 : 3600000000u));
    snprintf(name, sizeof name, "k%u", FIRST_KEY + round / 2);
    payload_op(payload, MEMDB_OP_DELETE, 0, name, NULL, 0);
    payload_op(payload, MEMDB_OP_SET, 0, "right", value, 0);
}

static void note(struct memdb_lease *lease, uint64_t request, unsigned round)
{
    if (!rig_done(lease, request))
        return; /* the lease could not be taken up: nobody looks into its ring */
    int status = rig_status(lease, request);
    if (status == MEMDB_OK)
        ledger->acked = round;
    else if (!is_refusal(status) && status != MEMDB_AGAIN) {
        fprintf(stderr, "allocation %llu: a commit was answered with %d\n", (unsigned long long)fail_at, status);
        exit(1);
    }
}

static void turn(struct world *world)
{
    for (int i = 0; i < 3; i++) {
        int done = memdb_commit_step(world->rig.commit);
        if (done == -MEMDB_EVENT_PRESSURE)
            memdb_commit_pressure_done(world->rig.commit, 0);
        CHECK(done >= 0 || done == -MEMDB_EVENT_PRESSURE);
        rig_sync(&world->rig, 0);
    }
}

static void commit_round(struct world *world, unsigned round)
{
    static struct payload payload;
    struct memdb_lease *lease = world->leases[round % LEASES];
    uint8_t level = (uint8_t)(round % 3 == 0 ? MEMDB_LEVEL_MEMORY : round % 3 == 1 ? MEMDB_LEVEL_OS : MEMDB_LEVEL_FULL);
    uint64_t request = round + 1;
    transaction(&payload, round);
    if (round % 5 == 4) { /* in two pieces */
        struct memdb_entry entry = {.size = (uint32_t)(sizeof entry + 64), .kind = MEMDB_ENTRY_FRAME, .request = request,
                                    .cell = MEMDB_CELLS};
        CHECK_EQUAL(memdb_lease_submit(lease, world->rig.board, &entry, payload.bytes), MEMDB_OK);
        entry = (struct memdb_entry){.size = (uint32_t)(sizeof entry + payload.len - 64), .kind = MEMDB_ENTRY_COMMIT,
                                     .flags = MEMDB_ENTRY_STAGED, .level = level, .request = request,
                                     .cell = (uint32_t)(request % MEMDB_CELLS), .frame = 1};
        CHECK_EQUAL(memdb_lease_submit(lease, world->rig.board, &entry, payload.bytes + 64), MEMDB_OK);
    } else {
        CHECK_EQUAL(rig_submit(&world->rig, lease, MEMDB_ENTRY_COMMIT, request, level, 0, &payload), MEMDB_OK);
    }
    turn(world);
    note(lease, request, round);
}

/* Snapshots that keep versions, one every few rounds, as many clients hold them. */
static void pin(struct world *world, memdb_pin *pins, unsigned round)
{
    memdb_view view = memdb_arena_view(world->rig.arena);
    struct memdb_lease *lease = world->leases[round % LEASES];
    memdb_store_sc(&lease->slots_used, 64);
    CHECK_EQUAL(memdb_pin_begin(&pins[round / 4], &view, &lease->slots[view.parity][2 + round / LEASES], MEMDB_PIN_SNAPSHOT), MEMDB_OK);
    CHECK_EQUAL(memdb_pin_leave(&pins[round / 4]), MEMDB_OK);
}

static void scan(memdb_pin *pin, bool reverse)
{
    static uint8_t out[1 << 16];
    memdb_scan scan;
    memdb_batch batch = {.out = out, .cap = sizeof out};
    int status = memdb_scan_init(&scan, "\x01k", 2, "\x01l", 2, reverse, UINT64_MAX, false);
    while (status == MEMDB_OK && !scan.done) {
        CHECK_EQUAL(memdb_pin_enter(pin), MEMDB_OK);
        status = memdb_scan_batch(pin, &scan, &batch);
        CHECK_EQUAL(memdb_pin_leave(pin), MEMDB_OK);
        if (status == MEMDB_OK)
            status = memdb_scan_advance(&scan, &batch);
    }
    CHECK(status == MEMDB_OK || is_refusal(status));
    memdb_scan_clear(&scan);
}

static void report(void *arg, uint64_t offset, uint64_t lsn, const char *text)
{
    (void)arg;
    fprintf(stderr, "problem at %llu, lsn %llu: %s\n", (unsigned long long)offset, (unsigned long long)lsn, text);
}

/* The next generation, read from this one. OK, or what refused it. */
static int copy(struct world *world, struct memdb_lease *lease, memdb_arena **arena, memdb_scanner **scanner, memdb_store **store)
{
    memdb_view view;
    CHECK_EQUAL(memdb_view_attach(&view, world->rig.arena_memory, world->bytes, 0), MEMDB_OK);
    memdb_pin from;
    int status = memdb_arena_create(arena, world->fresh, world->bytes, world->fresh_fd, LIMIT, 3, 7);
    if (status != MEMDB_OK)
        return status;
    if ((*scanner = memdb_scanner_new()) == NULL)
        return MEMDB_FULL;
    if ((status = memdb_store_new(store, *arena, *scanner)) != MEMDB_OK)
        return status;
    CHECK_EQUAL(memdb_pin_begin(&from, &view, &lease->slots[view.parity][1], MEMDB_PIN_CHECKPOINT), MEMDB_OK);
    CHECK_EQUAL(memdb_pin_leave(&from), MEMDB_OK);
    status = memdb_bulk_copy(*store, &from, NULL);
    memdb_pin_enter(&from);
    memdb_pin_end(&from);
    return status;
}

static void drop(memdb_arena *arena, memdb_scanner *scanner, memdb_store *store)
{
    memdb_store_free(store);
    memdb_arena_free(arena);
    memdb_scanner_free(scanner);
}

static void live(struct world *world)
{
    static memdb_pin pins[ROUNDS / 4 + 1];
    static uint8_t buffer[MEMDB_FRAME_MAX];
    struct rig *rig = &world->rig;
    int status = build(world);
    CHECK(status == MEMDB_OK || is_refusal(status));
    for (unsigned round = 0; status == MEMDB_OK && round < ROUNDS; round++) {
        commit_round(world, round + 1);
        if (round % 4 == 0)
            pin(world, pins, round);
    }
    if (status == MEMDB_OK) {
        memdb_arena *arena = NULL;
        memdb_scanner *scanner = NULL;
        memdb_store *store = NULL;
        uint32_t count;
        uint64_t request = ROUNDS + 5;
        scan(&pins[1], false);
        scan(&pins[1], true);
        rig_submit(rig, world->leases[0], MEMDB_ENTRY_SYNC, request, MEMDB_LEVEL_FULL, 0, NULL);
        turn(world);
        memdb_store_expired(rig->store, memdb_clock_us(), 16, buffer, sizeof buffer, &count);
        for (unsigned i = 0; i < ROUNDS / 4; i += 2) { /* half of the snapshots go: what they held is looked at again */
            CHECK_EQUAL(memdb_pin_enter(&pins[i]), MEMDB_OK);
            CHECK_EQUAL(memdb_pin_end(&pins[i]), MEMDB_OK);
        }
        memdb_store_reclaim(rig->store, 4096);
        status = memdb_store_audit(rig->store, report, NULL);
        CHECK(status == MEMDB_OK || is_refusal(status));
        status = copy(world, world->leases[1], &arena, &scanner, &store);
        CHECK(status == MEMDB_OK || is_refusal(status));
        drop(arena, scanner, store);
    }
    memdb_commit_free(rig->commit);
    drop(rig->arena, rig->scanner, rig->store);
}

/* ---------------------------------------------------------------- the judge ---------------------------- */

static long number_at(memdb_pin *pin, const char *key)
{
    char stored[32] = {MEMDB_SPACE_PLAIN}, text[32] = {0};
    memdb_found found;
    strcpy(stored + 1, key);
    if (memdb_store_get(pin, stored, strlen(key) + 1, &found) != MEMDB_OK)
        return 0;
    CHECK(found.len < sizeof text);
    memdb_copy_out(text, found.data, found.len);
    return atol(text);
}

static void judge_view(struct world *world, void *arena, long at_least)
{
    memdb_view view;
    CHECK_EQUAL(memdb_view_attach(&view, arena, world->bytes, arena == world->fresh), MEMDB_OK);
    memdb_pin pin;
    CHECK_EQUAL(memdb_pin_begin(&pin, &view, &world->reader->slots[view.parity][0], MEMDB_PIN_POINT), MEMDB_OK);
    long left = number_at(&pin, "left"), right = number_at(&pin, "right");
    CHECK_EQUAL(memdb_pin_end(&pin), MEMDB_OK);
    if (left != right || left < at_least) {
        fprintf(stderr, "allocation %llu%s: left %ld, right %ld, acknowledged %ld\n", (unsigned long long)fail_at,
                sticky ? " and all after it" : "", left, right, at_least);
        exit(1);
    }
}

/* Applies what the log buffer holds above what is published. */
static void replay(struct world *world, memdb_store *store, uint64_t after)
{
    struct memdb_logbuf *logbuf = world->rig.logbuf;
    uint64_t segment = memdb_load_acquire(&logbuf->current);
    memdb_replay_result result;
    if (segment == 0)
        return;
    const struct memdb_logbuf_half *half = &logbuf->half[segment & 1];
    CHECK_EQUAL(memdb_replay_segment(store, memdb_logbuf_image(logbuf, segment), memdb_load_acquire(&half->tail), MEMDB_SEGMENT_HEADER,
                                     memdb_load_relaxed(&half->salt), after, UINT64_MAX >> 16, NULL, &result), MEMDB_OK);
}

static void judge(struct world *world)
{
    const struct memdb_arena_header *header = world->rig.arena_memory;
    if (!memdb_load_acquire(&header->ready)) {
        CHECK_EQUAL(ledger->acked, 0);
        return;
    }
    judge_view(world, world->rig.arena_memory, (long)ledger->acked);
    memdb_arena *arena = NULL;
    memdb_scanner *scanner = NULL;
    memdb_store *store = NULL;
    uint64_t published = memdb_load_sc(&header->published);
    CHECK_EQUAL(copy(world, world->reader, &arena, &scanner, &store), MEMDB_OK);
    replay(world, store, published);
    memdb_store_open(store, published + ROUNDS + 10);
    judge_view(world, world->fresh, (long)ledger->acked);
    CHECK_EQUAL(memdb_store_audit(store, report, NULL), MEMDB_OK);
    drop(arena, scanner, store);
}

/* One life; how many allocations it made. */
static uint64_t play(uint64_t at, int all, unsigned *aborts)
{
    struct world world;
    world_begin(&world);
    ledger->calls = ledger->acked = 0;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        fail_at = at;
        sticky = all;
        live(&world);
        world_end(&world);
        fail_at = 0;
        exit(0); /* not _exit: leaks are looked for */
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    if (!(WIFEXITED(status) && WEXITSTATUS(status) == 0) && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT)) {
        fprintf(stderr, "allocation %llu%s fails: wait status %#x\n", (unsigned long long)at, all ? " and all after it" : "", (unsigned)status);
        exit(1);
    }
    *aborts += WIFSIGNALED(status) != 0;
    uint64_t calls = ledger->calls;
    struct ledger *counting = ledger;
    fail_at = at;
    sticky = all;
    ledger = NULL;
    uint64_t acked = counting->acked;
    ledger = counting;
    fail_at = 0;
    ledger->acked = acked;
    judge(&world);
    world_end(&world);
    return calls;
}

int main(void)
{
    ledger = rig_map(sizeof *ledger);
    unsigned aborts = 0, lives = 0;
    uint64_t all = play(0, 0, &aborts);
    CHECK_EQUAL(aborts, 0);
    CHECK_EQUAL(ledger->acked, ROUNDS);
    CHECK(all > 60);
    for (int sticks = 0; sticks < 2; sticks++)
        for (uint64_t at = 1; at <= all; at++, lives++)
            play(at, sticks, &aborts);
    printf("exhaustion: %llu allocations, %u lives, %u of them ended by abort\n", (unsigned long long)all, lives, aborts);
    munmap(ledger, sizeof *ledger);
    return 0;
}
