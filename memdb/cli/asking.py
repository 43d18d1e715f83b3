"""Asking the engine of a directory without becoming its client, and without starting one.

Invariants:
- Nobody who asks keeps the engine up, takes a lease or is counted among its clients.
- An answer is waited for until its deadline only.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from memdb import errors
from memdb.actors import wire
from memdb.actors.locks import GROUP_BYTE, FileLock, read_note

__all__ = ["Engine", "is_locked", "open_home"]

_SECONDS = 10.0


def open_home(directory: str) -> int:
    """A descriptor of the directory of a database, the caller's to close. Raises NotADatabase."""
    try:
        home = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise errors.NotADatabase(
            f"there is no directory {directory}; name the directory of a database", path=directory
        ) from error
    if not {"MANIFEST", "GROUP"} & set(os.listdir(home)):
        os.close(home)
        raise errors.NotADatabase(f"{directory} holds no database", path=directory)
    return home


def is_locked(home: int, name: str, byte: int = 0) -> bool:
    """Does a process hold the lock? Reads only: no file is made where there is none."""
    try:
        os.close(os.open(name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=home))
    except FileNotFoundError:
        return False
    with FileLock(home, name, byte) as lock:
        return lock.is_held_elsewhere()


class Engine:
    """A connection to whichever engine serves the directory now.

    >>> with Engine("data") as engine:
    ...     engine.ask("readers")
    {'readers': []}
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._home = open_home(directory)
        self._sock: socket.socket | None = None
        self._unread = bytearray()

    def ask(self, op: str, seconds: float = _SECONDS) -> dict[str, Any] | None:
        """The answer to a control operation; None if no engine runs. Raises what it answers, Timeout."""
        deadline = time.monotonic() + seconds
        for _ in range(2):  # a connection may be that of an engine that has ended since
            fresh = self._sock is None
            try:
                return self._ask(op, deadline)
            except (FileNotFoundError, ConnectionError):
                self._drop()
                if fresh:
                    return None
            except TimeoutError as error:
                self._drop()
                raise errors.Timeout(
                    f"{self._who()} has not answered {op!r} for {seconds:g} s; engine.log there may say why, "
                    f"`memdb doctor {self.directory}` looks at the machine",
                    seconds=seconds,
                ) from error
        return None

    def _ask(self, op: str, deadline: float) -> dict[str, Any]:
        if self._sock is None:
            self._sock = wire.connect(self._home, deadline)
            self._unread.clear()
        wire.send(self._sock, {"op": op}, deadline)
        answer = wire.receive(self._sock, self._unread, [], deadline)
        if "error" in answer:
            raise errors.from_wire(answer["error"])
        return answer

    def _who(self) -> str:
        note = read_note(self._home, "GROUP")
        return f"the engine of {self.directory}" + (f" (pid {note.pid})" if note else "")

    def is_locked(self) -> bool:
        """Does a group hold the directory, whether it answers or not? The kernel tells."""
        return is_locked(self._home, "GROUP", GROUP_BYTE)

    def _drop(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def close(self) -> None:
        """Idempotent."""
        self._drop()
        if self._home >= 0:
            os.close(self._home)
            self._home = -1

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
