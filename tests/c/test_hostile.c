/*
 * A hostile client beside a healthy one: what it may store (ring, cells, slots, hazards, its lease's header) is made from what a real client
 * stores, a little off: bits, lengths, counts, kinds, levels, request numbers, order of frames; cut, grown, doubled, spliced.
 *
 * After each attack the healthy client's commit is taken and read. At the end of a life: the books balance, a reader's check finds nothing
 * wrong, and the log that was written replays into a store with the same keys: what the writer accepts, recovery accepts.
 * Each life is a child process: one that crashes or waits for ever is named by its seed, and the bytes of its last entry are shown.
 * MEMDB_SEED; MEMDB_SECONDS (default 2).
 * CTEST-MODES: plain asan
 */
#include <sys/wait.h>
#include <unistd.h>

#include "commit_rig.h"
#include "readset.h"

#define ROUNDS 600u
#define LIFE_SECONDS 60u
#define ENTRY_MAX (sizeof(struct memdb_entry) + MEMDB_FRAME_MAX)
#define PLACES_MAX 64u

struct note { /* shared with the parent */
    uint64_t round, entries, commits, rejected, broken, lives, size;
    uint8_t entry[ENTRY_MAX];
};
static struct note *note;
static uint64_t seed;
static struct rig rig;
static struct memdb_lease *good, *bad;
static uint64_t bad_request = 1;

static uint64_t below(uint64_t bound) { return check_random_below(&seed, bound); }

/* An edge, a neighbour, a flipped bit, or anything. */
static uint64_t bent_number(uint64_t value)
{
    static const uint64_t edges[] = {0, 1, 2, 7, 8, 63, 64, 65, 255, 65000, 65001, 65535, 65536, 65537, 1 << 20, 0x1fffffff, 0x20000000, 0x7fffffff,
                                     0x80000000, 0xfffffff8, 0xffffffff, 0xffffffffffff, UINT64_MAX - 7, UINT64_MAX};
    switch (below(4)) {
    case 0: return edges[below(sizeof edges / sizeof edges[0])];
    case 1: return value + below(17) - 8;
    case 2: return value ^ UINT64_C(1) << below(64);
    default: return check_random(&seed) >> below(64);
    }
}

/* ---------------------------------------------------------------- entries as a client makes them ------- */

struct made {
    struct memdb_entry entry;
    uint8_t payload[MEMDB_FRAME_MAX];
    size_t len, places[PLACES_MAX]; /* places: where lengths, counts and flags lie */
    unsigned place_count;
};

static void place(struct made *made, size_t at)
{
    if (made->place_count < PLACES_MAX)
        made->places[made->place_count++] = at;
}

static size_t put_key(uint8_t *key)
{
    static const uint8_t spaces[] = {1, 1, 1, 3, 4};
    size_t len = below(60) ? 1 + below(12) : 1 + below(1200);
    key[0] = below(60) ? spaces[below(sizeof spaces)] : (uint8_t)below(9);
    for (size_t i = 1; i < len; i++)
        key[i] = (uint8_t)('a' + below(3));
    return len;
}

static void put_reads(struct made *made)
{
    uint8_t key[2000], stop[2000], *buf = made->payload;
    size_t used = MEMDB_READS_HEADER;
    uint32_t count = (uint32_t)below(5);
    uint64_t lsn = memdb_load_relaxed(&memdb_arena_header(rig.arena)->published);
    for (uint32_t i = 0; i < count; i++) {
        size_t len = put_key(key), stop_len = below(3) ? put_key(stop) : 0;
        place(made, used);
        if (below(2))
            used += memdb_reads_put_point(buf + used, 4000, key, len, below(2) ? 0 : lsn - below(lsn));
        else
            used += memdb_reads_put_range(buf + used, 4000, key, len, stop, stop_len);
    }
    made->len = memdb_reads_header(buf, sizeof made->payload, used, count, lsn, 0, 0);
    place(made, 0);
    made->entry.flags |= MEMDB_ENTRY_VALIDATE;
}

