"""Recovery from disk: checkpoint, log, and what is left out (rules L3, L7, L9, L10).

Owns: the choice of the checkpoint, the judgement of the whole log, what goes to quarantine, and the report.

Invariants:

* Nothing is destroyed before its replacement is durable: bytes that are cut are copied to quarantine/ first,
  files go only after a manifest that no longer names them.
* It can end anywhere and be repeated with the same result: it changes no byte of a file that a manifest
  names.
* It is a function over the file seam and a maker of stores: no process, no clock of its own, and a thread
  only where the caller allows one.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from memdb.durability import checkpoints, judge, segments
from memdb.durability.files import Files
from memdb.durability.judge import Judgement
from memdb.durability.manifest import EMPTY_LSN, Manifest, SegmentEnd, SegmentEntry
from memdb.errors import CorruptionError
from memdb.shm import _kernel as kernel

__all__ = ["Cut", "Recovered", "RecoveryReport", "check", "recover"]

_ALL: Final = (1 << 48) - 1
StoreMaker = Callable[[], kernel.Store]
Progress = Callable[[int, int], None]


@dataclass
class Cut:
    """Bytes that recovery left out; ``first_lsn`` to ``last_lsn``: what they may have held."""

    file: str
    offset: int
    bytes: int
    first_lsn: int
    last_lsn: int
    kind: str
    quarantine: str


@dataclass
class RecoveryReport:
    """What a start did. ``source``: created, disk, or arena (a new generation was read from the old one)."""

    source: str
    lsn: int = 0
    checkpoint_lsn: int = 0
    records: int = 0
    keys: int = 0
    seconds: float = 0.0
    clean: bool = True
    """The last writer ended in order; otherwise LSNs go on above a gap."""
    damaged_checkpoints: list[str] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    new_identity: bool = False
    notes: list[str] = field(default_factory=list)


@dataclass
class Recovered:
    """A filled store, not yet open, and the manifest that says so (not yet stored)."""

    store: kernel.Store
    manifest: Manifest
    lsn: int
    """Numbers go on above it."""
    follows: int
    """Of the state; the next segment's commits are applied to it."""
    report: RecoveryReport


@dataclass
class _Piece:
    entry: SegmentEntry
    image: bytes
    judgement: Judgement


_Judged = tuple[list[_Piece], dict[int, Judgement], list[Cut]]


def recover(
    files: Files,
    manifest: Manifest,
    make_store: StoreMaker,
    mode: str,
    progress: Progress | None = None,
    *,
    threads: bool = False,
) -> Recovered:
    """Rebuilds the state from disk. CorruptionError (with file, offset, lsn), FormatTooNew, ArenaFullError,
    OSError. ``threads``: the log is read and judged on another core while the checkpoint is loaded, and
    that one block ahead."""
    report = RecoveryReport("disk")
    with _LogAhead(files, manifest, mode, threads) as log:
        store, checkpoint_lsn = _load_checkpoint(files, manifest, make_store, report, threads)
        pieces, ends, cuts = log.above(checkpoint_lsn)
    total = sum(piece.judgement.end for piece in pieces)
    done, lsn = 0, checkpoint_lsn
    for piece in pieces:
        image = memoryview(piece.image)[: piece.judgement.end]
        result = store.replay(image, kernel.SEGMENT_HEADER, piece.entry.salt, checkpoint_lsn, _ALL)
        if result.end_offset != piece.judgement.end:
            raise CorruptionError(
                f"{segments.path_of(piece.entry.number)} holds operations that do not parse",
                segments.path_of(piece.entry.number),
                result.end_offset,
                result.last_lsn + 1,
            )
        report.records += result.records
        store.raise_time_floor(result.time_us)  # also of commits that the checkpoint holds already
        lsn = max(lsn, result.last_lsn)
        done += piece.judgement.end
        if progress is not None:
            progress(done, total)
    report.lsn, report.cuts = lsn, cuts
    after, base = _settle(files, manifest, pieces, ends, cuts, lsn)
    report.clean = base == lsn
    return Recovered(store, after, base, lsn, report)


