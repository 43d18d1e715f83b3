"""Recovery mode `salvage`: the log around its damage, and what whole blocks of damaged checkpoints hold.

Owns: the reading of it. What is changed on disk afterwards is recovery.py's.

Invariants:

* A commit is applied whole or not at all: its record checks, lies in its segment at its place, and parses.
  A block of a checkpoint is taken whole or not at all.
* Nothing is believed without its checksums, which cover the segment's or checkpoint's salt: bytes of another
  database, generation or place are never taken for this one's.
* Every byte that is skipped and held, or may have held, a commit or a key is in a Cut or a KeyHole.
* A torn end above all that was durable is cut as always (rule L3): without damage the result is strict's.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from memdb.durability import checkpoints, judge, quarantine, segments
from memdb.durability.files import File, Files
from memdb.durability.logread import (
    ALL,
    LogReading,
    Piece,
    apply,
    check_chain,
    known_durable,
    may_have_held,
    most_lsns,
    needed,
    torn,
)
from memdb.durability.manifest import EMPTY_LSN, CheckpointEntry, Manifest, SegmentEntry
from memdb.durability.report import Cut, KeyHole
from memdb.errors import CorruptionError, FormatTooNew
from memdb.shm import _kernel as kernel

__all__ = ["apply_all", "oldest", "read_log", "snapshot_reader", "store_from_blocks"]

_Runs = list[tuple[int, int]]


# ------------------------------------------------------------------------------------------------ the log


def read_log(files: Files, manifest: Manifest, above: int) -> LogReading:
    """The good runs of every segment that holds commits above ``above``, and what lies between them."""
    reading, reached = LogReading(), above
    wanted, places = needed(manifest, above), _places(files)
    for position, entry in enumerate(wanted):
        last = position == len(wanted) - 1
        if entry.follows > reached:
            reading.damaged = True
            reading.notes.append(f"commits from LSN {reached + 1} to {entry.follows} are in no file")
        high = max(may_have_held(manifest, entry), reached + 1)
        place = places.get((entry.number, entry.salt), segments.path_of(entry.number))
        image = _image_of(files, entry, place, manifest, reading, reached, high)
        if image is not None:
            durable = known_durable(manifest, above) if last else 0
            piece = _walked(image, entry, place, durable, reading, reached, high)
            try:
                check_chain(piece, manifest, reached)
            except CorruptionError as error:  # strict would not open it again
                reading.damaged = True
                reading.notes.append(error.message)
            reading.pieces.append(piece)
            reached = max(reached, piece.judgement.last_lsn)
        reached = max(reached, entry.end.lsn if entry.end else 0)
    return reading


def _places(files: Files) -> dict[tuple[int, int], str]:
    """Where the segment of a number and salt lies, whatever its file is called."""
    found = {}
    for name in files.listdir("wal"):
        file = files.open(f"wal/{name}")
        try:
            header = segments.read_header(segments.read_around(file, kernel.SEGMENT_HEADER, 0), name)
        except (CorruptionError, FormatTooNew):
            continue
        finally:
            file.close()
        found[header.number, header.salt] = f"wal/{name}"
    return found


def _image_of(
    files: Files,
    entry: SegmentEntry,
    place: str,
    manifest: Manifest,
    reading: LogReading,
    reached: int,
    high: int,
) -> bytes | None:
    """The bytes of a segment, wherever they are; None if there are none that can be its own."""
    path = segments.path_of(entry.number)
    try:
        file = files.open(place)
    except FileNotFoundError:
        reading.damaged = True
        reading.cuts.append(Cut(path, 0, 0, reached + 1, high, "missing", "", "named in the MANIFEST"))
        return None
    try:
        image = segments.read_around(file, file.size(), 0)
    finally:
        file.close()
    if place != path:
        reading.damaged = True
        reading.notes.append(f"{path} was found as {place}")
        return image
    why = _header_problem(image, entry, manifest)
    if why is None:
        return image
    reading.damaged = True
    if (
        kernel.record_find(image, kernel.SEGMENT_HEADER, entry.salt) is None
    ):  # nothing of it is this segment's
        size = kernel.last_nonzero(image, 0)
        kept = quarantine.name_for(path, 0)
        reading.cuts.append(Cut(path, 0, size, reached + 1, high, "foreign", kept, why))
        return None
    reading.cuts.append(
        Cut(path, 0, kernel.SEGMENT_HEADER, 0, 0, "damage", quarantine.name_for(path, 0), why)
    )
    return image


def _header_problem(image: bytes, entry: SegmentEntry, manifest: Manifest) -> str | None:
    try:
        segments.check_header(image, entry, frozenset((manifest.database, *manifest.ancestors)))
    except (CorruptionError, FormatTooNew) as error:
        return error.message
    return None


def _walked(
    image: bytes, entry: SegmentEntry, path: str, durable: int, reading: LogReading, reached: int, high: int
) -> Piece:
    """One segment's good runs. The end of an open one is judged as always first: it may just be torn."""
    if entry.end is None:
        judgement = judge.judge_open(image, path, entry, durable)
        if judgement.kind != "damaged":
            piece = Piece(entry, image, judgement, [(kernel.SEGMENT_HEADER, judgement.end)], path)
            if judgement.kind == "torn":
                reading.cuts.append(torn(piece, max(reached, judgement.last_lsn)))
            return piece
    else:
        judgement = judge.judge_ended(image, path, entry)
        if judgement.kind == "whole":
            return Piece(entry, image, judgement, [(kernel.SEGMENT_HEADER, judgement.end)], path)
    reading.damaged = True
    runs, holes, last_lsn = _good_runs(image, entry, max(reached, entry.after_lsn))
    if entry.end is None and len(image) >= entry.capacity:  # all that it held is in these bytes
        high = max(judgement.durable_lsn, judgement.lost_lsn)
    for start, end, first, behind in holes:
        last = behind or max(most_lsns(first - 1, end - start), high)
        kept = quarantine.name_for(path, start)
        reading.cuts.append(Cut(path, start, end - start, first, last, "damage", kept, judgement.why))
    found = replace(judgement, last_lsn=last_lsn, end=runs[-1][1] if runs else kernel.SEGMENT_HEADER)
    return Piece(entry, image, found, runs, path)


