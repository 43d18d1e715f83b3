"""The damage: generators of cases on bytes, records and segments.

Owns: what is done to the files. A case changes one file for the moment of its verdict, and puts it back.

A case is (label, path, offset of the first changed byte, new content, are whole sectors zeroed?).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from durability.rig import Machine

from memdb.durability import segments
from memdb.durability.files import MemoryFiles
from memdb.shm import _kernel as kernel
from stress.damage.scenes import Scene

SECTOR = 512
HEADER = kernel.SEGMENT_HEADER


@dataclass(frozen=True)
class Case:
    """One file's damage. ``content`` None: the file is gone."""

    label: str
    path: str
    offset: int
    content: bytes | bytearray | None
    zeroed: bool = False


def bits(scene: Scene, path: str, at: Iterable[int]) -> Iterator[Case]:
    """Every bit of the bytes at these offsets, one at a time."""
    content = bytearray(scene.files.contents(path))
    for offset in at:
        for bit in range(8):
            content[offset] ^= 1 << bit
            yield Case(f"bit {bit} of byte {offset} of {path}", path, offset, content)
            content[offset] ^= 1 << bit


def values(scene: Scene, path: str, at: Iterable[int]) -> Iterator[Case]:
    """Each byte to 00 and to FF."""
    content = bytearray(scene.files.contents(path))
    for offset, value in itertools.product(at, (0x00, 0xFF)):
        before = content[offset]
        if before == value:
            continue
        content[offset] = value
        yield Case(f"byte {offset} of {path} to {value:02x}", path, offset, content)
        content[offset] = before


def lengths(scene: Scene, path: str, of: Iterable[int]) -> Iterator[Case]:
    """The file cut off."""
    content = bytes(scene.files.contents(path))
    for length in of:
        yield Case(f"{path} cut to {length} bytes", path, length, content[:length])


def sectors(scene: Scene, path: str, count: int = 1) -> Iterator[Case]:
    """Each sector zeroed, or as many in a row."""
    content = bytes(scene.files.contents(path))
    for at in range(0, len(content), SECTOR):
        zeroed = content[:at] + bytes(min(SECTOR * count, len(content) - at)) + content[at + SECTOR * count :]
        if zeroed != content:
            first = next(place for place in range(at, len(content)) if content[place])
            yield Case(f"sectors from byte {at} of {path} zeroed", path, first, zeroed, zeroed=True)


def records_of(image: bytes, path: str) -> list[tuple[int, int]]:
    """(offset, length) of every record of a segment."""
    salt = segments.read_header(image, path).salt
    found, offset = [], HEADER
    while (record := kernel.record_read(image, offset, salt)).verdict == kernel.RECORD_GOOD:
        found.append((offset, record.padded))
        offset += record.padded
    return found