static void put_ops(struct made *made)
{
    static const uint8_t conditions[] = {MEMDB_OP_IF_ABSENT, MEMDB_OP_IF_ABSENT, MEMDB_OP_IF_PRESENT, MEMDB_OP_IF_VERSION};
    static const uint8_t codes[] = {MEMDB_OP_SET, MEMDB_OP_SET, MEMDB_OP_SET, MEMDB_OP_DELETE, MEMDB_OP_DELETE_RANGE, MEMDB_OP_CHECK};
    uint8_t key[2000], value[70000];
    size_t head = made->len;
    uint32_t words[2] = {1 + (uint32_t)below(8), 0};
    made->len += sizeof words;
    place(made, head);
    for (uint32_t i = 0; i < words[0]; i++) {
        memdb_op op = {.code = codes[below(sizeof codes - (below(4) != 0))], .key = key, .value = value};
        if (op.code == MEMDB_OP_CHECK || (op.code != MEMDB_OP_DELETE_RANGE && below(20) == 0))
            op.flags = conditions[below(sizeof conditions)];
        if (op.code == MEMDB_OP_SET && below(3) == 0)
            op.flags |= below(2) ? MEMDB_OP_HAS_TTL : MEMDB_OP_KEEP_TTL;
        if (op.code == MEMDB_OP_DELETE && below(6) == 0)
            op.flags |= MEMDB_OP_ONLY_EXPIRED;
        op.expires_us = below(2) ? memdb_clock_us() + below(5000) : check_random(&seed);
        op.if_lsn = below(200);
        op.key_len = (uint16_t)put_key(key);
        if (op.code == MEMDB_OP_DELETE_RANGE && below(2))
            op.value_len = (uint32_t)put_key(value), value[0] = key[0];
        if (op.code == MEMDB_OP_SET) {
            op.value_len = (uint32_t)(below(50) ? below(80) : below(60000));
            memset(value, (int)below(256), op.value_len);
        }
        size_t size = memdb_ops_put(made->payload + made->len, sizeof made->payload - made->len, &op);
        if (size > sizeof made->payload - made->len) {
            words[0] = i;
            break;
        }
        place(made, made->len);
        made->len += size;
    }
    memcpy(made->payload + head, words, sizeof words);
}

/* Large commits come in frames: here the first holds all of it, the others nothing. */
static void make(struct made *made)
{
    static uint32_t frames;
    struct memdb_entry *entry = &made->entry;
    memset(entry, 0, sizeof *entry);
    made->len = made->place_count = 0;
    entry->kind = (uint16_t)(below(5) ? MEMDB_ENTRY_COMMIT : 1 + below(3));
    if (entry->kind == MEMDB_ENTRY_COMMIT && frames > 0)
        entry->flags |= MEMDB_ENTRY_STAGED;
    else if (frames == 0)
        bad_request += below(8) != 0;
    entry->level = (uint8_t)below(3);
    entry->request = bad_request;
    entry->cell = entry->kind == MEMDB_ENTRY_FRAME ? MEMDB_CELLS : (uint32_t)(bad_request % MEMDB_CELLS);
    if (below(8) == 0)
        entry->flags |= MEMDB_ENTRY_REPEAT;
    if (entry->kind == MEMDB_ENTRY_FRAME || (entry->flags & MEMDB_ENTRY_STAGED))
        entry->frame = frames;
    if (entry->kind == MEMDB_ENTRY_COMMIT && frames == 0 && below(4) == 0)
        put_reads(made);
    if (entry->kind != MEMDB_ENTRY_SYNC && frames == 0)
        put_ops(made);
    frames = entry->kind == MEMDB_ENTRY_FRAME && frames < 3 ? frames + 1 : 0;
    entry->size = (uint32_t)(sizeof *entry + made->len);
}

/* ---------------------------------------------------------------- a little off ------------------------- */

static void bend_header(struct memdb_entry *entry)
{
    switch (below(8)) {
    case 0: entry->size = (uint32_t)bent_number(entry->size); break;
    case 1: entry->kind = (uint16_t)bent_number(entry->kind); break;
    case 2: entry->flags = (uint8_t)bent_number(entry->flags); break;
    case 3: entry->level = (uint8_t)bent_number(entry->level); break;
    case 4: entry->request = bent_number(entry->request); break;
    case 5: entry->cell = (uint32_t)bent_number(entry->cell); break;
    case 6: entry->frame = (uint32_t)bent_number(entry->frame); break;
    default: entry->cell = (uint32_t)below(MEMDB_CELLS); break;
    }
}

