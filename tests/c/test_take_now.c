/*
 * Deciding a commit of the group's out of turn (memdb_commit_take_now, rule R5): beside the turn of the others, and while another
 * request is held. The one that is held keeps its place, its bytes and its reads, whatever the group's commit does or fails for.
 * CTEST-MODES: plain asan
 */
#include "validate_rig.h"

#define OS MEMDB_LEVEL_OS
#define SET MEMDB_OP_SET
#define DELETE MEMDB_OP_DELETE
#define ARENA (UINT64_C(4) << 20)
#define LARGE 3999u
#define ROOM 64u /* values whose pages hold what is held, with a page for every size class that it may need */

struct scene {
    struct bench b;
    struct memdb_lease *group;
    uint64_t own; /* requests of the group's lease */
    char value[LARGE + 1];
};

static void begin_scene(struct scene *s, uint64_t capacity)
{
    memdb_commit_config config = rig_config();
    memset(s, 0, sizeof *s);
    config.word = RIG_WORD;
    rig_begin(&s->b.rig, &config, ARENA, 16 << 20);
    CHECK_EQUAL(rig_open_segment(&s->b.rig, capacity, 1 << 20), MEMDB_OK);
    s->b.lease = rig_join(&s->b.rig, 1);
    s->group = rig_join(&s->b.rig, 9);
    memdb_commit_allow_system(s->b.rig.commit, s->group);
    memset(s->value, 'v', LARGE);
}

static void end_scene(struct scene *s)
{
    munmap(s->group, sizeof *s->group);
    end(&s->b);
}

static int take(struct scene *s) { return memdb_commit_take_now(s->b.rig.commit, s->group); }

static void group_op(struct scene *s, uint8_t code, const char *key, const char *value)
{
    rig_op(&s->b.rig, s->group, ++s->own, OS, code, 0, key, value, 0);
}

static unsigned group_status(struct scene *s) { return (unsigned)rig_status(s->group, s->own); }

static const char *name(unsigned i)
{
    static char key[16];
    snprintf(key, sizeof key, "p%u", i);
    return key;
}

/* Values until one finds no room: that one is held, and the caller is asked. How many found room. */
static unsigned fill(struct scene *s)
{
    for (unsigned i = 0;; i++) {
        CHECK(i < 5000);
        rig_op(&s->b.rig, s->b.lease, ++s->b.request, OS, SET, 0, name(i), s->value, 0);
        int event = memdb_commit_step(s->b.rig.commit);
        if (event >= 0)
            continue;
        CHECK_EQUAL(-event, MEMDB_EVENT_PRESSURE);
        return i;
    }
}

/* Any request instead of the last one of fill(): held as that was. */
static void hold(struct scene *s, const struct payload *payload, uint8_t flags)
{
    memdb_commit_pressure_done(s->b.rig.commit, 0);
    step(&s->b);
    CHECK_EQUAL((unsigned)rig_status(s->b.lease, s->b.request), (unsigned)MEMDB_FULL);
    CHECK_EQUAL(rig_submit(&s->b.rig, s->b.lease, MEMDB_ENTRY_COMMIT, ++s->b.request, OS, flags, payload), MEMDB_OK);
    CHECK_EQUAL(-memdb_commit_step(s->b.rig.commit), MEMDB_EVENT_PRESSURE);
}

/* Some of what fill() has put there goes by commits of the group's, each out of turn. */
static void make_room(struct scene *s, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        group_op(s, DELETE, name(i), NULL);
        CHECK_EQUAL(take(s), MEMDB_OK);
        CHECK(!rig_done(s->b.lease, s->b.request)); /* still held */
    }
}

/* Room was made: what is held is decided again. */
static void go_on(struct scene *s)
{
    CHECK_EQUAL(-memdb_commit_step(s->b.rig.commit), MEMDB_EVENT_PRESSURE); /* asked until it is told; publishes what the group did */
    CHECK_EQUAL(group_status(s), MEMDB_OK);
    memdb_commit_pressure_done(s->b.rig.commit, 1);
    step(&s->b);
}

/* ---------------------------------------------------------------- nothing is held ---------------------- */

