/* epoch.h: how readers keep what they see, and how the writer knows what it may reuse.
 *
 * A slot's word is  state (2) | exact (1) | count (13) | S (48):
 *   FREE 0, IDLE 1 (a snapshot that no call is using), ACTIVE 2 (a traversal is under way), REVOKED 3.
 * exact: S is the reader's own. Without it the word holds only a lower bound: the reader may already have taken any later
 * S and not narrowed the word yet, so it counts as a pin of [S, infinity). (Versions are pruned by interval: if a bound
 * of 5 counted as the pin of 5, a version [6, 7) could go under a reader that has just taken 6.)
 * Two different questions are asked of the slots:
 *   visibility - is a version of LSNs [a, b) seen by some pinned S (IDLE or ACTIVE)?
 *   grace      - could a traversal that was under way when a block was unlinked still stand on it? Only ACTIVE words
 *                of that moment count, and each is over as soon as its word has changed.
 * So an idle snapshot keeps the versions it sees and nothing else (rule R5: at most one a key).
 *
 * Reader (rule R1): store ACTIVE|lower bound (sc), load published = S (sc), narrow to ACTIVE|S by CAS if it differs;
 * published == 0 means that the arena is torn down -> MEMDB_MOVED. Entering a snapshot: CAS IDLE -> ACTIVE (sc), then
 * load published (sc): its value is not used, the load orders the traversal behind everything unlinked before it.
 * Unpin (rule R2): one CAS ACTIVE -> FREE or IDLE with count + 1; it fails only if the writer revoked.
 * Writer: read published, then scan words (sc). Revoke: CAS -> REVOKED (keeps count).
 * Owner of a REVOKED slot stores FREE with count + 1 when it notices: that is its acknowledgement (rule R6).
 * In the common case S equals the bound and no narrowing is needed; the bound is loaded relaxed before the announcement
 * (the later sc load of the same word can't be older). Narrowing is a CAS: after a revocation the reader begins again.
 *
 * Why a reader that the scan did not see can't reach what was unlinked (SYNC: published):
 *   writer: unlink U; publish, or store the same `published` again, sc (W); scan: load slot, sc (L)
 *   reader: announce A, sc store or CAS; load published, sc (R); traverse
 * If L does not see A, then L precedes A in the single order of sc operations (else L would have to read A or a later
 * word of that slot), so W < L < A < R. R therefore reads W or a later store of the same writer; both are release stores
 * sequenced after U, and R is an acquire load: U happens before the traversal, which meets the changed link. So the only
 * readers that can stand on the block are those whose ACTIVE word the scan saw, and grace waits for them. A publish
 * before U would not do: R could read it and still miss U. That is why reclaim stores `published` again before it scans
 * if anything was unlinked since.
 * Why a version that the scan saw no pin for can go: with P loaded before the scan, an unseen reader has S >= P by the
 * same order, and versions are dropped only if a newer one has an LSN <= P.
 *
 * A borrowed pin (memdb_pin_at) reads at the S of another process's snapshot, whose pin, the lender's, stands meanwhile. It
 * announces that S exactly and loads published behind it, so the argument above holds for it: it never stands on a block
 * that was used again. It does not hold for versions: a scan may have looked at the borrower's slot before it pinned, and at
 * the lender's after that let go, and S lies below the P of that scan. So what a borrower found is believed by the lender
 * only, and only if its own pin still stands once it has the answer (memdb_pin_stands):
 *   writer: scan: load the lender's word (L); prune a version that S needs (U)
 *   borrower: announce; load published; read; leave; answer, a release
 *   lender: take the answer, an acquire; load its own word (C)
 * If L reads the lender's pin, the version stays. If L precedes it, the lender's S >= P of that scan: it needs nothing that
 * the scan lets go. Else L reads a word W behind the pin in the order of changes of that slot, stored by a revocation or by
 * the lender itself. Had the borrower read U's effect, then U (release: SYNC: version-next) happens before that read (acquire),
 * the read before the answer and so before C, and W, which L has read, before U: C would have to read W or a later word,
 * and the lender sees that its pin is gone. The lender keeps its pin until C; the model is tests/models/borrow.c.
 *
 * Who: pin functions by the thread that owns the slot; scanner functions by the writer's commit thread.
 */
#ifndef MEMDB_EPOCH_H
#define MEMDB_EPOCH_H

#include "arena.h"

#define MEMDB_LSN_MASK ((UINT64_C(1) << 48) - 1)
#define MEMDB_SLOT_EXACT (UINT64_C(1) << 61)
enum memdb_slot_state { MEMDB_SLOT_FREE = 0, MEMDB_SLOT_IDLE = 1, MEMDB_SLOT_ACTIVE = 2, MEMDB_SLOT_REVOKED = 3 };
enum memdb_pin_kind { MEMDB_PIN_POINT = 0, MEMDB_PIN_SNAPSHOT = 1, MEMDB_PIN_ITERATOR = 2, MEMDB_PIN_CHECKPOINT = 3 };

