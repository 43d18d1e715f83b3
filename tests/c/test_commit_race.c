/*
 * Clients, commit thread and sync thread at once, for ThreadSanitizer: every level, rotation, withdrawal, large commits, clients that
 * leave in the middle, and readers that must see both keys of a commit or none, and never a value that is not acknowledged in order.
 * CTEST-ARGS: 1000
 */
#include <pthread.h>

#include "commit_rig.h"

#define CLIENTS 4u

struct race {
    struct rig rig;
    unsigned rounds;
    memdb_a32 finished;
};
struct player { struct race *race; struct memdb_lease *lease; unsigned number; };

static void wait_for(struct memdb_lease *lease, uint64_t request)
{
    int status;
    while ((status = memdb_lease_wait(lease, (uint32_t)(request % MEMDB_CELLS), request % 3 * 20, 60000000)) == MEMDB_AGAIN)
        ;
    CHECK_EQUAL(status, MEMDB_OK);
}

/* Both keys of this client get the same number, at a level by turns; every seventh is tried to be withdrawn. */
static void *play(void *arg)
{
    struct player *player = arg;
    struct race *race = player->race;
    struct payload *payload = malloc(sizeof *payload);
    char left[16], right[16], value[16];
    uint64_t last_lsn = 0;
    snprintf(left, sizeof left, "l%u", player->number);
    snprintf(right, sizeof right, "r%u", player->number);
    for (uint64_t request = 1; request <= race->rounds; request++) {
        snprintf(value, sizeof value, "%08u", (unsigned)request);
        payload_begin(payload);
        payload_op(payload, MEMDB_OP_SET, 0, left, value, 0);
        payload_op(payload, MEMDB_OP_SET, 0, right, value, 0);
        CHECK_EQUAL(rig_submit(&race->rig, player->lease, MEMDB_ENTRY_COMMIT, request, (uint8_t)(request % 3), 0, payload), MEMDB_OK);
        if (request % 7 == 0 && memdb_lease_withdraw(player->lease, (uint32_t)(request % MEMDB_CELLS)) == MEMDB_OK)
            continue;
        wait_for(player->lease, request);
        CHECK_EQUAL(rig_status(player->lease, request), MEMDB_OK);
        CHECK(RIG_RESULT(player->lease, request, lsn) > last_lsn);
        last_lsn = RIG_RESULT(player->lease, request, lsn);
        CHECK(memdb_load_sc(&memdb_arena_header(race->rig.arena)->published) >= last_lsn); /* it reads its own write */
    }
    memdb_add_sc(&race->finished, 1);
    memdb_bell_ring(race->rig.board);
    free(payload);
    return NULL;
}

static int read_key(struct memdb_pin *pin, const char *key, uint8_t out[8])
{
    uint8_t stored[16] = {MEMDB_SPACE_PLAIN};
    memdb_found found;
    memcpy(stored + 1, key, strlen(key));
    int status = memdb_store_get(pin, stored, strlen(key) + 1, &found);
    if (status == MEMDB_OK) {
        CHECK_EQUAL(found.len, 8);
        memdb_copy_out(out, found.data, 8);
    }
    return status;
}

static void *read_pairs(void *arg)
{
    struct player *player = arg;
    memdb_view view = memdb_arena_view(player->race->rig.arena);
    struct memdb_slot *slot = &player->lease->slots[view.parity][0];
    memdb_store_sc(&player->lease->slots_used, 1);
    for (unsigned turn = 0; memdb_load_relaxed(&player->race->finished) < CLIENTS; turn++) {
        char left[16], right[16];
        uint8_t a[8] = {0}, b[8] = {0};
        memdb_pin pin;
        snprintf(left, sizeof left, "l%u", turn % CLIENTS);
        snprintf(right, sizeof right, "r%u", turn % CLIENTS);
        CHECK_EQUAL(memdb_pin_begin(&pin, &view, slot, MEMDB_PIN_POINT), MEMDB_OK);
        int first = read_key(&pin, left, a), second = read_key(&pin, right, b);
        if (memdb_pin_end(&pin) != MEMDB_OK)
            continue;
        CHECK_EQUAL(first, second);
        CHECK(memcmp(a, b, 8) == 0);
    }
    return NULL;
}

