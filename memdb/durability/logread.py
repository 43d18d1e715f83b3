"""The log as a recovery reads it: which segments, how far each is good, and what is left out.

Owns: the reading of `strict` and `until_damage`. Salvage has its own (salvage.py), with the same result type.

Invariants:

* Nothing is believed because the manifest names it: number, salt, database, link, chain and end are checked.
* strict raises at the first damage; until_damage leaves out everything from there on, in all segments.
* A segment that no manifest names holds no commits; one that does proves that the MANIFEST is an old copy.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Self

from memdb.durability import judge, quarantine, segments
from memdb.durability.files import Files
from memdb.durability.judge import Judgement
from memdb.durability.manifest import EMPTY_LSN, PATH, Manifest, SegmentEntry
from memdb.durability.report import Cut
from memdb.errors import CorruptionError
from memdb.shm import _kernel as kernel

__all__ = [
    "ALL",
    "LogAhead",
    "LogReading",
    "Piece",
    "apply",
    "check_chain",
    "check_current",
    "may_have_held",
    "most_lsns",
    "read_log",
]

ALL: Final = (1 << 48) - 1
_LEAST_RECORD: Final = 88
_LOOK: Final = 1 << 20
"""Bytes of an unnamed segment in which a commit would be seen."""


@dataclass
class Piece:
    """One segment: its bytes, and the runs of good records in it, as (start, end)."""

    entry: SegmentEntry
    image: bytes
    judgement: Judgement
    runs: list[tuple[int, int]]
    place: str = ""
    """Where salvage found it, if not under its own name."""

    @property
    def path(self) -> str:
        """The file that holds it."""
        return self.place or segments.path_of(self.entry.number)


@dataclass
class LogReading:
    """The pieces to apply, in order, and what is left out. ``damaged``: more than the torn end is."""

    pieces: list[Piece] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    damaged: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def ends(self) -> dict[int, Judgement]:
        """Where each segment ends here and now."""
        return {piece.entry.number: piece.judgement for piece in self.pieces}


def apply(
    store: kernel.Store, piece: Piece, run: tuple[int, int], after_lsn: int, up_to: int = ALL
) -> tuple[int, int]:
    """Applies the commits of a run above ``after_lsn``: (how many, the last LSN). ArenaFullError.

    CorruptionError: one that can't be; those before it in the run (below its ``lsn``) are applied then.
    """
    start, end = run
    image = memoryview(piece.image)[:end]
    result = store.replay(image, start, piece.entry.salt, after_lsn, up_to)
    store.raise_time_floor(result.time_us)  # also of commits that the checkpoint holds already
    if result.end_offset != end:
        raise CorruptionError(
            f"{piece.path} holds a record with good checksums that can't be: its LSN is not above the one "
            "before, or its operations do not parse",
            piece.path,
            result.end_offset,
            result.last_lsn + 1,
        )
    return result.records, min(result.last_lsn, up_to)


def check_current(files: Files, manifest: Manifest) -> None:
    """CorruptionError if the log goes on in a segment that the manifest can't know: it is an older copy."""
    known = frozenset((manifest.database, *manifest.ancestors))
    named = {one.number for one in manifest.segments}
    for number in segments.segment_numbers(files):
        if number < manifest.next_segment or number in named:
            continue
        lsn = _first_commit(files, segments.path_of(number), known)
        if lsn:
            raise CorruptionError(
                f"the MANIFEST is older than the log: {segments.path_of(number)} holds commits from LSN "
                f"{lsn} on, and it does not name that file",
                PATH,
                0,
                lsn,
            )


def _first_commit(files: Files, path: str, known: frozenset[bytes]) -> int:
    file = files.open(path)
    try:
        image = file.pread(_LOOK, 0)
    finally:
        file.close()
    try:
        header = segments.read_header(image, path)
    except CorruptionError:  # a spare that was not finished
        return 0
    link = kernel.record_read(image, kernel.SEGMENT_HEADER, header.salt)
    if header.database not in known or link.verdict != kernel.RECORD_GOOD:
        return 0
    found = kernel.record_find(image, link.offset + link.padded, header.salt)
    while found is not None and found.type != kernel.RECORD_COMMIT:
        found = kernel.record_find(image, found.offset + 8, header.salt)
    return found.lsn if found is not None else 0