static void bend_payload(struct made *made)
{
    if (made->len == 0)
        return;
    size_t at = below(made->len), size = (size_t)1 << below(4), len = 1 + below(40);
    uint64_t number = 0;
    switch (below(6)) {
    case 0:
        made->payload[at] ^= (uint8_t)(1u << below(8));
        return;
    case 1: /* where a length, a count or a flag is */
        if (made->place_count)
            at = made->places[below(made->place_count)] + below(8);
        /* fall through */
    case 2:
        if (at + size > made->len)
            return;
        memcpy(&number, made->payload + at, size);
        number = bent_number(number);
        memcpy(made->payload + at, &number, size);
        return;
    case 3:
        made->len = at;
        break;
    case 4: /* a slice is gone */
        len = at + len > made->len ? made->len - at : len;
        memmove(made->payload + at, made->payload + at + len, made->len - at - len);
        made->len -= len;
        break;
    default: /* a slice is there twice */
        len = at + len > made->len ? made->len - at : len;
        if (made->len + len > sizeof made->payload)
            return;
        memmove(made->payload + at + len, made->payload + at, made->len - at);
        made->len += len;
    }
    made->entry.size = (uint32_t)(sizeof made->entry + made->len);
}

/* Into the ring as it is, whatever it says of itself. */
static void put(const struct made *made)
{
    uint64_t tail = memdb_load_relaxed(&bad->ring_tail), size = (sizeof made->entry + made->len + 7) / 8 * 8, word;
    static uint8_t bytes[ENTRY_MAX + 8];
    memset(bytes, 0, size);
    memcpy(bytes, &made->entry, sizeof made->entry);
    memcpy(bytes + sizeof made->entry, made->payload, made->len);
    for (uint64_t i = 0; i < size; i += 8) {
        memcpy(&word, bytes + i, 8);
        memdb_store_relaxed(&bad->ring[(tail + i) / 8 % (MEMDB_RING_BYTES / 8)], word);
    }
    note->size = size;
    note->entries++;
    memcpy(note->entry, bytes, size);
    if (made->entry.cell < MEMDB_CELLS && below(30)) {
        memdb_store_relaxed(&bad->results[made->entry.cell].request, made->entry.request);
        memdb_store_relaxed(&bad->results[made->entry.cell].state, MEMDB_CELL_SUBMITTED);
    }
    memdb_store_sc(&bad->ring_tail, tail + (below(60) ? size : bent_number(size)));
}

/* Words of the lease that are the client's to store. */
static void bend_lease(void)
{
    struct memdb_slot *slot = &bad->slots[below(2)][below(below(2) ? 4 : MEMDB_SLOTS)];
    uint64_t published = memdb_load_relaxed(&memdb_arena_header(rig.arena)->published);
    switch (below(10)) {
    case 0: memdb_store_sc(&bad->slots_used, (uint32_t)bent_number(4)); break;
    case 1: memdb_store_sc(&bad->hazards_used, (uint32_t)bent_number(4)); break;
    case 2: memdb_store_sc(&bad->hazards[below(2)][below(MEMDB_HAZARDS)], bent_number(5000)); break;
    case 3: memdb_store_relaxed(&bad->results[below(MEMDB_CELLS)].state, (uint32_t)bent_number(1)); break;
    case 4: memdb_store_relaxed(&bad->results[below(MEMDB_CELLS)].request, bent_number(bad_request)); break;
    case 5: memdb_store_relaxed(&bad->next_request, bent_number(bad_request)); break;
    case 6: memdb_store_relaxed(below(8) ? &bad->latest_time : &bad->ring_head, bent_number(memdb_load_relaxed(&bad->ring_head))); break;
    case 7: bad->client_id[below(16)] ^= 1, bad->ring_bytes ^= (uint32_t)bent_number(0); break;
    default: /* pins of all kinds, also such as nobody has */
        memdb_store_sc(&slot->word, below(2) ? check_random(&seed) : (below(4) << 62 | below(2) << 61 | (published - below(published)))); break;
    }
}

/* ---------------------------------------------------------------- the two clients ---------------------- */

static void replace_bad(void)
{
    if (bad) {
        memdb_commit_remove_lease(rig.commit, bad);
        munmap(bad, sizeof *bad);
    }
    bad = rig_join(&rig, (uint8_t)(2 + below(3)));
}