static void test_out_of_turn(void)
{
    static struct scene s;
    begin_scene(&s, 16 << 20);
    CHECK_EQUAL(take(&s), MEMDB_ABSENT);
    CHECK_EQUAL((unsigned)memdb_commit_take_now(s.b.rig.commit, rig_lease_for(5)), (unsigned)MEMDB_INVALID); /* nobody's */
    rig_op(&s.b.rig, s.b.lease, ++s.b.request, OS, SET, 0, "k", "theirs", 0);
    group_op(&s, SET, "k", "ours");
    group_op(&s, SET, "l", "ours");
    CHECK_EQUAL(take(&s), MEMDB_OK); /* one of the group's two, none of the client's */
    CHECK(!rig_done(s.group, 1));    /* published and answered by the step that follows */
    CHECK(rig_reads(&s.b.rig, s.b.lease, "k", NULL));
    memdb_commit_close_intake(s.b.rig.commit, 1);
    CHECK_EQUAL(take(&s), MEMDB_AGAIN);
    step(&s.b);
    CHECK_EQUAL((unsigned)rig_status(s.group, 1), MEMDB_OK);
    CHECK(rig_reads(&s.b.rig, s.b.lease, "k", "ours"));
    CHECK(!rig_done(s.group, 2) && !rig_done(s.b.lease, 1));
    memdb_commit_close_intake(s.b.rig.commit, 0);
    memdb_commit_want_rotate(s.b.rig.commit);
    CHECK_EQUAL(take(&s), MEMDB_AGAIN);
    CHECK_EQUAL(memdb_commit_flush(s.b.rig.commit), MEMDB_OK);
    CHECK_EQUAL(rig_open_segment(&s.b.rig, 16 << 20, 1 << 20), MEMDB_OK);
    step(&s.b);
    CHECK_EQUAL(group_status(&s), MEMDB_OK);
    CHECK(rig_reads(&s.b.rig, s.b.lease, "k", "theirs"));
    CHECK_EQUAL(take(&s), MEMDB_ABSENT);
    end_scene(&s);
}

/* It waits for its log as any other does, and keeps its place until then. */
static void test_the_log_has_no_room(void)
{
    static struct scene s;
    begin_scene(&s, MEMDB_SEGMENT_HEADER + 4 * MEMDB_LOGBUF_SLACK);
    group_op(&s, SET, "a", s.value);
    CHECK_EQUAL(take(&s), MEMDB_OK);
    group_op(&s, SET, "b", s.value);
    group_op(&s, SET, "c", s.value);
    CHECK_EQUAL(take(&s), MEMDB_OK);
    CHECK_EQUAL(-take(&s), MEMDB_EVENT_ROTATE);
    CHECK_EQUAL(-memdb_commit_step(s.b.rig.commit), MEMDB_EVENT_ROTATE);
    CHECK_EQUAL(memdb_commit_flush(s.b.rig.commit), MEMDB_OK);
    CHECK_EQUAL(rig_open_segment(&s.b.rig, 16 << 20, 1 << 20), MEMDB_OK);
    step(&s.b);
    CHECK_EQUAL(group_status(&s), MEMDB_OK);
    CHECK(!rig_reads(&s.b.rig, s.b.lease, "c", NULL));
    end_scene(&s);
}

/* ---------------------------------------------------------------- another one is held ------------------ */

static void test_the_held_one_keeps_its_bytes(void)
{
    static struct scene s;
    static struct payload payload;
    begin_scene(&s, 16 << 20);
    unsigned count = fill(&s);
    payload_begin(&payload);
    payload_op(&payload, SET, 0, "large", s.value, 0);
    payload_op(&payload, SET, 0, "small", "as it was sent", 0);
    hold(&s, &payload, 0);
    CHECK_EQUAL(take(&s), MEMDB_ABSENT);
    make_room(&s, ROOM);
    CHECK_EQUAL(-memdb_commit_step(s.b.rig.commit), MEMDB_EVENT_PRESSURE);
    go_on(&s);
    CHECK_EQUAL((unsigned)rig_status(s.b.lease, s.b.request), MEMDB_OK);
    CHECK_EQUAL(RIG_RESULT(s.b.lease, s.b.request, count), 2);
    CHECK(rig_reads(&s.b.rig, s.b.lease, "small", "as it was sent"));
    CHECK(rig_reads(&s.b.rig, s.b.lease, name(7), NULL) && !rig_reads(&s.b.rig, s.b.lease, name(count - 1), NULL));
    end_scene(&s);
}

/* The group's own finds no room either: it is answered `full`, and nothing else has changed. */
static void test_neither_finds_room(void)
{
    static struct scene s;
    begin_scene(&s, 16 << 20);
    unsigned count = fill(&s);
    for (unsigned i = 0; i < 3; i++) {
        group_op(&s, SET, name(10000 + i), s.value);
        CHECK_EQUAL(take(&s), MEMDB_AGAIN);
        CHECK_EQUAL(-memdb_commit_step(s.b.rig.commit), MEMDB_EVENT_PRESSURE);
        CHECK_EQUAL(group_status(&s), (unsigned)MEMDB_FULL);
    }
    CHECK(!rig_done(s.b.lease, s.b.request));
    make_room(&s, ROOM);
    go_on(&s);
    CHECK_EQUAL((unsigned)rig_status(s.b.lease, s.b.request), MEMDB_OK);
    CHECK(!rig_reads(&s.b.rig, s.b.lease, name(count), NULL));
    CHECK(rig_reads(&s.b.rig, s.b.lease, name(10000), NULL));
    end_scene(&s);
}

