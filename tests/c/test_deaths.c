/*
 * Owners of slots and rings killed by the thousands: real processes on one shared mapping, by SIGKILL from themselves before their n-th
 * store to shared memory (n random over the whole life of a client, so every store of pin, hazard, submission and withdrawal is met) or
 * from outside at any instruction. The parent is the writer, and what the reaper is to it.
 *
 * After each death: its lease goes back; what it had published is committed, whole, and nothing else; its slots and hazards hold nothing.
 * Blocks are poisoned when they are freed (memdb_arena_release is wrapped), values describe themselves, and every read of a living reader is
 * checked, so a block that is freed under somebody is seen. At the end retired memory falls to nothing and the audit finds no lost block.
 * MEMDB_DEATHS: how many (default 1500); MEMDB_SEED.
 * CTEST-MODES: plain
 * CTEST-CFLAGS: -DMEMDB_STORE_HOOK -DMEMDB_BLOCK_MAX=4 -DMEMDB_RING_BYTES=16384u -Wl,--wrap=memdb_arena_release
 */
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "commit_rig.h"

#define CLIENTS 6u
#define KEYS 48u
#define OWN 4u        /* pairs of keys of one life's own */
#define POISON UINT64_C(0xdeadf4eedeadf4ee)
#define RECLAIM_ALL (1u << 20)

static uint64_t armed; /* in a child: stores until it kills itself; 0 = it does not */

void memdb_store_hook(void)
{
    if (armed != 0 && --armed == 0)
        kill(getpid(), SIGKILL);
}

void __real_memdb_arena_release(memdb_arena *arena, memdb_ref ref, uint64_t bytes);
void __wrap_memdb_arena_release(memdb_arena *arena, memdb_ref ref, uint64_t bytes);
void __wrap_memdb_arena_release(memdb_arena *arena, memdb_ref ref, uint64_t bytes)
{
    memdb_a64 *words = memdb_arena_at(arena, ref);
    for (uint64_t i = 0; i < bytes / 8; i++)
        memdb_store_relaxed(&words[i], POISON);
    __real_memdb_arena_release(arena, ref, bytes);
}

struct life { /* shared: what a client says of itself, in ordinary order: it is read after its death */
    memdb_a64 before, after; /* request that it was about to hand in; the last one that was handed in */
    memdb_a64 withdrawing, withdrawn; /* the last one that it was about to take back; that it has taken back */
    memdb_a64 reads, wrong;
    memdb_a64 ready;
};

struct client {
    struct memdb_lease *lease;
    struct life *life;
    uint64_t number; /* of the life, in its keys and values */
    pid_t pid;
};

static struct rig rig;
static struct client clients[CLIENTS];
static struct memdb_lease *own_lease;
static uint64_t own_request, seed, lives, killed_outside, published_entries, uncommitted, reads;

/* ---------------------------------------------------------------- values ------------------------------- */

/* "key:request:filler…:sum" would be text; these are words: key, stamp, fillers, sum. As bytes without a zero in a payload_op string they
 * can't go, so the payload is built here. */
static void add_set(struct payload *payload, const char *name, uint64_t stamp, size_t words)
{
    uint64_t value[64], sum = 0;
    uint8_t stored[64];
    uint32_t count;
    size_t len = strlen(name);
    stored[0] = MEMDB_SPACE_PLAIN;
    memcpy(stored + 1, name, len);
    value[0] = stamp;
    for (size_t i = 1; i + 1 < words; i++)
        value[i] = stamp * 31 + i;
    for (size_t i = 0; i + 1 < words; i++)
        sum += value[i];
    value[words - 1] = sum ^ words;
    memdb_op op = {.code = MEMDB_OP_SET, .key_len = (uint16_t)(len + 1), .key = stored, .value = (const uint8_t *)value,
                   .value_len = (uint32_t)(words * 8)};
    payload->len += memdb_ops_put(payload->bytes + payload->len, sizeof payload->bytes - payload->len, &op);
    CHECK(payload->len <= sizeof payload->bytes);
    memcpy(&count, payload->bytes, 4);
    count++;
    memcpy(payload->bytes, &count, 4);
}

