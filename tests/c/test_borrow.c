/* Borrowed pins: one thread holds a snapshot, another reads at its S under a pin of its own, in another lease, while the writer commits,
 * prunes, purges and revokes either. What was answered while the lender's pin stood is exactly what the lender reads itself. Then
 * the cuts of a range: rising, inside, each part about as large as was asked for.
 * CTEST-CFLAGS: -DMEMDB_BLOCK_MAX=4
 * CTEST-MODES: plain asan tsan
 */
#include <pthread.h>
#include <sched.h>

#include "store_rig.h"

#define KEYS 64
#define COMMITS 6000

static rig r;
static struct memdb_lease *other; /* the borrower's */
static memdb_a32 done;
static memdb_a64 asked, answered; /* numbers of requests */
static memdb_a64 asked_lsn, asked_time, answer;
static memdb_a64 believed, gone, refused;

static uint32_t key_of(uint8_t key[8], uint32_t number)
{
    memcpy(key, "\1k", 2);
    key[2] = (uint8_t)(number * 37), key[3] = (uint8_t)number;
    return 4;
}

/* A digest of all keys, values and LSNs that the pin sees; 0 if it was revoked. Entered again for each batch. */
static uint64_t read_all(memdb_pin *pin)
{
    uint8_t out[1024];
    memdb_scan scan;
    memdb_batch batch = {.out = out, .cap = sizeof out};
    uint64_t digest = 1;
    CHECK_EQUAL(memdb_scan_init(&scan, NULL, 0, NULL, 0, false, UINT64_MAX, false), MEMDB_OK);
    while (!scan.done) {
        if (memdb_pin_enter(pin) != MEMDB_OK) {
            digest = 0;
            break;
        }
        int status = memdb_scan_batch(pin, &scan, &batch);
        if (memdb_pin_leave(pin) != MEMDB_OK) {
            digest = 0;
            break;
        }
        CHECK_EQUAL(status, MEMDB_OK);
        for (size_t at = 0, i = 0; i < batch.count; i++) {
            uint32_t key_len, len;
            uint64_t lsn;
            memcpy(&key_len, out + at, 4);
            memcpy(&len, out + at + 4, 4);
            memcpy(&lsn, out + at + 8, 8);
            CHECK(lsn <= pin->lsn);
            for (uint32_t k = 0; k < len; k++)
                CHECK_EQUAL(out[at + 24 + key_len + k], lsn & 0xff);
            digest = digest * 31 + lsn * 1000003 + out[at + 24 + 3];
            at += (24 + (size_t)key_len + len + 7) / 8 * 8;
        }
        CHECK_EQUAL(memdb_scan_advance(&scan, &batch), MEMDB_OK);
    }
    memdb_scan_clear(&scan);
    return digest ? digest | 1 : 0;
}

static void *borrower(void *unused)
{
    for (uint64_t number = 1;; number++) {
        while (memdb_load_acquire(&asked) < number) { /* SYNC: asked */
            if (memdb_load_acquire(&done))
                return unused;
            sched_yield();
        }
        memdb_pin pin;
        uint64_t digest = 0;
        int status = memdb_pin_at(&pin, &r.view, &other->slots[0][3], memdb_load_relaxed(&asked_lsn), memdb_load_relaxed(&asked_time));
        CHECK_EQUAL(status, MEMDB_OK);
        if (memdb_pin_leave(&pin) == MEMDB_OK)
            digest = read_all(&pin);
        memdb_pin_close(&pin);
        memdb_store_relaxed(&answer, digest);
        memdb_store_release(&answered, number); /* SYNC: answered */
    }
}

