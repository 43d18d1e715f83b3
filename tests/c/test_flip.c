/* Any bit of an arena flipped gives a value, an absence or DAMAGED: never a crash, never an endless loop.
 * The arena lies between two pages that nobody may touch, so that reading outside of it is a fault.
 * CTEST-CFLAGS: -DMEMDB_BLOCK_MAX=4
 * CTEST-MODES: plain asan
 */
#include "store_rig.h"

#define SIZE (1u << 20)
#define KEYS 300u
#define RANDOM_FLIPS 6000
#define GUARD 65536u

static uint8_t out[1 << 18], *copy;
static rig r;
static uint64_t outcomes[3]; /* value, absence, damaged */

static void note(int status)
{
    CHECK(status == MEMDB_OK || status == MEMDB_ABSENT || status == MEMDB_DAMAGED || status == MEMDB_BUFFER);
    outcomes[status == MEMDB_OK ? 0 : status == MEMDB_ABSENT ? 1 : 2]++;
}

static uint32_t key_of(uint8_t key[32], uint32_t i)
{
    key[0] = (uint8_t)(1 + i % 2);
    memset(key + 1, 'p', 12);
    uint32_t mixed = i * 2654435761u;
    memcpy(key + 1 + i % 13, &mixed, 4);
    key[17] = (uint8_t)i;
    return 18;
}

static void use(const memdb_found *found)
{
    CHECK(found->len < SIZE);
    memdb_copy_out(copy, found->data, found->len);
}

static void read_points(memdb_pin *pin, uint64_t *state)
{
    uint8_t keys[8 * 32];
    uint32_t ends[8], end = 0;
    memdb_found found[8];
    for (int i = 0; i < 8; i++) {
        end += key_of(keys + end, (uint32_t)check_random_below(state, KEYS + 10));
        ends[i] = end;
        uint32_t from = i ? ends[i - 1] : 0;
        int status = memdb_store_get(pin, keys + from, ends[i] - from, &found[0]);
        note(status);
        if (status == MEMDB_OK)
            use(&found[0]);
    }
    int status = memdb_store_get_many(pin, keys, ends, 8, found);
    note(status);
    for (int i = 0; i < 8 && status == MEMDB_OK; i++)
        if (found[i].data)
            use(&found[i]);
}

static void read_range(memdb_pin *pin, bool reverse, bool whole, uint64_t *state)
{
    memdb_scan scan;
    memdb_batch batch = {.out = out, .cap = sizeof out};
    uint8_t key[32];
    uint32_t len = key_of(key, (uint32_t)check_random_below(state, KEYS));
    CHECK_EQUAL(memdb_scan_init(&scan, reverse || whole ? NULL : key, reverse || whole ? 0 : len, reverse && !whole ? key : NULL,
                                reverse && !whole ? len : 0, reverse, whole ? UINT64_MAX : 10, false), MEMDB_OK);
    for (uint32_t total = 0; !scan.done; total += batch.count) {
        int status = memdb_scan_batch(pin, &scan, &batch);
        note(status);
        CHECK(total < 100000);
        if (status != MEMDB_OK)
            break;
        CHECK_EQUAL(memdb_scan_advance(&scan, &batch), MEMDB_OK);
    }
    memdb_scan_clear(&scan);
}

static void read_all(uint64_t *state)
{
    memdb_view view;
    memdb_pin pin;
    uint64_t count;
    if (memdb_view_attach(&view, r.base, r.size, 0) != MEMDB_OK)
        return;
    if (memdb_pin_begin(&pin, &view, &r.lease->slots[0][0], MEMDB_PIN_POINT) != MEMDB_OK)
        return;
    read_points(&pin, state);
    read_range(&pin, false, check_random_below(state, 8) == 0, state);
    read_range(&pin, true, check_random_below(state, 8) == 0, state);
    note(memdb_store_count(&pin, NULL, 0, NULL, 0, &count));
    note(memdb_store_verify(&pin, NULL, NULL, &count));
    CHECK_EQUAL(memdb_pin_end(&pin), MEMDB_OK);
}

