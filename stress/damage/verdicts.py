"""The verdict on one damaged directory.

Owns: what counts as right. The engine's own recovery reads the directory, whole; nothing is judged by a part
of it. Reading changes nothing, so thousands of cases share one directory.

Invariants: a state is compared with LSNs and all; a refusal must say file, offset, LSN and command; a cut
must be above all that was durable, look like a tear, and be reported.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from memdb.durability import recovery, salvage
from memdb.durability.files import MemoryFiles
from memdb.durability.recovery import Reading
from memdb.errors import CorruptionError, Error
from memdb.shm import _kernel as kernel
from stress.damage.scenes import Scene, Versions

SECTOR = 512
_IN_NO_FILE = re.compile(r"commits from LSN (\d+) to (\d+) are in no file")
_ARENA = kernel.Mapping.anonymous(8 << 20)


class Violation(Exception):
    """Wrong data, or a loss that nobody is told of."""


@dataclass
class Tally:
    """What became of the cases. ``evidence``: where the files of a violation are kept."""

    evidence: Path
    verdicts: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def note(self, kind: str, verdict: str) -> None:
        self.kinds[kind] += 1
        self.verdicts[verdict] += 1

    def violate(self, kind: str, label: str, seed: int, files: MemoryFiles, error: BaseException) -> None:
        """Keeps the first ones' files."""
        self.kinds[kind] += 1
        where = ""
        if len(self.violations) < 10:
            place = self.evidence / f"{len(self.violations):02d}"
            store(files, place)
            where = f"; files: {place}"
        self.violations.append(f"{kind}: {label} (seed {seed}): {type(error).__name__}: {error}{where}")


def store(files: MemoryFiles, place: Path) -> None:
    """Writes a directory of memory to the disk."""
    for directory in ("", "wal", "checkpoints", "quarantine"):
        (place / directory).mkdir(parents=True, exist_ok=True)
        for name in files.listdir(directory):
            data = (
                files.read(f"{directory}/{name}" if directory else name)
                if "." in name or not directory
                else None
            )
            if data is not None:
                (place / directory / name).write_bytes(data)


def _make_store() -> kernel.Store:
    return kernel.Store(_ARENA, -1, limit=6 << 20, generation=1, hash_seed=1)


def read(files: MemoryFiles, mode: str) -> Reading:
    """What a recovery comes to; nothing is changed."""
    found, made = recovery.find_manifest(files, mode)
    if found is None:
        raise Violation("a directory with data files is taken for a new one")
    return recovery.read(files, found, _make_store, mode, made=made)


def state_of(reading: Reading) -> Versions:
    """All plain keys, with values and LSNs."""
    reading.store.open(reading.lsn)
    reader = salvage.snapshot_reader(reading.store)
    try:
        items = [
            one
            for payload, _ in reader.batches(start=b"\1", stop=b"\2")
            for one in kernel.batch_items(payload)
        ]
    finally:
        reader.close()
    return {key: (value, lsn) for key, value, lsn, _ in items}


# --------------------------------------------------------------------------------- strict and until_damage


def judge(
    scene: Scene,
    files: MemoryFiles,
    where: tuple[str, int] | None = None,
    *,
    zeroed: bool = False,
    row: bool = False,
) -> str:
    """right, refused, cut, or vanished: whole commits are gone with their sectors (``zeroed``), as before
    they were written. They were above all that was durable, or (``row``: several sectors side by side) no
    mark that says so is left. Raises Violation."""
    try:
        reading = read(files, "strict")
    except CorruptionError as error:
        check_refusal(error, where)
        return "refused"
    except Error as error:
        raise Violation(f"damage is taken for something else: {type(error).__name__}: {error}") from error
    return judge_reading(scene, reading, files, zeroed=zeroed, row=row)


def judge_reading(
    scene: Scene, reading: Reading, files: MemoryFiles, *, zeroed: bool = False, row: bool = False
) -> str:
    """The verdict on what was accepted."""
    found = state_of(reading)
    if reading.lsn in scene.states and found != scene.states[reading.lsn]:
        raise Violation(f"wrong data at LSN {reading.lsn}: {_difference(found, scene.states[reading.lsn])}")
    if found == scene.states[scene.latest]:
        return "right"
    if reading.lsn not in scene.states:
        raise Violation(f"LSN {reading.lsn} is none of a commit, and the data are not the newest")
    if row and _is_nothing_left(reading):
        return "vanished"
    if reading.lsn < scene.durable:
        raise Violation(f"LSN {scene.durable} was durable, and only {reading.lsn} is there: a silent loss")
    if not reading.report.cuts:
        if zeroed:
            return "vanished"
        raise Violation(f"commits behind LSN {reading.lsn} are gone without a word")
    for cut in reading.report.cuts:
        if (
            cut.kind != "torn"
            or not cut.quarantine
            or not _has_zero_sector(files, cut.file, cut.offset, cut.bytes)
        ):
            raise Violation(f"what is cut is no tear: {cut}")
    return "cut"


