"""Scans that the readers of the pool work at together: the client's side.

Owns: cutting a range into parts, handing them to readers, collecting what they find, and doing by itself
whatever no reader does.

Invariants:

* The result is that of a scan by the caller alone: an answer is handed out only if the caller's own pin still
  stands then (epoch.h: borrowed pins), and a part that a reader leaves is continued where its last answer
  ended.
* Memory is bounded: at most `_AHEAD_BYTES` of answers wait for their turn, and one more frame of each reader.
* A connection belongs to one scan at a time; a scan that ends early hangs up, and so cancels what is under
  way.
* No wait lasts longer than `_PATIENCE` seconds without a sign of the reader, and Ctrl-C ends any.
* After a fork the child closes its copies and never touches the connections of its parent.
"""

import os
import select
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from memdb import attach as _attach
from memdb.actors import wire
from memdb.actors.wire import Message

__all__ = ["Evaluate", "Lender", "Task", "count", "has_readers", "scan"]

Evaluate = Callable[[bytes], bytes | None]

PART_KEYS: Final = 2048
"""About how many keys a part has; a range with fewer is scanned by the caller alone."""
_CUTS_AT_ONCE: Final = 32
_PARTS_AHEAD: Final = 2  # of each reader
_AHEAD_BYTES: Final = 4 << 20
_PATIENCE: Final = 5.0
_SLICE: Final = 0.25  # seconds of one wait
_ALONE_KEYS: Final = 256
_ALONE_BYTES: Final = 1 << 18


class Lender(Protocol):
    """What a scan needs of a snapshot: memdb.Snapshot has it."""

    def _check(self) -> None: ...
    def _lending(self) -> tuple[Any, int, int, int, int]: ...
    def _stands(self) -> None: ...
    def _stored(self, start: bytes, stop: bytes, max_count: int, max_bytes: int) -> Any: ...
    def _cuts(
        self, start: bytes, stop: bytes, every: int, max_cuts: int
    ) -> tuple[list[bytes], int, bool]: ...


@dataclass(frozen=True)
class Task:
    """What is done with each stored value: ``job`` names it in the readers' tables, ``make(arguments)`` gives
    the function that does it here: from a stored value (payload and codec byte) to what is answered for
    it, or None."""

    job: str
    arguments: bytes
    make: Callable[[bytes], Evaluate]


def has_readers(snapshot: Lender) -> bool:
    """Whether the group of a snapshot has a pool of readers (``query_workers`` above 0)."""
    attachment = _attach.attachment_of(snapshot._lending()[0])
    return attachment is not None and attachment.options.query_workers > 0


def scan(
    snapshot: Lender,
    task: Task,
    start: bytes,
    stop: bytes,
    *,
    looked: Callable[[int], object] | None = None,
) -> Iterator[bytes]:
    """What ``task`` answers for the stored keys in [start, stop), as ``snapshot`` sees them.

    Evaluated by the group's readers, where it has some (``query_workers``) and the range is worth it, else
    here. In the order of keys. ``looked`` is told, piece by piece, how many values were evaluated. Raises
    SnapshotExpired, ClosedError, ForkedHandleError, CorruptionError, and what the task raises here. Cost:
    that of the evaluations divided by the readers, and about 2 µs an answer.
    """
    work = _Scan(snapshot, task, start, stop, ordered=True, counts=False)
    told = 0
    for found in work.batches():
        if looked is not None:
            looked(work.looked - told)
            told = work.looked
        yield from found
    if looked is not None:
        looked(work.looked - told)


def count(snapshot: Lender, task: Task, start: bytes, stop: bytes) -> int:
    """For how many stored keys in [start, stop) ``task`` answers anything: as `scan`, but only numbers
    travel."""
    work = _Scan(snapshot, task, start, stop, ordered=False, counts=True)
    return sum(found if isinstance(found, int) else len(found) for found in work.batches())


# --------------------------------------------------------------------------------------------- connections


@dataclass(eq=False)
class _Part:
    """A piece of the range: [start, stop) is what is not yet answered."""

    start: bytes
    stop: bytes
    found: deque[tuple[Any, int]] = field(default_factory=deque)  # and the bytes that it takes
    done: bool = False
    alone: bool = False  # no reader does it


