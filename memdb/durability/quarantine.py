"""What recovery leaves out, kept: quarantine/.

Owns: the files in quarantine/. Nothing here is ever read again or deleted by memdb.

Invariants:

* What is cut is copied and synced, with its name, before a manifest that leaves it out.
* A file is moved only if nothing that counts needs it in its place: a damaged checkpoint that a whole one
  replaces, one that no manifest ever named, or a file of another database, which is never deleted.
"""

import re
from typing import Final

from memdb.durability import checkpoints, segments
from memdb.durability.files import Files
from memdb.durability.manifest import Manifest
from memdb.durability.report import Cut
from memdb.errors import CorruptionError, FormatTooNew
from memdb.shm import _kernel as kernel

__all__ = ["keep", "keep_whole", "move", "move_beyond", "name_for", "remove_or_move"]

DIRECTORY: Final = "quarantine"
_WHOLE: Final = re.compile(r"[0-9]{20}\.ckpt")
_STEP: Final = 1 << 20


def name_for(path: str, offset: int) -> str:
    """Where the bytes of a file from an offset on are kept."""
    name = path.rpartition("/")[2].removesuffix(".log")
    return f"{DIRECTORY}/{name}-{offset}.cut"


def keep(files: Files, cut: Cut) -> None:
    """Copies the bytes of a cut, durably; bytes that the disk does not give are zeros."""
    if cut.bytes <= 0 or not cut.quarantine:
        return
    _copy(files, cut.file, cut.offset, cut.bytes, cut.quarantine)


def keep_whole(files: Files, path: str) -> str:
    """Copies a whole file, durably; where it is kept."""
    kept = f"{DIRECTORY}/{path.rpartition('/')[2]}"
    file = files.open(path)
    try:
        size = file.size()
    finally:
        file.close()
    _copy(files, path, 0, size, kept)
    return kept


def _copy(files: Files, path: str, offset: int, length: int, kept: str) -> None:
    files.mkdir(DIRECTORY)
    source, beside = files.open(path), f"{kept}.tmp"
    try:
        target = files.open(beside, write=True, create=True)
        try:
            for at in range(0, length, _STEP):
                piece = segments.read_around(source, min(_STEP, length - at), offset + at)
                target.write_all(piece, at)
            target.datasync()
        finally:
            target.close()
    finally:
        source.close()
    files.rename(beside, kept)
    files.sync_dir(DIRECTORY)
    files.sync_dir()


def move(files: Files, path: str, prefix: str = "") -> str:
    """Moves a file that nothing needs in its place; where it is now."""
    directory, _, name = path.rpartition("/")
    kept = f"{DIRECTORY}/{prefix}{name}"
    files.mkdir(DIRECTORY)
    files.sync_dir()
    files.rename(path, kept)
    files.sync_dir(DIRECTORY)
    files.sync_dir(directory)
    return kept


def move_beyond(files: Files, now: Manifest, lsn: int) -> list[str]:
    """Moves checkpoints that were never named and are of a state behind ``lsn``: what a power cut has taken,
    or a MANIFEST that is an old copy does not know. Where they are now."""
    named = frozenset(one.path for one in now.checkpoints)
    paths = [f"checkpoints/{name}" for name in files.listdir("checkpoints") if _WHOLE.fullmatch(name)]
    beyond = f"checkpoints/{lsn:020d}.ckpt"
    return [move(files, path, "beyond-") for path in paths if path not in named and path > beyond]


def remove_or_move(files: Files, now: Manifest) -> list[str]:
    """At a start: unfinished and retired files of this database go; others' are moved to quarantine; those
    moved."""
    known = frozenset((now.database, *now.ancestors))
    named = frozenset(one.path for one in now.checkpoints)
    moved = []
    for name in files.listdir("checkpoints"):
        path = f"checkpoints/{name}"
        if name.endswith(".ckpt") and path not in named and _is_foreign_checkpoint(files, path, known):
            moved.append(move(files, path, "foreign-"))
    checkpoints.remove_leftovers(files, named)
    numbers = {one.number for one in now.segments}
    for number in segments.segment_numbers(files):
        if number in numbers:
            continue
        path = segments.path_of(number)
        if _is_foreign_segment(files, path, known):
            moved.append(move(files, path, "foreign-"))
        else:
            files.unlink(path)
    return moved


def _is_foreign_checkpoint(files: Files, path: str, known: frozenset[bytes]) -> bool:
    file = files.open(path)
    try:
        return checkpoints.read_header(file, path).database not in known
    except FormatTooNew:
        return True
    except CorruptionError:  # half of one, or a damaged one that was retired
        return False
    finally:
        file.close()


def _is_foreign_segment(files: Files, path: str, known: frozenset[bytes]) -> bool:
    file = files.open(path)
    try:
        head = file.pread(kernel.SEGMENT_HEADER, 0)
        try:
            return segments.read_header(head, path).database not in known
        except FormatTooNew:
            return True
        except CorruptionError:  # a spare that was not finished holds zeros
            image = file.pread(file.size(), 0)
            return bool(kernel.last_nonzero(image, kernel.SEGMENT_HEADER) > kernel.SEGMENT_HEADER)
    finally:
        file.close()
