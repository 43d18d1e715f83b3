"""How a writer begins: the parts of an engine, and its start from nothing, from disk, or from a dead writer's
arena.

Owns: the parts that both halves of the engine use (engine.py has the other), their making and replacing, and
the leases.

Invariants:

* G1: a successor reads the old arena and the log buffer above it; disk is for when these are gone or do not
  check.
* G2: the GENERATION word is stored when the new generation is whole and open, before its first
  acknowledgement.
* 11: a writer that takes over a failed log says read-only until a new log has begun, so that the next one, if
  it dies, knows too.
* 4 and 6: what the log buffer held is in the file and synced before the store that has applied it is opened.
"""

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from memdb.durability import checkpoints, manifest, rebuild, recovery, segments
from memdb.durability.failures import disk_error
from memdb.durability.files import Clock, Files
from memdb.durability.log import SegmentLog
from memdb.durability.manifest import CheckpointEntry, Manifest
from memdb.durability.pressure import Lease, Pressure, Readers
from memdb.durability.reaping import Reaping
from memdb.durability.rebuild import EngineSegments, Generations
from memdb.durability.recovery import RecoveryReport
from memdb.durability.triggers import Triggers
from memdb.errors import ArenaFullError, CorruptionError, DiskError, DiskFullError, Error, LogFailed
from memdb.options import EngineOptions
from memdb.shm import _kernel as kernel

__all__ = [
    "ENDING",
    "FAR",
    "OLD_WAIT",
    "READ_ONLY",
    "REBUILDING",
    "RETRY",
    "SERVING",
    "Opening",
]

REBUILDING: Final = 1
SERVING: Final = 2
READ_ONLY: Final = 3
ENDING: Final = 4
FAR: Final = 365 * 86400.0
_LOOK_EVERY: Final = 0.25
_FORGOTTEN_AT_ONCE: Final = 64  # ranges in one commit
_OWN_CELLS: Final[int] = kernel.GROUP_CELL  # result cells of the group that nobody waits for
_UNDER_WAY: Final = (1, 2)  # states of a result cell: submitted, taken
RETRY: Final = 5.0
"""Seconds between attempts to begin a new log after a failure."""
OLD_WAIT: Final = 0.005
"""Seconds until the second look whether an old arena still has readers."""


