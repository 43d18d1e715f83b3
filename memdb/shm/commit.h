/* commit.h: the writer's loop: drain leases -> validate -> reserve -> append -> apply -> write -> publish in order -> complete.
 *
 * Owns: the order of rule C5, group commit, exactly-once (rule C2), the log buffer's tail, the LSN counter, when to spin and when to park.
 * No policy: which file, when to rotate, what to do on failure is the caller's (memdb/actors/writer.py) by the events it returns.
 *
 * Who: one commit thread calls everything here, except memdb_sync_wait / memdb_sync_done (one sync thread) and
 * memdb_commit_interrupt (any thread).
 * Invariants 6, 7, 8 and 4 of the architecture: log first; reserve, then log; applied once; seen means safe.
 */
#ifndef MEMDB_COMMIT_H
#define MEMDB_COMMIT_H

#include "lease.h"
#include "ops.h"
#include "record.h"
#include "store.h"

typedef struct memdb_commit memdb_commit;

typedef struct memdb_commit_config {
    uint64_t max_transaction_bytes, max_key_bytes, max_value_bytes;
    uint64_t sync_interval_us; /* longest time that bytes stay unsynced */
    uint64_t spin_us;          /* longest spin before parking, adapted downwards */
    uint64_t lsn_step;         /* how far ahead the LSN limit is made durable (L4), e.g. 1 << 20 */
    uint32_t quota;            /* entries per lease and round */
    uint64_t word;             /* GENERATION word that this loop's store is shown under: what snapshots of its clients are pinned under */
    uint8_t logged;            /* 0: durability none, no log at all */
} memdb_commit_config;

/* How bytes reach the file: the seam. Returns bytes written (may be short) or -errno. */
typedef int64_t (*memdb_log_write_fn)(void *arg, const void *bytes, uint64_t len, uint64_t offset);

enum memdb_event {
    MEMDB_EVENT_NONE = 0,      /* deadline reached */
    MEMDB_EVENT_CONTROL = 1,   /* memdb_commit_interrupt was called */
    MEMDB_EVENT_ROTATE = 2,    /* the next record does not fit, or memdb_commit_want_rotate: rotate, then go on */
    MEMDB_EVENT_LOG_FAILED = 3,/* write or sync failed; errno by memdb_commit_log_errno; writes are refused from now on */
    MEMDB_EVENT_PRESSURE = 4,  /* a request did not find room: who pins what is the caller's to judge; call memdb_commit_pressure_done */
};

int memdb_commit_new(memdb_commit **out, memdb_store *store, memdb_scanner *scanner, struct memdb_board *board,
                     struct memdb_logbuf *logbuf, const memdb_commit_config *config, uint64_t last_lsn);
void memdb_commit_free(memdb_commit *);
/* Also makes the lease known to the scanner (and remove takes it out again). OK, INVALID (no sound lease), FULL (no memory). */
int memdb_commit_add_lease(memdb_commit *, struct memdb_lease *);
void memdb_commit_allow_system(memdb_commit *, struct memdb_lease *); /* this lease may write spaces other than PLAIN: the group's own */
/* A dead or departed client: what it had published is copied and committed by the steps that follow, in its turn; staging that no
 * commit in the ring asks for is dropped. The lease may be unmapped as soon as this returns. */
void memdb_commit_remove_lease(memdb_commit *, struct memdb_lease *);

#define MEMDB_LOGBUF_MAGIC 0x4655424c4244454dull
#define MEMDB_LOGBUF_SLACK 4096u /* kept free at the end of a segment for marks */
#define MEMDB_LOGBUF_DELETES_SHARE 16u /* before it, this part of a segment is for commits that only delete, */
#define MEMDB_LOGBUF_DELETES_MAX (UINT64_C(256) << 10) /* and no more than this */

/* Opens half [segment & 1] of the buffer as the image of a new segment (its 4 KiB header already in the file and copied here), and makes it
 * current; appends the link record if `link` is given and writes it. The caller has flushed and synced the old segment (AGAIN if bytes of it are unwritten) and syncs the new one afterwards, through
 * memdb_sync_request or itself (then memdb_commit_set_lsn makes the link's LSN limit count). tail = MEMDB_SEGMENT_HEADER: INVALID otherwise,
 * because a segment that others wrote is never gone on with. OK, INVALID, AGAIN, LOG_FAILED. */
int memdb_commit_open_segment(memdb_commit *, uint64_t segment, uint64_t salt, uint64_t capacity, const void *header, uint64_t tail,
                              const struct memdb_link_body *link, memdb_log_write_fn write, void *arg);
