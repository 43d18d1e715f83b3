/* Random operations on a store against a model that remembers every version, with snapshots, pruning, purging, views,
 * batches both ways, range deletes and growth of the hash index; the audit runs after every step of reclaim.
 * CTEST-CFLAGS: -DMEMDB_BLOCK_MAX=4
 * CTEST-MODES: plain asan
 */
#include "skiplist.h"
#include "store_rig.h"

#define KEYS 400
#define VERSIONS 64
#define SNAPSHOTS 6

struct version {
    uint64_t lsn, expires;
    uint32_t len;
    uint8_t seed;
    bool deleted;
};
static struct entry {
    uint8_t key[80];
    uint32_t len;
    struct version versions[VERSIONS];
    uint32_t count;
} model[KEYS];

static uint64_t state = 7;
static rig r;
static uint8_t value_bytes[6000], out[1 << 20];

static uint64_t below(uint64_t n) { return check_random_below(&state, n); }

static int by_key(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    uint32_t shorter = x->len < y->len ? x->len : y->len;
    int order = memcmp(x->key, y->key, shorter);
    return order ? order : (int)x->len - (int)y->len;
}

/* Keys of many shapes: long common prefixes, zeros at the end, prefixes of each other. */
static void make_keys(void)
{
    for (int i = 0; i < KEYS; i++) {
        struct entry *e = &model[i];
        e->key[0] = (uint8_t)(1 + i % 3);
        e->len = 1;
        int shape = i % 5;
        if (shape == 0)
            for (int k = 0; k < 50; k++)
                e->key[e->len++] = 'a';
        if (shape == 1) { /* each a prefix of the next */
            for (int k = 0; k <= i / 5 % 75; k++)
                e->key[e->len++] = 0;
            e->key[0] = (uint8_t)(4 + i / 5 / 75);
            continue;
        }
            for (uint64_t k = 0, n = 1 + below(12); k < n; k++)
                e->key[e->len++] = (uint8_t)(shape == 2 ? below(3) : below(256));
        e->key[e->len++] = (uint8_t)(i >> 8);
        e->key[e->len++] = (uint8_t)i;
    }
    qsort(model, KEYS, sizeof *model, by_key);
    for (int i = 1; i < KEYS; i++)
        CHECK(by_key(&model[i - 1], &model[i]) < 0);
}

static const struct version *at(const struct entry *e, uint64_t lsn, uint64_t now)
{
    for (uint32_t i = e->count; i-- > 0;)
        if (e->versions[i].lsn <= lsn) {
            const struct version *v = &e->versions[i];
            return v->deleted || (v->expires && v->expires <= now) ? NULL : v;
        }
    return NULL;
}

static void remember(struct entry *e, struct version v, uint64_t oldest)
{
    if (e->count == VERSIONS) { /* forget what no snapshot of the test can see any more */
        uint32_t keep = 0;
        while (keep + 1 < e->count && e->versions[keep + 1].lsn <= oldest)
            keep++;
        CHECK(keep > 0);
        memmove(e->versions, e->versions + keep, (e->count - keep) * sizeof *e->versions);
        e->count -= keep;
    }
    e->versions[e->count++] = v;
}

static const uint8_t *bytes_of(const struct version *v)
{
    for (uint32_t i = 0; i < v->len; i++)
        value_bytes[i] = (uint8_t)(v->seed + i * 7);
    return value_bytes;
}

static void check_found(const memdb_found *f, const struct version *v)
{
    static uint8_t copy[6000];
    CHECK_EQUAL(f->lsn, v->lsn);
    CHECK_EQUAL(f->len, v->len);
    CHECK_EQUAL(f->expires_us, v->expires);
    memdb_copy_out(copy, f->data, f->len);
    CHECK(memcmp(copy, bytes_of(v), v->len) == 0);
}

static void check_gets(memdb_pin *pin)
{
    static uint8_t keys[KEYS * 80];
    static uint32_t ends[KEYS];
    static memdb_found found[KEYS];
    uint32_t end = 0;
    for (int i = 0; i < KEYS; i++) {
        memdb_found one;
        const struct version *v = at(&model[i], pin->lsn, memdb_pin_time(pin));
        CHECK_EQUAL(memdb_store_get(pin, model[i].key, model[i].len, &one), v ? MEMDB_OK : MEMDB_ABSENT);
        if (v)
            check_found(&one, v);
        memcpy(keys + end, model[i].key, model[i].len);
        ends[i] = end += model[i].len;
    }
    CHECK_EQUAL(memdb_store_get_many(pin, keys, ends, KEYS, found), MEMDB_OK);
    for (int i = 0; i < KEYS; i++) {
        const struct version *v = at(&model[i], pin->lsn, memdb_pin_time(pin));
        CHECK((found[i].data != NULL) == (v != NULL));
        if (v)
            check_found(&found[i], v);
    }
}

