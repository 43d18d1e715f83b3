/* An LD_PRELOAD library: the wall clock, and every change to the files below one directory, of every process that it is
 * loaded into can be steered through a small mapped file, named by MEMDB_TEST_SHIM. Owns that file's layout (struct steering;
 * steering.py writes it).
 *
 * - CLOCK_REALTIME and its kin are shifted by `offset_us`; monotonic clocks stay, so that waits do.
 * - A change below `root` is a step with a label, kind and area: what is done (enum kind) and to what (areas[]). The area of a
 *   descriptor or a path is its first part below `root`; that of `root`'s parent is "parent". What changes nothing (an unlink of
 *   what is not there, an open of what is) is no step.
 * - `hits` counts the steps by label, over all processes.
 * - An order stands at a label and counts down with each step there; the one that brings it to 0 (with `sticky`: and each
 *   later one) is killed before or after it is done, alone or with its whole process group, fails, is cut short, or waits.
 *
 * Invariants:
 * - Without the environment variable, or with a file of zeros, nothing is changed.
 * - An order is read only while its label is set, and a writer sets that last.
 * - The process group `spared` is never killed as a group: it is the test's own. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { CREATE, WRITE, SYNC, RENAME, UNLINK, MKDIR, SYNCDIR, KINDS };
enum { WAL, CHECKPOINTS, MANIFEST, GENERATION, QUARANTINE, DIRECTORY, PARENT, AREAS };
static const char *const areas[] = {"wal", "checkpoints", "MANIFEST", "GENERATION", "quarantine"}; /* else: DIRECTORY */

enum action {
    NOTHING, KILL_BEFORE, KILL_AFTER, KILL_GROUP_BEFORE, KILL_GROUP_AFTER, FAIL, FAIL_AFTER, SHORT, DELAY, HOLD
};

struct order {
    int64_t label; /* 1 + kind * AREAS + area; 0: none */
    int64_t action, value, sticky, countdown, fired;
};

#define ORDERS 8

struct steering {
    int64_t offset_us, spared;
    struct order orders[ORDERS];
    int64_t hits[KINDS * AREAS];
    char root[PATH_MAX]; /* "" : no steps */
};

static struct steering nothing;
static struct steering *steering = &nothing;

__attribute__((constructor)) static void find_steering(void)
{
    const char *name = getenv("MEMDB_TEST_SHIM");
    int fd = name ? (int)syscall(SYS_openat, AT_FDCWD, name, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *at = mmap(NULL, sizeof(struct steering), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED)
        steering = at;
}

static int64_t word(const int64_t *at)
{
    return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}

/* ------------------------------------------------------------------------------------------------------------ the clock */

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

/* -------------------------------------------------------------------------------------------------- labels of what is where */

static int area_of(const char *path) /* absolute; -1: not ours */
{
    size_t root = strlen(steering->root), size = strlen(path);
    if (root == 0)
        return -1;
    if (strncmp(path, steering->root, root) != 0) {
        const char *end = strrchr(steering->root, '/');
        return size == (size_t)(end - steering->root) && strncmp(path, steering->root, size) == 0 ? PARENT : -1;
    }
    if (path[root] != '/')
        return path[root] == 0 ? DIRECTORY : -1;
    const char *name = path + root + 1;
    size_t length = strcspn(name, "/.");
    for (int area = 0; area < DIRECTORY; area++)
        if (strlen(areas[area]) == length && strncmp(name, areas[area], length) == 0)
            return area;
    return DIRECTORY;
}

static int path_of(int fd, char path[PATH_MAX])
{
    char link[64];
    if (fd == AT_FDCWD)
        return getcwd(path, PATH_MAX) != NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, PATH_MAX - 1);
    path[size < 0 ? 0 : size] = 0;
    return size > 0;
}

static int area_of_descriptor(int fd)
{
    char path[PATH_MAX];
    int saved = errno, area = steering->root[0] && path_of(fd, path) ? area_of(path) : -1;
    errno = saved;
    return area;
}

