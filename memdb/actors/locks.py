"""Kernel locks on the files GROUP and LOCK: who is the group, who starts it, who is the writer.

Owns: open-file-description locks and the note that the holder of one leaves for error messages.

Invariants:

* A lock is the only proof; the file's existence and the note inside mean nothing (rule: nobody takes
  over by time-out).
* The kernel gives a lock back when the last descriptor of its open file description is closed, so a
  process that forks must see to it that its children close their copies at once (`close_inherited`).
* Unlike POSIX record locks, closing another descriptor of the same file does not lose the lock.
"""

import errno
import fcntl
import logging
import os
import struct
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

__all__ = ["GROUP_BYTE", "STARTER_BYTE", "FileLock", "Holder", "close_inherited", "read_note"]

log = logging.getLogger("memdb.engine")

GROUP_BYTE: Final = 0
"""Byte of GROUP that the supervisor holds as long as it lives."""
STARTER_BYTE: Final = 1
"""Byte of GROUP that an opener holds while it starts a group."""

_FLOCK: Final = "hhqqi4x"  # struct flock of 64-bit Linux: type, whence, start, length, pid
_NOTE_AT: Final = 16  # behind the bytes that are locked


@dataclass(frozen=True)
class Holder:
    """What the holder of a lock wrote about itself: for messages only, never a proof of life."""

    pid: int
    pid_namespace: int
    command: str


class FileLock:
    """One byte of a file, locked through an open file description of its own.

    >>> with FileLock(directory_fd, "GROUP", GROUP_BYTE) as lock:
    ...     lock.acquire(wait=False)
    True
    """

    def __init__(self, directory_fd: int, name: str, byte: int = 0) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self.fd = os.open(name, flags, 0o600, dir_fd=directory_fd)
        self._byte = byte

    def acquire(self, *, wait: bool) -> bool:
        """Takes the lock; False if another holds it and ``wait`` is False."""
        request = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, self._byte, 1, 0)
        try:
            fcntl.fcntl(self.fd, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, request)
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, whichever the file system says
            return False
        return True

    def is_held_elsewhere(self) -> bool:
        """Does another open file description hold the byte now?"""
        request = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, self._byte, 1, 0)
        answer = fcntl.fcntl(self.fd, fcntl.F_OFD_GETLK, request)
        return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)

    def write_note(self, command: str) -> None:
        """Leaves pid, pid namespace and command for the messages of those who wait."""
        text = f"{os.getpid()} {own_pid_namespace()} {command}"[:200]
        try:
            os.pwrite(self.fd, text.encode("utf-8", "replace").ljust(256, b"\n"), _NOTE_AT)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            log.warning("no room for a note in the lock file: others will not be told who holds it")

    def read_note(self) -> Holder | None:
        """What the last holder wrote, or None."""
        return _parse_note(os.pread(self.fd, 256, _NOTE_AT))

    def release(self) -> None:
        """Gives the lock back, also where a forked child has a copy of the descriptor. Idempotent."""
        if self.fd >= 0:
            request = struct.pack(_FLOCK, fcntl.F_UNLCK, os.SEEK_SET, self._byte, 1, 0)
            fcntl.fcntl(self.fd, fcntl.F_OFD_SETLK, request)
        self.close()

    def close(self) -> None:
        """Closes the descriptor: the lock goes with the last copy of it. Idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> "FileLock":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def read_note(directory_fd: int, name: str) -> Holder | None:
    """The note in a lock file, without a lock; None if there is no such file or no note."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=directory_fd)
    except OSError:
        return None
    try:
        return _parse_note(os.pread(fd, 256, _NOTE_AT))
    finally:
        os.close(fd)


def _parse_note(raw: bytes) -> Holder | None:
    fields = raw.decode("utf-8", "replace").strip().split(" ", 2)
    if len(fields) < 3 or not (fields[0].isdigit() and fields[1].isdigit()):
        return None
    return Holder(int(fields[0]), int(fields[1]), fields[2])


def own_pid_namespace() -> int:
    """The inode number of this process's pid namespace, or 0 where /proc does not tell."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def close_inherited(keep: Collection[int]) -> None:
    """Closes every descriptor above 2 but those in ``keep``: what a forked actor does first.

    So a lock, a client's socket or another actor's mailbox ends with its owner and not with a sibling.
    """
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2 and fd not in keep:
            try:
                os.close(fd)
            except OSError:  # the descriptor of the listing itself
                pass
