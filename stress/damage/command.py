"""`python -m stress damage`: every bit, byte, length, sector, record, segment and directory.

Owns: which cases a tier runs, and the figures. quick: every bit of 4 KiB of log and samples of the rest;
nightly: a segment of 64 KiB, a checkpoint and a manifest, bit by bit, and all of the rest.

The seed makes the scenes and chooses the samples: a run is repeated by its seed. A violation prints its case
and seed, and keeps the damaged directory.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from time import monotonic, process_time

from durability.rig import Machine

from memdb.durability import manifest
from memdb.durability.files import MemoryFiles
from memdb.errors import CorruptionError, Error
from stress.damage import cases, live
from stress.damage.cases import Case
from stress.damage.scenes import SCENES, Scene, small
from stress.damage.verdicts import (
    Tally,
    Violation,
    judge,
    judge_reading,
    judge_salvage,
    judge_until_damage,
    read,
    state_of,
)

_LOG = 4096  # where records begin in a segment
_LIVE = "live copies"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "--tier",
        choices=("quick", "nightly"),
        default="quick",
        help="4 KiB of log bit by bit and samples (default), or all",
    )
    parser.add_argument("--seed", type=int, default=None, help="repeats a run; random unless given")
    parser.add_argument("--first", action="store_true", help="ends at the first violation")
    parser.add_argument(
        "--part", choices=(*_PARTS, _LIVE), action="append", help="only this part; may be given again"
    )
    parser.add_argument(
        "--evidence", type=Path, help="where damaged files are kept (default: a new directory)"
    )


class _Enough(Exception):
    """The first violation was all that was asked for."""


class _Run:
    """One run: its tier, its tally, its random choices."""

    def __init__(self, tier: str, seed: int, evidence: Path, *, first: bool) -> None:
        self.first = first
        self.nightly, self.seed, self.tally = tier == "nightly", seed, Tally(evidence)
        self.random = random.Random(seed)
        self.wanted_bits = (64 if self.nightly else 4) * 1024 * 8
        self._turn = 0

    def sample(self, these: Iterable[Case], share: float) -> Iterator[Case]:
        """All of them nightly, a share of them otherwise."""
        return iter(these) if self.nightly else (one for one in these if self.random.random() < share)

    def bytes_of(self, kind: str, scene: Scene, these: Iterable[Case], *, every: int) -> int:
        """Judges each case in its place: how many. In all modes each ``every``th (0: none)."""
        count = 0
        for case in these:
            count += 1
            self._turn += 1
            content = scene.files.contents(case.path)
            before = bytes(content)
            content[:] = case.content or b""
            try:
                verdict = judge(
                    scene, scene.files, (case.path, case.offset), zeroed=case.zeroed, row=every == 0
                )
                if every and self._turn % every == 0:
                    judge_until_damage(scene, scene.files)
                    judge_salvage(scene, scene.files)
                self.tally.note(kind, verdict)
                if every and verdict == "cut" and self._turn % every == 0:
                    _lasts(scene, scene.files.survivor(), "strict")
            except (Violation, Error, ValueError, IndexError) as error:
                self._violated(kind, case.label, scene.files, error)
            finally:
                content[:] = before
        return count

    def files_of(self, kind: str, label: str, files: MemoryFiles, verdict: Callable[[], str]) -> None:
        """One case that has a directory of its own."""
        try:
            self.tally.note(kind, verdict())
        except (Violation, Error, ValueError) as error:
            self._violated(kind, label, files, error)

    def _violated(self, kind: str, label: str, files: MemoryFiles, error: BaseException) -> None:
        self.tally.violate(kind, label, self.seed, files, error)
        if self.first:
            raise _Enough


def _lasts(scene: Scene, files: MemoryFiles, mode: str) -> None:
    """The engine itself recovers, goes on, and is recovered once more: the state stays."""
    expected = state_of(read(files, mode))
    first = Machine(files=files, options=small(recovery=mode)).start()
    first.commit([{"op": "set", "key": b"\x01\x01after\x00", "value": b"1\0"}], "full")
    assert isinstance(first.files, MemoryFiles)
    again = state_of(read(first.files.crash(lambda path, sector: False), "strict"))
    lsn = again.pop(b"\x01\x01after\x00", (b"", 0))[1]
    if again != expected:
        raise Violation(f"{mode}: what was recovered has changed by the next start")
    if lsn <= scene.latest and lsn in scene.states:
        raise Violation(f"{mode}: LSN {lsn} was given out twice")


# ---------------------------------------------------------------------------------------------- the parts


def _log(run: _Run) -> int:
    """Every bit of 4 KiB of log, and of nightly's 64 KiB; bytes, lengths, sectors, records."""
    scene, other = SCENES["short log"](run.seed), SCENES["short log"](run.seed + 1)
    path = scene.path("wal", 0)
    size = len(scene.files.contents(path))
    header = chain(cases.bits(scene, path, range(80)), cases.values(scene, path, range(80)))
    run.bytes_of("header of a segment", scene, run.sample(header, 0.3), every=97)
    value = cases.values(scene, path, range(_LOG, _LOG + 4800))
    run.bytes_of("bytes of the log to 00, FF", scene, run.sample(value, 0.15), every=97)
    run.bytes_of(
        "lengths of a segment", scene, run.sample(cases.lengths(scene, path, range(size)), 0.01), every=97
    )
    run.bytes_of("sectors of the log zeroed", scene, cases.sectors(scene, path), every=5)
    for count in (2, 8):
        run.bytes_of("rows of sectors zeroed", scene, cases.sectors(scene, path, count), every=0)
    run.bytes_of("records moved", scene, cases.records(scene, path, other), every=7)
    idle = SCENES["ends durable"](run.seed)
    path = idle.path("wal", 0)
    run.bytes_of("a durable end zeroed", idle, map(_as_damage, cases.sectors(idle, path)), every=5)
    value = cases.values(idle, path, range(_LOG, _LOG + 4800))
    run.bytes_of("bytes of the log to 00, FF", idle, run.sample(value, 0.1), every=97)
    path = scene.path("wal", 0)
    flipped = run.bytes_of(
        "bits of the log", scene, cases.bits(scene, path, range(_LOG, _LOG + 4096)), every=97
    )
    if not run.nightly:
        return flipped
    full = SCENES["long log"](run.seed)
    path = full.path("wal", 0)
    return run.bytes_of("bits of the log", full, cases.bits(full, path, range(64 * 1024)), every=997)