static void *lender(void *unused)
{
    uint64_t state = 3;
    for (uint64_t number = 1; !memdb_load_acquire(&done); number++) {
        memdb_pin pin;
        CHECK_EQUAL(memdb_pin_begin(&pin, &r.view, &r.lease->slots[0][0], MEMDB_PIN_SNAPSHOT), MEMDB_OK);
        uint64_t own = memdb_pin_leave(&pin) == MEMDB_OK ? read_all(&pin) : 0;
        memdb_store_relaxed(&asked_lsn, pin.lsn);
        memdb_store_relaxed(&asked_time, memdb_pin_time(&pin));
        memdb_store_release(&asked, number); /* SYNC: asked */
        if (check_random_below(&state, 4) == 0)
            memdb_pin_close(&pin); /* lets go too early: nothing is believed */
        while (memdb_load_acquire(&answered) < number) { /* SYNC: answered */
            if (memdb_load_acquire(&done)) {             /* the borrower may have left without having seen the request */
                memdb_pin_close(&pin);
                return unused;
            }
            sched_yield();
        }
        uint64_t got = memdb_load_relaxed(&answer);
        if (!memdb_pin_stands(&pin)) {
            memdb_add_sc(&gone, 1);
        } else if (got == 0) {
            memdb_add_sc(&refused, 1); /* the borrower's was revoked */
        } else {
            CHECK_EQUAL(got, own);
            memdb_add_sc(&believed, 1);
        }
        memdb_pin_close(&pin);
        CHECK(!memdb_pin_stands(&pin));
    }
    return unused;
}

static void *writer(void *unused)
{
    uint64_t state = 5;
    uint8_t key[8], value[200];
    bool existed;
    for (uint64_t lsn = 2; lsn < COMMITS || memdb_load_relaxed(&believed) < 20; lsn++) {
        for (uint64_t n = 1 + check_random_below(&state, 3); n > 0; n--) {
            uint32_t len = key_of(key, (uint32_t)check_random_below(&state, KEYS));
            memset(value, (int)(lsn & 0xff), sizeof value);
            if (check_random_below(&state, 4) == 0)
                memdb_store_delete(r.store, key, len, lsn, 1, &existed);
            else
                rig_put(&r, key, len, value, check_random_below(&state, sizeof value), 0, lsn);
        }
        if (check_random_below(&state, 4))
            memdb_store_publish(r.store, lsn);
        memdb_store_reclaim(r.store, 1000);
        struct memdb_slot *slot = check_random_below(&state, 2) ? &r.lease->slots[0][0] : &other->slots[0][3];
        bool late = lsn >= COMMITS; /* on a busy machine: the readers get what they need to be believed often enough */
        if (!late && check_random_below(&state, 16) == 0)
            memdb_slot_revoke(slot, memdb_load_sc(&slot->word));
        if (late || lsn % 64 == 0)
            sched_yield();
    }
    memdb_store_release(&done, 1); /* SYNC: done */
    return unused;
}

static void refusals(void)
{
    memdb_pin pin;
    struct memdb_slot *slot = &other->slots[0][5];
    CHECK_EQUAL(memdb_pin_at(&pin, &r.view, slot, 0, 1), MEMDB_INVALID);
    CHECK_EQUAL(memdb_pin_at(&pin, &r.view, slot, 2, 1), MEMDB_INVALID); /* not published */
    CHECK_EQUAL(memdb_load_relaxed(&slot->word) >> 62, MEMDB_SLOT_FREE);
    CHECK_EQUAL(memdb_pin_at(&pin, &r.view, slot, 1, 77), MEMDB_OK);
    CHECK(memdb_pin_time(&pin) == 77 && memdb_load_relaxed(&slot->time) == 77 && memdb_load_relaxed(&slot->since) > 0);
    CHECK(memdb_pin_stands(&pin));
    memdb_scanner_scan(r.scanner, 0);
    CHECK(memdb_scanner_sees(r.scanner, 1, 2) && memdb_scanner_oldest(r.scanner) == 1);
    CHECK(memdb_slot_revoke(slot, pin.word));
    CHECK(!memdb_pin_stands(&pin));
    CHECK_EQUAL(memdb_pin_at(&pin, &r.view, slot, 1, 78), MEMDB_OK); /* the next is the acknowledgement */
    CHECK_EQUAL(memdb_pin_end(&pin), MEMDB_OK);
    CHECK(!memdb_pin_stands(&pin));
    memdb_store_sc(&memdb_arena_header(r.arena)->published, 0);
    CHECK_EQUAL(memdb_pin_at(&pin, &r.view, slot, 1, 1), MEMDB_MOVED);
    memdb_store_sc(&memdb_arena_header(r.arena)->published, 1);
}

/* ---------------------------------------------------------------- cuts --------------------------------- */

#define MANY 5000

