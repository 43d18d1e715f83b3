/* The allocator against a list of what it handed out: blocks never overlap, the books balance after every step, what was
 * reserved can be had, limits are errors, memory comes back, also from a real segment with punched pages.
 * CTEST-MODES: plain asan
 */
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "arena.h"
#include "store_rig.h"

#define BLOCKS 3000

static struct block {
    memdb_ref ref;
    uint64_t bytes;
    uint8_t fill;
} held[BLOCKS];
static size_t held_count;
static uint64_t state = 21;

static uint64_t below(uint64_t n) { return check_random_below(&state, n); }

static uint64_t some_size(void)
{
    switch (below(8)) {
    case 0: return 1 + below(4096);
    case 1: return 4097 + below(60000);
    case 2: return 16;
    default: return 1 + below(600);
    }
}

static void take(memdb_arena *a, uint64_t bytes)
{
    struct block *b = &held[held_count++];
    *b = (struct block){memdb_arena_alloc(a, bytes), bytes, (uint8_t)below(256)};
    CHECK(b->ref);
    CHECK((uint64_t)b->ref * MEMDB_GRAIN >= sizeof(struct memdb_arena_header));
    CHECK(memdb_arena_allocated(a, b->ref, bytes));
    memset(memdb_arena_at(a, b->ref), b->fill, bytes);
}

static void give(memdb_arena *a, size_t i)
{
    const uint8_t *at = memdb_arena_at(a, held[i].ref);
    for (uint64_t k = 0; k < held[i].bytes; k++)
        CHECK_EQUAL(at[k], held[i].fill);
    memdb_arena_release(a, held[i].ref, held[i].bytes);
    held[i] = held[--held_count];
}

static uint64_t used(void)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < held_count; i++)
        bytes += memdb_arena_rounded(held[i].bytes);
    return bytes;
}

static void random_blocks(memdb_arena *a)
{
    for (int i = 0; i < 20000; i++) {
        bool filling = i / 4000 % 2 == 0;
        if (held_count < BLOCKS - 200 && (held_count == 0 || below(10) < (filling ? 7u : 3u))) {
            uint64_t bytes = some_size();
            if (memdb_arena_reserve(a, memdb_arena_rounded(bytes), 0, MEMDB_FOR_WRITE) == MEMDB_OK)
                take(a, bytes);
            else
                CHECK(used() > (8u << 20));
        } else if (held_count) {
            give(a, below(held_count));
        }
        if (i % 50 == 0)
            CHECK_EQUAL(memdb_arena_audit(a), 0);
        CHECK_EQUAL(memdb_arena_used(a), used());
        CHECK_EQUAL(memdb_arena_blocks(a), held_count);
    }
}

/* Whatever blocks a reserved sum is spent on, they can be had; up to a full arena. */
static void reserved_is_had(memdb_arena *a)
{
    for (int round = 0; round < 2000; round++) {
        uint64_t budget = 16 + below(below(4) ? 5000 : 300000);
        enum memdb_purpose purpose = (enum memdb_purpose)below(2);
        if (memdb_arena_reserve(a, budget, 0, purpose) != MEMDB_OK) {
            while (held_count > BLOCKS / 4)
                give(a, below(held_count));
            continue;
        }
        while (held_count < BLOCKS - 1) {
            uint64_t bytes = some_size();
            if (memdb_arena_rounded(bytes) > budget)
                break;
            budget -= memdb_arena_rounded(bytes);
            take(a, bytes);
        }
        if (held_count > BLOCKS - 200)
            while (held_count > BLOCKS / 2)
                give(a, below(held_count));
    }
    CHECK_EQUAL(memdb_arena_audit(a), 0);
    while (held_count)
        give(a, held_count - 1);
    CHECK_EQUAL(memdb_arena_used(a), 0);
    CHECK_EQUAL(memdb_arena_audit(a), 0);
}

