/* The roles of the engine as threads over one mapping: a writer that commits, prunes, purges and revokes at random; readers of
 * points, pairs, scans, snapshots and views. Every value says which key and LSN it belongs to and carries a checksum, and
 * keys 2i and 2i+1 are always written together, so each read checks itself; it is believed after its pin has ended well.
 * CTEST-CFLAGS: -DMEMDB_BLOCK_MAX=4
 * CTEST-MODES: plain tsan
 */
#include <pthread.h>

#include "store_rig.h"

#define KEYS 96
#define COMMITS 20000
#define READERS 4

static rig r;
static memdb_a32 done;
static memdb_a64 reads, revoked_reads, views;

static uint32_t key_of(uint8_t key[8], uint32_t number)
{
    memcpy(key, "\1k", 2);
    key[2] = (uint8_t)(number * 37), key[3] = (uint8_t)number, key[4] = 0;
    return 4 + number % 2;
}

/* Words: key number, LSN, filler, sum. */
static size_t value_of(uint64_t *value, uint64_t number, uint64_t lsn, size_t words)
{
    uint64_t sum = value[0] = number;
    sum += value[1] = lsn;
    for (size_t i = 2; i + 1 < words; i++)
        sum += value[i] = lsn * 31 + i;
    value[words - 1] = sum;
    return words * 8;
}

static void check_value(const uint64_t *value, size_t len, uint64_t number, uint64_t lsn, uint64_t snapshot)
{
    size_t words = len / 8;
    CHECK(len % 8 == 0 && words >= 3);
    uint64_t sum = 0;
    for (size_t i = 0; i + 1 < words; i++)
        sum += value[i];
    CHECK_EQUAL(value[words - 1], sum);
    CHECK_EQUAL(value[0], number);
    CHECK_EQUAL(value[1], lsn);
    CHECK(lsn <= snapshot);
}

/* ---------------------------------------------------------------- readers ------------------------------ */

struct read {
    int status;
    uint64_t lsn;
    size_t len;
    uint64_t value[600];
};

static void read_one(memdb_pin *pin, uint32_t number, struct read *to)
{
    uint8_t key[8];
    memdb_found found;
    uint32_t len = key_of(key, number);
    to->status = memdb_store_get(pin, key, len, &found);
    if (to->status != MEMDB_OK)
        return;
    to->lsn = found.lsn;
    to->len = found.len < sizeof to->value ? found.len : sizeof to->value;
    memdb_copy_out(to->value, found.data, to->len);
}

static void check_pair(const struct read *a, const struct read *b, uint32_t number, uint64_t snapshot)
{
    CHECK(a->status >= 0 && b->status >= 0);
    CHECK_EQUAL(a->status, b->status);
    if (a->status != MEMDB_OK)
        return;
    check_value(a->value, a->len, number, a->lsn, snapshot);
    check_value(b->value, b->len, number + 1, b->lsn, snapshot);
    CHECK_EQUAL(a->lsn, b->lsn);
}

static void point_reader(struct memdb_slot *slot, uint64_t *state)
{
    struct read a, b;
    memdb_pin pin;
    uint32_t number = (uint32_t)check_random_below(state, KEYS) & ~1u;
    CHECK_EQUAL(memdb_pin_begin(&pin, &r.view, slot, MEMDB_PIN_POINT), MEMDB_OK);
    read_one(&pin, number, &a);
    read_one(&pin, number + 1, &b);
    if (memdb_pin_end(&pin) == MEMDB_OK) {
        check_pair(&a, &b, number, pin.lsn);
        memdb_add_sc(&reads, 2);
    } else {
        memdb_add_sc(&revoked_reads, 1);
    }
}

/* All keys in order, in batches; returns a digest of what a snapshot shows, 0 if it was revoked. */
static uint64_t scan_all(memdb_pin *pin, bool reverse, uint32_t max_count)
{
    static _Thread_local uint8_t out[1 << 16];
    memdb_scan scan;
    memdb_batch batch = {.out = out, .cap = sizeof out, .max_count = max_count};
    uint64_t digest = 1;
    CHECK_EQUAL(memdb_scan_init(&scan, NULL, 0, NULL, 0, reverse, UINT64_MAX, false), MEMDB_OK);
    while (!scan.done && digest) {
        int status = memdb_pin_enter(pin), read = MEMDB_OK;
        if (status == MEMDB_OK) {
            read = memdb_scan_batch(pin, &scan, &batch);
            status = memdb_pin_leave(pin);
        }
        if (status != MEMDB_OK) {
            digest = 0;
            break;
        }
        CHECK_EQUAL(read, MEMDB_OK);
        const uint8_t *item = out;
        for (uint32_t i = 0; i < batch.count; i++) {
            uint32_t key_len, len;
            uint64_t lsn, value[600];
            memcpy(&key_len, item, 4);
            memcpy(&len, item + 4, 4);
            memcpy(&lsn, item + 8, 8);
            CHECK(len <= sizeof value);
            memcpy(value, item + 24 + key_len, len);
            check_value(value, len, item[24 + 3], lsn, pin->lsn);
            digest += (lsn + 1) * (item[24 + 3] + UINT64_C(1000003));
            item += (24 + (size_t)key_len + len + 7) / 8 * 8;
        }
        CHECK_EQUAL(memdb_scan_advance(&scan, &batch), MEMDB_OK);
    }
    memdb_scan_clear(&scan);
    return digest;
}