# --------------------------------------------------------------------------------- strict and until_damage


def needed(manifest: Manifest, above: int) -> list[SegmentEntry]:
    """The segments that hold commits above an LSN."""
    ahead = [one for one in manifest.segments if one.end is None or one.end.lsn > above]
    return [one for one in ahead if not _counts_for_nothing(one)]


def _counts_for_nothing(entry: SegmentEntry) -> bool:
    """Was it fenced at its beginning, because none of its bytes were known durable? They may be anything."""
    return entry.end is not None and entry.end.kind == "fenced" and entry.end.offset <= kernel.SEGMENT_HEADER


def known_durable(manifest: Manifest, above: int) -> int:
    """D as the manifest and its checkpoints tell it."""
    return max([manifest.durable_lsn, above, *(one.lsn for one in manifest.checkpoints)])


def read_log(files: Files, manifest: Manifest, above: int, mode: str) -> LogReading:
    """Reads and judges what follows on a checkpoint at ``above``. CorruptionError, FormatTooNew, OSError."""
    wanted, reading, reached = needed(manifest, above), LogReading(), above
    for position, entry in enumerate(wanted):
        rest = wanted[position:]
        try:
            image = _read_segment(files, entry, manifest, reached)
            durable = known_durable(manifest, above) if len(rest) == 1 else 0
            piece = _judged(image, entry, durable)
            check_chain(piece, manifest, reached)
        except CorruptionError as error:
            if mode != "until_damage":
                raise
            return _stopped(files, manifest, reading, rest, None, reached, error.message)
        judgement = piece.judgement
        if judgement.kind == "damaged" and mode != "until_damage":
            raise judge.damage(segments.path_of(entry.number), judgement, entry)
        if judgement.kind == "damaged" and judgement.link is None:  # nothing of it can be kept as a segment
            return _stopped(files, manifest, reading, rest, None, reached, judgement.why)
        reading.pieces.append(piece)
        if judgement.kind == "damaged":
            reached = max(reached, judgement.last_lsn)
            return _stopped(files, manifest, reading, rest, piece, reached, judgement.why)
        if judgement.kind == "torn":
            reading.cuts.append(torn(piece, max(reached, judgement.last_lsn)))
            return reading
        reached = max(reached, judgement.last_lsn, entry.end.lsn if entry.end else 0)
    return reading


def _read_segment(files: Files, entry: SegmentEntry, manifest: Manifest, reached: int) -> bytes:
    path = segments.path_of(entry.number)
    if entry.follows > reached:
        raise CorruptionError(
            f"the log has a gap before {path}: it begins behind LSN {entry.follows}, "
            f"what comes before ends at {reached}",
            path,
            0,
            reached + 1,
        )
    try:
        file = files.open(path)
    except FileNotFoundError as error:
        raise CorruptionError(f"{path} is named in the MANIFEST and missing", path, 0, reached + 1) from error
    try:
        image = file.pread(file.size(), 0)
    finally:
        file.close()
    try:
        segments.check_header(image, entry, frozenset((manifest.database, *manifest.ancestors)))
    except CorruptionError as error:
        error.lsn = reached + 1
        raise
    return image


def _judged(image: bytes, entry: SegmentEntry, durable: int) -> Piece:
    path = segments.path_of(entry.number)
    if entry.end is None:
        found = judge.judge_open(image, path, entry, durable)
    else:
        found = judge.judge_ended(image, path, entry)
    return Piece(entry, image, found, [(kernel.SEGMENT_HEADER, found.end)])


