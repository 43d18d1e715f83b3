"""MANIFEST: the only truth about which files belong to a database (docs/formats/manifest.md).

Owns: the file's bytes and the typed form of what they say.

Invariants:

* It is replaced whole: written beside, synced, renamed, directory synced. A torn one can't exist; one that
  does not check is damage.
* What it does not name does not belong to the database: a segment is named before the first commit goes into
  it, a checkpoint when it is complete, checksummed, synced and re-read.
* A manifest that is missing beside data files is an error, never a new database.
"""

import struct
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from typing import Any, Final, TypeVar

import msgpack

from memdb.durability.advice import with_command
from memdb.durability.files import Files
from memdb.errors import CorruptionError, FormatTooNew, NotADatabase
from memdb.shm import _kernel as kernel

__all__ = ["CheckpointEntry", "Manifest", "SegmentEnd", "SegmentEntry", "decode", "encode", "load", "store"]

PATH: Final = "MANIFEST"
FORMAT: Final = 1
MAGIC: Final = b"MEMDBMAN"
SEGMENT_MAX: Final = 10**16 - 1
"""Segments have numbers of 16 digits at most."""
_ID: Final = 16  # bytes of an id, and of a digest
_NUMBER_MAX: Final = (1 << 63) - 1
_MOST: Final = {
    **dict.fromkeys(("lsn", "after_lsn", "follows_lsn", "durable_lsn", "lsn_limit"), (1 << 48) - 1),
    **dict.fromkeys(("number", "next_segment"), SEGMENT_MAX),
    **dict.fromkeys(("device", "inode", "salt"), (1 << 64) - 1),
}
EMPTY_LSN: Final = 1
"""The LSN of an empty database: in an arena, a published LSN of 0 means torn down."""
_HEADER: Final = struct.Struct(
    "<8sIIII"
)  # magic, format, length of body, CRC of body, CRC of the header before it
OURS: Final = frozenset(
    [
        "MANIFEST",
        "MANIFEST.tmp",
        "GROUP",
        "LOCK",
        "GENERATION",
        "engine.sock",
        "engine.log",
        "wal",
        "checkpoints",
        "quarantine",
        "backups",
    ]
)
"""Names that the database itself makes in its directory."""


@dataclass(frozen=True)
class SegmentEnd:
    """Where a segment's part of the log ends for ever. ``kind``: sealed, cut (by recovery) or fenced (rule
    L5)."""

    kind: str
    offset: int
    lsn: int
    crc: int


@dataclass(frozen=True)
class SegmentEntry:
    """One segment of the log. ``after_lsn``: its commits are above it; ``end`` None: open."""

    number: int
    salt: int
    capacity: int
    after_lsn: int
    term: int
    end: SegmentEnd | None = None
    follows_lsn: int | None = None
    """The LSN of the state that its first commit is applied to; None: ``after_lsn``. Numbers between the two
    were left out (rule L4), or are commits of a failed log that were never published (rule L5)."""

    @property
    def follows(self) -> int:
        """Whoever has the state at this LSN lacks nothing before this segment."""
        return self.after_lsn if self.follows_lsn is None else self.follows_lsn


@dataclass(frozen=True)
class CheckpointEntry:
    """One complete checkpoint."""

    lsn: int
    keys: int
    size: int
    """Bytes of its blocks."""
    time_us: int
    salt: int
    digest: bytes

    @property
    def path(self) -> str:
        return f"checkpoints/{self.lsn:020d}.ckpt"


@dataclass(frozen=True)
class Manifest:
    """What belongs to the database. ``state``: creating (L8), ready. ``logged`` False: durability none."""

    state: str
    logged: bool
    database: bytes
    ancestors: tuple[bytes, ...]
    device: int
    inode: int
    term: int
    next_segment: int
    durable_lsn: int
    lsn_limit: int
    created_us: int
    segments: tuple[SegmentEntry, ...] = ()
    checkpoints: tuple[CheckpointEntry, ...] = ()
    reports: tuple[dict[str, Any], ...] = field(default=())

    @property
    def oldest_lsn(self) -> int:
        """The log holds every commit above this LSN (EMPTY_LSN: from the beginning)."""
        return self.segments[0].follows if self.segments else self.durable_lsn

    def with_segment(self, entry: SegmentEntry, **changes: Any) -> "Manifest":
        """The next manifest: ``entry`` added as the newest segment."""
        others = tuple(one for one in self.segments if one.number != entry.number)
        return replace(
            self, segments=(*others, entry), next_segment=max(self.next_segment, entry.number + 1), **changes
        )

    def with_checkpoint(self, entry: CheckpointEntry) -> "Manifest":
        """The next manifest: a checkpoint counts."""
        others = tuple(one for one in self.checkpoints if one.lsn != entry.lsn)
        return replace(self, checkpoints=tuple(sorted((*others, entry), key=lambda one: one.lsn)))

    def with_end(self, number: int, end: SegmentEnd) -> "Manifest":
        """The next manifest: a segment has ended."""
        ended = tuple(replace(one, end=end) if one.number == number else one for one in self.segments)
        return replace(self, segments=ended, durable_lsn=max(self.durable_lsn, end.lsn))


