/* commitstate.h: the state of the commit loop, shared by commit.c (deciding, rounds), clients.c (leases), park.c (waiting), stage.c (frames, preparing), validate.c (what was read),
 * publish.c (pending queue,
 * publishing, completion), logbuf.c (log image, segments, marks) and sync.c (hand-over to the sync thread). No other file includes it.
 *
 * Owned by the commit thread, except struct memdb_sync, whose words two threads share (sync.c says how).
 *
 * Invariants:
 *  - published <= applied; written_lsn, synced_lsn <= applied; half->written <= half->tail.
 *  - Everything in `pending` was decided (applied or rejected) and is answered in that order.
 *  - At most one request is `held`: it was taken, is not yet decided, and nothing is drained while it waits.
 */
#ifndef MEMDB_COMMITSTATE_H
#define MEMDB_COMMITSTATE_H

#include "commit.h"
#include "readset.h"
#include "replay.h"
#include "window.h"

#define MEMDB_PENDING_MAX 16384u /* power of two; nothing is drained while this many wait for durability */
#define MEMDB_STAGINGS 4u        /* large transactions that one client may stream at a time */
#define MEMDB_MARK_DELAY_US 5000u
#define MEMDB_LAZY_BYTES 65536u  /* bytes of level memory that may wait for the next write */

struct memdb_staging { /* frames of one request */
    uint64_t request, used_at; /* request 0 = free */
    uint8_t *bytes;
    uint64_t len, cap;
    uint32_t frames;
    uint8_t too_large, no_memory, broken;
};

struct memdb_client {
    struct memdb_lease *lease;
    struct memdb_lease *legacy; /* memory for a copy of it, for when the client departs */
    uint8_t client_id[16]; /* copied once: the lease is the client's to scribble on */
    uint64_t highest;      /* request seen */
    uint64_t in_flight[MEMDB_CELLS]; /* request taken by this writer and not yet answered, by cell */
    uint32_t flying;
    uint64_t moment;       /* when a request of it was last taken: memdb_commit.moment */
    uint8_t broken, system, departed; /* departed: `lease` is `legacy` */
    struct memdb_staging staging[MEMDB_STAGINGS];
};

struct memdb_pending {
    struct memdb_client *client;
    uint64_t request, need_lsn, publish_lsn, lsn, count, detail, winner;
    int32_t status;
    uint16_t cell;
    uint8_t level;
};

struct memdb_sync { /* between commit and sync thread */
    memdb_a32 wanted;       /* futex: bumped by each request; SYNC: sync-wanted */
    memdb_a32 sleeping;     /* the sync thread may sleep on wanted */
    memdb_a32 stopped;
    memdb_a64 segment;      /* commit thread stores: where bytes go now; SYNC: sync-segment */
    memdb_a64 bytes;        /* written to it; SYNC: sync-bytes */
    memdb_a64 lsn;          /* highest LSN written to any; SYNC: sync-lsn */
    memdb_a64 done_segment, done_bytes, done_lsn;
    memdb_a64 done_count;   /* sync thread stores: jobs done; SYNC: sync-done */
    memdb_a32 done_error;   /* errno of a failed sync: final */
    uint32_t taken;         /* sync thread's own: last value of wanted served */
};

struct memdb_log {
    struct memdb_logbuf_half *half; /* NULL: no segment is open */
    uint8_t *image;
    memdb_log_write_fn write;
    void *write_arg;
    uint64_t segment, salt, capacity, tail, written;
    uint64_t last_d;          /* D in the newest record */
    uint64_t limit;           /* durable LSN limit */
    uint64_t limit_asked, limit_offset; /* in a mark or link that is not yet durable, ending at this offset; 0 = none */
    uint32_t last_crc;
};

struct memdb_prepared { /* what preparing found out about one request */
    int status;         /* OK: write it; ABSENT: nothing to write; else the answer */
    uint32_t op_count;
    uint64_t count, bytes, new_keys, detail, winner;
    uint8_t deletes_only;
};

struct memdb_verdict { /* OK; INVALID: detail = index of the entry; CONFLICT: as in its answer (lease.h); or what the store says */
    int status;
    uint64_t detail, winner;
    enum memdb_conflict reason;
};

struct memdb_held {
    struct memdb_client *client; /* NULL = none */
    struct memdb_entry entry;
    const uint8_t *reads; /* with MEMDB_ENTRY_VALIDATE: the section before the operations; else NULL */
    size_t reads_size;
    const uint8_t *payload; /* the operations */
    size_t len;
    int pressure; /* status of the reserve that failed and was reported; 0 = none */
    uint8_t asked; /* waiting for memdb_commit_pressure_done */
};

struct memdb_commit {
    memdb_store *store;
    memdb_scanner *scanner;
    struct memdb_arena_header *arena;
    struct memdb_board *board;
    struct memdb_logbuf *logbuf;
    memdb_commit_config config;
    struct memdb_client **clients;
    uint32_t client_count, client_cap, next_client;
    uint8_t *buf; /* one entry's payload */

    uint64_t applied, published, written_lsn, synced_lsn;
    struct memdb_log log;
    struct memdb_sync sync;
    struct memdb_held held;
    memdb_window *window; /* keys of recent commits */

