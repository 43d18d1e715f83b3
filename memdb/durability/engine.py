"""DurableEngine: the writer without a process. Store, commit loop, log and checkpoints put together.

Owns: the life of one writer behind its start (opening.py): run, rotate, checkpoints, switching to the next
generation, the way back from a failed log, the end.

Invariants:

* 6 and 10: a checkpoint counts when the log is synced to its LSN and the manifest names it, in this order.
* 11: after a failed write or sync reads go on, commits are refused, and the only way back is new files (rule
  L5).

Who: the commit thread calls everything; interrupt() may be called by any thread.
"""

from dataclasses import replace
from typing import Any, Final

from memdb.durability import checkpoints, figures
from memdb.durability.failures import disk_error
from memdb.durability.manifest import CheckpointEntry
from memdb.durability.opening import ENDING, FAR, RETRY, SERVING, Opening
from memdb.durability.pressure import AGES_APART, settle
from memdb.durability.rebuild import PUNCH_FROM, EngineSegments, ViewsStand
from memdb.errors import ArenaFullError, Error, LogFailed
from memdb.shm import _kernel as kernel

__all__ = ["DurableEngine", "EngineSegments", "ViewsStand"]

_OLD_APART: Final = 1.0
"""Seconds between two looks whether an old arena still has readers, at most."""