def _limit(image: bytes, entry: SegmentEntry) -> int:
    return min(len(image), entry.end.offset) if entry.end is not None else len(image)


def _good_runs(
    image: bytes, entry: SegmentEntry, reached: int
) -> tuple[_Runs, list[tuple[int, int, int, int]], int]:
    """(runs, holes as (start, end, first LSN, last LSN or 0 if unknown), last LSN read)."""
    part = memoryview(image)[: _limit(image, entry)]
    path, offset, last = segments.path_of(entry.number), kernel.SEGMENT_HEADER, reached
    runs: _Runs = []
    holes = []
    while True:
        scan = kernel.replay_scan(part, offset, entry.salt)
        if scan.verdict == kernel.RECORD_TOO_NEW:
            raise FormatTooNew(f"{path} has at offset {scan.end_offset} a record of a later version of memdb")
        if scan.end_offset > offset:
            runs.append((offset, scan.end_offset))
        last = max(last, scan.last_lsn)
        at = scan.end_offset
        beyond = kernel.record_find(part, at + 8, entry.salt)
        while beyond is not None and beyond.verdict != kernel.RECORD_GOOD:
            beyond = kernel.record_find(part, beyond.offset + 8, entry.salt)
        if beyond is None:
            end = len(part) if entry.end is not None else kernel.last_nonzero(part, at)
            if end > at or len(image) < entry.capacity:
                holes.append((at, end, last + 1, 0))
            return runs, holes, last
        behind = beyond.lsn - 1 if beyond.type == kernel.RECORD_COMMIT else beyond.lsn
        holes.append((at, beyond.offset, last + 1, max(behind, last + 1)))
        offset = beyond.offset


