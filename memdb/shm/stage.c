/* stage.c: frames of large transactions, and what the operations of a request will do: found out before anything is changed.
 *
 * Invariants: C7 (staging is bounded per client and dies with it or with the writer), 14, and: what is judged here is a private copy,
 * never the client's memory. A payload is walked once to its end before the first effect, so a bad operation at its end
 * leaves no trace. Commit thread only.
 */
#include <stdlib.h>

#include "commitstate.h"

/* ---------------------------------------------------------------- frames ------------------------------- */

static void staging_clear(struct memdb_staging *staging)
{
    free(staging->bytes);
    memset(staging, 0, sizeof *staging);
}

static struct memdb_staging *staging_of(struct memdb_client *client, uint64_t request)
{
    for (unsigned i = 0; i < MEMDB_STAGINGS; i++)
        if (client->staging[i].request == request)
            return &client->staging[i];
    return NULL;
}

/* A place for a new one: a free one, else that of the transaction whose last frame is oldest (its commit is answered AGAIN). */
static struct memdb_staging *staging_begin(memdb_commit *ctx, struct memdb_client *client, uint64_t request)
{
    struct memdb_staging *best = &client->staging[0];
    for (unsigned i = 0; i < MEMDB_STAGINGS && best->request != 0; i++)
        if (client->staging[i].request == 0 || client->staging[i].used_at < best->used_at)
            best = &client->staging[i];
    staging_clear(best);
    best->request = request;
    best->used_at = ctx->mono_us;
    return best;
}

/* Appends, or marks why it can't be, and gives its memory back. */
static void staging_append(memdb_commit *ctx, struct memdb_staging *staging, const uint8_t *bytes, size_t len)
{
    if (staging->too_large || staging->no_memory || staging->broken)
        return;
    if (staging->len + len > ctx->config.max_transaction_bytes) {
        staging->too_large = 1;
    } else if (staging->len + len > staging->cap) {
        uint64_t cap = staging->cap ? staging->cap * 2 : MEMDB_FRAME_MAX * 4;
        while (cap < staging->len + len)
            cap *= 2;
        uint8_t *grown = realloc(staging->bytes, cap);
        if (grown == NULL)
            staging->no_memory = 1;
        else
            staging->bytes = grown, staging->cap = cap;
    }
    if (staging->too_large || staging->no_memory) {
        free(staging->bytes);
        staging->bytes = NULL;
        staging->len = staging->cap = 0;
        return;
    }
    if (len > 0) /* an empty first frame: there is no memory yet */
        memcpy(staging->bytes + staging->len, bytes, len);
    staging->len += len;
}

int memdb_stage_frame(memdb_commit *ctx, struct memdb_client *client, const struct memdb_entry *entry, const uint8_t *payload, size_t len)
{
    struct memdb_staging *staging = staging_of(client, entry->request);
    if (staging == NULL && entry->frame != 0)
        return MEMDB_OK; /* its beginning went down with another writer, or was displaced: the commit is answered AGAIN */
    if (staging != NULL && entry->frame == 0)
        staging_clear(staging), staging = NULL; /* sent again from the start */
    if (staging == NULL)
        staging = staging_begin(ctx, client, entry->request);
    staging->used_at = ctx->mono_us;
    if (entry->frame != staging->frames)
        staging->broken = 1;
    staging->frames++;
    staging_append(ctx, staging, payload, len);
    return MEMDB_OK;
}

int memdb_stage_finish(memdb_commit *ctx, struct memdb_client *client, const struct memdb_entry *entry, const uint8_t *payload, size_t len,
                       const uint8_t **whole, size_t *whole_len)
{
    struct memdb_staging *staging = staging_of(client, entry->request);
    if (staging == NULL || staging->broken || staging->frames != entry->frame)
        return MEMDB_AGAIN;
    staging_append(ctx, staging, payload, len);
    if (staging->too_large)
        return MEMDB_TOO_LARGE;
    if (staging->no_memory)
        return MEMDB_FULL;
    *whole = staging->bytes;
    *whole_len = (size_t)staging->len;
    return MEMDB_OK;
}

void memdb_stage_drop(struct memdb_client *client, uint64_t request)
{
    struct memdb_staging *staging = staging_of(client, request);
    if (staging != NULL && request != 0)
        staging_clear(staging);
}

void memdb_stage_drop_all(struct memdb_client *client)
{
    for (unsigned i = 0; i < MEMDB_STAGINGS; i++)
        staging_clear(&client->staging[i]);
}

/* ---------------------------------------------------------------- preparing ---------------------------- */

/* Spaces: a client names keys of the mapping and of the layers; the group's own leases name all. */
int memdb_stage_space_allowed(const struct memdb_client *client, uint8_t space)
{
    if (client->system)
        return space >= 1 && space < MEMDB_SPACES;
    return space == MEMDB_SPACE_PLAIN || space == MEMDB_SPACE_CATALOGUE || space == MEMDB_SPACE_COLLECTIONS;
}

/* A range lies within one space: its stop is inside it, or exactly its end. */
static int range_allowed(const memdb_op *op)
{
    if (op->value_len == 0 || op->value[0] == op->key[0])
        return 1;
    return op->value_len == 1 && op->value[0] == op->key[0] + 1;
}

