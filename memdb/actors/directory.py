"""The database directory as the group sees it: one descriptor, its identity, and the news that it is gone.

Owns: the inotify watch on the directory, and the judgement whether the path still leads to what the
descriptor holds.

Invariants:

* Everything is reached relative to the descriptor, so what is judged is what is used (rule L9).
* Nothing polls: inotify wakes the supervisor when an entry of the directory goes or the directory moves.
  A moved parent gives no such event; `is_present` is therefore also asked before work that writes files.
"""

import os
import shutil
from typing import Final

__all__ = ["DirectoryWatch", "Home"]

_IN_MOVED_FROM, _IN_DELETE, _IN_DELETE_SELF, _IN_MOVE_SELF = 0x40, 0x200, 0x400, 0x800
_IN_ONLYDIR: Final = 0x01000000
_IN_CLOEXEC, _IN_NONBLOCK = os.O_CLOEXEC, os.O_NONBLOCK


class Home:
    """The directory of one database."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        status = os.fstat(self.fd)
        self.identity = (status.st_dev, status.st_ino)

    def is_present(self) -> bool:
        """Does the path still lead to this very directory, and is it still linked?"""
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self.identity and os.fstat(self.fd).st_nlink > 0

    def remove(self) -> None:
        """Removes the directory and all in it: the home of a memory-only database at its end."""
        shutil.rmtree(self.path, ignore_errors=True)

    def close(self) -> None:
        os.close(self.fd)


class DirectoryWatch:
    """An inotify descriptor that polls readable when an entry of the directory or the directory itself goes.

    ``fd`` is -1 where the limit of inotify instances is reached; then only the checks before work remain.
    """

    def __init__(self, home: Home) -> None:
        import ctypes  # the supervisor's alone: clients import this module, too

        libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = libc.inotify_init1(_IN_CLOEXEC | _IN_NONBLOCK)
        if self.fd < 0:
            return
        mask = _IN_MOVED_FROM | _IN_DELETE | _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_ONLYDIR
        if libc.inotify_add_watch(self.fd, f"/proc/self/fd/{home.fd}".encode(), mask) < 0:
            os.close(self.fd)
            self.fd = -1

    def drain(self) -> None:
        """Takes the events; which ones does not matter, the state of the directory is looked at."""
        try:
            while os.read(self.fd, 65536):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
