/*
 * The lease: ring order and wrap-around, a full ring, cells and their transitions, withdrawing, hostile heads and tails, and two
 * threads through one ring (for ThreadSanitizer).
 */
#include <pthread.h>

#include "commit_rig.h"

static struct memdb_board board;
static uint8_t buf[MEMDB_FRAME_MAX + 8];

static struct memdb_entry commit_entry(uint64_t request, size_t payload)
{
    return (struct memdb_entry){.size = (uint32_t)(sizeof(struct memdb_entry) + payload), .kind = MEMDB_ENTRY_COMMIT, .request = request,
                                .cell = (uint32_t)(request % MEMDB_CELLS)};
}

/* Entries of every size come out as they went in, many times around the ring. */
static void test_ring_wraps(void)
{
    struct memdb_lease *lease = rig_lease_for(1);
    static uint8_t payload[MEMDB_FRAME_MAX];
    uint64_t seed = 5, sent = 0, taken = 0;
    uint64_t sizes[4096];
    for (uint64_t request = 1; request < 3000; request++) {
        size_t len = check_random_below(&seed, request % 10 == 0 ? MEMDB_FRAME_MAX + 1 : 300);
        memset(payload, (int)(request & 0xff), len);
        struct memdb_entry entry = commit_entry(request, len), got;
        int status;
        while ((status = memdb_lease_submit(lease, &board, &entry, payload)) == MEMDB_AGAIN) {
            CHECK_EQUAL(memdb_lease_peek(lease, &got, buf, sizeof buf), MEMDB_OK);
            taken++;
            CHECK_EQUAL(got.request, taken);
            CHECK_EQUAL(got.size - sizeof got, sizes[taken]);
            for (size_t i = 0; i < sizes[taken]; i++)
                CHECK(buf[i] == (taken & 0xff));
            memdb_lease_consume(lease, &got);
        }
        CHECK_EQUAL(status, MEMDB_OK);
        sizes[++sent] = len;
    }
    munmap(lease, sizeof *lease);
}

static void test_full_ring_leaves_the_cell(void)
{
    struct memdb_lease *lease = rig_lease_for(1);
    uint64_t request = 1;
    struct memdb_entry entry;
    do
        entry = commit_entry(request++, 60000);
    while (memdb_lease_submit(lease, &board, &entry, buf) == MEMDB_OK);
    CHECK_EQUAL(memdb_load_relaxed(&lease->results[entry.cell].state), MEMDB_CELL_IDLE);
    entry = commit_entry(1, MEMDB_FRAME_MAX + 1);
    CHECK_EQUAL(memdb_lease_submit(lease, &board, &entry, buf), MEMDB_INVALID);
    munmap(lease, sizeof *lease);
}

static void test_cells(void)
{
    struct memdb_lease *lease = rig_lease_for(1);
    struct memdb_entry entry = commit_entry(7, 0), got;
    CHECK_EQUAL(memdb_lease_wait(lease, 7, 0, 0), MEMDB_INVALID); /* nothing under way */
    CHECK_EQUAL(memdb_lease_submit(lease, &board, &entry, NULL), MEMDB_OK);
    CHECK_EQUAL(memdb_lease_wait(lease, 7, 10, 100), MEMDB_TIMEOUT);
    CHECK_EQUAL(memdb_lease_peek(lease, &got, buf, sizeof buf), MEMDB_OK);
    CHECK_EQUAL(memdb_lease_take(lease, &got), MEMDB_OK);
    CHECK_EQUAL(memdb_lease_take(lease, &got), MEMDB_OK); /* a successor finds it taken */
    memdb_lease_consume(lease, &got);
    CHECK_EQUAL(memdb_lease_withdraw(lease, 7), MEMDB_INVALID);
    memdb_lease_complete(lease, 7, 8, MEMDB_OK, 1, 2, 3, 4); /* another request: not this cell's */
    CHECK_EQUAL(memdb_lease_wait(lease, 7, 0, 100), MEMDB_TIMEOUT);
    memdb_lease_complete(lease, 7, 7, MEMDB_CONDITION, 1, 2, 3, 4);
    CHECK_EQUAL(memdb_lease_wait(lease, 7, 0, 0), MEMDB_OK);
    CHECK_EQUAL(rig_status(lease, 7), MEMDB_CONDITION);
    CHECK_EQUAL(RIG_RESULT(lease, 7, lsn), 1);
    CHECK_EQUAL(RIG_RESULT(lease, 7, winner), 4);
    CHECK_EQUAL(memdb_lease_take(lease, &got), MEMDB_ABSENT); /* answered already */
    munmap(lease, sizeof *lease);
}

