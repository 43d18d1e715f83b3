/* sleep.h: the futex and the clock of a model. Who sleeps never comes back: whether somebody wakes it is what the model asks. */
#ifndef KERNEL_MODEL_SLEEP_H
#define KERNEL_MODEL_SLEEP_H

#include "kernel.h"

#include "futex.h"

static memdb_a32 slept, woken;
static const memdb_a32 *slept_on;
static uint32_t slept_at; /* the value of the word that it slept at */

int memdb_futex_wait(const memdb_a32 *word, uint32_t expected, uint64_t timeout_us)
{
    (void)timeout_us;
    if (memdb_load_sc(word) == expected) {
        slept_on = word;
        slept_at = expected;
        memdb_store_relaxed(&slept, 1);
        pthread_exit(NULL);
    }
    return 0;
}

void memdb_futex_wake(const memdb_a32 *word, int waiters)
{
    (void)word;
    (void)waiters;
    memdb_store_relaxed(&woken, 1);
}

/* At the end. The kernel compares and sleeps in one step: a wake counts if the word has changed since. */
static inline void nobody_sleeps_for_good(void)
{
    if (memdb_load_relaxed(&slept))
        assert(memdb_load_relaxed(&woken) && memdb_load_relaxed(slept_on) != slept_at);
}

uint64_t memdb_clock_monotonic_us(void) { return 0; }

#endif
