"""A directory in memory that costs next to nothing to make: one state of a disk, as a process finds it.

Owns: names and bytes. Invariant: it knows nothing of what is durable; that is told from the trace (power.py).
Contents are shared with the state that it was made from until they are written to.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping

from memdb.durability.files import File, Files

IDENTITY = (1, 1)


class Disk(Files):
    """Files by their paths.

    >>> Disk({"a": b"x"}).read("a")
    b'x'
    """

    def __init__(self, contents: Mapping[str, bytes] | None = None, directories: Iterable[str] = ()) -> None:
        self.nodes = {path: _Node(content) for path, content in (contents or {}).items()}
        self.directories = {"", *directories}

    def contents(self) -> dict[str, bytes]:
        """All files as they are now."""
        return {path: bytes(node.content) for path, node in self.nodes.items()}

    def copy(self) -> Disk:
        """Another one with the same files."""
        return Disk(self.contents(), self.directories)

    def open(self, path: str, *, write: bool = False, create: bool = False) -> File:
        if create:
            if path.rpartition("/")[0] not in self.directories:
                raise _missing(path)
            self.nodes[path] = _Node(b"")
        elif path in self.directories:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        elif path not in self.nodes:
            raise _missing(path)
        return _DiskFile(path, self.nodes[path])

    def listdir(self, directory: str = "") -> list[str]:
        prefix = f"{directory}/" if directory else ""
        inside = (path[len(prefix) :] for path in (*self.nodes, *self.directories) if path.startswith(prefix))
        return sorted(name for name in inside if name and "/" not in name)

    def mkdir(self, path: str) -> None:
        self.directories.add(path)

    def rename(self, old: str, new: str) -> None:
        if old not in self.nodes:
            raise _missing(old)
        self.nodes[new] = self.nodes.pop(old)

    def unlink(self, path: str) -> None:
        self.nodes.pop(path, None)

    def sync_dir(self, directory: str = "") -> None:
        if directory not in self.directories:
            raise _missing(directory)

    def identity(self) -> tuple[int, int]:
        return IDENTITY


def _missing(path: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


class _Node:
    __slots__ = ("content",)

    def __init__(self, content: bytes | bytearray) -> None:
        self.content = content


class _DiskFile(File):
    def __init__(self, path: str, node: _Node) -> None:
        self.path, self._node = path, node

    def pread(self, length: int, offset: int) -> bytes:
        return bytes(self._node.content[offset : offset + length])

    def pread_into(self, buffer: memoryview, offset: int) -> int:
        data = self._node.content[offset : offset + len(buffer)]
        buffer[: len(data)] = data
        return len(data)

    def pwrite(self, data: bytes | memoryview, offset: int) -> int:
        content = self._node.content
        if not isinstance(content, bytearray):
            content = self._node.content = bytearray(content)
        if len(content) < offset:
            content.extend(bytes(offset - len(content)))
        content[offset : offset + len(data)] = data
        return len(data)

    def datasync(self) -> None:
        pass

    def size(self) -> int:
        return len(self._node.content)

    def close(self) -> None:
        pass