@dataclass(eq=False)
class _Lane:
    """A socket to one reader, and the parts that it was given, in their order."""

    role: str
    sock: socket.socket
    pid: int
    unread: bytearray = field(default_factory=bytearray)
    unsent: bytes = b""
    parts: deque[_Part] = field(default_factory=deque)
    sent: int = 0  # parts so far: their numbers
    answered: int = 0
    silent: float = 0.0  # seconds waited in vain

    def close(self) -> None:
        """Hangs up: what the reader does for it is cancelled. In a child only its own copy goes."""
        if self.pid == os.getpid():
            try:
                self.sock.shutdown(socket.SHUT_RDWR)
            except OSError:  # the reader has gone first
                pass
        self.sock.close()

    @property
    def dead(self) -> bool:
        """For a lane that waits for nothing: whatever is to be read is the end."""
        poll = select.poll()
        poll.register(self.sock.fileno(), select.POLLIN | select.POLLRDHUP)
        return bool(poll.poll(0))


_lanes: "weakref.WeakSet[_Lane]" = weakref.WeakSet()
_idle_lock = threading.Lock()


def _after_fork_in_child() -> None:
    global _idle_lock  # noqa: PLW0603 - another thread of the parent may have held it
    _idle_lock = threading.Lock()
    for lane in list(_lanes):
        lane.close()
    _lanes.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _lanes_of(attachment: _attach.Attachment) -> list[_Lane]:
    """One to each reader that can be had now."""
    wanted = attachment.options.query_workers
    with _idle_lock:
        kept, attachment.idle_lanes = attachment.idle_lanes, []
    lanes: dict[str, _Lane] = {}
    for lane in kept:
        if lane.dead or (lane.role in lanes and len(lanes) == wanted):
            lane.close()
        elif lane.role in lanes:
            _give_back(attachment, lane)
        else:
            lanes[lane.role] = lane
    while len(lanes) < wanted:
        fresh = attachment.reader_sockets(wanted - len(lanes), list(lanes))
        for role, sock in fresh:
            sock.setblocking(False)
            lanes[role] = _Lane(role, sock, os.getpid())
            _lanes.add(lanes[role])
        if len(fresh) < wire.FDS_MAX:
            break
    return list(lanes.values())


def _give_back(attachment: _attach.Attachment, lane: _Lane) -> None:
    with _idle_lock:
        if not attachment.stale:
            attachment.idle_lanes.append(lane)
            return
    lane.close()


# --------------------------------------------------------------------------------------------- the scan