    struct memdb_pending *pending; /* ring of MEMDB_PENDING_MAX */
    uint64_t pending_head, pending_tail;
    struct memdb_pending *waiting; /* SYNC requests, first come first */
    uint32_t waiting_count, waiting_cap;

    uint64_t now_us, mono_us;      /* commit time and clock of this round */
    uint64_t full_lsn, asked_lsn;  /* highest LSN that somebody waits for to be durable; written when a sync was last asked for */
    uint64_t asked_at, synced_at, unsynced_since, lazy_since; /* monotonic; 0 = no */
    uint64_t done_seen;
    uint8_t want_write, want_rotate, sync_asked, report_failure;
    uint8_t takes_deletes; /* though read_only */
    uint8_t intake_closed; /* entries stay in their rings; what was taken is finished */
    memdb_a32 control;
    int read_only, log_errno;

    uint64_t gap_us, idle_since;   /* smoothed time between work; monotonic, 0 = busy */
    uint64_t sync_us;              /* smoothed time that a sync takes, from asking to done */
    uint32_t crowded;              /* waits to sleep through without spinning: others want the processor */
    uint32_t reclaim_debt;         /* requests since the last turn of reclaiming */
    uint64_t reclaim_us;           /* spent in reclaiming while work flowed */
    uint64_t moment, busy;         /* time in units of MOMENT_US; clients served in it */
    uint64_t gathered_at;          /* monotonic: when a piece of the arena was last gathered */
    uint64_t reclaim_wait_us;      /* how long to park while something waits for grace */
    uint64_t segment_needed, held_bytes;
    uint64_t commits, rejected, conflicts, rounds, syncs, parks, dirty, bytes_logged, broken;
    unsigned processors;
};

/* clients.c */
void memdb_client_free(struct memdb_client *client);
void memdb_clients_bury(memdb_commit *ctx); /* forgets those that have departed and left nothing behind */

/* stage.c */
int memdb_stage_frame(memdb_commit *ctx, struct memdb_client *client, const struct memdb_entry *entry, const uint8_t *payload, size_t len);
/* The whole payload of a STAGED commit, with its own appended. OK; AGAIN (frames are missing); TOO_LARGE. */
int memdb_stage_finish(memdb_commit *ctx, struct memdb_client *client, const struct memdb_entry *entry, const uint8_t *payload, size_t len,
                       const uint8_t **whole, size_t *whole_len);
void memdb_stage_drop(struct memdb_client *client, uint64_t request);
void memdb_stage_drop_all(struct memdb_client *client);
void memdb_stage_prepare(memdb_commit *ctx, const struct memdb_client *client, const uint8_t *payload, size_t len,
                         struct memdb_prepared *out);
int memdb_stage_space_allowed(const struct memdb_client *client, uint8_t space); /* may it name keys of this space? */
/* An outcome that is stored for this request: OK, ABSENT, or UNKNOWN (a later one has taken its place). */
int memdb_stage_outcome(memdb_commit *ctx, const struct memdb_client *client, uint64_t request, struct memdb_outcome *out);

/* validate.c */
void memdb_validate(memdb_commit *ctx, const struct memdb_client *client, const uint8_t *section, size_t len, struct memdb_verdict *out);

/* publish.c */
struct memdb_pending *memdb_pending_push(memdb_commit *ctx, struct memdb_client *client, const struct memdb_entry *entry, int status);
int memdb_pending_wait_sync(memdb_commit *ctx, struct memdb_client *client, const struct memdb_entry *entry);
unsigned memdb_publish_pending(memdb_commit *ctx); /* the same without SYNC requests: appends nothing to the log */
unsigned memdb_publish_round(memdb_commit *ctx); /* publishes and answers what may be; number of answers */
void memdb_poison(memdb_commit *ctx, int error);
static inline uint64_t memdb_pending_count(const memdb_commit *ctx)
{
    return ctx->pending_tail - ctx->pending_head;
}

/* logbuf.c */
uint64_t memdb_log_commit_bytes(size_t payload_len); /* of a commit record, padded */
int memdb_log_fits(const memdb_commit *ctx, uint64_t padded, int deletes_only);
void memdb_log_append_commit(memdb_commit *ctx, const struct memdb_client *client, const struct memdb_entry *entry, const uint8_t *payload,
                             size_t len, const struct memdb_prepared *prepared, uint64_t lsn);
int memdb_log_append_mark(memdb_commit *ctx, uint64_t limit); /* OK; FULL: no room (a rotation is asked for, but while read-only) */
int memdb_log_mark_due(const memdb_commit *ctx);              /* more is durable than the log says, and a mark could say it */
int memdb_log_flush(memdb_commit *ctx);                       /* OK or LOG_FAILED (and poisoned) */

/* commit.c, for park.c */
int memdb_commit_ready(memdb_commit *ctx); /* is there anything that a step could do? seq_cst loads */
uint64_t memdb_commit_next_timer(const memdb_commit *ctx); /* monotonic us; UINT64_MAX = none */

/* sync.c */
int memdb_sync_collect(memdb_commit *ctx); /* takes up what the sync thread has done: 1 if anything */
void memdb_sync_ask(memdb_commit *ctx);

#endif