static void snapshot_reader(struct memdb_slot *slot, uint64_t *state)
{
    memdb_pin pin;
    CHECK_EQUAL(memdb_pin_begin(&pin, &r.view, slot, MEMDB_PIN_SNAPSHOT), MEMDB_OK);
    if (memdb_pin_leave(&pin) == MEMDB_OK) {
        uint64_t first = scan_all(&pin, false, 1 + (uint32_t)check_random_below(state, 40));
        uint64_t second = first ? scan_all(&pin, true, 1 + (uint32_t)check_random_below(state, 40)) : 0;
        if (second)
            CHECK_EQUAL(first, second);
        memdb_add_sc(second ? &reads : &revoked_reads, 1);
    }
    memdb_pin_close(&pin);
}

static void view_reader(struct memdb_slot *slot, uint64_t *state)
{
    memdb_pin pin;
    memdb_found found;
    uint8_t key[8];
    uint32_t number = (uint32_t)check_random_below(state, KEYS), len = key_of(key, number);
    CHECK_EQUAL(memdb_pin_begin(&pin, &r.view, slot, MEMDB_PIN_POINT), MEMDB_OK);
    int status = memdb_store_get(&pin, key, len, &found);
    int hazard = status == MEMDB_OK ? memdb_hazard_set(r.lease, 0, found.owner) : -1;
    bool sound = memdb_pin_end(&pin) == MEMDB_OK;
    for (int i = 0; i < 20 && sound && hazard >= 0; i++) { /* in force: nobody changes these bytes now */
        uint64_t value[600];
        memdb_copy_out(value, found.data, found.len);
        check_value(value, found.len, number, found.lsn, pin.lsn);
        memdb_add_sc(&views, 1);
    }
    if (hazard >= 0)
        memdb_hazard_clear(r.lease, 0, hazard);
}

static void *reader(void *arg)
{
    unsigned role = *(unsigned *)arg;
    uint64_t state = role + 99;
    struct memdb_slot *slot = &r.lease->slots[0][role];
    while (!memdb_load_acquire(&done)) { /* SYNC: done */
        if (role % 4 == 0)
            snapshot_reader(slot, &state);
        else if (role % 4 == 1)
            view_reader(slot, &state);
        else
            point_reader(slot, &state);
    }
    return NULL;
}

/* ---------------------------------------------------------------- writer ------------------------------- */

static void commit(uint64_t lsn, uint64_t *state)
{
    uint64_t value[600];
    bool existed;
    for (uint64_t n = 1 + check_random_below(state, 2); n > 0; n--) {
        uint32_t number = (uint32_t)check_random_below(state, check_random_below(state, 3) ? KEYS : 8) & ~1u;
        bool remove = check_random_below(state, 3) == 0;
        size_t words = check_random_below(state, 30) ? 3 + check_random_below(state, 20) : 200 + check_random_below(state, 300);
        for (uint32_t i = number; i < number + 2; i++) {
            uint8_t key[8];
            uint32_t len = key_of(key, i);
            if (remove) {
                memdb_store_delete(r.store, key, len, lsn, 1, &existed);
            } else {
                size_t bytes = value_of(value, i, lsn, words);
                rig_put(&r, key, len, value, bytes, 0, lsn);
            }
        }
    }
}

static void revoke_one(uint64_t *state)
{
    struct memdb_slot *slot = &r.lease->slots[0][check_random_below(state, READERS)];
    memdb_slot_revoke(slot, memdb_load_sc(&slot->word));
}

static void *writer(void *arg)
{
    (void)arg;
    uint64_t state = 5;
    for (uint64_t lsn = 2; lsn < COMMITS; lsn++) {
        commit(lsn, &state);
        if (check_random_below(&state, 4))
            memdb_store_publish(r.store, lsn);
        memdb_store_reclaim(r.store, check_random_below(&state, 2) ? 4 : 1000);
        if (check_random_below(&state, 8) == 0)
            revoke_one(&state);
    }
    memdb_store_publish(r.store, COMMITS);
    memdb_store_release(&done, 1); /* SYNC: done */
    return NULL;
}

int main(void)
{
    pthread_t threads[READERS + 1];
    unsigned roles[READERS];
    rig_start(&r, 16 << 20, 0);
    memdb_store_open(r.store, 1);
    for (unsigned i = 0; i < READERS; i++) {
        roles[i] = i;
        CHECK(pthread_create(&threads[i], NULL, reader, &roles[i]) == 0);
    }
    CHECK(pthread_create(&threads[READERS], NULL, writer, NULL) == 0);
    for (unsigned i = 0; i <= READERS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 1000; i++)
        memdb_store_reclaim(r.store, 1000);
    CHECK_EQUAL(memdb_store_audit(r.store, rig_problem, NULL), MEMDB_OK);
    CHECK(!memdb_store_reclaim_pending(r.store));
    printf("test_race: %llu reads, %llu revoked, %llu views\n", (unsigned long long)reads, (unsigned long long)revoked_reads,
           (unsigned long long)views);
    CHECK(reads > 100);
    rig_stop(&r);
    return 0;
}
