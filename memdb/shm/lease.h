/* lease.h: one submission ring and the result cells between one client process and the writer.
 *
 * Entry in the ring (8-aligned, may wrap at any 8-byte word): struct memdb_entry then payload, padded to 8.
 * Kinds: COMMIT carries operations (ops.h); FRAME is a piece of a large one, COMMIT with MEMDB_ENTRY_STAGED commits what was
 * staged under the same request number plus its own payload; SYNC asks for durability of everything before it.
 *
 * Client side: one thread at a time per lease (the binding holds a process-private lock); waiting needs no lock.
 * Writer side: commit thread. Every entry is hostile: it is copied, then validated; nothing is read twice.
 * An entry is consumed as soon as it is copied and its cell taken, before it is carried out: what is still in the ring was never
 * applied, and what a dead writer had consumed its client sends again with MEMDB_ENTRY_REPEAT.
 * Cell: IDLE/DONE/WITHDRAWN -> SUBMITTED (client) -> TAKEN (writer) -> DONE (writer); SUBMITTED -> WITHDRAWN (client). A client may put
 * the same request into the same cell again from SUBMITTED or TAKEN once it has seen that the writer was replaced; a successor takes a
 * cell that its predecessor left TAKEN. Two entries of one request in the ring are settled once (commit.c, rule C2). A client chooses
 * cells and request numbers so that request % MEMDB_CELLS == cell (numbers may skip): then no two requests in flight share an outcome key.
 * Staged frames die with the writer: the client sends all of them again. A STAGED commit whose frames are not all there is answered AGAIN.
 * Orders: ring_tail is stored seq_cst and then `parked` is loaded seq_cst; the writer stores parked, then loads tails
 * (Dekker: one of both sees the other), so no wake-up is lost.
 */
#ifndef MEMDB_LEASE_H
#define MEMDB_LEASE_H

#include "layout.h"

enum memdb_entry_kind { MEMDB_ENTRY_COMMIT = 1, MEMDB_ENTRY_FRAME = 2, MEMDB_ENTRY_SYNC = 3 };
enum memdb_level { MEMDB_LEVEL_MEMORY = 0, MEMDB_LEVEL_OS = 1, MEMDB_LEVEL_FULL = 2 };
#define MEMDB_ENTRY_STAGED 1u
#define MEMDB_ENTRY_REPEAT 2u /* sent again after a writer's death: look up its outcome first (rule C2) */
#define MEMDB_ENTRY_VALIDATE 4u /* the payload begins with what was read: commit only if it still holds (rule C6) */

struct memdb_entry {
    uint32_t size;    /* of entry and payload, without padding */
    uint16_t kind;
    uint8_t flags;
    uint8_t level;
    uint64_t request; /* grows by one per request of this client */
    uint32_t cell;    /* result cell; FRAME: MEMDB_CELLS (none) */
    union {
        uint32_t frame; /* FRAME: 0, 1, 2 ... within its request (0 begins anew); COMMIT with STAGED: how many frames there were */
        uint32_t pad;   /* 0 elsewhere */
    };
};
_Static_assert(sizeof(struct memdb_entry) == 24, "entry header");
#define MEMDB_FRAME_MAX (MEMDB_RING_BYTES / 4) /* payload of one entry */
#define MEMDB_UNKNOWN (-14) /* status: a repeated request is older than the outcomes that are kept: whether it was done cannot be told */

void memdb_lease_init(struct memdb_lease *lease, const uint8_t client_id[16]);
int memdb_lease_check(const struct memdb_lease *lease, uint64_t bytes); /* OK, AGAIN, INVALID */

/* Answers, in the order of the ring, each when everything that it depends on is published at its own level:
 *   OK            lsn = the commit's (of a request that changed nothing: the last one before it), count = keys set and deleted
 *   CONDITION     nothing changed: detail = index of the operation, winner = LSN of the newest version it met (0: none ever)
 *   CONFLICT      nothing changed: what was read (MEMDB_ENTRY_VALIDATE) does not hold; count = enum memdb_conflict (readset.h), detail =
 *                 index of the entry of the read section (their number: no single one), winner = LSN of the commit that won (0: not known)
 *   INVALID, TOO_LARGE   not done: detail = index of the operation or of the entry of the read section, or the limit in bytes
 *   FULL, SHM_FULL       not done: detail = arena bytes that were asked for
 *   AGAIN         not done: frames of a STAGED commit were lost or displaced; send all of them again
 *   READ_ONLY, STOPPED   not done: detail = errno, if there was one
 *   LOG_FAILED    it cannot be told whether a commit survives: detail = errno. UNKNOWN: likewise, winner = LSN of the later outcome
 * An entry whose framing is broken drops the whole lease: nothing more of it is taken or answered. */

/* --- client --- */
/* Copies the entry into the ring and rings the bell if the writer is parked. AGAIN: no room now. Sets the cell to SUBMITTED. */
int memdb_lease_submit(struct memdb_lease *lease, struct memdb_board *board, const struct memdb_entry *entry, const void *payload);
/* Spins up to spin_us, then sleeps, until the cell is DONE or timeout_us is over. OK or TIMEOUT or AGAIN (signal: let Python look at it). No GIL needed. */
int memdb_lease_wait(struct memdb_lease *lease, uint32_t cell, uint64_t spin_us, uint64_t timeout_us);
/* Before memdb_lease_wait where more processes write than there are processors: looks for up to spin_us, and lets the others go first. */
void memdb_lease_wait_yielding(struct memdb_lease *lease, uint32_t cell, uint64_t spin_us);
/* SUBMITTED -> WITHDRAWN: OK = certainly not done; INVALID = the writer has taken it. */
int memdb_lease_withdraw(struct memdb_lease *lease, uint32_t cell);
void memdb_bell_ring(struct memdb_board *board); /* always bumps the bell and wakes a parked writer */

/* --- writer --- */
int memdb_lease_ready(const struct memdb_lease *lease); /* is there anything in the ring? seq_cst: the writer's half of Dekker */
/* Takes the next entry, copied into buf (cap >= MEMDB_FRAME_MAX). OK, ABSENT (empty), INVALID (broken ring: drop the lease). Does not move head. */
int memdb_lease_peek(struct memdb_lease *lease, struct memdb_entry *entry, void *buf, size_t cap);
void memdb_lease_consume(struct memdb_lease *lease, const struct memdb_entry *entry);
/* SUBMITTED -> TAKEN (or left TAKEN by a dead predecessor). OK; ABSENT if withdrawn, answered, or the cell has another request by now:
 * nobody waits for this one; INVALID if there is no such cell or its state is none. */
int memdb_lease_take(struct memdb_lease *lease, const struct memdb_entry *entry);
/* Stores the outcome and wakes who waits. Does nothing if the cell has been given to another request. */
void memdb_lease_complete(struct memdb_lease *lease, uint32_t cell, uint64_t request, int status, uint64_t lsn, uint64_t count,
                          uint64_t detail, uint64_t winner);

#endif
