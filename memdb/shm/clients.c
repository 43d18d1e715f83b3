/* clients.c: the leases that the commit loop serves. See commit.h.
 *
 * Invariant 12: a client's departure costs only its own. What it had published is copied out of its lease, so the lease can be unmapped
 * at once, and is committed in its turn; the copy's memory is set aside when the client joins, so leaving cannot fail.
 * Commit thread only.
 */
#include <stdlib.h>

#include "commitstate.h"

void memdb_client_free(struct memdb_client *client)
{
    memdb_stage_drop_all(client);
    free(client->legacy);
    free(client);
}

static struct memdb_client *client_of(memdb_commit *ctx, const struct memdb_lease *lease)
{
    for (uint32_t i = 0; i < ctx->client_count; i++)
        if (ctx->clients[i]->lease == lease)
            return ctx->clients[i];
    return NULL;
}

int memdb_commit_add_lease(memdb_commit *ctx, struct memdb_lease *lease)
{
    if (memdb_lease_check(lease, sizeof *lease) != MEMDB_OK || client_of(ctx, lease) != NULL)
        return MEMDB_INVALID;
    if (ctx->client_count == ctx->client_cap) {
        uint32_t cap = ctx->client_cap ? ctx->client_cap * 2 : 16;
        struct memdb_client **grown = realloc(ctx->clients, cap * sizeof *grown);
        if (grown == NULL)
            return MEMDB_FULL;
        ctx->clients = grown;
        ctx->client_cap = cap;
    }
    struct memdb_client *client = calloc(1, sizeof *client);
    if (client == NULL)
        return MEMDB_FULL;
    client->legacy = aligned_alloc(64, sizeof *client->legacy); /* takes no memory before it is written */
    if (client->legacy == NULL || memdb_scanner_add(ctx->scanner, lease) < 0) {
        memdb_client_free(client);
        return MEMDB_FULL;
    }
    client->lease = lease;
    memcpy(client->client_id, lease->client_id, sizeof client->client_id);
    ctx->clients[ctx->client_count++] = client;
    return MEMDB_OK;
}

void memdb_commit_allow_system(memdb_commit *ctx, struct memdb_lease *lease)
{
    struct memdb_client *client = client_of(ctx, lease);
    if (client != NULL)
        client->system = 1;
}

static void forget_client(memdb_commit *ctx, uint32_t index)
{
    memdb_client_free(ctx->clients[index]);
    ctx->clients[index] = ctx->clients[--ctx->client_count];
}

/* What matters of a lease that is going: ring and cells. */
static void copy_lease(struct memdb_lease *copy, const struct memdb_lease *lease, const uint8_t client_id[16])
{
    memdb_lease_init(copy, client_id);
    memdb_store_relaxed(&copy->ring_tail, memdb_load_sc(&lease->ring_tail)); /* SYNC: ring-tail */
    memdb_store_relaxed(&copy->ring_head, memdb_load_relaxed(&lease->ring_head));
    for (unsigned i = 0; i < MEMDB_CELLS; i++) {
        memdb_store_relaxed(&copy->results[i].state, memdb_load_acquire(&lease->results[i].state) & ~MEMDB_WAITING); /* SYNC: result */
        memdb_store_relaxed(&copy->results[i].request, memdb_load_relaxed(&lease->results[i].request));
    }
    for (size_t i = 0; i < MEMDB_RING_BYTES / 8; i++)
        memdb_store_relaxed(&copy->ring[i], memdb_load_relaxed(&lease->ring[i]));
}

void memdb_commit_remove_lease(memdb_commit *ctx, struct memdb_lease *lease)
{
    struct memdb_client *client = client_of(ctx, lease);
    memdb_scanner_remove(ctx->scanner, lease);
    if (client == NULL)
        return;
    copy_lease(client->legacy, lease, client->client_id);
    client->lease = client->legacy;
    client->departed = 1;
}

/* Forgets those that have departed and left nothing behind. */
void memdb_clients_bury(memdb_commit *ctx)
{
    for (uint32_t i = ctx->client_count; i-- > 0;) {
        const struct memdb_client *client = ctx->clients[i];
        if (client->departed && client->flying == 0 && ctx->held.client != client &&
            (client->broken || !memdb_lease_ready(client->lease)))
            forget_client(ctx, i);
    }
}