static void check_item(const uint8_t *item, const struct entry *e, const struct version *v, bool keys_only)
{
    uint32_t key_len, value_len;
    memcpy(&key_len, item, 4);
    memcpy(&value_len, item + 4, 4);
    CHECK_EQUAL(key_len, e->len);
    CHECK(memcmp(item + 24, e->key, e->len) == 0);
    CHECK_EQUAL(value_len, keys_only ? 0 : v->len);
    CHECK(keys_only || memcmp(item + 24 + key_len, bytes_of(v), v->len) == 0);
    for (const uint8_t *end = item + 24 + key_len + value_len; (end - item) % 8; end++)
        CHECK(*end == 0); /* padding goes into files */
}

static void check_scan(memdb_pin *pin, uint64_t limit)
{
    int low = (int)below(KEYS), high = below(4) ? (int)below(KEYS + 1) : KEYS;
    bool reverse = below(2), keys_only = below(4) == 0;
    memdb_scan scan;
    CHECK_EQUAL(memdb_scan_init(&scan, model[low].key, low ? model[low].len : 0, high < KEYS ? model[high].key : NULL,
                                high < KEYS ? model[high].len : 0, reverse, limit, keys_only), MEMDB_OK);
    memdb_batch batch = {.out = out, .cap = below(2) ? sizeof out : 8192, .max_count = (uint32_t)below(9)};
    int next = reverse ? high - 1 : low;
    uint64_t left = limit;
    while (!scan.done) {
        CHECK_EQUAL(memdb_pin_enter(pin), MEMDB_OK);
        memset(out, 0xee, 4096);
        CHECK_EQUAL(memdb_scan_batch(pin, &scan, &batch), MEMDB_OK);
        CHECK_EQUAL(memdb_pin_leave(pin), MEMDB_OK);
        const uint8_t *item = out;
        for (uint32_t i = 0; i < batch.count; i++, left--) {
            const struct version *v = NULL;
            while (next >= low && next < high && !(v = at(&model[next], pin->lsn, pin->time_us)))
                next += reverse ? -1 : 1;
            CHECK(v && left > 0);
            check_item(item, &model[next], v, keys_only);
            next += reverse ? -1 : 1;
            item += (24 + model[next + (reverse ? 1 : -1)].len + (keys_only ? 0 : v->len) + 7) / 8 * 8;
        }
        CHECK_EQUAL(memdb_scan_advance(&scan, &batch), MEMDB_OK);
    }
    if (left > 0)
        for (; next >= low && next < high; next += reverse ? -1 : 1)
            CHECK(!at(&model[next], pin->lsn, pin->time_us));
    memdb_scan_clear(&scan);
    if (low >= high)
        return;
    uint64_t count, expected = 0;
    for (int i = low; i < high; i++)
        expected += at(&model[i], pin->lsn, pin->time_us) != NULL;
    CHECK_EQUAL(memdb_pin_enter(pin), MEMDB_OK);
    CHECK_EQUAL(memdb_store_count(pin, model[low].key, model[low].len, high < KEYS ? model[high].key : NULL,
                                  high < KEYS ? model[high].len : 0, &count), MEMDB_OK);
    CHECK_EQUAL(memdb_pin_leave(pin), MEMDB_OK);
    CHECK_EQUAL(count, expected);
}

static void check_snapshot(memdb_pin *pin)
{
    uint64_t keys, expected = 0;
    CHECK_EQUAL(memdb_pin_enter(pin), MEMDB_OK);
    check_gets(pin);
    for (int i = 0; i < KEYS; i++)
        expected += at(&model[i], pin->lsn, pin->time_us) != NULL;
    CHECK_EQUAL(memdb_store_verify(pin, rig_problem, NULL, &keys), MEMDB_OK);
    CHECK_EQUAL(keys, expected);
    CHECK_EQUAL(memdb_pin_leave(pin), MEMDB_OK);
    check_scan(pin, below(2) ? UINT64_MAX : below(20));
}

