/* The writer stops after its n-th store to shared memory, for every n of all workloads of up to three operations.
 *
 * After each stop: a reader that comes now sees exactly the model at the published LSN, a snapshot from before the last operation
 * still sees its own state, the structure is sound, next_expiry is not above any expiry that is to be seen, and the next generation (built by reading, then the log above it applied)
 * is the model at the log's end with no block lost or doubled. Stops inside the first operations of a workload are those of
 * the shorter workloads, so only the last operation of each is stopped.
 * CTEST-CFLAGS: -DMEMDB_STORE_HOOK -DMEMDB_BLOCK_MAX=4
 * CTEST-MODES: plain asan
 */
#include <setjmp.h>

#include "store_rig.h"

#define KEYS 14
#define OPERATIONS 9
#define LIMIT (512u << 10)
#define FAR (UINT64_C(1) << 60) /* some values expire, long after this test, the later ones earlier */

const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; } /* a killed writer frees nothing either */

static jmp_buf stopped;
static int64_t countdown = -1, counted;

void memdb_store_hook(void)
{
    if (countdown < 0)
        return;
    counted++;
    if (countdown-- == 0) {
        countdown = -1;
        longjmp(stopped, 1);
    }
}

static const char *const keys[KEYS] = {"\1a", "\1b", "\1bb", "\1c", "\1cc", "\1d", "\1dd", "\1e", "\1f", "\1ff", "\1g", "\1h", "\1hh", "\2z"};
static uint8_t large[3000];

static void *bases[2];
static struct memdb_lease *leases[2];

/* The same memory each time, full of an earlier run's bytes. */
static void rig_begin(rig *r, unsigned generation)
{
    if (!bases[generation]) {
        bases[generation] = rig_map(LIMIT + LIMIT / 4);
        leases[generation] = rig_map(sizeof(struct memdb_lease));
    }
    memset(leases[generation]->slots[generation], 0, 8 * sizeof(struct memdb_slot));
    rig_start_on(r, bases[generation], leases[generation], LIMIT, generation);
    memdb_store_relaxed(&r->lease->slots_used, 8);
}

#ifdef __SANITIZE_ADDRESS__ /* six times slower: the plain build runs them all */
#define LONGEST 2
#else
#define LONGEST 3
#endif

typedef struct state { /* per key: LSN that wrote it (0: absent) and length of the value */
    uint64_t lsn[KEYS];
    uint32_t len[KEYS];
} state;

typedef struct run {
    rig r;
    state at[6]; /* by LSN */
    uint64_t lsn;
} run;

static void change(run *w, memdb_store *store, state *s, int key, int64_t len)
{
    bool existed;
    size_t key_len = strlen(keys[key]);
    if (len < 0) {
        CHECK_EQUAL(memdb_store_reserve(store, memdb_store_cost_delete(key_len), 0, MEMDB_FOR_DELETE), MEMDB_OK);
        memdb_store_delete(store, keys[key], key_len, w->lsn, 1, &existed);
        s->lsn[key] = 0;
        return;
    }
    CHECK_EQUAL(memdb_store_reserve(store, memdb_store_cost_put(key_len, (size_t)len), 1, MEMDB_FOR_WRITE), MEMDB_OK);
    memdb_store_put(store, keys[key], key_len, large, (size_t)len, len == 8 || len == 40 ? FAR - w->lsn : 0, w->lsn, 1, &existed);
    s->lsn[key] = w->lsn;
    s->len[key] = (uint32_t)len;
}

