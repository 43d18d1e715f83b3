/* read.c: point reads through the hash index.
 *
 * Owns: nothing. Any thread with an active pin; whatever these functions return is void if the pin turns out revoked.
 */
#include "hashindex.h"
#include "store.h"

#define GROUP 32u /* keys whose cache misses overlap in get_many */

static int visible(memdb_pin *pin, memdb_ref ref, const struct memdb_cell *cell, uint32_t key_room, memdb_found *found)
{
    memdb_version_at version;
    int status = memdb_cell_version(&pin->view, ref, cell, key_room, pin->lsn, &version);
    if (status != MEMDB_OK)
        return status;
    if (version.size_flags & MEMDB_TOMBSTONE || (version.expires_us && version.expires_us <= memdb_pin_time(pin)))
        return MEMDB_ABSENT;
    found->data = version.data;
    found->len = version.len;
    found->owner = version.owner;
    found->lsn = version.lsn;
    found->expires_us = version.expires_us;
    return MEMDB_OK;
}

static int get(memdb_pin *pin, const memdb_probe *key, uint64_t hash, memdb_found *found)
{
    const struct memdb_cell *cell;
    memdb_ref ref;
    uint32_t key_room;
    found->data = NULL;
    int status = memdb_hash_find(&pin->view, hash, key, &ref, &cell, &key_room);
    return status == MEMDB_OK ? visible(pin, ref, cell, key_room, found) : status;
}

int memdb_store_quick_count(const memdb_view *view, unsigned space, uint64_t now_us, uint64_t *count)
{
    /* Seen raised: then the counts are without what was due before. Counts seen: then they are not of keys that expire before what is
     * seen afterwards. So neither reaping nor setting can slip in between. */
    uint64_t first = memdb_load_acquire(&view->header->next_expiry); /* SYNC: next-expiry */
    *count = memdb_load_acquire(&view->header->counts[space]);       /* SYNC: counts */
    uint64_t second = memdb_load_acquire(&view->header->next_expiry);
    return first <= now_us || second <= now_us ? MEMDB_AGAIN : MEMDB_OK;
}

int memdb_store_get(memdb_pin *pin, const void *key, size_t len, memdb_found *found)
{
    memdb_probe probe = memdb_probe_of(key, len);
    return get(pin, &probe, memdb_hash_key(key, len, pin->view.header->hash_seed), found);
}

/* Brings the cells of a group closer: first all slots, then all cells that they name. A hint only: nothing is judged here. */
static void prefetch(memdb_pin *pin, const uint64_t *hashes, size_t count)
{
    memdb_table table;
    uint64_t word = memdb_load_acquire(&pin->view.header->hash); /* SYNC: hash-word */
    if (!memdb_table_open(&pin->view, (memdb_ref)word, &table))
        return;
    for (size_t i = 0; i < count; i++)
        __builtin_prefetch((const void *)&table.slots[memdb_hash_tag(hashes[i]) & table.mask]);
    for (size_t i = 0; i < count; i++) {
        uint32_t tag = memdb_hash_tag(hashes[i]);
        uint64_t at = tag & table.mask, slot;
        for (unsigned n = 0; n < 8 && (slot = memdb_load_relaxed(&table.slots[at])) != 0; n++, at = (at + 1) & table.mask) {
            if (slot >> 32 != tag)
                continue;
            const uint8_t *cell = memdb_view_at(&pin->view, (memdb_ref)slot, 192);
            if (cell) {
                __builtin_prefetch(cell);
                __builtin_prefetch(cell + 64);
                __builtin_prefetch(cell + 128);
            }
            break;
        }
    }
}

int memdb_store_get_many(memdb_pin *pin, const uint8_t *keys, const uint32_t *ends, size_t n, memdb_found *found)
{
    uint64_t hashes[GROUP];
    for (size_t first = 0; first < n; first += GROUP) {
        size_t count = n - first < GROUP ? n - first : GROUP;
        for (size_t i = 0; i < count; i++) {
            uint32_t from = first + i ? ends[first + i - 1] : 0;
            hashes[i] = memdb_hash_key(keys + from, ends[first + i] - from, pin->view.header->hash_seed);
        }
        prefetch(pin, hashes, count);
        for (size_t i = 0; i < count; i++) {
            uint32_t from = first + i ? ends[first + i - 1] : 0;
            memdb_probe probe = memdb_probe_of(keys + from, ends[first + i] - from);
            int status = get(pin, &probe, hashes[i], &found[first + i]);
            if (status != MEMDB_OK && status != MEMDB_ABSENT)
                return status;
            if (status == MEMDB_ABSENT)
                found[first + i] = (memdb_found){0};
        }
    }
    return MEMDB_OK;
}