def _is_nothing_left(reading: Reading) -> bool:
    """Does no record that is left behind the end of the log tell that more was durable?"""
    piece = reading.log.pieces[-1]
    offset = piece.judgement.end
    while (found := kernel.record_find(piece.image, offset, piece.entry.salt)) is not None:
        if found.durable_lsn > reading.lsn:
            return False
        offset = found.offset + 8
    return True


def _has_zero_sector(files: MemoryFiles, path: str, offset: int, length: int) -> bool:
    data = files.contents(path)
    first, last = -(-offset // SECTOR), -(-(offset + length) // SECTOR)
    if offset < first * SECTOR and not any(data[offset : first * SECTOR]):  # of the sector that it begins in
        return True
    return any(not any(data[at * SECTOR : (at + 1) * SECTOR]) for at in range(first, last + 1))


def check_refusal(error: CorruptionError, where: tuple[str, int] | None) -> None:
    """It names file, offset, LSN and command; of damage in one place that file, and no place behind it."""
    if not error.file or error.offset is None or error.offset < 0 or not error.lsn or not error.command:
        raise Violation(f"a refusal that does not say where or what next: {error.to_wire()}")
    if not error.command.startswith("memdb recover ") or error.command not in str(error):
        raise Violation(f"a refusal without its command: {error}")
    if where is not None and (error.file != where[0] or error.offset > where[1]):
        raise Violation(f"damage at {where} is said to be at {error.file}, offset {error.offset}: {error}")


def _difference(found: Versions, wanted: Versions) -> str:
    keys = [key for key in sorted(found.keys() | wanted.keys()) if found.get(key) != wanted.get(key)]
    return ", ".join(f"{key!r} is {found.get(key)}, not {wanted.get(key)}" for key in keys[:3])


def judge_until_damage(scene: Scene, files: MemoryFiles) -> str:
    """A state that the database really had, and a report of the rest; or a refusal."""
    try:
        reading = read(files, "until_damage")
    except CorruptionError as error:
        check_refusal(error, None)
        return "refused"
    found = state_of(reading)
    known = [lsn for lsn in scene.states if lsn <= reading.lsn]
    if found != scene.states[max(known)]:
        raise Violation(f"until_damage: the data are of no moment (LSN {reading.lsn})")
    if max(known) < scene.durable and not reading.report.cuts:
        raise Violation(f"until_damage: only LSN {reading.lsn} is there, without a word")
    return "right" if max(known) == scene.latest else "cut"


# -------------------------------------------------------------------------------------------------- salvage


def judge_salvage(scene: Scene, files: MemoryFiles) -> str:
    """Every transaction is there whole or not at all, every value was written, what is missing is told."""
    try:
        reading = read(files, "salvage")
    except CorruptionError as error:
        check_refusal(error, None)
        return "refused"
    found = state_of(reading)
    for key, (value, lsn) in found.items():
        if scene.writes.get(lsn, {}).get(key) != value:
            raise Violation(f"salvage: {key!r} holds what LSN {lsn} did not write there")
    told = _told(scene, reading)
    for lsn, changes in scene.writes.items():
        outside = [key for key in changes if not _is_lost(reading, key)]
        applied = [key for key in outside if _has(scene, found, key, lsn)]
        if len(applied) not in (0, len(outside)):
            raise Violation(f"salvage: LSN {lsn} is there in part: {applied} of {outside}")
        if outside and not applied and lsn not in told and lsn <= scene.durable:
            raise Violation(f"salvage: LSN {lsn} is gone without a word: {reading.report.cuts}")
    return "right" if found == scene.states[scene.latest] else "cut"


def _is_lost(reading: Reading, key: bytes) -> bool:
    """Does the report say that the key may be gone, by a hole that it lies in?"""
    return any(
        (hole.after is None or hole.after < key) and (hole.before is None or key < hole.before)
        for hole in reading.report.lost_keys
    )


def _has(scene: Scene, found: Versions, key: bytes, lsn: int) -> bool:
    """Does the state of a key show that the commit ``lsn``, or a later one, was applied to it?"""
    if key in found:
        return found[key][1] >= lsn
    return any(
        other >= lsn and key in changes and changes[key] is None for other, changes in scene.writes.items()
    )


def _told(scene: Scene, reading: Reading) -> set[int]:
    """The LSNs that the report says may be missing."""
    told: set[int] = set()
    for cut in reading.report.cuts:
        told.update(lsn for lsn in scene.writes if cut.first_lsn <= lsn <= cut.last_lsn)
    for note in reading.report.notes:
        if found := _IN_NO_FILE.search(note):
            told.update(lsn for lsn in scene.writes if int(found[1]) <= lsn <= int(found[2]))
    return told
