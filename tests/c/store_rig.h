/* store_rig.h: what the tests of the store share: an arena, one lease, one reader, and a model (a sorted array).
 *
 * Owns: the rig's memory. The model keeps every version ever written, so that it can answer for any snapshot.
 */
#ifndef MEMDB_TESTS_STORE_RIG_H
#define MEMDB_TESTS_STORE_RIG_H

#include <sys/mman.h>

#include "check.h"
#include "store.h"

typedef struct rig {
    void *base;
    uint64_t size;
    memdb_arena *arena;
    memdb_scanner *scanner;
    memdb_store *store;
    struct memdb_lease *lease;
    memdb_view view;
} rig;

static inline void rig_problem(void *arg, uint64_t offset, uint64_t lsn, const char *text)
{
    (void)arg;
    fprintf(stderr, "problem at %llu, lsn %llu: %s\n", (unsigned long long)offset, (unsigned long long)lsn, text);
}

static inline void *rig_map(uint64_t size)
{
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(base != MAP_FAILED);
    return base;
}

/* On memory that is there already, with whatever is in it: an arena must not mind. */
static inline void rig_start_on(rig *r, void *base, struct memdb_lease *lease, uint64_t limit, uint64_t generation)
{
    memset(r, 0, sizeof *r);
    r->size = limit + limit / 4;
    r->base = base;
    r->lease = lease;
    CHECK_EQUAL(memdb_arena_create(&r->arena, r->base, r->size, -1, limit, generation, 42), MEMDB_OK);
    r->scanner = memdb_scanner_new();
    CHECK(r->scanner);
    CHECK_EQUAL(memdb_scanner_add(r->scanner, r->lease), MEMDB_OK);
    memdb_store_relaxed(&r->lease->slots_used, 64);
    CHECK_EQUAL(memdb_store_new(&r->store, r->arena, r->scanner), MEMDB_OK);
    r->view = memdb_arena_view(r->arena);
}

static inline void rig_start(rig *r, uint64_t limit, uint64_t generation)
{
    rig_start_on(r, rig_map(limit + limit / 4), rig_map(sizeof(struct memdb_lease)), limit, generation);
}

static inline void rig_leave(rig *r) /* all but the mappings */
{
    memdb_store_free(r->store);
    memdb_scanner_free(r->scanner);
    memdb_arena_free(r->arena);
}

static inline void rig_stop(rig *r)
{
    rig_leave(r);
    munmap(r->base, r->size);
    munmap(r->lease, sizeof *r->lease);
}

static inline void rig_put(rig *r, const void *key, size_t len, const void *value, size_t value_len, uint64_t expires, uint64_t lsn)
{
    bool existed;
    CHECK_EQUAL(memdb_store_reserve(r->store, memdb_store_cost_put(len, value_len), 1, MEMDB_FOR_WRITE), MEMDB_OK);
    memdb_store_put(r->store, key, len, value, value_len, expires, lsn, 1, &existed);
}

#endif