def check(files: Files, manifest: Manifest) -> int:
    """Reads through what a recovery would use; the LSN that it would reach. Nothing is changed.

    CorruptionError: it would fail, or leave something out. Cost: as of reading the files.
    """
    checkpoint_lsn = _usable_checkpoint(files, manifest)
    pieces, _, cuts = _judge_log(files, manifest, checkpoint_lsn, "strict")
    if cuts:
        raise CorruptionError(
            f"{cuts[0].file} ends in a torn record", cuts[0].file, cuts[0].offset, cuts[0].first_lsn
        )
    return max([checkpoint_lsn, *(piece.judgement.last_lsn for piece in pieces)])


def _usable_checkpoint(files: Files, manifest: Manifest) -> int:
    for entry in sorted(manifest.checkpoints, key=lambda one: -one.lsn):
        try:
            checkpoints.verify(files, entry)
        except CorruptionError:
            continue
        return entry.lsn
    return EMPTY_LSN


# ---------------------------------------------------------------------------------------------- the
# checkpoint


def _load_checkpoint(
    files: Files, manifest: Manifest, make_store: StoreMaker, report: RecoveryReport, threads: bool
) -> tuple[kernel.Store, int]:
    first_error: CorruptionError | None = None
    for entry in sorted(manifest.checkpoints, key=lambda one: -one.lsn):
        store = make_store()
        try:
            checkpoints.load(files, entry, store, threads=threads)
        except CorruptionError as error:
            report.damaged_checkpoints.append(str(error))
            first_error = first_error or error
            continue
        report.checkpoint_lsn, report.keys = entry.lsn, entry.keys
        return store, entry.lsn
    if manifest.segments and manifest.segments[0].after_lsn == EMPTY_LSN:
        return make_store(), EMPTY_LSN  # the log goes back to the beginning
    if first_error is not None:
        raise first_error
    raise CorruptionError(
        "the MANIFEST names no checkpoint, and the log does not go back to the beginning", "MANIFEST"
    )


# ----------------------------------------------------------------------------------------------------- the
# log


class _LogAhead:
    """Judges the log above the newest checkpoint, ahead of being asked if it has a thread."""

    def __init__(self, files: Files, manifest: Manifest, mode: str, threads: bool) -> None:
        self._files, self._manifest, self._mode = files, manifest, mode
        self._newest = max((one.lsn for one in manifest.checkpoints), default=EMPTY_LSN)
        self._pool = ThreadPoolExecutor(1, "memdb-log") if threads else None
        self._judging = self._pool.submit(self._judge, self._newest) if self._pool is not None else None

    def _judge(self, checkpoint_lsn: int) -> _Judged:
        return _judge_log(self._files, self._manifest, checkpoint_lsn, self._mode)

    def above(self, checkpoint_lsn: int) -> _Judged:
        """Pieces, ends and cuts of the log above that checkpoint."""
        if self._judging is None or checkpoint_lsn != self._newest:  # the newest one was damaged
            return self._judge(checkpoint_lsn)
        return self._judging.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()


