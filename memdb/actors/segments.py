"""Shared-memory segments and semaphores: made through posix_ipc, unlinked before anybody else sees them.

Owns: the names (random, gone after a few system calls), the sizes, and the check that /dev/shm has room
to begin with.

Invariants:

* Nothing named stays on /dev/shm: a segment lives as long as a descriptor or mapping of it does, so
  whatever dies, nothing leaks, and nobody can squat or remove a segment in use.
* Segments that others write into (lease, board, page) are reserved whole before they are handed out: a
  store into them can't end in SIGBUS. Arenas are sparse; the writer reserves them chunk by chunk.
"""

import errno
import os
import secrets
from dataclasses import dataclass, replace
from typing import Any, Final

import posix_ipc

from memdb.errors import ArenaFullError
from memdb.options import EngineOptions
from memdb.shm import _kernel

__all__ = [
    "ArenaSegment",
    "GroupSegments",
    "check_room",
    "create_arena",
    "create_segment",
    "create_semaphore",
    "room",
]

_SHM: Final = "/dev/shm"
_ATTEMPTS: Final = 8
_BESIDE_ARENA: Final = 4 << 20  # bytes for board and first leases, and what the arena's growth leaves free
_CHUNKS: Final = 64  # an arena grows by this part of max_memory, 64 MiB at most


@dataclass(frozen=True)
class ArenaSegment:
    """One arena: a descriptor to write through (the writer's) and a read-only one (everybody else's)."""

    fd: int
    readonly_fd: int
    size: int

    def close(self) -> None:
        """The segment goes with its last mapping and the descriptors of other processes."""
        os.close(self.fd)
        os.close(self.readonly_fd)


def create_segment(size: int, *, reserve: bool) -> int:
    """A nameless segment of ``size`` bytes of zeros; ``reserve`` backs all of it with memory now."""
    fd, _ = _create(size, with_readonly=False)
    if reserve:
        _reserve(fd, size)
    return fd


def create_arena(size: int) -> ArenaSegment:
    """A nameless sparse segment with a second, read-only descriptor."""
    fd, readonly_fd = _create(size, with_readonly=True)
    return ArenaSegment(fd, readonly_fd, size)


def _create(size: int, *, with_readonly: bool) -> tuple[int, int]:
    for _ in range(_ATTEMPTS):
        name = f"/mdb-{secrets.token_hex(8)}"
        try:
            segment = _open_segment(name, posix_ipc.O_CREX, mode=0o600)
        except posix_ipc.ExistentialError:
            continue
        readonly_fd = -1
        try:
            if with_readonly:
                readonly_fd = _open_segment(name, 0, read_only=True).fd
            os.ftruncate(segment.fd, size)
        except (OSError, posix_ipc.Error):
            for fd in (segment.fd, readonly_fd):
                if fd >= 0:
                    os.close(fd)
            raise
        finally:
            posix_ipc.unlink_shared_memory(name)
        return segment.fd, readonly_fd
    raise ArenaFullError(f"no free name on {_SHM} after {_ATTEMPTS} random ones; is something filling it?")


def _open_segment(name: str, flags: int, **options: Any) -> Any:
    try:
        return posix_ipc.SharedMemory(name, flags, **options)
    except OSError as error:
        if error.errno is None:  # posix_ipc says this one in words only
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), _SHM) from error
        raise


def _reserve(fd: int, size: int) -> None:
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.ENOSPC, errno.ENOMEM):
            raise _full(size) from error
        raise


def create_semaphore() -> Any:
    """A nameless semaphore (posix_ipc.Semaphore) of value 0, for processes forked from this one."""
    for _ in range(_ATTEMPTS):
        name = f"/mdb-{secrets.token_hex(8)}"
        try:
            semaphore = posix_ipc.Semaphore(name, posix_ipc.O_CREX, mode=0o600, initial_value=0)
        except posix_ipc.ExistentialError:
            continue
        semaphore.unlink()
        return semaphore
    raise ArenaFullError(f"no free semaphore name on {_SHM} after {_ATTEMPTS} random ones")