static void test_withdraw(void)
{
    struct memdb_lease *lease = rig_lease_for(1);
    struct memdb_entry first = commit_entry(5, 0), second = commit_entry(5 + MEMDB_CELLS, 0), got;
    CHECK_EQUAL(memdb_lease_submit(lease, &board, &first, NULL), MEMDB_OK);
    CHECK_EQUAL(memdb_lease_withdraw(lease, 5), MEMDB_OK);
    CHECK_EQUAL(memdb_lease_withdraw(lease, 5), MEMDB_INVALID);
    CHECK_EQUAL(memdb_lease_submit(lease, &board, &second, NULL), MEMDB_OK); /* the cell is used again at once */
    CHECK_EQUAL(memdb_lease_peek(lease, &got, buf, sizeof buf), MEMDB_OK);
    CHECK_EQUAL(got.request, 5);
    CHECK_EQUAL(memdb_lease_take(lease, &got), MEMDB_ABSENT);
    memdb_lease_consume(lease, &got);
    CHECK_EQUAL(memdb_lease_peek(lease, &got, buf, sizeof buf), MEMDB_OK);
    CHECK_EQUAL(memdb_lease_take(lease, &got), MEMDB_OK);
    CHECK_EQUAL(got.request, 5 + MEMDB_CELLS);
    munmap(lease, sizeof *lease);
}

/* Whatever lies in the ring and its words: an answer, and no byte outside. */
static void test_hostile_ring(void)
{
    struct memdb_lease *lease = rig_lease_for(1);
    uint64_t seed = 11;
    for (unsigned round = 0; round < 20000; round++) {
        struct memdb_entry got;
        for (unsigned i = 0; i < 8; i++)
            memdb_store_relaxed(&lease->ring[check_random_below(&seed, 64)], check_random(&seed) >> check_random_below(&seed, 60));
        memdb_store_relaxed(&lease->ring_head, round % 3 ? check_random_below(&seed, 64) * 8 : check_random(&seed));
        memdb_store_relaxed(&lease->ring_tail, round % 5 ? check_random_below(&seed, 4096) * 8 : check_random(&seed));
        int status = memdb_lease_peek(lease, &got, buf, sizeof buf);
        CHECK(status == MEMDB_OK || status == MEMDB_ABSENT || status == MEMDB_INVALID);
        if (status == MEMDB_OK && got.kind != MEMDB_ENTRY_FRAME)
            memdb_lease_take(lease, &got);
        if (status == MEMDB_OK)
            memdb_lease_consume(lease, &got);
    }
    munmap(lease, sizeof *lease);
}

/* What an entry says of itself is believed only as far as it can be true: anything else is refused, and its bytes are not copied. */
static void refused(const struct memdb_entry *entry, uint64_t head, uint64_t tail, size_t cap)
{
    struct memdb_lease *lease = rig_lease_for(1);
    struct memdb_entry got;
    memdb_copy_in(lease->ring, entry, sizeof *entry);
    memdb_store_relaxed(&lease->ring_head, head);
    memdb_store_relaxed(&lease->ring_tail, tail);
    memset(buf, 0xee, sizeof buf);
    CHECK_EQUAL((unsigned)memdb_lease_peek(lease, &got, buf, cap), (unsigned)MEMDB_INVALID);
    for (size_t i = 0; i < sizeof buf; i++)
        CHECK(buf[i] == 0xee);
    munmap(lease, sizeof *lease);
}

