"""Mailboxes: msgpack messages between two processes of a group, in a shared ring, and a lane for descriptors.

Owns: the ring (one sender process, one receiver process), its bell, and the descriptor lane beside it.

Invariants:

* One sender and one receiver process each. The sender rings once for each message, after its bytes are
  in the ring, and the receiver takes one message for each ring that it heard. Ringing and hearing are
  operations on one semaphore or eventfd, which order the stores before the loads on every processor; the
  words are aligned and stored whole.
* A message that names descriptors is published after they are in the lane, so receiving them never waits.
* Every message goes in: one larger than the ring lies in a memfd, which the lane carries.
* A mailbox dies with either of its ends: a restarted actor gets new ones, so half a message is never
  continued. An actor parks on a posix_ipc semaphore; the supervisor, which sleeps in epoll, on an
  eventfd.
"""

import array
import mmap
import os
import socket
import struct
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import posix_ipc

from memdb.actors import segments, wire

__all__ = ["Bell", "EventBell", "Mailbox", "SemaphoreBell"]

RING_BYTES: Final = 1 << 18
_HEAD, _TAIL, _DATA = 0, 8, 16  # the words in units of 8 bytes: on cache lines of their own; then the ring
_DATA_AT: Final = _DATA * 8
_LENGTH: Final = struct.Struct("<II")  # bytes of the message, number of descriptors
_IN_RING_MAX: Final = RING_BYTES - 16
"""Bytes of a message in the ring; a longer one is 0 bytes there, and lies in the first descriptor."""


class Bell(Protocol):
    """What a mailbox rings when a message is in."""

    def ring(self) -> None: ...
    def wait(self, timeout: float | None) -> int: ...
    def fds(self) -> tuple[int, ...]: ...
    def close(self) -> None: ...


class SemaphoreBell:
    """A semaphore on which an actor's thread parks; the kernel object has no name left."""

    def __init__(self) -> None:
        self._semaphore = segments.create_semaphore()

    def ring(self) -> None:
        self._semaphore.release()

    def wait(self, timeout: float | None) -> int:
        """Parks until the bell rings; the number of rings heard, 0 after ``timeout`` seconds or a signal."""
        try:
            self._semaphore.acquire(timeout)
        except (posix_ipc.BusyError, posix_ipc.SignalError):
            return 0
        return 1

    def fds(self) -> tuple[int, ...]:
        return ()

    def close(self) -> None:
        """posix_ipc does not do this when the object goes: a page of /dev/shm would stay mapped."""
        self._semaphore.close()


class EventBell:
    """An eventfd, for a receiver that sleeps in epoll."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def ring(self) -> None:
        os.eventfd_write(self.fd, 1)

    def wait(self, timeout: float | None) -> int:
        """The number of rings since the last call, without waiting: the caller's epoll has waited."""
        try:
            return os.eventfd_read(self.fd)
        except BlockingIOError:
            return 0

    def fds(self) -> tuple[int, ...]:
        return (self.fd,)

    def close(self) -> None:
        os.close(self.fd)