class DurableEngine(Opening):
    """See the module. ``threads`` False: nothing happens outside the calls, in a fixed order (tests).

    >>> engine = DurableEngine(MemoryFiles(), RealClock(), EngineOptions(), segs, log, threads=False)
    >>> engine.start(predecessor=False).source
    'created'
    """

    # ----------------------------------------------------------------------------------------------- run

    def interrupt(self) -> None:
        """Any thread: run() returns "control"."""
        self._interrupted = True
        with self._commit_lock:
            if self._commit is not None:
                self._commit.interrupt()

    def run(self, deadline: float | None = None) -> str:
        """Commits until "deadline" (monotonic seconds; None: none), "control" (interrupt, a trigger is due)
        or "failed"."""
        until = FAR + self._clock.monotonic() if deadline is None else deadline
        while True:
            reap_at = (
                self._reaping.look(self.store) if self._failure is None else self._clock.monotonic() + FAR
            )
            event = self._next_event(min(until, self._retry_at, self._ages_at, self._old_at, reap_at))
            if not self._meet(event):
                return "failed"
            now = self._clock.monotonic()
            self._looked_at = now
            if now >= self._retry_at:
                self._try_way_back()
            if now >= self._ages_at:
                self.revoke_aged()
            if self._interrupted:
                self._interrupted = self._nudged = False
                return "control"
            if event == kernel.EVENT_CONTROL and not self._nudged:
                return "control"
            self._nudged = False
            if self._failure is None and now >= self._reaping.at:
                wanted = self._reaping.batch(self.store, self.commit, self._segs.group_lease)
                if not self._meet(wanted):
                    return "failed"
            if now >= self._old_at:
                self._give_back_old_arena(now)
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

    def _meet(self, event: int) -> bool:
        """Does what the commit loop waits for; False: commits are refused from now on."""
        if event == kernel.EVENT_LOG_FAILED:
            self._note_failure(self._log_failure())
            return False
        if event == kernel.EVENT_ROTATE:
            return self._try_rotate()
        if event == kernel.EVENT_PRESSURE:
            before = self._failure
            self._relieve()
            return self._failure is before
        return True

    def _try_rotate(self) -> bool:
        try:
            self._wal.rotate(self.commit)
        except LogFailed as error:
            self._note_failure(error)
        except OSError as error:
            rest = "reads and deletes go on" if self._wal.takes_deletes else "reads go on"
            then = f"{rest}, other commits are refused, and it is tried again every {RETRY:g} s"
            self._note_failure(disk_error(error, "the next log segment could not be made", then=then))
        return self._failure is None

    def _relieve(self) -> None:
        """Pressure (R5): one step towards room, then the commit is tried again, or answered `full`."""
        now = self.commit.figures()
        retry = self._publish_applied() or self._pressure.relieve(
            self.store, now["applied_lsn"], self._reap_for_room
        )
        self.commit.pressure_done(retry)
        if not retry:
            self._pressure.refuse(now["held_bytes"])

    def _reap_for_room(self) -> bool:
        """What has expired goes before any reader does."""
        reaped = self._reaping.for_room(self.store, self.commit, self._segs.group_lease)
        if reaped:
            self._publish_applied()
        return reaped

    def _publish_applied(self) -> bool:
        """What is applied but not published (it may wait for its sync) keeps the versions under it: was there
        any? Once the log has failed the commit is refused for that when it is tried again."""
        if not self._is_behind():
            return False
        if -int(self.commit.step()) == kernel.EVENT_LOG_FAILED:  # the step takes nothing: a commit is held
            self._note_failure(self._log_failure())
        elif self._options.logged and self._is_behind():
            try:
                self._wal.sync(self.commit)
                failed = -int(self.commit.step()) == kernel.EVENT_LOG_FAILED
            except LogFailed:
                failed = True
            if failed:
                self._note_failure(self._log_failure())
        return True

    def _is_behind(self) -> bool:
        now = self.commit.figures()
        return bool(now["published_lsn"] < now["applied_lsn"])

    def revoke_aged(self) -> int:
        """Revokes snapshots older than ``snapshot_max_age`` in both generations; how many.

        Called when the oldest pin comes of age. What is pinned after a look comes of age `snapshot_max_age`
        after it at the earliest, so that is when the next look is due: exact, with one wake-up in that time
        while clients are attached, and none without.
        """
        limit = self._options.snapshot_max_age
        revoked, wait = self._readers.revoke_aged(limit, self._clock.time_us())
        attached = any(not system for _, system in self._leases.values())
        self._ages_at = self._clock.monotonic() + max(wait, AGES_APART) if attached else FAR
        if revoked:
            self._log.info("%d snapshots were revoked: they were older than %g s", revoked, limit)
            settle(self.store)
        return revoked

    def _give_back_old_arena(self, now: float) -> None:
        """Punches the old generation once nobody can reach it (rule R6); its header page stays readable.

        Nobody tells when the last reader leaves, so the looks grow apart to ``_OLD_APART``, and end with the
        arena.
        """
        parity = self._old_arena
        if parity is None:
            return
        if self._readers.are_in(parity):
            self._old_wait = min(self._old_wait * 2, _OLD_APART)
            self._old_at = now + self._old_wait
            return
        self._old_arena, self._old_at = None, FAR
        if self._segs.arena_fds[parity] >= 0:
            size = self._segs.arenas[parity].size - PUNCH_FROM
            kernel.punch(self._segs.arena_fds[parity], PUNCH_FROM, size)

    # ------------------------------------------------------------------------------------------- failure

    def _log_failure(self) -> LogFailed:
        now = self.commit.figures()
        failure = self._wal.write_failed(self.commit)
        failure.first_lsn = self._wal.durable_lsn + 1
        failure.last_lsn = now["applied_lsn"]
        return failure

    def _try_way_back(self) -> None:
        try:
            self.way_back()
        except (OSError, Error) as error:
            self._log.error("a new log could not be begun, the next attempt is in %g s: %s", RETRY, error)
            self._retry_at = self._clock.monotonic() + RETRY

    def way_back(self) -> int:
        """After a failure: checkpoint of the published state, a new segment of the next term, a fence for the
        old one, a new generation without what was never published (rule L5). Its LSN. OSError, LogFailed:
        still failed."""
        if self._failure is None:
            return int(self.store.published)
        if not isinstance(self._failure, LogFailed):  # the disk was full: the log itself is sound
            if self._begin_later is None:
                self._wal.rotate(self.commit)
            else:
                self._wal.begin(self.commit, *self._begin_later)
                self._begin_later = None
            self.commit.read_only(kernel.STATUS_OK, False)
            return self._recovered()
        logbuf = self._segs.logbuf
        if logbuf is None:
            raise self._failure
        self._refuse_over_views("beginning a new log")
        published = int(self.store.published)
        entry = self._way_back_checkpoint(published)
        now, found = self.commit.figures(), self._wal.reached
        number = now["segment"]
        image = kernel.logbuf_image(logbuf, number)
        base = max(now["applied_lsn"], now["lsn_limit"], found.lsn_limit)
        durable = self._wal.durable_bytes(number)
        after = self._wal.fence(found, image, number, durable, entry.lsn, base).with_checkpoint(entry)
        try:
            store = self._generations.make(self.store.generation + 1, self._mappings())
            store.copy_from(self.store.mapping, self.store.generation & 1, self._segs.group_lease)
        except ArenaFullError as error:
            self._way_back_from_disk(after, base, error, lambda: self.store.open(published))
            return self._recovered()
        self._wal.detach(self.commit)
        commit = self._make_commit(store, base)
        self._wal.begin_anew(commit, base, after, entry.lsn)
        self._wal.durable_lsn = base
        self._install(store, commit, base)
        self._show()
        return self._recovered()

    def _recovered(self) -> int:
        self._failure, self._retry_at = None, FAR
        self._phase(SERVING)
        self._log.warning("commits are taken again, in a new log segment")
        return int(self.store.published)

    # ---------------------------------------------------------------------------------------- operations

    def _refuse_failed(self) -> None:
        if self._failure is not None:
            raise self._failure

    def sync(self) -> int:
        """Makes all that was committed durable, with its mark in the log; the LSN. LogFailed."""
        if isinstance(self._failure, LogFailed) or not self._wal.takes_deletes:
            self._refuse_failed()  # else the disk is full, and what was deleted since can be synced
        if not self._options.logged:
            return int(self.store.published)
        try:
            lsn = self._wal.sync(self.commit)
        except LogFailed:
            self._note_failure(self._log_failure())
            raise
        if not self._meet(-int(self.commit.step())):  # the kernel tells of a failure once only
            self._refuse_failed()
        status = self.commit.mark()
        if status == kernel.STATUS_LOG_FAILED:
            self._note_failure(self._log_failure())
            self._refuse_failed()
        if status != kernel.STATUS_OK and not self._try_rotate():  # no room: the next link says it
            self._refuse_failed()
        return lsn

    def rotate(self) -> int:
        """Begins a new log segment now; its number. LogFailed, DiskFullError."""
        self._refuse_failed()
        if self._options.logged and not self._try_rotate():
            self._refuse_failed()
        return self._wal.current.next_segment - 1

    def compact(self) -> dict[str, Any]:
        """Builds the next generation by reading the present one, and lets readers move over; figures before
        and after.

        Commits wait meanwhile (about a second for a million keys). ViewsStand: zero-copy views stand in the
        arena that it needs.
        """
        self._refuse_failed()
        self._refuse_over_views("compact()")
        self.commit.close_intake(True)
        try:
            return self._compact_drained()
        finally:
            self.commit.close_intake(False)  # the new loop, or after a failure the old one

    def _compact_drained(self) -> dict[str, Any]:
        self._drain()
        before, lsn = self.store.figures(), self.commit.figures()["applied_lsn"]
        try:
            store = self._generations.make(self.store.generation + 1, self._mappings())
            store.copy_from(self.store.mapping, self.store.generation & 1, self._segs.group_lease)
        except ArenaFullError:  # it has taken all the room that there was
            self._give_back_later((self.store.generation + 1) & 1)
            raise
        commit = self._make_commit(store, lsn)
        if self._options.logged:
            self._wal.detach(self.commit)
            self._wal.hand_over(commit)
        self._install(store, commit, lsn)
        self._show()
        after = store.figures()
        return {
            "generation": store.generation,
            "before": before["used_bytes"],
            "after": after["used_bytes"],
            "lsn": lsn,
        }

    def _refuse_over_views(self, what: str) -> None:
        parity = (self.store.generation + 1) & 1
        views = sum(kernel.lease_hazards(lease, parity) for lease in self._mappings())
        if views:
            raise ViewsStand(
                f"{what} needs the other arena, in which {views} zero-copy views stand: release them first"
            )

    def _drain(self) -> None:
        """Steps until nothing that was taken, or left by a client that has gone, waits for an answer: with
        the intake closed, this ends."""
        while True:
            event = self.commit.step()
            if event == -kernel.EVENT_ROTATE:
                self.rotate()
            elif event == -kernel.EVENT_PRESSURE:
                self._relieve()
                self._refuse_failed()
            elif event == -kernel.EVENT_LOG_FAILED:
                self._note_failure(self._log_failure())
                self._refuse_failed()
            if self._options.logged:
                self._wal.sync(self.commit)
            now = self.commit.figures()
            if now["pending"] == 0 and now["published_lsn"] == now["applied_lsn"] and event == 0:
                return

    # --------------------------------------------------------------------------------------- checkpoints

    def checkpoint_plan(self, reason: str) -> dict[str, Any] | None:
        """What checkpoints.write needs; None if the newest checkpoint is of this state already, or there is
        no log."""
        if not self._options.logged or self._failure is not None:
            return None
        if self._newest_sound() >= self.store.published:
            # Written again it would have another salt, and replace a file that the manifest names.
            self._checkpoint_taken()
            return None
        self._triggers.planned(self._clock.monotonic())
        return self._plan(reason)

    def _newest_sound(self) -> int:
        """The LSN of the newest checkpoint; 0 if there is none, or the start has found it damaged."""
        newest = max(self._wal.current.checkpoints, key=lambda one: one.lsn, default=None)
        if newest is None or any(newest.path in text for text in self._report.damaged_checkpoints):
            return 0
        return newest.lsn

    def checkpoint_finished(self, meta: dict[str, Any]) -> int:
        """Makes a written checkpoint count, and retires what this allows; its LSN. LogFailed, OSError; Error:
        it has gone."""
        entry = checkpoints.entry_of(meta)
        self._triggers.said(self._clock.monotonic())  # should it be refused, the next is not far
        try:
            return self._have_counted(entry)
        except (OSError, Error):  # the disk may be full, and nobody else knows of this file
            self._wal.later(lambda: checkpoints.discard(self._files, entry))
            raise

    def _have_counted(self, entry: CheckpointEntry) -> int:
        self._refuse_failed()
        newest = self._newest_sound()
        if entry.lsn <= newest:  # of the way back (rule L5), or this one, named by a writer that died then
            self._wal.later(lambda: checkpoints.discard(self._files, entry))
            return newest
        if entry.lsn > self._wal.durable_lsn:
            self.sync()
        checkpoints.put_in_place(self._files, entry)
        now = self._wal.current
        self._wal.store(replace(now.with_checkpoint(entry), durable_lsn=max(now.durable_lsn, entry.lsn)))
        self._wal.apply_retention(self._options.keep_checkpoints, self._options.keep_segments)
        self._checkpoint_taken()
        return entry.lsn

    def checkpoint_failed(self, error: Error) -> None:
        """A checkpoint could not be written: the log stays as it is; tried again at the next trigger."""
        self._log.error("a checkpoint failed: %s", error)
        self._triggers.said(self._clock.monotonic())

    def _checkpoint_taken(self) -> None:
        self._triggers.settled(self._clock.monotonic(), self.commit.figures())
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
        return None if self._failure is not None else self._triggers.due(now, self.commit.figures())

    def due_triggers(self, now: float) -> str | None:
        """Why a checkpoint is due now, or None; said once, until it was taken, failed, or a minute is
        over."""
        reason = self._due(now)
        if reason is not None:
            self._triggers.said(now)
        return reason

    def next_deadline(self, now: float) -> float | None:
        """When run() should return at the latest (monotonic seconds), None: not by itself."""
        return self._triggers.next_look(now, self.commit.figures())

    # ------------------------------------------------------------------------------------------- figures

    def pinned_bytes(self, readers: list[dict[str, Any]]) -> list[int]:
        """For each reader (its "lsn", 0 without a pin, and its "client"): an estimate of the bytes that only
        it keeps, by its oldest pin and by its views."""
        return [self._kept_by(one["lsn"], one["client"]) for one in readers]

    def _kept_by(self, lsn: int, client: bytes) -> int:
        lease, _ = self._leases.get(client, (None, False))
        pinned = int(self.store.pinned_bytes(lsn)) if lsn else 0
        return pinned + (0 if lease is None else int(self.store.viewed_bytes(lease)))

    def disk_usage(self) -> dict[str, int]:
        """Bytes of the directory by part."""
        return figures.disk_usage(self._files)

    def info(self) -> dict[str, Any]:
        """Figures as plain values: LSNs, arena, wal, checkpoints, recovery, failure."""
        durable = self._wal.durable_lsn if self._options.logged else 0
        found = figures.info(self.commit, self._wal.manifest, durable, self._failure, self._report)
        return {
            **found,
            "pressure": self._pressure.figures(),
            "reaped": self._reaping.figures(),
            "time": self._clock.monotonic(),
        }

    # ----------------------------------------------------------------------------------------------- end

    def stop(self, clean: bool = True) -> None:
        """Writes and syncs what it holds and ends. ``clean``: in order, so that the next start finds no gap
        in the LSNs."""
        if self._commit is None:
            return
        self._phase(ENDING)
        if self._options.logged and self._failure is None:
            try:
                if clean:
                    self.commit.close_intake(True)  # who writes on and on would keep it from ending
                    self._drain()
                self._wal.sync(self.commit)
                if clean:
                    self._wal.seal(self.commit)
            except (OSError, Error) as error:
                self._log.error("the log could not be ended in order: %s", error)
        if self._options.logged:
            self._wal.detach(self.commit)
            self._wal.close()
