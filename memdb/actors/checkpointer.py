"""The checkpointer: writes checkpoints and verifies the arena while commits go on, from a pinned snapshot.

Owns: nothing that lasts. It writes files beside the checkpoints; only the writer, which it tells about them,
renames one and names it in the manifest (invariant 10).

Invariants:

* The arena is mapped read-only; what keeps its snapshot alive is its own lease, which the writer never
  revokes.
* One job at a time; killed at any point it leaves at most a file that no manifest names.
"""

import logging
import os
import signal
from dataclasses import dataclass

from memdb import errors
from memdb.actors.directory import Home
from memdb.actors.processes import EXIT_ORPHANED, Post, call_at_death
from memdb.actors.segments import GroupSegments
from memdb.actors.wire import Message
from memdb.durability import checkpoints, judge, manifest, segments
from memdb.durability.failures import disk_error
from memdb.durability.files import Files, RealFiles
from memdb.options import EngineOptions
from memdb.shm import _kernel

__all__ = ["Job", "main"]

log = logging.getLogger("memdb.engine")

_MAPPING = (b"\x01", b"\x02")  # where the keys of the mapping lie (rule K2)


@dataclass(frozen=True)
class Job:
    """What a checkpointer is born with."""

    home: Home
    segments: GroupSegments
    options: EngineOptions
    lease: int


class _Checkpointer:
    def __init__(self, job: Job) -> None:
        self._files = RealFiles(job.home.fd)
        arenas = job.segments.arenas
        self._arenas = [_kernel.Mapping(arena.readonly_fd, arena.size, writable=False) for arena in arenas]
        self._page = _kernel.Mapping(job.segments.page, _kernel.page_bytes(), writable=False)
        self._lease = _kernel.Mapping(job.lease, _kernel.lease_bytes(), writable=True)

    def _reader(self) -> _kernel.Reader:
        """A snapshot of the present generation; a switch between looking and pinning is noticed."""
        while True:
            word = _kernel.page_word(self._page)
            parity = word & 1
            try:
                reader = _kernel.Reader(self._arenas[parity], parity, self._lease, _kernel.PIN_CHECKPOINT)
            except (
                BlockingIOError
            ):  # torn down between looking and pinning: GENERATION names another one by now
                if _kernel.page_word(self._page) == word:
                    raise
                continue
            if _kernel.page_word(self._page) == word:
                return reader
            reader.close()

    def replace_arena(self, parity: int, fd: int) -> None:
        """A fresh segment has taken the place of an arena, and is the next generation's."""
        self._arenas[parity] = _kernel.Mapping(fd, self._arenas[parity].size, writable=False)
        os.close(fd)

    def write(self, plan: Message) -> Message:
        """Writes the checkpoint of ``plan``; what the writer needs to know of it."""
        reader = self._reader()
        try:
            return {"meta": checkpoints.write(self._files, reader, plan)}
        finally:
            reader.close()

    def check(self) -> Message:
        """Walks the whole present generation, then every checkpoint and every log segment."""
        reader = self._reader()
        try:
            problems = [_problem("arena", text, offset, lsn) for offset, lsn, text in reader.verify()]
            found = {"lsn": reader.lsn, "keys": reader.count_range(*_MAPPING)}
        finally:
            reader.close()
        present = self._arenas[_kernel.page_word(self._page) & 1]
        checked, damaged = _check_files(self._files, _kernel.arena_figures(present)["synced"])
        return {**found, **checked, "problems": problems + damaged}


def _problem(where: str, text: str, offset: int | None, lsn: int | None) -> Message:
    return {"where": where, "text": text, "offset": offset, "lsn": lsn or None}


def _check_files(files: Files, synced: int) -> tuple[Message, list[Message]]:
    """({"checkpoints", "segments"} checked, problems). *synced*: an LSN that was durable before this, up to
    which the segment that is written to is checked: what is above may be on its way."""
    try:
        named = manifest.load(files)
        if named is None:
            raise errors.CorruptionError(f"{manifest.PATH} is missing", manifest.PATH)
    except errors.CorruptionError as error:
        problem = _problem(error.file or manifest.PATH, error.message, error.offset, error.lsn)
        return {"checkpoints": 0, "segments": 0}, [problem]
    problems: list[Message] = []
    entries: list[manifest.CheckpointEntry | manifest.SegmentEntry] = [*named.checkpoints, *named.segments]
    for entry in entries:
        try:
            if isinstance(entry, manifest.CheckpointEntry):
                checkpoints.verify(files, entry)
            else:
                _check_segment(files, named, entry, synced)
        except errors.CorruptionError as error:
            now = manifest.load(files)
            if now is not None and entry in (
                *now.checkpoints,
                *now.segments,
            ):  # else it was retired meanwhile
                problems.append(_problem(error.file or "?", error.message, error.offset, error.lsn))
    return {"checkpoints": len(named.checkpoints), "segments": len(named.segments)}, problems


def _check_segment(files: Files, named: manifest.Manifest, entry: manifest.SegmentEntry, synced: int) -> None:
    path = segments.path_of(entry.number)
    image = files.read(path)
    if image is None:
        raise errors.CorruptionError(f"{path} is named in the MANIFEST and missing", path)
    segments.check_header(image, entry, frozenset((named.database, *named.ancestors)))
    if entry.end is not None:
        judgement = judge.judge_ended(image, path, entry)
        is_whole = judgement.kind == "whole"
    else:
        judgement = judge.judge_open(image, path, entry, synced)
        is_whole = len(image) >= entry.capacity and max(judgement.last_lsn, entry.after_lsn) >= synced
    if not is_whole:
        raise judge.damage(path, judgement, entry)


def _perform(worker: _Checkpointer, message: Message) -> Message:
    try:
        return worker.write(message["plan"]) if message["op"] == "checkpoint" else worker.check()
    except errors.Error as error:
        return {"error": error.to_wire()}
    except OSError as error:
        what = (
            "the checkpoint could not be written"
            if message["op"] == "checkpoint"
            else "check() could not read"
        )
        then = "nothing is lost, the log keeps what it would have held, and the next one is tried by itself"
        return {"error": disk_error(error, what, file="checkpoints", then=then).to_wire()}


def main(post: Post, job: Job) -> int:
    """The process's body."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    call_at_death(post.supervisor, lambda: os._exit(EXIT_ORPHANED))
    os.nice(5)
    worker = _Checkpointer(job)
    post.send("ready")
    while True:
        for message, fds in post.inbox.receive():
            if message["op"] == "stop":
                return 0
            if message["op"] == "arena":
                worker.replace_arena(message["parity"], fds[0])
                continue
            post.send("answer", id=message["id"], **_perform(worker, message))
