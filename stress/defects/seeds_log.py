"""Seeded defects of the log, the checkpoints and the manifest: what is synced, kept, believed, and said."""

from stress.defects.defect import Change, Defect

_FILES = "memdb/durability/files.py"
_LOG = "memdb/durability/log.py"
_SEGMENTS = "memdb/durability/segments.py"
_CHECKPOINTS = "memdb/durability/checkpoints.py"
_RECOVERY = "memdb/durability/recovery.py"
_LOGREAD = "memdb/durability/logread.py"
_SALVAGE = "memdb/durability/salvage.py"
_JUDGE = "memdb/durability/judge.py"
_MANIFEST = "memdb/durability/manifest.py"
_RETENTION = "memdb/durability/retention.py"
_ENGINE = "memdb/durability/engine.py"
_OPENING = "memdb/durability/opening.py"
_REBUILD = "memdb/durability/rebuild.py"

_CRASHES = "pytest tests/durability/test_crashes.py::"
_POWER_CUTS = tuple(
    f"{_CRASHES}test_power_cut_at_every_operation_keeps_what_was_synced[{part}]" for part in range(4)
)
_KILLS = tuple(
    f"{_CRASHES}test_kill_at_every_operation_keeps_what_was_acknowledged[{part}]" for part in range(4)
)
_TEST_ENGINE = "pytest tests/durability/test_engine.py::"
_TEST_DAMAGE = "pytest tests/durability/test_damage.py::"
_TEST_FAILED = "pytest tests/durability/test_failed_log.py::"
_DURABLE = "pytest tests/durability/test_what_is_durable.py::"

