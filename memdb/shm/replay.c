/* replay.c: see replay.h. The one place where the operations of a commit become versions, for a live commit and for replay.
 *
 * Invariants: 8 (one record, one commit: the record's operations and the outcome of its client are applied together, under one LSN) and
 * G1 (replaying a record gives the same state as committing it: everything an operation depends on is in the record, or is the
 * state before it). Commit thread only.
 */
#include "replay.h"

#define RECLAIM_EVERY 64u
#define RECLAIM_BYTES (UINT64_C(1) << 20) /* retired and not reclaimed: what waits is taken from the memory that the rebuild may have */
#define AHEAD 16u /* operations */

void memdb_outcome_key(uint8_t key[MEMDB_OUTCOME_KEY], const uint8_t client_id[16], uint64_t request)
{
    key[0] = MEMDB_SPACE_SYSTEM;
    key[1] = 'o';
    memcpy(key + 2, client_id, 16);
    key[18] = (uint8_t)(request % MEMDB_CELLS);
}

void memdb_outcome_need(uint64_t *bytes, uint64_t *new_keys)
{
    *bytes += memdb_store_cost_put(MEMDB_OUTCOME_KEY, MEMDB_OUTCOME_VALUE);
    *new_keys += 1;
}

void memdb_op_need(const memdb_op *op, uint64_t keys_in_range, uint64_t *bytes, uint64_t *new_keys)
{
    switch (op->code) {
    case MEMDB_OP_SET:
        *bytes += memdb_store_cost_put(op->key_len, op->value_len);
        *new_keys += 1;
        break;
    case MEMDB_OP_DELETE:
        *bytes += memdb_store_cost_delete(op->key_len);
        break;
    case MEMDB_OP_DELETE_RANGE:
        *bytes += keys_in_range * memdb_store_cost_delete(op->key_len);
        break;
    default:
        break;
    }
}

const uint8_t *memdb_op_range_stop(const memdb_op *op, uint8_t *room, size_t *len)
{
    *len = op->value_len;
    if (op->value_len > 0)
        return op->value;
    *room = (uint8_t)(op->key[0] + 1);
    *len = 1;
    return room;
}

static void apply_set(memdb_store *store, const memdb_op *op, uint64_t lsn, uint64_t time_us, memdb_window *window)
{
    uint64_t expires = op->expires_us;
    memdb_found old;
    bool existed;
    if ((op->flags & MEMDB_OP_KEEP_TTL) && memdb_store_newest(store, op->key, op->key_len, time_us, &old) == MEMDB_OK)
        expires = old.expires_us;
    memdb_store_put(store, op->key, op->key_len, op->value, op->value_len, expires, lsn, time_us, &existed);
    if (window != NULL)
        memdb_window_note_key(window, lsn, op->key, op->key_len);
}

static void apply_delete(memdb_store *store, const memdb_op *op, uint64_t lsn, uint64_t time_us, memdb_window *window)
{
    memdb_found old;
    bool existed;
    if (op->flags & MEMDB_OP_ONLY_EXPIRED) { /* there without regard to time, not there at this time */
        if (memdb_store_newest(store, op->key, op->key_len, 0, &old) != MEMDB_OK ||
            memdb_store_newest(store, op->key, op->key_len, time_us, &old) != MEMDB_ABSENT)
            return;
    }
    memdb_store_delete(store, op->key, op->key_len, lsn, time_us, &existed);
    if (window != NULL && existed)
        memdb_window_note_key(window, lsn, op->key, op->key_len);
}

static void apply_delete_range(memdb_store *store, const memdb_op *op, uint64_t lsn, uint64_t time_us, memdb_window *window)
{
    uint8_t room;
    size_t stop_len;
    const uint8_t *stop = memdb_op_range_stop(op, &room, &stop_len);
    uint64_t deleted = memdb_store_delete_range(store, op->key, op->key_len, stop, stop_len, lsn, time_us);
    if (window != NULL && deleted > 0)
        memdb_window_note_range(window, lsn, op->key, op->key_len, stop, stop_len);
}

