/*
 * Expiry in the store: what is due is handed out once, in bounded batches, and not lost if it is not deleted; times that are put off,
 * brought forward, taken away; the heap's size; next_expiry never too late and counts exact, also while commits are not published; all of
 * it at random against a model, the audit proving that every key with an expiry is covered. Another thread asks for the count meanwhile.
 * CTEST-CFLAGS: -DMEMDB_EXPIRY_SLACK=16 -DMEMDB_BLOCK_MAX=4
 */
#include <pthread.h>

#include "ops.h"
#include "store_rig.h"

#define ROOM 4096u
#define NEVER UINT64_MAX

struct bench {
    rig r;
    uint64_t lsn;
    uint8_t payload[ROOM];
    size_t size;
    uint32_t count;
};

static void begin(struct bench *b)
{
    memset(b, 0, sizeof *b);
    rig_start(&b->r, 16 << 20, 2);
    memdb_store_open(b->r.store, 1);
    b->lsn = 1;
}

static void audit(struct bench *b) { CHECK_EQUAL(memdb_store_audit(b->r.store, rig_problem, NULL), MEMDB_OK); }

static void end(struct bench *b)
{
    audit(b);
    rig_stop(&b->r);
}

static size_t key_of(uint8_t key[16], unsigned number)
{
    key[0] = MEMDB_SPACE_PLAIN;
    return 1 + (size_t)snprintf((char *)key + 1, 15, "%u", number);
}

static void apply(struct bench *b, unsigned number, uint64_t expires, uint64_t now)
{
    uint8_t key[16];
    bool existed;
    size_t len = key_of(key, number);
    CHECK_EQUAL(memdb_store_reserve(b->r.store, memdb_store_cost_put(len, 5), 1, MEMDB_FOR_WRITE), MEMDB_OK);
    memdb_store_put(b->r.store, key, len, "value", 5, expires, ++b->lsn, now, &existed);
}

static void publish(struct bench *b) { memdb_store_publish(b->r.store, b->lsn); }

static void put(struct bench *b, unsigned number, uint64_t expires)
{
    apply(b, number, expires, 1);
    publish(b);
}

static void delete(struct bench *b, unsigned number)
{
    uint8_t key[16];
    bool existed;
    size_t len = key_of(key, number);
    CHECK_EQUAL(memdb_store_reserve(b->r.store, memdb_store_cost_delete(len), 0, MEMDB_FOR_DELETE), MEMDB_OK);
    memdb_store_delete(b->r.store, key, len, ++b->lsn, 1, &existed);
}

static uint64_t next(struct bench *b) { return memdb_load_acquire(&b->r.view.header->next_expiry); }
static uint64_t live(struct bench *b) { return memdb_load_relaxed(&b->r.view.header->counts[1]); }
static uint64_t expiring(struct bench *b) { return memdb_load_relaxed(&b->r.view.header->expiring); }

static uint32_t expired(struct bench *b, uint64_t now, size_t max_keys, size_t cap)
{
    memset(b->payload, 0xee, sizeof b->payload);
    b->size = memdb_store_expired(b->r.store, now, max_keys, b->payload, cap, &b->count);
    CHECK(b->size >= 8 && b->size <= cap && b->count <= max_keys);
    return b->count;
}