/* The changes of one operation, without publishing: also what replaying its record does. Returns false for a bare reclaim. */
static bool apply(run *w, memdb_store *store, state *s, int operation)
{
    switch (operation) {
    case 0: change(w, store, s, 2, 5); break;                                       /* insert in the middle, or update */
    case 1: change(w, store, s, 12, 40); break;                                     /* insert near the end */
    case 2: change(w, store, s, 3, 8); break;                                       /* overwrite */
    case 3: change(w, store, s, 3, 2500); break;                                    /* out of line */
    case 4: change(w, store, s, 3, -1); break;                                      /* delete */
    case 5: change(w, store, s, 2, 1); change(w, store, s, 4, 2); change(w, store, s, 2, -1); break; /* one commit, three changes */
    case 6: change(w, store, s, 9, 3); change(w, store, s, 9, 90); break;           /* the same key twice */
    case 7: /* range delete: empties whole blocks */
        memdb_store_delete_range(store, "\1d", 2, "\1h", 2, w->lsn, 1);
        for (int i = 5; i < 11; i++)
            s->lsn[i] = 0;
        break;
    default: return false;
    }
    return true;
}

static void perform(run *w, int operation)
{
    w->at[w->lsn + 1] = w->at[w->lsn];
    w->lsn++;
    apply(w, w->r.store, &w->at[w->lsn], operation); /* the log has the record already */
    memdb_store_publish(w->r.store, w->lsn);
    for (int i = 0; i < 3; i++)
        memdb_store_reclaim(w->r.store, operation == 8 ? 1000 : 2);
}

static void check_state(memdb_pin *pin, const state *s)
{
    static uint8_t out[32768], copy[4096];
    memdb_found found;
    memdb_scan scan;
    memdb_batch batch = {.out = out, .cap = sizeof out};
    uint32_t live = 0;
    uint64_t count;
    for (int i = 0; i < KEYS; i++) {
        int status = memdb_store_get(pin, keys[i], strlen(keys[i]), &found);
        CHECK_EQUAL(status, s->lsn[i] ? MEMDB_OK : MEMDB_ABSENT);
        if (status != MEMDB_OK)
            continue;
        CHECK_EQUAL(found.lsn, s->lsn[i]);
        CHECK_EQUAL(found.len, s->len[i]);
        memdb_copy_out(copy, found.data, found.len);
        CHECK(memcmp(copy, large, found.len) == 0);
        CHECK_EQUAL(found.expires_us, found.len == 8 || found.len == 40 ? FAR - found.lsn : 0);
        if (found.expires_us && pin->lsn == memdb_load_relaxed(&pin->view.header->published))
            CHECK(memdb_load_acquire(&pin->view.header->next_expiry) <= found.expires_us);
        live++;
    }
    for (int reverse = 0; reverse < 2; reverse++) {
        CHECK_EQUAL(memdb_scan_init(&scan, NULL, 0, NULL, 0, reverse, UINT64_MAX, false), MEMDB_OK);
        CHECK_EQUAL(memdb_scan_batch(pin, &scan, &batch), MEMDB_OK);
        CHECK_EQUAL(batch.count, live);
        CHECK(batch.ended);
        memdb_scan_clear(&scan);
    }
    CHECK_EQUAL(memdb_store_verify(pin, rig_problem, NULL, &count), MEMDB_OK);
    CHECK_EQUAL(count, live);
}

static void check_next_generation(run *w, const int *operations, int base)
{
    static rig next;
    memdb_pin pin, after;
    CHECK_EQUAL(memdb_pin_begin(&pin, &w->r.view, &w->r.lease->slots[0][3], MEMDB_PIN_CHECKPOINT), MEMDB_OK);
    uint64_t from = pin.lsn, end = w->lsn;
    rig_begin(&next, 1);
    CHECK_EQUAL(memdb_bulk_copy(next.store, &pin, NULL), MEMDB_OK);
    memdb_pin_close(&pin);
    memdb_store_open(next.store, from);
    state s = w->at[from];
    for (uint64_t lsn = from + 1; lsn <= end; lsn++) { /* the log above it */
        w->lsn = lsn;
        apply(w, next.store, &s, operations[(int)lsn - base]);
        memdb_store_publish(next.store, lsn);
    }
    CHECK_EQUAL(memdb_pin_begin(&after, &next.view, &next.lease->slots[1][0], MEMDB_PIN_POINT), MEMDB_OK);
    check_state(&after, &s);
    CHECK_EQUAL(memdb_pin_end(&after), MEMDB_OK);
    while (memdb_store_reclaim(next.store, 1000)) {
    }
    CHECK_EQUAL(memdb_store_audit(next.store, rig_problem, NULL), MEMDB_OK);
    rig_leave(&next);
}

