"""Facts about this machine that memdb depends on: read, not judged (doctor.py does that).

Owns: where Linux tells them. Every reader takes the roots of /proc and /sys as arguments, so that tests can
give it any machine.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Feature", "MemoryGroup", "clock_source", "features", "memory_group"]

_SO_PEERPIDFD: Final = 77
_UNLIMITED: Final = 1 << 60  # version 1 writes "no limit" as a number near 2**63


# ------------------------------------------------------------------------------------------- control groups


@dataclass(frozen=True)
class MemoryGroup:
    """The memory control group whose limit is met first. Bytes; ``limit`` is None where there is none.

    ``shared``: the part of ``used`` that is tmpfs and other shared memory, None if it is not told.
    """

    version: int
    path: str
    limit: int | None
    used: int | None
    shared: int | None


def memory_group(proc: Path = Path("/proc"), sys: Path = Path("/sys/fs/cgroup")) -> MemoryGroup | None:
    """The tightest limit above this process, of version 2 or 1; None without a memory controller."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return None
    by_controller = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            by_controller[controller] = path
    if "memory" in by_controller:
        return _tightest(sys / "memory", by_controller["memory"], 1)
    return _tightest(sys, by_controller[""], 2) if "" in by_controller else None


def _tightest(root: Path, path: str, version: int) -> MemoryGroup | None:
    groups = [group for one in _upwards(root, path) if (group := _group(one, version)) is not None]
    # Of several without a limit the innermost says most.
    return min(groups, key=lambda group: _UNLIMITED if group.limit is None else group.limit, default=None)


def _upwards(root: Path, path: str) -> list[Path]:
    """From the process's own group to the root, innermost first.

    In a container /proc may name the group as the host sees it, while only its own subtree is mounted.
    """
    inner = root / path.strip("/")
    if not inner.is_dir():
        inner = root
    found = [inner]
    while found[-1] != root:
        found.append(found[-1].parent)
    return found


def _group(path: Path, version: int) -> MemoryGroup | None:
    limit_name, used_name, shared_names = (
        ("memory.max", "memory.current", ("shmem",))
        if version == 2
        else ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_shmem", "shmem"))
    )
    used = _number(path / used_name)
    limit = _number(path / limit_name)
    if used is None and limit is None and not (path / limit_name).exists():
        return None
    statistics = _statistics(path / "memory.stat")
    shared = next((statistics[name] for name in shared_names if name in statistics), None)
    return MemoryGroup(
        version, str(path), None if limit is None or limit >= _UNLIMITED else limit, used, shared
    )


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _statistics(path: Path) -> dict[str, int]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines)
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


# ---------------------------------------------------------------------------------------------- the kernel


@dataclass(frozen=True)
class Feature:
    """A service of the kernel. ``error``: why it is not there, or None; ``needed``: memdb needs it."""

    name: str
    needed: bool
    error: str | None
    meaning: str


def features() -> list[Feature]:
    """Each is tried, not looked up: containers forbid what the kernel has."""
    return [
        _try("memfd_create", True, "the log buffer", _memfd),
        _try("open-file-description locks", True, "who is the group and who the writer", _ofd_lock),
        _try("fallocate and hole punching", True, "memory reserved and given back", _punch),
        _try("pidfd_open", True, "death as the kernel tells it", _pidfd),
        _try("inotify", False, "a removed directory is noticed at once", _inotify),
        _try("SO_PEERPIDFD", False, "else a pidfd is opened by pid right after accept", _peer_pidfd),
    ]


def _try(name: str, needed: bool, meaning: str, probe: Callable[[], None]) -> Feature:
    try:
        probe()
    except (OSError, AttributeError) as error:
        return Feature(name, needed, str(error), meaning)
    return Feature(name, needed, None, meaning)


def _memfd() -> None:
    os.close(os.memfd_create("memdb-doctor", os.MFD_CLOEXEC))


def _ofd_lock() -> None:
    fd = os.memfd_create("memdb-doctor", os.MFD_CLOEXEC)
    try:
        request = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, request)
    finally:
        os.close(fd)


def _punch() -> None:
    keep_size, punch_hole = 1, 2
    fd = os.memfd_create("memdb-doctor", os.MFD_CLOEXEC)
    try:
        os.posix_fallocate(fd, 0, 8192)
        libc = ctypes.CDLL(None, use_errno=True)
        size = ctypes.c_int64
        if libc.fallocate(fd, keep_size | punch_hole, size(0), size(4096)) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(fd)


def _pidfd() -> None:
    os.close(os.pidfd_open(os.getpid()))


def _inotify() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_CLOEXEC)
    if fd < 0:
        number = ctypes.get_errno()
        limit = " (fs.inotify.max_user_instances is reached)" if number == errno.EMFILE else ""
        raise OSError(number, os.strerror(number) + limit)
    os.close(fd)


def _peer_pidfd() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        raw = ours.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, 4)
    os.close(struct.unpack("i", raw)[0])


# ----------------------------------------------------------------------------------------------- the clock


def clock_source(sys: Path = Path("/sys")) -> str | None:
    """What the kernel's clock reads, as ``tsc``; None if it does not tell."""
    place = sys / "devices/system/clocksource/clocksource0/current_clocksource"
    try:
        return place.read_text().strip()
    except OSError:
        return None
