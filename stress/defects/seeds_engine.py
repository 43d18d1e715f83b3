"""Seeded defects of the engine's life: generations, who may write, who has died, what an owner may see."""

from stress.defects.defect import Change, Defect

_OPENING = "memdb/durability/opening.py"
_ENGINE = "memdb/durability/engine.py"
_TEST_ENGINE = "pytest tests/durability/test_engine.py::"
_TEST_PRESSURE = "pytest tests/durability/test_pressure.py::"
_TEST_GROUP = "pytest tests/actors/test_group.py::"
_TEST_POOL = "pytest tests/pool/test_pool.py::"

SEEDS = (
    Defect(
        "generation-not-stored",
        "rule G2: a new generation is shown before its first acknowledgement",
        (Change(_OPENING, "        self._generations.show(generation)\n", ""),),
        (_TEST_ENGINE + "test_every_restart_gives_the_same_versions",),
    ),
    Defect(
        "second-writer",
        "invariant 1: a kernel lock makes a second writer impossible",
        (
            Change(
                "memdb/actors/writer.py",
                "    if not lock.acquire(wait=False):\n",
                "    if not lock.acquire(wait=False) and not lock.is_held_elsewhere():\n",
            ),
        ),
        ("pytest tests/actors/test_one_writer.py::test_a_writer_waits_for_the_lock_of_another",),
    ),
    Defect(
        "files-for-everybody",
        "files are the owner's alone (0600)",
        (Change("memdb/durability/files.py", "flags, 0o600, dir_fd", "flags, 0o644, dir_fd"),),
        ("pytest tests/durability/test_dump.py::test_files_and_directories_are_private",),
        quick=True,
    ),
    Defect(
        "dead-client-not-reaped",
        "invariant 12: a client's death costs only its own",
        (
            Change(
                "memdb/actors/reaper.py",
                '                    self._post.send("dead", client=client)\n',
                "                    continue\n",
            ),
        ),
        (_TEST_GROUP + "test_the_death_of_the_last_client_begins_the_end",),
    ),
    Defect(
        "slots-of-the-dead-kept",
        "invariant 12: the pins of a dead client count no more",
        (Change(_OPENING, "            self._commit.remove_lease(known[0])\n", "            pass\n"),),
        (_TEST_PRESSURE + "test_a_dead_readers_pins_go_with_its_lease",),
        quick=True,
    ),
    Defect(
        "old-arena-punched-early",
        "rule R6: no page is given back while any process could touch it",
        (
            Change(
                _ENGINE,
                "        if self._readers.are_in(parity):\n",
                "        if self._readers.are_in(parity) and now < 0:\n",
            ),
        ),
        (_TEST_PRESSURE + "test_an_old_arena_stays_while_a_revoked_traversal_has_not_acknowledged",),
    ),
    Defect(
        "check-sees-nothing",
        "invariant 13: check() names what is damaged",
        (
            Change(
                "memdb/actors/checkpointer.py",
                '                problems.append(_problem(error.file or "?", error.message, error.offset, error.lsn))\n',
                "                continue\n",
            ),
        ),
        (_TEST_GROUP + "test_damage_of_a_checkpoint_is_found_and_named",),
    ),
    Defect(
        "orphans-live-on",
        "invariant 12: after the supervisor's death the actors end, and a new group serves",
        (Change("memdb/actors/writer.py", "    call_at_death(post.supervisor, supervisor_died)\n", ""),),
        (_TEST_GROUP + "test_after_the_supervisor_the_actors_end_and_a_new_group_serves",),
    ),
    Defect(
        "no-way-back-from-a-full-disk",
        "rule L5: a full disk recovers by itself when there is room",
        (
            Change(
                _ENGINE,
                "            if now >= self._retry_at:\n                self._try_way_back()\n",
                "",
            ),
        ),
        (_TEST_ENGINE + "test_a_full_disk_at_a_rotation_refuses_commits_until_there_is_room",),
    ),
    Defect(
        "commits-taken-after-a-failure",
        "invariant 11: after a failed log commits are refused",
        (
            Change(
                _OPENING,
                "        self.commit.read_only(kernel.STATUS_READ_ONLY, deletes)\n",
                "",
            ),
        ),
        (_TEST_ENGINE + "test_a_full_disk_at_a_rotation_refuses_commits_until_there_is_room",),
    ),
    Defect(
        "client-told-too-early",
        "a client is told of its lease only after the writer has said that it scans it",
        (
            Change(
                "memdb/actors/supervisor.py",
                "            client.known = True\n            self.tell(\n",
                "            client.known = True\n            self._known(client.client_id)\n            self.tell(\n",
            ),
        ),
        ("pytest tests/actors/test_door.py::test_nobody_is_in_before_the_writer_scans_his_lease",),
    ),
    Defect(
        "poison-tried-for-ever",
        "rule G4: after the third death at one LSN the group stays up read-only",
        (
            Change(
                "memdb/actors/supervisor.py",
                "        if suspicious and self._deaths[1] >= POISON_DEATHS:\n",
                "        if suspicious and self._deaths[1] >= 1 << 30:\n",
            ),
        ),
        (_TEST_GROUP + "test_three_deaths_at_one_lsn_make_the_group_read_only",),
    ),
    Defect(
        "checkpointer-revoked-for-room",
        "rule R5: the checkpointer's snapshot is never revoked",
        (
            Change(
                "memdb/durability/pressure.py",
                "        pins = [pin for pin in standing if not pin.checkpoint]\n",
                "        pins = standing\n",
            ),
            Change(
                "memdb/durability/pressure.py",
                "        held.update((pin.lsn, 0) for pin in standing if pin.checkpoint)  # stays pinned, whoever goes\n",
                "",
            ),
        ),
        (_TEST_PRESSURE + "test_the_groups_own_checkpoint_never_gives_way",),
    ),
    Defect(
        "checkpointer-revoked-for-its-age",
        "rule R5: the checkpointer's snapshot is never revoked",
        (
            Change(
                "memdb/durability/pressure.py",
                "            if pin.checkpoint or not pin.since_us or not pin.held:\n",
                "            if not pin.since_us or not pin.held:\n",
            ),
        ),
        (_TEST_PRESSURE + "test_however_old_the_groups_own_checkpoint_is_not_revoked_for_its_age",),
    ),
    Defect(
        "other-users-let-in",
        "engine.sock: the peer's uid is checked",
        (
            Change(
                "memdb/actors/door.py",
                "            if connection.uid not in (0, os.geteuid()):\n",
                "            if connection.uid < 0:\n",
            ),
        ),
        ("pytest tests/actors/test_door.py::test_another_user_is_turned_away_at_an_open_door",),
    ),
    Defect(
        "failed-sync-not-told",
        "rule L5: in-flight `full` commits are answered as unknown, and info() names the range at risk",
        (
            Change(
                _ENGINE,
                "        failure.first_lsn = self._wal.durable_lsn + 1\n",
                "        failure.first_lsn = None\n",
            ),
        ),
        (_TEST_ENGINE + "test_a_failed_write_or_sync_is_final_and_the_way_back_leads_to_new_files",),
    ),
    Defect(
        "asked-before-its-lease-is-scanned",
        "a checkpointer reads only under a pin that the writer knows of",
        (
            Change(
                "memdb/actors/supervisor.py",
                "        if not actor.ready or (lease is not None and not lease.scanned):\n",
                "        if not actor.ready:\n",
            ),
        ),
        (
            "pytest tests/actors/test_two_deaths.py"
            "::test_a_checkpointer_reads_nothing_before_the_writer_knows_of_it",
        ),
    ),
    Defect(
        "answers-of-readers-believed",
        "a reader's answer counts only if the client's own snapshot stands when it is there",
        (
            Change(
                "memdb/pool.py",
                "                    self._snapshot._stands()\n                    yield found\n",
                "                    yield found\n",
            ),
        ),
        (_TEST_POOL + "test_a_revoked_snapshot_is_expired_whatever_the_readers_found",),
    ),
    Defect(
        "readers-work-for-the-dead",
        "a client that dies sets its readers free, also in the middle of a regular expression",
        (
            Change(
                "memdb/actors/reader.py",
                "signal.signal(signal.SIGALRM, self._look)",
                "signal.signal(signal.SIGALRM, signal.SIG_IGN)",
            ),
        ),
        (_TEST_POOL + "test_a_client_that_dies_sets_its_reader_free",),
    ),
    Defect(
        "keys-of-a-checkpoint-believed",
        "checkpoints.py: what a file says is in it does not decide what is made for it",
        (
            Change(
                "memdb/durability/checkpoints.py",
                "    if keys > size // _LEAST_ITEM:",
                "    if keys > 1 << 64:",
            ),
        ),
        ("stress fuzz --part checkpoints --seconds 20 --seed 1",),
    ),
)
