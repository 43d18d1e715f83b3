"""Seeded defects of the kernel's store: epochs, indexes, memory, expiry. One C file is built anew for each; the last need
the Python binding.
"""

from stress.defects.defect import Change, Defect

_EPOCH = "memdb/shm/epoch.c"
_HASH = "memdb/shm/hashindex.c"
_LIST = "memdb/shm/skiplist.c"
_READ = "memdb/shm/read.c"
_RECLAIM = "memdb/shm/reclaim.c"
_STORE = "memdb/shm/store.c"
_SCAN = "memdb/shm/scan.c"

SEEDS = (
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
    Defect(
        "reaper-deletes-what-lives",
        "rule R3: reaping is a conditional delete",
        (
            Change(
                "memdb/shm/replay.c",
                "    if (op->flags & MEMDB_OP_ONLY_EXPIRED) {",
                "    if ((op->flags & MEMDB_OP_ONLY_EXPIRED) && time_us == 0) {",
            ),
        ),
        ("ctest test_expiry_commit plain",),
    ),
    Defect(
        "time-floor-not-raised",
        "rule R3: commits raise the floor of time",
        (
            Change(
                _STORE,
                "    if (now_us > s->time_floor) {",
                "    if (now_us > s->time_floor && s->applied == 0) {",
            ),
        ),
        ("ctest test_expiry plain", "ctest test_expiry_commit plain"),
    ),
    Defect(
        "expired-are-shown",
        "rule R3: expiry is judged in the kernel",
        (
            Change(
                _READ,
                "(version.expires_us && version.expires_us <= memdb_pin_time(pin)))",
                "(version.expires_us && version.expires_us + 1000000 <= memdb_pin_time(pin)))",
            ),
        ),
        ("ctest test_expiry_commit plain",),
    ),
    Defect(
        "memory-without-reserve",
        "growth is backed by memory before it is used: a full /dev/shm is an error, never a SIGBUS",
        (
            Change(
                "memdb/shm/arena.c",
                "        error = posix_fallocate(a->fd, (off_t)first * MEMDB_PAGE, (off_t)count * MEMDB_PAGE);\n",
                "        error = first + count == 0;\n",
            ),
        ),
        ("ctest test_arena plain",),
    ),
    Defect(
        "limit-not-kept",
        "invariant 14: memory is bounded by max_memory",
        (
            Change(
                "memdb/shm/arena.c",
                "    if (purpose == MEMDB_FOR_RECOVERY || deletes)\n        cap = (int64_t)a->page_count;",
                "    if (purpose == MEMDB_FOR_RECOVERY || deletes || bytes > 0)\n        cap = (int64_t)a->page_count;",
            ),
        ),
        ("ctest test_arena plain", "ctest test_store plain", "ctest test_commit plain"),
    ),
    Defect(
        "counts-shown-too-early",
        "rule I3: len is that of the published state",
        (
            Change(
                _STORE,
                "s->deltas[s->delta_first].lsn <= lsn; s->delta_first++)",
                "s->deltas[s->delta_first].lsn <= lsn + 1; s->delta_first++)",
            ),
        ),
        ("ctest test_store plain",),
    ),
    Defect(
        "bad-structure-read-on",
        "rule R2: every traversal checks bounds",
        (
            Change(
                "memdb/shm/arena.h",
                "    if (offset < sizeof(struct memdb_arena_header) || offset + bytes > view->size)\n",
                "    if (offset < sizeof(struct memdb_arena_header) || bytes > view->size)\n",
            ),
        ),
        ("ctest test_flip plain", "ctest test_flip asan"),
    ),
    Defect(
        "revocation-not-acknowledged",
        "rule R6: who was revoked acknowledges it",
        (
            Change(
                _EPOCH,
                "    pin->word = word_of(MEMDB_SLOT_FREE, next_count(seen), 0);\n    memdb_store_sc(&pin->slot->word, pin->word);\n",
                "    pin->word = word_of(MEMDB_SLOT_FREE, next_count(seen), 0);\n",
            ),
        ),
        ("ctest test_epoch plain",),
    ),
    Defect(
        "slot-word-repeats",
        "epoch.h: a slot's word counts its uses, so that it never looks the same again",
        (
            Change(
                _EPOCH,
                "static uint64_t next_count(uint64_t word) { return (word & COUNT_MASK) + (UINT64_C(1) << COUNT_SHIFT); }",
                "static uint64_t next_count(uint64_t word) { return word & COUNT_MASK; }",
            ),
        ),
        ("ctest test_epoch plain",),
    ),
    # ------------------------------------------------------------------------------------ hostile clients
    Defect(
        "slots-of-a-lease-believed",
        "invariant 12: a client's nonsense costs only its own",
        (Change(_EPOCH, "        if (used > MEMDB_SLOTS)\n            used = MEMDB_SLOTS;\n", ""),),
        ("ctest test_hostile plain",),
    ),
    Defect(
        "cell-of-an-entry-believed",
        "invariant 12: every entry is hostile, and checked on a copy",
        (
            Change(
                "memdb/shm/lease.c",
                "        if (entry->cell >= MEMDB_CELLS)\n            return MEMDB_INVALID;\n        break;\n    case MEMDB_ENTRY_FRAME:",
                "        break;\n    case MEMDB_ENTRY_FRAME:",
            ),
        ),
        ("ctest test_hostile plain",),
    ),
)
