/* hugepage.h: gathering a segment's backed memory into huge pages, piece by piece.
 *
 * Owns: where the gathering stands. A random read of a large arena costs a walk of the page tables beside the miss itself; one
 * entry for 2 MiB instead of 512 saves it. The kernel does it only when asked (MADV_COLLAPSE, Linux 6.1; shared memory set to
 * `deny` refuses), costs about a millisecond a piece, changes no byte, and frees what it gathers from. Where it can't, nothing is lost but speed.
 *
 * Who: the commit thread, on its own mapping; other processes find the huge page at their next fault.
 * Invariant: only memory that is backed is gathered, so no piece takes more shared memory than before.
 */
#ifndef MEMDB_HUGEPAGE_H
#define MEMDB_HUGEPAGE_H

#include <stdbool.h>
#include <stdint.h>

#define MEMDB_HUGE_PAGE (UINT64_C(2) << 20) /* of x86-64, and of aarch64 with pages of 4 KiB */

typedef struct memdb_gathering {
    uint64_t next; /* offset of the next piece */
    bool refused;  /* the kernel does not do it here: not asked again */
} memdb_gathering;

/* Gathers the next whole piece below `backed` bytes. False: there is none, or the kernel refuses. */
bool memdb_gather_next(memdb_gathering *gathering, uint8_t *base, uint64_t backed);

#endif
