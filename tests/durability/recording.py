"""A recording of every change that passes through the seam for files, with its data, in order.

Owns: ``Trace`` (what was done) and ``RecordingFiles`` (over real or in-memory files).

Invariants:

* An operation is in the trace once it was done: what the trace does not hold yet may be on the disk or not. A
  sync covers what was done when it began (``since``), whatever other threads do meanwhile.
* Files are told apart by a number, as the file system does by inodes: a rename changes names only.
* The kernel's loop writes the log itself where there is a descriptor: it tells the file's watcher, which is
  this recording.
* ``hook`` sees each change before it is made: an OSError fails it, any other exception is the death of the
  process, after which nothing is done any more.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from memdb.durability.files import File, Files, Watcher

Hook = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Operation:
    """One change. ``kind``: create, write, sync, rename, unlink, mkdir, syncdir. ``number``: which file."""

    kind: str
    path: str
    number: int = 0
    offset: int = 0
    data: bytes = b""
    target: str = ""
    since: int = 0


@dataclass
class Trace:
    """What was done to one directory, from ``files`` (path to number) and ``contents`` (by number) on."""

    files: dict[str, int] = field(default_factory=dict)
    contents: dict[int, bytes] = field(default_factory=dict)
    directories: set[str] = field(default_factory=lambda: {""})
    operations: list[Operation] = field(default_factory=list)


class RecordingFiles(Files):
    """Passes everything on to ``inner`` and keeps what was changed in ``trace``."""

    def __init__(self, inner: Files, hook: Hook | None = None) -> None:
        self.inner, self.hook = inner, hook
        self.dead: BaseException | None = None
        self.lock = threading.Lock()
        self.trace = Trace()
        self._numbers: dict[str, int] = {}
        self._directories = {""}
        self._next = 1
        self._take_stock("")
        self.trace.files = dict(self._numbers)
        self.trace.directories = set(self._directories)

    def _take_stock(self, directory: str) -> None:
        for name in self.inner.listdir(directory):
            path = f"{directory}/{name}" if directory else name
            try:
                content = self.inner.read(path)
            except IsADirectoryError:
                content = None
            if content is None:
                self._directories.add(path)
                self._take_stock(path)
            else:
                self.trace.contents[self._next] = content
                self._numbers[path], self._next = self._next, self._next + 1

    # -- for the files of this directory --

    def check_alive(self) -> None:
        if self.dead is not None:
            raise self.dead

    def about(self, kind: str, path: str) -> None:
        """A change is about to be made."""
        self.check_alive()
        if self.hook is not None:
            try:
                self.hook(kind, path)
            except OSError:
                raise
            except BaseException as error:
                self.dead = error
                raise

    def done(self, operation: Operation) -> None:
        """It was made."""
        with self.lock:
            self.trace.operations.append(operation)

    # -- the seam --

    def open(self, path: str, *, write: bool = False, create: bool = False) -> File:
        if not create:
            self.check_alive()
            return _RecordingFile(self, self.inner.open(path, write=write), self._numbers[path])
        self.unlink(path)
        self.about("create", path)
        inner = self.inner.open(path, create=True)
        with self.lock:
            number, self._next = self._next, self._next + 1
            self._numbers[path] = number
        self.done(Operation("create", path, number))
        return _RecordingFile(self, inner, number)

    def listdir(self, directory: str = "") -> list[str]:
        self.check_alive()
        return self.inner.listdir(directory)

    def mkdir(self, path: str) -> None:
        if path in self._directories:
            return
        self.about("mkdir", path)
        self.inner.mkdir(path)
        self._directories.add(path)
        self.done(Operation("mkdir", path))

    def rename(self, old: str, new: str) -> None:
        self.about("rename", new)
        self.inner.rename(old, new)
        with self.lock:
            self._numbers[new] = self._numbers.pop(old)
        self.done(Operation("rename", old, self._numbers[new], target=new))

    def unlink(self, path: str) -> None:
        self.check_alive()
        if path not in self._numbers:
            return
        self.about("unlink", path)
        self.inner.unlink(path)
        with self.lock:
            number = self._numbers.pop(path)
        self.done(Operation("unlink", path, number))

    def sync_dir(self, directory: str = "") -> None:
        self.about("syncdir", directory)
        since = len(self.trace.operations)
        self.inner.sync_dir(directory)
        self.done(Operation("syncdir", directory, since=since))

    def identity(self) -> tuple[int, int]:
        return self.inner.identity()


class _RecordingFile(File, Watcher):
    def __init__(self, files: RecordingFiles, inner: File, number: int) -> None:
        self.path, self._files, self._inner, self._number = inner.path, files, inner, number
        self.descriptor = inner.descriptor
        self.watcher = self if inner.descriptor is not None else None

    def before(self, data: bytes, offset: int) -> None:
        self._files.about("write", self.path)

    def after(self, data: bytes, offset: int) -> None:
        self._files.done(Operation("write", self.path, self._number, offset, data))

    def pread(self, length: int, offset: int) -> bytes:
        self._files.check_alive()
        return self._inner.pread(length, offset)

    def pread_into(self, buffer: memoryview, offset: int) -> int:
        self._files.check_alive()
        return self._inner.pread_into(buffer, offset)

    def pwrite(self, data: bytes | memoryview, offset: int) -> int:
        self._files.about("write", self.path)
        done = self._inner.pwrite(data, offset)
        self.after(bytes(data[:done]), offset)
        return done

    def datasync(self) -> None:
        self._files.about("sync", self.path)
        since = len(self._files.trace.operations)
        self._inner.datasync()
        self._files.done(Operation("sync", self.path, self._number, since=since))

    def size(self) -> int:
        self._files.check_alive()
        return self._inner.size()

    def close(self) -> None:
        self._inner.close()