def _as_damage(case: Case) -> Case:
    """One lost sector is no excuse where all was durable."""
    return Case(case.label, case.path, case.offset, case.content)


def _checkpoint(run: _Run) -> int:
    """The newest checkpoint: whatever is done to it alone, nothing is lost."""
    scene = SCENES["checkpoints"](run.seed)
    path = scene.path("checkpoints", -1)
    size = len(scene.files.contents(path))
    parts = (
        run.sample(cases.bits(scene, path, range(size)), 0.02),
        run.sample(cases.values(scene, path, range(size)), 0.02),
        run.sample(cases.lengths(scene, path, range(size)), 0.02),
        cases.sectors(scene, path),
    )
    before, count = run.tally.verdicts["right"], 0
    for part in parts:
        count += run.bytes_of("the newest checkpoint", scene, part, every=211)
    lost = count - (run.tally.verdicts["right"] - before)
    if lost:
        run.tally.violations.append(f"the newest checkpoint: {lost} cases lost something (seed {run.seed})")
    return count + _both_checkpoints(run)


def _both_checkpoints(run: _Run) -> int:
    """The log does not go back behind them: a salvage takes what blocks are whole, and names what it lost."""
    count = 2000 if run.nightly else 60
    scenes = [SCENES["small blocks"](run.seed + turn) for turn in range(3)]
    for turn in range(count):
        scene = scenes[turn % len(scenes)]
        case = cases.both_checkpoints(scene, run.random)
        run.files_of("both checkpoints", case.label, case.files, partial(_judge_files, scene, case.files))
    return count


