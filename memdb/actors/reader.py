"""A reader of the pool: evaluates what clients ask over the keys of a range, where the data is.

Owns: its borrowed pins, the sockets over which clients send parts of their scans, and the timer that cuts an
evaluation short. What a job means is its layer's: a module named at the start has a table ``JOBS`` of
functions that make an evaluation from stored arguments.

Invariants:

* Bytes of a client are hostile: a frame has a limit, each field a type and a range, a job is a name in the
  table; nothing is unpickled, imported or called by its name elsewhere. Who sends anything else is cut off.
* A pin stands only while a part is worked at, IDLE while an answer waits to be taken; an answer goes out
  after the pin was left. Whether it is believed is the client's to find out (rule R2, epoch.h).
* One thread works, a batch for each client in turn; no client's slowness holds up another, and no batch
  takes more than `BATCH_SECONDS` of processor time.
* It knows of a client nothing but its socket: the end of file is its death or its loss of interest.
"""

import importlib
import logging
import os
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Final, cast

from memdb import errors
from memdb.actors import wire
from memdb.actors.mailbox import EventBell
from memdb.actors.processes import EXIT_ORPHANED, Post, call_at_death
from memdb.actors.segments import GroupSegments
from memdb.actors.wire import Message
from memdb.shm import _kernel

__all__ = ["BATCH_SECONDS", "CONNECTIONS_MAX", "Evaluate", "Job", "MakeEvaluate", "main"]

log = logging.getLogger("memdb.engine")

Evaluate = Callable[[bytes], bytes | None]
"""From a stored value to what is answered for it, None: nothing."""
MakeEvaluate = Callable[[bytes], Evaluate]
"""From a job's arguments to its evaluation; what it raises, its client meets, too, who does the part."""

