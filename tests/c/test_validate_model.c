/*
 * Random transactions at random snapshots, validated (rule C6), against a model that remembers the version of each key after each commit
 * and every key and range that was changed: what may commit does, what may not is refused for a reason that is true.
 * The window is tiny, so that it overflows often.
 * CTEST-MODES: plain asan
 * CTEST-CFLAGS: -DMEMDB_WINDOW_ENTRIES=64 -DMEMDB_WINDOW_BYTES=400
 */
#include "validate_rig.h"

#define KEYS 26u
#define HISTORY 4096u

struct event { /* a key that was set or deleted, or a range of which something was */
    uint64_t lsn;
    char start, stop; /* stop 0: the key itself */
};

struct model {
    uint64_t now[KEYS];              /* version of each key, 0: none */
    uint64_t past[HISTORY][KEYS];    /* the same after each LSN */
    struct event events[HISTORY];
    unsigned event_count;
};

static void remember(struct model *m, uint64_t lsn, char start, char stop)
{
    m->events[m->event_count++] = (struct event){lsn, start, stop};
    CHECK(lsn < HISTORY && m->event_count < HISTORY);
    memcpy(m->past[lsn], m->now, sizeof m->now);
}

/* One plain commit. */
static void model_change(struct bench *b, struct model *m, uint64_t *seed)
{
    char key[2] = {(char)('a' + check_random_below(seed, KEYS)), 0}, stop[3] = {1, (char)('a' + check_random_below(seed, KEYS)), 0};
    unsigned at = (unsigned)(key[0] - 'a'), what = (unsigned)check_random_below(seed, 10);
    if (what < 7) {
        uint64_t lsn = set(b, key);
        m->now[at] = lsn;
        remember(m, lsn, key[0], 0);
    } else if (what < 9) {
        uint64_t lsn = op(b, MEMDB_OP_DELETE, 0, key, NULL, 0);
        if (m->now[at] == 0)
            return;
        m->now[at] = 0;
        remember(m, lsn, key[0], 0);
    } else {
        uint64_t lsn = op(b, MEMDB_OP_DELETE_RANGE, 0, key, stop, 0);
        int any = 0;
        for (char c = key[0]; c < stop[1]; c++) {
            any |= m->now[c - 'a'] != 0;
            m->now[c - 'a'] = 0;
        }
        if (any)
            remember(m, lsn, key[0], stop[1]);
    }
}

static uint64_t range_winner(const struct model *m, uint64_t snapshot, char start, char stop)
{
    uint64_t winner = 0;
    for (unsigned i = 0; i < m->event_count; i++) {
        const struct event *e = &m->events[i];
        char last = e->stop ? e->stop : (char)(e->start + 1);
        if (e->lsn > snapshot && start < stop && start < last && e->start < stop)
            winner = e->lsn;
    }
    return winner;
}

/* One transaction that has read at `snapshot`; true if the window was too short for it. */
static int model_transaction(struct bench *b, struct model *m, uint64_t *seed, uint64_t snapshot)
{
    char starts[8], stops[8], written[2] = {(char)('a' + check_random_below(seed, KEYS)), 0};
    uint64_t winners[8], expected = 8;
    unsigned count = (unsigned)check_random_below(seed, 9);
    section_begin(&b->section, snapshot);
    for (unsigned i = 0; i < count; i++) {
        starts[i] = (char)('a' + check_random_below(seed, KEYS));
        stops[i] = check_random_below(seed, 2) ? (char)(starts[i] + check_random_below(seed, 5)) : 0;
        char start[2] = {starts[i], 0}, stop[2] = {stops[i], 0};
        uint64_t seen = m->past[snapshot][starts[i] - 'a'];
        winners[i] = stops[i] ? range_winner(m, snapshot, starts[i], stops[i]) : (uint64_t)(m->now[starts[i] - 'a'] != seen);
        if (stops[i])
            section_range(&b->section, start, stop);
        else
            section_point(&b->section, start, seen);
        if (winners[i] && expected == 8)
            expected = i;
    }
    int status = commit(b, written);
    uint64_t reason = RIG_RESULT(b->lease, b->request, count), detail = RIG_RESULT(b->lease, b->request, detail);
    if (status == MEMDB_CONFLICT && reason == MEMDB_CONFLICT_WINDOW) {
        CHECK(m->event_count - 1 > 60 && m->events[m->event_count - 60].lsn > snapshot); /* it has room for more than 60 */
        return 1;
    }
    if (expected == 8) {
        CHECK_EQUAL(status, MEMDB_OK);
        m->now[written[0] - 'a'] = RIG_RESULT(b->lease, b->request, lsn);
        remember(m, m->now[written[0] - 'a'], written[0], 0);
        return 0;
    }
    CHECK_EQUAL(status, MEMDB_CONFLICT);
    CHECK(detail < count && winners[detail] != 0 && (reason == MEMDB_CONFLICT_RANGE) == (stops[detail] != 0));
    if (reason == MEMDB_CONFLICT_RANGE)
        CHECK_EQUAL(RIG_RESULT(b->lease, b->request, winner), winners[detail]);
    for (unsigned i = 0; i < detail; i++)
        CHECK(winners[i] == 0 || stops[i] != 0); /* no point before it is passed over */
    return 0;
}

static void test_model(void)
{
    static struct bench b;
    static struct model m;
    uint64_t seed = 6;
    unsigned short_windows = 0, commits = 0;
    for (unsigned life = 0; life < 20; life++) {
        memset(&m, 0, sizeof m);
        begin(&b);
        memcpy(m.past[1], m.now, sizeof m.now);
        for (unsigned turn = 0; turn < 400; turn++) {
            model_change(&b, &m, &seed);
            uint64_t last = m.event_count ? m.events[m.event_count - 1].lsn : 1;
            uint64_t back = check_random_below(&seed, check_random_below(&seed, 4) ? 8 : 120);
            uint64_t snapshot = last > back + 1 ? last - back : last;
            short_windows += (unsigned)model_transaction(&b, &m, &seed, snapshot);
        }
        commits += m.event_count;
        end(&b);
    }
    CHECK(short_windows > 100 && commits > 10000);
}

int main(void)
{
    test_model();
    return 0;
}
