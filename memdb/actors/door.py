"""engine.sock: accepting connections, reading requests from them, sending answers back.

Owns: the listening socket and the connections' buffers. What a request means is the supervisor's business.

Invariants:

* The socket is 0600, and a peer of another user (root excepted) is turned away before anything it says
  is read.
* Nothing here blocks: a peer that does not read its answers has them kept up to a limit, then is cut off.
* One request of a connection is under way at a time; the next one waits in its buffer.
"""

import errno
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from memdb import errors
from memdb.actors import wire
from memdb.actors.loop import READ, WRITE, Loop

__all__ = ["Connection", "Door"]

log = logging.getLogger("memdb.engine")
_BACKLOG: Final = 512
_REST: Final = 0.1
"""Seconds without a look at the door after a connection could not be accepted."""
_UNSENT_MAX: Final = wire.ANSWER_MAX


class Connection:
    """One peer. ``pid``: of the process that connected, as the kernel says; 0 if not visible here."""

    def __init__(self, door: "Door", sock: socket.socket) -> None:
        self._door = door
        self._sock = sock
        self._unread = bytearray()
        self._unsent: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._unsent_bytes = 0
        self.pid, self.uid = wire.peer_credentials(sock)
        self.pidfd: int | None = None
        self.busy = False
        self.open = True
        self.client_id: bytes | None = None

    def take_pidfd(self) -> int | None:
        """A pidfd of the peer, the caller's to close; None where the kernel gives none."""
        return wire.peer_pidfd(self._sock)

    def answer(self, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        """The last message to the present request; ``fds`` stay the caller's."""
        self.busy = False
        self.say(message, fds)
        if self.open and self._unread:
            self._door.loop.after(0, self._next)

    def fail(self, error: errors.Error, *, ends: bool = False) -> None:
        """Answers with an error; *ends*: the group ends with it."""
        self.answer({"error": error.to_wire(), **({"ends": True} if ends else {})})

    def say(self, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        """A message that does not end the present request."""
        if not self.open:
            return
        data = wire.encode(message)
        self._unsent.append((data, wire.duplicates(fds)))
        self._unsent_bytes += len(data)
        self._send()

    def _send(self) -> None:
        try:
            while self._unsent:
                data, fds = self._unsent[0]
                sent = wire.send_with_fds(self._sock, data, fds)
                for fd in fds:
                    os.close(fd)
                self._unsent_bytes -= sent
                if sent == len(data):
                    self._unsent.popleft()
                else:
                    self._unsent[0] = (data[sent:], ())
        except BlockingIOError:
            if self._unsent_bytes > _UNSENT_MAX:
                self.close()
                return
        except OSError:  # the peer is gone
            self.close()
            return
        self._door.loop.change(self._sock.fileno(), READ | WRITE if self._unsent else READ)

    def on_event(self, events: int) -> None:
        if events & WRITE:
            self._send()
        if self.open and events & ~WRITE:
            self._receive()

    def _receive(self) -> None:
        try:
            data = self._sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or len(self._unread) > 2 * wire.REQUEST_MAX:
            self.close()
            return
        self._unread += data
        self._next()

    def _next(self) -> None:
        if self.busy or not self.open:
            return
        try:
            request = wire.decode_frame(self._unread)
        except wire.Disconnected as error:
            log.warning("pid %d is cut off: %s", self.pid, error)
            self.close()
            return
        if request is not None:
            self.busy = True
            self._door.handle(self, request)

    def close(self) -> None:
        """Cuts the connection; by itself it says nothing about the peer's life. Idempotent."""
        if not self.open:
            return
        self.open = False
        self._door.loop.unwatch(self._sock.fileno())
        self._sock.close()
        for _, fds in self._unsent:
            for fd in fds:
                os.close(fd)
        self._unsent.clear()
        self._door.forget(self)


class Door:
    """The listening socket of one group."""

    def __init__(
        self,
        loop: Loop,
        directory_fd: int,
        handle: Callable[[Connection, wire.Message], None],
        left: Callable[[Connection], None],
    ) -> None:
        self.loop = loop
        self.handle = handle
        self._left = left
        self.connections: set[Connection] = set()
        self._directory_fd = directory_fd
        self._listener = socket.socket(
            socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        self._remove_name()
        before = os.umask(0o177)  # bind makes the file, and it must be 0600 from its first moment
        try:
            self._listener.bind(f"/proc/self/fd/{directory_fd}/{wire.SOCKET_NAME}")
        finally:
            os.umask(before)
        self._listener.listen(_BACKLOG)
        self.open = True
        self._resting_said = False
        loop.watch(self._listener.fileno(), self._accept)

    def _remove_name(self) -> None:
        # Only the holder of GROUP comes here, so what bears the name is a dead group's.
        try:
            os.unlink(wire.SOCKET_NAME, dir_fd=self._directory_fd)
        except FileNotFoundError:
            pass

    def _accept(self, events: int) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # out of descriptors, or the peer has gone already
                self._rest(error)
                return
            self._resting_said = False
            sock.setblocking(False)
            connection = Connection(self, sock)
            if connection.uid not in (0, os.geteuid()):
                log.warning("pid %d of user %d was turned away", connection.pid, connection.uid)
                sock.close()
                continue
            self.connections.add(connection)
            self.loop.watch(sock.fileno(), connection.on_event)

    def _rest(self, error: OSError) -> None:
        """Who waits at the door keeps the listener readable: without a rest this would turn in circles."""
        if error.errno == errno.ECONNABORTED:
            return
        if not self._resting_said:
            log.warning("no connection can be accepted: %s; tried again every %g s", error, _REST)
            self._resting_said = True
        self.loop.unwatch(self._listener.fileno())
        self.loop.after(_REST, self._watch_again)

    def _watch_again(self) -> None:
        if self.open:
            self.loop.watch(self._listener.fileno(), self._accept)

    def forget(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self._left(connection)

    def close(self) -> None:
        """No more connections: the name goes and those who wait at the door are sent away. Idempotent."""
        if not self.open:
            return
        self.open = False
        self._remove_name()
        self.loop.unwatch(self._listener.fileno())
        self._listener.close()

    def close_connections(self) -> None:
        for connection in list(self.connections):
            connection.close()