static void rotate(struct race *race)
{
    CHECK_EQUAL(memdb_commit_flush(race->rig.commit), MEMDB_OK);
    CHECK_EQUAL(rig_open_segment(&race->rig, 128 << 10, 1 << 20), MEMDB_OK);
}

/* Another client comes, publishes, and is gone before it is answered, again and again. */
static void visit(struct race *race, unsigned turn)
{
    struct memdb_lease *visitor = rig_join(&race->rig, (uint8_t)(100 + turn % 100));
    rig_op(&race->rig, visitor, 1, (uint8_t)(turn % 3), MEMDB_OP_SET, 0, "visitor", "was here", 0);
    memdb_commit_remove_lease(race->rig.commit, visitor);
    munmap(visitor, sizeof *visitor);
}

static void *commit_thread(void *arg)
{
    struct race *race = arg;
    unsigned turn = 0;
    memdb_commit_figures figures;
    do {
        int event = memdb_commit_run(race->rig.commit, memdb_clock_monotonic_us() + 2000);
        if (event == MEMDB_EVENT_ROTATE)
            rotate(race);
        else
            CHECK(event == MEMDB_EVENT_NONE || event == MEMDB_EVENT_CONTROL);
        if (++turn % 4 == 0 && turn < 200)
            visit(race, turn);
        memdb_commit_get_figures(race->rig.commit, &figures);
        CHECK(figures.published_lsn <= figures.applied_lsn && figures.synced_lsn <= figures.written_lsn);
    } while (memdb_load_acquire(&race->finished) < CLIENTS || figures.pending > 0);
    memdb_sync_stop(race->rig.commit);
    return NULL;
}

static void *sync_thread(void *arg)
{
    struct race *race = arg;
    memdb_sync_job job;
    int status;
    while ((status = memdb_sync_wait(race->rig.commit, &job, 1000000)) != MEMDB_STOPPED)
        if (status == MEMDB_OK) {
            CHECK(job.segment >= 1 && job.bytes >= MEMDB_SEGMENT_HEADER);
            memdb_sync_done(race->rig.commit, &job, 0);
        }
    return NULL;
}

int main(int argc, char **argv)
{
    static struct race race;
    struct player players[CLIENTS + 1];
    pthread_t threads[CLIENTS], writer, syncer, reader;
    memdb_commit_config config = rig_config();
    race.rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 300;
    config.sync_interval_us = 3000;
    config.quota = 3;
    rig_begin(&race.rig, &config, 64 << 20, 1 << 20);
    CHECK_EQUAL(rig_open_segment(&race.rig, 128 << 10, 1 << 20), MEMDB_OK);
    for (unsigned i = 0; i <= CLIENTS; i++)
        players[i] = (struct player){&race, rig_join(&race.rig, (uint8_t)(i + 1)), i};
    CHECK(pthread_create(&writer, NULL, commit_thread, &race) == 0);
    CHECK(pthread_create(&syncer, NULL, sync_thread, &race) == 0);
    CHECK(pthread_create(&reader, NULL, read_pairs, &players[CLIENTS]) == 0);
    for (unsigned i = 0; i < CLIENTS; i++)
        CHECK(pthread_create(&threads[i], NULL, play, &players[i]) == 0);
    for (unsigned i = 0; i < CLIENTS; i++)
        pthread_join(threads[i], NULL);
    pthread_join(reader, NULL);
    pthread_join(writer, NULL);
    pthread_join(syncer, NULL);
    CHECK(race.rig.segment > 1);
    for (unsigned i = 0; i <= CLIENTS; i++)
        munmap(players[i].lease, sizeof *players[i].lease);
    rig_end(&race.rig);
    return 0;
}