class _Scan:
    """One scan. ``batches`` yields what was found: lists of answers, or numbers if it ``counts``."""

    def __init__(
        self,
        snapshot: Lender,
        task: Task,
        start: bytes,
        stop: bytes,
        *,
        ordered: bool,
        counts: bool,
    ) -> None:
        client, self._parity, self._generation, self._lsn, self._time = snapshot._lending()
        self._snapshot, self._task = snapshot, task
        self._start, self._stop = start, stop  # of what is not yet cut
        self._ordered, self._counts = ordered, counts
        self._cuts: deque[bytes] = deque()
        self._walked = False  # the cuts reach the end of the range
        self._exhausted = start >= stop
        self._parts: deque[_Part] = deque()
        self._waiting_bytes = 0
        self.looked = 0  # values that were evaluated, so far as is known
        self._lanes: list[_Lane] = []
        self._evaluate: Evaluate | None = None  # here, once it was needed
        self._attachment = _attach.attachment_of(client)

    def batches(self) -> Iterator[Any]:
        """In the child of a fork, and once the snapshot is gone, it raises what a read would."""
        try:
            self._begin()
            while True:
                self._snapshot._check()
                self._feed()
                part = self._next_part()
                if part is None and not self._parts:
                    return
                if part is None:
                    self._listen()
                elif part.found:
                    found, size = part.found.popleft()
                    self._waiting_bytes -= size
                    self._snapshot._stands()
                    yield found
                elif part.done:  # that there is nothing more is an answer, too
                    self._snapshot._stands()
                    self._parts.remove(part)
                else:
                    self._parts.remove(part)
                    yield from self._alone(part)
        finally:
            self._end()

    def _begin(self) -> None:
        if self._exhausted or self._attachment is None or not self._attachment.options.query_workers:
            return
        if len(self._task.arguments) > wire.REQUEST_MAX:  # no part of it could be asked for
            return
        cuts, _, self._walked = self._snapshot._cuts(self._start, self._stop, PART_KEYS, _CUTS_AT_ONCE)
        self._cuts.extend(cuts)
        if cuts:
            self._lanes = _lanes_of(self._attachment)

    def _end(self) -> None:
        """What waits for nothing is kept for the next scan; the rest hangs up."""
        for lane in self._lanes:
            if lane.parts or lane.unsent or self._attachment is None or lane.pid != os.getpid():
                lane.close()
            else:
                _give_back(self._attachment, lane)
        self._lanes.clear()

    # ---------------------------------------------------------------------------------------- parts

    def _next_part(self) -> _Part | None:
        """One that something can be done about now: in order only the first."""
        for part in self._parts:
            if part.found or part.done or part.alone:
                return part
            if self._ordered:
                break
        return None

    def _feed(self) -> None:
        while not self._exhausted and len(self._parts) < 4 * max(1, len(self._lanes)):
            if not self._lanes:
                self._parts.append(_Part(self._start, self._stop, alone=True))
                self._exhausted = True
                return
            lane = min(self._lanes, key=lambda one: len(one.parts))
            if len(lane.parts) >= _PARTS_AHEAD or lane.unsent:
                return
            part = self._cut()
            self._parts.append(part)
            self._ask(lane, part)

    def _cut(self) -> _Part:
        if not self._cuts and not self._walked:
            cuts, _, self._walked = self._snapshot._cuts(self._start, self._stop, PART_KEYS, _CUTS_AT_ONCE)
            self._cuts.extend(cuts)
        stop = self._cuts.popleft() if self._cuts else self._stop
        part = _Part(self._start, stop)
        self._start = stop
        self._exhausted = stop == self._stop
        return part

    def _alone(self, part: _Part) -> Iterator[Any]:
        if self._evaluate is None:
            self._evaluate = self._task.make(self._task.arguments)
        evaluate = self._evaluate
        for stored in self._snapshot._stored(part.start, part.stop, _ALONE_KEYS, _ALONE_BYTES):
            self.looked += len(stored)
            yield [answer for one in stored if (answer := evaluate(one)) is not None]

    # ---------------------------------------------------------------------------------------- readers

    def _ask(self, lane: _Lane, part: _Part) -> None:
        request = {
            "op": "scan",
            "id": lane.sent,
            "job": self._task.job,
            "arguments": self._task.arguments,
            "start": part.start,
            "stop": part.stop,
            "parity": self._parity,
            "generation": self._generation,
            "lsn": self._lsn,
            "time": self._time,
            "counts": self._counts,
        }
        frame = wire.encode(request)
        if len(frame) > wire.REQUEST_MAX:  # a filter of a megabyte
            part.alone = True
            return
        lane.sent += 1
        lane.parts.append(part)
        lane.unsent = frame
        self._send(lane)

    def _send(self, lane: _Lane) -> None:
        try:
            while lane.unsent:
                lane.unsent = lane.unsent[lane.sock.send(lane.unsent) :]
        except BlockingIOError:
            pass
        except OSError:  # the reader has gone
            self._lose(lane)

    def _lose(self, lane: _Lane) -> None:
        """No more of this reader: its parts are done here, each from where its last answer ended."""
        self._lanes.remove(lane)
        lane.close()
        for part in lane.parts:
            part.alone = True

    def _listen(self) -> None:
        """Waits until a reader has something, and takes it. What is not its turn stays in its socket, if
        enough of that is here."""
        heard = self._lanes
        if self._ordered and self._waiting_bytes > _AHEAD_BYTES:
            heard = [lane for lane in self._lanes if self._parts[0] in lane.parts]
        poll = select.poll()
        by_fd = {lane.sock.fileno(): lane for lane in heard}
        for fd, lane in by_fd.items():
            poll.register(fd, select.POLLIN | (select.POLLOUT if lane.unsent else 0))
        began = time.monotonic()
        events = poll.poll(_SLICE * 1000)
        self._snapshot._check()  # before a socket is touched: this may be a child
        waited = time.monotonic() - began
        for lane in heard:
            lane.silent += waited
        for fd, event in events:
            lane = by_fd[fd]
            lane.silent = 0.0
            if event & select.POLLOUT:
                self._send(lane)
            if event & ~select.POLLOUT and lane in self._lanes:
                self._receive(lane)
        for lane in list(heard):
            if lane in self._lanes and lane.parts and lane.silent > _PATIENCE:
                self._lose(lane)

    def _receive(self, lane: _Lane) -> None:
        try:
            data = lane.sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose(lane)
            return
        lane.unread += data
        try:
            before = len(lane.unread)
            while (answer := wire.decode_frame(lane.unread, wire.ANSWER_MAX)) is not None:
                self._take(lane, answer, before - len(lane.unread))
                before = len(lane.unread)
        except wire.Disconnected:
            self._lose(lane)

    def _take(self, lane: _Lane, answer: Message, size: int) -> None:
        if not lane.parts or answer.get("id") != lane.answered:
            raise wire.Disconnected("an answer to nothing that was asked")
        part = lane.parts[0]
        self.looked += answer.get("looked", 0)
        if answer.get("found"):
            part.found.append((answer["found"], size))
            self._waiting_bytes += size
        part.start = answer["resume"]
        part.done = bool(answer.get("done"))
        part.alone = "refused" in answer
        if part.done or part.alone:
            lane.parts.popleft()
            lane.answered += 1