static int check_op(const memdb_commit *ctx, const struct memdb_client *client, const memdb_op *op)
{
    if (!memdb_stage_space_allowed(client, op->key[0]))
        return MEMDB_INVALID;
    if (op->key_len > ctx->config.max_key_bytes)
        return MEMDB_TOO_LARGE;
    if (op->code == MEMDB_OP_DELETE_RANGE)
        return range_allowed(op) ? MEMDB_OK : MEMDB_INVALID;
    return op->value_len > ctx->config.max_value_bytes ? MEMDB_TOO_LARGE : MEMDB_OK;
}

/* The conditions of one operation against the newest state, published or not. OK, CONDITION, or what the store says. */
static int check_conditions(const memdb_op *op, int newest, const memdb_found *found)
{
    if (newest != MEMDB_OK && newest != MEMDB_ABSENT)
        return newest;
    if ((op->flags & MEMDB_OP_IF_PRESENT) && newest != MEMDB_OK)
        return MEMDB_CONDITION;
    if ((op->flags & MEMDB_OP_IF_ABSENT) && newest != MEMDB_ABSENT)
        return MEMDB_CONDITION;
    if ((op->flags & MEMDB_OP_IF_VERSION) && (newest != MEMDB_OK || found->lsn != op->if_lsn))
        return MEMDB_CONDITION;
    return MEMDB_OK;
}

/* Does this DELETE find something at this time? ONLY_EXPIRED: something that is there but for its expiry. */
static int delete_finds(memdb_commit *ctx, const memdb_op *op, int newest)
{
    memdb_found found;
    if (!(op->flags & MEMDB_OP_ONLY_EXPIRED))
        return newest == MEMDB_OK;
    return newest == MEMDB_ABSENT && memdb_store_newest(ctx->store, op->key, op->key_len, 0, &found) == MEMDB_OK;
}

/* One operation: conditions, what it will do, what that needs. */
static int prepare_op(memdb_commit *ctx, const memdb_op *op, struct memdb_prepared *out, uint64_t *effects)
{
    memdb_found found = {0};
    int newest = MEMDB_ABSENT;
    uint64_t touched = 0, deleted = 0;
    if (op->code == MEMDB_OP_DELETE || (op->flags & (MEMDB_OP_IF_VERSION | MEMDB_OP_IF_ABSENT | MEMDB_OP_IF_PRESENT))) {
        newest = memdb_store_newest(ctx->store, op->key, op->key_len, ctx->now_us, &found);
        int status = check_conditions(op, newest, &found);
        if (status != MEMDB_OK) {
            out->winner = found.lsn;
            return status;
        }
    }
    if (op->code == MEMDB_OP_SET) {
        touched = 1;
        out->deletes_only = 0;
    } else if (op->code == MEMDB_OP_DELETE) {
        touched = (uint64_t)delete_finds(ctx, op, newest);
    } else if (op->code == MEMDB_OP_DELETE_RANGE) {
        uint8_t room;
        size_t stop_len;
        const uint8_t *stop = memdb_op_range_stop(op, &room, &stop_len);
        touched = memdb_store_count_range(ctx->store, op->key, op->key_len, stop, stop_len, ctx->now_us);
        deleted = memdb_store_count_range(ctx->store, op->key, op->key_len, stop, stop_len, 0); /* expired ones go too */
    }
    memdb_op_need(op, deleted, &out->bytes, &out->new_keys);
    out->count += touched;
    *effects += touched;
    return MEMDB_OK;
}

void memdb_stage_prepare(memdb_commit *ctx, const struct memdb_client *client, const uint8_t *payload, size_t len,
                         struct memdb_prepared *out)
{
    memdb_ops_reader reader;
    memdb_op op;
    uint64_t effects = 0;
    unsigned ranges = 0;
    int verdict = MEMDB_OK; /* of the first operation that does not hold; a malformed one behind it counts more */
    *out = (struct memdb_prepared){.deletes_only = 1};
    int status = memdb_ops_begin(&reader, payload, len);
    for (; status == MEMDB_OK && (status = memdb_ops_next(&reader, &op)) == MEMDB_OK; out->op_count++) {
        status = check_op(ctx, client, &op);
        if (op.code == MEMDB_OP_DELETE_RANGE && ++ranges > MEMDB_RANGES_MAX)
            status = MEMDB_INVALID;
        if (status != MEMDB_OK) {
            out->detail = out->op_count;
            break;
        }
        if (verdict == MEMDB_OK && (verdict = prepare_op(ctx, &op, out, &effects)) != MEMDB_OK)
            out->detail = out->op_count;
    }
    memdb_outcome_need(&out->bytes, &out->new_keys);
    if (status != MEMDB_ABSENT)
        out->status = status;
    else if (verdict != MEMDB_OK)
        out->status = verdict;
    else
        out->status = effects > 0 ? MEMDB_OK : MEMDB_ABSENT;
}

int memdb_stage_outcome(memdb_commit *ctx, const struct memdb_client *client, uint64_t request, struct memdb_outcome *out)
{
    uint8_t key[MEMDB_OUTCOME_KEY];
    memdb_found found;
    memdb_outcome_key(key, client->client_id, request);
    int status = memdb_store_newest(ctx->store, key, sizeof key, ctx->now_us, &found);
    if (status != MEMDB_OK || found.len != sizeof *out)
        return MEMDB_ABSENT;
    memdb_copy_out(out, found.data, sizeof *out);
    if (out->request == request)
        return MEMDB_OK;
    return out->request > request ? MEMDB_UNKNOWN : MEMDB_ABSENT;
}