BATCH_KEYS: Final = 256
BATCH_BYTES: Final = 1 << 18
BATCH_SECONDS: Final = 2.0
"""Seconds of processor time that the evaluation of one batch may take."""
LOOK_EVERY: Final = 0.05
"""Seconds between two looks whether an evaluation is still wanted."""
CONNECTIONS_MAX: Final = 256
"""Sockets of clients that a reader holds; further ones are closed, and their clients work by themselves."""
PARTS_MAX: Final = 4
"""Parts that a client may send ahead."""
_KEY_MAX: Final = 1 << 16
_NAME_MAX: Final = 100
_GONE: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR
# What an evaluation raises for arguments or values that it can't work with.
_FAILURES: Final = (
    errors.Error,
    ArithmeticError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Job:
    """What a reader is born with."""

    segments: GroupSegments
    lease: int
    modules: tuple[str, ...]


@dataclass(frozen=True)
class _Part:
    """One part of a client's scan, as it was asked for: checked."""

    number: int
    job: str
    arguments: bytes
    start: bytes
    stop: bytes
    parity: int
    generation: int
    lsn: int
    time_us: int
    counts: bool


def parse_part(message: Message) -> _Part:
    """Raises `wire.Disconnected` for what no client of this version sends."""

    def take(name: str, kind: type, low: int, high: int) -> Any:
        value = message.get(name)
        size = len(value) if isinstance(value, bytes | str) else value
        if type(value) is not kind or not low <= cast(int, size) <= high:
            raise wire.Disconnected(f"a part of a scan with {name} not a {kind.__name__} of {low} to {high}")
        return value

    return _Part(
        take("id", int, 0, 1 << 62),
        take("job", str, 1, _NAME_MAX),
        take("arguments", bytes, 0, wire.REQUEST_MAX),
        take("start", bytes, 1, _KEY_MAX),
        take("stop", bytes, 1, _KEY_MAX),
        take("parity", int, 0, 1),
        take("generation", int, 0, (1 << 64) - 1),
        take("lsn", int, 1, (1 << 48) - 1),
        take("time", int, 0, (1 << 64) - 1),
        take("counts", bool, False, True),
    )


class _Cut(BaseException):
    """Ends an evaluation from outside: not an Exception, so that no job takes it for one of its own."""


@dataclass
class _Work:
    """The part that a connection is at, its pin and what it has found."""

    part: _Part
    pin: _kernel.Borrowed
    batches: _kernel.StoredBatches


@dataclass(eq=False)
class _Connection:
    """One client's socket: parts come in, answers go out, in the order of the parts."""

    sock: socket.socket
    unread: bytearray = field(default_factory=bytearray)
    unsent: bytes = b""
    parts: deque[_Part] = field(default_factory=deque)
    work: _Work | None = None
    compiled: tuple[str, bytes, Evaluate] | None = None

    @property
    def runnable(self) -> bool:
        return not self.unsent and (self.work is not None or bool(self.parts))


class _Reader:
    def __init__(self, post: Post, job: Job) -> None:
        self._post = post
        arenas = job.segments.arenas
        self._arenas = [_kernel.Mapping(arena.readonly_fd, arena.size, writable=False) for arena in arenas]
        self._lease = _kernel.Mapping(job.lease, _kernel.lease_bytes(), writable=True)
        self._jobs = _load_jobs(job.modules)
        self._connections: dict[int, _Connection] = {}
        self._evaluating: _Connection | None = None
        self._began = 0.0
        self._bell = cast(EventBell, post.inbox.bell).fd
        self._poll = select.epoll()
        self._poll.register(self._bell, select.EPOLLIN)
        signal.signal(signal.SIGALRM, self._look)

    # ---------------------------------------------------------------------------------------- the loop

    def serve(self) -> None:
        """Until the supervisor says stop."""
        while True:
            runnable = [one for one in self._connections.values() if one.runnable]
            for fd, events in self._poll.poll(0 if runnable else None):
                if fd == self._bell:
                    if self._is_told_to_stop():
                        return
                elif fd in self._connections:
                    self._attend(self._connections[fd], events)
            for connection in runnable:
                if connection.sock.fileno() in self._connections and connection.runnable:
                    self._step(connection)

    def _is_told_to_stop(self) -> bool:
        for message, fds in self._post.inbox.receive(0):
            if message["op"] == "stop":
                return True
            if message["op"] == "arena":
                parity = message["parity"]
                self._arenas[parity] = _kernel.Mapping(fds[0], self._arenas[parity].size, writable=False)
                os.close(fds[0])
            elif message["op"] == "client":
                self._let_in(socket.socket(fileno=fds[0]))
        return False

    def _let_in(self, sock: socket.socket) -> None:
        if len(self._connections) >= CONNECTIONS_MAX:
            sock.close()
            return
        sock.setblocking(False)
        self._connections[sock.fileno()] = _Connection(sock)
        self._poll.register(sock.fileno(), select.EPOLLIN | select.EPOLLRDHUP)

    def _leave(self, connection: _Connection) -> None:
        fd = connection.sock.fileno()
        if self._connections.pop(fd, None) is None:
            return
        self._poll.unregister(fd)
        connection.sock.close()
        self._finish(connection)

    def _finish(self, connection: _Connection) -> None:
        if connection.work is not None:
            connection.work.pin.close()
            connection.work = None

    # ------------------------------------------------------------------------------------- the sockets

    def _attend(self, connection: _Connection, events: int) -> None:
        if events & _GONE:
            self._leave(connection)
            return
        if events & select.EPOLLOUT:
            self._send(connection)
        if events & select.EPOLLIN:
            self._receive(connection)

    def _receive(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        connection.unread += data
        try:
            if not data:
                self._leave(connection)
                return
            while (message := wire.decode_frame(connection.unread)) is not None:
                connection.parts.append(parse_part(message))
            if len(connection.parts) > PARTS_MAX:
                raise wire.Disconnected(f"more than {PARTS_MAX} parts ahead")
        except wire.Disconnected as error:
            log.warning("a client of this reader is cut off: %s", error)
            self._leave(connection)

    def _answer(self, connection: _Connection, message: Message) -> None:
        connection.unsent += wire.encode(message)
        self._send(connection)

    def _send(self, connection: _Connection) -> None:
        try:
            while connection.unsent:
                sent = connection.sock.send(connection.unsent)
                connection.unsent = connection.unsent[sent:]
        except BlockingIOError:
            pass
        except OSError:  # the client is gone
            self._leave(connection)
            return
        wanted = select.EPOLLIN | select.EPOLLRDHUP | (select.EPOLLOUT if connection.unsent else 0)
        self._poll.modify(connection.sock.fileno(), wanted)

    # ---------------------------------------------------------------------------------------- the work

    def _step(self, connection: _Connection) -> None:
        """One batch of a connection's part; begins the next part if it has none."""
        part = connection.parts[0] if connection.work is None else connection.work.part
        resume = part.start if connection.work is None else connection.work.batches.resume
        try:
            work = connection.work or self._begin(connection)
            stored = next(work.batches, [])
            found = self._evaluate(connection, stored)
        except (BlockingIOError, errors.SnapshotExpired) as error:
            self._refuse(connection, part, resume, str(error))
        except _FAILURES as error:
            self._refuse(connection, part, resume, f"{type(error).__name__}: {error}")
        except _Cut as cut:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._refuse(connection, part, resume, str(cut))
        else:
            self._found(connection, work, found, len(stored))

    def _begin(self, connection: _Connection) -> _Work:
        part = connection.parts[0]
        if connection.compiled is None or connection.compiled[:2] != (part.job, part.arguments):
            make = self._jobs.get(part.job)
            if make is None:
                raise ValueError(f"this reader knows no job {part.job!r}")
            connection.compiled = part.job, part.arguments, make(part.arguments)
        arena = self._arenas[part.parity]
        pin = _kernel.Borrowed(arena, part.parity, self._lease, part.generation, part.lsn, part.time_us)
        batches = pin.stored(part.start, part.stop, BATCH_KEYS, BATCH_BYTES)
        connection.parts.popleft()
        connection.work = _Work(part, pin, batches)
        return connection.work

    def _evaluate(self, connection: _Connection, stored: list[bytes]) -> list[bytes]:
        """Raises `_Cut` if the client has gone meanwhile, or if it takes too long."""
        assert connection.compiled is not None
        evaluate = connection.compiled[2]
        self._began, self._evaluating = time.process_time(), connection
        signal.setitimer(signal.ITIMER_REAL, LOOK_EVERY, LOOK_EVERY)
        try:
            return [answer for one in stored if (answer := evaluate(one)) is not None]
        finally:
            self._evaluating = None
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _look(self, number: int, frame: FrameType | None) -> None:
        """While an evaluation runs, of a regular expression too: is it still wanted, and not too long?"""
        connection = self._evaluating
        if connection is None:
            return
        if self._is_told_to_stop():
            os._exit(0)
        poll = select.poll()
        poll.register(connection.sock.fileno(), _GONE)
        gone = poll.poll(0)
        if not gone and time.process_time() - self._began <= BATCH_SECONDS:
            return
        self._evaluating = None  # once only
        if gone:
            raise _Cut("its client has gone")
        raise _Cut(f"{BATCH_KEYS} values at most took more than {BATCH_SECONDS:g} s of processor time")

    def _found(self, connection: _Connection, work: _Work, found: list[bytes], looked: int) -> None:
        done = work.batches.done
        answer = {
            "id": work.part.number,
            "found": len(found) if work.part.counts else found,
            "looked": looked,
            "resume": work.batches.resume,
            "done": done,
        }
        if done:
            self._finish(connection)
        self._answer(connection, answer)

    def _refuse(self, connection: _Connection, part: _Part, resume: bytes, why: str) -> None:
        if connection.work is None:
            connection.parts.popleft()
        self._finish(connection)
        self._answer(connection, {"id": part.number, "refused": why, "resume": resume})


def _load_jobs(modules: tuple[str, ...]) -> dict[str, MakeEvaluate]:
    """The tables of the modules; one that can't be imported is said so, and its jobs are refused."""
    jobs: dict[str, MakeEvaluate] = {}
    for name in modules:
        try:
            jobs.update(importlib.import_module(name).JOBS)
        except (ImportError, AttributeError) as error:
            log.error("the jobs of %s can't be done here: %s", name, error)
    return jobs


def main(post: Post, job: Job) -> int:
    """The process's body."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    call_at_death(post.supervisor, lambda: os._exit(EXIT_ORPHANED))
    reader = _Reader(post, job)
    post.send("ready")
    reader.serve()
    return 0