def _manifest(run: _Run) -> int:
    """The manifest: each change of it is refused; salvage makes it anew."""
    scene = SCENES["segments"](run.seed)
    size = len(scene.files.contents("MANIFEST"))
    parts = (
        run.sample(cases.bits(scene, "MANIFEST", range(size)), 0.2),
        run.sample(cases.values(scene, "MANIFEST", range(size)), 0.2),
        run.sample(cases.lengths(scene, "MANIFEST", range(size)), 0.2),
        cases.sectors(scene, "MANIFEST"),
    )
    return sum(run.bytes_of("the manifest", scene, part, every=61) for part in parts)


def _segments(run: _Run) -> int:
    """Files gone, swapped, doubled, foreign, of an earlier time; sealed segments by the sector."""
    count = 0
    for name in ("segments", "checkpoints"):
        scene, other = SCENES[name](run.seed), SCENES[name](run.seed + 1)
        earlier = _earlier(run.seed, name)
        for case in cases.whole_files(scene, other, earlier):
            count += 1
            run.files_of("whole files", case.label, case.files, partial(_judge_files, scene, case.files))
        for path in (f"wal/{one}" for one in scene.files.listdir("wal")):
            run.bytes_of("sectors of segments zeroed", scene, cases.sectors(scene, path), every=23)
            run.bytes_of(
                "segments cut short", scene, cases.lengths(scene, path, range(0, 65536, 1777)), every=23
            )
    return count


def _earlier(seed: int, name: str) -> Scene:
    """Another life of the same kind of database: same numbers, other salts."""
    return SCENES[name](seed + 2)


def _judge_files(scene: Scene, files: MemoryFiles) -> str:
    verdict = judge(scene, files)
    judge_until_damage(scene, files)
    judge_salvage(scene, files)
    return verdict


def _directories(run: _Run) -> int:
    """MANIFEST, wal/ and checkpoints/ of two moments of one database put together."""
    count = 0
    for case, older, newer, old_parts in cases.mixed_directories(run.seed):
        if not run.nightly and run.random.random() > 0.25:
            continue
        count += 1
        whole = _judged_against(older, newer, old_parts)
        run.files_of("mixed directories", case.label, case.files, partial(_judge_mixed, whole, case.files))
    return count


def _judged_against(older: Scene, newer: Scene, old_parts: frozenset[str]) -> Scene:
    """What must be there: what was durable when the log was copied, and what the MANIFEST knows was durable.
    Since then it knows nothing: an older log beside it is an older copy of both, and nothing can tell."""
    named = manifest.load((older if "MANIFEST" in old_parts else newer).files)
    assert named is not None
    known = max([named.durable_lsn, *(one.lsn for one in named.checkpoints)])
    durable = max((older if "wal" in old_parts else newer).durable, known)
    return Scene(older.files, newer.states, newer.writes, durable, older.seed)


def _judge_mixed(scene: Scene, files: MemoryFiles) -> str:
    try:
        reading = read(files, "strict")
    except CorruptionError:
        return judge(scene, files)
    found = state_of(reading)
    if reading.lsn < scene.durable:
        raise Violation(f"LSN {scene.durable} was durable, and only {reading.lsn} is there")
    if found != scene.states.get(reading.lsn):
        return judge_reading(scene, reading, files)
    return "right"


def _carried_out(run: _Run) -> int:
    """Recoveries that are carried out by the engine, and recovered again: the result lasts."""
    count = 0
    for name in ("short log", "segments", "checkpoints"):
        scene = SCENES[name](run.seed)
        path = scene.path("wal", -1 if name == "segments" else 0)
        lengths = [run.random.randrange(_LOG, _LOG + 3000) for _ in range(20 if run.nightly else 3)]
        for offset in lengths:
            content = bytearray(scene.files.contents(path))
            content[offset] ^= 0x20
            for mode in ("until_damage", "salvage"):
                files = scene.files.survivor()
                files.contents(path)[:] = content
                count += 1
                label = f"byte {offset} of {path}, {mode}"
                run.files_of("carried out", label, files, partial(_carry, scene, files, mode))
        for missing in ("MANIFEST", scene.path("wal", 0)):
            files = scene.files.survivor()
            files.unlink(missing)
            count += 1
            run.files_of("carried out", f"{missing} gone", files, partial(_carry, scene, files, "salvage"))
    return count


