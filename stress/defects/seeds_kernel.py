"""Seeded defects of the kernel: the commit loop, the store, the index, epochs, leases, records. One C file is built anew
for each; only the last need the Python binding."""

from stress.defects.defect import Change, Defect

_COMMIT = "memdb/shm/commit.c"
_PUBLISH = "memdb/shm/publish.c"
_EPOCH = "memdb/shm/epoch.c"
_RECLAIM = "memdb/shm/reclaim.c"
_STORE = "memdb/shm/store.c"
_HASH = "memdb/shm/hashindex.c"
_LIST = "memdb/shm/skiplist.c"
_RECORD = "memdb/shm/record.c"
_LEASE = "memdb/shm/lease.c"
_VALIDATE = "memdb/shm/validate.c"
_REPLAY = "memdb/shm/replay.c"
_STAGE = "memdb/shm/stage.c"
_LOGBUF = "memdb/shm/logbuf.c"
_SCAN = "memdb/shm/scan.c"
_READ = "memdb/shm/read.c"
_BULK = "memdb/shm/ckptblock.c"

SEEDS = (
    # ----------------------------------------------------------------------------------------- committing
    Defect(
        "acknowledged-before-the-write",
        "invariant 6: `os` is acknowledged when the record is in the file",
        (
            Change(
                _PUBLISH,
                "    case MEMDB_LEVEL_OS: return ctx->written_lsn >= item->need_lsn;\n",
                "    case MEMDB_LEVEL_OS: return 1;\n",
            ),
        ),
        ("ctest test_commit_log plain",),
    ),
    Defect(
        "acknowledged-before-the-sync",
        "invariant 6: `full` is acknowledged when the record is synced",
        (
            Change(
                _PUBLISH,
                "    default: return ctx->synced_lsn >= item->need_lsn;\n",
                "    default: return ctx->written_lsn >= item->need_lsn;\n",
            ),
        ),
        ("ctest test_commit plain",),
    ),
    Defect(
        "published-before-the-log",
        "invariants 4 and 6: nobody sees a commit before its record is in the log",
        (
            Change(
                _COMMIT,
                "    if (ctx->config.logged)\n        memdb_log_append_commit(",
                "    memdb_store_sc(&ctx->arena->published, lsn);\n    if (ctx->config.logged)\n        memdb_log_append_commit(",
            ),
        ),
        ("ctest test_commit_stop plain", "ctest test_commit plain", "ctest test_commit_race plain"),
    ),
    Defect(
        "published-before-it-is-applied",
        "invariant 3: a transaction's versions are all in place before the published sequence passes it",
        (
            Change(
                _STORE,
                "        memdb_store_relaxed(&s->header->applied, lsn);\n",
                "        memdb_store_relaxed(&s->header->applied, lsn);\n"
                "        if (s->serving)\n"
                "            memdb_store_sc(&s->header->published, lsn);\n",
            ),
        ),
        ("ctest test_stop plain", "ctest test_race plain"),
    ),
    Defect(
        "applied-before-the-log",
        "invariant 6: the record is in the log buffer before the commit is applied",
        (
            Change(
                _COMMIT,
                "    if (ctx->config.logged)\n"
                "        memdb_log_append_commit(ctx, held->client, &held->entry, held->payload, held->len, prepared, lsn);\n"
                "    memdb_apply_ops(ctx->store, held->payload, held->len, held->client->client_id, held->entry.request, lsn, ctx->now_us,\n"
                "                    prepared->count, ctx->window);\n",
                "    memdb_apply_ops(ctx->store, held->payload, held->len, held->client->client_id, held->entry.request, lsn, ctx->now_us,\n"
                "                    prepared->count, ctx->window);\n"
                "    memdb_store_publish(ctx->store, lsn);\n"
                "    if (ctx->config.logged)\n"
                "        memdb_log_append_commit(ctx, held->client, &held->entry, held->payload, held->len, prepared, lsn);\n",
            ),
        ),
        ("ctest test_commit plain", "ctest test_commit_stop plain"),
    ),
    Defect(
        "appended-after-a-failure",
        "invariant 11: nothing is written to a file after a failed write or sync",
        (
            Change(
                _LOGBUF,
                "    if (ctx->log_errno != 0)\n        return MEMDB_LOG_FAILED;\n    if (log->half == NULL)\n        return MEMDB_OK;\n",
                "    if (log->half == NULL)\n        return MEMDB_OK;\n",
            ),
        ),
        ("ctest test_commit_log plain",),
    ),
    Defect(
        "last-request-forgotten",
        "rule C2: a request that was applied is answered and not applied again",
        (
            Change(
                _COMMIT,
                "    if (!repeat && held->entry.request > highest)\n        return 0;\n",
                "    if (!repeat || held->entry.request > highest)\n        return 0;\n",
            ),
        ),
        ("ctest test_commit_log plain", "ctest test_commit_stop plain", "ctest test_commit plain"),
    ),
    Defect(
        "applied-twice-by-a-successor",
        "rule C2: the outcome is stored with the commit's effects, by a replay, too",
        (
            Change(
                _REPLAY,
                "    apply_outcome(store, client_id, &outcome);\n",
                "    if (window != NULL)\n        apply_outcome(store, client_id, &outcome);\n",
            ),
        ),
        ("ctest test_commit_stop plain", "ctest test_commit_log plain"),
    ),
    Defect(
        "deletes-without-their-reserve",
        "rule C3: a share of the arena stays for deletes",
        (
            Change(
                _COMMIT,
                "prepared->deletes_only ? MEMDB_FOR_DELETE : MEMDB_FOR_WRITE",
                "prepared->deletes_only ? MEMDB_FOR_WRITE : MEMDB_FOR_WRITE",
            ),
        ),
        ("ctest test_commit plain",),
    ),
    Defect(
        "staging-without-a-bound",
        "invariant 14 and rule C7: frames of a transaction are bounded",
        (
            Change(
                _STAGE,
                "    if (staging->len + len > ctx->config.max_transaction_bytes) {\n",
                "    if (staging->len + len > ctx->config.max_transaction_bytes + UINT32_MAX) {\n",
            ),
        ),
        ("ctest test_commit plain",),
    ),
    Defect(
        "client-writes-system-keys",
        "rule K2: a client writes the mapping only",
        (
            Change(
                _STAGE,
                "space >= 1 && space < MEMDB_SPACES : space == MEMDB_SPACE_PLAIN;\n",
                "space >= 1 && space < MEMDB_SPACES : space >= 1;\n",
            ),
        ),
        ("ctest test_commit plain",),
    ),
    # ----------------------------------------------------------------------------------------- validation
    Defect(
        "ranges-not-validated",
        "rule C6: a range that was read must still hold",
        (
            Change(
                _VALIDATE,
                "    if (j->range_count == 0)\n        return;\n",
                "    if (j->range_count != UINT32_MAX)\n        return;\n",
            ),
        ),
        ("ctest test_validate plain",),
    ),
    Defect(
        "deleted-keys-not-validated",
        "rule C6: a key that was read and is deleted conflicts",
        (
            Change(
                _VALIDATE,
                "    } else if (read->lsn != 0 && !same) {\n",
                "    } else if (read->lsn != 0 && found.lsn != 0 && !same) {\n",
            ),
        ),
        ("ctest test_validate plain",),
    ),
    Defect(
        "lost-window-accepted",
        "rule C6: a transaction older than the window conflicts",
        (
            Change(
                _VALIDATE,
                "    if (j->reads.lsn < memdb_window_floor(j->ctx->window)) {\n",
                "    if (j->reads.lsn + (UINT64_C(1) << 40) < memdb_window_floor(j->ctx->window)) {\n",
            ),
        ),
        ("ctest test_validate plain",),
    ),
    Defect(
        "other-generation-accepted",
        "rule G3: a transaction begun before a switch conflicts",
        (
            Change(
                _VALIDATE,
                "    if (reads->word != j->ctx->config.word)\n",
                "    if (reads->word == UINT64_MAX)\n",
            ),
        ),
        ("ctest test_validate plain",),
    ),
    # --------------------------------------------------------------------------------------------- epochs
    Defect(
        "block-reused-early",
        "invariant 5: no block is reused while a pin could reach it",
        (
            Change(
                _RECLAIM,
                "        if (!memdb_grace_over(s->scanner, waiting->ticket))\n            continue;\n",
                "",
            ),
        ),
        ("ctest test_store plain",),
    ),
    Defect(
        "idle-pins-ignored",
        "rule R1: an idle snapshot keeps the versions that it sees",
        (
            Change(
                _EPOCH,
                "    if (state != MEMDB_SLOT_ACTIVE && state != MEMDB_SLOT_IDLE)\n        return;\n    if (state == MEMDB_SLOT_ACTIVE)\n",
                "    if (state != MEMDB_SLOT_ACTIVE)\n        return;\n    if (state == MEMDB_SLOT_ACTIVE)\n",
            ),
        ),
        ("ctest test_epoch plain",),
    ),
    Defect(
        "bound-taken-for-a-pin",
        "rule R1: a bound that is not yet narrowed pins everything above it",
        (
            Change(
                _EPOCH,
                "    if (word & MEMDB_SLOT_EXACT)\n        s->exact[",
                "    if (word & MEMDB_LSN_MASK)\n        s->exact[",
            ),
        ),
        ("ctest test_epoch plain",),
    ),
    Defect(
        "unpin-believes-anything",
        "rule R2: unpin is validation",
        (
            Change(
                _EPOCH,
                "    memdb_store_sc(&pin->slot->word, pin->word);\n    return MEMDB_REVOKED;\n",
                "    memdb_store_sc(&pin->slot->word, pin->word);\n    return MEMDB_OK;\n",
            ),
        ),
        ("ctest test_epoch plain",),
    ),
    Defect(
        "view-freed-while-held",
        "rule R4: a view stays valid until the last export of its buffer is gone",
        (
            Change(
                _RECLAIM,
                "            if (memdb_scanner_hazarded(s->scanner, item.ref))\n",
                "            if (memdb_scanner_hazarded(s->scanner, item.ref) && !item.bytes)\n",
            ),
        ),
        ("ctest test_store plain",),
    ),
    Defect(
        "snapshot-reads-the-newest",
        "invariant 3: a reader at S sees nothing of any later commit",
        (
            Change(
                _READ,
                "memdb_cell_version(&pin->view, ref, cell, key_room, pin->lsn, &version);",
                "memdb_cell_version(&pin->view, ref, cell, key_room, UINT64_MAX, &version);",
            ),
        ),
        ("ctest test_store plain",),
    ),
    Defect(
        "version-pruned-under-a-pin",
        "rule R5: a version is kept while some pinned S needs it",
        (
            Change(
                _EPOCH,
                "    if (i < s->exact_count && s->exact[i] < before)\n",
                "    if (i < s->exact_count && s->exact[i] + 1 < before)\n",
            ),
        ),
        ("ctest test_epoch plain", "ctest test_store plain"),
    ),
    # -------------------------------------------------------------------------------------------- indexes
    Defect(
        "hash-growth-loses-a-key",
        "rule I2: growth moves every key",
        (
            Change(
                _HASH,
                "        if (entry > TOMBSTONE)\n            fill(h, entry);\n",
                "        if (entry > TOMBSTONE && h->moved % 61 != 60)\n            fill(h, entry);\n",
            ),
        ),
        ("ctest test_store plain",),
    ),
    Defect(
        "split-loses-the-right-half",
        "rule I1: one release store shows both halves",
        (
            Change(
                _LIST,
                "    memdb_ref left_block = memdb_draft_store(list, all, 0, middle, node);\n",
                "    memdb_ref left_block = memdb_draft_store(list, all, 0, middle, leaf->next);\n",
            ),
        ),
        ("ctest test_store plain",),
    ),
    Defect(
        "hash-slot-emptied-under-a-chain",
        "rule I2: a deleted slot becomes a tombstone",
        (
            Change(
                _HASH, "    if (memdb_load_relaxed(&slots[(at + 1) & mask]) != 0)\n        return 0;\n", ""
            ),
        ),
        ("ctest test_store plain",),
    ),
    # ------------------------------------------------------------------------------------ leases and ring
    Defect(
        "ring-length-trusted",
        "invariant 12: a client's nonsense costs only its own",
        (
            Change(
                _LEASE,
                "padded(entry->size) > used || entry->size - sizeof *entry > MEMDB_FRAME_MAX)",
                "entry->size - sizeof *entry > MEMDB_FRAME_MAX)",
            ),
        ),
        ("ctest test_lease plain",),
    ),
    Defect(
        "ring-offset-trusted",
        "invariant 12: a client's nonsense costs only its own",
        (
            Change(
                _LEASE,
                "    if (used > MEMDB_RING_BYTES || (used & 7) != 0 || (head & 7) != 0 || used < sizeof *entry)\n",
                "    if ((head & 7) != 0 || used < sizeof *entry)\n",
            ),
        ),
        ("ctest test_lease plain",),
    ),
    Defect(
        "withdrawn-request-committed",
        "rule C8: a request that was withdrawn is certainly not done",
        (
            Change(
                _LEASE,
                "what == MEMDB_CELL_DONE || what == MEMDB_CELL_WITHDRAWN || what == MEMDB_CELL_IDLE)",
                "what == MEMDB_CELL_DONE || what == MEMDB_CELL_IDLE)",
            ),
            Change(
                _LEASE,
                "        if (what != MEMDB_CELL_SUBMITTED)\n            return MEMDB_INVALID;\n        if (memdb_cas_sc(&cell->state, &state, MEMDB_CELL_TAKEN",
                "        if (memdb_cas_sc(&cell->state, &state, MEMDB_CELL_TAKEN",
            ),
        ),
        ("ctest test_lease plain", "ctest test_commit plain"),
    ),
    # -------------------------------------------------------------------------------------------- records
    Defect(
        "body-checksum-skipped",
        "rule L2: a record is believed after its checksums",
        (
            Change(
                _RECORD,
                "    if (memdb_crc32c(0, out->body, out->body_len) != out->header.body_crc)\n        return MEMDB_RECORD_BAD_BODY;\n",
                "",
            ),
        ),
        ("ctest test_record plain",),
    ),
    Defect(
        "length-before-its-checksum",
        "rule L2: the header's checksum comes before its length",
        (
            Change(
                _RECORD,
                "header->magic == MEMDB_RECORD_MAGIC && header->header_crc == header_crc(segment + offset, salt, offset) &&\n           header->size >= HEADER;",
                "header->magic == MEMDB_RECORD_MAGIC && (salt | header->size) != 0 && header_crc(segment, salt, offset) != 1;",
            ),
        ),
        ("ctest test_record plain",),
    ),
    Defect(
        "record-of-another-place",
        "rule L2: a record's checksum covers its segment's salt and its offset",
        (
            Change(
                _RECORD,
                "    uint64_t place[2] = {salt, offset};\n",
                "    uint64_t place[2] = {salt * 0, offset * 0};\n",
            ),
        ),
        ("ctest test_record plain",),
    ),
    Defect(
        "checkpoint-block-of-another-place",
        "rule L6: a block is bound to its file and its place",
        (
            Change(
                _BULK,
                "header_crc != block_crc(block, salt) || block->index != index)",
                "header_crc != block_crc(block, salt) || block->index > index + 1)",
            ),
        ),
        ("ctest test_record plain",),
    ),
    Defect(
        "replay-accepts-any-order",
        "invariant 9: sequence numbers only grow",
        (
            Change(
                _REPLAY,
                "            if (lsn <= out->last_lsn || lsn > MEMDB_LSN_MASK)\n",
                "            if (lsn > MEMDB_LSN_MASK)\n",
            ),
        ),
        ("ctest test_record plain", "ctest test_commit_log plain"),
    ),
    # ------------------------------------------------------------------------- through the Python binding
    Defect(
        "checkpoint-without-expiry",
        "rule R3: expiry is a field of a version, in a checkpoint, too",
        (
            Change(
                _SCAN,
                "    memcpy(out + 16, &v->expires_us, 8);\n",
                "    memset(out + 16, 0, sizeof v->expires_us);\n",
            ),
        ),
        ("pytest tests/durability/test_expiry.py::test_every_restart_knows_what_expires",),
    ),
    Defect(
        "expired-resurrected-by-a-clock-step",
        "rule R3: who has seen a key expired never sees it again",
        (
            Change(
                _EPOCH,
                "    if (now < floor)\n        now = floor;\n    if (!view->latest)\n        return now;\n",
                "    (void)floor;\n    if (view)\n        return now;\n",
            ),
        ),
        ("pytest tests/clock/test_expiry.py::test_a_step_back_resurrects_nothing",),
    ),
    Defect(
        "savepoint-keeps-what-was-rolled-back",
        "a write that was rolled back to a savepoint is not committed",
        (
            Change(
                "memdb/shm/txn.pxi",
                "            if old is None:\n                del self.writes[stored]\n            else:\n                self.writes[stored] = old\n",
                "            if old is not None:\n                self.writes[stored] = old\n",
            ),
        ),
        ("pytest tests/api/test_transactions.py::test_what_was_rolled_back_is_not_written",),
    ),
)