def _judge_log(files: Files, manifest: Manifest, checkpoint_lsn: int, mode: str) -> _Judged:
    """The pieces to replay; judgements of segments that end here and now; what is cut (``until_damage``: at
    most one place)."""
    known = frozenset((manifest.database, *manifest.ancestors))
    needed = [one for one in manifest.segments if one.end is None or one.end.lsn > checkpoint_lsn]
    durable = max([manifest.durable_lsn, checkpoint_lsn, *(one.lsn for one in manifest.checkpoints)])
    pieces: list[_Piece] = []
    reached = _after_fence(manifest, needed, checkpoint_lsn)
    for position, entry in enumerate(needed):
        last = position == len(needed) - 1
        try:
            if _counts_for_nothing(entry):
                _refuse_gap(entry, reached)
                reached = max(reached, entry.end.lsn if entry.end else 0)
                continue
            piece = _judge_one(files, entry, known, durable if last else 0, reached, manifest)
        except CorruptionError:
            if mode != "until_damage":
                raise
            return pieces, _ends(pieces), _cut_rest(files, needed[position:], None, reached)
        judgement = piece.judgement
        pieces.append(piece)
        if judgement.kind == "damaged":
            if mode != "until_damage":
                raise judge.damage(segments.path_of(entry.number), judgement, entry)
            reached = max(reached, judgement.last_lsn)
            return pieces, _ends(pieces), _cut_rest(files, needed[position:], piece, reached)
        if judgement.kind == "torn":
            cuts = [_cut_of(piece, judgement.end, "torn", max(reached, judgement.last_lsn))]
            return pieces, _ends(pieces), cuts
        reached = max(reached, judgement.last_lsn, entry.end.lsn if entry.end else 0)
    return pieces, _ends(pieces), []


def _after_fence(manifest: Manifest, needed: list[SegmentEntry], checkpoint_lsn: int) -> int:
    """Up to where nothing can be missing before the first segment that is needed: the checkpoint, or, if it
    holds more than the failed segment in front of that one, its beginning.

    More than a failed log is known to hold, of what is numbered below the next one's beginning, only the
    checkpoint of the way back has: all that was published then (rule L5). Numbers above were given to nobody.
    """
    if not needed:
        return checkpoint_lsn
    before = max(
        (one for one in manifest.segments if one.number < needed[0].number), default=None, key=_number
    )
    if (
        before is None
        or before.end is None
        or before.end.kind != "fenced"
        or checkpoint_lsn <= before.end.lsn
    ):
        return checkpoint_lsn
    return max(checkpoint_lsn, needed[0].after_lsn)


def _number(entry: SegmentEntry) -> int:
    return entry.number


def _counts_for_nothing(entry: SegmentEntry) -> bool:
    """Was it fenced at its beginning, because none of its bytes were known durable? They may be anything."""
    return entry.end is not None and entry.end.kind == "fenced" and entry.end.offset <= kernel.SEGMENT_HEADER


def _refuse_gap(entry: SegmentEntry, reached: int) -> None:
    path = segments.path_of(entry.number)
    if entry.follows > reached:
        raise CorruptionError(
            f"the log has a gap before {path}: it begins behind LSN {entry.follows}, "
            f"what comes before ends at {reached}",
            path,
            0,
            reached + 1,
        )


def _judge_one(
    files: Files, entry: SegmentEntry, known: frozenset[bytes], durable: int, reached: int, manifest: Manifest
) -> _Piece:
    path = segments.path_of(entry.number)
    _refuse_gap(entry, reached)
    try:
        file = files.open(path)
    except FileNotFoundError as error:
        raise CorruptionError(f"{path} is named in the MANIFEST and missing", path, 0, reached + 1) from error
    try:
        image = file.pread(file.size(), 0)
    finally:
        file.close()
    segments.check_header(image, entry, known)
    found = (
        judge.judge_open(image, path, entry, durable)
        if entry.end is None
        else judge.judge_ended(image, path, entry)
    )
    before = next((one for one in manifest.segments if one.number < entry.number), None)
    if found.link is None or found.link.term != entry.term:
        raise CorruptionError(
            f"{path} does not begin with its link record", path, kernel.SEGMENT_HEADER, reached + 1
        )
    for one in manifest.segments:
        if one.number < entry.number:
            before = one
    if before is not None and before.end is not None:
        linked = (found.link.previous_segment, found.link.previous_last_crc)
        if linked != (before.number, before.end.crc):
            raise CorruptionError(
                f"{path} does not continue {segments.path_of(before.number)}",
                path,
                kernel.SEGMENT_HEADER,
                reached + 1,
            )
    return _Piece(entry, image, found)


