/* atomics.h: the only door to atomics in the kernel.
 *
 * Owns: the shared word types, every load/store/compare-exchange with its order in its name, and copies
 * of bytes that another process may be overwriting. No other file uses <stdatomic.h> or __atomic, so the
 * order of each access can be read at the call and a build can count or stop stores (MEMDB_STORE_HOOK).
 *
 * Invariants:
 *  - Shared words are 4 or 8 bytes, naturally aligned and lock-free (a lock-free-less atomic would take a
 *    lock that is private to the process and protect nothing).
 *  - Memory that can be reused under a revoked reader is read and written with relaxed word accesses only;
 *    what was read is believed after the reader's slot has been validated (epoch.h).
 *  - No standalone fences: ThreadSanitizer does not model them.
 * Naming of orders: _relaxed, _acquire, _release, _sc. A release and the acquire that pairs with it carry
 * the same comment tag `SYNC: <word>`.
 */
#ifndef MEMDB_ATOMICS_H
#define MEMDB_ATOMICS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef _Atomic(uint32_t) memdb_a32;
typedef _Atomic(uint64_t) memdb_a64;

_Static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LLONG_LOCK_FREE == 2, "shared words must be lock-free");
_Static_assert(sizeof(memdb_a32) == 4 && sizeof(memdb_a64) == 8, "shared words have no hidden lock");

#ifdef MEMDB_STORE_HOOK
/* Defined by tests/c: counts the stores to shared memory and may leave by longjmp, which is how a writer
 * that is killed between two stores looks from outside. */
void memdb_store_hook(void);
#define MEMDB_HOOK() memdb_store_hook()
#else
#define MEMDB_HOOK() ((void)0)
#endif

#define memdb_load_relaxed(p) atomic_load_explicit((p), memory_order_relaxed)
#define memdb_load_acquire(p) atomic_load_explicit((p), memory_order_acquire)
#define memdb_load_sc(p) atomic_load_explicit((p), memory_order_seq_cst)
#define memdb_store_relaxed(p, v) (MEMDB_HOOK(), atomic_store_explicit((p), (v), memory_order_relaxed))
#define memdb_store_release(p, v) (MEMDB_HOOK(), atomic_store_explicit((p), (v), memory_order_release))
#define memdb_store_sc(p, v) (MEMDB_HOOK(), atomic_store_explicit((p), (v), memory_order_seq_cst))
#define memdb_exchange_sc(p, v) (MEMDB_HOOK(), atomic_exchange_explicit((p), (v), memory_order_seq_cst))
#define memdb_add_sc(p, v) (MEMDB_HOOK(), atomic_fetch_add_explicit((p), (v), memory_order_seq_cst))
#define memdb_cas_sc(p, expected, desired)                                                                   \
    (MEMDB_HOOK(), atomic_compare_exchange_strong_explicit((p), (expected), (desired), memory_order_seq_cst, \
                                                           memory_order_seq_cst))

/* Copies len bytes out of shared words that may be changing: relaxed loads of whole words, so the result
 * may be torn but the access is defined. Any thread. src is 8-aligned and readable up to len rounded up to 8. */
static inline void memdb_copy_out(void *dst, const memdb_a64 *src, size_t len)
{
    uint8_t *out = dst;
    while (len >= 8) {
        uint64_t word = memdb_load_relaxed(src);
        memcpy(out, &word, 8);
        src++, out += 8, len -= 8;
    }
    if (len > 0) {
        uint64_t word = memdb_load_relaxed(src);
        memcpy(out, &word, len);
    }
}

/* Copies len bytes into shared words, the last one padded with zeros. Writer of that memory only; becomes
 * visible by a later release store of a reference to it. dst is 8-aligned, len rounded up to 8 is writable. */
static inline void memdb_copy_in(memdb_a64 *dst, const void *src, size_t len)
{
    const uint8_t *in = src;
    while (len >= 8) {
        uint64_t word;
        memcpy(&word, in, 8);
        memdb_store_relaxed(dst, word);
        dst++, in += 8, len -= 8;
    }
    if (len > 0) {
        uint64_t word = 0;
        memcpy(&word, in, len);
        memdb_store_relaxed(dst, word);
    }
}

static inline void memdb_spin_hint(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

#endif
