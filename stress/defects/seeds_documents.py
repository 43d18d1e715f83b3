"""Seeded defects of collections: what makes documents and entries one, and what layers ask of transactions."""

from stress.defects.defect import Change, Defect

_BUILDING = "memdb/documents/building.py"
_CATALOGUE = "memdb/documents/catalogue.py"
_READING = "memdb/documents/reading.py"
_WRITING = "memdb/documents/writing.py"
_LAYERS = "memdb/shm/layers.pxi"
_PACKING = "memdb/shm/packing.pxi"
_TXN = "memdb/shm/txn.pxi"
_TESTS = "pytest tests/documents/"
_LAYERING = "pytest tests/layering/"

SEEDS = (
    # ------------------------------------------------------------------------------------ the definition
    Defect(
        "definition-not-guarded",
        "documents: who writes by a definition conflicts with who changes it, at either isolation",
        (Change(_CATALOGUE, "    layering.guard(tx, key)\n", ""),),
        (_TESTS + "test_collections.py::test_who_does_not_know_a_new_index_can_not_commit",),
    ),
    Defect(
        "definition-from-memory",
        "documents: a definition is read in the transaction that writes by it",
        (
            Change(
                "memdb/documents/base.py",
                "        definition = self._note(catalogue.hold(tx, self._name))\n"
                "        if definition is not None:\n",
                "        definition = self._known or self._note(catalogue.hold(tx, self._name))\n"
                "        if definition is not None:\n",
            ),
        ),
        (_TESTS + "test_collections.py::test_drop_takes_everything_and_rename_nothing",),
    ),
    Defect(
        "cached-definition-believed",
        "documents: a definition that was kept counts only while the catalogue has the same bytes",
        (
            Change(
                "memdb/documents/reads.py",
                "            if raw == known.raw:\n                return default",
                "            if raw is not None:\n                return default",
            ),
        ),
        (_TESTS + "test_collections.py::test_a_kept_definition_is_of_no_collection_made_anew",),
    ),
    Defect(
        "function-by-a-number-alone",
        "documents: the function of an index that never came to be makes the entries of no other",
        (
            Change(
                "memdb/documents/indexes.py",
                "= created, collection, definition.n, definition.name, definition.key\n",
                '= created, collection, definition.n, "", None\n',
            ),
        ),
        (_TESTS + "test_key_functions.py::test_the_function_of_an_index_that_was_never_committed",),
    ),
    # ------------------------------------------------------------------------------------------ building
    Defect(
        "build-of-another-collection",
        "documents: a build goes on in the collection that it was begun in, or not at all",
        (
            Change(
                _BUILDING,
                "    if definition is None or there is None or there.identity != index.identity:\n",
                "    if definition is None or there is None or there.n != index.n:\n",
            ),
        ),
        (_TESTS + "test_building.py::test_a_build_goes_on_in_no_other_collection",),
    ),
    Defect(
        "gives-up-another-index",
        "documents: only the index that can't be built is taken away",
        (
            Change(
                _BUILDING,
                "        if definition is None or there is None or there.identity != index.identity or there.ready:\n",
                "        if definition is None or there is None or there.n != index.n or there.ready:\n",
            ),
        ),
        (_TESTS + "test_building.py::test_a_build_goes_on_in_no_other_collection",),
    ),
    Defect(
        "build-within-guards-nothing",
        "documents: an index that is built in a transaction misses no document at isolation snapshot",
        (
            Change(
                _BUILDING,
                "            layering.guard_range(tx, *keyspace.document_range(definition.id))\n",
                "",
            ),
        ),
        (_TESTS + "test_building.py::test_who_writes_beside_an_index_in_a_transaction",),
    ),
    Defect(
        "entry-of-the-second-goes-with-the-first",
        "documents: while a unique index is built, an entry is its own document's",
        (
            Change(
                _WRITING,
                "        if index.ready or not index.unique:\n            return False\n",
                "        if not index.ready or index.ready:\n            return False\n",
            ),
        ),
        (_TESTS + "test_building.py::test_the_second_of_two_comes_before_the_build_reaches_the_first",),
    ),
    Defect(
        "entry-of-the-second-not-guarded",
        "documents: the build can't pass a document under its writer at isolation snapshot",
        (Change(_WRITING, '        layering.guard(self._tx, key)  # at isolation "snapshot", too\n', ""),),
        (_TESTS + "test_building.py::test_the_build_reaches_the_first_of_two_under_its_writer",),
    ),
    # ------------------------------------------------------------------------------------------- writing
    Defect(
        "value-passed-through-is-taken-away",
        "documents: a unique index holds what its documents hold, after many changes of one call, too",
        (Change(_WRITING, "        if claim is not None and claim[2] == id:\n", "        if False:\n"),),
        (_TESTS + "test_indexes.py::test_a_value_of_another_that_is_only_passed_through",),
    ),
    Defect(
        "columns-not-looked-up",
        "documents: a unique index holds for documents that are written by columns",
        (
            Change(
                _WRITING,
                "        return all(one is None for one in layering.payloads(self._tx, keys))\n",
                "        return True\n",
            ),
        ),
        (_TESTS + "test_indexes.py::test_unique_holds_for_many_with_ids_of_their_own_making",),
    ),
    Defect(
        "columns-not-compared",
        "documents: a unique index holds among documents that are written by columns",
        (
            Change(
                _WRITING,
                "        if len(set(keys)) < len(keys):\n            return False\n",
                "",
            ),
        ),
        (_TESTS + "test_indexes.py::test_unique_holds_for_many_with_ids_of_their_own_making",),
    ),
    Defect(
        "entries-keep-the-old-ttl",
        "documents: a document and its entries expire at one instant",
        (
            Change(
                _WRITING,
                "            if old_expires_us != expires_us:\n",
                "            if old_expires_us > expires_us:\n",
            ),
        ),
        (_TESTS + "test_collections.py::test_ttl_takes_the_entries_along",),
    ),
    # ------------------------------------------------------------------------------------------- reading
    Defect(
        "find-one-believes-the-entry",
        "documents: what find_one finds by two reads still has the value",
        (
            Change(
                "memdb/documents/reads.py",
                "        return document if type(has) is type(value) and has == value else MISSING\n",
                "        return document if type(has) is type(value) else MISSING\n",
            ),
        ),
        (_TESTS + "test_indexes.py::test_find_one_between_two_reads",),
    ),
    Defect(
        "once-more-in-a-transaction",
        "documents: a cursor in a transaction gives no document twice",
        (
            Change(
                _READING,
                "    return _once(rows) if isinstance(source, Transaction) else rows\n",
                "    return rows\n",
            ),
        ),
        (_TESTS + "test_cursors.py::test_in_a_transaction_each_document_comes_once",),
    ),
    Defect(
        "first-entry-in-a-transaction",
        "documents: a cursor in a transaction gives a document by any entry that it still has",
        (
            Change(
                _READING, "if access.several and not in_transaction else None", "if access.several else None"
            ),
        ),
        (_TESTS + "test_cursors.py::test_in_a_transaction_each_document_comes_once",),
    ),
    Defect(
        "nothing-found-is-believed",
        "a reader that has found nothing is believed only if the client's own snapshot stands",
        (
            Change(
                "memdb/pool.py",
                "                    self._snapshot._stands()\n                    self._parts.remove(part)\n",
                "                    self._parts.remove(part)\n",
            ),
        ),
        (
            "pytest tests/pool/test_pool.py::test_a_revoked_snapshot_is_expired_although_the_readers_found_nothing",
        ),
    ),
    # ------------------------------------------------------------------------------- what layers call below
    Defect(
        "guard-guards-nothing",
        "layering: a guarded key decides about the commit at isolation snapshot, too",
        (
            Change(
                _TXN,
                "        if stored in self.reads:\n            return 0\n",
                "        if not self.serializable:\n            return 0\n",
            ),
            Change(
                _TXN,
                "        if (start, stop) in self.kept:\n            return 0\n",
                "        if self.kept is not None:\n            return 0\n",
            ),
        ),
        (
            _LAYERING + "test_guard.py::test_a_guarded_key_decides_about_the_commit",
            _LAYERING + "test_guard.py::test_a_guarded_range_decides_about_the_commit",
        ),
    ),
    Defect(
        "discarded-key-by-key-and-forgotten",
        "layering: of a range that is discarded nothing is left, however many there are",
        (
            Change(
                _LAYERS,
                "            tx.keep_range_unchanged(bounds.start, bounds.stop)\n            found = ",
                "            found = ",
            ),
        ),
        (_LAYERING + "test_guard.py::test_of_more_ranges_than_a_commit_can_discard_nothing_is_left",),
    ),
    Defect(
        "columns-expire-never",
        "layering: keys that are put by columns have the expiry that was asked for",
        (
            Change(
                _LAYERS,
                "own_write(<bytes>column[i], False, expires_us)",
                "own_write(<bytes>column[i], False, 0)",
            ),
        ),
        (_LAYERING + "test_guard.py::test_columns_are_put_with_the_expiry_that_was_asked_for",),
    ),
    Defect(
        "packed-int-of-the-wrong-width",
        "layering: plain values are packed byte for byte as the reference writes them",
        (Change(_PACKING, "if number < <int64_t>1 << 32 else", "if number < <int64_t>1 << 31 else"),),
        (_LAYERING + "test_packing.py::test_plain_values_take_the_short_way",),
    ),
)
