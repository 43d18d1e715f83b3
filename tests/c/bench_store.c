/* What the store costs, without Python: 1 M random inserts of 19-byte keys and 101-byte values, 30 % overwrites, then reads.
 *     bench_store [keys]
 * CTEST-MODES: plain
 * CTEST-ARGS: 100000
 * Prints figures; checks only that reads find what was written. None of the times is a limit.
 */
#include <time.h>

#include "store_rig.h"

#define VALUE 101u

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void key_at(uint8_t key[19], uint64_t i)
{
    uint64_t seed = i;
    memset(key, 0, 19);
    key[0] = 1, key[1] = 1;
    uint64_t a = check_random(&seed), b = check_random(&seed);
    memcpy(key + 2, &a, 8);
    memcpy(key + 10, &b, 8);
}

static void put(rig *r, uint64_t i, const uint8_t *value, uint64_t lsn)
{
    uint8_t key[19];
    key_at(key, i);
    rig_put(r, key, 19, value, VALUE, 0, lsn);
    memdb_store_publish(r->store, lsn);
    if (lsn % 32 == 0)
        memdb_store_reclaim(r->store, 256);
}

static void point_reads(rig *r, uint64_t keys, uint64_t *state)
{
    enum { READS = 1000000 };
    static uint8_t key[READS][19];
    uint8_t value[VALUE];
    memdb_pin pin;
    memdb_found found;
    for (int i = 0; i < READS; i++)
        key_at(key[i], check_random_below(state, keys));
    for (int warm = 0; warm < 2; warm++) {
        double start = now_ns();
        for (int i = 0; i < READS; i++) {
            const uint8_t *k = warm ? key[i % 1000] : key[i];
            CHECK_EQUAL(memdb_pin_begin(&pin, &r->view, &r->lease->slots[0][0], MEMDB_PIN_POINT), MEMDB_OK);
            CHECK_EQUAL(memdb_store_get(&pin, k, 19, &found), MEMDB_OK);
            memdb_copy_out(value, found.data, found.len);
            CHECK_EQUAL(memdb_pin_end(&pin), MEMDB_OK);
        }
        printf("get, %-22s %8.1f ns\n", warm ? "1000 keys in cache" : "random", (now_ns() - start) / READS);
    }
    static uint32_t ends[100];
    static memdb_found many[100];
    for (uint32_t i = 0; i < 100; i++)
        ends[i] = (i + 1) * 19;
    double start = now_ns();
    for (int i = 0; i < READS; i += 100) {
        CHECK_EQUAL(memdb_pin_begin(&pin, &r->view, &r->lease->slots[0][0], MEMDB_PIN_POINT), MEMDB_OK);
        CHECK_EQUAL(memdb_store_get_many(&pin, key[i], ends, 100, many), MEMDB_OK);
        for (int k = 0; k < 100; k++)
            memdb_copy_out(value, many[k].data, many[k].len);
        CHECK_EQUAL(memdb_pin_end(&pin), MEMDB_OK);
    }
    printf("get_many of 100            %8.1f ns a key\n", (now_ns() - start) / READS);
}

