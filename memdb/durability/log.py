"""The log as the running writer sees it: the manifest in force, the open segment, the spare, and who syncs.

Owns: opening, rotating, sealing and deleting segments; the sync thread and the housekeeping thread.

Invariants:

* A segment is in the manifest before a commit goes into it; its predecessor was synced whole before (rules
  L1, C4).
* A failed sync is final for its file (invariant 11): the error stays in ``failure`` and nothing here tries
  again.
* Files are deleted only after a manifest that does not name them is durable.

Who: the commit thread calls everything; the sync thread only runs ``_sync_loop``, the housekeeping thread
only jobs from its queue. Between them: ``_condition`` (sync results), ``_spare_lock`` (the spare).
"""

import errno
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from memdb.durability import manifest, quarantine, retention, segments
from memdb.durability.failures import log_failed
from memdb.durability.files import Clock, File, Files, Watcher
from memdb.durability.manifest import CheckpointEntry, Manifest, SegmentEnd, SegmentEntry
from memdb.errors import CorruptionError, LogFailed
from memdb.options import EngineOptions
from memdb.shm import _kernel as kernel

__all__ = ["LSN_STEP", "SegmentLog"]

LSN_STEP: Final = 1 << 20
_SLOW_SYNC: Final = 60.0
"""Seconds of one sync after which engine.log says so."""
_Job = Callable[[], None]
_Sink = int | Callable[[bytes, int], int] | tuple[int, Watcher]