static uint64_t oldest_of(const memdb_pin *pins, const bool *open, uint64_t lsn)
{
    for (int i = 0; i < SNAPSHOTS; i++)
        if (open[i] && pins[i].lsn < lsn)
            lsn = pins[i].lsn;
    return lsn;
}

static void one_put(struct entry *e, uint64_t lsn, uint64_t oldest)
{
    static const uint32_t sizes[] = {0, 1, 8, 20, 100, 101, 150, 700, 1020, 1024, 1025, 3000, 5000};
    struct version v = {.lsn = lsn, .len = sizes[below(13)], .seed = (uint8_t)below(256), .expires = below(8) ? 0 : 1000};
    if (below(16) == 0)
        v.expires = UINT64_C(1) << 60;
    if (below(4))
        v.len = (uint32_t)below(120);
    rig_put(&r, e->key, e->len, bytes_of(&v), v.len, v.expires, lsn);
    remember(e, v, oldest);
}

static void one_delete(struct entry *e, uint64_t lsn, uint64_t oldest)
{
    bool existed;
    uint64_t blocks = memdb_arena_blocks(r.arena);
    const struct version *v = at(e, UINT64_MAX, 1);
    memdb_found found;
    CHECK_EQUAL(memdb_store_newest(r.store, e->key, e->len, 1, &found), v ? MEMDB_OK : MEMDB_ABSENT);
    CHECK_EQUAL(memdb_store_reserve(r.store, memdb_store_cost_delete(e->len), 0, MEMDB_FOR_DELETE), MEMDB_OK);
    memdb_store_delete(r.store, e->key, e->len, lsn, 1, &existed);
    CHECK_EQUAL(existed, v != NULL);
    if (v)
        remember(e, (struct version){.lsn = lsn, .deleted = true}, oldest);
    else
        CHECK_EQUAL(memdb_arena_blocks(r.arena), blocks);
}

static void one_range(uint64_t lsn, uint64_t oldest)
{
    uint64_t low = below(KEYS - 20), high = low + 1 + below(19), expected = 0;
    for (uint64_t i = low; i < high; i++)
        if (at(&model[i], UINT64_MAX, 1)) {
            expected++;
            remember(&model[i], (struct version){.lsn = lsn, .deleted = true}, oldest);
        }
    struct entry *a = &model[low], *b = &model[high];
    CHECK_EQUAL(memdb_store_count_range(r.store, a->key, a->len, b->key, b->len, 1), expected);
    CHECK_EQUAL(memdb_store_reserve(r.store, expected * memdb_store_cost_delete(0), 0, MEMDB_FOR_DELETE), MEMDB_OK);
    CHECK_EQUAL(memdb_store_delete_range(r.store, a->key, a->len, b->key, b->len, lsn, 1), expected);
}

/* A new reader sees exactly what is published, whatever was applied behind it. */
static void check_published(uint64_t published)
{
    memdb_pin pin;
    memdb_found found;
    CHECK_EQUAL(memdb_pin_begin(&pin, &r.view, &r.lease->slots[0][SNAPSHOTS], MEMDB_PIN_POINT), MEMDB_OK);
    CHECK_EQUAL(pin.lsn, published);
    for (int i = 0; i < KEYS; i += i < 4 ? 1 : 1 + (int)below(20)) {
        const struct version *v = at(&model[i], published, memdb_pin_time(&pin));
        CHECK_EQUAL(memdb_store_get(&pin, model[i].key, model[i].len, &found), v ? MEMDB_OK : MEMDB_ABSENT);
        if (v)
            check_found(&found, v);
    }
    CHECK_EQUAL(memdb_pin_end(&pin), MEMDB_OK);
}