def apply_all(store: kernel.Store, reading: LogReading, after_lsn: int, up_to: int = ALL) -> tuple[int, int]:
    """Applies what a reading found above ``after_lsn``: (last LSN, commits). A record that checks and can't
    be is skipped, and cut."""
    lsn, records = after_lsn, 0
    for piece in reading.pieces:
        for start, end in piece.runs:
            while start < end:
                try:
                    done, reached = apply(store, piece, (start, end), lsn, up_to)
                    records, start = records + done, end
                except CorruptionError as error:
                    reached = min((error.lsn or 1) - 1, up_to)
                    start = _skip(piece, error, reading)
                lsn = max(lsn, reached)
    return lsn, records


def _skip(piece: Piece, error: CorruptionError, reading: LogReading) -> int:
    at = error.offset or 0
    record = kernel.record_read(piece.image, at, piece.entry.salt)
    kept = quarantine.name_for(piece.path, at)
    cut = Cut(piece.path, at, record.padded, record.lsn, record.lsn, "damage", kept, error.message)
    reading.damaged = True
    if cut not in reading.cuts:
        reading.cuts.append(cut)
    return int(at + record.padded)


# ------------------------------------------------------------------------------------ damaged checkpoints

_BLOCK: Final = struct.Struct("<4sIQQII")
_MAGIC: Final = b"MBLK"
_KEY_MAX: Final = 65000
_WINDOW: Final = 1 << 20
_Range = tuple[bytes | None, bytes | None]
"""Stored keys between two others, both exclusive."""


@dataclass
class _Block:
    payload: bytes
    count: int
    first: bytes
    last: bytes


def snapshot_reader(store: kernel.Store) -> kernel.Reader:
    """A snapshot of a store that nobody else can reach yet, through a lease of its own."""
    lease = kernel.Mapping.anonymous(kernel.lease_bytes())
    kernel.lease_init(lease, bytes(16))
    return kernel.Reader(store.mapping, store.generation & 1, lease, kernel.PIN_CHECKPOINT)


def store_from_blocks(
    files: Files, manifest: Manifest, make_store: Callable[[], kernel.Store], log: LogReading
) -> tuple[kernel.Store, int, list[KeyHole]]:
    """(store, its LSN, keys that no block holds) when no checkpoint is whole.

    From the oldest to the newest: each one's whole blocks, and where it has none, the state that the one
    before and the log between them give. ``log`` reaches back to the oldest.
    """
    late = oldest(manifest) > EMPTY_LSN
    store, lsn = None if late else make_store(), EMPTY_LSN
    unknown: list[_Range] = [(None, None)] if late else []
    for entry in sorted(manifest.checkpoints, key=lambda one: one.lsn):
        blocks = _whole_blocks(files, entry)
        if not blocks:
            continue
        holes = _holes(blocks)
        fills: list[list[tuple[bytes, int]]] = [[] for _ in holes]
        unknown = _common(unknown, holes)
        if store is not None and holes:
            reached, _ = apply_all(store, log, lsn, entry.lsn)
            fills = _state_in(store, reached, holes)
        del store
        store, lsn = make_store(), entry.lsn
        _fill(store, entry, blocks, fills)
    return make_store() if store is None else store, lsn, [KeyHole(*one) for one in unknown]


def oldest(manifest: Manifest) -> int:
    """Above which LSN the log is needed if nothing is sure: EMPTY_LSN where it goes back to the beginning."""
    if manifest.segments and manifest.segments[0].follows == EMPTY_LSN:
        return EMPTY_LSN
    return max(min((one.lsn for one in manifest.checkpoints), default=EMPTY_LSN), EMPTY_LSN + 1)


def _holes(blocks: list[_Block | None]) -> list[_Range]:
    """The ranges of keys before, between and behind whole blocks, where one or more are damaged; one for each
    None."""
    found: list[_Range] = []
    for position, block in enumerate(blocks):
        if block is None:
            before = [one for one in blocks[:position] if one is not None][-1:]
            behind = [one for one in blocks[position + 1 :] if one is not None][:1]
            found.append((before[0].last if before else None, behind[0].first if behind else None))
    return found


def _state_in(store: kernel.Store, lsn: int, ranges: list[_Range]) -> list[list[tuple[bytes, int]]]:
    store.open(lsn)
    reader = snapshot_reader(store)
    try:
        return [
            list(reader.batches(start=after + b"\0" if after is not None else b"", stop=before or b""))
            for after, before in ranges
        ]
    finally:
        reader.close()