def _carry(scene: Scene, files: MemoryFiles, mode: str) -> str:
    try:
        read(files, mode)
    except CorruptionError:
        return "refused"
    _lasts(scene, files, mode)
    return "right"


# ------------------------------------------------------------------------------------------------- the run


def main(arguments: argparse.Namespace) -> int:
    """Runs a tier; 0 if nothing was violated."""
    seed = random.SystemRandom().randrange(1 << 30) if arguments.seed is None else arguments.seed
    place = Path(tempfile.mkdtemp(prefix="memdb-damage-"))
    run = _Run(arguments.tier, seed, arguments.evidence or place / "evidence", first=arguments.first)
    wanted = arguments.part or [*_PARTS, _LIVE]
    print(f"damage: tier {arguments.tier}, seed {seed}", flush=True)
    begun, worked = monotonic(), process_time()
    counts: dict[str, int] = {}
    try:
        for name in wanted:
            at = monotonic()
            counts[name] = _live(run, place) if name == _LIVE else _PARTS[name](run)
            print(f"  {name}: {counts[name]:,} cases, {monotonic() - at:.1f} s", flush=True)
    except _Enough:
        print("  ended at the first violation")
    if "log" in counts and not run.first and counts["log"] < run.wanted_bits:
        run.tally.violations.append(f"only {counts['log']:,} bits of log, {run.wanted_bits:,} are wanted")
    _report(run, counts, monotonic() - begun, process_time() - worked)
    if not run.tally.violations:
        shutil.rmtree(place)
    return 1 if run.tally.violations else 0


_PARTS: dict[str, Callable[[_Run], int]] = {
    "log": _log,
    "checkpoint": _checkpoint,
    "manifest": _manifest,
    "segments": _segments,
    "directories": _directories,
    "carried out": _carried_out,
}


def _live(run: _Run, place: Path) -> int:
    """Copies of a running engine's directory."""
    count = 40 if run.nightly else 4
    try:
        verdicts = live.copies(place, count)
    except Violation as error:
        run.tally.violations.append(f"live copies: {error} (seed {run.seed})")
    else:
        run.tally.kinds["live copies"] += count
        run.tally.verdicts.update(verdicts)
    return count


def _report(run: _Run, counts: dict[str, int], seconds: float, processor: float) -> None:
    tally = run.tally
    for kind, number in sorted(tally.kinds.items()):
        print(f"  {kind}: {number:,}")
    print(f"  verdicts: {', '.join(f'{name} {number:,}' for name, number in sorted(tally.verdicts.items()))}")
    for violation in tally.violations[:50]:
        print(f"VIOLATION {violation[:500]}")
    total = sum(tally.kinds.values())
    wanted_seconds = "no limit" if run.nightly else "<= 25 s"
    print(f"FIGURE bits of the log flipped: {counts.get('log', 0):,} (wanted {run.wanted_bits:,})")
    print(f"FIGURE damaged directories judged: {total:,} (wanted all accounted for)")
    print(f"FIGURE wrong data or silent losses: {len(tally.violations)} (wanted 0)")
    vanished = tally.verdicts["vanished"]
    print(
        f"FIGURE whole sectors of newest commits zeroed, with nothing left to tell: {vanished} (known limit)"
    )
    print(
        f"FIGURE time of one processor: {processor:.1f} s, {seconds:.1f} s in all (wanted {wanted_seconds})"
    )
    print(f"{total - len(tally.violations)} passed, {len(tally.violations)} failed")
