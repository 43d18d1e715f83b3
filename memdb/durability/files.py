"""The file-and-clock seam: every byte that durability reads or writes goes through one of these objects.

Owns: access to the files of one database directory, relative to its descriptor (rule L9), and the time.

Invariants:

* Nothing above this module opens a path: a directory that was renamed or replaced is never followed.
* What is durable is what ``datasync`` (bytes, size) and ``sync_dir`` (names) have returned for; nothing else
  is assumed. ``MemoryFiles`` keeps exactly that apart, by sectors of 512 bytes, so that a test can take away
  the rest.
* ``MemoryFiles.on_operation`` is called before every change, and ``on_read`` before everything else: a test
  counts, kills or fails there; ``on_write`` says how many bytes of a write are taken. A sync that fails there
  loses what it should have written, as the page cache does: it stays readable, and a later sync that succeeds
  does not make it durable.
* The kernel's loop writes the log through ``File.descriptor`` by itself. A file that has a ``watcher`` tells
  it of these writes, so that nothing goes past the seam unseen.
"""

import abc
import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Clock", "File", "Files", "MemoryFiles", "RealClock", "RealFiles", "SettableClock", "Watcher"]

SECTOR: Final = 512
_ZEROS: Final = bytes(1 << 20)


class Clock(abc.ABC):
    """Time, replaceable in tests."""

    @abc.abstractmethod
    def time_us(self) -> int:
        """Microseconds since 1970."""

    @abc.abstractmethod
    def monotonic(self) -> float:
        """Seconds from some point on; never goes back."""


class RealClock(Clock):
    """The system's clocks."""

    def time_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()


class SettableClock(Clock):
    """A clock that a test moves."""

    def __init__(self, now_us: int = 1_700_000_000_000_000) -> None:
        self.now_us = now_us

    def advance(self, seconds: float) -> None:
        """Move on by ``seconds``."""
        self.now_us += int(seconds * 1e6)

    def time_us(self) -> int:
        return self.now_us

    def monotonic(self) -> float:
        return self.now_us / 1e6


class Watcher(abc.ABC):
    """Is told of each write that the kernel's loop makes through a file's descriptor, in its thread."""

    @abc.abstractmethod
    def before(self, data: bytes, offset: int) -> None:
        """It is about to write. OSError: it does not, and the write has failed with that."""

    @abc.abstractmethod
    def after(self, data: bytes, offset: int) -> None:
        """It has written this (fewer bytes than it wanted, if the write was short)."""


class File(abc.ABC):
    """One open file. All offsets and sizes in bytes; errors are OSError."""

    path: str
    descriptor: int | None = None
    """A real descriptor that the kernel's loop may write through, or None."""
    watcher: Watcher | None = None
    """Whom the kernel's loop tells when it does."""

    @abc.abstractmethod
    def pread(self, length: int, offset: int) -> bytes:
        """Up to ``length`` bytes from ``offset``; fewer only at the end of the file."""

    @abc.abstractmethod
    def pread_into(self, buffer: memoryview, offset: int) -> int:
        """Fills ``buffer``; how many bytes there were."""

    @abc.abstractmethod
    def pwrite(self, data: bytes | memoryview, offset: int) -> int:
        """Writes; how many bytes (all, unless the disk fills up)."""

    @abc.abstractmethod
    def datasync(self) -> None:
        """Makes bytes and size durable. After an error nothing is known about either (rule L5)."""

    @abc.abstractmethod
    def size(self) -> int: ...

    @abc.abstractmethod
    def close(self) -> None: ...

    def write_all(self, data: bytes | memoryview, offset: int) -> None:
        """Writes all of ``data`` or raises OSError."""
        view = memoryview(data)
        while view:
            done = self.pwrite(view, offset)
            if done <= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
            view, offset = view[done:], offset + done

    def fill_zeros(self, start: int, end: int) -> None:
        """Writes zeros to [start, end): the blocks exist from now on, so that a later write can't lack
        room."""
        while start < end:
            length = min(end - start, len(_ZEROS))
            self.write_all(memoryview(_ZEROS)[:length], start)
            start += length


