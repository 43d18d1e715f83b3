/* kernel.h: what the models of this directory share. Each includes sources of memdb/shm as they are built, plays two processes with
 * their functions, and says what must hold in every execution that the C11 memory model (RC11) allows. So an order that is weakened
 * in the kernel itself is found, also one that x86 forgives. Compiled with -O1: structs are then registers, not memory.
 * Only what would leave the kernel is replaced: sleeping, clocks, memory of its own. */
#ifndef KERNEL_MODEL_H
#define KERNEL_MODEL_H

#include <assert.h>
#include <pthread.h>

#define __builtin_ia32_pause() ((void)0) /* GenMC knows no such instruction */
#include "atomics.h"

static inline void run2(void *(*a)(void *), void *(*b)(void *))
{
    pthread_t ta, tb;
    pthread_create(&ta, 0, a, 0);
    pthread_create(&tb, 0, b, 0);
    pthread_join(ta, 0);
    pthread_join(tb, 0);
}

#endif
