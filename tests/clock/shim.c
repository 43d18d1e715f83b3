/* An LD_PRELOAD library: the wall clock and the log's disk of every process that it is loaded into can be steered
 * through a small mapped file, named by MEMDB_TEST_SHIM. Owns that file's layout (struct steering; clock.py writes it).
 *
 * - CLOCK_REALTIME and its kin are shifted by `offset_us`; monotonic clocks stay, so that waits do.
 * - Writes and syncs of files below `wal/` fail with `fail_write` and `fail_sync` (errno; 0: they are done);
 *   writes of files below `checkpoints/` with `fail_checkpoint`.
 * - Syncs of such files wait while `hold_sync` is not 0.
 *
 * Invariant: without the environment variable, or with a file of zeros, nothing is changed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct steering {
    int64_t offset_us, fail_write, fail_sync, hold_sync, fail_checkpoint;
};

static const struct steering nothing;
static const struct steering *steering = &nothing;

__attribute__((constructor)) static void find_steering(void)
{
    const char *name = getenv("MEMDB_TEST_SHIM");
    int fd = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *at = mmap(NULL, sizeof(struct steering), PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED)
        steering = at;
}

static int64_t word(const int64_t *at)
{
    return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}

static void shift(int64_t *seconds, int64_t *fraction, int64_t unit)
{
    int64_t offset = word(&steering->offset_us);
    *seconds += offset / 1000000;
    *fraction += offset % 1000000 * (unit / 1000000);
    if (*fraction < 0) {
        *fraction += unit;
        --*seconds;
    } else if (*fraction >= unit) {
        *fraction -= unit;
        ++*seconds;
    }
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int status = (int)syscall(SYS_clock_gettime, clock, now);
    if (status == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t seconds = now->tv_sec, fraction = now->tv_nsec;
        shift(&seconds, &fraction, 1000000000);
        now->tv_sec = seconds;
        now->tv_nsec = fraction;
    }
    return status;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec precise;
    int status = clock_gettime(CLOCK_REALTIME, &precise);
    (void)zone;
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return status;
}

time_t time(time_t *at)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at)
        *at = now.tv_sec;
    return now.tv_sec;
}

static int is_below(int fd, const char *directory)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0)
        return 0;
    path[size] = 0;
    return strstr(path, directory) != NULL;
}

static int64_t fault(const int64_t *at, int fd, const char *directory)
{
    int64_t number = word(at);
    return number && is_below(fd, directory) ? number : 0;
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    int64_t number = fault(&steering->fail_write, fd, "/wal/");
    if (!number)
        number = fault(&steering->fail_checkpoint, fd, "/checkpoints/");
    if (number) {
        errno = (int)number;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, bytes, size, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t offset)
{
    return pwrite(fd, bytes, size, offset);
}

int fdatasync(int fd)
{
    while (fault(&steering->hold_sync, fd, "/wal/")) {
        struct timespec moment = {0, 2000000};
        syscall(SYS_nanosleep, &moment, NULL);
    }
    int64_t number = fault(&steering->fail_sync, fd, "/wal/");
    if (number) {
        errno = (int)number;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}
