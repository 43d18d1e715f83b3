"""DurableEngine: the writer without a process. Store, commit loop, log and checkpoints put together.

Owns: the life of one writer: start (create, recover, or read the old arena), run, rotate, checkpoints, switching to the next
generation, the way back from a failed log, the end.

Invariants:

* 6 and 10: a checkpoint counts when the log is synced to its LSN and the manifest names it, in this order.
* 11: after a failed write or sync reads go on, commits are refused, and the only way back is new files (rule L5).
* G2: the GENERATION word is stored when the new generation is whole and open, before its first acknowledgement.

Who: the commit thread calls everything; interrupt() may be called by any thread.
"""

import errno
import logging
import os
import threading
from dataclasses import asdict, replace
from typing import Any, Final

from memdb.durability import checkpoints, rebuild, recovery
from memdb.durability.files import Clock, Files
from memdb.durability.log import SegmentLog
from memdb.durability.manifest import CheckpointEntry
from memdb.durability.rebuild import EngineSegments, Generations
from memdb.durability.recovery import RecoveryReport
from memdb.errors import DiskFullError, Error, LogFailed
from memdb.options import EngineOptions
from memdb.shm import _kernel as kernel

__all__ = ["DurableEngine", "EngineSegments"]

_REBUILDING, _SERVING, _READ_ONLY, _ENDING = 1, 2, 3, 4
_RETRY: Final = 5.0
"""Seconds between attempts to begin a new log after a failure."""
_TRIGGER_PATIENCE: Final = 60.0
_LOOK_EVERY: Final = 0.25
_DRAIN_STEPS: Final = 10_000
_FAR: Final = 365 * 86400.0
_PUNCH_FROM: Final = 1 << 16