static int sound(const uint64_t *value, size_t len)
{
    size_t words = len / 8;
    uint64_t sum = 0;
    if (len % 8 != 0 || words < 3 || words > 64)
        return 0;
    for (size_t i = 0; i + 1 < words; i++) {
        sum += value[i];
        if (i > 0 && value[i] != value[0] * 31 + i)
            return 0;
    }
    return value[words - 1] == (sum ^ words);
}

static void shared_key(char *name, uint64_t number) { snprintf(name, 24, "s%02u", (unsigned)(number % KEYS)); }
static void own_key(char *name, uint64_t life, uint64_t pair, char half) { snprintf(name, 48, "o%u.%u.%c", (unsigned)life, (unsigned)pair, half); }

/* ---------------------------------------------------------------- a client's life ---------------------- */

/* Status, and the value's stamp if it is there; a value that does not describe itself counts as wrong once the pin has ended well. */
static int look(memdb_pin *pin, const char *name, uint64_t value[64], memdb_found *found)
{
    uint8_t stored[64];
    size_t len = strlen(name);
    stored[0] = MEMDB_SPACE_PLAIN;
    memcpy(stored + 1, name, len);
    int status = memdb_store_get(pin, stored, len + 1, found);
    if (status == MEMDB_OK)
        memdb_copy_out(value, found->data, found->len < 512 ? found->len : 512);
    return status;
}

static void judge(struct client *c, int ended, int status, const uint64_t *value, size_t len)
{
    if (ended != MEMDB_OK)
        return;
    memdb_store_relaxed(&c->life->reads, memdb_load_relaxed(&c->life->reads) + 1);
    if (status < 0 || (status == MEMDB_OK && !sound(value, len)))
        memdb_store_relaxed(&c->life->wrong, 1);
}

static void read_point(struct client *c, const memdb_view *view, uint64_t *random)
{
    memdb_pin pin;
    memdb_found found = {0};
    uint64_t value[64];
    char name[48];
    shared_key(name, check_random(random));
    if (memdb_pin_begin(&pin, view, &c->lease->slots[view->parity][0], MEMDB_PIN_POINT) != MEMDB_OK)
        return;
    int status = look(&pin, name, value, &found);
    judge(c, memdb_pin_end(&pin), status, value, found.len);
}

static void read_snapshot(struct client *c, const memdb_view *view, uint64_t *random)
{
    memdb_pin pin;
    memdb_found found = {0};
    uint64_t value[64];
    char name[48];
    unsigned slot = 1 + (unsigned)check_random_below(random, 20);
    if (memdb_pin_begin(&pin, view, &c->lease->slots[view->parity][slot], MEMDB_PIN_SNAPSHOT) != MEMDB_OK || memdb_pin_leave(&pin) != MEMDB_OK)
        return;
    for (uint64_t turns = check_random_below(random, 6); turns > 0 && memdb_pin_enter(&pin) == MEMDB_OK; turns--) {
        shared_key(name, check_random(random));
        int status = look(&pin, name, value, &found);
        judge(c, memdb_pin_leave(&pin), status, value, found.len);
    }
    if (check_random_below(random, 3)) /* otherwise it stays open: what its owner's death has to end */
        memdb_pin_close(&pin);
}

static void show_view(struct client *c, const memdb_view *view, uint64_t *random)
{
    memdb_pin pin;
    memdb_found found = {0};
    uint64_t value[64];
    char name[48];
    shared_key(name, check_random(random));
    if (memdb_pin_begin(&pin, view, &c->lease->slots[view->parity][0], MEMDB_PIN_POINT) != MEMDB_OK)
        return;
    int status = look(&pin, name, value, &found), hazard = -1;
    if (status == MEMDB_OK)
        hazard = memdb_hazard_set(c->lease, view->parity, found.owner);
    if (memdb_pin_end(&pin) == MEMDB_OK && hazard >= 0) {
        for (int turn = 0; turn < 50; turn++) {
            memdb_copy_out(value, found.data, found.len);
            judge(c, MEMDB_OK, status, value, found.len);
        }
        if (check_random_below(random, 4) == 0)
            return; /* a view that stays */
    }
    if (hazard >= 0)
        memdb_hazard_clear(c->lease, view->parity, hazard);
}