static void step(void)
{
    int event = memdb_commit_step(rig.commit);
    memdb_commit_figures figures;
    while (rig_sync(&rig, 0))
        ;
    if (event == -MEMDB_EVENT_ROTATE) {
        memdb_commit_get_figures(rig.commit, &figures);
        CHECK_EQUAL(memdb_commit_flush(rig.commit), MEMDB_OK);
        CHECK_EQUAL(rig_open_segment(&rig, rig.half_bytes, figures.applied_lsn + (1 << 20)), MEMDB_OK);
    } else if (event == -MEMDB_EVENT_PRESSURE) { /* what holds memory is the hostile one's */
        replace_bad();
        memdb_store_reclaim(rig.store, SIZE_MAX);
        memdb_commit_pressure_done(rig.commit, 0);
    } else {
        CHECK(event >= 0);
    }
}

static void settle(uint64_t request)
{
    for (unsigned turn = 0; !rig_done(good, request); turn++) {
        CHECK(turn < 100); /* nobody keeps it waiting */
        step();
    }
}

/* The healthy client: its commit is taken, and is what a reader sees. Now and then it clears the spaces. */
static void serve(uint64_t round)
{
    static uint64_t request;
    static struct payload payload;
    char value[32];
    if (round == 0)
        request = 0;
    snprintf(value, sizeof value, "%llu", (unsigned long long)round);
    for (unsigned turn = 0; turn == 0 || !rig_reads(&rig, good, "zz good", value); turn++) {
        CHECK(turn < 4); /* a range of the hostile one may delete it, too, but what it has put there ends */
        rig_op(&rig, good, ++request, (uint8_t)(below(8) ? MEMDB_LEVEL_OS : MEMDB_LEVEL_FULL), MEMDB_OP_SET, 0, "zz good", value, 0);
        settle(request);
        CHECK_EQUAL(rig_status(good, request), MEMDB_OK);
    }
    if (round % 50 != 49)
        return;
    payload_begin(&payload);
    for (uint8_t space = 1; space < 5; space++) {
        memdb_op op = {.code = MEMDB_OP_DELETE_RANGE, .key = &space, .key_len = 1};
        if (space != MEMDB_SPACE_SYSTEM)
            payload.len += memdb_ops_put(payload.bytes + payload.len, 64, &op), payload.bytes[0]++;
    }
    CHECK_EQUAL(rig_submit(&rig, good, MEMDB_ENTRY_COMMIT, ++request, MEMDB_LEVEL_OS, 0, &payload), MEMDB_OK);
    settle(request);
    CHECK_EQUAL(rig_status(good, request), MEMDB_OK);
}

/* ---------------------------------------------------------------- what must hold at the end ------------ */

static void problem(void *arg, uint64_t offset, uint64_t lsn, const char *text)
{
    fprintf(stderr, "%s: at %llu, LSN %llu: %s\n", (const char *)arg, (unsigned long long)offset, (unsigned long long)lsn, text);
}

static void check_store(struct rig *one, char *what)
{
    struct memdb_lease *lease = rig_lease_for(9);
    memdb_view view = memdb_arena_view(one->arena);
    memdb_pin pin;
    uint64_t keys;
    CHECK_EQUAL(memdb_store_audit(one->store, problem, what), MEMDB_OK);
    memdb_store_sc(&lease->slots_used, 1);
    CHECK_EQUAL(memdb_pin_begin(&pin, &view, &lease->slots[view.parity][0], MEMDB_PIN_POINT), MEMDB_OK);
    CHECK_EQUAL(memdb_store_verify(&pin, problem, what, &keys), MEMDB_OK);
    CHECK_EQUAL(memdb_pin_end(&pin), MEMDB_OK);
    munmap(lease, sizeof *lease);
}