class DurableEngine:
    """See the module. ``threads`` False: nothing happens outside the calls, in a fixed order (tests).

    >>> engine = DurableEngine(MemoryFiles(), RealClock(), EngineOptions(), segs, log, threads=False)
    >>> engine.start(predecessor=False).source
    'created'
    """

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
        self._retry_at = _FAR
        self._looked_at = 0.0
        self._nudged = self._interrupted = False
        self._checkpoint_at = clock.monotonic()
        self._checkpoint_bytes = 0
        self._checkpoint_running_until = 0.0
        self._own_request = 0
        self._old_arena: int | None = None

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

        Errors: CorruptionError, FormatTooNew, NotADatabase, OptionMismatch, ArenaFullError, LogFailed, OSError; nothing
        that counts was changed then. Cost: about a second for a million keys of 100 bytes.
        """
        began = self._clock.monotonic()
        was_read_only = predecessor and kernel.board_words(self._segs.board)["phase"] == _READ_ONLY
        self._phase(_REBUILDING)
        if not (predecessor and self._continue_arena(discard=was_read_only)):
            self._start_from_disk(flush=predecessor and not was_read_only)
        self._report.seconds = self._clock.monotonic() - began
        self._checkpoint_at = self._clock.monotonic()
        self._phase(_SERVING if self._failure is None else _READ_ONLY)
        return self._report

    def _start_from_disk(self, *, flush: bool) -> None:
        found, is_new = rebuild.load_or_create(self._files, self._clock, self._options)
        if not self._options.logged:
            rebuild.manifest.store(self._files, found)
            self._wal.manifest = found
            self._take_over(self._generations.make(self._generations.present + 1, self._mappings()), 0)
            self._show()
            return
        if is_new:
            self._report = rebuild.created_report()
            store, base = self._generations.make(self._generations.present + 1, self._mappings()), 0
        else:
            if flush:
                rebuild.flush_log_buffer(self._files, self._segs, found)
            recovered = rebuild.recover(self._files, found, self._generations, self._options, self._segs.board)
            store, base, found, self._report = recovered.store, recovered.lsn, recovered.manifest, recovered.report
            if self._report.cuts:
                kept = (*found.reports, recovery.summary(self._report, self._clock.time_us()))[-16:]
                found = replace(found, reports=kept)
        commit = self._make_commit(store, base)
        if flush and self._segs.logbuf is not None:
            kernel.logbuf_init(self._segs.logbuf, kernel.logbuf_words(self._segs.logbuf)["half_bytes"])
        self._wal.begin(commit, base, found)
        self._install(store, commit, base)
        rebuild.clean_start(self._files, self._wal.current)
        self._show()

    def _continue_arena(self, *, discard: bool) -> bool:
        """Reads the dead writer's generation (rule G1); False if it can't be used."""
        if not self._options.logged:
            return self._continue_unlogged()
        found = rebuild.manifest.load(self._files)
        if found is None or found.state == "creating" or self._segs.logbuf is None:
            return False
        halves = rebuild.buffer_halves(self._segs)
        if not halves or discard:
            return False
        number, salt, image, _ = halves[-1]
        scan = kernel.replay_scan(image, kernel.SEGMENT_HEADER, salt)
        if scan.link is None or scan.end_offset != len(image):
            return False
        built = rebuild.from_arena(self._segs, self._generations, self._mappings())
        if built is None:
            return False
        store, lsn, records = built
        self._wal.manifest = found
        commit = self._make_commit(store, lsn)
        capacity = next(
            half["capacity"] for half in kernel.logbuf_words(self._segs.logbuf)["halves"] if half["segment"] == number
        )
        self._wal.resume(commit, number, salt, capacity, scan.link)
        self._report = RecoveryReport("arena", lsn=lsn, records=records, keys=sum(store.figures()["counts"]))
        self._install(store, commit, lsn)
        self._show()
        return True

    def _continue_unlogged(self) -> bool:
        built = rebuild.from_arena(self._segs, self._generations, self._mappings())
        if built is None:
            return False
        store, lsn, _ = built
        self._wal.manifest = rebuild.manifest.load(self._files)
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
            self._old_arena = (generation + 1) & 1

    # -------------------------------------------------------------------------------------------- leases

    def _mappings(self) -> list[kernel.Mapping]:
        return [mapping for mapping, _ in self._leases.values()] + [self._segs.group_lease]

    def add_lease(self, mapping: kernel.Mapping, client_id: bytes, *, system: bool = False) -> None:
        """Takes commits from a client; before start(), too (then its readers are revoked in order, rule G3)."""
        self._leases[client_id] = (mapping, system)
        if self._commit is not None:
            self._commit.add_lease(mapping, system)

    def remove_lease(self, client_id: bytes) -> None:
        """A client is gone: what it had published is still committed, its pins count no more."""
        known = self._leases.pop(client_id, None)
        if known is not None and self._commit is not None:
            self._commit.remove_lease(known[0])

    def forget(self, client_id: bytes) -> None:
        """Deletes the stored outcomes of a client that has been dead long enough (rule C2)."""
        start = b"\x02o" + client_id
        stop = start + b"\xff" * 2
        payload = kernel.ops_build([{"op": "delete_range", "key": start, "value": stop}])
        self._own_request += 1
        kernel.lease_submit(
            self._segs.group_lease, self._segs.board, self._own_request % 64, self._own_request, payload, level=0
        )

    # ----------------------------------------------------------------------------------------------- run

    def interrupt(self) -> None:
        """Any thread: run() returns "control"."""
        self._interrupted = True
        with self._commit_lock:
            if self._commit is not None:
                self._commit.interrupt()

    def _nudge(self) -> None:
        """The sync thread, after work: lets the loop look at triggers now and then, never when idle."""
        if self._clock.monotonic() - self._looked_at > _LOOK_EVERY:
            self._nudged = True
            with self._commit_lock:
                if self._commit is not None:
                    self._commit.interrupt()

    def run(self, deadline: float | None = None) -> str:
        """Commits until "deadline" (monotonic seconds; None: none), "control" (interrupt, a trigger is due) or "failed"."""
        until = _FAR + self._clock.monotonic() if deadline is None else deadline
        while True:
            event = self._next_event(min(until, self._retry_at))
            if event == kernel.EVENT_LOG_FAILED:
                self._note_failure(self._log_failure())
                return "failed"
            if event == kernel.EVENT_ROTATE:
                if not self._try_rotate():
                    return "failed"
            elif event == kernel.EVENT_PRESSURE:
                self._relieve()
            now = self._clock.monotonic()
            self._looked_at = now
            if now >= self._retry_at:
                self._try_way_back()
            if self._interrupted:
                self._interrupted = self._nudged = False
                return "control"
            if event == kernel.EVENT_CONTROL and not self._nudged:
                return "control"
            self._nudged = False
            if self._old_arena is not None:
                self._give_back_old_arena()
            if self._due(now) is not None:
                return "control"
            if event == kernel.EVENT_NONE and (now >= until or not self._threads):
                return "deadline"

    def _next_event(self, until: float) -> int:
        if self._threads:
            return int(self.commit.run(until))
        while True:
            done = self.commit.step()
            if done < 0:
                return -int(done)
            if not (self._options.logged and self._wal.pump(self.commit)) and done == 0:
                return int(kernel.EVENT_NONE)

    def _try_rotate(self) -> bool:
        try:
            self._wal.rotate(self.commit)
        except LogFailed as error:
            self._note_failure(error)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                self._note_failure(DiskFullError(f"no room for the next log segment: {error}", file="wal"))
            else:
                self._note_failure(LogFailed(f"the next log segment could not be made: {error}", errno=error.errno))
        return self._failure is None

    def _relieve(self) -> None:
        """Pressure (R5, first form): revoke what is held too long, else the request is answered `full`."""
        figures = self.commit.figures()
        revoked = self._revoke_older_than(self._options.snapshot_max_age)
        self.store.reclaim(1 << 20)
        self.commit.pressure_done(revoked > 0)
        if not revoked:
            self._log.warning("the arena is full: a commit asked for %d bytes more", figures["held_bytes"])

    def _revoke_older_than(self, seconds: float) -> int:
        before = self._clock.time_us() - int(seconds * 1e6)
        parity, revoked = self.store.generation & 1, 0
        for lease in self._mappings():
            for slot, _, lsn, since, kind in kernel.lease_readers(lease, parity):
                if kind != kernel.PIN_CHECKPOINT and since and since < before:
                    revoked += kernel.lease_revoke(lease, parity, slot, lsn)
        return revoked

    def revoke_aged(self) -> int:
        """Revokes snapshots older than ``snapshot_max_age`` in both generations; how many."""
        return self._revoke_older_than(self._options.snapshot_max_age)

    def _give_back_old_arena(self) -> None:
        """Punches the old generation once nobody can reach it (rule R6); its header page stays readable."""
        parity = self._old_arena
        if parity is None or any(
            kernel.lease_readers(lease, parity) or kernel.lease_hazards(lease, parity) for lease in self._mappings()
        ):
            return
        self._old_arena = None
        if self._segs.arena_fds[parity] >= 0:
            size = self._segs.arenas[parity].size - _PUNCH_FROM
            kernel.punch(self._segs.arena_fds[parity], _PUNCH_FROM, size)

    # ------------------------------------------------------------------------------------------- failure

    def _log_failure(self) -> LogFailed:
        figures = self.commit.figures()
        if self._wal.failure is None:
            code = figures["log_errno"] or errno.EIO
            self._wal.failure = LogFailed(f"a write of the log failed: {os.strerror(code)}", file="wal", errno=code)
        self._wal.failure.first_lsn = self._wal.durable_lsn + 1
        self._wal.failure.last_lsn = figures["applied_lsn"]
        return self._wal.failure

    def _note_failure(self, error: Error) -> None:
        self._log.error("commits are refused: %s", error)
        self._failure = error
        self._retry_at = self._clock.monotonic() + _RETRY
        self.commit.read_only(kernel.STATUS_LOG_FAILED if isinstance(error, LogFailed) else kernel.STATUS_READ_ONLY)
        self._phase(_READ_ONLY)

    def _try_way_back(self) -> None:
        try:
            self.way_back()
        except (OSError, Error) as error:
            self._log.error("a new log could not be begun, the next attempt is in %g s: %s", _RETRY, error)
            self._retry_at = self._clock.monotonic() + _RETRY

    def way_back(self) -> int:
        """After a failure: checkpoint of the published state, a new segment of the next term, a fence for the old one, a
        new generation without what was never published (rule L5). Its LSN. OSError, LogFailed: still failed."""
        if self._failure is None:
            return int(self.store.published)
        if not isinstance(self._failure, LogFailed):  # the disk was full at a rotation: the log itself is sound
            self._wal.rotate(self.commit)
            self.commit.read_only(kernel.STATUS_OK)
            return self._recovered()
        logbuf = self._segs.logbuf
        if logbuf is None:
            raise self._failure
        meta = self._write_checkpoint(self._plan("way back"))
        entry = _entry_of(meta)
        image = kernel.logbuf_image(logbuf, self.commit.figures()["segment"])
        after, base = self._wal.fence(self.commit, image, entry.lsn)
        others = tuple(one for one in after.checkpoints if one.lsn != entry.lsn)
        after = replace(after, checkpoints=(*others, entry))
        store = self._generations.make(self.store.generation + 1, self._mappings())
        store.copy_from(self.store.mapping, self.store.generation & 1, self._segs.group_lease)
        self._wal.detach(self.commit)
        self._wal.failure = None
        kernel.logbuf_init(logbuf, kernel.logbuf_words(logbuf)["half_bytes"])
        commit = self._make_commit(store, base)
        self._wal.begin(commit, base, after)
        self._wal.durable_lsn = base
        self._install(store, commit, base)
        self._show()
        return self._recovered()

    def _recovered(self) -> int:
        self._failure, self._retry_at = None, _FAR
        self._phase(_SERVING)
        self._log.warning("commits are taken again, in a new log segment")
        return int(self.store.published)

    # ---------------------------------------------------------------------------------------- operations

    def _refuse_failed(self) -> None:
        if self._failure is not None:
            raise self._failure

    def sync(self) -> int:
        """Makes all that was committed durable, with its mark in the log; the LSN. LogFailed."""
        self._refuse_failed()
        if not self._options.logged:
            return int(self.store.published)
        try:
            lsn = self._wal.sync(self.commit)
        except LogFailed:
            self._note_failure(self._log_failure())
            raise
        self.commit.step()
        if self.commit.mark() == kernel.STATUS_LOG_FAILED:
            self._note_failure(self._log_failure())
            self._refuse_failed()
        return lsn

    def rotate(self) -> int:
        """Begins a new log segment now; its number. LogFailed, DiskFullError."""
        self._refuse_failed()
        if self._options.logged and not self._try_rotate():
            self._refuse_failed()
        return self._wal.current.next_segment - 1

    def compact(self) -> dict[str, Any]:
        """Builds the next generation by reading the present one, and lets readers move over; figures before and after.

        Commits wait meanwhile (about a second for a million keys). ValueError: zero-copy views stand in the arena that
        it needs.
        """
        self._refuse_failed()
        views = sum(kernel.lease_hazards(lease, (self.store.generation + 1) & 1) for lease in self._mappings())
        if views:
            raise Error(f"compact() needs the other arena, in which {views} zero-copy views stand: release them first")
        self._drain()
        before, lsn = self.store.figures(), self.commit.figures()["applied_lsn"]
        store = self._generations.make(self.store.generation + 1, self._mappings())
        store.copy_from(self.store.mapping, self.store.generation & 1, self._segs.group_lease)
        commit = self._make_commit(store, lsn)
        if self._options.logged:
            self._wal.detach(self.commit)
            self._wal.hand_over(commit)
        self._install(store, commit, lsn)
        self._show()
        after = store.figures()
        return {"generation": store.generation, "before": before["used_bytes"], "after": after["used_bytes"], "lsn": lsn}

    def _drain(self) -> None:
        """Steps until nothing that was taken waits for an answer."""
        for _ in range(_DRAIN_STEPS):
            event = self.commit.step()
            if event == -kernel.EVENT_ROTATE:
                self.rotate()
            elif event == -kernel.EVENT_PRESSURE:
                self._relieve()
            elif event == -kernel.EVENT_LOG_FAILED:
                self._note_failure(self._log_failure())
                self._refuse_failed()
            if self._options.logged:
                self._wal.sync(self.commit)
            figures = self.commit.figures()
            if figures["pending"] == 0 and figures["published_lsn"] == figures["applied_lsn"] and event <= 0:
                return
        raise Error("commits of level `full` came without a pause: compact() found no moment for the switch, try again")

    # --------------------------------------------------------------------------------------- checkpoints

    def _plan(self, reason: str) -> dict[str, Any]:
        share = checkpoints.default_share() if reason not in ("shutdown", "way back", "request") else 1.0
        return {
            "reason": reason,
            "database": self._wal.current.database,
            "time_us": self._clock.time_us(),
            "share": share,
        }

    def _write_checkpoint(self, plan: dict[str, Any]) -> dict[str, Any]:
        parity = self.store.generation & 1
        reader = kernel.Reader(self.store.mapping, parity, self._segs.group_lease, kernel.PIN_CHECKPOINT)
        try:
            return checkpoints.write(self._files, reader, plan)
        finally:
            reader.close()

    def checkpoint_plan(self, reason: str) -> dict[str, Any] | None:
        """What checkpoints.write needs; None if the newest checkpoint is of this state already, or there is no log."""
        if not self._options.logged or self._failure is not None:
            return None
        newest = max((one.lsn for one in self._wal.current.checkpoints), default=0)
        if newest >= self.store.published and reason != "clear_wal":
            self._checkpoint_taken()
            return None
        self._checkpoint_running_until = self._clock.monotonic() + 3600.0
        return self._plan(reason)

    def checkpoint_finished(self, meta: dict[str, Any]) -> int:
        """Makes a written checkpoint count, and retires what this allows; its LSN. LogFailed, OSError."""
        entry = _entry_of(meta)
        self._refuse_failed()
        if entry.lsn > self._wal.durable_lsn:
            self.sync()
        now = self._wal.current
        others = tuple(one for one in now.checkpoints if one.lsn != entry.lsn)
        self._wal.store(replace(now, checkpoints=(*others, entry), durable_lsn=max(now.durable_lsn, entry.lsn)))
        self._wal.apply_retention(self._options.keep_checkpoints, self._options.keep_segments)
        self._checkpoint_taken()
        return entry.lsn

    def checkpoint_failed(self, error: Error) -> None:
        """A checkpoint could not be written: the log stays as it is; tried again at the next trigger."""
        self._log.error("a checkpoint failed: %s", error)
        self._checkpoint_taken()

    def _checkpoint_taken(self) -> None:
        self._checkpoint_at, self._checkpoint_running_until = self._clock.monotonic(), 0.0
        self._checkpoint_bytes = self.commit.figures()["bytes_logged"]
        self.commit.reset_dirty()

    def checkpoint(self, reason: str = "request") -> int:
        """Takes a checkpoint in this thread (tests, shutdown without a checkpointer); its LSN."""
        plan = self.checkpoint_plan(reason)
        if plan is None:
            return int(self.store.published)
        return self.checkpoint_finished(self._write_checkpoint(plan))

    def clear_wal(self) -> list[str]:
        """Retires every segment that the two newest checkpoints don't need (rule L10); the files that go."""
        self._refuse_failed()
        if not self._options.logged:
            return []
        if self._wal.current.segments[-1].after_lsn < self.commit.figures()["applied_lsn"]:
            self.rotate()
        return self._wal.apply_retention(2, 0)

    # ------------------------------------------------------------------------------------------ triggers

    def _due(self, now: float) -> str | None:
        if not self._options.logged or self._failure is not None or now < self._checkpoint_running_until:
            return None
        figures = self.commit.figures()
        if figures["dirty_keys"] == 0:
            return None
        if figures["dirty_keys"] >= self._options.checkpoint_dirty_keys:
            return "dirty_keys"
        if figures["bytes_logged"] - self._checkpoint_bytes >= self._options.checkpoint_wal_bytes:
            return "wal_bytes"
        return "interval" if now - self._checkpoint_at >= self._options.checkpoint_interval else None

    def due_triggers(self, now: float) -> str | None:
        """Why a checkpoint is due now, or None; said once, until it was taken, failed, or a minute is over."""
        reason = self._due(now)
        if reason is not None:
            self._checkpoint_running_until = now + _TRIGGER_PATIENCE
        return reason

    def next_deadline(self, now: float) -> float | None:
        """When run() should return at the latest (monotonic seconds), None: not by itself."""
        if not self._options.logged or self.commit.figures()["dirty_keys"] == 0:
            return None
        return max(self._checkpoint_at + self._options.checkpoint_interval, self._checkpoint_running_until, now)

    # ------------------------------------------------------------------------------------------- figures

    def pinned_bytes(self, readers: list[dict[str, Any]]) -> list[int]:
        """For each reader (with its "lsn"): an estimate of the bytes that only it keeps."""
        return [int(self.store.pinned_bytes(one["lsn"])) for one in readers]

    def disk_usage(self) -> dict[str, int]:
        """Bytes of the directory by part."""
        usage = {"manifest": len(self._files.read("MANIFEST") or b"")}
        for directory in ("wal", "checkpoints", "quarantine"):
            usage[directory] = 0
            for name in self._files.listdir(directory):
                try:
                    file = self._files.open(f"{directory}/{name}")
                except FileNotFoundError:
                    continue
                usage[directory] += file.size()
                file.close()
        return usage

    def info(self) -> dict[str, Any]:
        """Figures as plain values: LSNs, arena, wal, checkpoints, recovery, failure."""
        figures, now = self.commit.figures(), self._wal.manifest
        failure = None if self._failure is None else self._failure.to_wire()
        return {
            "published_lsn": figures["published_lsn"],
            "applied_lsn": figures["applied_lsn"],
            "durable_lsn": self._wal.durable_lsn if self._options.logged else 0,
            "generation": self.store.generation,
            "arena": self.store.figures(),
            "commits": {name: figures[name] for name in ("commits", "rejected", "rounds", "syncs", "parks", "pending")},
            "wal": {
                "logged": self._options.logged,
                "segment": figures["segment"],
                "tail": figures["tail"],
                "capacity": figures["capacity"],
                "bytes_logged": figures["bytes_logged"],
                "segments": [one.number for one in now.segments] if now else [],
                "oldest_lsn": now.oldest_lsn if now else 0,
                "term": now.term if now else 0,
                "failure": failure,
            },
            "checkpoints": [_shown(one) for one in now.checkpoints] if now else [],
            "dirty_keys": figures["dirty_keys"],
            "recovery": asdict(self._report),
            "database": now.database.hex() if now else "",
        }

    # ----------------------------------------------------------------------------------------------- end

    def stop(self, clean: bool = True) -> None:
        """Writes and syncs what it holds and ends. ``clean``: in order, so that the next start finds no gap in the LSNs."""
        if self._commit is None:
            return
        self._phase(_ENDING)
        if self._options.logged and self._failure is None:
            try:
                if clean:
                    self._drain()
                self._wal.sync(self.commit)
                if clean:
                    self._wal.seal(self.commit)
            except (OSError, Error) as error:
                self._log.error("the log could not be ended in order: %s", error)
        if self._options.logged:
            self._wal.detach(self.commit)
            self._wal.close()


def _entry_of(meta: dict[str, Any]) -> CheckpointEntry:
    return CheckpointEntry(
        meta["lsn"], meta["keys"], meta["bytes"], meta["time_us"], meta["salt"], bytes(meta["digest"])
    )


def _shown(entry: CheckpointEntry) -> dict[str, Any]:
    return {"lsn": entry.lsn, "keys": entry.keys, "bytes": entry.bytes, "time_us": entry.time_us, "path": entry.path}
