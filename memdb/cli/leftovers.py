"""What dead groups have left behind, and removing it: for `memdb gc` and `memdb doctor`.

Owns: the kinds of leftovers, how each is known to be nobody's, and its removal.

Invariants:
- Whether a group lives is decided by what the kernel says at that moment (locks of GROUP and LOCK, a lease on
  a segment that is granted only if no process has it open), never by time, by a pid or by a note in a file.
- What can't be decided is kept, and said so.
- The locks are held while something is removed, so that nobody starts a group in between.
- A file that can hold committed data (log segments, checkpoints, the manifest, quarantine) is never touched:
  what of it is no longer needed, the engine itself removes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from memdb import place
from memdb.actors.directory import Home
from memdb.actors.locks import GROUP_BYTE, STARTER_BYTE, FileLock

__all__ = ["Leftover", "collect", "in_directory", "in_shared_memory", "memory_homes"]

_SHM: Final = "/dev/shm"
_SEGMENT: Final = re.compile(r"(?:sem\.)?mdb-[0-9a-f]{16}")
_HALF_WRITTEN: Final = re.compile(r"MANIFEST\.tmp|checkpoints/[0-9]+-[0-9a-f]+\.tmp")
_STARTED: Final = "engine.log"  # a group writes it first of all, while its starter holds its byte


@dataclass(frozen=True)
class Leftover:
    """``kind``: memory home, socket, half-written file, segment. ``stale``: nobody's, so that it may go;
    ``why`` says why it is, or why it has to stay.
    """

    kind: str
    path: str
    bytes: int
    stale: bool
    removed: bool
    why: str

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)


def collect(directory: str | None, *, remove: bool) -> Iterator[Leftover]:
    """All kinds: those of this user on this machine, and those in ``directory`` where one is named."""
    if directory is not None:
        yield from in_directory(directory, remove=remove)
    yield from memory_homes(remove=remove)
    yield from in_shared_memory(remove=remove)


# ---------------------------------------------------------------------------------------------- a directory


def in_directory(directory: str, *, remove: bool) -> Iterator[Leftover]:
    """The stale socket and half-written files of a database whose group is dead. Raises OSError."""
    home = Home(directory)
    with contextlib.ExitStack() as stack:
        stack.callback(home.close)
        names = _leftover_names(home.fd)
        if not names:
            return
        if not _is_dead(home, stack):
            for name in names:
                if name != "engine.sock":  # that of a living group is in use, and not worth a word
                    yield _kept("half-written file", directory, name, home.fd, "an engine runs")
            return
        for name in names:
            kind = "socket" if name == "engine.sock" else "half-written file"
            size = os.stat(name, dir_fd=home.fd, follow_symlinks=False).st_size
            if remove:
                os.unlink(name, dir_fd=home.fd)
            yield Leftover(kind, os.path.join(directory, name), size, True, remove, "no engine runs")


def _kept(kind: str, directory: str, name: str, fd: int, why: str) -> Leftover:
    try:
        size = os.stat(name, dir_fd=fd, follow_symlinks=False).st_size
    except FileNotFoundError:  # its engine has finished it
        size = 0
    return Leftover(kind, os.path.join(directory, name), size, False, False, why)


def _leftover_names(fd: int) -> list[str]:
    names = os.listdir(fd)
    found = [name for name in names if name == "engine.sock" or _HALF_WRITTEN.fullmatch(name)]
    if "checkpoints" in names:
        inside = os.open("checkpoints", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
        try:
            beside = [f"checkpoints/{name}" for name in os.listdir(inside)]
        finally:
            os.close(inside)
        found += [name for name in beside if _HALF_WRITTEN.fullmatch(name)]
    return sorted(found)


def _is_dead(home: Home, stack: contextlib.ExitStack) -> bool:
    """Takes all three locks, the starter's, the group's and the writer's; False if somebody has one of them.

    They are kept until the stack unwinds, so that nobody starts a group meanwhile.
    """
    for name, byte in (("GROUP", STARTER_BYTE), ("GROUP", GROUP_BYTE), ("LOCK", 0)):
        lock = stack.enter_context(FileLock(home.fd, name, byte))
        if not lock.acquire(wait=False):
            return False
    return True


# ----------------------------------------------------------------------------------------- memory-only homes


def memory_homes(*, remove: bool) -> Iterator[Leftover]:
    """The private homes that dead memory-only databases of this user have left."""
    base = place.runtime_base()
    prefix = f"memdb-{os.geteuid()}-"
    for name in sorted(os.listdir(base)):
        path = os.path.join(base, name)
        if name.startswith(prefix) and place.is_memory_home(path) and not os.path.islink(path):
            found = _memory_home(path, remove=remove)
            if found is not None:
                yield found


def _memory_home(path: str, *, remove: bool) -> Leftover | None:
    try:
        home = Home(path)
    except OSError:  # it has gone meanwhile
        return None
    with contextlib.ExitStack() as stack:
        stack.callback(home.close)
        if os.fstat(home.fd).st_uid != os.geteuid():
            return None
        names = os.listdir(home.fd)
        if _STARTED not in names:
            return Leftover(
                "memory home", path, 0, False, False, "its engine may be starting just now, no lock can tell"
            )
        # A group of a memory home is started once: with its three locks free it is dead for good.
        if not _is_dead(home, stack):
            return None
        size = sum(os.stat(name, dir_fd=home.fd, follow_symlinks=False).st_size for name in names)
        if remove:
            home.remove()
        return Leftover(
            "memory home", path, size, True, remove, "no engine runs, and its data has gone with it"
        )


# ------------------------------------------------------------------------------------------- shared memory


def in_shared_memory(*, remove: bool, directory: str = _SHM) -> Iterator[Leftover]:
    """Named segments of this user: one has a name for microseconds only, unless its maker was killed then."""
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return
    for name in names:
        if _SEGMENT.fullmatch(name):
            found = _segment(os.path.join(directory, name), remove=remove)
            if found is not None:
                yield found


def _segment(path: str, *, remove: bool) -> Leftover | None:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # it has gone meanwhile, or belongs to somebody else
        return None
    try:
        facts = os.fstat(fd)
        if facts.st_uid != os.geteuid() or not stat.S_ISREG(facts.st_mode):
            return None
        if not _is_nobodys(fd):
            return Leftover("segment", path, facts.st_blocks * 512, False, False, "a process has it open")
        if remove:  # under the lease: an open would wait, and find no name
            os.unlink(path)
        return Leftover(
            "segment", path, facts.st_blocks * 512, True, remove, "no process has it open or mapped"
        )
    except FileNotFoundError:
        return None
    finally:
        os.close(fd)


def _is_nobodys(fd: int) -> bool:
    """Takes a write lease: the kernel grants it only if this is the file's only open, mappings counted.

    False too where it can't be had.
    """
    try:
        # Who opens the file meanwhile has this process told by a signal: one that is ignored by default.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError:
        return False
    return True