static void apply_outcome(memdb_store *store, const uint8_t client_id[16], const struct memdb_outcome *outcome)
{
    static const uint8_t nobody[16];
    uint8_t key[MEMDB_OUTCOME_KEY];
    bool existed;
    if (memcmp(client_id, nobody, sizeof nobody) == 0)
        return;
    memdb_outcome_key(key, client_id, outcome->request);
    memdb_store_put(store, key, sizeof key, outcome, sizeof *outcome, 0, outcome->lsn, outcome->time_us, &existed);
}

/* Large commits touch keys all over the arena: what the operations some places further on will need is asked for already.
 * Twice as far ahead the slot of the hash index, then the cell that it refers to. */
typedef struct lookahead {
    memdb_ops_reader slots, cells;
} lookahead;

static void look_at(memdb_store *store, memdb_ops_reader *reader, void (*hint)(memdb_store *, const void *, size_t))
{
    memdb_op op;
    if (memdb_ops_next(reader, &op) == MEMDB_OK)
        hint(store, op.key, op.key_len);
    else
        reader->left = 0, reader->at = reader->end;
}

static void look_ahead(memdb_store *store, lookahead *ahead)
{
    look_at(store, &ahead->slots, memdb_store_hint_slot);
    look_at(store, &ahead->cells, memdb_store_hint_cell);
}

static void begin_ahead(memdb_store *store, lookahead *ahead, const memdb_ops_reader *reader)
{
    ahead->slots = ahead->cells = *reader;
    if (reader->left < AHEAD) { /* nothing to gain */
        ahead->slots.left = ahead->cells.left = 0;
        ahead->slots.at = ahead->cells.at = reader->end;
        return;
    }
    for (unsigned i = 0; i < AHEAD; i++)
        look_at(store, &ahead->slots, memdb_store_hint_slot);
    for (unsigned i = 0; i < AHEAD / 2; i++)
        look_at(store, &ahead->cells, memdb_store_hint_cell);
}

int memdb_apply_ops(memdb_store *store, const void *payload, size_t len, const uint8_t client_id[16], uint64_t request, uint64_t lsn,
                    uint64_t time_us, uint64_t count, memdb_window *window)
{
    struct memdb_outcome outcome = {request, lsn, count, time_us};
    memdb_ops_reader reader;
    memdb_op op;
    int status = memdb_ops_begin(&reader, payload, len);
    lookahead ahead;
    if (status == MEMDB_OK)
        begin_ahead(store, &ahead, &reader);
    while (status == MEMDB_OK && (status = memdb_ops_next(&reader, &op)) == MEMDB_OK) {
        look_ahead(store, &ahead);
        switch (op.code) {
        case MEMDB_OP_SET:
            apply_set(store, &op, lsn, time_us, window);
            break;
        case MEMDB_OP_DELETE:
            apply_delete(store, &op, lsn, time_us, window);
            break;
        case MEMDB_OP_DELETE_RANGE:
            apply_delete_range(store, &op, lsn, time_us, window);
            break;
        default:
            break; /* CHECK: was judged when it was committed */
        }
    }
    if (status != MEMDB_ABSENT)
        return MEMDB_DAMAGED;
    apply_outcome(store, client_id, &outcome);
    return MEMDB_OK;
}

/* ---------------------------------------------------------------- replay ------------------------------- */

static int reserve_record(memdb_store *store, const memdb_record *record)
{
    uint64_t bytes = 0, new_keys = 0;
    memdb_ops_reader reader;
    memdb_op op;
    int status = memdb_ops_begin(&reader, record->body, record->body_len);
    while (status == MEMDB_OK && (status = memdb_ops_next(&reader, &op)) == MEMDB_OK) {
        uint64_t in_range = 0;
        if (op.code == MEMDB_OP_DELETE_RANGE) {
            uint8_t room;
            size_t stop_len;
            const uint8_t *stop = memdb_op_range_stop(&op, &room, &stop_len);
            in_range = memdb_store_count_range(store, op.key, op.key_len, stop, stop_len, 0); /* expired ones are deleted too */
        }
        memdb_op_need(&op, in_range, &bytes, &new_keys);
    }
    if (status != MEMDB_ABSENT)
        return MEMDB_DAMAGED;
    memdb_outcome_need(&bytes, &new_keys);
    status = memdb_store_reserve(store, bytes, new_keys, MEMDB_FOR_RECOVERY);
    while (status < 0 && memdb_store_reclaim(store, 4096) > 0)
        status = memdb_store_reserve(store, bytes, new_keys, MEMDB_FOR_RECOVERY);
    return status;
}