def _common(some: list[_Range], others: list[_Range]) -> list[_Range]:
    """What lies in a range of both lists."""
    found = []
    for after, before in some:
        for after2, before2 in others:
            low = max((one for one in (after, after2) if one is not None), default=None)
            high = min((one for one in (before, before2) if one is not None), default=None)
            if low is None or high is None or low < high:
                found.append((low, high))
    return found


def _fill(
    store: kernel.Store,
    entry: CheckpointEntry,
    blocks: list[_Block | None],
    fills: list[list[tuple[bytes, int]]],
) -> None:
    count = sum(block.count for block in blocks if block is not None)
    store.bulk_begin(count + sum(number for fill in fills for _, number in fill))
    coming = iter(fills)
    for block in blocks:
        if block is not None:
            store.ckpt_load(block.payload, block.count, entry.lsn)
            continue
        for payload, number in next(coming):
            store.ckpt_load(payload, number, entry.lsn)
    store.bulk_finish()
    store.raise_time_floor(entry.time_us)


def _whole_blocks(files: Files, entry: CheckpointEntry) -> list[_Block | None]:
    """The whole blocks in key order, with one None for each stretch of damage; empty if there is none."""
    try:
        file = files.open(entry.path)
    except FileNotFoundError:
        return []
    try:
        found = list(_blocks(file, entry.salt, entry.lsn))
    finally:
        file.close()
    whole = [block for block in found if block is not None]
    return found if whole else []


def _blocks(file: File, salt: int, lsn: int) -> Iterator[_Block | None]:
    size, offset, expected, last = file.size(), checkpoints.HEADER_BYTES, 0, b""
    gap = False
    while (offset := _next_block(file, salt, offset, size)) < size:
        head = segments.read_around(file, _BLOCK.size, offset)
        _, count, index, length, _, _ = _BLOCK.unpack(head)
        data = head + segments.read_around(file, length, offset + _BLOCK.size)
        items = _items(data, salt, index, count, lsn) if index >= expected else []
        gap = gap or index != expected or not items or items[0][0] <= last
        if items and items[0][0] > last:
            if gap:
                yield None
            last, gap = items[-1][0], False
            yield _Block(data[_BLOCK.size :], count, items[0][0], last)
        expected = max(expected, index + 1)
        offset += _BLOCK.size + length
    if gap or _cut_short(file, salt, expected):
        yield None


def _items(data: bytes, salt: int, index: int, count: int, lsn: int) -> list[tuple[bytes, bytes, int, int]]:
    """What a block of a checkpoint at ``lsn`` holds; nothing if the kernel would not load it."""
    if kernel.ckpt_check(data, 0, salt, index) is None:
        return []
    try:
        items = kernel.batch_items(data[_BLOCK.size :])
    except CorruptionError:
        return []
    sound = all(0 < len(one[0]) <= _KEY_MAX and 0 < one[2] <= lsn for one in items)
    rising = all(one[0] < other[0] for one, other in pairwise(items))
    return items if sound and rising and len(items) == count else []


def _next_block(file: File, salt: int, offset: int, size: int) -> int:
    """The next block header that checks, at or behind ``offset``; the size of the file if there is none."""
    while offset + _BLOCK.size <= size:
        window = segments.read_around(file, min(_WINDOW + _BLOCK.size, size - offset), offset)
        at = window.find(_MAGIC)
        while at >= 0 and at + _BLOCK.size <= len(window):
            head = window[at : at + _BLOCK.size]
            checksum = kernel.crc32c(head[:-4], kernel.crc32c(struct.pack("<Q", salt)))
            if (
                checksum == _BLOCK.unpack(head)[-1]
                and _BLOCK.unpack(head)[3] <= size - offset - at - _BLOCK.size
            ):
                return offset + at
            at = window.find(_MAGIC, at + 1)
        offset += _WINDOW
    return size


def _cut_short(file: File, salt: int, blocks: int) -> bool:
    """Are there fewer blocks than the footer says, or is there no footer to say it?"""
    try:
        return checkpoints.read_footer(file, file.path, salt).blocks != blocks
    except CorruptionError:
        return True