/* All blocks of one size, every second one given back: no page is free, yet the holes can be used. */
static void holes_are_used(memdb_arena *a, uint64_t limit)
{
    uint64_t count = 0, again = 0;
    memdb_ref *refs = calloc(limit / 160, sizeof *refs);
    CHECK(refs);
    while (memdb_arena_reserve(a, 160, 0, MEMDB_FOR_WRITE) == MEMDB_OK)
        CHECK((refs[count++] = memdb_arena_alloc(a, 160)) != 0);
    CHECK(count * 160 > limit / 10 * 9);
    CHECK_EQUAL(memdb_arena_reserve(a, 160, 0, MEMDB_FOR_DELETE), MEMDB_OK); /* a share is left for deletes */
    for (uint64_t i = 0; i < count; i += 2) {
        memdb_arena_release(a, refs[i], 160);
        refs[i] = 0;
    }
    for (uint64_t i = 0; i < count && memdb_arena_reserve(a, 160, 0, MEMDB_FOR_WRITE) == MEMDB_OK; i += 2, again++)
        CHECK((refs[i] = memdb_arena_alloc(a, 160)) != 0);
    CHECK(again > count / 3);
    for (uint64_t i = 0; i < count; i++)
        if (refs[i])
            memdb_arena_release(a, refs[i], 160);
    CHECK_EQUAL(memdb_arena_audit(a), 0);
    CHECK_EQUAL(memdb_arena_reserve(a, limit / 2, 0, MEMDB_FOR_WRITE), MEMDB_OK); /* whole pages again, in one piece */
    free(refs);
}

/* A small block on every sixth page, all else free: large blocks need a piece of their own size, not one for all that comes with them. */
static void large_blocks_fit_between_small_ones(memdb_arena *a, uint64_t limit)
{
    uint64_t count = 0, large = 0, small = 0;
    memdb_ref *refs = calloc(limit / 160, sizeof *refs);
    CHECK(refs);
    while (memdb_arena_reserve(a, 160, 0, MEMDB_FOR_WRITE) == MEMDB_OK)
        CHECK((refs[count++] = memdb_arena_alloc(a, 160)) != 0);
    for (uint64_t i = 0; i < count; i++)
        if (i % (MEMDB_PAGE / 160 * 6)) {
            memdb_arena_release(a, refs[i], 160);
            refs[i] = 0;
        }
    while (large < limit / (4 * MEMDB_PAGE) && memdb_arena_reserve(a, 4 * MEMDB_PAGE + 2288, 0, MEMDB_FOR_WRITE) == MEMDB_OK) {
        for (uint64_t taken = 0; taken + 16 * (large % 40 + 1) <= 2288 && held_count < BLOCKS - 2; taken += held[held_count - 1].bytes, small++)
            take(a, 16 * (large % 40 + 1));
        take(a, 4 * MEMDB_PAGE);
        large++;
        while (held_count > large)
            give(a, held[held_count - 1].bytes == 4 * MEMDB_PAGE ? held_count - 2 : held_count - 1);
    }
    CHECK(small > large && large > limit / (4 * MEMDB_PAGE) / 2);
    while (held_count)
        give(a, held_count - 1);
    for (uint64_t i = 0; i < count; i++)
        if (refs[i])
            memdb_arena_release(a, refs[i], 160);
    CHECK_EQUAL(memdb_arena_audit(a), 0);
    free(refs);
}