static void scans(rig *r, uint64_t keys, uint64_t *state)
{
    enum { SEEKS = 200000 };
    static uint8_t out[256 * 1024];
    memdb_batch batch = {.out = out, .cap = sizeof out, .max_count = 10};
    memdb_pin pin;
    uint64_t items = 0;
    for (int reverse = 0; reverse < 2; reverse++) {
        double start = now_ns();
        for (int i = 0; i < SEEKS; i++) {
            uint8_t key[19];
            memdb_scan scan;
            key_at(key, check_random_below(state, keys));
            memdb_scan_init(&scan, reverse ? NULL : key, reverse ? 0 : 19, reverse ? key : NULL, reverse ? 19 : 0, reverse, 10, false);
            CHECK_EQUAL(memdb_pin_begin(&pin, &r->view, &r->lease->slots[0][0], MEMDB_PIN_ITERATOR), MEMDB_OK);
            CHECK_EQUAL(memdb_scan_batch(&pin, &scan, &batch), MEMDB_OK);
            CHECK_EQUAL(memdb_pin_end(&pin), MEMDB_OK);
            items += batch.count;
            memdb_scan_clear(&scan);
        }
        printf("seek + 10%-17s %8.1f ns\n", reverse ? ", reverse" : "", (now_ns() - start) / SEEKS);
    }
    CHECK(items > SEEKS);
    memdb_scan scan;
    memdb_scan_init(&scan, NULL, 0, NULL, 0, false, UINT64_MAX, false);
    CHECK_EQUAL(memdb_pin_begin(&pin, &r->view, &r->lease->slots[0][0], MEMDB_PIN_SNAPSHOT), MEMDB_OK);
    CHECK_EQUAL(memdb_pin_leave(&pin), MEMDB_OK);
    batch.max_count = 0;
    double start = now_ns();
    for (items = 0; !scan.done; items += batch.count) {
        CHECK_EQUAL(memdb_pin_enter(&pin), MEMDB_OK);
        CHECK_EQUAL(memdb_scan_batch(&pin, &scan, &batch), MEMDB_OK);
        CHECK_EQUAL(memdb_pin_leave(&pin), MEMDB_OK);
        CHECK_EQUAL(memdb_scan_advance(&scan, &batch), MEMDB_OK);
    }
    CHECK_EQUAL(items, keys);
    printf("full scan                  %8.1f ns an item\n", (now_ns() - start) / (double)items);
    memdb_scan_clear(&scan);
    memdb_pin_close(&pin);
}

static void rebuild(rig *r, uint64_t keys, uint64_t limit)
{
    rig next;
    memdb_pin pin;
    CHECK_EQUAL(memdb_pin_begin(&pin, &r->view, &r->lease->slots[0][1], MEMDB_PIN_CHECKPOINT), MEMDB_OK);
    rig_start(&next, limit, 1);
    double start = now_ns();
    CHECK_EQUAL(memdb_bulk_copy(next.store, &pin, NULL), MEMDB_OK);
    memdb_store_open(next.store, pin.lsn);
    printf("next generation            %8.1f ms\n", (now_ns() - start) / 1e6);
    CHECK_EQUAL(memdb_load_relaxed(&next.view.header->counts[1]), keys);
    printf("  its overhead             %8.1f bytes a key\n",
           (double)memdb_load_relaxed(&next.view.header->used_bytes) / (double)keys - 19 - VALUE);
    memdb_pin_close(&pin);
    rig_stop(&next);
}

int main(int argc, char **argv)
{
    uint64_t keys = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000, lsn = 1, state = 3, limit = keys * 600 + (64 << 20);
    uint8_t value[VALUE];
    rig r;
    memset(value, 'v', sizeof value);
    rig_start(&r, limit, 0);
    memdb_store_open(r.store, 1);
    double start = now_ns();
    for (uint64_t i = 0; i < keys; i++)
        put(&r, i, value, ++lsn);
    printf("insert, random             %8.1f ns\n", (now_ns() - start) / (double)keys);
    start = now_ns();
    for (uint64_t i = 0; i < keys * 3 / 10; i++)
        put(&r, check_random_below(&state, keys), value, ++lsn);
    printf("overwrite, random          %8.1f ns\n", (now_ns() - start) / ((double)keys * 0.3));
    const struct memdb_arena_header *h = r.view.header;
    printf("used, before rest %.1f; retired %.1f bytes a key\n", (double)memdb_load_relaxed(&h->used_bytes) / (double)keys,
           (double)memdb_load_relaxed(&h->retired_bytes) / (double)keys);
    while (memdb_store_reclaim(r.store, 10000)) {
    }
    CHECK_EQUAL(memdb_store_audit(r.store, rig_problem, NULL), MEMDB_OK);
    printf("overhead, used             %8.1f bytes a key\n", (double)memdb_load_relaxed(&h->used_bytes) / (double)keys - 19 - VALUE);
    printf("overhead, backed           %8.1f bytes a key\n", (double)memdb_load_relaxed(&h->reserved_bytes) / (double)keys - 19 - VALUE);
    printf("  of it hash %.1f; keys a block %.1f\n", (double)memdb_load_relaxed(&h->hash_bytes) / (double)keys,
           (double)keys / (double)memdb_load_relaxed(&h->blocks));
    point_reads(&r, keys, &state);
    scans(&r, keys, &state);
    rebuild(&r, keys, limit);
    rig_stop(&r);
    return 0;
}