def encode(manifest: Manifest) -> bytes:
    """The bytes of a manifest."""
    body: bytes = msgpack.packb(asdict(manifest), use_bin_type=True)
    header = _HEADER.pack(MAGIC, FORMAT, len(body), kernel.crc32c(body), 0)[:-4]
    return header + struct.pack("<I", kernel.crc32c(header)) + body


def decode(data: bytes) -> Manifest:
    """The inverse; CorruptionError names where it does not check, FormatTooNew a later version."""
    if len(data) < _HEADER.size:
        raise _damaged(f"it has {len(data)} bytes, fewer than its header", 0)
    magic, version, length, body_crc, header_crc = _HEADER.unpack_from(data)
    if magic != MAGIC or header_crc != kernel.crc32c(data[: _HEADER.size - 4]):
        raise _damaged("its header does not check", 0)
    body = data[_HEADER.size : _HEADER.size + length]
    if len(body) != length or len(data) != _HEADER.size + length or kernel.crc32c(body) != body_crc:
        raise _damaged("its body does not check", _HEADER.size)
    if version > FORMAT:
        raise FormatTooNew(
            f"MANIFEST has format {version}, this version of memdb reads up to {FORMAT}: use a newer memdb",
            found=version,
            supported=FORMAT,
        )
    try:
        return _typed(msgpack.unpackb(body, raw=False, strict_map_key=False))
    except (ValueError, TypeError, LookupError, msgpack.exceptions.UnpackException) as error:
        why = f"its checksums fit, and what it says can't be ({type(error).__name__}: {error})"
        raise _damaged(why, _HEADER.size) from error


def _typed(raw: dict[str, Any]) -> Manifest:
    segments = tuple(
        _made(SegmentEntry, one, end=None if one["end"] is None else _made(SegmentEnd, one["end"]))
        for one in raw["segments"]
    )
    checkpoints = tuple(_made(CheckpointEntry, one) for one in raw["checkpoints"])
    lists = {"ancestors": tuple(raw["ancestors"]), "reports": tuple(raw["reports"])}
    if not all(type(one) is bytes and len(one) == _ID for one in lists["ancestors"]):
        raise ValueError("an ancestor that is no id")
    if not all(type(one) is dict for one in lists["reports"]):
        raise ValueError("a report that is no map")
    made = _made(Manifest, raw, segments=segments, checkpoints=checkpoints, **lists)
    numbers = [*(one.number for one in segments), made.next_segment]
    if any(one >= other for one, other in pairwise(numbers)):
        raise ValueError(f"segments {numbers}, which do not rise")
    return made


_Part = TypeVar("_Part", SegmentEnd, SegmentEntry, CheckpointEntry, Manifest)


def _made(kind: type[_Part], raw: dict[str, Any], **parts: Any) -> _Part:
    """One of the classes above; members are of the types that they are declared with, and in range."""
    members = {one.name: raw[one.name] for one in fields(kind) if one.name not in parts and one.name in raw}
    for one in fields(kind):
        value: Any = members.get(one.name)
        if one.name not in members or (value is None and one.default is None):
            continue
        wanted: Any = int if one.name == "follows_lsn" else one.type
        fits = type(value) is wanted
        if wanted is int:
            fits = fits and 0 <= value <= _MOST.get(one.name, _NUMBER_MAX)
        elif wanted is bytes:
            fits = fits and len(value) == _ID
        if not fits:
            raise ValueError(f"{kind.__name__}.{one.name} is {value!r:.40}")
    return kind(**members, **parts)


def _damaged(why: str, offset: int) -> CorruptionError:
    return CorruptionError(f"MANIFEST is damaged: {why} (the data files may be sound)", PATH, offset)


def load(files: Files) -> Manifest | None:
    """The directory's manifest; None if this is a directory to create a database in.

    CorruptionError: damaged, or missing beside data files. NotADatabase: the directory holds other things.
    """
    data = files.read(PATH)
    if data is not None:
        try:
            return decode(data)
        except CorruptionError as error:
            raise with_command(error, files, "salvage") from error
    stray = [f"wal/{name}" for name in files.listdir("wal")]
    stray += [f"checkpoints/{name}" for name in files.listdir("checkpoints")]
    if stray:
        missing = CorruptionError(
            f"MANIFEST is missing beside data files ({stray[0]} and {len(stray) - 1} more): "
            "this is no new database (to begin anew, move the files away)",
            PATH,
        )
        raise with_command(missing, files, "salvage")
    foreign = [name for name in files.listdir() if name not in OURS]
    if foreign:
        raise NotADatabase(
            f"the directory holds other things ({', '.join(foreign[:3])}) and no MANIFEST: "
            "give memdb a directory of its own"
        )
    return None


def prepare(files: Files, manifest: Manifest) -> None:
    """Does all of `store` that needs room on the disk; `put_in_force` does the rest."""
    files.prepare(PATH, encode(manifest))


def put_in_force(files: Files) -> None:
    """Makes the manifest that was prepared the truth."""
    files.replace(PATH)


def store(files: Files, manifest: Manifest) -> None:
    """Makes ``manifest`` the truth, durably."""
    files.write_durably(PATH, encode(manifest))