static void random_work(int rounds)
{
    memdb_pin pins[SNAPSHOTS];
    bool open[SNAPSHOTS] = {false};
    uint64_t lsn = 1, published = 1;
    memdb_store_open(r.store, 1);
    for (int round = 0; round < rounds; round++) {
        lsn++;
        uint64_t bias = (uint64_t)round / 300 % 2 ? 3 : 8, oldest = oldest_of(pins, open, published);
        for (uint64_t n = 1 + below(4); n > 0; n--) {
            struct entry *e = &model[below(8) ? below(KEYS) : below(4)];
            if (below(10) < bias)
                one_put(e, lsn, oldest);
            else
                one_delete(e, lsn, oldest);
        }
        if (below(40) == 0)
            one_range(lsn, oldest);
        if (below(4))
            memdb_store_publish(r.store, published = lsn);
        size_t i = below(SNAPSHOTS);
        if (below(6) == 0) {
            if (open[i])
                memdb_pin_close(&pins[i]);
            else {
                CHECK_EQUAL(memdb_pin_begin(&pins[i], &r.view, &r.lease->slots[0][i], MEMDB_PIN_SNAPSHOT), MEMDB_OK);
                CHECK_EQUAL(memdb_pin_leave(&pins[i]), MEMDB_OK);
                CHECK_EQUAL(pins[i].lsn, published);
            }
            open[i] = !open[i];
        }
        memdb_store_reclaim(r.store, below(3) ? below(5) : 1000);
        if (lsn > published || below(10) == 0)
            check_published(published);
        if (round % 7 == 0)
            CHECK_EQUAL(memdb_store_audit(r.store, rig_problem, NULL), MEMDB_OK);
        if (round % 11 == 0 && open[i])
            check_snapshot(&pins[i]);
    }
    for (int i = 0; i < SNAPSHOTS; i++)
        if (open[i]) {
            check_snapshot(&pins[i]);
            memdb_pin_close(&pins[i]);
        }
    memdb_store_publish(r.store, lsn);
}

static void check_all_gone(uint64_t lsn)
{
    bool existed;
    for (int i = 0; i < KEYS; i++)
        memdb_store_delete(r.store, model[i].key, model[i].len, lsn, 1, &existed);
    memdb_store_publish(r.store, lsn);
    while (memdb_store_reclaim(r.store, 50))
        CHECK_EQUAL(memdb_store_audit(r.store, rig_problem, NULL), MEMDB_OK);
    CHECK(!memdb_store_reclaim_pending(r.store));
    CHECK_EQUAL(memdb_store_audit(r.store, rig_problem, NULL), MEMDB_OK);
    CHECK_EQUAL(memdb_arena_blocks(r.arena), 3); /* the head, its empty block, the hash table */
}

static void check_copy(void)
{
    rig copy;
    memdb_pin pin, again;
    uint64_t keys, other;
    memdb_a64 progress = 0;
    CHECK_EQUAL(memdb_pin_begin(&pin, &r.view, &r.lease->slots[0][9], MEMDB_PIN_CHECKPOINT), MEMDB_OK);
    rig_start(&copy, 16 << 20, 2);
    memdb_store_relaxed(&memdb_arena_header(r.arena)->time_floor, UINT64_C(1) << 60);
    CHECK_EQUAL(memdb_bulk_copy(copy.store, &pin, &progress), MEMDB_OK);
    memdb_store_open(copy.store, pin.lsn);
    CHECK_EQUAL(memdb_load_relaxed(&copy.view.header->time_floor), UINT64_C(1) << 60); /* time does not go back (rule R3) */
    CHECK_EQUAL(memdb_store_audit(copy.store, rig_problem, NULL), MEMDB_OK);
    CHECK_EQUAL(memdb_pin_begin(&again, &copy.view, &copy.lease->slots[0][9], MEMDB_PIN_SNAPSHOT), MEMDB_OK);
    again.time_us = memdb_pin_time(&pin);
    check_gets(&again);
    CHECK_EQUAL(memdb_store_verify(&again, rig_problem, NULL, &keys), MEMDB_OK);
    CHECK_EQUAL(memdb_pin_enter(&pin), MEMDB_OK);
    CHECK_EQUAL(memdb_store_verify(&pin, rig_problem, NULL, &other), MEMDB_OK);
    CHECK_EQUAL(keys, other);
    memdb_pin_close(&pin);
    memdb_pin_close(&again);
    while (memdb_store_reclaim(copy.store, 100)) {
    }
    CHECK_EQUAL(memdb_store_audit(copy.store, rig_problem, NULL), MEMDB_OK);
    rig_stop(&copy);
}