static void write_pair(struct client *c, uint64_t *random)
{
    static struct payload payload;
    char name[48];
    uint64_t request = memdb_load_relaxed(&c->life->before) + 1, pair = check_random_below(random, OWN);
    uint64_t stamp = c->number << 32 | request;
    payload_begin(&payload);
    own_key(name, c->number, pair, 'a');
    add_set(&payload, name, stamp, 3 + check_random_below(random, 20));
    own_key(name, c->number, pair, 'b');
    add_set(&payload, name, stamp, 3 + check_random_below(random, 20));
    own_key(name, c->number, OWN, 'z'); /* the newest of all */
    add_set(&payload, name, stamp, 3);
    struct memdb_entry entry = {.size = (uint32_t)(sizeof entry + payload.len), .kind = MEMDB_ENTRY_COMMIT, .level = MEMDB_LEVEL_MEMORY,
                                .request = request, .cell = (uint32_t)(request % MEMDB_CELLS)};
    memdb_store_sc(&c->life->before, request);
    int status;
    while ((status = memdb_lease_submit(c->lease, rig.board, &entry, payload.bytes)) == MEMDB_AGAIN)
        sched_yield();
    if (status != MEMDB_OK)
        memdb_store_relaxed(&c->life->wrong, 2);
    memdb_store_sc(&c->life->after, request);
    if (check_random_below(random, 8) == 0) {
        memdb_store_sc(&c->life->withdrawing, request);
        if (memdb_lease_withdraw(c->lease, entry.cell) == MEMDB_OK) {
            memdb_store_sc(&c->life->withdrawn, request);
            return;
        }
        memdb_store_sc(&c->life->withdrawing, 0);
    }
    while (memdb_lease_wait(c->lease, entry.cell, 5, 200000) == MEMDB_TIMEOUT)
        ;
}

static void live(struct client *c, uint64_t random)
{
    memdb_view view = memdb_arena_view(rig.arena);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    CHECK(mprotect(rig.arena_memory, rig.arena_bytes, PROT_READ) == 0); /* as a client maps it */
    memdb_store_sc(&c->lease->slots_used, 32);
    memdb_store_sc(&c->life->ready, 1);
    armed = check_random_below(&random, 4) ? 1 + check_random_below(&random, 700) : 0; /* the others are killed from outside */
    for (;;) {
        switch (check_random_below(&random, 6)) {
        case 0: case 1: read_point(c, &view, &random); break;
        case 2: read_snapshot(c, &view, &random); break;
        case 3: show_view(c, &view, &random); break;
        default: write_pair(c, &random); break;
        }
    }
}

/* ---------------------------------------------------------------- the writer --------------------------- */

static void be_born(struct client *c)
{
    uint64_t random = check_random(&seed);
    c->number = ++lives;
    c->lease = rig_lease_for((uint8_t)c->number);
    memcpy(c->lease->client_id + 4, &c->number, 8);
    c->life = rig_map(sizeof *c->life);
    CHECK_EQUAL(memdb_commit_add_lease(rig.commit, c->lease), MEMDB_OK);
    fflush(NULL);
    c->pid = fork();
    CHECK(c->pid >= 0);
    if (c->pid == 0)
        live(c, random);
}

static void step(void)
{
    int status = memdb_commit_step(rig.commit);
    if (status == -MEMDB_EVENT_ROTATE)
        CHECK_EQUAL((memdb_commit_flush(rig.commit), rig.segment = rig.segment % 2, rig_open_segment(&rig, 4 << 20, UINT64_C(1) << 40)), MEMDB_OK);
    else
        CHECK(status >= 0);
}

