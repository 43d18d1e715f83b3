"""Torn or damaged: what a log segment's bytes are worth (rule L3). Pure functions over bytes.

Owns: the judgement of one segment: where its good part ends, and why.

Invariants:

* D is the highest durable LSN that any valid record or mark tells, also behind a hole. A hole at or below D
  is damage.
* Above D a hole is a tear, cut there, even if valid records follow; but a bad record without a whole aligned
  sector of zeros can't be a tear in zero-filled space, and is damage. What a record has of the sector that it
  begins in counts as one: that sector may be on disk as it was when only the record before it was written.
* Checksums come before versions: only a record that checks can be too new.
* A segment has its full size before its first record: one that is shorter was cut by something else.
"""

from dataclasses import dataclass
from typing import Final

from memdb.durability.manifest import SegmentEntry
from memdb.errors import CorruptionError, FormatTooNew
from memdb.shm import _kernel as kernel

__all__ = ["Judgement", "judge_ended", "judge_open", "scan_beyond"]

_SECTOR: Final = 512
_RECORD_HEADER: Final = 80


@dataclass(frozen=True)
class Judgement:
    """The good part of a segment is [header, end). ``kind``: whole, torn (something to cut), damaged
    (``why``)."""

    kind: str
    end: int
    last_lsn: int
    """Of the last good commit; 0 if the segment has none."""
    last_crc: int
    durable_lsn: int
    lsn_limit: int
    link: kernel.Link | None
    stray_end: int
    """Behind the last byte that is not zero."""
    why: str = ""
    lost_lsn: int = 0
    """The highest LSN seen behind the hole."""


def scan_beyond(image: bytes | memoryview, offset: int, salt: int) -> tuple[int, int, int]:
    """(D, LSN limit, highest LSN) of all valid record headers at or behind ``offset``: also behind a hole."""
    durable = limit = highest = 0
    while True:
        record = kernel.record_find(image, offset, salt)
        if record is None:
            return durable, limit, highest
        durable, highest = max(durable, record.durable_lsn), max(highest, record.lsn)
        if record.verdict == kernel.RECORD_GOOD and record.type != kernel.RECORD_COMMIT:
            limit = max(limit, int.from_bytes(record.body[:8], "little"))
        good = record.verdict == kernel.RECORD_GOOD
        offset = record.offset + (record.padded if good else 8)


def judge_ended(image: bytes, path: str, entry: SegmentEntry) -> Judgement:
    """A segment whose end the manifest knows: all of it was durable, so whatever is missing is damage."""
    if entry.end is None:
        raise ValueError(f"{path} has no end")
    scan = kernel.replay_scan(memoryview(image)[: entry.end.offset], kernel.SEGMENT_HEADER, entry.salt)
    _refuse_newer(scan, image, path, entry)
    whole = scan.end_offset == entry.end.offset and scan.last_crc == entry.end.crc
    why = "" if whole else "a record that was durable is damaged or gone"
    return Judgement(
        "whole" if whole else "damaged",
        min(scan.end_offset, len(image)),
        scan.last_lsn,
        scan.last_crc,
        scan.durable_lsn,
        scan.lsn_limit,
        scan.link,
        kernel.last_nonzero(image, scan.end_offset),
        why,
    )


def judge_open(image: bytes, path: str, entry: SegmentEntry, durable_lsn: int) -> Judgement:
    """The segment that was written when the writer ended. ``durable_lsn``: D as known from elsewhere."""
    scan = kernel.replay_scan(image, kernel.SEGMENT_HEADER, entry.salt)
    _refuse_newer(scan, image, path, entry)
    hole = min(scan.end_offset, len(image))
    stray_end = kernel.last_nonzero(image, hole)
    durable, limit, highest = scan_beyond(image, hole, entry.salt) if stray_end > hole else (0, 0, 0)
    durable = max(durable, durable_lsn, scan.durable_lsn)
    last_lsn = max(scan.last_lsn, entry.after_lsn)
    why = ""
    if len(image) < entry.capacity:  # made whole, zeros and all, before it was used
        why = f"the file ends at byte {len(image)} of {entry.capacity}"
    elif durable > last_lsn:
        why = f"LSN {durable} was durable, the log can be read up to {last_lsn}"
    elif stray_end > hole and scan.verdict != kernel.RECORD_END and not _can_be_torn(image, scan, entry.salt):
        why = "a record is bad, and no sector of zeros in it: a crash does not do that"
    kind = "damaged" if why else ("torn" if stray_end > hole else "whole")
    return Judgement(
        kind,
        hole,
        scan.last_lsn,
        scan.last_crc,
        durable,
        max(limit, scan.lsn_limit),
        scan.link,
        stray_end,
        why,
        highest,
    )


def _can_be_torn(image: bytes, scan: kernel.ReplayResult, salt: int) -> bool:
    record = kernel.record_read(image, scan.end_offset, salt)
    extent = record.padded if record.verdict == kernel.RECORD_BAD_BODY else _RECORD_HEADER
    end = -(-(scan.end_offset + extent) // _SECTOR) * _SECTOR
    return bool(kernel.torn_like(image, scan.end_offset, min(end, len(image))))


def _refuse_newer(scan: kernel.ReplayResult, image: bytes, path: str, entry: SegmentEntry) -> None:
    if scan.verdict == kernel.RECORD_TOO_NEW:
        raise FormatTooNew(
            f"{path} has at offset {scan.end_offset} a record of a later version of memdb: use a newer memdb"
        )


def damage(path: str, judgement: Judgement, entry: SegmentEntry) -> CorruptionError:
    """The error for a damaged segment."""
    lsn = max(judgement.last_lsn, entry.after_lsn) + 1
    return CorruptionError(
        f"{path} is damaged from byte {judgement.end} on, where LSN {lsn} should be: {judgement.why}",
        path,
        judgement.end,
        lsn,
    )