static int area_of_name(int fd, const char *name)
{
    char path[2 * PATH_MAX], place[PATH_MAX];
    if (!steering->root[0] || !name)
        return -1;
    int saved = errno, area = -1;
    if (name[0] == '/')
        area = area_of(name);
    else if (path_of(fd, place)) {
        snprintf(path, sizeof path, "%s/%s", place, name);
        area = area_of(path);
    }
    errno = saved;
    return area;
}

static int is_there(int fd, const char *name)
{
    struct stat found;
    int saved = errno, status = fstatat(fd, name, &found, AT_SYMLINK_NOFOLLOW);
    errno = saved;
    return status == 0;
}

/* ---------------------------------------------------------------------------------------------------------------- one step */

struct step {
    enum action action;
    int64_t value;
};

static void sleep_us(int64_t us)
{
    struct timespec left = {us / 1000000, us % 1000000 * 1000};
    while (syscall(SYS_nanosleep, &left, &left) != 0 && errno == EINTR)
        ;
}

static void die(int whole)
{
    int spared = getpgrp() == (pid_t)word(&steering->spared);
    kill(whole && !spared ? 0 : getpid(), SIGKILL);
    for (;;)
        sleep_us(1000000);
}

/* What is ordered for this step. Kills before it, and waits, are done here. */
static struct step begin(enum kind kind, int area)
{
    struct step step = {NOTHING, 0};
    if (area < 0)
        return step;
    int64_t label = 1 + kind * AREAS + area;
    __atomic_fetch_add(&steering->hits[label - 1], 1, __ATOMIC_ACQ_REL);
    for (int i = 0; i < ORDERS; i++) {
        struct order *order = &steering->orders[i];
        if (word(&order->label) != label)
            continue;
        int64_t left = __atomic_sub_fetch(&order->countdown, 1, __ATOMIC_ACQ_REL);
        if (left > 0 || (left < 0 && !word(&order->sticky)))
            continue;
        step.action = (enum action)word(&order->action);
        step.value = word(&order->value);
        __atomic_fetch_add(&order->fired, 1, __ATOMIC_ACQ_REL);
        if (step.action == KILL_BEFORE || step.action == KILL_GROUP_BEFORE)
            die(step.action == KILL_GROUP_BEFORE);
        int saved = errno;
        if (step.action == DELAY)
            sleep_us(step.value);
        while (step.action == HOLD && word(&order->label) == label)
            sleep_us(2000);
        errno = saved;
        if (step.action != DELAY && step.action != HOLD)
            break;
    }
    return step;
}

static long end(struct step step, long result)
{
    if (step.action == KILL_AFTER || step.action == KILL_GROUP_AFTER)
        die(step.action == KILL_GROUP_AFTER);
    if (step.action == FAIL_AFTER) {
        errno = (int)step.value;
        return -1;
    }
    return result;
}

static int refused(struct step step)
{
    if (step.action == FAIL)
        errno = (int)step.value;
    return step.action == FAIL;
}

/* ------------------------------------------------------------------------------------------------------------------ writes */

static size_t cut(struct step step, size_t size)
{
    return step.action == SHORT && (size_t)step.value < size ? (size_t)step.value : size;
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    struct step step = begin(WRITE, area_of_descriptor(fd));
    return refused(step) ? -1 : end(step, syscall(SYS_pwrite64, fd, bytes, cut(step, size), offset));
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t offset)
{
    return pwrite(fd, bytes, size, offset);
}

ssize_t write(int fd, const void *bytes, size_t size)
{
    struct step step = begin(WRITE, area_of_descriptor(fd));
    return refused(step) ? -1 : end(step, syscall(SYS_write, fd, bytes, cut(step, size)));
}

