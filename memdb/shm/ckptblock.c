/* ckptblock.c: blocks of a checkpoint (replay.h). Pure functions over buffers, but for memdb_ckpt_load (commit thread).
 *
 * Invariant: header_crc covers salt and header, payload_crc the items; a length is believed only after header_crc fits, an item
 * only after payload_crc.
 */
#include "crc32c.h"
#include "replay.h"

struct item_header { uint32_t key_len, value_len; uint64_t lsn, expires_us; };
_Static_assert(sizeof(struct item_header) == 24, "item of a scan batch (store.h)");

static uint32_t block_crc(const struct memdb_ckpt_block *block, uint64_t salt)
{
    return memdb_crc32c(memdb_crc32c(0, &salt, sizeof salt), block, offsetof(struct memdb_ckpt_block, header_crc));
}

void memdb_ckpt_seal(struct memdb_ckpt_block *block, uint64_t salt, uint64_t index, uint32_t count, const void *payload, uint64_t bytes)
{
    memset(block, 0, sizeof *block);
    block->magic = MEMDB_CKPT_BLOCK_MAGIC;
    block->count = count;
    block->index = index;
    block->bytes = bytes;
    block->payload_crc = memdb_crc32c(0, payload, bytes);
    block->header_crc = block_crc(block, salt);
}

int memdb_ckpt_check(const struct memdb_ckpt_block *block, uint64_t salt, uint64_t index, const void *payload, uint64_t room)
{
    if (block->magic != MEMDB_CKPT_BLOCK_MAGIC || block->header_crc != block_crc(block, salt) || block->index != index)
        return MEMDB_DAMAGED;
    if (block->bytes > room || memdb_crc32c(0, payload, block->bytes) != block->payload_crc)
        return MEMDB_DAMAGED;
    return MEMDB_OK;
}

static int key_grows(const uint8_t *before, uint32_t before_len, const uint8_t *key, uint32_t len)
{
    int order = memcmp(before, key, before_len < len ? before_len : len);
    return order < 0 || (order == 0 && before_len < len);
}

int memdb_ckpt_load(memdb_store *store, const void *payload, uint64_t bytes, uint32_t count, uint64_t lsn)
{
    const uint8_t *at = payload, *before = NULL;
    uint64_t left = bytes;
    uint32_t before_len = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct item_header item;
        if (left < sizeof item)
            return MEMDB_DAMAGED;
        memcpy(&item, at, sizeof item);
        uint64_t size = (sizeof item + (uint64_t)item.key_len + item.value_len + 7) & ~UINT64_C(7);
        if (size > left || item.key_len == 0 || item.key_len > MEMDB_KEY_MAX || item.value_len > MEMDB_SIZE_MASK)
            return MEMDB_DAMAGED;
        if (item.lsn == 0 || item.lsn > lsn)
            return MEMDB_DAMAGED;
        const uint8_t *key = at + sizeof item;
        if (before != NULL && !key_grows(before, before_len, key, item.key_len))
            return MEMDB_DAMAGED;
        int status = memdb_bulk_add(store, key, item.key_len, key + item.key_len, item.value_len, item.expires_us, item.lsn);
        if (status != MEMDB_OK)
            return status == MEMDB_INVALID ? MEMDB_DAMAGED : status;
        before = key, before_len = item.key_len;
        at += size, left -= size;
    }
    return left == 0 ? MEMDB_OK : MEMDB_DAMAGED;
}