/* Changes the keys that all read: versions come and go, blocks are freed and used again. */
static void churn(void)
{
    static struct payload payload;
    char name[24];
    uint64_t request = ++own_request;
    if (own_request > MEMDB_CELLS && !rig_done(own_lease, request)) { /* the cell's last request */
        own_request--;
        return;
    }
    payload_begin(&payload);
    for (uint64_t n = 1 + check_random_below(&seed, 3); n > 0; n--) {
        shared_key(name, check_random(&seed));
        if (check_random_below(&seed, 4) == 0)
            payload_op(&payload, MEMDB_OP_DELETE, 0, name, NULL, 0);
        else
            add_set(&payload, name, request, 3 + check_random_below(&seed, 60));
    }
    int status = rig_submit(&rig, own_lease, MEMDB_ENTRY_COMMIT, request, MEMDB_LEVEL_MEMORY, 0, &payload);
    CHECK(status == MEMDB_OK || status == MEMDB_AGAIN);
    if (status == MEMDB_AGAIN)
        own_request--;
}

static uint64_t stamp_of(const char *name)
{
    memdb_view view = memdb_arena_view(rig.arena);
    memdb_pin pin;
    memdb_found found = {0};
    uint64_t value[64];
    CHECK_EQUAL(memdb_pin_begin(&pin, &view, &own_lease->slots[view.parity][0], MEMDB_PIN_POINT), MEMDB_OK);
    int status = look(&pin, name, value, &found);
    CHECK_EQUAL(memdb_pin_end(&pin), MEMDB_OK);
    CHECK(status == MEMDB_OK || status == MEMDB_ABSENT);
    if (status == MEMDB_ABSENT)
        return 0;
    CHECK(sound(value, found.len));
    return value[0];
}

/* What it had published is committed, whole; what it had not is not; what it took back is not. */
static void check_writes(const struct client *c)
{
    char a[48], b[48];
    uint64_t before = memdb_load_relaxed(&c->life->before), after = memdb_load_relaxed(&c->life->after);
    uint64_t withdrawn = memdb_load_relaxed(&c->life->withdrawn), withdrawing = memdb_load_relaxed(&c->life->withdrawing);
    own_key(a, c->number, OWN, 'z');
    uint64_t newest = stamp_of(a), request = newest & UINT32_MAX;
    CHECK(newest == 0 || newest >> 32 == c->number);
    CHECK(request <= before);
    CHECK(request != withdrawn || withdrawn == 0);
    if (after != 0 && before == after && withdrawing != after)
        CHECK_EQUAL(request, after); /* handed in, so it is done */
    uncommitted += request < before;
    for (uint64_t pair = 0; pair < OWN; pair++) {
        own_key(a, c->number, pair, 'a');
        own_key(b, c->number, pair, 'b');
        uint64_t one = stamp_of(a);
        CHECK_EQUAL(one, stamp_of(b));
        CHECK(one == 0 || one >> 32 == c->number);
    }
    published_entries += request;
}

static void forget_writes(const struct client *c)
{
    static struct payload payload;
    char name[48];
    payload_begin(&payload);
    for (uint64_t pair = 0; pair < OWN; pair++)
        for (char half = 'a'; half <= 'b'; half++) {
            own_key(name, c->number, pair, half);
            payload_op(&payload, MEMDB_OP_DELETE, 0, name, NULL, 0);
        }
    own_key(name, c->number, OWN, 'z');
    payload_op(&payload, MEMDB_OP_DELETE, 0, name, NULL, 0);
    uint64_t request = own_request + 1;
    while (own_request >= MEMDB_CELLS && !rig_done(own_lease, request))
        step();
    own_request = request;
    while (rig_submit(&rig, own_lease, MEMDB_ENTRY_COMMIT, request, MEMDB_LEVEL_MEMORY, 0, &payload) == MEMDB_AGAIN)
        step();
}