static void real_segment(void)
{
    uint64_t limit = 8 << 20, size = limit + limit / 4;
    int fd = memfd_create("arena", 0);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(base != MAP_FAILED);
    memdb_arena *a;
    CHECK_EQUAL(memdb_arena_create(&a, base, size, fd, limit, 0, 1), MEMDB_OK);
    struct memdb_arena_header *h = memdb_arena_header(a);
    for (int pass = 0; pass < 3; pass++) {
        while (held_count < BLOCKS && memdb_arena_reserve(a, 16384, 0, MEMDB_FOR_WRITE) == MEMDB_OK)
            take(a, 16384);
        CHECK(held_count * 16384 > limit / 10 * 8);
        while (held_count > 10)
            give(a, below(held_count));
        uint64_t before = memdb_load_relaxed(&h->reserved_bytes);
        memdb_arena_figures(a);
        before = memdb_load_relaxed(&h->reserved_bytes);
        uint64_t given = memdb_arena_punch(a);
        CHECK(given > limit / 2);
        CHECK_EQUAL(memdb_load_relaxed(&h->reserved_bytes), before - given);
        CHECK_EQUAL(memdb_arena_audit(a), 0);
    }
    while (held_count)
        give(a, 0);
    memdb_arena_free(a);
    /* No more memory for the segment is an error of the reservation, not a fault of a later store. */
    CHECK_EQUAL(memdb_arena_create(&a, base, size, fd, limit, 0, 1), MEMDB_OK);
    CHECK(ftruncate(fd, 1 << 20) == 0);
    struct rlimit now, low;
    CHECK(getrlimit(RLIMIT_FSIZE, &now) == 0);
    low = now;
    low.rlim_cur = 1 << 20;
    signal(SIGXFSZ, SIG_IGN);
    CHECK(setrlimit(RLIMIT_FSIZE, &low) == 0);
    int status;
    uint64_t n = 0;
    while ((status = memdb_arena_reserve(a, 16384, 0, MEMDB_FOR_WRITE)) == MEMDB_OK && n++ < 1000)
        CHECK(memdb_arena_alloc(a, 16384));
    CHECK(setrlimit(RLIMIT_FSIZE, &now) == 0);
    CHECK_EQUAL(status, MEMDB_SHM_FULL);
    CHECK_EQUAL(memdb_arena_audit(a), 0);
    memdb_arena_free(a);
    munmap(base, size);
    close(fd);
}

static void attach(void)
{
    uint64_t size = 1 << 20;
    struct memdb_arena_header *h = rig_map(size);
    memdb_arena *a;
    memdb_view view;
    CHECK_EQUAL(memdb_view_attach(&view, h, size, 0), MEMDB_AGAIN);
    CHECK_EQUAL(memdb_arena_create(&a, h, size, -1, size + 1, 0, 1), MEMDB_INVALID);
    CHECK_EQUAL(memdb_arena_create(&a, h, size, -1, size / 5 * 4, 7, 1), MEMDB_OK);
    CHECK_EQUAL(memdb_view_attach(&view, h, size, 1), MEMDB_AGAIN);
    memdb_store_release(&h->ready, 1); /* SYNC: segment-ready */
    CHECK_EQUAL(memdb_view_attach(&view, h, size, 1), MEMDB_OK);
    CHECK_EQUAL(memdb_view_attach(&view, h, size, 0), MEMDB_DAMAGED);
    CHECK_EQUAL(memdb_view_attach(&view, h, size - 1, 1), MEMDB_DAMAGED);
    CHECK_EQUAL(memdb_view_attach(&view, h, 16, 1), MEMDB_DAMAGED);
    h->layout++;
    CHECK_EQUAL(memdb_view_attach(&view, h, size, 1), MEMDB_INVALID);
    h->magic++;
    CHECK_EQUAL(memdb_view_attach(&view, h, size, 1), MEMDB_DAMAGED);
    CHECK(!memdb_view_at(&view, 0, 1) && !memdb_view_at(&view, UINT32_MAX, 1));
    memdb_arena_free(a);
    munmap(h, size);
}

int main(void)
{
    uint64_t limit = 16 << 20, size = limit + limit / 4;
    void *base = rig_map(size);
    memdb_arena *a;
    CHECK_EQUAL(memdb_arena_create(&a, base, size, -1, limit, 0, 1), MEMDB_OK);
    random_blocks(a);
    while (held_count)
        give(a, held_count - 1);
    reserved_is_had(a);
    holes_are_used(a, limit);
    large_blocks_fit_between_small_ones(a, limit);
    CHECK_EQUAL(memdb_arena_reserve(a, size * 2, 0, MEMDB_FOR_RECOVERY), MEMDB_FULL);
    CHECK_EQUAL(memdb_arena_reserve(a, limit + limit / 8, 0, MEMDB_FOR_WRITE), MEMDB_FULL);
    CHECK_EQUAL(memdb_arena_reserve(a, limit + limit / 32, 0, MEMDB_FOR_RECOVERY), MEMDB_OK);
    memdb_arena_free(a);
    munmap(base, size);
    real_segment();
    attach();
    return 0;
}