class Mailbox:
    """One direction between two processes. Made before the fork; afterwards each side uses its end only.

    >>> box = Mailbox(SemaphoreBell())
    >>> box.send({"op": "ping"})
    >>> box.receive(timeout=1.0)
    [({'op': 'ping'}, [])]
    """

    def __init__(self, bell: Bell) -> None:
        self.bell = bell
        # Shared anonymous memory crosses the fork, and nothing else has to.
        self._memory = mmap.mmap(-1, _DATA_AT + RING_BYTES)
        self._words = memoryview(self._memory).cast("Q")
        self._ring = memoryview(self._memory)[_DATA_AT:]
        self._lane_out, self._lane_in = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lane_out.setblocking(False)
        self._waiting: deque[tuple[bytes, tuple[int, ...]]] = deque()  # of the sender: what found no room
        self._sending = threading.Lock()

    def fds(self) -> tuple[int, ...]:
        """Descriptors that a forked user of this mailbox must keep open."""
        return (self._lane_out.fileno(), self._lane_in.fileno(), *self.bell.fds())

    # ------------------------------------------------------------------------------------------ sender

    def send(self, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        """Puts a message in and rings. Never waits: without room it is kept for `flush`. Any thread."""
        body, sent = wire.encode(message)[4:], wire.duplicates(fds)
        if len(body) > _IN_RING_MAX:
            body, sent = b"", (_file_of(body), *sent)
        with self._sending:
            self._waiting.append((body, sent))
            self._flush()

    @property
    def crowded(self) -> bool:
        """Does a message wait for room? More of them would cost memory, and descriptors."""
        return bool(self._waiting)

    def flush(self) -> bool:
        """Puts in what found no room before; True if nothing waits any more."""
        with self._sending:
            return self._flush()

    def _flush(self) -> bool:
        while self._waiting and self._put(*self._waiting[0]):
            self.bell.ring()
            _, fds = self._waiting.popleft()
            for fd in fds:
                os.close(fd)
        return not self._waiting

    def _put(self, body: bytes, fds: tuple[int, ...]) -> bool:
        head, tail = self._words[_HEAD], self._words[_TAIL]
        need = _LENGTH.size + len(body) + (-len(body)) % 8
        if tail - head + need > RING_BYTES:
            return False
        if fds:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
            try:
                self._lane_out.sendmsg([b"."], rights)
            except BlockingIOError:
                return False
        self._copy_in(tail, _LENGTH.pack(len(body), len(fds)) + body)
        self._words[_TAIL] = tail + need
        return True

    def _copy_in(self, position: int, data: bytes) -> None:
        at = position % RING_BYTES
        first = min(len(data), RING_BYTES - at)
        self._ring[at : at + first] = data[:first]
        self._ring[: len(data) - first] = data[first:]

    # ---------------------------------------------------------------------------------------- receiver

    def receive(self, timeout: float | None = None) -> list[tuple[wire.Message, list[int]]]:
        """Parks until the bell rings (``timeout`` seconds; None: for ever), then takes what it rang for.

        An empty list says that the time is over or a signal came. Descriptors belong to the caller.
        """
        return [self._take() for _ in range(self.bell.wait(timeout))]

    def _take(self) -> tuple[wire.Message, list[int]]:
        head = self._words[_HEAD]
        length, count = _LENGTH.unpack(self._copy_out(head, _LENGTH.size))
        body = self._copy_out(head + _LENGTH.size, length)
        self._words[_HEAD] = head + _LENGTH.size + length + (-length) % 8
        fds: list[int] = []
        if count:
            _, ancillary, _, _ = self._lane_in.recvmsg(1, socket.CMSG_LEN(4 * count), socket.MSG_CMSG_CLOEXEC)
            for _, _, payload in ancillary:
                received = array.array("i")
                received.frombytes(payload)
                fds.extend(received)
        if not length:
            with open(fds.pop(0), "rb") as file:
                body = file.read()
        return wire.parse(body), fds

    def _copy_out(self, position: int, length: int) -> bytes:
        at = position % RING_BYTES
        first = min(length, RING_BYTES - at)
        return bytes(self._ring[at : at + first]) + bytes(self._ring[: length - first])

    def close(self) -> None:
        """Closes the lane of this process; the ring goes with its last mapping."""
        self._lane_out.close()
        self._lane_in.close()
        for _, fds in self._waiting:
            for fd in fds:
                os.close(fd)
        self._waiting.clear()


def _file_of(body: bytes) -> int:
    """A descriptor of a memfd that holds a long message, to be read from its beginning."""
    fd = os.memfd_create("memdb-message", os.MFD_CLOEXEC)
    with open(fd, "wb", closefd=False) as file:
        file.write(body)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