static void bury(struct client *c)
{
    if (memdb_load_relaxed(&c->life->wrong)) {
        fprintf(stderr, "life %llu of seed: a read was wrong (%llu)\n", (unsigned long long)c->number,
                (unsigned long long)memdb_load_relaxed(&c->life->wrong));
        CHECK(0);
    }
    memdb_commit_remove_lease(rig.commit, c->lease);
    munmap(c->lease, sizeof *c->lease); /* nobody may look at it any more */
    for (int i = 0; i < 4; i++)
        step();
    check_writes(c);
    reads += memdb_load_relaxed(&c->life->reads);
    munmap(c->life, sizeof *c->life);
    forget_writes(c);
}

/* Kills one now and then, and buries whoever is dead. */
static void look_after_clients(void)
{
    int status;
    struct client *one = &clients[check_random_below(&seed, CLIENTS)];
    if (memdb_load_relaxed(&one->life->ready) && check_random_below(&seed, 40) == 0 && kill(one->pid, SIGKILL) == 0)
        killed_outside++;
    for (pid_t gone; (gone = waitpid(-1, &status, WNOHANG)) > 0;) {
        struct client *c = clients;
        while (c->pid != gone)
            CHECK(++c < clients + CLIENTS);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL); /* a reader that crashes is a violation too */
        bury(c);
        be_born(c);
    }
}

int main(void)
{
    const char *wanted = getenv("MEMDB_DEATHS"), *given = getenv("MEMDB_SEED");
    uint64_t deaths = wanted ? strtoull(wanted, NULL, 10) : 1500;
    seed = given ? strtoull(given, NULL, 10) : 4;
    printf("test_deaths: seed %llu\n", (unsigned long long)seed);
    memdb_commit_config config = rig_config();
    config.logged = 0; /* the log is looked at elsewhere */
    rig_begin(&rig, &config, 64 << 20, 4 << 20);
    own_lease = rig_join(&rig, 0);
    memdb_store_sc(&own_lease->slots_used, 1);
    for (unsigned i = 0; i < CLIENTS; i++)
        be_born(&clients[i]);
    uint64_t most_retired = 0, started = memdb_clock_monotonic_us(), longest = 0, last = started;
    while (lives < deaths + CLIENTS) {
        churn();
        step();
        memdb_store_reclaim(rig.store, 64);
        uint64_t retired = memdb_load_relaxed(&memdb_arena_header(rig.arena)->retired_bytes);
        most_retired = retired > most_retired ? retired : most_retired;
        look_after_clients();
        uint64_t now = memdb_clock_monotonic_us();
        longest = now - last > longest ? now - last : longest;
        last = now;
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        kill(clients[i].pid, SIGKILL);
        CHECK_EQUAL(waitpid(clients[i].pid, NULL, 0), clients[i].pid);
        bury(&clients[i]);
    }
    for (int i = 0; i < 300; i++) {
        step();
        memdb_store_reclaim(rig.store, RECLAIM_ALL);
    }
    /* No slot, no hazard and no lease is left that holds anything: all that was unlinked is free again. */
    CHECK(!memdb_store_reclaim_pending(rig.store));
    CHECK_EQUAL(memdb_load_relaxed(&memdb_arena_header(rig.arena)->retired_bytes), 0);
    CHECK_EQUAL(memdb_store_audit(rig.store, NULL, NULL), MEMDB_OK);
    CHECK(most_retired > 0 && reads > deaths && uncommitted > 0 && published_entries > deaths / 2);
    printf("FIGURE deaths: %llu (%llu from outside)\nFIGURE checked reads: %llu\nFIGURE commits of the dead: %llu\n"
           "FIGURE entries that were never published: %llu\nFIGURE retired bytes at most: %llu, at the end: 0\n"
           "FIGURE longest turn of the writer: %.1f ms\n",
           (unsigned long long)lives, (unsigned long long)killed_outside, (unsigned long long)reads, (unsigned long long)published_entries,
           (unsigned long long)uncommitted, (unsigned long long)most_retired, (double)longest / 1000);
    rig_end(&rig);
    return 0;
}
