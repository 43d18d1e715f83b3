/* futex.c: see futex.h. Owns nothing; any thread of any process.
 *
 * The futex calls are the shared kind (no FUTEX_PRIVATE_FLAG): waiter and waker are different processes. The kernel compares
 * the word under its own lock, so no order of ours is involved: whoever changes the word and then wakes loses no sleeper.
 */
#include "futex.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int memdb_futex_wait(const memdb_a32 *word, uint32_t expected, uint64_t timeout_us)
{
    struct timespec limit, *at = NULL;
    if (timeout_us < UINT64_C(1000000) * 86400 * 365) { /* beyond a year: no limit */
        limit.tv_sec = (time_t)(timeout_us / 1000000);
        limit.tv_nsec = (long)(timeout_us % 1000000) * 1000;
        at = &limit;
    }
    if (syscall(SYS_futex, (const void *)word, FUTEX_WAIT, expected, at, NULL, 0) == 0)
        return 0;
    if (errno == ETIMEDOUT)
        return -1;
    return errno == EINTR ? -2 : 0; /* EAGAIN: the word has changed */
}

void memdb_futex_wake(const memdb_a32 *word, int waiters)
{
    (void)syscall(SYS_futex, (const void *)word, FUTEX_WAKE, waiters, NULL, NULL, 0);
}

static uint64_t clock_us(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t memdb_clock_us(void)
{
    return clock_us(CLOCK_REALTIME);
}

uint64_t memdb_clock_monotonic_us(void)
{
    return clock_us(CLOCK_MONOTONIC);
}