def _ends(pieces: list[_Piece]) -> dict[int, Judgement]:
    return {piece.entry.number: piece.judgement for piece in pieces}


def _cut_of(piece: _Piece, offset: int, kind: str, reached: int) -> Cut:
    number, judgement = piece.entry.number, piece.judgement
    return Cut(
        segments.path_of(number),
        offset,
        judgement.stray_end - offset,
        reached + 1,
        max(judgement.lost_lsn, reached + 1),
        kind,
        f"quarantine/{number:016d}-{offset}.cut",
    )


def _cut_rest(files: Files, rest: list[SegmentEntry], first: _Piece | None, reached: int) -> list[Cut]:
    """until_damage: everything from the damage on, in this and all later segments."""
    cuts = []
    for entry in rest:
        path = segments.path_of(entry.number)
        start = first.judgement.end if first is not None and entry is rest[0] else 0
        try:
            file = files.open(path)
        except FileNotFoundError:
            continue
        try:
            image = file.pread(file.size(), 0)
        finally:
            file.close()
        _, _, highest = judge.scan_beyond(image, max(start, kernel.SEGMENT_HEADER), entry.salt)
        end = kernel.last_nonzero(image, start)
        quarantine = f"quarantine/{entry.number:016d}-{start}.cut"
        cuts.append(
            Cut(path, start, end - start, reached + 1, max(highest, reached + 1), "damage", quarantine)
        )
    return cuts


# --------------------------------------------------------------------------------------------------
# settlement


def _settle(
    files: Files,
    manifest: Manifest,
    pieces: list[_Piece],
    ends: dict[int, Judgement],
    cuts: list[Cut],
    lsn: int,
) -> tuple[Manifest, int]:
    """Copies to quarantine what is cut, makes what was read durable; the next manifest and the LSN to go on
    above."""
    for cut in cuts:
        _quarantine(files, cut)
    for piece in pieces:
        if piece.entry.end is None:
            _sync(files, segments.path_of(piece.entry.number))
    dropped = {cut.file for cut in cuts if cut.offset == 0}
    kept = [one for one in manifest.segments if segments.path_of(one.number) not in dropped]
    newest = kept[-1].end if kept else None
    ended_in_order = not cuts and newest is not None and newest.kind != "fenced"
    limit = max([manifest.lsn_limit, *(one.lsn_limit for one in ends.values())])
    highest = max([lsn, limit, *(cut.last_lsn for cut in cuts), *(one.durable_lsn for one in ends.values())])
    base = max([lsn, *(one.end.lsn for one in kept if one.end)]) if ended_in_order else highest
    after = replace(manifest, segments=tuple(kept), durable_lsn=base, lsn_limit=max(limit, base))
    for entry in kept:
        judgement = ends.get(entry.number)
        if judgement is None:
            continue
        cut_here = any(cut.file == segments.path_of(entry.number) for cut in cuts)
        if entry.end is None or cut_here:
            whole = max(judgement.last_lsn, entry.after_lsn) >= lsn
            end_lsn = base if whole else max(judgement.last_lsn, entry.after_lsn)
            kind = "cut" if cut_here else "sealed"
            after = after.with_end(entry.number, SegmentEnd(kind, judgement.end, end_lsn, judgement.last_crc))
    return after, base


def _quarantine(files: Files, cut: Cut) -> None:
    files.mkdir("quarantine")
    source = files.open(cut.file)
    try:
        data = source.pread(cut.bytes, cut.offset)
    finally:
        source.close()
    files.write_durably(cut.quarantine, data)
    files.sync_dir()


def _sync(files: Files, path: str) -> None:
    file = files.open(path, write=True)
    try:
        file.datasync()
    finally:
        file.close()


def summary(report: RecoveryReport, now_us: int) -> dict[str, Any]:
    """What of a report the manifest keeps: only starts that left something out."""
    return {"time_us": now_us, "lsn": report.lsn, "cuts": [vars(cut) for cut in report.cuts]}
