/* model.h: what all models share. A model is one file with main(); shared words are plain C11 atomics. */
#ifndef MODEL_H
#define MODEL_H
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#define RLX memory_order_relaxed
#define ACQ memory_order_acquire
#define REL memory_order_release
#define SC memory_order_seq_cst
#define LOAD(w, o) atomic_load_explicit(&(w), (o))
#define STORE(w, v, o) atomic_store_explicit(&(w), (v), (o))
static inline int cas(atomic_int *word, int expected, int desired)
{
    return atomic_compare_exchange_strong_explicit(word, &expected, desired, SC, SC);
}
static inline void run2(void *(*a)(void *), void *(*b)(void *))
{
    pthread_t ta, tb;
    pthread_create(&ta, 0, a, 0);
    pthread_create(&tb, 0, b, 0);
    pthread_join(ta, 0);
    pthread_join(tb, 0);
}
#endif