/* Commits the batch as the commit loop does: a key that has not expired at the commit's time stays. Deletes that found something. */
static unsigned commit_batch(struct bench *b, uint64_t now)
{
    memdb_ops_reader reader;
    memdb_op op;
    memdb_found found;
    unsigned deleted = 0;
    int status = memdb_ops_begin(&reader, b->payload, b->size);
    CHECK_EQUAL(reader.left, b->count);
    b->lsn++;
    while (status == MEMDB_OK && (status = memdb_ops_next(&reader, &op)) == MEMDB_OK) {
        bool existed;
        CHECK(op.code == MEMDB_OP_DELETE && op.flags == MEMDB_OP_ONLY_EXPIRED);
        if (memdb_store_newest(b->r.store, op.key, op.key_len, 0, &found) != MEMDB_OK ||
            memdb_store_newest(b->r.store, op.key, op.key_len, now, &found) != MEMDB_ABSENT)
            continue;
        CHECK_EQUAL(memdb_store_reserve(b->r.store, memdb_store_cost_delete(op.key_len), 0, MEMDB_FOR_DELETE), MEMDB_OK);
        memdb_store_delete(b->r.store, op.key, op.key_len, b->lsn, now, &existed);
        CHECK(!existed);
        deleted++;
    }
    CHECK_EQUAL(status, MEMDB_ABSENT);
    return deleted;
}

static void test_batches(void)
{
    static struct bench b;
    begin(&b);
    CHECK_EQUAL(next(&b), NEVER);
    for (unsigned i = 0; i < 100; i++)
        put(&b, i, i < 60 ? 1000 + i : 0);
    CHECK_EQUAL(next(&b), 1000);
    CHECK_EQUAL(expiring(&b), 60);
    CHECK_EQUAL(live(&b), 100);
    CHECK_EQUAL(expired(&b, 999, 10, ROOM), 0);
    CHECK_EQUAL(expired(&b, 1029, 10, ROOM), 10); /* 30 are due */
    CHECK_EQUAL(next(&b), 1000);                  /* still: they are not deleted */
    audit(&b);
    CHECK_EQUAL(expired(&b, 1029, 10, ROOM), 10); /* the batch was never committed: the same again */
    CHECK_EQUAL(commit_batch(&b, 1029), 10);
    CHECK_EQUAL(live(&b), 100);                   /* not yet published */
    CHECK_EQUAL(expired(&b, 1029, 10, ROOM), 10); /* the next ones; those deleted are not forgotten */
    CHECK_EQUAL(next(&b), 1000);
    CHECK_EQUAL(commit_batch(&b, 1029), 10);
    publish(&b);
    CHECK_EQUAL(live(&b), 80);
    CHECK_EQUAL(expired(&b, 1029, 100, 8 + 3 * 12), 3); /* the buffer ends it, too: operations of 11 or 12 bytes */
    CHECK_EQUAL(next(&b), 1020);
    CHECK_EQUAL(commit_batch(&b, 1029), 3);
    publish(&b);
    CHECK_EQUAL(expired(&b, 1029, 100, ROOM), 7);
    CHECK_EQUAL(commit_batch(&b, 1022), 0); /* the clock was set back: none is deleted ... */
    publish(&b);
    CHECK_EQUAL(expired(&b, 1029, 100, ROOM), 7); /* ... and none is lost */
    CHECK_EQUAL(commit_batch(&b, 1029), 7);
    publish(&b);
    CHECK_EQUAL(expired(&b, 1029, 100, ROOM), 0);
    CHECK_EQUAL(next(&b), 1030);
    CHECK_EQUAL(live(&b), 70);
    CHECK_EQUAL(expiring(&b), 30);
    CHECK_EQUAL(expired(&b, NEVER - 1, 100, 8), 0); /* no room for one */
    CHECK_EQUAL(next(&b), 1030);
    CHECK_EQUAL(expired(&b, NEVER - 1, 100, ROOM), 30);
    commit_batch(&b, NEVER - 1);
    publish(&b);
    CHECK_EQUAL(expired(&b, NEVER - 1, 100, ROOM), 0);
    CHECK_EQUAL(next(&b), NEVER);
    CHECK_EQUAL(live(&b), 40);
    CHECK_EQUAL(expiring(&b), 0);
    end(&b);
}

