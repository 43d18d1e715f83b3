"""Recovery from disk: checkpoint, log, and what is left out (rules L3, L7, L9, L10).

Owns: the choice of the checkpoint, what is changed on disk so that the result lasts, and the report. The log
is read by logread.py (strict, until_damage) or salvage.py.

Invariants:

* `read` changes nothing, whatever it finds: the dry run of `memdb recover` is this function.
* Nothing is destroyed before its replacement is durable: bytes that are left out are copied to quarantine/
  first, files go only after a manifest that no longer names them.
* It can end anywhere and be repeated with the same result: it changes no byte of a file that a manifest
  names. The one file that it moves, a damaged checkpoint, was replaced by an older one already.
* What salvage has put together is no state that the log could give again: it is written as checkpoints, twice
  (damage to the newest checkpoint alone loses nothing), and the log begins anew behind them.
* It is a function over the file seam and a maker of stores: no process, no clock of its own, and a thread
  only where the caller allows one.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from memdb.durability import checkpoints, logread, quarantine, reconstruct, salvage, segments
from memdb.durability import manifest as manifests
from memdb.durability.advice import with_command
from memdb.durability.files import Files
from memdb.durability.logread import LogAhead, LogReading, Piece
from memdb.durability.manifest import EMPTY_LSN, CheckpointEntry, Manifest, SegmentEnd
from memdb.durability.reconstruct import Reconstruction
from memdb.durability.report import Cut, KeyHole, Recovered, RecoveryReport, summary
from memdb.errors import CorruptionError
from memdb.shm import _kernel as kernel

__all__ = [
    "Cut",
    "KeyHole",
    "Reading",
    "Recovered",
    "RecoveryReport",
    "check",
    "find_manifest",
    "read",
    "recover",
    "settle",
    "summary",
]

StoreMaker = Callable[[], kernel.Store]
Progress = Callable[[int, int], None]
_PIECE: Final = 1 << 16
"""How exactly it is found out from where on a segment is not known durable, in bytes."""
_ABOVE_ALL: Final = 1 << 20
"""How far above every LSN that is known numbers go on after a salvage: what was lost may have held more."""


@dataclass
class Reading:
    """What is on disk: a filled store, and what has to be done so that it stays so."""

    store: kernel.Store
    manifest: Manifest
    lsn: int
    log: LogReading
    report: RecoveryReport
    unusable: list[CheckpointEntry]
    """Damaged checkpoints that the manifest names."""
    anew: bool
    """The result is written as checkpoints, and the log begins behind them."""


def find_manifest(files: Files, mode: str) -> tuple[Manifest | None, Reconstruction | None]:
    """The manifest, or in salvage one that is made anew if that one can't be used; None: a new directory.

    CorruptionError, NotADatabase, FormatTooNew.
    """
    try:
        found = manifests.load(files)
        if found is not None and found.state == "ready" and found.logged:
            logread.check_current(files, found)
        return found, None
    except CorruptionError as error:
        if mode != "salvage":
            raise with_command(error, files, "salvage") from error
        why = error.message.partition(". Nothing was changed")[0]
    try:
        made = reconstruct.reconstruct(files, why)
    except CorruptionError as error:
        raise with_command(error, files, "salvage") from error
    return made.manifest, made


def recover(
    files: Files,
    manifest: Manifest,
    make_store: StoreMaker,
    mode: str,
    progress: Progress | None = None,
    *,
    threads: bool = False,
    made: Reconstruction | None = None,
) -> Recovered:
    """Rebuilds the state from disk. CorruptionError (with file, offset, lsn, command), FormatTooNew,
    ArenaFullError, OSError. ``threads``: the log is read and judged on another core while the checkpoint is
    loaded, and that one block ahead. ``made``: of find_manifest."""
    return settle(files, read(files, manifest, make_store, mode, progress, threads=threads, made=made))


def read(
    files: Files,
    manifest: Manifest,
    make_store: StoreMaker,
    mode: str,
    progress: Progress | None = None,
    *,
    threads: bool = False,
    made: Reconstruction | None = None,
) -> Reading:
    """The state that a recovery would come to, without changing anything; arguments and errors as recover."""
    report = RecoveryReport("disk", mode=mode)
    unusable: list[CheckpointEntry] = []
    if made is not None:
        report.new_manifest, report.notes, report.cuts = True, list(made.notes), list(made.cuts)
    try:
        if mode == "salvage":
            store, lsn, log = _salvaged(files, manifest, make_store, report, unusable)
        else:
            with LogAhead(files, manifest, mode, threads) as ahead:
                store, lsn = _load_checkpoint(files, manifest, make_store, report, unusable, threads)
                log = _read_log(files, ahead, lsn, mode)
            report.records, lsn = _apply(store, log, lsn, progress)
    except CorruptionError as error:
        raise with_command(error, files, "salvage") from error
    report.lsn = lsn
    report.cuts += log.cuts
    report.notes += log.notes
    anew = mode == "salvage" and (log.damaged or made is not None or bool(report.lost_keys))
    return Reading(store, manifest, lsn, log, report, unusable, anew)


def _read_log(files: Files, ahead: LogAhead, above: int, mode: str) -> LogReading:
    try:
        return ahead.above(above)
    except CorruptionError as error:
        raise with_command(error, files, "until-damage" if mode == "strict" else "salvage") from error


def _apply(
    store: kernel.Store, log: LogReading, checkpoint_lsn: int, progress: Progress | None
) -> tuple[int, int]:
    total = sum(piece.judgement.end for piece in log.pieces)
    records, done, lsn = 0, 0, checkpoint_lsn
    for piece in log.pieces:
        for run in piece.runs:
            records += logread.apply(store, piece, run, checkpoint_lsn)[0]
        lsn = max(lsn, piece.judgement.last_lsn)
        done += piece.judgement.end
        if progress is not None:
            progress(done, total)
    return records, lsn


def check(files: Files, manifest: Manifest) -> int:
    """Reads through what a recovery would use; the LSN that it would reach. Nothing is changed.

    CorruptionError: it would fail, or leave something out. Cost: as of reading the files.
    """
    checkpoint_lsn = _usable_checkpoint(files, manifest)
    log = logread.read_log(files, manifest, checkpoint_lsn, "strict")
    if log.cuts:
        cut = log.cuts[0]
        raise CorruptionError(f"{cut.file} ends in a torn record", cut.file, cut.offset, cut.first_lsn)
    return max([checkpoint_lsn, *(piece.judgement.last_lsn for piece in log.pieces)])


def _usable_checkpoint(files: Files, manifest: Manifest) -> int:
    for entry in sorted(manifest.checkpoints, key=lambda one: -one.lsn):
        try:
            checkpoints.verify(files, entry)
        except CorruptionError:
            continue
        return entry.lsn
    return EMPTY_LSN


# ---------------------------------------------------------------------------------------- the checkpoint


def _load_checkpoint(
    files: Files,
    manifest: Manifest,
    make_store: StoreMaker,
    report: RecoveryReport,
    unusable: list[CheckpointEntry],
    threads: bool,
) -> tuple[kernel.Store, int]:
    """The newest whole one; else nothing, where the log goes back to the beginning."""
    first_error: CorruptionError | None = None
    for entry in sorted(manifest.checkpoints, key=lambda one: -one.lsn):
        store = make_store()
        try:
            checkpoints.load(files, entry, store, threads=threads)
        except CorruptionError as error:
            error.lsn = entry.lsn
            report.damaged_checkpoints.append(str(error))
            unusable.append(entry)
            first_error = first_error or error
            continue
        report.checkpoint_lsn, report.keys = entry.lsn, entry.keys
        return store, entry.lsn
    if manifest.segments and manifest.segments[0].follows == EMPTY_LSN:
        return make_store(), EMPTY_LSN  # the log goes back to the beginning
    if first_error is not None:
        raise first_error
    raise CorruptionError(
        "the MANIFEST names no checkpoint, and the log does not go back to the beginning", "MANIFEST"
    )


def _salvaged(
    files: Files,
    manifest: Manifest,
    make_store: StoreMaker,
    report: RecoveryReport,
    unusable: list[CheckpointEntry],
) -> tuple[kernel.Store, int, LogReading]:
    """As the newest whole checkpoint and the log give it; where that is not enough, with the whole blocks of
    damaged checkpoints, too."""
    try:
        store, lsn = _load_checkpoint(files, manifest, make_store, report, unusable, False)
    except CorruptionError:
        log = None
    else:
        log = salvage.read_log(files, manifest, lsn)
    if log is None or (log.damaged and unusable):
        log = salvage.read_log(files, manifest, salvage.oldest(manifest))
        store, lsn, report.lost_keys = salvage.store_from_blocks(files, manifest, make_store, log)
        report.checkpoint_lsn, log.damaged = lsn, True
    lsn, report.records = salvage.apply_all(store, log, lsn)
    return store, lsn, log


# ------------------------------------------------------------------------------------------- settlement


def settle(files: Files, reading: Reading) -> Recovered:
    """Keeps what is left out in quarantine/, and makes durable what was read; the next manifest, not yet
    stored. OSError: no room, or a disk that refuses; nothing that counts was changed."""
    report = reading.report
    for cut in report.cuts:
        quarantine.keep(files, cut)
    for path in quarantine.move_beyond(files, reading.manifest, reading.lsn):
        report.notes.append(f"a checkpoint of a later state than the log reaches is kept as {path}")
    if reading.anew:
        return _settle_anew(files, reading)
    for entry in reading.unusable:  # an older one, or the log from the beginning, has replaced it
        if files.exists(entry.path):
            report.notes.append(f"{entry.path} is kept as {quarantine.move(files, entry.path)}")
    after, base = _ended(files, reading)
    sound = tuple(one for one in after.checkpoints if one not in reading.unusable)
    report.clean = base == reading.lsn
    return Recovered(reading.store, replace(after, checkpoints=sound), base, reading.lsn, report)


def _ended(files: Files, reading: Reading) -> tuple[Manifest, int]:
    """The manifest with the ends that the log has now, and the LSN above which numbers go on."""
    manifest, lsn, log = reading.manifest, reading.lsn, reading.log
    for piece in log.pieces:
        if piece.entry.end is None:
            _persist(files, piece)
    ends, cuts = log.ends, log.cuts
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
        cut_here = any(cut.file == segments.path_of(entry.number) for cut in cuts)
        if judgement is None or not (entry.end is None or cut_here):
            continue
        whole = max(judgement.last_lsn, entry.after_lsn) >= lsn
        end_lsn = base if whole else max(judgement.last_lsn, entry.after_lsn)
        kind = "cut" if cut_here else "sealed"
        after = after.with_end(entry.number, SegmentEnd(kind, judgement.end, end_lsn, judgement.last_crc))
    return after, base


def _settle_anew(files: Files, reading: Reading) -> Recovered:
    """The state as two checkpoints, one LSN apart, and a manifest that names nothing else."""
    manifest, report, store = reading.manifest, reading.report, reading.store
    for entry in reading.unusable:
        if files.exists(entry.path):
            report.notes.append(f"{entry.path} is kept as {quarantine.keep_whole(files, entry.path)}")
    first = _highest(reading) + _ABOVE_ALL
    named = []
    for lsn in (first, first + 1):
        store.open(lsn)
        reader = salvage.snapshot_reader(store)
        try:
            plan = {"database": manifest.database, "time_us": reader.time_us}
            entry = checkpoints.entry_of(checkpoints.write(files, reader, plan))
        finally:
            reader.close()
        checkpoints.put_in_place(files, entry)
        named.append(entry)
    after = replace(
        manifest,
        segments=(),
        checkpoints=tuple(named),
        durable_lsn=first + 1,
        lsn_limit=max(manifest.lsn_limit, first + 1),
        next_segment=max(manifest.next_segment, *segments.segment_numbers(files), 0) + 1,
    )
    report.clean = False
    return Recovered(store, after, first + 1, first, report)


def _highest(reading: Reading) -> int:
    """The highest LSN of which anything is known."""
    manifest = reading.manifest
    known = [reading.lsn, manifest.durable_lsn, manifest.lsn_limit]
    known += [one.lsn for one in manifest.checkpoints]
    known += [max(one.after_lsn, one.end.lsn if one.end else 0) for one in manifest.segments]
    known += [max(one.lsn_limit, one.durable_lsn, one.lost_lsn) for one in reading.log.ends.values()]
    return max([*known, *(cut.last_lsn for cut in reading.report.cuts)])


def _persist(files: Files, piece: Piece) -> None:
    """Makes what was read of the open segment durable.

    Read it was from the page cache, perhaps after a sync that had failed: then these pages count as clean,
    and the next sync would succeed without writing them. So what is not known durable is written again, same
    bytes, same place (rule L1).
    """
    end = piece.judgement.end
    start = _not_known_durable(piece.image, end, piece.entry.salt, piece.judgement.durable_lsn)
    file = files.open(segments.path_of(piece.entry.number), write=True)
    try:
        file.write_all(memoryview(piece.image)[start:end], start)
        file.datasync()
    finally:
        file.close()


def _not_known_durable(image: bytes, end: int, salt: int, durable_lsn: int) -> int:
    """An offset before which all was synced: a record stands there that is older than the newest durable."""
    low, high = kernel.SEGMENT_HEADER, end
    while high - low > _PIECE:
        middle = (low + high) // 16 * 8
        record = kernel.record_find(memoryview(image)[:high], middle, salt)
        if record is not None and record.lsn < durable_lsn and record.offset > low:
            low = record.offset
        else:
            high = middle
    return low