/* What the group's commit did under a held transaction counts for that: its reads are judged when it is decided (rule C6). */
static void test_the_held_one_is_judged_anew(int by_range)
{
    static struct scene s;
    static struct payload payload, whole;
    begin_scene(&s, 16 << 20);
    fill(&s);
    uint64_t snapshot = memdb_load_relaxed(&memdb_arena_header(s.b.rig.arena)->published);
    section_begin(&s.b.section, snapshot);
    if (by_range)
        section_range(&s.b.section, "p0", "p1");
    else
        section_point(&s.b.section, "p0", 2); /* the LSN of the first commit */
    payload_begin(&payload);
    payload_op(&payload, SET, 0, "large", s.value, 0);
    section_join(&s.b.section, &payload, &whole);
    hold(&s, &whole, MEMDB_ENTRY_VALIDATE);
    make_room(&s, ROOM); /* p0 first */
    go_on(&s);
    CHECK_EQUAL((unsigned)rig_status(s.b.lease, s.b.request), MEMDB_CONFLICT);
    CHECK_EQUAL(RIG_RESULT(s.b.lease, s.b.request, count), by_range ? MEMDB_CONFLICT_RANGE : MEMDB_CONFLICT_POINT);
    CHECK_EQUAL(RIG_RESULT(s.b.lease, s.b.request, winner), RIG_RESULT(s.group, 1, lsn));
    CHECK(rig_reads(&s.b.rig, s.b.lease, "large", NULL));
    end_scene(&s);
}

/* A large one that came in frames is held: its bytes lie in the staging of its client. */
static void test_a_staged_one_is_held(void)
{
    static struct scene s;
    static struct payload payload;
    begin_scene(&s, 16 << 20);
    fill(&s);
    memdb_commit_pressure_done(s.b.rig.commit, 0);
    step(&s.b);
    payload_begin(&payload);
    payload_op(&payload, SET, 0, "large", s.value, 0);
    payload_op(&payload, SET, 0, "small", "in two pieces", 0);
    struct memdb_entry frame = {.size = (uint32_t)(sizeof frame + 1000), .kind = MEMDB_ENTRY_FRAME, .request = ++s.b.request, .cell = MEMDB_CELLS};
    CHECK_EQUAL(memdb_lease_submit(s.b.lease, s.b.rig.board, &frame, payload.bytes), MEMDB_OK);
    struct memdb_entry last = {.size = (uint32_t)(sizeof last + payload.len - 1000), .kind = MEMDB_ENTRY_COMMIT, .flags = MEMDB_ENTRY_STAGED,
                               .level = OS, .request = s.b.request, .cell = (uint32_t)(s.b.request % MEMDB_CELLS), .frame = 1};
    CHECK_EQUAL(memdb_lease_submit(s.b.lease, s.b.rig.board, &last, payload.bytes + 1000), MEMDB_OK);
    CHECK_EQUAL(-memdb_commit_step(s.b.rig.commit), MEMDB_EVENT_PRESSURE);
    make_room(&s, ROOM);
    go_on(&s);
    CHECK_EQUAL((unsigned)rig_status(s.b.lease, s.b.request), MEMDB_OK);
    CHECK(rig_reads(&s.b.rig, s.b.lease, "small", "in two pieces"));
    end_scene(&s);
}

/* The client of the held request goes meanwhile: its request is done in its place, and answered nowhere. */
static void test_the_held_ones_client_departs(void)
{
    static struct scene s;
    static struct payload payload;
    begin_scene(&s, 16 << 20);
    fill(&s);
    payload_begin(&payload);
    payload_op(&payload, SET, 0, "large", s.value, 0);
    payload_op(&payload, SET, 0, "small", "left behind", 0);
    hold(&s, &payload, 0);
    memdb_commit_remove_lease(s.b.rig.commit, s.b.lease);
    make_room(&s, ROOM);
    go_on(&s);
    CHECK(!rig_done(s.b.lease, s.b.request));
    CHECK(rig_reads(&s.b.rig, s.group, "small", "left behind"));
    end_scene(&s);
}

/* Entries that break the rules drop the group's lease as they would any other, and leave the held one alone. */
static void test_nonsense(void)
{
    static struct scene s;
    begin_scene(&s, 16 << 20);
    unsigned count = fill(&s);
    make_room(&s, ROOM);
    memdb_store_sc(&s.group->ring_tail, memdb_load_relaxed(&s.group->ring_head) + 3 * MEMDB_RING_BYTES);
    CHECK_EQUAL(take(&s), MEMDB_ABSENT);
    CHECK_EQUAL((unsigned)take(&s), (unsigned)MEMDB_INVALID);
    CHECK_EQUAL(-memdb_commit_step(s.b.rig.commit), MEMDB_EVENT_PRESSURE);
    memdb_commit_pressure_done(s.b.rig.commit, 1);
    step(&s.b);
    CHECK_EQUAL((unsigned)rig_status(s.b.lease, s.b.request), MEMDB_OK);
    CHECK(!rig_reads(&s.b.rig, s.b.lease, name(count), NULL));
    end_scene(&s);
}

int main(void)
{
    test_out_of_turn();
    test_the_log_has_no_room();
    test_the_held_one_keeps_its_bytes();
    test_neither_finds_room();
    test_the_held_one_is_judged_anew(0);
    test_the_held_one_is_judged_anew(1);
    test_a_staged_one_is_held();
    test_the_held_ones_client_departs();
    test_nonsense();
    return 0;
}
