/*
 * Commits per second through ring, log file, store and answer, beside an empty ring that only writes (and syncs) as many bytes.
 *     bench_commit [directory] [seconds]
 * CTEST-MODES: plain
 * CTEST-ARGS: /tmp 0.1
 * One commit sets one 16-byte key of 100 k to 100 bytes and is waited for before the next: each client thread has its own lease.
 */
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "commit_rig.h"

#define KEYS 100000u
#define SEGMENT (UINT64_C(256) << 20)
#define RECORD 216u

struct bench {
    struct rig rig;
    int fd;
    uint8_t level;
    int empty;         /* the empty ring */
    memdb_a32 running;
    unsigned clients;
    struct memdb_lease *leases[64];
    memdb_a64 done;
};

struct player { struct bench *bench; struct memdb_lease *lease; uint64_t seed, commits; };

static int64_t write_file(void *arg, const void *bytes, uint64_t len, uint64_t offset)
{
    ssize_t n = pwrite(((struct bench *)arg)->fd, bytes, len, (off_t)offset);
    return n < 0 ? -errno : n;
}

static void *play(void *arg)
{
    struct player *player = arg;
    struct bench *bench = player->bench;
    uint8_t payload[8 + 8 + 17 + 101] = {1}, value[101];
    uint8_t key[17] = {MEMDB_SPACE_PLAIN};
    memset(value, 'v', sizeof value);
    for (uint64_t request = 1; memdb_load_relaxed(&bench->running); request++) {
        snprintf((char *)key + 1, 16, "key%012u", (unsigned)check_random_below(&player->seed, KEYS));
        memdb_op op = {.code = MEMDB_OP_SET, .key_len = sizeof key, .value_len = sizeof value, .key = key, .value = value};
        size_t len = 8 + memdb_ops_put(payload + 8, sizeof payload - 8, &op);
        struct memdb_entry entry = {.size = (uint32_t)(sizeof entry + len), .kind = MEMDB_ENTRY_COMMIT, .level = bench->level,
                                    .request = request, .cell = (uint32_t)(request % MEMDB_CELLS)};
        CHECK_EQUAL(memdb_lease_submit(player->lease, bench->rig.board, &entry, payload), MEMDB_OK);
        while (memdb_lease_wait(player->lease, entry.cell, bench->clients == 1 ? 50 : 5, 5000000) != MEMDB_OK)
            ;
        CHECK_EQUAL(rig_status(player->lease, request), MEMDB_OK);
        player->commits++;
    }
    memdb_add_sc(&bench->done, 1);
    return NULL;
}

static void *commit_thread(void *arg)
{
    struct bench *bench = arg;
    while (memdb_load_acquire(&bench->done) < bench->clients) {
        int event = memdb_commit_run(bench->rig.commit, memdb_clock_monotonic_us() + 100000);
        if (event == MEMDB_EVENT_ROTATE) {
            CHECK_EQUAL(memdb_commit_flush(bench->rig.commit), MEMDB_OK);
            CHECK(fdatasync(bench->fd) == 0);
            static const uint8_t header[MEMDB_SEGMENT_HEADER];
            CHECK_EQUAL(memdb_commit_open_segment(bench->rig.commit, ++bench->rig.segment, 1, SEGMENT, header, MEMDB_SEGMENT_HEADER, NULL,
                                                  write_file, bench), MEMDB_OK);
        } else {
            CHECK(event == MEMDB_EVENT_NONE || event == MEMDB_EVENT_CONTROL);
        }
    }
    return NULL;
}

static void *sync_thread(void *arg)
{
    struct bench *bench = arg;
    memdb_sync_job job;
    int status;
    while ((status = memdb_sync_wait(bench->rig.commit, &job, 1000000)) != MEMDB_STOPPED)
        if (status == MEMDB_OK)
            memdb_sync_done(bench->rig.commit, &job, fdatasync(bench->fd) == 0 ? 0 : errno);
    return NULL;
}