/* A view's hazard keeps a block (a large value) and an inline place (a small one) after its snapshot has gone. */
static void check_views(const char *key, uint32_t value_len)
{
    memdb_pin pin;
    memdb_found first;
    static uint8_t before[4000], after[4000], copy[4000];
    size_t key_len = strlen(key);
    uint64_t lsn = memdb_load_relaxed(&r.view.header->applied) + 1;
    memset(before, 'b', value_len);
    memset(after, 'a', value_len);
    rig_put(&r, key, key_len, before, value_len, 0, lsn);
    memdb_store_publish(r.store, lsn);
    CHECK_EQUAL(memdb_pin_begin(&pin, &r.view, &r.lease->slots[0][1], MEMDB_PIN_POINT), MEMDB_OK);
    CHECK_EQUAL(memdb_store_get(&pin, key, key_len, &first), MEMDB_OK);
    int hazard = memdb_hazard_set(r.lease, 0, first.owner);
    CHECK(hazard >= 0);
    CHECK_EQUAL(memdb_pin_end(&pin), MEMDB_OK);
    for (int i = 0; i < 20; i++) {
        rig_put(&r, key, key_len, after, value_len, 0, ++lsn);
        memdb_store_publish(r.store, lsn);
        memdb_store_reclaim(r.store, 100);
        CHECK_EQUAL(memdb_store_audit(r.store, rig_problem, NULL), MEMDB_OK);
    }
    memdb_copy_out(copy, first.data, value_len);
    CHECK(memcmp(copy, before, value_len) == 0);
    CHECK(memdb_store_reclaim_pending(r.store));
    memdb_hazard_clear(r.lease, 0, hazard);
    while (memdb_store_reclaim(r.store, 100)) {
    }
    memdb_store_reclaim(r.store, 100);
    CHECK(!memdb_store_reclaim_pending(r.store));
}

/* Invariant 5: the leaf that a reader stands on keeps its bytes while others take its place, for as long as the reader is in it. */
static void check_grace_of_blocks(void)
{
    memdb_pin pin;
    memdb_leaf leaf;
    static uint64_t before[64], now[64];
    uint64_t lsn = memdb_load_relaxed(&r.view.header->applied) + 1;
    rig_put(&r, "\1stand", 6, "a", 1, 0, lsn);
    memdb_store_publish(r.store, lsn);
    memdb_probe probe = memdb_probe_of("\1stand", 6);
    CHECK_EQUAL(memdb_pin_begin(&pin, &r.view, &r.lease->slots[0][3], MEMDB_PIN_POINT), MEMDB_OK);
    CHECK_EQUAL(memdb_list_descend(&r.view, &probe, false, NULL, &leaf), MEMDB_OK);
    const memdb_a64 *words = memdb_view_at(&r.view, leaf.block, 8);
    size_t len = memdb_block_bytes(leaf.count, leaf.common);
    CHECK(words && len <= sizeof before);
    memdb_copy_out(before, words, len);
    for (int i = 0; i < 200; i++) {
        char key[16];
        int key_len = snprintf(key, sizeof key, "\1stand%03d", i);
        rig_put(&r, key, (size_t)key_len, "b", 1, 0, ++lsn);
        memdb_store_publish(r.store, lsn);
        memdb_store_reclaim(r.store, 100);
    }
    memdb_copy_out(now, words, len);
    CHECK(memcmp(now, before, len) == 0);
    CHECK_EQUAL(memdb_pin_end(&pin), MEMDB_OK);
    memdb_store_delete_range(r.store, "\1stand", 6, "\1stane", 6, ++lsn, 1);
    memdb_store_publish(r.store, lsn);
    while (memdb_store_reclaim(r.store, 100)) {
    }
}

/* A pin of an active reader keeps what it stands on; revocation and death let it go. */
static void check_grace(void)
{
    memdb_pin pin;
    uint64_t lsn = memdb_load_relaxed(&r.view.header->applied) + 1;
    rig_put(&r, "\1grace", 6, "a", 1, 0, lsn);
    memdb_store_publish(r.store, lsn);
    for (int way = 0; way < 3; way++) {
        CHECK_EQUAL(memdb_pin_begin(&pin, &r.view, &r.lease->slots[0][2], MEMDB_PIN_POINT), MEMDB_OK);
        for (int i = 0; i < 40; i++) {
            rig_put(&r, "\1grace", 6, "b", 1, 0, ++lsn);
            memdb_store_publish(r.store, lsn);
            memdb_store_reclaim(r.store, 100);
        }
        CHECK(memdb_store_reclaim_pending(r.store));
        CHECK_EQUAL(memdb_store_audit(r.store, rig_problem, NULL), MEMDB_OK);
        if (way == 0) {
            CHECK_EQUAL(memdb_pin_end(&pin), MEMDB_OK);
        } else if (way == 1) {
            CHECK(memdb_slot_revoke(pin.slot, pin.word));
        } else {
            memdb_scanner_remove(r.scanner, r.lease);
        }
        while (memdb_store_reclaim(r.store, 100)) {
        }
        memdb_store_reclaim(r.store, 100);
        while (memdb_store_reclaim(r.store, 100)) {
        }
        CHECK(!memdb_store_reclaim_pending(r.store));
        if (way)
            CHECK_EQUAL(memdb_pin_end(&pin), way == 1 ? MEMDB_REVOKED : MEMDB_OK);
    }
    CHECK_EQUAL(memdb_scanner_add(r.scanner, r.lease), MEMDB_OK);
}

