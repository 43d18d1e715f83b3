"""The writer: DurableEngine in a process of its own, with a mailbox.

Owns: LOCK, taken here, after the last fork, and so held by no other process; the order in which a writer
begins (lock → build → leases → ready) and ends (last bytes → manifest → exit).

Invariants:

* One writer (invariant 1): nothing is written before LOCK is held, and the engine is not built before either.
* The commit loop never waits for a message and never wakes for nothing: a message interrupts it, a
  trigger is a deadline.
* Threads beside the main one only move messages or wait for the supervisor's death; the engine is
  touched by the main thread alone.
* Without a supervisor it writes what it holds to the log and ends.
"""

import logging
import os
import queue
import signal
import threading
import time
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, Final

from memdb import errors
from memdb.actors.clients import LeaseGrant
from memdb.actors.directory import Home
from memdb.actors.locks import FileLock
from memdb.actors.processes import (
    EXIT_FAILED,
    EXIT_NO_ROOM,
    EXIT_ORPHANED,
    EXIT_REFUSED,
    EXIT_VIEWS_STAND,
    Post,
    call_at_death,
)
from memdb.actors.segments import GroupSegments
from memdb.actors.wire import Message
from memdb.durability.engine import DurableEngine, EngineSegments, ViewsStand
from memdb.durability.failures import disk_error
from memdb.durability.files import RealClock, RealFiles
from memdb.options import EngineOptions
from memdb.shm import _kernel

__all__ = ["Job", "main"]

log = logging.getLogger("memdb.engine")

_STOP: Final = "stop"
_OUTCOMES: Final = b"\x02o"
"""Stored keys of outcomes begin so; the client id follows (rule C2)."""


@dataclass(frozen=True)
class Job:
    """What a writer is born with. ``rebuild``: the group has served, so the old arena is read (G1)."""

    home: Home
    segments: GroupSegments
    options: EngineOptions
    epoch: int
    past_epochs: frozenset[int]
    grants: list[LeaseGrant]
    rebuild: bool
    memory_only: bool


class _Writer:
    def __init__(self, post: Post, job: Job, engine: DurableEngine) -> None:
        self._post, self._job, self._engine = post, job, engine
        self._messages: queue.SimpleQueue[tuple[Message, list[int]]] = queue.SimpleQueue()
        self.orphaned = False
        self.draining = False

    # ------------------------------------------------------------------------------- beside the loop

    def listen(self) -> None:
        """Moves messages to the main thread; its own thread."""
        while True:
            for message in self._post.inbox.receive():
                self._messages.put(message)
                self._engine.interrupt()

    def be_orphaned(self) -> None:
        self.orphaned = True
        self._engine.interrupt()

    def drain(self, *_: object) -> None:
        """SIGTERM."""
        self.draining = True
        self._engine.interrupt()

    # -------------------------------------------------------------------------------------- the loop

    def serve(self) -> int:
        """Commits until told to end; returns the exit code."""
        while not self.orphaned and not self.draining:
            event = self._engine.run(self._deadline())
            if event == "failed":
                log.error("the log has failed: reads go on, commits are refused until a new log is begun")
            while True:
                try:
                    message, fds = self._messages.get_nowait()
                except queue.Empty:
                    break
                if message["op"] == _STOP:
                    return self._end()
                self._obey(message, fds)
            self._look_at_triggers()
        self._engine.stop(clean=False)
        log.info("writer ends: %s", "the supervisor is gone" if self.orphaned else "SIGTERM")
        return EXIT_ORPHANED if self.orphaned else 0

    def _deadline(self) -> float | None:
        return self._engine.next_deadline(time.monotonic())

    def _look_at_triggers(self) -> None:
        if self._job.memory_only:
            return
        reason = self._engine.due_triggers(time.monotonic())
        if reason is not None:
            self._post.send("trigger", reason=reason)

    def _end(self) -> int:
        if not self._job.home.is_present():
            return EXIT_FAILED
        self._engine.stop(clean=True)
        return 0

    # ------------------------------------------------------------------------------------- messages

    def _obey(self, message: Message, fds: list[int]) -> None:
        op = message["op"]
        if op == "add_lease":
            add_lease(self._engine, message["client"], fds[0], message["system"])
            self._post.send("known", client=message["client"])
        elif op == "remove_lease":
            self._engine.remove_lease(message["client"])
        elif "id" in message:
            self._answer(message)
        else:
            log.error("the writer knows no message %r", op)

    def _answer(self, message: Message) -> None:
        try:
            reply = self._perform(message)
        except errors.Error as error:
            reply = {"error": error.to_wire()}
        except OSError as error:
            reply = {"error": disk_error(error, f"{message['op']} was refused by the file system").to_wire()}
        self._post.send("answer", id=message["id"], **reply)

    def _perform(self, message: Message) -> Message:
        engine, op = self._engine, message["op"]
        if op == "plan_checkpoint":
            plan = None if self._job.memory_only else engine.checkpoint_plan(message["reason"])
            return {"plan": plan, "lsn": engine.info().get("published_lsn")}
        if op == "checkpoint_finished":
            return {"lsn": engine.checkpoint_finished(message["meta"])}
        if op == "checkpoint_failed":
            engine.checkpoint_failed(errors.from_wire(message["error"]))
            return {}
        if op == "info":
            return {"info": plain(engine.info())}
        if op == "sync":
            return {"lsn": engine.sync()}
        if op == "rotate_wal":
            return {"segment": engine.rotate()}
        if op == "clear_wal":
            return {"removed": engine.clear_wal()}
        if op == "compact":
            return {"result": plain(engine.compact())}
        if op == "disk_usage":
            return {"usage": plain(engine.disk_usage())}
        if op == "forget":
            return {"left": engine.forget(*message["clients"])}
        if op == "pinned_bytes":
            return {"bytes": engine.pinned_bytes(message["readers"])}
        raise errors.Error(f"the writer knows no operation {op!r}")


