"""The protocol on engine.sock, and the frames in which it is spoken.

Owns: framing (u32 little-endian length, then one msgpack map), descriptors passed beside a frame, the
versions that ``hello`` compares, and connecting through the directory's descriptor so that long paths
work.

Invariants:

* Bytes of a peer are hostile until parsed: lengths are bounded, only plain msgpack is read, never an
  extension type and never pickle.
* Descriptors ride on the first byte of their frame; whoever receives more than it asked for closes them.
* Blocking calls here end at their deadline and can be interrupted by a signal handler that raises (Ctrl-C).

Requests are ``{"op": …}``; answers ``{"ok": True, …}``, ``{"error": Error.to_wire()}``, or, before one
of these, any number of ``{"status": {"phase", "done", "total"}}``. One request of a connection is under
way at a time.
"""

import array
import errno
import os
import select
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgpack

__all__ = [
    "FDS_MAX",
    "PROTOCOL",
    "SOCKET_NAME",
    "Disconnected",
    "Message",
    "connect",
    "decode_frame",
    "encode",
    "peer_pidfd",
    "receive",
    "send",
]

PROTOCOL: Final = 1
"""Version of this protocol; a peer of another one is refused with both numbers."""
SOCKET_NAME: Final = "engine.sock"
REQUEST_MAX: Final = 1 << 20
"""Longest request in bytes that the supervisor takes."""
ANSWER_MAX: Final = 64 << 20
"""Longest answer in bytes that a client takes."""

_LENGTH: Final = struct.Struct("<I")
_TEXT: Final = "surrogatepass"  # names and command lines need not be UTF-8: Python has lone surrogates there
_NO_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE)
FDS_MAX: Final = 8
"""Descriptors beside one message, at most."""
_SO_PEERPIDFD: Final = 77  # Linux 6.5; the socket module does not name it yet

Message = dict[str, Any]


class Disconnected(ConnectionError):
    """The peer closed the connection, or spoke something else."""


def encode(message: Mapping[str, Any]) -> bytes:
    """One frame: length and msgpack map."""
    body: bytes = msgpack.packb(dict(message), use_bin_type=True, unicode_errors=_TEXT)
    return _LENGTH.pack(len(body)) + body


def decode_frame(buffer: bytearray, limit: int = REQUEST_MAX) -> Message | None:
    """Takes one whole frame off the front of ``buffer``; None if it has none yet.

    Raises `Disconnected` for what is no frame, or one longer than ``limit`` bytes.
    """
    if len(buffer) < 4:
        return None
    (length,) = _LENGTH.unpack_from(buffer)
    if length > limit:
        raise Disconnected(f"a frame of {length} bytes, above the limit of {limit} bytes")
    if len(buffer) < 4 + length:
        return None
    body = bytes(buffer[4 : 4 + length])
    del buffer[: 4 + length]
    return parse(body)


def parse(body: bytes) -> Message:
    """One msgpack map of plain values. Raises `Disconnected` for anything else."""
    try:
        # A timestamp, the one extension type of which the hook is not told, comes as a number.
        message = msgpack.unpackb(
            body, raw=False, strict_map_key=False, unicode_errors=_TEXT, ext_hook=_refuse, timestamp=2
        )
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:  # TypeError: a list as a key
        raise Disconnected(f"not a msgpack message: {error}") from error
    if not isinstance(message, dict):
        raise Disconnected("a message that is no map")
    return message


def _refuse(code: int, data: bytes) -> None:
    raise ValueError(f"an extension type ({code})")


def connect(directory_fd: int, deadline: float) -> socket.socket:
    """A connection to the group of the directory. Raises OSError (FileNotFoundError, …)."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        sock.connect(f"/proc/self/fd/{directory_fd}/{SOCKET_NAME}")
    except BaseException:  # also Ctrl-C: the descriptor must not stay open
        sock.close()
        raise
    return sock


def send(sock: socket.socket, message: Mapping[str, Any], deadline: float) -> None:
    """Sends one request; TimeoutError at the deadline (seconds of time.monotonic)."""
    sock.settimeout(max(0.001, deadline - time.monotonic()))
    sock.sendall(encode(message))


def receive(sock: socket.socket, buffer: bytearray, fds: list[int], deadline: float) -> Message:
    """The next message; descriptors that came with it are appended to ``fds``, the caller's to close.

    ``buffer`` holds what of the next message has arrived already. TimeoutError at the deadline,
    `Disconnected` when the peer is gone, OSError where this process can open no more descriptors.
    """
    while True:
        message = decode_frame(buffer, ANSWER_MAX)
        if message is not None:
            return message
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no answer in time")
        sock.settimeout(left)
        _receive_some(sock, buffer, fds)


def _receive_some(sock: socket.socket, buffer: bytearray, fds: list[int]) -> None:
    room = socket.CMSG_LEN(FDS_MAX * array.array("i").itemsize)
    try:
        data, ancillary, flags, _ = sock.recvmsg(65536, room, socket.MSG_CMSG_CLOEXEC)
    except ConnectionError as error:
        raise Disconnected(str(error)) from error
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received = array.array("i")
            received.frombytes(payload[: len(payload) - len(payload) % received.itemsize])
            fds.extend(received)
    if flags & socket.MSG_CTRUNC:
        raise OSError(
            errno.EMFILE,
            "descriptors of the engine's segments did not arrive: Too many open files in this process; close "
            "some, or raise its limit (ulimit -n)",
        )
    if not data:
        raise Disconnected("the other side closed the connection")
    buffer += data


def send_with_fds(sock: socket.socket, data: bytes, fds: Sequence[int]) -> int:
    """One sendmsg; returns the bytes that went out. BlockingIOError if none could."""
    if not fds:
        return sock.send(data)
    return sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])


def peer_credentials(sock: socket.socket) -> tuple[int, int]:
    """(pid, uid) of the process that connected, or, seen from a client, of the one that listens."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", raw)
    return pid, uid


def peer_pidfd(sock: socket.socket) -> int | None:
    """A pidfd of the peer: polls readable once that very process has ended. None where it can't be known.
    OSError: this process has no descriptors left.

    Kernels from 6.5 on give it without a race; before, pidfd_open of the pid is all there is, and it is
    checked that the connection was still up afterwards, so a reused pid is taken for the peer only if
    the peer died in between and left its socket to a child.
    """
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, 4)
        return int(struct.unpack("i", raw)[0])
    except OSError as error:
        if error.errno in _NO_DESCRIPTORS:
            raise
    pid, _ = peer_credentials(sock)
    if pid <= 0:  # a process of a pid namespace that is not visible from here
        return None
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno in _NO_DESCRIPTORS:
            raise
        return None


def duplicates(fds: Sequence[int]) -> tuple[int, ...]:
    """Descriptors of the same, the caller's to close. OSError: none was made."""
    made: list[int] = []
    try:
        for fd in fds:
            made.append(os.dup(fd))
    except OSError:
        for fd in made:
            os.close(fd)
        raise
    return tuple(made)


def has_ended(pidfd: int) -> bool:
    """Has the process of a pidfd ended? No system call but one poll."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))