static void test_changes(void)
{
    static struct bench b;
    begin(&b);
    put(&b, 1, 100); /* put off, again and again: one entry */
    for (unsigned i = 1; i < 1000; i++)
        put(&b, 1, 100 + i);
    CHECK_EQUAL(memdb_load_relaxed(&b.r.view.header->expiry_bytes), 64 * 12);
    CHECK_EQUAL(next(&b), 100); /* a lower bound */
    CHECK_EQUAL(expired(&b, 500, 10, ROOM), 0);
    CHECK_EQUAL(next(&b), 1099); /* now known */
    put(&b, 1, 50); /* brought forward */
    CHECK_EQUAL(next(&b), 50);
    CHECK_EQUAL(expired(&b, 60, 10, ROOM), 1);
    put(&b, 1, 70); /* set again between handing out and deleting */
    CHECK_EQUAL(commit_batch(&b, 60), 0);
    publish(&b);
    CHECK_EQUAL(expired(&b, 60, 10, ROOM), 0);
    CHECK_EQUAL(expired(&b, 70, 10, ROOM), 1);
    put(&b, 1, 0); /* persist */
    CHECK_EQUAL(commit_batch(&b, 70), 0);
    publish(&b);
    CHECK_EQUAL(expired(&b, NEVER - 1, 10, ROOM), 0);
    CHECK_EQUAL(next(&b), NEVER);
    put(&b, 1, 30); /* and given an expiry again */
    delete(&b, 1);
    publish(&b);
    put(&b, 1, 40); /* deleted, set again before it was purged */
    CHECK_EQUAL(expiring(&b), 1);
    audit(&b);
    CHECK_EQUAL(expired(&b, 40, 10, ROOM), 1); /* once, though two entries have come up */
    delete(&b, 1);
    publish(&b);
    while (memdb_store_reclaim(b.r.store, 1000))
        ;
    put(&b, 1, 45); /* a new cell of the same key, while the old one is handed out */
    CHECK_EQUAL(expired(&b, 45, 10, ROOM), 1);
    CHECK_EQUAL(live(&b), 1);
    end(&b);
}

/* Entries in vain: bounded, and the heap that is made anew covers what it did. */
static void test_rebuild(void)
{
    static struct bench b;
    begin(&b);
    for (unsigned i = 0; i < 50; i++)
        put(&b, i, 10000 + i);
    for (unsigned round = 0; round < 400; round++)
        for (unsigned i = 0; i < 10; i++)
            put(&b, i, 9000 - round); /* forward each time: an entry each time */
    audit(&b);
    CHECK(memdb_load_relaxed(&b.r.view.header->expiry_bytes) <= 256 * 12);
    for (unsigned round = 0; round < 400; round++) {
        put(&b, 7, 0);
        put(&b, 7, 12000);
    }
    audit(&b);
    CHECK(memdb_load_relaxed(&b.r.view.header->expiry_bytes) <= 512 * 12);
    CHECK_EQUAL(expired(&b, 9000, 100, ROOM), 9);
    commit_batch(&b, 9000);
    publish(&b);
    CHECK_EQUAL(expired(&b, 20000, 100, ROOM), 41);
    end(&b);
}

/* What readers see counts: a newer version that is not published does not hide that the published one has expired. */
static void test_unpublished(void)
{
    static struct bench b;
    begin(&b);
    uint64_t count;
    put(&b, 1, 100);
    put(&b, 2, 0);
    CHECK_EQUAL(memdb_store_quick_count(&b.r.view, 1, 99, &count), MEMDB_OK);
    CHECK_EQUAL(count, 2);
    CHECK_EQUAL(memdb_store_quick_count(&b.r.view, 1, 100, &count), MEMDB_AGAIN);
    apply(&b, 1, 0, 1); /* a commit that waits */
    CHECK_EQUAL(expired(&b, 150, 10, ROOM), 0);
    CHECK_EQUAL(next(&b), 100);
    apply(&b, 1, 900, 1);
    CHECK_EQUAL(expired(&b, 150, 10, ROOM), 0);
    CHECK_EQUAL(next(&b), 100);
    publish(&b);
    CHECK_EQUAL(expired(&b, 150, 10, ROOM), 0);
    CHECK_EQUAL(next(&b), 900);
    delete(&b, 1);
    CHECK_EQUAL(expired(&b, 901, 10, ROOM), 0);
    CHECK_EQUAL(memdb_store_quick_count(&b.r.view, 1, 901, &count), MEMDB_AGAIN);
    publish(&b);
    CHECK_EQUAL(expired(&b, 901, 10, ROOM), 0);
    CHECK_EQUAL(memdb_store_quick_count(&b.r.view, 1, 901, &count), MEMDB_OK);
    CHECK_EQUAL(count, 1);
    end(&b);
}