def records(scene: Scene, path: str, other: Scene) -> Iterator[Case]:
    """Records dropped, doubled, swapped, put over each other, or taken from another database."""
    image = bytes(scene.files.contents(path))
    size, found = len(image), records_of(image, path)
    foreign = bytes(other.files.contents(path))
    theirs = records_of(foreign, path)
    for number, (at, length) in enumerate(found):
        here = image[at : at + length]
        dropped = image[:at] + image[at + length :] + bytes(length)
        # The last one dropped: a log that ended before it. What is durable is told elsewhere.
        yield Case(f"record {number} dropped", path, at, dropped, zeroed=number == len(found) - 1)
        yield Case(
            f"record {number} doubled",
            path,
            at + length,
            (image[: at + length] + here + image[at + length :])[:size],
        )
        if number + 1 < len(found):
            behind, more = found[number + 1]
            swapped = image[:at] + image[behind : behind + more] + here + image[behind + more :]
            yield Case(f"records {number} and {number + 1} swapped", path, at, swapped)
        for target, _ in (found[0], found[len(found) // 2], found[-1]):
            if target != at:
                over = bytearray(image)
                over[target : target + length] = here
                yield Case(f"record {number} put at {target}", path, target, bytes(over[:size]))
        if number < len(theirs):
            start, count = theirs[number]
            over = bytearray(image)
            over[at : at + count] = foreign[start : start + count]
            yield Case(f"record {number} of another database", path, at, bytes(over[:size]))


@dataclass(frozen=True)
class FilesCase:
    """A directory of its own that was damaged as a whole."""

    label: str
    files: MemoryFiles


def whole_files(scene: Scene, other: Scene, earlier: Scene) -> Iterator[FilesCase]:
    """Each file gone, empty, of another database, or of an earlier time; each two of a kind swapped; each
    doubled under another's name, or under one that nobody knows."""
    paths = [
        f"{directory}/{name}"
        for directory in ("wal", "checkpoints")
        for name in scene.files.listdir(directory)
    ]
    for path in [*paths, "MANIFEST"]:
        for label, content in (
            ("gone", None),
            ("empty", b""),
            ("zeros", bytes(len(scene.files.contents(path)))),
            ("of another database", _same_place(other, scene, path)),
            ("of an earlier time", earlier.files.read(path)),
        ):
            if label == "gone" or (content is not None and content != scene.files.read(path)):
                yield FilesCase(f"{path} {label}", _with(scene.files, {path: content}))
    for one, two in itertools.permutations(paths, 2):
        if one.split("/")[0] == two.split("/")[0]:
            here, there = scene.files.read(one), scene.files.read(two)
            yield FilesCase(f"{one} doubled as {two}", _with(scene.files, {two: here}))
            if one < two:
                yield FilesCase(f"{one} and {two} swapped", _with(scene.files, {one: there, two: here}))
    for path in paths:
        folder, _, name = path.rpartition("/")
        unknown = f"{folder}/{int(name.split('.')[0]) + 50:0{len(name.split('.')[0])}d}.{name.split('.')[1]}"
        yield FilesCase(f"{path} doubled as {unknown}", _with(scene.files, {unknown: scene.files.read(path)}))
        yield FilesCase(
            f"a foreign {unknown}", _with(scene.files, {unknown: _same_place(other, scene, path)})
        )


def both_checkpoints(scene: Scene, chance: random.Random) -> FilesCase:
    """Somewhere in each checkpoint a bit, a sector, or all that follows."""
    files, labels = scene.files.survivor(), []
    for name in files.listdir("checkpoints"):
        content = files.contents(f"checkpoints/{name}")
        at, how = chance.randrange(len(content)), chance.choice(("bit", "bit", "sector", "end"))
        labels.append(f"{how} at {at} of {name}")
        if how == "bit":
            content[at] ^= 1 << chance.randrange(8)
        elif how == "sector":
            start = at // SECTOR * SECTOR
            content[start : start + SECTOR] = bytes(len(content[start : start + SECTOR]))
        else:
            del content[at:]
    return FilesCase(", ".join(labels), files)


def _same_place(other: Scene, scene: Scene, path: str) -> bytes | None:
    """The file of another database that plays the part of ``path``."""
    directory, _, name = path.rpartition("/")
    names = other.files.listdir(directory) if directory else [name]
    position = scene.files.listdir(directory).index(name) if directory else 0
    return other.files.read(f"{directory}/{names[min(position, len(names) - 1)]}" if directory else name)


def _with(files: MemoryFiles, changed: dict[str, bytes | None]) -> MemoryFiles:
    after = files.survivor()
    for path, content in changed.items():
        if content is None:
            after.unlink(path)
        else:
            after.open(path, create=True).write_all(content, 0)
    return after


def mixed_directories(seed: int) -> Iterator[tuple[FilesCase, Scene, Scene, frozenset[str]]]:
    """(case, older, newer, the parts taken from the older): directories put together of two moments of one
    database: MANIFEST, wal/ and checkpoints/ each from one of them."""
    from stress.damage.scenes import Writer, small

    writer = Writer(seed, Machine(options=small(keep_segments=0)))
    moments = []
    for _ in range(5):
        for _ in range(6):
            writer.pair("full")
        moments.append(writer.scene())
        writer.machine.engine.rotate()
        writer.pair("full")
        moments.append(writer.scene())
        writer.checkpoint()
        moments.append(writer.scene())
    parts = ("MANIFEST", "wal", "checkpoints")
    for older, newer in itertools.combinations(moments, 2):
        for count in range(1, 4):
            for old_parts in itertools.combinations(parts, count):
                files = MemoryFiles()
                for part in parts:
                    _copy_part((older if part in old_parts else newer).files, files, part)
                label = f"{'+'.join(old_parts)} of LSN {older.latest}, the rest of {newer.latest}"
                yield FilesCase(label, files), older, newer, frozenset(old_parts)


def _copy_part(source: MemoryFiles, target: MemoryFiles, part: str) -> None:
    if part == "MANIFEST":
        target.open(part, create=True).write_all(source.read(part) or b"", 0)
        return
    target.mkdir(part)
    for name in source.listdir(part):
        target.open(f"{part}/{name}", create=True).write_all(source.read(f"{part}/{name}") or b"", 0)