#define REFUSED_WITH(field, value)                              \
    do {                                                        \
        struct memdb_entry changed = sound;                     \
        changed.field = (value);                                \
        refused(&changed, 0, sizeof changed + 8, sizeof buf);   \
    } while (0)

static void test_refused_entries(void)
{
    const struct memdb_entry sound = commit_entry(1, 8);
    const uint64_t size = sizeof sound + 8;
    refused(&sound, 0, size - 8, sizeof buf);            /* longer than what was published */
    refused(&sound, 0, 8, sizeof buf);                   /* not even its header was */
    refused(&sound, 0, MEMDB_RING_BYTES + 8, sizeof buf); /* more than the ring holds */
    refused(&sound, 8, 0, sizeof buf);                   /* the tail is behind the head */
    refused(&sound, 0, size + 4, sizeof buf);            /* not aligned */
    refused(&sound, 4, size + 4, sizeof buf);
    refused(&sound, 0, size, 7); /* more than the reader has room for */
    REFUSED_WITH(size, sizeof sound - 1);
    REFUSED_WITH(size, sizeof sound + 9);
    REFUSED_WITH(size, UINT32_MAX);
    REFUSED_WITH(kind, 0);
    REFUSED_WITH(kind, 9);
    REFUSED_WITH(kind, MEMDB_ENTRY_FRAME); /* which has no cell */
    REFUSED_WITH(cell, MEMDB_CELLS);
    REFUSED_WITH(level, 3);
    REFUSED_WITH(flags, 0x80);
    REFUSED_WITH(request, 0);
    struct memdb_entry large = commit_entry(1, MEMDB_FRAME_MAX + 8);
    refused(&large, 0, MEMDB_RING_BYTES, sizeof buf);
}

#define THREAD_REQUESTS 20000u

static void *answerer(void *arg)
{
    struct memdb_lease *lease = arg;
    static uint8_t own[MEMDB_FRAME_MAX + 8];
    for (uint64_t expected = 1; expected <= THREAD_REQUESTS;) {
        struct memdb_entry got;
        uint32_t bell = memdb_load_sc(&board.bell);
        if (!memdb_lease_ready(lease)) {
            memdb_store_sc(&board.parked, 1);
            if (!memdb_lease_ready(lease))
                memdb_futex_wait(&board.bell, bell, UINT64_MAX);
            memdb_store_sc(&board.parked, 0);
            continue;
        }
        CHECK_EQUAL(memdb_lease_peek(lease, &got, own, sizeof own), MEMDB_OK);
        CHECK_EQUAL(got.request, expected);
        CHECK_EQUAL(memdb_lease_take(lease, &got), MEMDB_OK);
        memdb_lease_consume(lease, &got);
        uint64_t word;
        memcpy(&word, own, 8);
        memdb_lease_complete(lease, got.cell, got.request, MEMDB_OK, got.request, word + 1, 0, 0);
        expected++;
    }
    return NULL;
}

/* No wake-up is lost, in either direction, whether the waiter spins or sleeps. */
static void test_threads(void)
{
    struct memdb_lease *lease = rig_lease_for(1);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, answerer, lease) == 0);
    for (uint64_t request = 1; request <= THREAD_REQUESTS; request++) {
        struct memdb_entry entry = commit_entry(request, sizeof request);
        uint64_t word = request * 3;
        CHECK_EQUAL(memdb_lease_submit(lease, &board, &entry, &word), MEMDB_OK);
        CHECK_EQUAL(memdb_lease_wait(lease, entry.cell, request % 2 ? 30 : 0, 60000000), MEMDB_OK);
        CHECK_EQUAL(RIG_RESULT(lease, request, count), word + 1);
    }
    pthread_join(thread, NULL);
    munmap(lease, sizeof *lease);
}

int main(void)
{
    test_ring_wraps();
    test_full_ring_leaves_the_cell();
    test_cells();
    test_withdraw();
    test_hostile_ring();
    test_refused_entries();
    test_threads();
    return 0;
}