/* One call looks at a bounded number of entries, also if none of them is due any more. */
static void test_bounded(void)
{
    static struct bench b;
    begin(&b);
    for (unsigned i = 0; i < 2000; i++)
        put(&b, i, 100);
    for (unsigned i = 0; i < 2000; i++)
        put(&b, i, 5000);
    unsigned calls = 1;
    for (; expired(&b, 100, 10, ROOM) == 0 && next(&b) <= 100; calls++)
        ;
    CHECK(calls > 5 && calls < 10); /* 2000 entries, 4 x 10 + 256 a call */
    CHECK_EQUAL(next(&b), 5000);
    end(&b);
}

static void test_time(void)
{
    static struct bench b;
    begin(&b);
    memdb_a64 latest = 0;
    memdb_view view = b.r.view;
    struct memdb_arena_header *header = memdb_arena_header(b.r.arena);
    view.latest = &latest;
    uint64_t clock = memdb_view_time(&view), ahead = clock + 3600000000;
    CHECK_EQUAL(memdb_load_relaxed(&latest), clock);
    memdb_store_relaxed(&latest, ahead); /* the clock was there, and was set back */
    CHECK_EQUAL(memdb_view_time(&view), ahead);
    memdb_pin pin;
    CHECK_EQUAL(memdb_pin_begin(&pin, &view, &b.r.lease->slots[0][0], MEMDB_PIN_SNAPSHOT), MEMDB_OK);
    CHECK_EQUAL(memdb_pin_time(&pin), ahead);
    memdb_store_relaxed(&header->time_floor, ahead + 5);
    CHECK_EQUAL(memdb_view_time(&view), ahead + 5);
    memdb_store_relaxed(&header->time_floor, 0); /* of another generation, say */
    CHECK_EQUAL(memdb_view_time(&view), ahead + 5);
    CHECK_EQUAL(memdb_pin_time(&pin), ahead); /* a snapshot's time is its own */
    CHECK_EQUAL(memdb_pin_end(&pin), MEMDB_OK);
    apply(&b, 1, 0, ahead + 10);
    CHECK_EQUAL(memdb_load_relaxed(&header->time_floor), ahead + 10);
    apply(&b, 1, 0, clock); /* the floor never falls */
    CHECK_EQUAL(memdb_load_relaxed(&header->time_floor), ahead + 10);
    publish(&b);
    end(&b);
}

/* A reader to whom every expiry here is long past: whenever it gets a count, it is that of the one key without. */
struct reader {
    memdb_view view;
    memdb_a32 stop;
    uint64_t counted;
};

static void *count_always(void *arg)
{
    struct reader *reader = arg;
    uint64_t count;
    while (!memdb_load_acquire(&reader->stop))
        if (memdb_store_quick_count(&reader->view, 1, 1000000, &count) == MEMDB_OK) {
            CHECK_EQUAL(count, 1);
            reader->counted++;
        }
    return NULL;
}