static void check_replay(uint64_t applied)
{
    struct rig next = {0};
    memdb_replay_result result = {0};
    uint64_t last = 1;
    rig_new_store(&next, 64 << 20, 4);
    for (uint64_t segment = 1; segment <= rig.segment; segment++) {
        CHECK_EQUAL(memdb_replay_segment(next.store, rig.file[segment], rig.file_len[segment], MEMDB_SEGMENT_HEADER, RIG_SALT + segment, 1,
                                         MEMDB_LSN_MASK, NULL, &result), MEMDB_OK);
        CHECK_EQUAL(result.verdict, MEMDB_RECORD_END);
        last = result.last_lsn > last ? result.last_lsn : last;
    }
    CHECK_EQUAL(last, applied);
    memdb_store_open(next.store, last);
    for (unsigned space = 0; space < MEMDB_SPACES; space++)
        CHECK_EQUAL(memdb_load_relaxed(&memdb_arena_header(next.arena)->counts[space]),
                    memdb_load_relaxed(&memdb_arena_header(rig.arena)->counts[space]));
    check_store(&next, "replayed");
    memdb_store_free(next.store);
    memdb_arena_free(next.arena);
    memdb_scanner_free(next.scanner);
    munmap(next.arena_memory, next.arena_bytes);
}

static void life(void)
{
    static struct made made;
    memdb_commit_figures figures;
    alarm(LIFE_SECONDS);
    rig_start(&rig);
    good = rig_join(&rig, 1);
    for (uint64_t round = 0; round < ROUNDS && rig.segment < RIG_SEGMENTS - 2; round++) {
        note->round = round;
        memdb_commit_get_figures(rig.commit, &figures);
        if (round % 40 == 0 || figures.broken_leases != note->broken || below(100) == 0)
            replace_bad();
        note->broken = figures.broken_leases;
        for (uint64_t entries = 1 + below(4); entries > 0; entries--) {
            make(&made);
            for (uint64_t bends = below(2) ? 0 : 1 + below(3); bends > 0; bends--)
                bend_payload(&made);
            if (below(12) == 0)
                bend_header(&made.entry);
            put(&made);
        }
        if (below(4) == 0)
            bend_lease();
        step();
        serve(round);
    }
    memdb_commit_remove_lease(rig.commit, bad);
    munmap(bad, sizeof *bad);
    for (int i = 0; i < 100; i++) {
        step();
        memdb_store_reclaim(rig.store, SIZE_MAX);
    }
    CHECK_EQUAL(memdb_commit_flush(rig.commit), MEMDB_OK);
    memdb_commit_get_figures(rig.commit, &figures);
    note->commits += figures.commits;
    note->rejected += figures.rejected;
    CHECK_EQUAL(memdb_load_relaxed(&memdb_arena_header(rig.arena)->retired_bytes), 0); /* nothing is held for who has gone */
    CHECK(memdb_load_relaxed(&memdb_arena_header(rig.arena)->counts[MEMDB_SPACE_SYSTEM]) <= 5 * MEMDB_CELLS); /* outcomes, no more */
    check_store(&rig, "after the attacks");
    check_replay(figures.applied_lsn);
    munmap(good, sizeof *good);
    rig_end(&rig);
}

int main(void)
{
    const char *given = getenv("MEMDB_SEED"), *seconds = getenv("MEMDB_SECONDS");
    uint64_t first = given ? strtoull(given, NULL, 10) : 4, broken = 0;
    uint64_t until = memdb_clock_monotonic_us() + (uint64_t)((seconds ? atof(seconds) : 2) * 1e6);
    note = rig_map(sizeof *note);
    for (uint64_t number = first; note->lives == 0 || memdb_clock_monotonic_us() < until; number++, note->lives++) {
        int status;
        note->broken = 0;
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            seed = number;
            life();
            exit(0);
        }
        CHECK_EQUAL(waitpid(child, &status, 0), child);
        broken += note->broken;
        if (status == 0)
            continue;
        fprintf(stderr, "life %llu ended with %s %d in round %llu; repeat: MEMDB_SEED=%llu MEMDB_SECONDS=0 dev/ctest test_hostile\n",
                (unsigned long long)number, WIFSIGNALED(status) ? "signal" : "code", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
                (unsigned long long)note->round, (unsigned long long)number);
        check_print_bytes("last entry", note->entry, note->size < 4096 ? note->size : 4096);
        return 1;
    }
    printf("FIGURE hostile entries: %llu\nFIGURE commits: %llu\nFIGURE rejected: %llu\nFIGURE leases dropped: %llu\nFIGURE lives: %llu\n",
           (unsigned long long)note->entries, (unsigned long long)note->commits, (unsigned long long)note->rejected,
           (unsigned long long)broken, (unsigned long long)note->lives);
    return 0;
}