class SegmentLog:
    """One writer's log. ``threads`` False: everything happens inside the calls, in a fixed order (tests)."""

    def __init__(
        self, files: Files, clock: Clock, options: EngineOptions, *, threads: bool, log: logging.Logger
    ) -> None:
        self.files, self.options, self.threads = files, options, threads
        self.manifest: Manifest | None = None
        self.durable_lsn = 0
        self.failure: LogFailed | None = None
        self.on_progress: Callable[[], None] = lambda: None
        self._clock, self._log = clock, log
        self._open: dict[int, File] = {}
        self._condition = threading.Condition()
        self._synced: dict[int, int] = {}
        self._spare_lock = threading.Lock()
        self._taken = 0  # the newest segment that is in use
        self._unnamed: Manifest | None = None  # names the segment that was begun; not stored yet
        self.risked_checkpoints: tuple[CheckpointEntry, ...] = ()
        """Named by manifests whose storing has failed: perhaps one of them counts, so none is replaced."""
        self._ended: Manifest | None = None  # the open segment was ended, and its successor is not whole yet
        self._risked = 0  # newest segment of a manifest whose storing has failed: perhaps it counts
        self._spare: tuple[File, segments.SegmentHeader] | None = None
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._sync_thread: threading.Thread | None = None
        self._housekeeper: threading.Thread | None = None

    # ------------------------------------------------------------------------------------------ manifest

    @property
    def current(self) -> Manifest:
        """The manifest in force."""
        if self.manifest is None:
            raise ValueError("the database has no manifest yet")
        return self.manifest

    @property
    def reached(self) -> Manifest:
        """The manifest in force, or what it lacks of a change of segments that was begun."""
        return self._unnamed or self._ended or self.current

    @property
    def takes_deletes(self) -> bool:
        """May commits go into the open segment while no next one can be made?"""
        return self._unnamed is None and bool(self._open) and self.failure is None

    def store(self, after: Manifest) -> None:
        """Makes ``after`` the truth. OSError: it may or may not be."""
        manifest.prepare(self.files, after)
        self._put_in_force(after)

    def _put_in_force(self, after: Manifest) -> None:
        try:
            manifest.put_in_force(self.files)
        except OSError:
            self._risked = max(self._risked, after.next_segment - 1)
            self.risked_checkpoints += after.checkpoints
            raise
        self.manifest, self.risked_checkpoints = after, ()

    # ------------------------------------------------------------------------------------------ segments

    def begin(self, commit: kernel.Commit, base: int, after: Manifest, follows: int) -> None:
        """Opens a new segment behind a recovery: numbers go on above ``base``, of which all is durable or
        left out. ``follows``: the LSN of the state that its commits are applied to.

        ``after``: the next manifest but for the new segment; it is stored here, so that this is where a
        recovery counts. OSError: not done; called again with the same commit loop it goes on where it
        stopped.
        """
        if self._unnamed is None:
            self._unnamed = self._begin(commit, base, after, follows)
        self.store(self._unnamed)
        self._unnamed = None
        try:
            # Before a spare is made, which no manifest names either.
            for path in quarantine.remove_or_move(self.files, self.current):
                self._log.warning("a file of another database was moved to %s", path)
        except OSError as error:
            self._log.warning("leftovers are left to the next start: %s", error)
        self._prepare_spare()

    def begin_anew(self, commit: kernel.Commit, base: int, after: Manifest, follows: int) -> None:
        """`begin` for another commit loop than the one whose log has failed. OSError: all is as it was
        before."""
        before = self._unnamed, self._ended, self.failure
        self.forget_failure()
        try:
            self.begin(commit, base, after, follows)
        except OSError:
            self._unnamed, self._ended, self.failure = before
            raise

    def forget_failure(self) -> None:
        """What has failed belongs to a commit loop that is given up."""
        self._unnamed = self._ended = self.failure = None

    def _begin(self, commit: kernel.Commit, base: int, after: Manifest, follows: int) -> Manifest:
        previous = after.segments[-1] if after.segments else None
        number = after.next_segment
        if number <= self._risked:  # two on: the half of the failed segment is needed until the fence counts
            number = self._risked + 2
        file, header = self._take_or_make(segments.FIRST_BYTES, 0, number, after.database)
        link = kernel.Link(
            base + LSN_STEP,
            previous.number if previous else 0,
            follows,
            previous.end.crc if previous and previous.end else 0,
            after.term,
        )
        self._enter(commit, file, header, link, base)
        entry = SegmentEntry(
            header.number, header.salt, header.capacity, base, after.term, follows_lsn=follows
        )
        return after.with_segment(entry, lsn_limit=link.lsn_limit)

    def rotate(self, commit: kernel.Commit) -> int:
        """Seals the open segment and goes on in the next one; its number. LogFailed; OSError: not done, and
        called again it goes on where it stopped."""
        if self._unnamed is None:
            self._unnamed = self._rotate(commit)
            self._put_in_force(self._unnamed)
        else:
            self.store(self._unnamed)
        self._unnamed = self._ended = None
        number = self.current.segments[-1].number
        self._close_old(number)
        self._prepare_spare()
        return number

    def _rotate(self, commit: kernel.Commit) -> Manifest:
        """The manifest that names the new segment, prepared. What needs room on the disk is done before
        the old segment is left: where there is none, deletes go on in it."""
        figures = commit.figures()
        self.sync(commit)
        figures = commit.figures() | {"segment_needed": figures["segment_needed"]}
        now = self.current
        end = SegmentEnd("sealed", figures["tail"], figures["applied_lsn"], figures["last_crc"])
        file, header = self._take_or_make(
            figures["capacity"], figures["segment_needed"], now.next_segment, now.database
        )
        limit = figures["applied_lsn"] + LSN_STEP
        link = kernel.Link(limit, figures["segment"], end.lsn, end.crc, now.term)
        entry = SegmentEntry(header.number, header.salt, header.capacity, end.lsn, now.term)
        ended = now.with_end(figures["segment"], end)
        after = ended.with_segment(entry, lsn_limit=max(limit, now.lsn_limit))
        try:
            manifest.prepare(self.files, after)
        except OSError:
            self._put_back(file, header)
            raise
        self._ended = ended
        self._enter(commit, file, header, link, end.lsn)
        return after

    def resume(
        self,
        commit: kernel.Commit,
        number: int,
        salt: int,
        capacity: int,
        link: kernel.Link,
        unsynced: tuple[int, memoryview],
    ) -> None:
        """Goes on in the segment of a dead writer, first writing and syncing what its file lacks (rule C4).

        ``unsynced``: offset and bytes of what is not known durable. They are written again, same bytes, same
        place: had a sync failed just before the writer died, the next one would succeed without writing them.
        If it died before it had named the segment in the manifest, it is named now.
        """
        now = self.current
        file = self.files.open(segments.path_of(number), write=True)
        self._open[number] = file
        file.write_all(unsynced[1], unsynced[0])
        self._check(commit, commit.resume_segment(number, self._sink(file)), "resume the log")
        self._datasync(file)
        self._synced[number] = commit.figures()["tail"]
        if all(one.number != number for one in now.segments):
            at = self._end_offset(link)
            end = SegmentEnd("sealed", at, link.previous_last_lsn, link.previous_last_crc)
            entry = SegmentEntry(number, salt, capacity, link.previous_last_lsn, link.term)
            now = now.with_end(link.previous_segment, end).with_segment(entry)
        else:  # it may have been sealed by a writer that died before it had ended
            reopened = [replace(one, end=None) if one.number == number else one for one in now.segments]
            now = replace(now, segments=tuple(reopened))
        durable = max(now.durable_lsn, commit.figures()["applied_lsn"])
        try:
            self.store(replace(now, term=now.term + 1, durable_lsn=durable))
        except OSError as error:
            if now != self.current:
                raise
            # The disk may be full: the one in force names this segment, and commits fit in that.
            self._log.warning("the MANIFEST stays as it is: %s", error)
        self._prepare_spare()

    def hand_over(self, commit: kernel.Commit) -> None:
        """Lets another commit loop of this writer go on in the open segment (compact)."""
        number = self.current.segments[-1].number
        self._check(
            commit, commit.resume_segment(number, self._sink(self._open[number])), "go on with the log"
        )

    def _end_offset(self, link: kernel.Link) -> int:
        """Where the record ends that a link names as its predecessor's last."""
        number = link.previous_segment
        entry = next(one for one in self.current.segments if one.number == number)
        data = self.files.read(segments.path_of(number)) or b""
        offset = kernel.SEGMENT_HEADER
        while (record := kernel.record_read(data, offset, entry.salt)).verdict == kernel.RECORD_GOOD:
            offset += record.padded
            if record.header_crc == link.previous_last_crc:
                return offset
        path = segments.path_of(number)
        raise CorruptionError(f"{path} lacks the record that its successor names as its last", path, offset)

    def seal(self, commit: kernel.Commit) -> None:
        """The end in order: the next start goes on without a gap in the numbers."""
        figures = commit.figures()
        end = SegmentEnd("sealed", figures["tail"], figures["applied_lsn"], figures["last_crc"])
        self.store(self.current.with_end(figures["segment"], end))

    def fence(
        self, now: Manifest, image: memoryview, number: int, durable: int, published: int, base: int
    ) -> Manifest:
        """The next manifest after a failed log (rule L5).

        The old file counts as far as it is known durable (``durable`` bytes of its ``image``); what was
        published beyond that is in the new checkpoint only. Numbers go on above ``base``. If the file is
        named
        nowhere, nothing was committed into it, and all before it was durable.
        """
        entry = now.segments[-1]
        if entry.number != number and entry.end is not None:
            after = now.with_end(entry.number, replace(entry.end, lsn=base))
            return replace(after, term=now.term + 1)
        scan = kernel.replay_scan(
            image[: max(durable, kernel.SEGMENT_HEADER)], kernel.SEGMENT_HEADER, entry.salt
        )
        reached = max(scan.last_lsn, entry.after_lsn)
        lsn = base if reached >= published else reached
        after = now.with_end(number, SegmentEnd("fenced", scan.end_offset, lsn, scan.last_crc))
        return replace(after, term=now.term + 1)

    def durable_bytes(self, number: int) -> int:
        """How much of a segment's file is known durable."""
        return self._synced.get(number, 0)

    def _enter(
        self, commit: kernel.Commit, file: File, header: segments.SegmentHeader, link: kernel.Link, base: int
    ) -> None:
        self._open[header.number] = file
        self._synced[header.number] = 0
        status = commit.open_segment(
            header.number, header.salt, header.capacity, header.encode(), link, self._sink(file)
        )
        self._check(commit, status, "open a segment")
        self._datasync(file)
        self._synced[header.number] = commit.figures()["written"]
        commit.set_lsn(base, link.lsn_limit)

    def _sink(self, file: File) -> _Sink:
        if file.descriptor is None:
            return file.pwrite
        return file.descriptor if file.watcher is None else (file.descriptor, file.watcher)

    def _take_or_make(
        self, previous: int, needed: int, number: int, database: bytes
    ) -> tuple[File, segments.SegmentHeader]:
        with self._spare_lock:
            spare, self._spare = self._spare, None
            self._taken = number
            if spare is not None and spare[1].number == number and spare[1].capacity >= needed:
                return spare
            if spare is not None:
                spare[0].close()
            self.files.mkdir("wal")
            first = number == 1 or previous < segments.FIRST_BYTES
            doubled = segments.FIRST_BYTES // 2 if first else previous
            capacity = segments.next_capacity(doubled, self.options.segment_bytes, needed)
            return segments.create(self.files, database, number, capacity, self._clock.time_us())

    def _put_back(self, file: File, header: segments.SegmentHeader) -> None:
        """A segment that was taken and not begun is the spare again."""
        with self._spare_lock:
            self._spare = file, header
            self._taken = header.number - 1

    def _prepare_spare(self) -> None:
        if not self.threads:
            return
        now = self.current

        def prepare() -> None:
            with self._spare_lock:
                if self._spare is not None or self._taken >= now.next_segment:
                    return  # it is in use already, perhaps not yet named in the manifest
                capacity = segments.next_capacity(now.segments[-1].capacity, self.options.segment_bytes, 0)
                try:
                    self._spare = segments.create(
                        self.files, now.database, now.next_segment, capacity, self._clock.time_us()
                    )
                except OSError as error:
                    self._log.warning("no spare log segment could be prepared: %s", error)

        self._jobs.put(prepare)

    def _close_old(self, newest: int) -> None:
        """Keeps the two newest open: the sync thread may still hold a job for the one before."""
        for number in [one for one in self._open if one < newest - 1]:
            self._open.pop(number).close()
            self._synced.pop(number, None)

    def apply_retention(self, keep_checkpoints: int, keep_segments: int) -> list[str]:
        """Drops what retention allows; the files that go (deleted by the housekeeping thread)."""
        before = self.current
        after = retention.retire(before, keep_checkpoints, keep_segments)
        if after != before:
            self.store(after)
        return self.delete_unnamed()

    def delete_unnamed(self) -> list[str]:
        """Deletes files that no manifest names; their paths."""
        now = self.current
        numbers = {one.number for one in now.segments}
        spare = now.next_segment
        gone = [
            segments.path_of(one)
            for one in segments.segment_numbers(self.files)
            if one not in numbers and one < spare
        ]
        gone += _retired_checkpoints(self.files, now)

        def delete() -> None:
            for path in gone:
                self.files.unlink(path)

        if self.threads:
            self._jobs.put(delete)
        else:
            delete()
        return gone

    # ------------------------------------------------------------------------------------------- syncing

    def _datasync(self, file: File) -> None:
        try:
            file.datasync()
        except OSError as error:
            raise self._failed(file.path, error.errno or errno.EIO) from error

    def _failed(self, path: str, code: int) -> LogFailed:
        self.failure = log_failed(path, code, "sync")
        return self.failure

    def write_failed(self, commit: kernel.Commit) -> LogFailed:
        """The commit loop could not write: the error, final for the file."""
        if self.failure is None:
            figures = commit.figures()
            path = segments.path_of(figures["segment"])
            self.failure = log_failed(path, figures["log_errno"] or errno.EIO, "write")
        return self.failure

    def _check(self, commit: kernel.Commit, status: int, what: str) -> None:
        if status == kernel.STATUS_LOG_FAILED:
            raise self.write_failed(commit)
        if status != kernel.STATUS_OK:
            raise CorruptionError(f"the log buffer is damaged: cannot {what} (kernel status {status})")

    def sync(self, commit: kernel.Commit) -> int:
        """Writes and syncs all that was appended; the LSN that is durable now. LogFailed."""
        if self.failure is not None:
            raise self.failure
        self._check(commit, commit.flush(), "write it")
        figures = commit.figures()
        number, written = figures["segment"], figures["written"]
        if self._synced.get(number, 0) < written:
            commit.sync_request()
            if self._sync_thread is None:
                self.pump(commit)
            else:
                self._await_sync(number, written)
            if self.failure is not None:
                raise self.failure
        self.durable_lsn = max(self.durable_lsn, figures["written_lsn"])
        return self.durable_lsn

    def _await_sync(self, number: int, written: int) -> None:
        """However long the disk takes: nothing is durable because time has passed."""
        with self._condition:
            while not self._condition.wait_for(
                lambda: self.failure is not None or self._synced.get(number, 0) >= written, _SLOW_SYNC
            ):
                self._log.warning("the disk has not synced %s for %g s", segments.path_of(number), _SLOW_SYNC)

    def pump(self, commit: kernel.Commit) -> bool:
        """Does the sync thread's work in the caller's thread, where there is none; whether there was any."""
        job = commit.sync_wait(0.0)
        if job is None:
            return False
        self._do(commit, job)
        return True

    def _do(self, commit: kernel.Commit, job: kernel.SyncJob) -> None:
        file = self._open.get(job.segment)
        code = 0
        if file is None:
            code = errno.EBADF if job.segment not in self._synced and job.segment != 0 else 0
        elif self.failure is not None:
            code = self.failure.errno or errno.EIO
        else:
            try:
                file.datasync()
            except OSError as error:
                code = error.errno or errno.EIO
                self._failed(file.path, code)
        with self._condition:
            if code == 0:
                self._synced[job.segment] = max(self._synced.get(job.segment, 0), job.bytes)
                self.durable_lsn = max(self.durable_lsn, job.lsn)
            self._condition.notify_all()
        commit.sync_done(job, code)

    def _sync_loop(self, commit: kernel.Commit) -> None:
        while True:
            try:
                job = commit.sync_wait(3600.0)
            except EOFError:
                return
            if job is not None:
                self._do(commit, job)
                self.on_progress()

    # ------------------------------------------------------------------------------------------- threads

    def attach(self, commit: kernel.Commit) -> None:
        """Starts syncing for a commit loop."""
        if self.threads:
            self._sync_thread = threading.Thread(
                target=self._sync_loop, args=(commit,), name="sync", daemon=True
            )
            self._sync_thread.start()
            if self._housekeeper is None:
                self._housekeeper = threading.Thread(
                    target=self._keep_house, name="housekeeping", daemon=True
                )
                self._housekeeper.start()

    def detach(self, commit: kernel.Commit) -> None:
        """Ends syncing for a commit loop; it may be freed afterwards."""
        if self._sync_thread is not None:
            commit.sync_stop()
            self._sync_thread.join()
            self._sync_thread = None

    def later(self, job: _Job) -> None:
        """Has the housekeeping thread do something; without threads it is done at once."""
        if self.threads:
            self._jobs.put(job)
        else:
            job()

    def _keep_house(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except OSError as error:
                self._log.warning("housekeeping: %s", error)

    def close(self) -> None:
        """Ends the housekeeping and closes all files."""
        if self._housekeeper is not None:
            self._jobs.put(None)
            self._housekeeper.join()
            self._housekeeper = None
        if self._spare is not None:
            self._spare[0].close()
            self.files.unlink(segments.path_of(self._spare[1].number))
            self._spare = None
        for file in self._open.values():
            file.close()
        self._open.clear()


def _retired_checkpoints(files: Files, now: Manifest) -> list[str]:
    """Checkpoints below the newest that are named no more, or were never finished; what is above may be one
    that is about to be named."""
    named = {one.path for one in now.checkpoints}
    newest = max(named, default="")
    names = files.listdir("checkpoints")
    paths = [f"checkpoints/{name}" for name in names if name.endswith((".ckpt", ".tmp"))]
    return [path for path in paths if path not in named and path < newest]