static void test_count_race(void)
{
    static struct bench b;
    struct reader reader = {0};
    pthread_t thread;
    begin(&b);
    put(&b, 0, 0);
    reader.view = b.r.view;
    CHECK_EQUAL(pthread_create(&thread, NULL, count_always, &reader), 0);
    for (unsigned i = 0; i < 20000; i++) {
        put(&b, 1 + i % 5, 10 + i);
        CHECK_EQUAL(expired(&b, 999999, 10, ROOM), 1);
        commit_batch(&b, 999999);
        publish(&b);
        expired(&b, 999999, 10, ROOM);
        CHECK_EQUAL(next(&b), NEVER);
        memdb_store_reclaim(b.r.store, 10);
    }
    memdb_store_release(&reader.stop, 1);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    CHECK(reader.counted > 100);
    end(&b);
}

/* ---------------------------------------------------------------- the model ---------------------------- */

#define KEYS 40u

struct model {
    bool there[KEYS];
    uint64_t expires[KEYS];
};

static void check_model(struct bench *b, const struct model *m, uint64_t now)
{
    uint64_t count = 0, unexpired = 0, with = 0, least = NEVER, quick;
    for (unsigned i = 0; i < KEYS; i++) {
        count += m->there[i];
        unexpired += m->there[i] && (m->expires[i] == 0 || m->expires[i] > now);
        with += m->there[i] && m->expires[i] != 0;
        if (m->there[i] && m->expires[i] != 0 && m->expires[i] < least)
            least = m->expires[i];
    }
    CHECK_EQUAL(live(b), count);
    CHECK_EQUAL(expiring(b), with);
    CHECK(next(b) <= least);
    if (memdb_store_quick_count(&b->r.view, 1, now, &quick) == MEMDB_OK)
        CHECK_EQUAL(quick, unexpired);
}

/* Reaps all that is due; each due key goes, and no other. */
static void reap_all(struct bench *b, struct model *m, uint64_t now, size_t max_keys)
{
    while (expired(b, now, max_keys, ROOM) > 0 || next(b) <= now) {
        commit_batch(b, now);
        publish(b);
    }
    for (unsigned i = 0; i < KEYS; i++)
        if (m->there[i] && m->expires[i] != 0 && m->expires[i] <= now)
            m->there[i] = false;
    uint64_t quick;
    CHECK_EQUAL(memdb_store_quick_count(&b->r.view, 1, now, &quick), MEMDB_OK);
}

static void test_model(void)
{
    static struct bench b;
    uint64_t seed = 11;
    for (unsigned life = 0; life < 60; life++) {
        struct model m = {0};
        uint64_t now = 1000;
        begin(&b);
        for (unsigned turn = 0; turn < 300; turn++) {
            unsigned key = (unsigned)check_random_below(&seed, KEYS), what = (unsigned)check_random_below(&seed, 12);
            if (what < 6) {
                m.there[key] = true;
                m.expires[key] = now + 1 + check_random_below(&seed, 200);
                apply(&b, key, m.expires[key], now);
            } else if (what < 8) {
                m.there[key] = true;
                m.expires[key] = 0;
                apply(&b, key, 0, now);
            } else if (what < 9) {
                m.there[key] = false;
                delete(&b, key);
            } else if (what < 10) {
                now += check_random_below(&seed, 60);
            } else if (what < 11) {
                expired(&b, now, 1 + check_random_below(&seed, 5), ROOM); /* handed out in vain */
            } else {
                publish(&b);
                reap_all(&b, &m, now, 1 + check_random_below(&seed, 8));
            }
            if (check_random_below(&seed, 3) == 0) {
                publish(&b);
                check_model(&b, &m, now);
            }
            if (check_random_below(&seed, 5) == 0)
                memdb_store_reclaim(b.r.store, 100);
            if (turn % 8 == 0)
                audit(&b);
        }
        publish(&b);
        reap_all(&b, &m, NEVER - 1, 7);
        check_model(&b, &m, NEVER - 1);
        CHECK_EQUAL(expiring(&b), 0);
        end(&b);
    }
}

int main(void)
{
    test_batches();
    test_changes();
    test_rebuild();
    test_unpublished();
    test_bounded();
    test_time();
    test_count_race();
    test_model();
    return 0;
}