def room() -> tuple[int, int]:
    """(free, all) bytes of /dev/shm."""
    figures = os.statvfs(_SHM)
    return figures.f_bavail * figures.f_frsize, figures.f_blocks * figures.f_frsize


def check_room(needed: int) -> None:
    """Raises ArenaFullError if /dev/shm can't hold what a group needs to begin with."""
    free, _ = room()
    if free < needed:
        raise _full(needed)


def _full(needed: int) -> ArenaFullError:
    free, total = room()
    return ArenaFullError(
        f"{_SHM} is full: {needed >> 10} KiB are needed, {free >> 10} of {total >> 10} KiB are free. Give "
        f"it more room: `docker run --shm-size=1g`, in Kubernetes an emptyDir of medium Memory at {_SHM}, "
        f"else `mount -o remount,size=2G {_SHM}`",
        needed=needed,
        limit=total,
    )


@dataclass(frozen=True)
class GroupSegments:
    """All segments of one group but the leases: descriptors, made by the supervisor, inherited by actors."""

    arenas: tuple[ArenaSegment, ArenaSegment]
    board: int
    logbuf: tuple[int, int] | None  # descriptor and bytes; None without a log
    page: int

    @classmethod
    def create(cls, directory_fd: int, options: EngineOptions, group_id: bytes) -> "GroupSegments":
        """Makes and formats them. ArenaFullError if /dev/shm is full, OSError if GENERATION can't be made."""
        check_room(min(options.max_memory // _CHUNKS, 64 << 20) + _BESIDE_ARENA)
        arena_bytes = _whole_pages(options.max_memory + options.max_memory // 4)
        return cls(
            (create_arena(arena_bytes), create_arena(arena_bytes)),
            _create_board(),
            _create_logbuf(_whole_pages(options.segment_bytes)) if options.logged else None,
            _open_page(directory_fd, group_id),
        )

    def with_fresh_arena(self, parity: int) -> "GroupSegments":
        """The same, but for a new segment in the place of one arena."""
        fresh = create_arena(self.arenas[parity].size)
        return replace(self, arenas=(self.arenas[0], fresh) if parity else (fresh, self.arenas[1]))

    @property
    def readonly_arenas(self) -> tuple[int, int]:
        return self.arenas[0].readonly_fd, self.arenas[1].readonly_fd

    def fds(self) -> set[int]:
        """What an actor keeps open."""
        own = {self.board, self.page, *self.readonly_arenas, *(arena.fd for arena in self.arenas)}
        return own if self.logbuf is None else own | {self.logbuf[0]}


def _whole_pages(size: int) -> int:
    return -(-size // 65536) * 65536


def _create_board() -> int:
    fd = create_segment(_kernel.board_bytes(), reserve=True)
    board = _kernel.Mapping(fd, _kernel.board_bytes(), writable=True)
    _kernel.board_init(board)
    board.close()
    return fd


def _create_logbuf(half: int) -> tuple[int, int]:
    """A memfd, not a segment on /dev/shm.

    Its halves fill as the log grows, and a store into a full tmpfs would be a SIGBUS in the middle of a
    commit. Only processes of this group map it, and they inherit it.
    """
    size = _kernel.logbuf_bytes(half)
    fd = os.memfd_create("memdb-logbuf", os.MFD_CLOEXEC)
    os.ftruncate(fd, size)
    logbuf = _kernel.Mapping(fd, size, writable=True)
    _kernel.logbuf_init(logbuf, half)
    logbuf.close()
    return fd, size


def _open_page(directory_fd: int, group_id: bytes) -> int:
    """GENERATION keeps its word over groups, so that the next epoch differs from all before."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open("GENERATION", flags, 0o600, dir_fd=directory_fd)
    size = _kernel.page_bytes()
    missing = size - os.fstat(fd).st_size
    if missing > 0:
        os.pwrite(fd, bytes(missing), size - missing)
    page = _kernel.Mapping(fd, size, writable=True)
    _kernel.page_init(page, group_id)
    page.close()
    return fd