class Files(abc.ABC):
    """The files of one directory; paths are relative to it, with ``/``."""

    @abc.abstractmethod
    def open(self, path: str, *, write: bool = False, create: bool = False) -> File:
        """Open; ``create``: a new, empty file (an old one of that name is unlinked first), 0600."""

    @abc.abstractmethod
    def listdir(self, directory: str = "") -> list[str]:
        """Sorted names; empty if there is no such directory."""

    @abc.abstractmethod
    def mkdir(self, path: str) -> None:
        """0700; nothing happens if it exists."""

    @abc.abstractmethod
    def rename(self, old: str, new: str) -> None: ...

    @abc.abstractmethod
    def unlink(self, path: str) -> None:
        """Nothing happens if it does not exist."""

    @abc.abstractmethod
    def sync_dir(self, directory: str = "") -> None:
        """Makes names in a directory durable."""

    @abc.abstractmethod
    def identity(self) -> tuple[int, int]:
        """(device, inode) of the directory."""

    def place(self) -> str:
        """The directory's path now, for messages and commands that people run."""
        return "DIRECTORY"

    def exists(self, path: str) -> bool:
        directory, _, name = path.rpartition("/")
        return name in self.listdir(directory)

    def read(self, path: str) -> bytes | None:
        """A whole small file, or None if there is none."""
        try:
            file = self.open(path)
        except FileNotFoundError:
            return None
        try:
            return file.pread(file.size(), 0)
        finally:
            file.close()

    def write_durably(self, path: str, data: bytes) -> None:
        """Creates or replaces ``path``: beside it, synced, renamed, its directory synced."""
        self.prepare(path, data)
        self.replace(path)

    def prepare(self, path: str, data: bytes) -> None:
        """The first half of `write_durably`: what needs room on the disk."""
        file = self.open(f"{path}.tmp", write=True, create=True)
        try:
            file.write_all(data, 0)
            file.datasync()
        finally:
            file.close()

    def replace(self, path: str) -> None:
        """The second half of `write_durably`: what was prepared takes the place."""
        self.rename(f"{path}.tmp", path)
        self.sync_dir(path.rpartition("/")[0])


# ------------------------------------------------------------------------------------------------------ real


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    """Errors of calls that know a descriptor only name the file, too."""
    try:
        yield
    except OSError as error:
        error.filename = path
        raise


class _RealFile(File):
    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self.descriptor: int = descriptor

    def pread(self, length: int, offset: int) -> bytes:
        with _named(self.path):
            return self._pread(length, offset)

    def _pread(self, length: int, offset: int) -> bytes:
        parts = []
        while length > 0:
            part = os.pread(self.descriptor, length, offset)
            if not part:
                break
            parts.append(part)
            length, offset = length - len(part), offset + len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def pread_into(self, buffer: memoryview, offset: int) -> int:
        done = 0
        with _named(self.path):
            while done < len(buffer):
                got = os.preadv(self.descriptor, [buffer[done:]], offset + done)
                if got == 0:
                    break
                done += got
        return done

    def pwrite(self, data: bytes | memoryview, offset: int) -> int:
        with _named(self.path):
            return os.pwrite(self.descriptor, data, offset)

    def datasync(self) -> None:
        with _named(self.path):
            os.fdatasync(self.descriptor)

    def size(self) -> int:
        with _named(self.path):
            return os.fstat(self.descriptor).st_size

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class RealFiles(Files):
    """A directory of the file system, held by its descriptor (which stays the caller's)."""

    def __init__(self, dir_fd: int) -> None:
        self.dir_fd = dir_fd

    @classmethod
    def at(cls, path: str) -> "RealFiles":
        """The directory at ``path``, with a descriptor of its own: close() it."""
        return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def close(self) -> None:
        """Closes the directory's descriptor."""
        os.close(self.dir_fd)

    def open(self, path: str, *, write: bool = False, create: bool = False) -> File:
        flags = (os.O_RDWR if write or create else os.O_RDONLY) | os.O_CLOEXEC | os.O_NOFOLLOW
        if create:
            self.unlink(path)
            flags |= os.O_CREAT | os.O_EXCL
        return _RealFile(path, os.open(path, flags, 0o600, dir_fd=self.dir_fd))

    def _directory(self, path: str) -> int:
        return os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.dir_fd)

    def listdir(self, directory: str = "") -> list[str]:
        try:
            descriptor = self._directory(directory)
        except FileNotFoundError:
            return []
        try:
            with _named(directory):
                return sorted(os.listdir(descriptor))
        finally:
            os.close(descriptor)

    def mkdir(self, path: str) -> None:
        try:
            os.mkdir(path, 0o700, dir_fd=self.dir_fd)
        except FileExistsError:
            pass

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new, src_dir_fd=self.dir_fd, dst_dir_fd=self.dir_fd)

    def unlink(self, path: str) -> None:
        try:
            os.unlink(path, dir_fd=self.dir_fd)
        except FileNotFoundError:
            pass

    def sync_dir(self, directory: str = "") -> None:
        descriptor = self._directory(directory)
        try:
            with _named(directory):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def place(self) -> str:
        return os.readlink(f"/proc/self/fd/{self.dir_fd}")

    def identity(self) -> tuple[int, int]:
        status = os.fstat(self.dir_fd)
        return status.st_dev, status.st_ino


