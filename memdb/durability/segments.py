"""Log segments: their names, headers and making (docs/formats/wal.md; records are the kernel's record.h).

Owns: wal/<number>.log, from zeros to the first record.

Invariants (rule L1):

* A segment is zero-filled and synced, with its name, before a record goes into it; nothing is ever written
  over with other bytes.
* The header is the manifest's entry again (database, number, salt, capacity): a file under a wrong name is
  noticed.
"""

import errno
import secrets
import struct
from dataclasses import dataclass
from typing import Final

from memdb.durability.files import File, Files
from memdb.durability.manifest import SEGMENT_MAX, SegmentEntry
from memdb.errors import CorruptionError, FormatTooNew
from memdb.shm import _kernel as kernel

__all__ = [
    "FIRST_BYTES",
    "SegmentHeader",
    "create",
    "next_capacity",
    "path_of",
    "read_around",
    "read_header",
    "segment_numbers",
]

FORMAT: Final = 1
MAGIC: Final = b"MEMDBWAL"
FIRST_BYTES: Final = 1 << 20
_HEADER: Final = struct.Struct("<8sII16sQQQQI")
_PAGE: Final = 4096
HEADER_BYTES: Final[int] = kernel.SEGMENT_HEADER


@dataclass(frozen=True)
class SegmentHeader:
    """What the first 4 KiB of a segment say."""

    database: bytes
    number: int
    salt: int
    capacity: int
    created_us: int

    def encode(self) -> bytes:
        """The 4096 bytes."""
        head = _HEADER.pack(
            MAGIC, FORMAT, 0, self.database, self.number, self.salt, self.capacity, self.created_us, 0
        )[:-4]
        return (head + struct.pack("<I", kernel.crc32c(head))).ljust(HEADER_BYTES, b"\0")


def path_of(number: int) -> str:
    """The file of a segment."""
    return f"wal/{number:016d}.log"


def segment_numbers(files: Files) -> list[int]:
    """Numbers of all segment files in the directory, named in the manifest or not."""
    names = [name.removesuffix(".log") for name in files.listdir("wal") if name.endswith(".log")]
    return sorted(int(name) for name in names if name.isdigit())


def read_header(data: bytes, path: str) -> SegmentHeader:
    """The header of a segment's bytes; CorruptionError, FormatTooNew."""
    head = data[: _HEADER.size]
    if len(head) < _HEADER.size:
        raise CorruptionError(f"{path} is too short for a log segment", path, len(head))
    magic, version, _, database, number, salt, capacity, created_us, crc = _HEADER.unpack(head)
    if magic != MAGIC or crc != kernel.crc32c(head[:-4]):
        raise CorruptionError(f"the header of {path} is damaged; restore the file from a backup", path, 0)
    if number > SEGMENT_MAX:
        raise CorruptionError(f"the header of {path} says number {number}: no segment has it", path, 32)
    if version > FORMAT:
        raise FormatTooNew(
            f"{path} has format {version}, this version of memdb reads up to {FORMAT}: use a newer memdb",
            found=version,
            supported=FORMAT,
        )
    return SegmentHeader(database, number, salt, capacity, created_us)


def check_header(data: bytes, entry: SegmentEntry, known: frozenset[bytes]) -> None:
    """Raises CorruptionError unless the segment's header is the one that the manifest means."""
    path = path_of(entry.number)
    header = read_header(data, path)
    if (header.number, header.salt, header.capacity) != (entry.number, entry.salt, entry.capacity):
        raise CorruptionError(
            f"{path} is not the segment that the MANIFEST names (other number or salt)", path, 8
        )
    if header.database not in known:
        raise CorruptionError(f"{path} belongs to another database ({header.database.hex()})", path, 16)


def read_around(file: File, length: int, offset: int) -> bytes:
    """As ``File.pread``, with zeros for what the disk refuses to give (EIO). For copies and for salvage."""
    try:
        return file.pread(length, offset)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
    if length <= _PAGE:
        return bytes(length)
    steps = range(offset, offset + length, _PAGE)
    return b"".join(read_around(file, min(_PAGE, offset + length - at), at) for at in steps)


def next_capacity(previous: int, segment_bytes: int, needed: int) -> int:
    """Double the one before, up to ``segment_bytes``; never less than ``needed``."""
    capacity = max(min(max(previous * 2, FIRST_BYTES), segment_bytes), needed)
    return -(-capacity // 4096) * 4096


def create(
    files: Files, database: bytes, number: int, capacity: int, now_us: int
) -> tuple[File, SegmentHeader]:
    """A segment ready for its first record: header, zeros, all synced, its name too. OSError if the disk is
    full."""
    header = SegmentHeader(database, number, secrets.randbits(63) | 1, capacity, now_us)
    file = files.open(path_of(number), write=True, create=True)
    try:
        file.write_all(header.encode(), 0)
        file.fill_zeros(HEADER_BYTES, capacity)
        file.datasync()
        files.sync_dir("wal")
    except OSError:
        file.close()
        files.unlink(file.path)  # it would fill what is left of the disk
        raise
    except BaseException:
        file.close()
        raise
    return file, header