/* A record may retire as much as it writes: what is retired is counted, not records. `standing`: what the last look has left. */
static void replay_reclaim(memdb_store *store, uint64_t turn, uint64_t *standing)
{
    bool full = memdb_store_retired(store) >= *standing + RECLAIM_BYTES;
    if (!full && turn % RECLAIM_EVERY != 0)
        return;
    memdb_store_reclaim(store, full ? SIZE_MAX : RECLAIM_EVERY * 4);
    *standing = memdb_store_retired(store);
}

static int replay_commit(memdb_store *store, const memdb_record *record)
{
    const struct memdb_record_header *header = &record->header;
    int status = reserve_record(store, record);
    if (status == MEMDB_OK)
        status = memdb_apply_ops(store, record->body, record->body_len, header->client_id, header->request, header->lsn,
                                 header->time_us, header->count, NULL);
    if (status != MEMDB_OK)
        return status;
    memdb_store_publish(store, header->lsn);
    return MEMDB_OK;
}

static void note_mark_or_link(const memdb_record *record, memdb_replay_result *out)
{
    uint64_t limit;
    memcpy(&limit, record->body, sizeof limit); /* the first word of both bodies */
    if (limit > out->lsn_limit)
        out->lsn_limit = limit;
    if (record->header.type == MEMDB_RECORD_LINK && record->offset == MEMDB_SEGMENT_HEADER)
        memcpy(&out->link, record->body, sizeof out->link);
}

static void note_commit(const memdb_record *record, memdb_replay_result *out)
{
    if (out->first_lsn == 0)
        out->first_lsn = record->header.lsn;
    out->last_lsn = record->header.lsn;
    if (record->header.time_us > out->time_us)
        out->time_us = record->header.time_us;
}

int memdb_replay_segment(memdb_store *store, const uint8_t *segment, uint64_t len, uint64_t offset, uint64_t salt, uint64_t after_lsn,
                         uint64_t up_to_lsn, memdb_a64 *progress, memdb_replay_result *out)
{
    uint64_t standing = 0;
    memset(out, 0, sizeof *out);
    out->end_offset = offset;
    for (uint64_t turn = 1;; turn++) {
        memdb_record record;
        out->verdict = memdb_record_read(segment, len, out->end_offset, salt, &record);
        if (out->verdict != MEMDB_RECORD_GOOD)
            return MEMDB_OK;
        if (record.header.type == MEMDB_RECORD_COMMIT) {
            uint64_t lsn = record.header.lsn;
            if (lsn <= out->last_lsn || lsn > MEMDB_LSN_MASK)
                return MEMDB_DAMAGED;
            if (lsn > after_lsn && lsn <= up_to_lsn) {
                if (store != NULL && lsn <= memdb_store_reached(store)) /* another segment had it already */
                    return MEMDB_DAMAGED;
                int status = store == NULL ? MEMDB_OK : replay_commit(store, &record);
                if (status != MEMDB_OK)
                    return status;
                if (store != NULL)
                    replay_reclaim(store, turn, &standing);
                out->records++;
            }
            note_commit(&record, out);
        } else {
            note_mark_or_link(&record, out);
        }
        if (record.header.durable_lsn > out->durable_lsn)
            out->durable_lsn = record.header.durable_lsn;
        out->last_crc = record.header.header_crc;
        out->end_offset += record.padded;
        if (progress != NULL)
            memdb_store_relaxed(progress, memdb_load_relaxed(progress) + 1); /* a figure; only this thread stores it */
    }
}