/* What is left without validation, log image, store and outcome: drain, write, sync, answer. Never parks. */
static void *empty_thread(void *arg)
{
    struct bench *bench = arg;
    static uint8_t buf[MEMDB_FRAME_MAX], record[RECORD * 64];
    struct memdb_entry entries[64];
    uint64_t offset = MEMDB_SEGMENT_HEADER;
    while (memdb_load_acquire(&bench->done) < bench->clients) {
        unsigned taken = 0;
        for (unsigned i = 0; i < bench->clients; i++)
            if (memdb_lease_peek(bench->leases[i], &entries[i], buf, sizeof buf) == MEMDB_OK) {
                memdb_lease_take(bench->leases[i], &entries[i]);
                memdb_lease_consume(bench->leases[i], &entries[i]);
                taken++;
            } else {
                entries[i].request = 0;
            }
        if (taken == 0)
            continue;
        if (bench->level > MEMDB_LEVEL_MEMORY)
            CHECK(pwrite(bench->fd, record, RECORD * taken, (off_t)offset) > 0);
        if (bench->level == MEMDB_LEVEL_FULL)
            CHECK(fdatasync(bench->fd) == 0);
        offset = (offset + RECORD * taken) % (SEGMENT - sizeof record);
        for (unsigned i = 0; i < bench->clients; i++)
            if (entries[i].request)
                memdb_lease_complete(bench->leases[i], entries[i].cell, entries[i].request, MEMDB_OK, 1, 1, 0, 0);
    }
    return NULL;
}

static double run(int fd, uint8_t level, unsigned clients, int empty, double seconds)
{
    static struct bench bench;
    static struct player players[64];
    pthread_t threads[64], writer, syncer;
    memdb_commit_config config = rig_config();
    memset(&bench, 0, sizeof bench);
    bench.fd = fd, bench.level = level, bench.clients = clients, bench.empty = empty;
    config.sync_interval_us = 100000;
    rig_begin(&bench.rig, &config, 512 << 20, SEGMENT);
    static const uint8_t header[MEMDB_SEGMENT_HEADER];
    bench.rig.segment = 1;
    CHECK_EQUAL(memdb_commit_open_segment(bench.rig.commit, 1, 1, SEGMENT, header, MEMDB_SEGMENT_HEADER, NULL, write_file, &bench), MEMDB_OK);
    memdb_store_sc(&bench.running, 1);
    for (unsigned i = 0; i < clients; i++)
        bench.leases[i] = rig_join(&bench.rig, (uint8_t)(i + 1));
    pthread_create(&writer, NULL, empty ? empty_thread : commit_thread, &bench);
    pthread_create(&syncer, NULL, sync_thread, &bench);
    uint64_t started = memdb_clock_monotonic_us();
    for (unsigned i = 0; i < clients; i++) {
        players[i] = (struct player){&bench, bench.leases[i], i + 1, 0};
        pthread_create(&threads[i], NULL, play, &players[i]);
    }
    usleep((useconds_t)(seconds * 1e6));
    memdb_store_sc(&bench.running, 0);
    uint64_t commits = 0;
    for (unsigned i = 0; i < clients; i++) {
        pthread_join(threads[i], NULL);
        commits += players[i].commits;
    }
    double rate = (double)commits * 1e6 / (double)(memdb_clock_monotonic_us() - started);
    pthread_join(writer, NULL);
    memdb_sync_stop(bench.rig.commit);
    pthread_join(syncer, NULL);
    if (!empty) {
        memdb_commit_figures figures;
        memdb_commit_get_figures(bench.rig.commit, &figures);
        printf("    (%llu commits, %llu rounds, %llu parks, %llu syncs)\n", (unsigned long long)figures.commits,
               (unsigned long long)figures.rounds, (unsigned long long)figures.parks, (unsigned long long)figures.syncs);
    }
    for (unsigned i = 0; i < clients; i++)
        munmap(bench.leases[i], sizeof *bench.leases[i]);
    rig_end(&bench.rig);
    return rate;
}

int main(int argc, char **argv)
{
    static const char *names[] = {"memory", "os", "full"};
    char path[4096];
    double seconds = argc > 2 ? atof(argv[2]) : 1.0;
    snprintf(path, sizeof path, "%s/bench_commit.%d.log", argc > 1 ? argv[1] : ".", (int)getpid());
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    CHECK(fd >= 0);
    unlink(path);
    uint8_t *zeros = calloc(1, 1 << 20);
    for (uint64_t at = 0; at < SEGMENT; at += 1 << 20) /* as segments are: filled with zeros and synced before use */
        CHECK(pwrite(fd, zeros, 1 << 20, (off_t)at) == 1 << 20);
    CHECK(fdatasync(fd) == 0);
    free(zeros);
    for (unsigned clients = 1; clients <= 32; clients += 31)
        for (uint8_t level = 0; level <= MEMDB_LEVEL_FULL; level++) {
            double empty = run(fd, level, clients, 1, seconds / 2), rate = run(fd, level, clients, 0, seconds);
            printf("%-6s %2u client%s %9.0f commits/s   empty ring %9.0f/s\n", names[level], clients, clients > 1 ? "s" : " ", rate, empty);
            fflush(stdout);
        }
    close(fd);
    return 0;
}