SEEDS = (
    # ---------------------------------------------------------------------------------------------- syncs
    Defect(
        "log-sync-skipped",
        "invariant 6: a `full` commit is acknowledged when the log is synced",
        (
            Change(
                _LOG,
                "            try:\n                file.datasync()\n",
                "            try:\n                pass\n",
            ),
        ),
        _POWER_CUTS,
        quick=True,
    ),
    Defect(
        "link-not-synced",
        "rule L1: a segment's header, zeros and link are durable before the manifest names it",
        (Change(_LOG, '"open a segment")\n        self._datasync(file)\n', '"open a segment")\n'),),
        (_DURABLE + "test_what_a_manifest_names_is_durable_before_it", *_POWER_CUTS),
    ),
    Defect(
        "segment-name-not-synced",
        "rule L1: the directory is synced after a segment is created",
        (Change(_SEGMENTS, '        files.sync_dir("wal")\n', ""),),
        (_DURABLE + "test_what_a_manifest_names_is_durable_before_it", *_POWER_CUTS),
        quick=True,
    ),
    Defect(
        "rename-not-synced",
        "rule L7: the directory is synced after the manifest's rename",
        (Change(_FILES, '        self.sync_dir(path.rpartition("/")[0])\n', ""),),
        _POWER_CUTS,
    ),
    Defect(
        "manifest-renamed-unsynced",
        "rule L7: a file is synced before it is renamed",
        (
            Change(
                _FILES,
                "            file.write_all(data, 0)\n            file.datasync()\n",
                "            file.write_all(data, 0)\n",
            ),
        ),
        _POWER_CUTS,
    ),
    Defect(
        "checkpoint-not-synced",
        "invariant 10: a checkpoint counts when its bytes are synced",
        (
            Change(
                _CHECKPOINTS,
                "        file.datasync()\n        read_back",
                "        read_back",
            ),
        ),
        (_DURABLE + "test_what_a_manifest_names_is_durable_before_it", *_POWER_CUTS),
    ),
    Defect(
        "checkpoint-name-not-synced",
        "invariant 10: a checkpoint counts when its name is synced",
        (Change(_CHECKPOINTS, '    files.sync_dir("checkpoints")\n', ""),),
        (_DURABLE + "test_what_a_manifest_names_is_durable_before_it", *_POWER_CUTS),
    ),
    Defect(
        "checkpoint-beyond-the-log",
        "invariant 6: a checkpoint never says more than the synced log",
        (
            Change(
                _ENGINE,
                "        if entry.lsn > self._wal.durable_lsn:\n            self.sync()\n",
                "",
            ),
        ),
        (_DURABLE + "test_what_a_manifest_names_is_durable_before_it", *_POWER_CUTS),
    ),
    Defect(
        "rotation-without-sync",
        "rule L1: a segment is synced whole before the next is named",
        (
            Change(
                _LOG,
                "        figures = commit.figures()\n        self.sync(commit)\n",
                "        figures = commit.figures()\n        commit.flush()\n",
            ),
        ),
        (_DURABLE + "test_a_segment_is_synced_whole_before_the_next_one_is_named", *_POWER_CUTS),
    ),
    Defect(
        "successor-without-sync",
        "invariants 4 and 6: what the log buffer held is synced before the arena that has it is opened",
        (
            Change(
                _LOG,
                '"resume the log")\n        self._datasync(file)\n',
                '"resume the log")\n',
            ),
        ),
        (_TEST_ENGINE + "test_a_successor_writes_first_what_the_file_lacks",),
    ),
    Defect(
        "successor-does-not-flush",
        "rule C4: a successor from disk first writes out what the file lacks",
        (Change(_REBUILD, "            file.write_all(image[synced:], synced)\n", ""),),
        (_TEST_ENGINE + "test_a_damaged_arena_is_left_and_the_log_buffer_still_saved",),
    ),
    # ------------------------------------------------------------------------------------- a failed log
    Defect(
        "sync-tried-again",
        "invariant 11: a failed sync is final",
        (
            Change(
                _LOG,
                "                code = error.errno or errno.EIO\n                self._failed(file.path, code)\n",
                "                try:\n"
                "                    file.datasync()\n"
                "                except OSError:\n"
                "                    code = error.errno or errno.EIO\n"
                "                    self._failed(file.path, code)\n",
            ),
        ),
        (_TEST_FAILED + "test_a_sync_that_failed_once_is_not_tried_again",),
        quick=True,
    ),
    Defect(
        "poisoned-file-resumed",
        "rule L5: nobody appends to a file whose sync has failed",
        (
            Change(
                _OPENING,
                'was_read_only = predecessor and words["phase"] == READ_ONLY and words["writer_pid"] != 0',
                "was_read_only = False",
            ),
        ),
        (_TEST_FAILED + "test_dying_on_the_way_back_leaves_the_old_file_alone",),
    ),
    Defect(
        "manifest-not-fenced",
        "rule L5: the manifest fences the failed file at what is known durable",
        (
            Change(
                _LOG,
                'after = now.with_end(number, SegmentEnd("fenced", scan.end_offset, lsn, scan.last_crc))',
                "after = now",
            ),
        ),
        (_TEST_FAILED + "test_what_was_written_and_never_synced_stays_out_for_good",),
        quick=True,
    ),
    Defect(
        "fence-at-the-tail",
        "rule L5: what was written and never synced is not believed after the way back",
        (
            Change(
                _LOG,
                "            image[: max(durable, kernel.SEGMENT_HEADER)], kernel.SEGMENT_HEADER, entry.salt\n",
                "            image, kernel.SEGMENT_HEADER, entry.salt\n",
            ),
        ),
        (_TEST_FAILED + "test_what_was_written_and_never_synced_stays_out_for_good",),
    ),
    # ----------------------------------------------------------------------------------------- retention
    Defect(
        "segment-deleted-first",
        "invariant 10: files are deleted after a manifest that does not name them is durable",
        (
            Change(
                _LOG,
                "            self.store(after)\n        return self.delete_unnamed()\n",
                "            self.manifest = after\n"
                "        gone = self.delete_unnamed()\n"
                "        self.store(after)\n"
                "        return gone\n",
            ),
        ),
        (_DURABLE + "test_nothing_is_deleted_that_a_durable_manifest_names", *_KILLS),
    ),
    Defect(
        "one-checkpoint-kept",
        "rule L6: at least two checkpoints are kept",
        (
            Change(
                _RETENTION,
                "    kept = kept[-max(keep_checkpoints, 2) :]\n    if len(kept) < 2:\n",
                "    kept = kept[-1:]\n    if not kept:\n",
            ),
        ),
        (_TEST_ENGINE + "test_damage_of_the_newest_checkpoint_costs_nothing",),
        quick=True,
    ),
    Defect(
        "segments-below-the-newest-go",
        "invariant 10: a segment is deleted only below the oldest kept checkpoint",
        (Change(_RETENTION, "    floor = kept[0].lsn\n", "    floor = kept[-1].lsn\n"),),
        (
            _DURABLE + "test_the_log_reaches_back_to_the_oldest_checkpoint",
            _TEST_ENGINE + "test_a_checkpoint_bounds_what_is_replayed_and_retention_drops_the_rest",
        ),
    ),
    # ------------------------------------------------------------------------------------------ recovery
    Defect(
        "last-record-dropped",
        "invariant 12: no acknowledged commit is lost",
        (
            Change(
                _LOGREAD,
                "    result = store.replay(image, start, piece.entry.salt, after_lsn, up_to)\n",
                "    last = max(piece.judgement.last_lsn, 1) - 1\n    result = store.replay(image, start, piece.entry.salt, after_lsn, last)\n",
            ),
        ),
        (_TEST_ENGINE + "test_a_new_database_is_created_and_found_again",),
        quick=True,
    ),
    Defect(
        "hole-below-d-cut",
        "rule L3: a hole at or below the highest durable LSN is damage",
        (
            Change(
                _JUDGE, "    elif durable > last_lsn:\n", "    elif durable > last_lsn and not stray_end:\n"
            ),
        ),
        (_TEST_DAMAGE + "test_a_hole_below_a_durable_record_is_damage_though_it_looks_torn",),
        quick=True,
    ),
    Defect(
        "d-behind-a-hole-ignored",
        "rule L3: D counts also where it stands behind a hole",
        (
            Change(
                _JUDGE,
                "    durable = max(durable, durable_lsn, scan.durable_lsn)\n",
                "    durable = max(durable_lsn, scan.durable_lsn)\n",
            ),
        ),
        (_TEST_DAMAGE + "test_the_judge_sees_d_behind_a_hole",),
    ),
    Defect(
        "damage-called-a-tear",
        "rule L3: a bad record without a sector of zeros is damage",
        (
            Change(
                _JUDGE,
                "    return bool(kernel.torn_like(image, scan.end_offset, min(end, len(image))))\n",
                "    return True\n",
            ),
        ),
        (_TEST_DAMAGE + "test_damage_above_what_is_durable_is_no_tear_without_a_sector_of_zeros",),
    ),
    Defect(
        "lost-tail-of-an-ended-segment",
        "rule L3: whatever is missing of a segment that has ended is damage",
        (
            Change(
                _JUDGE,
                "whole = scan.end_offset == entry.end.offset and scan.last_crc == entry.end.crc",
                "whole = True",
            ),
        ),
        (_TEST_DAMAGE + "test_a_durable_tail_that_is_gone_is_damage",),
    ),
    Defect(
        "lsn-used-again-after-a-cut",
        "invariant 9 and rule L4: after an unclean end numbers go on above the limit",
        (
            Change(
                _RECOVERY,
                "    highest = max([lsn, limit, *(cut.last_lsn for cut in cuts), *(one.durable_lsn for one in ends.values())])\n",
                "    highest = lsn\n",
            ),
        ),
        (_TEST_DAMAGE + "test_a_tear_above_what_is_durable_is_cut_kept_and_reported",),
    ),
    Defect(
        "cut-without-quarantine",
        "invariant 13: what is cut is kept in quarantine",
        (Change(_RECOVERY, "        quarantine.keep(files, cut)\n", "        pass\n"),),
        (_TEST_DAMAGE + "test_a_tear_above_what_is_durable_is_cut_kept_and_reported",),
        quick=True,
    ),
    Defect(
        "cut-in-silence",
        "invariant 13: nothing is dropped without a report (recovery='until_damage')",
        (
            Change(
                _LOGREAD,
                "        reading.cuts.append(_rest_of(files, manifest, entry, start, reached, why))\n",
                "        _rest_of(files, manifest, entry, start, reached, why)\n",
            ),
        ),
        (_TEST_DAMAGE + "test_until_damage_stops_before_it_and_says_what_is_left_out",),
    ),
    Defect(
        "gap-in-the-log-accepted",
        "invariant 13: a missing part of the log is an error",
        (
            Change(
                _LOGREAD, "    if entry.follows > reached:\n", "    if entry.follows > reached + (1 << 40):\n"
            ),
        ),
        (_TEST_DAMAGE + "test_a_segment_that_the_manifest_leaves_out_is_a_gap",),
    ),
    Defect(
        "manifest-not-checked",
        "invariant 13: the manifest is believed after its checksum",
        (
            Change(
                _MANIFEST,
                "len(data) != _HEADER.size + length or kernel.crc32c(body) != body_crc:",
                "len(data) != _HEADER.size + length:",
            ),
        ),
        (_TEST_DAMAGE + "test_every_flipped_byte_of_the_manifest_is_corruption",),
    ),
    Defect(
        "missing-manifest-is-a-new-database",
        "rule L8: a manifest that is missing beside data files is an error",
        (Change(_MANIFEST, "    if stray:\n", "    if not stray and data:\n"),),
        (_TEST_ENGINE + "test_a_missing_manifest_is_no_new_database",),
    ),
    Defect(
        "checkpoint-not-read-back",
        "invariant 10: a checkpoint counts once it is read back",
        (
            Change(
                _CHECKPOINTS,
                "        read_back = _check_whole(file, path)\n",
                "        read_back = footer\n",
            ),
        ),
        (_DURABLE + "test_a_checkpoint_that_does_not_read_back_does_not_count",),
    ),
    Defect(
        "overtaken-checkpoint-named",
        "rule L5: a checkpoint that the way back has overtaken is not named",
        (Change(_ENGINE, "        if entry.lsn <= newest:", "        if entry.lsn == -1:"),),
        (
            "pytest tests/durability/test_two_checkpoints.py::test_one_that_the_way_back_has_overtaken_is_not_named",
        ),
    ),
    Defect(
        "writings-share-a-file",
        "rule L5: nobody takes the place of the way back's checkpoint",
        (Change(_CHECKPOINTS, '-{salt:016x}.tmp"', '-{0:016x}.tmp"'),),
        (
            "pytest tests/durability/test_two_checkpoints.py"
            "::test_a_checkpointer_at_the_lsn_of_the_way_back_takes_nothing_from_it",
        ),
    ),
    Defect(
        "copy-keeps-its-identity",
        "rule L9: a copied directory gets an identity of its own",
        (
            Change(
                _REBUILD,
                "    if (found.device, found.inode) == (device, inode):\n",
                "    if found.inode:\n",
            ),
        ),
        (_TEST_ENGINE + "test_a_copied_directory_gets_an_identity_of_its_own",),
    ),
    # --------------------------------------------------------------------------------------------- time
    Defect(
        "time-goes-back-at-a-restart",
        "rule R3: time never goes back, so what had expired stays gone",
        (
            Change(
                _LOGREAD,
                "    store.raise_time_floor(result.time_us)  # also of commits that the checkpoint holds already\n",
                "",
            ),
            Change(_CHECKPOINTS, "        store.raise_time_floor(header.time_us)\n", ""),
        ),
        ("pytest tests/durability/test_gaps.py::test_time_goes_on_from_the_latest_commit_in_the_log",),
    ),
    # ------------------------------------------------------------------------------- whose bytes these are
    Defect(
        "segment-of-another-database",
        "rule L9: a segment belongs to its database",
        (Change(_SEGMENTS, "    if header.database not in known:\n", "    if not header.database:\n"),),
        (_TEST_DAMAGE + "test_files_of_another_database_are_refused",),
    ),
    Defect(
        "another-segment-in-its-place",
        "invariant 13: a segment is the one that the manifest means",
        (
            Change(
                _SEGMENTS,
                "    if (header.number, header.salt, header.capacity) != (entry.number, entry.salt, entry.capacity):\n",
                "    if header.capacity != entry.capacity:\n",
            ),
        ),
        (_TEST_DAMAGE + "test_files_of_another_database_are_refused",),
    ),
    Defect(
        "another-checkpoint-in-its-place",
        "invariant 10: a checkpoint is the one that the manifest names",
        (
            Change(
                _CHECKPOINTS,
                "        if (header.lsn, header.salt, footer.digest) != (entry.lsn, entry.salt, entry.digest):\n",
                "        if header.lsn != entry.lsn:\n",
            ),
        ),
        (_TEST_DAMAGE + "test_files_of_another_database_are_refused",),
    ),
    Defect(
        "link-not-compared",
        "rule L1: a segment continues the one before it",
        (
            Change(
                _LOGREAD,
                "        if linked != (before[0].number, before[0].end.crc):\n",
                "        if linked == (0, 1):\n",
            ),
        ),
        (_TEST_DAMAGE + "test_a_segment_continues_the_one_before_it",),
    ),
    Defect(
        "short-write-of-a-file",
        "invariant 6: a short write is gone on with",
        (
            Change(
                _FILES,
                "            view, offset = view[done:], offset + done\n",
                "            view, offset = view[:0], offset + done\n",
            ),
        ),
        (_DURABLE + "test_short_writes_are_gone_on_with",),
    ),
    Defect(
        "creation-counts-at-once",
        "rule L8: creation first says `creating`",
        (Change(_REBUILD, '        state="creating",\n', '        state="ready",\n'),),
        _KILLS,
    ),
    # ------------------------------------------------------------------------------------------ salvage
    Defect(
        "salvage-skips-in-silence",
        "invariant 13: what a salvage leaves out is kept and reported",
        (
            Change(
                _SALVAGE,
                '        reading.cuts.append(Cut(path, start, end - start, first, last, "damage", kept, judgement.why))\n',
                "        pass\n",
            ),
        ),
        (
            "pytest tests/durability/test_salvage.py::test_a_damaged_record_is_skipped_whole_kept_and_reported",
        ),
    ),
    Defect(
        "salvage-names-no-missing-segment",
        "invariant 13: what a salvage leaves out is reported",
        (
            Change(
                _SALVAGE,
                '        reading.cuts.append(Cut(path, 0, 0, reached + 1, high, "missing", "", "named in the MANIFEST"))\n',
                "",
            ),
        ),
        ("pytest tests/durability/test_salvage.py::test_a_missing_segment_is_left_out_by_name",),
    ),
    Defect(
        "salvage-names-no-lost-keys",
        "invariant 13: keys that no block holds are named",
        (
            Change(
                _SALVAGE,
                "    return make_store() if store is None else store, lsn, [KeyHole(*one) for one in unknown]\n",
                "    return make_store() if store is None else store, lsn, []\n",
            ),
        ),
        ("pytest tests/durability/test_salvage.py::test_keys_that_no_block_holds_are_named",),
    ),
    Defect(
        "salvage-stops-at-the-first-hole",
        "rule L3: a salvage goes on behind a hole",
        (
            Change(
                _SALVAGE,
                "        if beyond is None:\n            end = len(part)",
                "        if beyond is None or last > 0:\n            end = len(part)",
            ),
        ),
        (
            "pytest tests/durability/test_salvage.py::test_a_damaged_record_is_skipped_whole_kept_and_reported",
        ),
    ),
    Defect(
        "files-of-others-deleted",
        "invariant 13: a start deletes no file of another database",
        (
            Change(
                "memdb/durability/quarantine.py",
                "        if _is_foreign_segment(files, path, known):\n",
                "        if _is_foreign_segment(files, path, known) and not path:\n",
            ),
        ),
        ("pytest tests/durability/test_salvage.py::test_files_of_others_are_never_deleted",),
    ),
)