/* A short vector is its first part. */
static ssize_t write_vector(int fd, const struct iovec *parts, int count, int64_t offset, int flags)
{
    struct step step = begin(WRITE, area_of_descriptor(fd));
    struct iovec first = {count > 0 ? parts[0].iov_base : NULL, count > 0 ? cut(step, parts[0].iov_len) : 0};
    if (refused(step))
        return -1;
    if (step.action == SHORT) {
        parts = &first;
        count = 1;
    }
    return end(step, syscall(SYS_pwritev2, fd, parts, count, offset, 0L, flags)); /* offset -1: the file's own */
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return write_vector(fd, parts, count, -1, 0);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    return write_vector(fd, parts, count, offset, 0);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset)
{
    return write_vector(fd, parts, count, offset, 0);
}

ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    return write_vector(fd, parts, count, offset, flags);
}

ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t offset, int flags)
{
    return write_vector(fd, parts, count, offset, flags);
}

/* ------------------------------------------------------------------------------------------------------------------- syncs */

static int sync_by(long call, int fd)
{
    struct stat found;
    int is_directory = fstat(fd, &found) == 0 && S_ISDIR(found.st_mode);
    struct step step = begin(is_directory ? SYNCDIR : SYNC, area_of_descriptor(fd));
    return refused(step) ? -1 : (int)end(step, syscall(call, fd));
}

int fdatasync(int fd)
{
    return sync_by(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    return sync_by(SYS_fsync, fd);
}

/* ------------------------------------------------------------------------------------------------------------------- names */

static int open_by(int directory, const char *name, int flags, va_list more)
{
    mode_t mode = flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(more, mode_t) : 0;
    struct step step = {NOTHING, 0};
    if (flags & O_CREAT && area_of_name(directory, name) >= 0 && !is_there(directory, name))
        step = begin(CREATE, area_of_name(directory, name));
    if (refused(step))
        return -1;
    int fd = (int)syscall(SYS_openat, directory, name, flags, mode);
    if (step.action == FAIL_AFTER && fd >= 0)
        close(fd);
    return (int)end(step, fd);
}

#define OPENS(name, parameters, directory) \
    int name parameters \
    { \
        va_list more; \
        va_start(more, flags); \
        int fd = open_by(directory, path, flags, more); \
        va_end(more); \
        return fd; \
    }

OPENS(open, (const char *path, int flags, ...), AT_FDCWD)
OPENS(open64, (const char *path, int flags, ...), AT_FDCWD)
OPENS(openat, (int directory, const char *path, int flags, ...), directory)
OPENS(openat64, (int directory, const char *path, int flags, ...), directory)

int renameat2(int from, const char *old, int to, const char *new, unsigned flags)
{
    int area = area_of_name(to, new);
    struct step step = begin(RENAME, area >= 0 ? area : area_of_name(from, old));
    return refused(step) ? -1 : (int)end(step, syscall(SYS_renameat2, from, old, to, new, flags));
}

int renameat(int from, const char *old, int to, const char *new)
{
    return renameat2(from, old, to, new, 0);
}

int rename(const char *old, const char *new)
{
    return renameat2(AT_FDCWD, old, AT_FDCWD, new, 0);
}

int unlinkat(int directory, const char *name, int flags)
{
    int area = area_of_name(directory, name);
    struct step step = begin(UNLINK, area >= 0 && is_there(directory, name) ? area : -1);
    return refused(step) ? -1 : (int)end(step, syscall(SYS_unlinkat, directory, name, flags));
}

int unlink(const char *name)
{
    return unlinkat(AT_FDCWD, name, 0);
}

int rmdir(const char *name)
{
    return unlinkat(AT_FDCWD, name, AT_REMOVEDIR);
}

int mkdirat(int directory, const char *name, mode_t mode)
{
    int area = area_of_name(directory, name);
    struct step step = begin(MKDIR, area >= 0 && !is_there(directory, name) ? area : -1);
    return refused(step) ? -1 : (int)end(step, syscall(SYS_mkdirat, directory, name, mode));
}

int mkdir(const char *name, mode_t mode)
{
    return mkdirat(AT_FDCWD, name, mode);
}