static void cut(memdb_pin *pin, uint32_t first, uint32_t last, uint64_t every, uint32_t max_cuts)
{
    uint8_t out[4096], start[4] = {1, (uint8_t)(first >> 8), (uint8_t)first, 0}, stop[4] = {1, (uint8_t)(last >> 8), (uint8_t)last, 0};
    uint8_t low[64];
    size_t used, low_len = 4, at = 0;
    uint32_t cuts;
    uint64_t keys, sum = 0, count;
    bool ended;
    memcpy(low, start, 4);
    CHECK_EQUAL(memdb_store_split(pin, start, 4, stop, 4, every, max_cuts, out, sizeof out, &cuts, &used, &keys, &ended), MEMDB_OK);
    CHECK(cuts <= max_cuts && (ended || cuts == max_cuts || used > sizeof out - 64));
    for (uint32_t i = 0; i < cuts; i++) {
        uint32_t len;
        memcpy(&len, out + at, 4);
        CHECK(len > 0 && len <= sizeof low);
        CHECK_EQUAL(memdb_store_count(pin, low, low_len, out + at + 4, len, &count), MEMDB_OK);
        CHECK(count + 2 * MEMDB_BLOCK_MAX >= every && count <= every + MEMDB_BLOCK_MAX);
        sum += count;
        memcpy(low, out + at + 4, low_len = len);
        at += 4 + (size_t)len;
    }
    CHECK_EQUAL(at, used);
    CHECK_EQUAL(memdb_store_count(pin, low, low_len, stop, 4, &count), MEMDB_OK);
    CHECK(!ended || count <= every + MEMDB_BLOCK_MAX);
    CHECK_EQUAL(sum + count, first < last ? last - first : 0);
    CHECK(keys + MEMDB_BLOCK_MAX >= sum);
}

static void cuts(void)
{
    rig many;
    memdb_pin pin;
    uint32_t cut_count;
    size_t used;
    uint64_t keys;
    bool ended;
    uint8_t little[5];
    rig_start(&many, 16 << 20, 0);
    for (uint32_t i = 0; i < MANY; i++) {
        uint8_t key[4] = {1, (uint8_t)(i >> 8), (uint8_t)i, 1};
        rig_put(&many, key, 4, "v", 1, 0, 1);
    }
    memdb_store_open(many.store, 1);
    CHECK_EQUAL(memdb_pin_begin(&pin, &many.view, &many.lease->slots[0][0], MEMDB_PIN_SNAPSHOT), MEMDB_OK);
    cut(&pin, 0, MANY, 100, 1000);
    cut(&pin, 0, MANY, 100, 7);
    cut(&pin, 1234, 3001, 64, 1000);
    cut(&pin, 10, 12, 64, 1000);
    cut(&pin, 12, 12, 64, 1000);
    cut(&pin, 4990, 6000 > MANY ? MANY : 6000, 8, 1000);
    CHECK_EQUAL(memdb_store_split(&pin, "", 0, "", 0, 10, 5, little, sizeof little, &cut_count, &used, &keys, &ended), MEMDB_BUFFER);
    CHECK_EQUAL(memdb_pin_end(&pin), MEMDB_OK);
    rig_stop(&many);
}

int main(void)
{
    pthread_t threads[3];
    rig_start(&r, 16 << 20, 0);
    other = rig_map(sizeof *other);
    memdb_store_relaxed(&other->slots_used, 8);
    CHECK_EQUAL(memdb_scanner_add(r.scanner, other), MEMDB_OK);
    memdb_store_open(r.store, 1);
    refusals();
    CHECK(pthread_create(&threads[0], NULL, borrower, NULL) == 0);
    CHECK(pthread_create(&threads[1], NULL, lender, NULL) == 0);
    CHECK(pthread_create(&threads[2], NULL, writer, NULL) == 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    printf("test_borrow: %llu believed, %llu of a pin that had gone, %llu revoked\n", (unsigned long long)believed,
           (unsigned long long)gone, (unsigned long long)refused);
    CHECK_EQUAL(memdb_store_audit(r.store, rig_problem, NULL), MEMDB_OK);
    rig_stop(&r);
    munmap(other, sizeof *other);
    cuts();
    return 0;
}
