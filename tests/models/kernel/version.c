/* Invariant 3: the writer pushes a version on a chain and publishes its LSN. A reader at S finds the version of S, whole; one whose S is
 * older may stand on the chain at the same time. Plays the kernel's push_version against memdb_cell_version. */
#include "kernel.h"

#include "../../../memdb/shm/store.c"

static struct {
    struct memdb_arena_header header;
    struct memdb_cell cell;
    memdb_a64 key, value; /* of LSN 1, inline */
    uint64_t pad;
    struct memdb_version newer;
    memdb_a64 newer_value;
    uint64_t end;
} arena;
#define REF(field) ((memdb_ref)(offsetof(__typeof__(arena), field) / MEMDB_GRAIN))
_Static_assert(offsetof(__typeof__(arena), cell) % MEMDB_GRAIN == 0 && offsetof(__typeof__(arena), newer) % MEMDB_GRAIN == 0, "references");

static struct memdb_store store;

void *memdb_arena_at(memdb_arena *at, memdb_ref ref)
{
    (void)at;
    return ref == REF(cell) ? (void *)&arena.cell : (void *)&arena.newer;
}

memdb_ref memdb_arena_alloc(memdb_arena *at, uint64_t bytes)
{
    assert(at == NULL && bytes == sizeof arena.newer + 8);
    return REF(newer);
}

static void *reader(void *unused)
{
    memdb_version_at found;
    uint64_t lsn = memdb_load_sc(&arena.header.published);
    uint32_t key_room = memdb_load_relaxed(&arena.cell.key_room);
    assert(memdb_cell_version(&store.view, REF(cell), &arena.cell, key_room, lsn, &found) == MEMDB_OK);
    assert(found.lsn == lsn);
    assert(memdb_load_relaxed(found.data) == 11 * lsn);
    return unused;
}

static void *writer(void *unused)
{
    static const uint64_t value = 22;
    push_version(&store, REF(cell), sizeof value, &value, 0, 2);
    memdb_store_sc(&arena.header.published, 2); /* as memdb_store_publish does: GenMC can't take its arrays of bool */
    return unused;
}

int main(void)
{
    store.header = &arena.header;
    store.view.base = (const uint8_t *)&arena;
    store.view.size = sizeof arena;
    memdb_store_relaxed(&arena.header.published, 1);
    memdb_store_relaxed(&arena.cell.key_room, 8 | 1 << MEMDB_ROOM_SHIFT | MEMDB_CELL_INLINE_USED | MEMDB_CELL_QUEUED);
    memdb_store_relaxed(&arena.cell.inline_version.lsn, 1);
    memdb_store_relaxed(&arena.cell.inline_version.size_flags, 8);
    memdb_store_relaxed(&arena.cell.head, MEMDB_INLINE);
    memdb_store_relaxed(&arena.value, 11);
    run2(reader, writer);
    return 0;
}
