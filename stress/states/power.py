"""What a power cut may leave of a directory: the model of the disk.

Owns: the state of a disk under a trace (what is durable, what may be), the pieces that may be there or not,
and the ways to choose among them.

The model. Bytes and size of a file are durable once a sync of it has returned, names once a sync of their
directory has. Everything else is in pieces, each of which is found in any of the versions that it has had
since then, whatever the others are:

* a *sector* of 512 bytes: as it was, or as any write since has left it (so each write may be torn anywhere at
  a sector, lost, or overtaken by a later one); where the file did not reach, zeros or nothing;
* the *size* of a file: the old one, any later one, and some in between where one write made it grow;
* a *name*: what it meant durably, or what any create, rename or unlink since has made of it; a rename is two
  names;
* a *directory*: there, or not, with all that is in it.

Three models of names: `posix` (what is not synced is lost), `ordered` (a journal: of all changes to names, in
their order over all directories, a first part is there), `free` (each on its own).

Invariant: what is possible at a moment stays possible until a sync takes it away. So it is enough to look at
the moments just before a sync, and at the end.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple, cast

from durability.recording import Operation, Trace

SECTOR = 512
EXHAUSTIVE_PIECES = 10
Vector = tuple[int, ...]


class Effort(NamedTuple):
    """Of one moment: all states are tried if they are no more than ``exhaustive`` (and the pieces no more
    than EXHAUSTIVE_PIECES); else ``samples`` are drawn beside the plain ones."""

    samples: int
    exhaustive: int = 1 << EXHAUSTIVE_PIECES


@dataclass(slots=True)
class Inode:
    """One file: what is durable of it, and the writes since, each with its place in the trace."""

    base: bytes = b""
    writes: list[tuple[int, int, bytes]] = field(default_factory=list)

    def sync(self, since: int) -> None:
        """Writes before ``since`` are durable."""
        content = bytearray(self.base)
        for _, offset, data in [one for one in self.writes if one[0] < since]:
            content.extend(bytes(max(0, offset + len(data) - len(content))))
            content[offset : offset + len(data)] = data
        self.base = bytes(content)
        self.writes = [one for one in self.writes if one[0] >= since]


@dataclass(frozen=True, slots=True)
class Piece:
    """Something that is found in one of several versions: the first is durable, the last is the newest."""

    kind: str
    """sector, size, name, directory"""
    key: tuple[int, int] | int | str
    versions: tuple[bytes | int | bool | None, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """The state of a disk after a power cut."""

    files: dict[str, bytes]
    directories: frozenset[str]

    def fingerprint(self) -> int:
        """Equal for equal states."""
        return hash((frozenset(self.files.items()), self.directories))


class Surface:
    """The disk under the operations of a trace that were applied so far."""

    def __init__(self, trace: Trace) -> None:
        self.inodes = {number: Inode(content) for number, content in trace.contents.items()}
        self.names: dict[str, list[int | None]] = {path: [number] for path, number in trace.files.items()}
        self.directories = {path: [True] for path in trace.directories}
        self.changes: list[tuple[int, str, int]] = []  # (place, path, version of its name): not synced
        self.settled = -1  # the last place of a change to a name that is durable
        self.count = 0

    def apply(self, operation: Operation) -> None:
        """The next operation was done."""
        place, self.count = self.count, self.count + 1
        if operation.kind == "create":
            self.inodes[operation.number] = Inode()
            self._change(place, operation.path, operation.number)
        elif operation.kind == "write":
            self.inodes[operation.number].writes.append((place, operation.offset, operation.data))
        elif operation.kind == "sync":
            self.inodes[operation.number].sync(operation.since)
        elif operation.kind == "rename":
            self._change(place, operation.target, operation.number)
            self._change(place, operation.path, None)
        elif operation.kind == "unlink":
            self._change(place, operation.path, None)
        elif operation.kind == "mkdir":
            self.directories[operation.path] = [False, True]
        else:
            self._sync_directory(operation)

    def _change(self, place: int, path: str, number: int | None) -> None:
        versions = self.names.setdefault(path, [None])
        versions.append(number)
        self.changes.append((place, path, len(versions) - 1))

    def _sync_directory(self, operation: Operation) -> None:
        directory = operation.path
        done = [one for one in self.changes if one[0] < operation.since and _parent(one[1]) == directory]
        self.settled = max([self.settled, *(place for place, _, _ in done)])
        for path in {one[1] for one in done}:
            newest = max(version for _, name, version in done if name == path)
            self.names[path] = self.names[path][newest:]
            self.changes = [
                (place, name, version - newest if name == path else version)
                for place, name, version in self.changes
                if name != path or version > newest
            ]
            if self.names[path] == [None]:
                del self.names[path]
        for path in self.directories:
            if path and _parent(path) == directory:
                self.directories[path] = [True]

    # ------------------------------------------------------------------------------------------- pieces

    def pieces(self) -> list[Piece]:
        """What may be found in more than one version."""
        found: list[Piece] = []
        for path, there in self.directories.items():
            if len(there) > 1:
                found.append(Piece("directory", path, (False, True)))
        for path, versions in self.names.items():
            if len(versions) > 1:
                found.append(Piece("name", path, tuple(versions)))
        for number in sorted(
            {one for versions in self.names.values() for one in versions if one is not None}
        ):
            found.extend(_pieces_of(number, self.inodes[number]))
        return found

    def state(self, pieces: list[Piece], vector: Vector, last: bytes | None = None) -> Found:
        """The disk with each piece in the version that ``vector`` names. ``last``: what the last write's last
        sector holds instead."""
        chosen: dict[tuple[str, object], Any] = {
            (one.kind, one.key): one.versions[at] for one, at in zip(pieces, vector, strict=True)
        }
        there = {path for path, had in self.directories.items() if chosen.get(("directory", path), had[0])}
        sectors: dict[int, list[tuple[int, bytes]]] = {}
        for one, at in zip(pieces, vector, strict=True):
            if one.kind == "sector" and at > 0:
                file, sector = cast(tuple[int, int], one.key)
                sectors.setdefault(file, []).append((sector, cast(bytes, one.versions[at])))
        instead = self.last_sector() if last is not None else None
        if instead is not None and last is not None:
            sectors.setdefault(instead[0], []).append((instead[1], last))
        files = {}
        for path, versions in self.names.items():
            number = chosen.get(("name", path), versions[0])
            if number is None or _parent(path) not in there:
                continue
            size = chosen.get(("size", number), len(self.inodes[number].base))
            files[path] = _content(self.inodes[number].base, sectors.get(number, ()), size)
        return Found(files, frozenset(there))

    # ----------------------------------------------------------------------------------- the last piece

    def last_write(self) -> tuple[int, int, bytes] | None:
        """(file, offset, data) of the newest write that is not synced."""
        newest = [
            (writes[-1][0], number, *writes[-1][1:])
            for number, writes in ((number, one.writes) for number, one in self.inodes.items())
            if writes
        ]
        return max(newest)[1:] if newest else None

    def last_sector(self) -> tuple[int, int] | None:
        """(file, sector) in which the newest write ended."""
        write = self.last_write()
        return (write[0], (write[1] + len(write[2]) - 1) // SECTOR) if write is not None else None

    def spoilt(self, pieces: list[Piece], chance: random.Random) -> Iterator[tuple[str, bytes]]:
        """(`zero` or `garbage`, the last sector) where of the last write another thing than its bytes is
        found: only bytes that it would have changed."""
        write = self.last_write()
        where = self.last_sector()
        if write is None or where is None:
            return
        _, offset, data = write
        versions = next((one.versions for one in pieces if one.kind == "sector" and one.key == where), None)
        if versions is None or not isinstance(versions[-1], bytes):
            return
        end = offset + len(data) - where[1] * SECTOR
        newest, before = versions[-1].ljust(end, b"\0"), self._before_last_write(where).ljust(end, b"\0")
        changed = [at for at in range(end) if newest[at] != before[at]]
        for kind, filler in (("zero", bytes(end)), ("garbage", chance.randbytes(end))):
            spoilt = bytearray(newest)
            for at in changed:
                spoilt[at] = filler[at]
            if bytes(spoilt) not in versions:
                yield kind, bytes(spoilt)

    def _before_last_write(self, where: tuple[int, int]) -> bytes:
        """A sector as it was before the newest write to its file."""
        inode, begin = self.inodes[where[0]], where[1] * SECTOR
        content = bytearray(inode.base[begin : begin + SECTOR].ljust(SECTOR, b"\0"))
        for _, offset, data in inode.writes[:-1]:
            start, end = max(offset, begin), min(offset + len(data), begin + SECTOR)
            if start < end:
                content[start - begin : end - begin] = data[start - offset : end - offset]
        return bytes(content)


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _pieces_of(number: int, inode: Inode) -> Iterator[Piece]:
    sectors: dict[int, list[bytes]] = {}
    sizes = [len(inode.base)]
    for _, offset, data in inode.writes:
        size = max(sizes[-1], offset + len(data))
        if size > sizes[-1]:
            torn = range((sizes[-1] // SECTOR + 1) * SECTOR, size, SECTOR)
            sizes += [torn[at] for at in sorted({0, len(torn) // 2, len(torn) - 1})] if torn else []
            sizes.append(size)
        old_end = len(inode.base)
        first, last = offset // SECTOR, (offset + len(data) - 1) // SECTOR
        if (
            offset >= old_end
            and not data.strip(b"\0")
            and not any(one in sectors for one in range(first, last + 1))
        ):
            continue  # zeros where there was nothing: only the size tells
        for sector in range(first, last + 1):
            at = sector * SECTOR
            versions = sectors.setdefault(sector, [inode.base[at : at + SECTOR].ljust(SECTOR, b"\0")])
            start, end = max(offset - at, 0), min(offset + len(data) - at, SECTOR)
            before = versions[-1]
            after = before[:start] + data[at + start - offset : at + end - offset] + before[end:]
            if after != before:
                versions.append(after)
    for sector, versions in sectors.items():
        if len(versions) > 1:
            yield Piece("sector", (number, sector), tuple(versions))
    if len(sizes) > 1:
        yield Piece("size", number, tuple(sizes))


def _content(base: bytes, sectors: list[tuple[int, bytes]] | tuple[()], size: int) -> bytes:
    if not sectors and size == len(base):
        return base
    content = bytearray(base)
    content.extend(bytes(max(0, size - len(content))))
    for sector, data in sectors:
        at = sector * SECTOR
        if at < len(content):
            data = data[: len(content) - at]
            content[at : at + len(data)] = data
    return bytes(content[:size])


# ------------------------------------------------------------------------------------------------- choosing


def vectors(surface: Surface, pieces: list[Piece], chance: random.Random, effort: Effort) -> Iterator[Vector]:
    """All ways to choose versions, if the pieces are few; else the plain ones and some at random."""
    counts = [len(one.versions) for one in pieces]
    if len(pieces) <= EXHAUSTIVE_PIECES and math.prod(counts) <= effort.exhaustive:
        yield from product(*map(range, counts))
        return
    nothing, everything = (0,) * len(pieces), tuple(count - 1 for count in counts)
    yield nothing
    yield everything
    for at in range(len(pieces)):
        yield nothing[:at] + everything[at : at + 1] + nothing[at + 1 :]
        yield everything[:at] + nothing[at : at + 1] + everything[at + 1 :]
    for turn in range(effort.samples):
        yield _at_random(surface, pieces, chance, ("posix", "ordered", "free")[turn % 3])


def _at_random(surface: Surface, pieces: list[Piece], chance: random.Random, model: str) -> Vector:
    share = chance.choice((0.1, 0.5, 0.9))
    ordered = _ordered_names(surface, chance) if model == "ordered" else {}
    chosen = []
    for one in pieces:
        newest = len(one.versions) - 1
        if one.kind == "name" and model != "free":
            chosen.append(ordered.get(str(one.key), 0))
        elif one.kind == "directory" and model == "posix":
            chosen.append(0)
        elif chance.random() < share:
            chosen.append(newest)
        else:
            chosen.append(chance.randrange(newest + 1))
    return tuple(chosen)


def _ordered_names(surface: Surface, chance: random.Random) -> dict[str, int]:
    """Versions of names as a journal leaves them: a first part of all changes, with whatever came before one
    that is durable."""
    places = [-1, *sorted({place for place, _, _ in surface.changes})]
    until = chance.choice([place for place in places if place >= surface.settled] or [places[-1]])
    until = max(until, surface.settled)
    return {path: version for place, path, version in surface.changes if place <= until}
