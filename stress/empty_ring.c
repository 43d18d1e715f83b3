/* empty_ring.c: group commit with nothing in it, the yardstick of the row `full` in the benchmarks.
 *
 * Each client has a slot (a futex word): it stores SUBMITTED and sleeps until DONE. One thread collects all submitted slots,
 * writes one record of 128 bytes for each of them, calls fdatasync once, and wakes them. No store, no checksum, no order between
 * clients: whatever a database does costs more than this. One ring a process.
 */
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SLOTS = 64, RECORD = 128, FILE_BYTES = 8 << 20 };
enum { IDLE = 0, SUBMITTED = 1, DONE = 2 };

static struct slot { _Alignas(64) _Atomic(uint32_t) word; } slots[SLOTS];
static _Alignas(64) _Atomic(uint32_t) bell;
static _Atomic(uint32_t) stopping;
static pthread_t thread;
static int file;

static void sleep_on(_Atomic(uint32_t) *word, uint32_t expected)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

static void wake(_Atomic(uint32_t) *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void *serve(void *unused)
{
    static uint8_t records[SLOTS * RECORD];
    off_t at = 0;
    while (!atomic_load(&stopping)) {
        uint32_t heard = atomic_load(&bell);
        int taken[SLOTS], count = 0;
        for (int i = 0; i < SLOTS; i++)
            if (atomic_load(&slots[i].word) == SUBMITTED)
                taken[count++] = i;
        if (count == 0) {
            sleep_on(&bell, heard);
            continue;
        }
        if (at + count * RECORD > FILE_BYTES)
            at = 0;
        if (pwrite(file, records, (size_t)(count * RECORD), at) < 0 || fdatasync(file) != 0)
            break;
        at += count * RECORD;
        for (int i = 0; i < count; i++) {
            atomic_store(&slots[taken[i]].word, DONE);
            wake(&slots[taken[i]].word);
        }
    }
    return unused;
}

int ring_start(int fd)
{
    file = fd;
    atomic_store(&stopping, 0);
    return pthread_create(&thread, NULL, serve, NULL);
}

void ring_commit(int client)
{
    struct slot *slot = &slots[client % SLOTS];
    atomic_store(&slot->word, SUBMITTED);
    atomic_fetch_add(&bell, 1);
    wake(&bell);
    while (atomic_load(&slot->word) == SUBMITTED)
        sleep_on(&slot->word, SUBMITTED);
    atomic_store(&slot->word, IDLE);
}

void ring_stop(void)
{
    atomic_store(&stopping, 1);
    atomic_fetch_add(&bell, 1);
    wake(&bell);
    pthread_join(thread, NULL);
}
