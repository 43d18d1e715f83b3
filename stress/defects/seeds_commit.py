"""Seeded defects of the commit path in the kernel: log, levels, exactly once, validation, the ring, records. One C file
is built anew for each.
"""

from stress.defects.defect import Change, Defect

_BULK = "memdb/shm/ckptblock.c"
_COMMIT = "memdb/shm/commit.c"
_LEASE = "memdb/shm/lease.c"
_LOGBUF = "memdb/shm/logbuf.c"
_PUBLISH = "memdb/shm/publish.c"
_RECORD = "memdb/shm/record.c"
_REPLAY = "memdb/shm/replay.c"
_STAGE = "memdb/shm/stage.c"
_STORE = "memdb/shm/store.c"
_VALIDATE = "memdb/shm/validate.c"

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
        "rule K2: a client names keys of the mapping and of the layers only",
        (
            Change(
                _STAGE,
                "    return space == MEMDB_SPACE_PLAIN || space == MEMDB_SPACE_CATALOGUE || "
                "space == MEMDB_SPACE_COLLECTIONS;\n",
                "    return space >= 1 && space < MEMDB_SPACES;\n",
            ),
        ),
        ("ctest test_commit plain",),
    ),
    Defect(
        "reads-drawn-together-over-spaces",
        "rule K2: a range lies in one space",
        (
            Change(
                "memdb/shm/txncommit.pxi", "spaces.setdefault(start[:1], [])", 'spaces.setdefault(b"", [])'
            ),
        ),
        (
            "pytest tests/layering/test_isolation.py::test_the_whole_of_neighbouring_spaces",
            "pytest tests/layering/test_isolation.py::test_too_many_reads_are_drawn_together_space_by_space",
        ),
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
                "header->magic == MEMDB_RECORD_MAGIC && header->header_crc == header_crc(segment + offset, salt, offset) &&\n           header->size >= HEADER && header->lsn",
                "header->magic == MEMDB_RECORD_MAGIC && (salt | header->size) != 0 && header_crc(segment, salt, offset) != 1 && header->lsn",
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
    # ------------------------------------------------------------------------------- limits, marks, ends
    Defect(
        "lsn-beyond-its-limit",
        "rule L4: LSNs are handed out below a limit that is durable",
        (
            Change(
                _COMMIT,
                "    if (ctx->applied + 1 < ctx->log.limit)\n",
                "    if (ctx->applied + 1 < ctx->log.limit || ctx->applied > 0)\n",
            ),
        ),
        ("ctest test_commit_log plain",),
    ),
    Defect(
        "limit-never-raised",
        "rule L4: the limit is raised well before it is reached",
        (
            Change(
                _COMMIT,
                "    if (log->limit_asked != 0 || ctx->applied + ctx->config.lsn_step / 2 < log->limit)\n",
                "    if (log->limit_asked != 0 || ctx->applied > 0)\n",
            ),
        ),
        ("ctest test_commit_log plain",),
    ),
    Defect(
        "records-without-d",
        "rule L2: each record carries the highest LSN known durable",
        (
            Change(
                _LOGBUF,
                "        .durable_lsn = ctx->synced_lsn, .request = entry->request,",
                "        .durable_lsn = 0, .request = entry->request,",
            ),
        ),
        ("ctest test_commit_log plain",),
    ),
    Defect(
        "no-mark-after-a-sync",
        "rule L2: a mark follows within 5 ms of a sync that no record follows",
        (
            Change(
                _LOGBUF,
                "    return ctx->synced_lsn > ctx->log.last_d && (",
                "    return ctx->synced_lsn > ctx->log.last_d + UINT32_MAX && (",
            ),
        ),
        ("ctest test_commit_log plain",),
    ),
    Defect(
        "sync-answered-before-its-mark",
        "rule L2: sync() writes its mark before it returns",
        (
            Change(
                _PUBLISH,
                "    int status = say_durable(ctx);\n",
                "    int status = ctx->waiting_count > UINT32_MAX - 1 ? say_durable(ctx) : MEMDB_OK;\n",
            ),
        ),
        ("ctest test_commit_log plain",),
    ),
    Defect(
        "successor-writes-nothing-out",
        "rule C4: a successor first writes out what the file lacks",
        (
            Change(
                _LOGBUF,
                "        ctx->unsynced_since = 1; /* long ago: the timer asks for a sync at once */\n    return memdb_log_flush(ctx);\n",
                "        ctx->unsynced_since = 1; /* long ago: the timer asks for a sync at once */\n    return MEMDB_OK;\n",
            ),
        ),
        ("ctest test_commit_log plain",),
    ),
    Defect(
        "short-write-taken-for-whole",
        "invariant 6: a short write is gone on with",
        (Change(_LOGBUF, "        log->written += (uint64_t)n;\n", "        log->written = log->tail;\n"),),
        ("ctest test_commit_log plain",),
    ),
    Defect(
        "damaged-buffer-resumed",
        "invariant 13: the log buffer is checked before it is gone on with",
        (
            Change(
                _LOGBUF,
                "memdb_record_read(image, tail, at, salt, &record) != MEMDB_RECORD_GOOD || record.header.lsn < last_lsn)",
                "memdb_record_read(image, tail, at, salt, &record) == MEMDB_RECORD_END || record.header.lsn < last_lsn)",
            ),
        ),
        ("ctest test_commit_log plain",),
    ),
    Defect(
        "departed-client-dropped",
        "rule C1: what a client published before it died is committed",
        (
            Change(
                "memdb/shm/clients.c",
                "    memdb_store_relaxed(&copy->ring_tail, memdb_load_sc(&lease->ring_tail)); /* SYNC: ring-tail */\n",
                "    memdb_store_relaxed(&copy->ring_tail, memdb_load_relaxed(&lease->ring_head));\n",
            ),
        ),
        ("ctest test_commit plain",),
    ),
    Defect(
        "answered-before-published",
        "rule C5: publish, then complete: who was answered reads its own write",
        (
            Change(
                _PUBLISH,
                "    publish(ctx, lsn);\n    while (ctx->pending_head != end)\n        answer(ctx, &ctx->pending[ctx->pending_head++ & (MEMDB_PENDING_MAX - 1)]);\n",
                "    while (ctx->pending_head != end)\n        answer(ctx, &ctx->pending[ctx->pending_head++ & (MEMDB_PENDING_MAX - 1)]);\n    publish(ctx, lsn);\n",
            ),
        ),
        ("ctest test_commit_stop plain", "ctest test_commit plain", "ctest test_commit_race plain"),
    ),
    Defect(
        "published-out-of-order",
        "rule C5: commits are published in LSN order, each at its own level",
        (
            Change(
                _PUBLISH,
                "        if (!is_safe(ctx, item))\n            break;\n",
                "        if (!is_safe(ctx, item))\n            continue;\n",
            ),
        ),
        ("ctest test_commit plain",),
    ),
    Defect(
        "later-frame-lost",
        "rule C7: a large transaction is committed whole or not at all",
        (Change(_STAGE, "    if (entry->frame != staging->frames)\n        staging->broken = 1;\n", ""),),
        ("ctest test_commit plain",),
    ),
    Defect(
        "expired-read-not-validated",
        "rule R3: a transaction conflicts if a key that it read expires before it commits",
        (
            Change(
                _VALIDATE,
                "    else if (reads->expires_us != 0 && reads->expires_us <= j->ctx->now_us)\n",
                "    else if (reads->expires_us != 0 && j->ctx->now_us == 0)\n",
            ),
        ),
        ("ctest test_validate plain",),
    ),
    Defect(
        "absence-not-validated",
        "rule C6: a key that was read as absent conflicts when it is set",
        (
            Change(
                _VALIDATE,
                "    } else if (read->lsn == 0 && status == MEMDB_OK && found.lsn > j->reads.lsn) {\n",
                "    } else if (read->lsn == 0 && status == MEMDB_ABSENT && found.lsn > j->reads.lsn) {\n",
            ),
        ),
        ("ctest test_validate plain",),
    ),
    Defect(
        "deleted-ranges-not-in-the-window",
        "rule C6: a range that was deleted meets the ranges that were read",
        (
            Change(
                _REPLAY,
                "    if (window != NULL && deleted > 0)\n",
                "    if (window != NULL && deleted > UINT32_MAX)\n",
            ),
        ),
        ("ctest test_validate plain", "ctest test_validate_model plain"),
    ),
    Defect(
        "window-forgets-in-silence",
        "rule C6: what the window has forgotten is known as forgotten",
        (
            Change(
                "memdb/shm/window.c",
                "    if (lsn > window->floor)\n        window->floor = lsn;\n",
                "    if (lsn > window->floor + UINT32_MAX)\n        window->floor = lsn;\n",
            ),
        ),
        ("ctest test_validate plain", "ctest test_validate_model plain"),
    ),
    Defect(
        "failed-condition-writes",
        "a conditional write whose condition does not hold changes nothing",
        (
            Change(
                _STAGE,
                "    if ((op->flags & MEMDB_OP_IF_VERSION) && (newest != MEMDB_OK || found->lsn != op->if_lsn))\n",
                "    if ((op->flags & MEMDB_OP_IF_VERSION) && (newest != MEMDB_OK || found->lsn < op->if_lsn))\n",
            ),
        ),
        ("ctest test_commit plain",),
    ),
)
