/* futex.h: sleeping on a shared 32-bit word, and the clocks of the kernel. Any thread. */
#ifndef MEMDB_FUTEX_H
#define MEMDB_FUTEX_H

#include "atomics.h"

/* Sleeps while *word == expected, at most timeout_us. Returns 0 woken or changed, -1 timed out, -2 interrupted by a signal. Works across processes. */
int memdb_futex_wait(const memdb_a32 *word, uint32_t expected, uint64_t timeout_us);
void memdb_futex_wake(const memdb_a32 *word, int waiters); /* the mapping may be read-only */
uint64_t memdb_clock_us(void);           /* CLOCK_REALTIME */
uint64_t memdb_clock_monotonic_us(void);

#endif