typedef struct memdb_pin { /* process-private; one thread at a time */
    memdb_view view;
    struct memdb_slot *slot;
    uint64_t word;    /* what the slot holds while we own it */
    uint64_t lsn;     /* S */
    uint64_t time_us; /* expiry is judged at this time; 0: not yet taken */
} memdb_pin;

/* Point read: FREE -> ACTIVE. OK or MOVED. now_us: the caller's clock (0: take CLOCK_REALTIME_COARSE lazily only if
 * an expiry is met; pins of kind POINT use that). */
int memdb_pin_begin(memdb_pin *pin, const memdb_view *view, struct memdb_slot *slot, enum memdb_pin_kind kind);
/* Borrowed: pins S = lsn, judged at time_us, ACTIVE, as a snapshot. OK; MOVED: the arena is torn down; INVALID: no LSN that is published. */
int memdb_pin_at(memdb_pin *pin, const memdb_view *view, struct memdb_slot *slot, uint64_t lsn, uint64_t time_us);
/* The lender's look, when an answer is there: does its pin (IDLE or ACTIVE, of any thread of this process) still stand? */
bool memdb_pin_stands(const memdb_pin *pin);
int memdb_pin_end(memdb_pin *pin); /* ACTIVE -> FREE: OK, or REVOKED (what was read is void) */
/* Snapshot: begin, then leave; each read enters and leaves; close from IDLE. */
int memdb_pin_leave(memdb_pin *pin); /* ACTIVE -> IDLE: OK or REVOKED */
int memdb_pin_enter(memdb_pin *pin); /* IDLE -> ACTIVE: OK or REVOKED */
void memdb_pin_close(memdb_pin *pin); /* IDLE, ACTIVE or REVOKED -> FREE */
uint64_t memdb_pin_time(memdb_pin *pin); /* time_us, taken now if not yet: memdb_view_time */
/* The time by which expiry is judged (rule R3): the greatest of the clock, the header's floor, and what this process has used before. */
uint64_t memdb_view_time(const memdb_view *view);

/* Hazards (rule R4). Call inside an active pin; in force once memdb_pin_leave/end has returned OK. -1 if all in use. */
int memdb_hazard_set(struct memdb_lease *lease, unsigned parity, memdb_ref owner);
void memdb_hazard_clear(struct memdb_lease *lease, unsigned parity, int index);

/* ---- the writer's side ---- */
typedef struct memdb_scanner memdb_scanner; /* the leases the writer knows, and its last scan */
memdb_scanner *memdb_scanner_new(void);
void memdb_scanner_free(memdb_scanner *);
int memdb_scanner_add(memdb_scanner *, struct memdb_lease *lease);
void memdb_scanner_remove(memdb_scanner *, struct memdb_lease *lease); /* its owner is dead or gone: slots count as free */

/* One pass over all slots of `parity`; sorted distinct pinned S, and the ACTIVE words. Reads nothing of the arena:
 * the caller must have loaded published before. */
void memdb_scanner_scan(memdb_scanner *, unsigned parity);
uint64_t memdb_scanner_oldest(const memdb_scanner *);                            /* smallest pinned S, UINT64_MAX if none */
bool memdb_scanner_sees(const memdb_scanner *, uint64_t from, uint64_t before);  /* a pinned S in [from, before)? */
bool memdb_scanner_hazard(const memdb_scanner *, unsigned parity, memdb_ref owner); /* scans hazards now */
/* The same for many: read them once (after grace is over), then ask. */
void memdb_scanner_read_hazards(memdb_scanner *, unsigned parity);
bool memdb_scanner_hazarded(const memdb_scanner *, memdb_ref owner);
/* One pin that sees [from, before), as a name for memdb_scanner_holds() of later scans; 0 if none. */
#define MEMDB_HOLDER_OPEN (UINT64_C(1) << 60)
uint64_t memdb_scanner_holder(const memdb_scanner *, uint64_t from, uint64_t before);
bool memdb_scanner_holds(const memdb_scanner *, uint64_t holder);
bool memdb_scanner_unacknowledged(const memdb_scanner *); /* did the last scan meet a REVOKED word? (rule R6) */

/* Grace: tickets remember the ACTIVE words of the last scan. */
typedef struct memdb_grace memdb_grace;
memdb_grace *memdb_scanner_ticket(memdb_scanner *, unsigned parity); /* NULL = nobody was active: over at once */
bool memdb_grace_over(memdb_scanner *, memdb_grace *);              /* every remembered word has changed or its lease is gone */
void memdb_grace_free(memdb_scanner *, memdb_grace *);

/* Revokes the word of one slot if it still pins S == lsn; true if we won. */
bool memdb_slot_revoke(struct memdb_slot *slot, uint64_t expected_word);

#endif