# -------------------------------------------------------------------------------------------------- in memory


@dataclass
class _Node:
    current: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    dirty: set[int] = field(default_factory=set)  # sectors that differ, or may
    lost: set[int] = field(default_factory=set)  # of these a sync has failed: no later one writes them


class _MemoryFile(File):
    def __init__(self, files: "MemoryFiles", path: str, node: _Node) -> None:
        self.path, self._files, self._node = path, files, node

    def pread(self, length: int, offset: int) -> bytes:
        self._files.reading("pread", self.path)
        return bytes(self._node.current[offset : offset + length])

    def pread_into(self, buffer: memoryview, offset: int) -> int:
        data = self.pread(len(buffer), offset)
        buffer[: len(data)] = data
        return len(data)

    def pwrite(self, data: bytes | memoryview, offset: int) -> int:
        self._files.operation("pwrite", self.path)
        if self._files.on_write is not None:
            data = memoryview(data)[: self._files.on_write(self.path, len(data))]
        with self._files.lock:
            node = self._node
            if len(node.current) < offset:
                node.current.extend(bytes(offset - len(node.current)))
            node.current[offset : offset + len(data)] = data
            if data:
                written = range(offset // SECTOR, (offset + len(data) - 1) // SECTOR + 1)
                node.dirty.update(written)
                node.lost.difference_update(written)
        return len(data)

    def datasync(self) -> None:
        try:
            self._files.operation("datasync", self.path)
        except OSError:
            with self._files.lock:
                _drop_dirty(self._node)
            raise
        with self._files.lock:
            _make_durable(self._node)

    def size(self) -> int:
        self._files.reading("size", self.path)
        return len(self._node.current)

    def close(self) -> None:
        pass


Keep = Callable[[str, int], bool]
"""Which unsynced things a power cut leaves: called with a path and a sector number (-1: the name itself)."""


class MemoryFiles(Files):
    """A directory in memory that knows what is durable. One instance is one life of the machine.

    >>> files = MemoryFiles(); file = files.open("a", create=True); file.write_all(b"x" * 600, 0)
    >>> files.crash(lambda path, sector: False).listdir()
    []
    """

    def __init__(self, identity: tuple[int, int] = (1, 1)) -> None:
        self._identity = identity
        self._names: dict[str, _Node] = {}
        self._directories: set[str] = {""}
        self._durable_names: dict[str, _Node] = {}
        self._durable_directories: set[str] = {""}
        self.lock = threading.RLock()
        self.dead: BaseException | None = None
        self.operations = 0
        self.on_operation: Callable[[str, str], None] | None = None
        self.on_read: Callable[[str, str], None] | None = None
        self.on_write: Callable[[str, int], int] | None = None

    # -- what tests do --

    def operation(self, kind: str, path: str) -> None:
        """Counts one change and lets the test's hook fail it. A hook that raises no OSError kills the
        process."""
        self.check_alive()
        self.operations += 1
        if self.on_operation is not None:
            try:
                self.on_operation(kind, path)
            except OSError:
                raise
            except BaseException as error:
                self.dead = error
                raise

    def reading(self, kind: str, path: str) -> None:
        """Lets the test's hook fail a call that changes nothing: open, pread, size, listdir."""
        self.check_alive()
        if self.on_read is not None:
            self.on_read(kind, path)

    def check_alive(self) -> None:
        if self.dead is not None:
            raise self.dead

    def survivor(self) -> "MemoryFiles":
        """What the next process finds after a kill -9: everything that was written, synced or not."""
        after = MemoryFiles(self._identity)
        copies = {id(node): _copy(node) for node in (*self._names.values(), *self._durable_names.values())}
        after._names = {path: copies[id(node)] for path, node in self._names.items()}
        after._durable_names = {path: copies[id(node)] for path, node in self._durable_names.items()}
        after._directories = set(self._directories)
        after._durable_directories = set(self._durable_directories)
        return after

    def crash(self, keep: Keep) -> "MemoryFiles":
        """What the next boot finds after a power cut: durable things, and of the rest what ``keep``
        chooses."""
        after = MemoryFiles(self._identity)
        after._directories = set(self._durable_directories)
        after._directories |= {d for d in self._directories - after._directories if keep(d, -1)}
        names = dict(self._durable_names)
        for path in sorted(self._names.keys() | names.keys()):
            if self._names.get(path) is not names.get(path) and keep(path, -1):
                if path in self._names:
                    names[path] = self._names[path]
                else:
                    del names[path]
        for path, node in names.items():
            if path.rpartition("/")[0] in after._directories:
                data = _after_power_cut(node, path, keep)
                after._names[path] = _Node(bytearray(data), bytearray(data))
        after._durable_names = dict(after._names)
        after._durable_directories = set(after._directories)
        return after

    def copied(self, identity: tuple[int, int]) -> "MemoryFiles":
        """The directory as ``cp -a`` leaves it elsewhere."""
        after = self.survivor()
        after._identity = identity
        return after

    def damage(self, path: str, offset: int, mask: int = 1) -> None:
        """Flips bits of one byte, durably."""
        self._names[path].current[offset] ^= mask
        self._names[path].durable[offset] ^= mask

    def contents(self, path: str) -> bytearray:
        """The bytes themselves, to change as a test likes."""
        return self._names[path].current

    # -- the seam --

    def open(self, path: str, *, write: bool = False, create: bool = False) -> File:
        if not create:
            self.reading("open", path)
            if path not in self._names:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            return _MemoryFile(self, path, self._names[path])
        self.unlink(path)
        self.operation("create", path)
        if path.rpartition("/")[0] not in self._directories:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        self._names[path] = _Node()
        return _MemoryFile(self, path, self._names[path])

    def listdir(self, directory: str = "") -> list[str]:
        self.reading("listdir", directory)
        prefix = f"{directory}/" if directory else ""
        names = {
            path[len(prefix) :] for path in (*self._names, *self._directories) if path.startswith(prefix)
        }
        return sorted(name for name in names if name and "/" not in name)

    def mkdir(self, path: str) -> None:
        if path not in self._directories:
            self.operation("mkdir", path)
            self._directories.add(path)

    def rename(self, old: str, new: str) -> None:
        if old not in self._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), old)
        self.operation("rename", new)
        self._names[new] = self._names.pop(old)

    def unlink(self, path: str) -> None:
        if path in self._names:
            self.operation("unlink", path)
            del self._names[path]

    def sync_dir(self, directory: str = "") -> None:
        self.operation("sync_dir", directory)
        for path in [p for p in self._durable_names if p.rpartition("/")[0] == directory]:
            del self._durable_names[path]
        self._durable_names.update(
            {p: n for p, n in self._names.items() if p.rpartition("/")[0] == directory}
        )
        inside = {d for d in self._directories if d and d.rpartition("/")[0] == directory}
        self._durable_directories |= inside

    def identity(self) -> tuple[int, int]:
        return self._identity


def _copy(node: _Node) -> _Node:
    return _Node(bytearray(node.current), bytearray(node.durable), set(node.dirty), set(node.lost))


def _drop_dirty(node: _Node) -> None:
    """A sync has failed: what it should have written counts as clean from now on, and is not on the disk."""
    node.lost |= node.dirty
    node.dirty.clear()


def _make_durable(node: _Node) -> None:
    before, node.durable = node.durable, bytearray(node.current)
    for sector in node.lost:
        start, end = sector * SECTOR, min((sector + 1) * SECTOR, len(node.current))
        node.durable[start:end] = before[start:end].ljust(end - start, b"\0")
    node.dirty.clear()


def _after_power_cut(node: _Node, path: str, keep: Keep) -> bytes:
    data = bytearray(node.durable)
    for sector in sorted(node.dirty | node.lost):
        if keep(path, sector):
            start = sector * SECTOR
            piece = node.current[start : start + SECTOR]
            if len(data) < start + len(piece):
                data.extend(bytes(start + len(piece) - len(data)))
            data[start : start + len(piece)] = piece
    return bytes(data)
