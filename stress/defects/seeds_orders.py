"""Seeded defects of the order of memory: one access of the kernel is weakened, or two are swapped. x86 forgives most of
them, so the models that run over the kernel's own functions (tests/models/kernel) have to see them."""

from stress.defects.defect import Change, Defect

_EPOCH = "memdb/shm/epoch.c"
_LEASE = "memdb/shm/lease.c"
_STORE = "memdb/shm/store.c"
_LIST = "memdb/shm/skiplist.c"
_PARK = "memdb/shm/park.c"
_SYNC = "memdb/shm/sync.c"


def _order(name: str, breaks: str, file: str, before: str, after: str, model: str) -> Defect:
    return Defect(name, breaks, (Change(file, before, after),), (f"model {model}",))


SEEDS = (
    _order(
        "order-of-the-announcement",
        "rule R1: a reader announces, seq_cst, before it loads the published sequence",
        _EPOCH,
        "memdb_store_sc(&slot->word, word);",
        "memdb_store_release(&slot->word, word);",
        "pin",
    ),
    _order(
        "order-of-the-published-load",
        "rule R1: the load behind the announcement is seq_cst",
        _EPOCH,
        "uint64_t lsn = memdb_load_sc(&view->header->published);",
        "uint64_t lsn = memdb_load_acquire(&view->header->published);",
        "pin",
    ),
    _order(
        "order-of-the-scan",
        "rule R1: the reclaimer's loads of the slots are seq_cst",
        _EPOCH,
        "note(s, slot, memdb_load_sc(&slot->word));",
        "note(s, slot, memdb_load_acquire(&slot->word));",
        "pin",
    ),
    _order(
        "order-of-a-torn-down-arena",
        "rules G2 and G3: who still looks at an arena that is torn down is seen or sees it",
        _EPOCH,
        "memdb_store_sc(&slot->word, word);",
        "memdb_store_relaxed(&slot->word, word);",
        "generation",
    ),
    _order(
        "order-of-bound-and-s",
        "rule R1: a word that is not exact pins everything above its bound",
        _EPOCH,
        "        uint64_t word = word_of(MEMDB_SLOT_ACTIVE, count, bound);\n",
        "        uint64_t word = word_of(MEMDB_SLOT_ACTIVE, count, bound) | MEMDB_SLOT_EXACT;\n",
        "bound",
    ),
    _order(
        "order-of-a-borrowed-pin",
        "a borrowed pin announces, seq_cst, before it loads the published sequence",
        _EPOCH,
        "memdb_store_sc(&slot->word, pin->word); ",
        "memdb_store_release(&slot->word, pin->word); ",
        "borrow",
    ),
    _order(
        "order-of-a-borrowers-load",
        "the load behind the announcement of a borrowed pin is seq_cst",
        _EPOCH,
        "uint64_t published = memdb_load_sc(&view->header->published);",
        "uint64_t published = memdb_load_relaxed(&view->header->published);",
        "borrow",
    ),
    _order(
        "lender-does-not-look",
        "what a borrower found is believed only if the lender's pin stands when the answer is there",
        _EPOCH,
        "return held && memdb_load_sc(&pin->slot->word) == pin->word;",
        "return held;",
        "borrow",
    ),
    _order(
        "order-of-the-unpin",
        "rule R2: unpin is one compare-exchange, not a load behind the copy",
        _EPOCH,
        "    if (memdb_cas_sc(&pin->slot->word, &seen, next)) {",
        "    seen = memdb_load_acquire(&pin->slot->word);\n"
        "    if (seen == pin->word) {\n"
        "        memdb_store_release(&pin->slot->word, next);",
        "validate",
    ),
    _order(
        "order-of-entering-a-snapshot",
        "invariant 5: entering loads the published sequence before it traverses",
        _EPOCH,
        "        (void)memdb_load_sc(&pin->view.header->published);",
        "        (void)memdb_load_relaxed(&pin->view.header->published);",
        "grace",
    ),
    _order(
        "order-of-the-ring-tail",
        "rule C1: the tail is stored seq_cst before `parked` is loaded",
        _LEASE,
        "    memdb_store_sc(&lease->ring_tail, tail + padded(entry->size));",
        "    memdb_store_release(&lease->ring_tail, tail + padded(entry->size));",
        "ring",
    ),
    _order(
        "entry-shown-before-its-bytes",
        "rule C1: entries are published by a release store",
        _LEASE,
        "    memdb_store_sc(&lease->ring_tail, tail + padded(entry->size));",
        "    memdb_store_relaxed(&lease->ring_tail, tail + padded(entry->size));",
        "ring",
    ),
    _order(
        "order-of-the-parked-load",
        "rule C1: `parked` is loaded seq_cst behind the tail",
        _LEASE,
        "    if (memdb_load_sc(&board->parked) != 0) /* SYNC: parked */\n        memdb_bell_ring(board);\n",
        "    if (memdb_load_relaxed(&board->parked) != 0) /* SYNC: parked */\n        memdb_bell_ring(board);\n",
        "ring",
    ),
    _order(
        "order-of-a-result",
        "rule C1: an outcome's fields come before its state",
        _LEASE,
        "        memdb_store_relaxed(&cell->lsn, lsn);\n"
        "        memdb_store_relaxed(&cell->count, count);\n"
        "        memdb_store_relaxed(&cell->detail, detail);\n"
        "        memdb_store_relaxed(&cell->winner, winner);\n"
        "    } while (!memdb_cas_sc(&cell->state, &state, MEMDB_CELL_DONE)); /* SYNC: result */\n",
        "        memdb_store_relaxed(&cell->detail, detail);\n"
        "        memdb_store_relaxed(&cell->winner, winner);\n"
        "    } while (!memdb_cas_sc(&cell->state, &state, MEMDB_CELL_DONE)); /* SYNC: result */\n"
        "    memdb_store_relaxed(&cell->lsn, lsn);\n"
        "    memdb_store_relaxed(&cell->count, count);\n",
        "result",
    ),
    _order(
        "waiter-not-told-of",
        "rule C1: who sleeps on a result has said so in its word",
        _LEASE,
        "            if (!memdb_cas_sc(&cell->state, &state, state | MEMDB_WAITING))\n"
        "                continue;\n"
        "            state |= MEMDB_WAITING;\n",
        "            state &= ~MEMDB_WAITING;\n",
        "result",
    ),
    _order(
        "order-of-parking",
        "rule C1: the writer stores `parked`, seq_cst, and then looks at everything again",
        _PARK,
        "    memdb_store_sc(&ctx->board->parked, 1);",
        "    memdb_store_release(&ctx->board->parked, 1);",
        "park",
    ),
    _order(
        "bell-read-too-late",
        "rule C1: the bell is read before the last look for work",
        _PARK,
        "        memdb_futex_wait(&ctx->board->bell, bell, until",
        "        memdb_futex_wait(&ctx->board->bell, memdb_load_sc(&ctx->board->bell) + (bell & 0), until",
        "park",
    ),
    _order(
        "order-of-a-sync-request",
        "sync.c: `wanted` and `sleeping` are a Dekker pair",
        _SYNC,
        "        memdb_store_sc(&sync->sleeping, 1);\n",
        "        memdb_store_release(&sync->sleeping, 1);\n",
        "sync",
    ),
    _order(
        "order-of-a-version-head",
        "invariant 3: a version is whole before the store of its cell's head",
        _STORE,
        "    memdb_store_release(&cell->head, at); /* SYNC: version-head */\n",
        "    memdb_store_relaxed(&cell->head, at); /* SYNC: version-head */\n",
        "version",
    ),
    _order(
        "order-of-a-block-swap",
        "rule I1: one release store shows both halves of a split",
        _LIST,
        "    memdb_store_release(&node_at(list, leaf->node)->block, block); /* SYNC: block-swap */\n",
        "    memdb_store_relaxed(&node_at(list, leaf->node)->block, block); /* SYNC: block-swap */\n",
        "swap",
    ),
    _order(
        "order-of-a-cells-request",
        "rule C8: a cell says which request it has before it says that it has one",
        _LEASE,
        "    memdb_store_relaxed(&cell->request, request);\n"
        "    uint32_t state = memdb_load_relaxed(&cell->state);\n"
        "    while (!memdb_cas_sc(&cell->state, &state, MEMDB_CELL_SUBMITTED | (state & MEMDB_WAITING)))"
        " /* SYNC: result */\n        ;\n",
        "    uint32_t state = memdb_load_relaxed(&cell->state);\n"
        "    while (!memdb_cas_sc(&cell->state, &state, MEMDB_CELL_SUBMITTED | (state & MEMDB_WAITING)))"
        " /* SYNC: result */\n        ;\n"
        "    memdb_store_relaxed(&cell->request, request);\n",
        "withdraw",
    ),
    _order(
        "cell-taken-without-a-second-look",
        "rule C8: a request that was withdrawn is not taken for the one that has its cell now",
        _LEASE,
        "    if (memdb_load_relaxed(&cell->request) == entry->request)\n        return MEMDB_OK;\n",
        "    return MEMDB_OK;\n",
        "withdraw",
    ),
    _order(
        "header-cleared-under-a-reader",
        "rule G2: who attaches late is never told that the arena is damaged",
        "memdb/shm/arena.c",
        "    memdb_store_relaxed(&h->generation, generation);\n",
        "    memdb_store_relaxed(&h->magic, 0);\n    memdb_store_relaxed(&h->generation, generation);\n",
        "attach",
    ),
)
