"""The checkpointer: writes checkpoints and verifies the arena while commits go on, from a pinned snapshot.

Owns: nothing that lasts. It writes checkpoint files; only the writer, which it tells about them, names
one in the manifest (invariant 10).

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
from memdb.durability import checkpoints
from memdb.durability.files import RealFiles
from memdb.options import EngineOptions
from memdb.shm import _kernel

__all__ = ["Job", "main"]

log = logging.getLogger("memdb.engine")


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

    def write(self, plan: Message) -> Message:
        """Writes the checkpoint of ``plan``; what the writer needs to know of it."""
        reader = self._reader()
        try:
            return {"meta": checkpoints.write(self._files, reader, plan)}
        finally:
            reader.close()

    def check(self) -> Message:
        """Walks the whole present generation."""
        reader = self._reader()
        try:
            problems = [list(problem) for problem in reader.verify()]
            return {"lsn": reader.lsn, "keys": reader.count, "problems": problems}
        finally:
            reader.close()


def _perform(worker: _Checkpointer, message: Message) -> Message:
    try:
        return worker.write(message["plan"]) if message["op"] == "checkpoint" else worker.check()
    except errors.Error as error:
        return {"error": error.to_wire()}
    except OSError as error:
        kind = errors.DiskFullError if error.errno == 28 else errors.Error
        return {"error": kind(f"the checkpoint could not be written: {error}").to_wire()}


def main(post: Post, job: Job) -> int:
    """The process's body."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    call_at_death(post.supervisor, lambda: os._exit(EXIT_ORPHANED))
    os.nice(5)
    worker = _Checkpointer(job)
    post.send("ready")
    while True:
        for message, _ in post.inbox.receive():
            if message["op"] == "stop":
                return 0
            post.send("answer", id=message["id"], **_perform(worker, message))
