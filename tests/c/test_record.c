/*
 * Log records, operations and checkpoint blocks as bytes: round trips, every single flipped bit found, torn tails told from damage, and
 * decoders fed with noise.
 */
#include "commit_rig.h"

#define SALT 99u

static uint64_t put_record(uint8_t *segment, uint64_t offset, uint64_t lsn, uint32_t body)
{
    struct memdb_record_header header = {.size = (uint32_t)sizeof header + body, .type = MEMDB_RECORD_COMMIT, .lsn = lsn, .durable_lsn = lsn / 2};
    memcpy(segment + offset, &header, sizeof header);
    for (uint32_t i = 0; i < body; i++)
        segment[offset + sizeof header + i] = (uint8_t)(lsn + i);
    return memdb_record_seal(segment + offset, SALT, offset);
}

static void test_round_trip_and_damage(void)
{
    static uint8_t segment[8192];
    memdb_record record;
    memset(segment, 0, sizeof segment);
    uint64_t first = put_record(segment, 4096, 10, 37), second = put_record(segment, 4096 + first, 11, 100);
    CHECK_EQUAL(first, 120);
    CHECK_EQUAL(memdb_record_read(segment, sizeof segment, 4096, SALT, &record), MEMDB_RECORD_GOOD);
    CHECK_EQUAL(record.header.lsn, 10);
    CHECK_EQUAL(record.body_len, 37);
    CHECK_EQUAL(memdb_record_read(segment, sizeof segment, 4096 + first, SALT, &record), MEMDB_RECORD_GOOD);
    CHECK_EQUAL(record.header.lsn, 11);
    CHECK_EQUAL(memdb_record_read(segment, sizeof segment, 4096 + first + second, SALT, &record), MEMDB_RECORD_END);
    CHECK_EQUAL(memdb_record_read(segment, sizeof segment, 4096, SALT + 1, &record), MEMDB_RECORD_BAD_HEADER);
    for (uint64_t bit = 4096 * 8; bit < (4096 + first) * 8; bit++) {
        segment[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        CHECK(memdb_record_read(segment, sizeof segment, 4096, SALT, &record) < 0);
        segment[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    segment[4096 + 90] ^= 1;
    CHECK_EQUAL(memdb_record_read(segment, sizeof segment, 4096, SALT, &record), MEMDB_RECORD_BAD_BODY);
    segment[4096 + 3] ^= 1;
    CHECK_EQUAL(memdb_record_find(segment, sizeof segment, 4104, SALT, &record), MEMDB_OK);
    CHECK_EQUAL(record.offset, 4096 + first);
    CHECK_EQUAL(memdb_record_find(segment, sizeof segment, 4096 + first + 8, SALT, &record), MEMDB_ABSENT);
    CHECK_EQUAL(memdb_record_read(segment, 4096 + 100, 4096 + first, SALT, &record), MEMDB_RECORD_END);
    memmove(segment + 4104, segment + 4096 + first, second); /* the right bytes at a wrong place */
    CHECK_EQUAL(memdb_record_read(segment, sizeof segment, 4104, SALT, &record), MEMDB_RECORD_BAD_HEADER);
}

static void test_torn(void)
{
    static uint8_t segment[8192];
    memset(segment, 1, sizeof segment);
    CHECK(!memdb_record_torn_like(segment, sizeof segment, 4096, 8192));
    memset(segment + 4600, 0, 1023); /* 4608..5119 is a whole sector */
    CHECK(memdb_record_torn_like(segment, sizeof segment, 4096, 8192));
    CHECK(!memdb_record_torn_like(segment, sizeof segment, 4096, 5119));
    memset(segment, 1, sizeof segment);
    memset(segment + 4609, 0, 1022); /* one byte short of any */
    CHECK(!memdb_record_torn_like(segment, sizeof segment, 4096, 8192));
}

static void test_noise(void)
{
    static uint8_t segment[4096];
    uint64_t seed = 3;
    memdb_record record;
    for (unsigned round = 0; round < 3000; round++) {
        memset(segment, 0, sizeof segment);
        for (unsigned i = 0; i < 200; i++)
            segment[check_random_below(&seed, 512)] = (uint8_t)check_random(&seed);
        uint32_t magic = MEMDB_RECORD_MAGIC;
        memcpy(segment, &magic, 4);
        uint64_t len = check_random_below(&seed, sizeof segment);
        CHECK(memdb_record_read(segment, len, 0, SALT, &record) != MEMDB_RECORD_GOOD || len == 0);
        memdb_record_find(segment, len, 1, SALT, &record);
    }
}

/* Operations: what goes in comes out; noise and cut payloads are refused without reading beyond them. */
static void test_ops(void)
{
    static struct payload payload;
    memdb_ops_reader reader;
    memdb_op op;
    payload_begin(&payload);
    payload_op(&payload, MEMDB_OP_SET, MEMDB_OP_HAS_TTL | MEMDB_OP_IF_VERSION, "key", "value", 77);
    payload_op(&payload, MEMDB_OP_DELETE, MEMDB_OP_IF_PRESENT, "other", NULL, 0);
    CHECK_EQUAL(memdb_ops_begin(&reader, payload.bytes, payload.len), MEMDB_OK);
    CHECK_EQUAL(memdb_ops_next(&reader, &op), MEMDB_OK);
    CHECK_EQUAL(op.expires_us, 77);
    CHECK_EQUAL(op.if_lsn, 77);
    CHECK_BYTES(op.key, op.key_len, "\1key");
    CHECK_BYTES(op.value, op.value_len, "value");
    CHECK_EQUAL(memdb_ops_next(&reader, &op), MEMDB_OK);
    CHECK_EQUAL(op.code, MEMDB_OP_DELETE);
    CHECK_EQUAL(memdb_ops_next(&reader, &op), MEMDB_ABSENT);
    uint64_t seed = 9;
    for (size_t len = 0; len < payload.len; len++) {
        uint8_t *cut = malloc(len ? len : 1); /* its end is watched by AddressSanitizer */
        memcpy(cut, payload.bytes, len);
        int status = memdb_ops_begin(&reader, cut, len);
        while (status == MEMDB_OK)
            status = memdb_ops_next(&reader, &op);
        CHECK_EQUAL((unsigned)status, (unsigned)MEMDB_INVALID);
        for (unsigned round = 0; round < 200 && len > 8; round++) {
            cut[8 + check_random_below(&seed, len - 8)] = (uint8_t)check_random(&seed);
            status = memdb_ops_begin(&reader, cut, len);
            while (status == MEMDB_OK)
                status = memdb_ops_next(&reader, &op);
        }
        free(cut);
    }
}

static void put_commit(uint8_t *segment, uint64_t offset, uint64_t lsn)
{
    static struct payload payload;
    payload_begin(&payload);
    payload_op(&payload, MEMDB_OP_SET, 0, "k", "v", 0);
    struct memdb_record_header header = {.size = (uint32_t)(sizeof header + payload.len), .type = MEMDB_RECORD_COMMIT, .lsn = lsn};
    memcpy(segment + offset, &header, sizeof header);
    memcpy(segment + offset + sizeof header, payload.bytes, payload.len);
    memdb_record_seal(segment + offset, SALT, offset);
}

static void drop_store(struct rig *rig)
{
    memdb_store_free(rig->store);
    memdb_arena_free(rig->arena);
    memdb_scanner_free(rig->scanner);
    munmap(rig->arena_memory, rig->arena_bytes);
}

/* Items that cannot be, in a block whose checksums would fit. */
static void test_checkpoint_items_refused(void)
{
    static const struct { uint32_t key_len, value_len; uint64_t lsn, bytes; } cases[] = {
        {3, 4, 5, 24}, {3, 4, 5, 31}, {3, 4, 5, 40}, {0, 4, 5, 32}, {3, 0xffffffffu, 5, 32}, {0xffffffffu, 4, 5, 32},
        {MEMDB_KEY_MAX + 1, 0, 5, 66000}, {3, 4, 0, 32}, {3, 4, 10, 32}, {3, 4, UINT64_MAX, 32},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rig rig = {0};
        uint8_t *items = calloc(1, cases[i].bytes);
        rig_new_store(&rig, 16 << 20, 2);
        CHECK_EQUAL(memdb_bulk_begin(rig.store, 1), MEMDB_OK);
        memcpy(items, &cases[i].key_len, 4);
        memcpy(items + 4, &cases[i].value_len, 4);
        if (cases[i].bytes > 24)
            memcpy(items + 8, &cases[i].lsn, 8);
        if (cases[i].bytes > 24)
            items[24] = MEMDB_SPACE_PLAIN;
        CHECK_EQUAL(memdb_ckpt_load(rig.store, items, cases[i].bytes, 1, 9), MEMDB_DAMAGED);
        free(items);
        drop_store(&rig);
    }
}

/* A record with good checksums whose LSN or operations cannot be stops the replay and says so. */
static void test_replay_refuses(void)
{
    static uint8_t segment[8192];
    struct rig rig = {0};
    memdb_replay_result result;
    rig_new_store(&rig, 16 << 20, 2);
    memset(segment, 0, sizeof segment);
    put_record(segment, 4096, 10, 37); /* its body is no payload */
    CHECK_EQUAL(memdb_replay_segment(rig.store, segment, sizeof segment, 4096, SALT, 1, UINT64_MAX, NULL, &result), MEMDB_DAMAGED);
    CHECK_EQUAL(result.end_offset, 4096);
    CHECK_EQUAL(memdb_replay_segment(rig.store, segment, sizeof segment, 4096, SALT, 10, UINT64_MAX, NULL, &result), MEMDB_OK); /* not its turn */
    uint64_t first = put_record(segment, 4096, 10, 37);
    put_record(segment, 4096 + first, 10, 37); /* the same LSN twice */
    CHECK_EQUAL(memdb_replay_segment(NULL, segment, sizeof segment, 4096, SALT, 0, UINT64_MAX, NULL, &result), MEMDB_DAMAGED);
    CHECK_EQUAL(result.end_offset, 4096 + first);
    CHECK_EQUAL(result.durable_lsn, 5);
    memset(segment + 4096, 0, 4096);
    put_commit(segment, 4096, 12);
    CHECK_EQUAL(memdb_replay_segment(rig.store, segment, sizeof segment, 4096, SALT, 11, UINT64_MAX, NULL, &result), MEMDB_OK);
    put_commit(segment, 4096, 12); /* as another segment may say it again, or one with an earlier LSN */
    CHECK_EQUAL(memdb_replay_segment(rig.store, segment, sizeof segment, 4096, SALT, 11, UINT64_MAX, NULL, &result), MEMDB_DAMAGED);
    put_commit(segment, 4096, 11);
    CHECK_EQUAL(memdb_replay_segment(rig.store, segment, sizeof segment, 4096, SALT, 10, UINT64_MAX, NULL, &result), MEMDB_DAMAGED);
    drop_store(&rig);
}

static void test_checkpoint_block(void)
{
    struct rig rig;
    struct memdb_ckpt_block block;
    uint8_t items[256];
    memset(&rig, 0, sizeof rig);
    memset(items, 0, sizeof items);
    rig_new_store(&rig, 16 << 20, 2);
    CHECK_EQUAL(memdb_bulk_begin(rig.store, 2), MEMDB_OK);
    uint64_t at = 0;
    for (unsigned i = 0; i < 2; i++, at += 32) {
        uint32_t lengths[2] = {3, 4};
        uint64_t lsn_expiry[2] = {5 + i, 0};
        memcpy(items + at, lengths, 8);
        memcpy(items + at + 8, lsn_expiry, 16);
        memcpy(items + at + 24, i ? "\1bbdata" : "\1aadata", 7);
    }
    memdb_ckpt_seal(&block, SALT, 0, 2, items, at);
    CHECK_EQUAL(memdb_ckpt_check(&block, SALT, 0, items, at), MEMDB_OK);
    CHECK(memdb_ckpt_check(&block, SALT, 1, items, at) == MEMDB_DAMAGED);
    CHECK(memdb_ckpt_check(&block, SALT, 0, items, at - 8) == MEMDB_DAMAGED);
    for (unsigned i = 0; i < sizeof block; i++) {
        ((uint8_t *)&block)[i] ^= 4;
        CHECK(memdb_ckpt_check(&block, SALT, 0, items, at) == MEMDB_DAMAGED);
        ((uint8_t *)&block)[i] ^= 4;
    }
    CHECK_EQUAL(memdb_ckpt_load(rig.store, items, at, 2, 9), MEMDB_OK);
    CHECK(memdb_ckpt_load(rig.store, items + 32, 32, 1, 9) == MEMDB_DAMAGED); /* the next block goes on with the same key */
    CHECK_EQUAL(memdb_bulk_finish(rig.store), MEMDB_OK);
    memdb_store_open(rig.store, 6);
    struct memdb_lease *lease = rig_lease_for(1);
    CHECK_EQUAL(memdb_scanner_add(rig.scanner, lease), MEMDB_OK);
    CHECK(rig_reads(&rig, lease, "aa", "data"));
    CHECK(rig_reads(&rig, lease, "bb", "data"));
    drop_store(&rig);
    munmap(lease, sizeof *lease);
}

int main(void)
{
    test_round_trip_and_damage();
    test_torn();
    test_noise();
    test_ops();
    test_checkpoint_block();
    test_checkpoint_items_refused();
    test_replay_refuses();
    return 0;
}