def add_lease(engine: DurableEngine, client_id: bytes, fd: int, system: bool) -> None:
    """Maps a lease and has the engine scan it; the descriptor is closed."""
    mapping = _kernel.Mapping(fd, _kernel.lease_bytes(), writable=True)
    os.close(fd)
    engine.add_lease(mapping, client_id, system=system)


def _no_room_to_map(error: OSError) -> errors.Error:
    return errors.EngineDied(
        f"the engine can't start: {error.strerror}; its two arenas take 2.5 times max_memory of address "
        "space: raise the limit of the process that starts it (ulimit -v, RLIMIT_AS), or lower max_memory",
        exit_code=EXIT_REFUSED,
    )


def plain(value: Any) -> Any:
    """A value made of what msgpack holds."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one) for one in value]
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    return str(value)


def _take_lock(home: Home) -> FileLock:
    lock = FileLock(home.fd, "LOCK")
    if not lock.acquire(wait=False):
        holder = lock.read_note()
        log.warning("waiting for LOCK, held by %s", holder or "a writer that left no note")
        lock.acquire(wait=True)
    lock.write_note("memdb writer")
    return lock


def _engine_segments(job: Job) -> EngineSegments:
    parts = job.segments
    lease = _kernel.Mapping.anonymous(_kernel.lease_bytes())
    _kernel.lease_init(lease, bytes(16))
    return EngineSegments(
        arenas=(
            _kernel.Mapping(parts.arenas[0].fd, parts.arenas[0].size, writable=True),
            _kernel.Mapping(parts.arenas[1].fd, parts.arenas[1].size, writable=True),
        ),
        arena_fds=(parts.arenas[0].fd, parts.arenas[1].fd),
        board=_kernel.Mapping(parts.board, _kernel.board_bytes(), writable=True),
        logbuf=None if parts.logbuf is None else _kernel.Mapping(*parts.logbuf, writable=True),
        page=_kernel.Mapping(parts.page, _kernel.page_bytes(), writable=True),
        group_lease=lease,
        epoch=job.epoch,
        past_epochs=job.past_epochs,
    )


def _clients_with_outcomes(job: Job, engine: DurableEngine) -> list[bytes]:
    """Ids of all clients of whose commits an outcome is stored: who has gone is to be forgotten in time."""
    parity = engine.store.generation & 1
    lease = _kernel.Mapping.anonymous(_kernel.lease_bytes())
    _kernel.lease_init(lease, bytes(16))
    # Nothing is reused before the commit loop runs, so this pin needs nobody to scan it.
    reader = _kernel.Reader(engine.store.mapping, parity, lease, _kernel.PIN_SNAPSHOT)
    found: set[bytes] = set()
    for payload, _ in reader.batches(start=_OUTCOMES, stop=_OUTCOMES + b"\xff" * 25):
        found.update(key[2:18] for key, _, _, _ in _kernel.batch_items(payload))
    reader.close()
    return sorted(found - {bytes(16)})


def main(post: Post, job: Job) -> int:
    """The process's body."""
    serving = threading.Event()
    writer: _Writer | None = None

    def supervisor_died() -> None:
        if writer is not None and serving.is_set():
            writer.be_orphaned()
        else:
            os._exit(EXIT_ORPHANED)  # recovery destroys nothing before its replacement is durable (rule L7)

    call_at_death(post.supervisor, supervisor_died)
    lock = _take_lock(job.home)
    files = RealFiles(job.home.fd)
    try:
        segments = _engine_segments(job)
    except OSError as error:
        if job.rebuild:  # there was room for its predecessor: the next one may find it again
            log.error("the segments can't be mapped: %s", error)
            return EXIT_NO_ROOM
        post.send("refused", error=_no_room_to_map(error).to_wire())
        return EXIT_REFUSED
    engine = DurableEngine(files, RealClock(), job.options, segments, log)
    # Before start: who reads the arena that the next generation takes is revoked in order (rule G3).
    for client_id, fd, system in job.grants:
        add_lease(engine, client_id, fd, system)
    try:
        report = engine.start(predecessor=job.rebuild)
    except ViewsStand:  # made since the supervisor looked; the next writer gets a fresh segment
        return EXIT_VIEWS_STAND
    except errors.Error as error:
        if job.rebuild and not job.options.logged and isinstance(error, errors.ArenaFullError):
            log.error("the old arena stays, and is read on: it is all that there is: %s", error)
            return EXIT_NO_ROOM
        post.send("refused", error=error.to_wire())
        return EXIT_REFUSED
    except OSError as error:
        refusal = disk_error(error, "the database can't be opened", then="nothing was changed that counts")
        post.send("refused", error=refusal.to_wire())
        return EXIT_REFUSED
    writer = _Writer(post, job, engine)
    signal.signal(signal.SIGTERM, writer.drain)
    serving.set()
    threading.Thread(target=writer.listen, name="mailbox", daemon=True).start()
    post.send("ready", recovery=plain(report), outcomes=_clients_with_outcomes(job, engine))
    code = writer.serve()
    lock.close()
    return code