/* A successor of a dead writer goes on in the buffer's current segment: checks every record of the image, then writes what the file
 * lacks (rule C4). last_lsn of memdb_commit_new must be that of the image (the store has applied it all).
 * OK, INVALID (other LSN), ABSENT (no segment is open), DAMAGED, LOG_FAILED. */
int memdb_commit_resume_segment(memdb_commit *, memdb_log_write_fn write, void *arg);
uint64_t memdb_logbuf_bytes(uint64_t half_bytes);
void memdb_logbuf_init(struct memdb_logbuf *, uint64_t half_bytes);
uint8_t *memdb_logbuf_image(struct memdb_logbuf *, uint64_t segment); /* bytes of its half */

/* Works until an event. deadline_us: monotonic. Runs without the GIL. */
int memdb_commit_run(memdb_commit *, uint64_t deadline_us);
/* One round without waiting (tests, shutdown): number of requests settled or taken, or -event. */
int memdb_commit_step(memdb_commit *);
/* After MEMDB_EVENT_PRESSURE: figures tell what the held request needs. retry: room was made, try again (it may end in another
 * MEMDB_EVENT_PRESSURE); otherwise the request is answered FULL or SHM_FULL. */
void memdb_commit_pressure_done(memdb_commit *, int retry);
/* Decides the next entry of one lease (the group's own) out of turn, also while another request waits for room (rule R5: what has
 * expired goes first). OK; ABSENT: the ring is empty; AGAIN: not now; -event: as memdb_commit_step. */
int memdb_commit_take_now(memdb_commit *, const struct memdb_lease *lease);
void memdb_commit_interrupt(memdb_commit *); /* any thread: makes run return CONTROL */
int memdb_commit_flush(memdb_commit *);      /* write all appended bytes to the file */
int memdb_commit_mark(memdb_commit *);       /* append and write a mark now (sync()) */
void memdb_commit_want_rotate(memdb_commit *);
/* closed: nothing more is taken from the rings until it is opened again, so that a number of steps finishes all that was, and what
 * clients that have departed left behind. */
void memdb_commit_close_intake(memdb_commit *, int closed);
/* Refuse writes with this status; 0 = take them again. takes_deletes: commits that only delete are still taken, as far as the open
 * segment has room (a full disk). After LOG_FAILED there is no way back in this memdb_commit, nor for its store: both
 * hold commits that were answered as failed. A new generation is read from what is published (rule L5). */
void memdb_commit_read_only(memdb_commit *, int status, int takes_deletes);
/* LSNs go on above last_lsn (never back), and below limit, which the caller has made durable. */
void memdb_commit_set_lsn(memdb_commit *, uint64_t last_lsn, uint64_t limit);

typedef struct memdb_commit_figures {
    uint64_t applied_lsn, published_lsn, written_lsn, synced_lsn, lsn_limit;
    uint64_t segment, tail, written, synced, capacity;
    uint64_t commits, rejected, conflicts, rounds, syncs, parks, dirty_keys;
    /* conflicts: those of the rejected whose reads did not hold; dirty_keys: operations since memdb_commit_reset_dirty */
    uint64_t bytes_logged;
    uint64_t segment_needed; /* with ROTATE: the next segment must have at least this capacity */
    uint64_t held_bytes;     /* with PRESSURE: arena bytes that the held request asks for */
    uint64_t reclaim_us;     /* time that reclaiming has taken while work flowed: what deletes cost after they were answered */
    uint64_t pending;        /* requests taken and not yet answered */
    uint64_t broken_leases;  /* dropped because their ring held nonsense */
    uint32_t last_crc;       /* header_crc of the last record appended: what the next link names */
    int log_errno, held_status, read_only;
} memdb_commit_figures;
void memdb_commit_get_figures(memdb_commit *, memdb_commit_figures *);
void memdb_commit_reset_dirty(memdb_commit *);
int memdb_commit_log_errno(memdb_commit *);

/* --- sync thread --- */
typedef struct memdb_sync_job { uint64_t segment, bytes, lsn; } memdb_sync_job;
int memdb_sync_wait(memdb_commit *, memdb_sync_job *job, uint64_t timeout_us); /* OK: sync this segment's file; AGAIN: nothing; STOPPED */
void memdb_sync_done(memdb_commit *, const memdb_sync_job *job, int error);    /* error: errno or 0; wakes the commit thread */
void memdb_sync_stop(memdb_commit *);
void memdb_sync_request(memdb_commit *); /* commit thread or control: sync what is written, now */

#endif