class Opening:
    """The first half of DurableEngine: see there."""

    def __init__(
        self,
        files: Files,
        clock: Clock,
        options: EngineOptions,
        segs: EngineSegments,
        log: logging.Logger,
        *,
        threads: bool = True,
    ) -> None:
        self._files, self._clock, self._options, self._segs, self._log = files, clock, options, segs, log
        self._threads = threads
        self._leases: dict[bytes, tuple[kernel.Mapping, bool]] = {}
        self._generations = Generations(segs, options, clock, patient=threads)
        self._wal = SegmentLog(files, clock, options, threads=threads, log=log)
        self._wal.on_progress = self._nudge
        self._store: kernel.Store | None = None
        self._commit: kernel.Commit | None = None
        self._commit_lock = threading.Lock()
        self._report = RecoveryReport("created")
        self._failure: Error | None = None
        self._begin_later: tuple[int, Manifest, int] | None = (
            None  # where a log is to begin once there is room
        )
        self._retry_at = FAR
        self._looked_at = 0.0
        self._nudged = self._interrupted = False
        self._triggers = Triggers(options, clock.monotonic())
        self._old_arena: int | None = None
        self._old_at = FAR  # when to look next whether it still has readers
        self._old_wait = OLD_WAIT
        self._ages_at = FAR  # when the ages of snapshots are looked at next
        self._readers = Readers(self._named_leases)
        self._pressure = Pressure(self._readers, clock, log, patient=threads)
        self._reaping = Reaping(clock)

    # --------------------------------------------------------------------------------------------- parts

    @property
    def store(self) -> kernel.Store:
        """The present generation's store."""
        if self._store is None:
            raise ValueError("the engine has not been started")
        return self._store

    @property
    def commit(self) -> kernel.Commit:
        """The commit loop."""
        if self._commit is None:
            raise ValueError("the engine has not been started")
        return self._commit

    def _phase(self, phase: int) -> None:
        kernel.board_set(self._segs.board, phase=phase, writer_pid=os.getpid())

    # --------------------------------------------------------------------------------------------- start

    def start(self, predecessor: bool = False) -> RecoveryReport:
        """Builds the state and opens it. ``predecessor``: a writer of this group has served before (rule G1).

        Errors: CorruptionError, FormatTooNew, NotADatabase, OptionMismatch, ArenaFullError, LogFailed,
        OSError, ViewsStand; nothing that counts was changed then.
        Cost: about a second for a million keys of 100 bytes.
        """
        began = self._clock.monotonic()
        words = kernel.board_words(self._segs.board)
        # Without a pid the supervisor has given up writing (rule G4): that is no failed log (rule L5).
        was_read_only = predecessor and words["phase"] == READ_ONLY and words["writer_pid"] != 0
        self._phase(READ_ONLY if was_read_only else REBUILDING)
        if was_read_only:
            if not self._continue_failed():
                self._start_from_disk(flush=False)
        elif predecessor:
            self._continue()
        else:
            self._start_from_disk(flush=False)
        self._report.seconds = self._clock.monotonic() - began
        self._triggers.settled(self._clock.monotonic(), self.commit.figures())
        self._phase(SERVING if self._failure is None else READ_ONLY)
        return self._report

    def _continue(self) -> None:
        """Goes on after a dead writer: from its arena, else from disk; where /dev/shm has room for one arena
        only, from disk in its place (rule G3)."""
        try:
            if not self._continue_arena():
                self._start_from_disk(flush=True)
            return
        except ArenaFullError as error:
            if not self._options.logged or self._generations.present == 0:
                raise
            # Only the text: the error's frames keep the half-made store alive.
            self._log.warning("readers are revoked, and reads wait for a rebuild from disk: %s", error)
        rebuild.give_up_arena(self._files, self._segs, self._generations, self._options, self._mappings())
        self._start_from_disk(flush=True)

    def _start_from_disk(self, *, flush: bool) -> None:
        found, is_new, made = rebuild.load_or_create(self._files, self._clock, self._options)
        if not self._options.logged:
            manifest.store(self._files, found)
            self._wal.manifest = found
            self._take_over(
                self._generations.make(self._generations.present + 1, self._mappings()), manifest.EMPTY_LSN
            )
            self._show()
            return
        if is_new:
            self._report = rebuild.created_report()
            store = self._generations.make(self._generations.present + 1, self._mappings())
            base = follows = manifest.EMPTY_LSN
        else:
            if flush:
                rebuild.flush_log_buffer(self._files, self._segs, found)
            recovered = rebuild.recover(
                self._files,
                found,
                self._generations,
                self._options,
                self._segs.board,
                self._mappings(),
                threads=self._threads,
                made=made,
            )
            store, base, found, self._report = (
                recovered.store,
                recovered.lsn,
                recovered.manifest,
                recovered.report,
            )
            follows = recovered.follows
            if self._report.left_out:
                kept = (*found.reports, recovery.summary(self._report, self._clock.time_us()))[-16:]
                found = replace(found, reports=kept)
        commit = self._make_commit(store, base)
        if flush and self._segs.logbuf is not None:
            kernel.logbuf_init(self._segs.logbuf, kernel.logbuf_words(self._segs.logbuf)["half_bytes"])
        full = self._begin_log(commit, base, found, follows, is_new)
        self._install(store, commit, base)
        self._show()
        if full is not None:
            self._note_failure(full)

    def _begin_log(
        self, commit: kernel.Commit, base: int, after: Manifest, follows: int, is_new: bool
    ) -> DiskFullError | DiskError | None:
        """A new segment; where the disk refuses it, reads are served without it until it can be made."""
        try:
            self._wal.begin(commit, base, after, follows)
        except OSError as error:
            if is_new or isinstance(error, LogFailed):
                raise
            self._begin_later = base, after, follows
            self._wal.manifest = manifest.load(self._files)
            return disk_error(
                error,
                f"no log segment of {segments.FIRST_BYTES >> 10} KiB can be made",
                then=f"reads go on, commits are refused, and it is tried again every {RETRY:g} s",
            )
        return None

    def _note_failure(self, error: Error) -> None:
        """Commits are refused from now on, and a way back is looked for."""
        self._log.error("commits are refused: %s", error)
        self._failure = error
        self._retry_at = self._clock.monotonic() + RETRY
        deletes = not isinstance(error, LogFailed) and self._wal.takes_deletes
        self.commit.read_only(kernel.STATUS_READ_ONLY, deletes)
        self._phase(SERVING if deletes else READ_ONLY)  # READ_ONLY: a successor may not go on in this log

    def _continue_arena(self) -> bool:
        """Reads the dead writer's generation (rule G1); False if it can't be used."""
        if not self._options.logged:
            return self._continue_unlogged()
        found = manifest.load(self._files)
        if found is None or found.state == "creating" or self._segs.logbuf is None:
            return False
        halves = rebuild.buffer_halves(self._segs)
        if not halves:
            return False
        number, salt, image, synced = halves[-1]
        scan = kernel.replay_scan(image, kernel.SEGMENT_HEADER, salt)
        if scan.link is None or scan.end_offset != len(image):
            return False
        try:
            built = rebuild.from_arena(self._segs, self._generations, self._mappings())
        except CorruptionError as error:
            self._log.error("the old arena can't be gone on from, the disk has to do: %s", error)
            return False
        if built is None:
            return False
        store, lsn, records = built
        self._wal.manifest = found
        commit = self._make_commit(store, lsn)
        capacity = next(
            half["capacity"]
            for half in kernel.logbuf_words(self._segs.logbuf)["halves"]
            if half["segment"] == number
        )
        self._wal.resume(commit, number, salt, capacity, scan.link, (synced, image[synced:]))
        self._report = RecoveryReport("arena", lsn=lsn, records=records, keys=sum(store.figures()["counts"]))
        self._install(store, commit, lsn)
        self._show()
        return True

    def _continue_failed(self) -> bool:
        """The way back (rule L5) of a writer that died with a failed log: its published state goes into new
        files."""
        found, old, logbuf = manifest.load(self._files), self._generations.present, self._segs.logbuf
        if found is None or logbuf is None or old == 0 or not self._options.logged:
            return False
        words = kernel.logbuf_words(logbuf)
        halves = [
            half
            for half in words["halves"]
            if found.segments and half["segment"] == found.segments[-1].number
        ]
        if not halves:
            return False
        half, self._wal.manifest = halves[0], found
        try:
            published = kernel.arena_figures(self._segs.arenas[old & 1])["published"]
            entry = self._way_back_checkpoint(published, old)
        except (BlockingIOError, ValueError, CorruptionError):
            return False
        base = max(half["last_lsn"], half["lsn_limit"], found.lsn_limit)
        image = kernel.logbuf_image(logbuf, half["segment"])
        after = self._wal.fence(found, image, half["segment"], half["synced"], entry.lsn, base)
        after = after.with_checkpoint(entry)
        try:
            store = self._generations.make(old + 1, self._mappings())
            store.copy_from(self._segs.arenas[old & 1], old & 1, self._segs.group_lease)
        except (BlockingIOError, ValueError, CorruptionError):
            return False
        except ArenaFullError as error:
            self._way_back_from_disk(after, base, error)
            return True
        # The failed half stays in the buffer: should this writer die before the manifest fences its file, the
        # next one needs it. Nothing of it is applied again: all its LSNs are at or below `base`.
        commit = self._make_commit(store, base)
        self._wal.begin_anew(commit, base, after, entry.lsn)
        self._report = RecoveryReport("arena", lsn=entry.lsn, keys=entry.keys, clean=False)
        self._install(store, commit, base)
        self._show()
        return True

    def _way_back_from_disk(
        self, after: Manifest, base: int, why: Error, stay: Callable[[], None] = lambda: None
    ) -> None:
        """The way back where /dev/shm has room for one arena only (rules L5, G3): ``after`` fences the failed
        log and names a checkpoint of all that was published, so the disk can replace the arena.

        ArenaFullError: the arena can't be given up; ``stay`` lets readers into it again.
        """
        # Only the text: the error's frames keep the half-made store alive.
        self._log.warning("readers are revoked, and reads wait for a rebuild from disk: %s", why)
        self._wal.store(replace(after, lsn_limit=max(after.lsn_limit, base)))
        try:
            self._generations.give_up(self._mappings())
        except ArenaFullError:
            stay()
            raise
        if self._commit is not None:
            self._wal.detach(self._commit)
        self._wal.forget_failure()
        self._start_from_disk(flush=False)

    def _continue_unlogged(self) -> bool:
        built = rebuild.from_arena(self._segs, self._generations, self._mappings())
        if built is None:
            return False
        store, lsn, _ = built
        self._wal.manifest = manifest.load(self._files)
        self._report = RecoveryReport("arena", lsn=lsn, keys=sum(store.figures()["counts"]))
        self._take_over(store, lsn)
        self._show()
        return True

    def _make_commit(self, store: kernel.Store, last_lsn: int) -> kernel.Commit:
        options = self._options
        return kernel.Commit(
            store,
            self._segs.board,
            self._segs.logbuf if options.logged else None,
            max_transaction_bytes=options.max_transaction_bytes,
            max_key_bytes=options.max_key_bytes + 3,
            max_value_bytes=options.max_value_bytes + 1,
            sync_interval=options.sync_interval,
            last_lsn=last_lsn,
            word=self._segs.epoch << 32 | store.generation,
        )

    def _take_over(self, store: kernel.Store, lsn: int) -> None:
        self._install(store, self._make_commit(store, lsn), lsn)

    def _install(self, store: kernel.Store, commit: kernel.Commit, lsn: int) -> None:
        for mapping, system in self._leases.values():
            commit.add_lease(mapping, system)
        commit.add_lease(self._segs.group_lease, True)
        store.open(lsn)
        with self._commit_lock:
            self._store, self._commit = store, commit
        if self._options.logged:
            self._wal.durable_lsn = max(self._wal.durable_lsn, lsn)
            self._wal.attach(commit)

    def _show(self) -> None:
        """Makes the new generation the present one, and closes the old to new pins."""
        generation = self.store.generation
        self._generations.show(generation)
        old = self._segs.arenas[(generation + 1) & 1]
        if kernel.arena_figures(old)["generation"]:
            kernel.arena_close(old)
            self._give_back_later((generation + 1) & 1)

    def _give_back_later(self, parity: int) -> None:
        """The memory of an arena goes back once nobody reads in it."""
        self._old_arena, self._old_at, self._old_wait = parity, 0.0, OLD_WAIT

    # -------------------------------------------------------------------------------------------- leases

    def _mappings(self) -> list[kernel.Mapping]:
        return [mapping for mapping, _ in self._leases.values()] + [self._segs.group_lease]

    def _named_leases(self) -> list[Lease]:
        named = [(f"client {one.hex()}", *lease) for one, lease in self._leases.items()]
        return [*named, ("the group", self._segs.group_lease, True)]

    def add_lease(self, mapping: kernel.Mapping, client_id: bytes, *, system: bool = False) -> None:
        """Takes commits from a client; before start(), too (then its readers are revoked in order, rule
        G3)."""
        self._leases[client_id] = (mapping, system)
        if not system:  # what it pins from now on is not older before that
            self._ages_at = min(self._ages_at, self._clock.monotonic() + self._options.snapshot_max_age)
        if self._commit is not None:
            self._commit.add_lease(mapping, system)

    def remove_lease(self, client_id: bytes) -> None:
        """A client is gone: what it had published is still committed, its pins count no more."""
        known = self._leases.pop(client_id, None)
        if known is None:
            return
        self._readers.forget(known[0])
        self._old_at = 0.0 if self._old_arena is not None else FAR
        if self._commit is not None:
            self._commit.remove_lease(known[0])

    def forget(self, *client_ids: bytes) -> list[bytes]:
        """Deletes the stored outcomes of clients that have been dead long enough (rule C2).

        The clients that have to be named again, later: of two commits of the engine's own in one result cell
        the first would not be done.
        """
        lease, done = self._segs.group_lease, 0
        states = (kernel.lease_result(lease, cell)[0] for cell in range(_OWN_CELLS))
        if any(state in _UNDER_WAY for state in states):
            return list(client_ids)
        while done < min(len(client_ids), _FORGOTTEN_AT_ONCE * _OWN_CELLS // 2):
            ranges = []
            for client_id in client_ids[done : done + _FORGOTTEN_AT_ONCE]:
                start = b"\x02o" + client_id
                ranges.append({"op": "delete_range", "key": start, "value": start + b"\xff" * 2})
            if not kernel.lease_send(lease, self._segs.board, kernel.ops_build(ranges)):
                break
            done += len(ranges)
        return list(client_ids[done:])

    def _nudge(self) -> None:
        """The sync thread, after work: lets the loop look at triggers now and then, never when idle."""
        if self._clock.monotonic() - self._looked_at > _LOOK_EVERY:
            self._nudged = True
            with self._commit_lock:
                if self._commit is not None:
                    self._commit.interrupt()

    # ----------------------------------------------------------------------------------- own checkpoints

    def _plan(self, reason: str) -> dict[str, Any]:
        share = checkpoints.default_share() if reason not in ("shutdown", "way back", "request") else 1.0
        return {
            "reason": reason,
            "database": self._wal.current.database,
            "time_us": self._clock.time_us(),
            "share": share,
        }

    def _way_back_checkpoint(self, published: int, generation: int = 0) -> CheckpointEntry:
        """A checkpoint of the published state: the one that the manifest names already, if it reads through.

        Else a new one. A named file is not replaced while it is sound: until the next manifest is durable,
        the old one is what counts, or one whose storing has failed after it had been renamed.
        """
        for entry in (*self._wal.current.checkpoints, *self._wal.risked_checkpoints):
            if entry.lsn == published:
                try:
                    checkpoints.verify(self._files, entry)
                except CorruptionError as error:
                    self._log.error("the checkpoint is written again: %s", error)
                else:
                    return entry
        entry = checkpoints.entry_of(self._write_checkpoint(self._plan("way back"), generation))
        checkpoints.put_in_place(self._files, entry)
        return entry

    def _write_checkpoint(self, plan: dict[str, Any], generation: int = 0) -> dict[str, Any]:
        parity = (generation or self.store.generation) & 1
        arena = self._segs.arenas[parity]
        reader = kernel.Reader(arena, parity, self._segs.group_lease, kernel.PIN_CHECKPOINT)
        try:
            return checkpoints.write(self._files, reader, plan)
        finally:
            reader.close()