def check_chain(piece: Piece, manifest: Manifest, reached: int) -> None:
    """The segment begins with a link of its term to the end of the one before it."""
    entry, link = piece.entry, piece.judgement.link
    path = segments.path_of(entry.number)
    at = kernel.SEGMENT_HEADER
    if link is None and piece.judgement.kind == "damaged":
        return  # that is said of the segment as a whole
    if link is None or link.term != entry.term:
        raise CorruptionError(f"{path} does not begin with its link record", path, at, reached + 1)
    before = [one for one in manifest.segments if one.number < entry.number][-1:]
    if before and before[0].end is not None:
        linked = (link.previous_segment, link.previous_last_crc)
        if linked != (before[0].number, before[0].end.crc):
            raise CorruptionError(
                f"{path} does not continue {segments.path_of(before[0].number)}", path, at, reached + 1
            )


def torn(piece: Piece, reached: int) -> Cut:
    """The cut of what lies behind the good part of a segment, and was not durable."""
    judgement, path = piece.judgement, piece.path
    return Cut(
        path,
        judgement.end,
        judgement.stray_end - judgement.end,
        reached + 1,
        max(judgement.lost_lsn, reached + 1),
        "torn",
        quarantine.name_for(path, judgement.end),
    )


def _stopped(
    files: Files,
    manifest: Manifest,
    reading: LogReading,
    rest: Iterable[SegmentEntry],
    first: Piece | None,
    reached: int,
    why: str,
) -> LogReading:
    """until_damage: everything from the damage on is left out, in this and all later segments."""
    reading.damaged = True
    for entry in rest:
        start = first.judgement.end if first is not None and first.entry is entry else 0
        reading.cuts.append(_rest_of(files, manifest, entry, start, reached, why))
        why = "behind the damage"
    return reading


def may_have_held(manifest: Manifest, entry: SegmentEntry) -> int:
    """The highest LSN that a commit in a segment can have had, whatever is left of it."""
    return entry.end.lsn if entry.end is not None else manifest.lsn_limit


def most_lsns(reached: int, length: int) -> int:
    """The highest LSN that so many bytes behind the commit ``reached`` can hold: they are dense there."""
    return reached + max(length // _LEAST_RECORD, 1)


def _rest_of(
    files: Files, manifest: Manifest, entry: SegmentEntry, start: int, reached: int, why: str
) -> Cut:
    path = segments.path_of(entry.number)
    highest = max(may_have_held(manifest, entry), reached + 1)
    try:
        file = files.open(path)
    except FileNotFoundError:
        return Cut(path, 0, 0, reached + 1, highest, "missing", "", why)
    try:
        image = segments.read_around(file, file.size(), 0)
    finally:
        file.close()
    found = judge.scan_beyond(image, max(start, kernel.SEGMENT_HEADER), entry.salt)[2]
    if entry.end is None and len(image) >= entry.capacity:  # all that it held is in these bytes
        highest = max(found, most_lsns(reached, kernel.last_nonzero(image, start) - start))
    end, kept = kernel.last_nonzero(image, start), quarantine.name_for(path, start)
    return Cut(path, start, end - start, reached + 1, highest, "damage", kept, why)


class LogAhead:
    """Reads the log above the newest checkpoint, ahead of being asked if it has a thread."""

    def __init__(self, files: Files, manifest: Manifest, mode: str, threads: bool) -> None:
        self._files, self._manifest, self._mode = files, manifest, mode
        self._newest = max((one.lsn for one in manifest.checkpoints), default=EMPTY_LSN)
        self._pool = ThreadPoolExecutor(1, "memdb-log") if threads else None
        self._reading = self._pool.submit(self._read, self._newest) if self._pool is not None else None

    def _read(self, above: int) -> LogReading:
        return read_log(self._files, self._manifest, above, self._mode)

    def above(self, checkpoint_lsn: int) -> LogReading:
        """What follows on that checkpoint."""
        if self._reading is None or checkpoint_lsn != self._newest:  # the newest one was damaged
            return self._read(checkpoint_lsn)
        return self._reading.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()