static void flip(uint64_t bit, uint64_t *state)
{
    uint8_t *at = (uint8_t *)r.base + bit / 8;
    *at ^= (uint8_t)(1u << bit % 8);
    read_all(state);
    *at ^= (uint8_t)(1u << bit % 8);
}

static void fill(void)
{
    uint8_t key[32], value[1500];
    uint64_t lsn = 1;
    bool existed;
    memset(value, 'v', sizeof value);
    memdb_store_open(r.store, 1);
    memdb_pin old;
    for (uint32_t i = 0; i < KEYS; i++)
        rig_put(&r, key, key_of(key, i), value, i % 40 ? i % 90 : 1400, i % 7 ? 0 : UINT64_C(1) << 60, ++lsn);
    memdb_store_publish(r.store, lsn);
    CHECK_EQUAL(memdb_pin_begin(&old, &r.view, &r.lease->slots[0][1], MEMDB_PIN_SNAPSHOT), MEMDB_OK);
    CHECK_EQUAL(memdb_pin_leave(&old), MEMDB_OK); /* stays: version chains stay with it */
    for (uint32_t i = 0; i < KEYS; i += 3)
        rig_put(&r, key, key_of(key, i), value, i % 60, 0, ++lsn);
    for (uint32_t i = 1; i < KEYS; i += 9)
        memdb_store_delete(r.store, key, key_of(key, i), ++lsn, 1, &existed);
    memdb_store_publish(r.store, lsn);
    while (memdb_store_reclaim(r.store, 1000)) {
    }
}

int main(void)
{
    uint64_t state = 11;
    uint8_t *mapped = rig_map(SIZE + SIZE / 4 + 2 * GUARD);
    copy = malloc(SIZE * 2);
    CHECK(copy && mprotect(mapped, GUARD, PROT_NONE) == 0);
    CHECK(mprotect(mapped + GUARD + SIZE + SIZE / 4, GUARD, PROT_NONE) == 0);
    rig_start_on(&r, mapped + GUARD, rig_map(sizeof(struct memdb_lease)), SIZE, 0);
    fill();
    read_all(&state);
    CHECK_EQUAL(outcomes[2], 0);
    uint64_t used = memdb_load_relaxed(&r.view.header->reserved_bytes);
    for (uint64_t bit = 0; bit < 8 * 256; bit++) /* what every operation reads of the header */
        flip(bit, &state);
    memdb_ref head = memdb_load_relaxed(&r.view.header->head);
    for (uint64_t bit = 0; bit < 8 * 64; bit++)
        flip((uint64_t)head * MEMDB_GRAIN * 8 + bit, &state);
    uint64_t table = (memdb_load_relaxed(&r.view.header->hash) & UINT32_MAX) * MEMDB_GRAIN;
    for (uint64_t bit = 0; bit < 8 * 16; bit++)
        flip(table * 8 + bit, &state);
    for (int i = 0; i < RANDOM_FLIPS; i++) { /* of bytes in use: zeros are mostly pages that were never handed out */
        uint64_t bit = check_random_below(&state, used * 8);
        for (int tries = 0; tries < 50 && ((uint8_t *)r.base)[bit / 8] == 0; tries++)
            bit = check_random_below(&state, used * 8);
        flip(bit, &state);
    }
    printf("test_flip: %llu values, %llu absences, %llu damaged\n", (unsigned long long)outcomes[0],
           (unsigned long long)outcomes[1], (unsigned long long)outcomes[2]);
    CHECK(outcomes[2] > 100);
    CHECK_EQUAL(memdb_store_audit(r.store, rig_problem, NULL), MEMDB_OK);
    rig_leave(&r);
    free(copy);
    return 0;
}