/* Rule I3: the count that readers see is that of what they may see, however much is applied behind it. */
static void check_counts(void)
{
    uint64_t lsn = memdb_load_relaxed(&r.view.header->applied), before = memdb_load_relaxed(&r.view.header->counts[1]);
    bool existed;
    rig_put(&r, "\1count1", 7, "a", 1, 0, lsn + 1);
    rig_put(&r, "\1count2", 7, "a", 1, 0, lsn + 2);
    memdb_store_delete(r.store, "\1count1", 7, lsn + 3, 1, &existed);
    memdb_store_delete(r.store, "\1count2", 7, lsn + 3, 1, &existed);
    CHECK_EQUAL(memdb_load_relaxed(&r.view.header->counts[1]), before);
    for (uint64_t i = 1; i <= 3; i++) {
        memdb_store_publish(r.store, lsn + i);
        CHECK_EQUAL(memdb_load_relaxed(&r.view.header->counts[1]), before + i % 3);
    }
}

/* A full arena says so, and can be used again after deletes, also for values of another size. */
static void check_full(void)
{
    rig f;
    rig_start(&f, 4 << 20, 0);
    memdb_store_open(f.store, 1);
    uint64_t lsn = 1, stored = 0;
    bool existed;
    uint8_t value[2000] = {0};
    for (int pass = 0; pass < 6; pass++) {
        size_t len = pass % 2 ? 1800 : 100;
        uint64_t n = 0;
        for (;; n++) {
            uint8_t key[9] = {1};
            memcpy(key + 1, &n, 8);
            int status = memdb_store_reserve(f.store, memdb_store_cost_put(9, len), 1, MEMDB_FOR_WRITE);
            if (status == MEMDB_FULL)
                break;
            CHECK_EQUAL(status, MEMDB_OK);
            memdb_store_put(f.store, key, 9, value, len, 0, ++lsn, 1, &existed);
            memdb_store_publish(f.store, lsn);
            memdb_store_reclaim(f.store, 64);
        }
        if (pass > 1) /* no pass leaves less room than the one before */
            CHECK(n + n / 10 >= stored || pass % 2);
        if (pass % 2 == 0)
            stored = n;
        CHECK(n * len > (2 << 20) - (2 << 20) / 8);
        for (uint64_t i = 0; i < n; i++) {
            uint8_t key[9] = {1};
            memcpy(key + 1, &i, 8);
            CHECK_EQUAL(memdb_store_reserve(f.store, memdb_store_cost_delete(9), 0, MEMDB_FOR_DELETE), MEMDB_OK);
            memdb_store_delete(f.store, key, 9, ++lsn, 1, &existed);
            CHECK(existed);
            memdb_store_publish(f.store, lsn);
        }
        while (memdb_store_reclaim(f.store, 1000)) {
        }
        CHECK_EQUAL(memdb_store_audit(f.store, rig_problem, NULL), MEMDB_OK);
    }
    rig_stop(&f);
}

int main(void)
{
    make_keys();
    rig_start(&r, 16 << 20, 0);
    random_work(4000);
    check_copy();
    check_views("\1view", 8);
    check_views("\1views", 2000);
    check_grace_of_blocks();
    check_counts();
    check_grace();
    memdb_store_delete(r.store, "\1view", 5, memdb_load_relaxed(&r.view.header->applied), 1, &(bool){0});
    memdb_store_delete(r.store, "\1views", 6, memdb_load_relaxed(&r.view.header->applied), 1, &(bool){0});
    memdb_store_delete(r.store, "\1grace", 6, memdb_load_relaxed(&r.view.header->applied), 1, &(bool){0});
    check_all_gone(memdb_load_relaxed(&r.view.header->applied) + 1);
    check_full();
    rig_stop(&r);
    return 0;
}