static void start(run *w)
{
    rig_begin(&w->r, 0);
    memset(w->at, 0, sizeof w->at);
    memdb_store_open(w->r.store, 1);
    w->lsn = 1;
    for (int i = 0; i < KEYS; i++)
        if (i != 2 && i != 4 && i != 12)
            change(w, w->r.store, &w->at[1], i, i);
    uint8_t key[3] = {3, 0, 0}; /* the next insert makes the hash index grow */
    for (int i = 0; i < 37; i++, key[1]++)
        rig_put(&w->r, key, 3, "", 0, 0, 1);
    bool existed;
    for (int i = 0; i < 37; i++)
        memdb_store_delete(w->r.store, (uint8_t[]){3, (uint8_t)i, 0}, 3, 1, 1, &existed);
    memdb_store_publish(w->r.store, 1);
}

/* Runs the workload and stops the last operation before its store number `at`; false when it has no such store. */
static bool stop_at(const int *operations, int count, int64_t at, bool snapshot)
{
    static run w;
    static memdb_pin old, now;
    static bool finished;
    start(&w);
    for (int i = 0; i + 1 < count; i++)
        perform(&w, operations[i]);
    uint64_t before = w.lsn;
    if (snapshot) {
        CHECK_EQUAL(memdb_pin_begin(&old, &w.r.view, &w.r.lease->slots[0][1], MEMDB_PIN_SNAPSHOT), MEMDB_OK);
        CHECK_EQUAL(memdb_pin_leave(&old), MEMDB_OK);
    }
    finished = false;
    if (setjmp(stopped) == 0) {
        countdown = at;
        perform(&w, operations[count - 1]);
        finished = true;
    }
    countdown = -1;
    if (finished)
        CHECK_EQUAL(memdb_store_audit(w.r.store, rig_problem, NULL), MEMDB_OK);
    else /* what the record in the log says, in case the model was stopped half-way */
        w.lsn = before + 1;
    CHECK_EQUAL(memdb_pin_begin(&now, &w.r.view, &w.r.lease->slots[0][0], MEMDB_PIN_POINT), MEMDB_OK);
    CHECK(now.lsn == before || now.lsn == before + 1);
    check_state(&now, &w.at[now.lsn]);
    CHECK_EQUAL(memdb_pin_end(&now), MEMDB_OK);
    if (snapshot) {
        CHECK_EQUAL(memdb_pin_enter(&old), MEMDB_OK);
        CHECK_EQUAL(old.lsn, before);
        check_state(&old, &w.at[before]);
        memdb_pin_close(&old);
    }
    check_next_generation(&w, operations, 2);
    rig_leave(&w.r);
    return !finished;
}

int main(void)
{
    int operations[3];
    memset(large, 'L', sizeof large);
    uint64_t runs = 0, workloads = 0;
    for (int count = 1; count <= LONGEST; count++) {
        int all = count == 1 ? OPERATIONS : count == 2 ? OPERATIONS * OPERATIONS : OPERATIONS * OPERATIONS * OPERATIONS;
        for (int number = 0; number < all; number++, workloads++) {
            for (int i = 0, n = number; i < count; i++, n /= OPERATIONS)
                operations[i] = n % OPERATIONS;
            for (int64_t at = 0; stop_at(operations, count, at, number % 2 || count < 3); at++)
                runs++;
        }
    }
    printf("test_stop: %llu workloads, %llu stops\n", (unsigned long long)workloads, (unsigned long long)runs);
    CHECK(runs > (LONGEST == 3 ? 100000 : 10000));
    return 0;
}
