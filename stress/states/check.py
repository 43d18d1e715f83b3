"""One state of a disk: recovered by an engine in this process, and compared with what was promised.

Owns: what has to hold of a recovery, and the evidence where it does not.

What holds of every state that a crash can leave: it opens; it holds the model at one LSN, at or above the
last that was promised; the arena's audit is clean; every byte that was left out is in quarantine and is
reported; a new commit has an LSN above all that were ever handed out; and after a second power cut that takes
all that is not synced, it holds the same and the new commit. A state with garbage in the last write may be
refused instead (rule L3), and is counted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from durability.recording import RecordingFiles, Trace
from durability.rig import Machine

from memdb.durability import manifest, segments
from memdb.durability.recovery import Cut
from memdb.errors import CorruptionError, Error
from memdb.shm import _kernel as kernel
from stress.states.disk import Disk
from stress.states.power import Found, Surface
from stress.states.story import EMPTY_LSN, Keys, Story, everything, plain

NEW = b"new after the crash"


class Violation(Exception):
    """A state of the disk from which not everything was recovered as promised."""


@dataclass(frozen=True, slots=True)
class Case:
    """A state, how it came about, and what is owed."""

    found: Found
    full: int
    """At least this LSN is recovered."""
    handed_out: int
    garbage: bool
    how: str


@dataclass
class Outcome:
    """What a recovery gave. ``recovery``: the trace of it, up to where it was open for work."""

    refused: bool = False
    lsn: int = 0
    keys: Keys = field(default_factory=dict)
    cuts: int = 0
    recovery: Trace = field(default_factory=Trace)
    opened_at: int = 0
    highest: int = 0


def verify(story: Story, case: Case, expected: Keys | None = None) -> Outcome:
    """Recovers a state and holds it against the model, and against ``expected`` where another recovery of the
    same state has been seen. Raises Violation."""
    files = RecordingFiles(Disk(case.found.files, case.found.directories))
    machine = Machine(files, story.options, first_request=story.machine.request)
    try:
        machine.start()
    except CorruptionError as error:
        if case.garbage:
            return Outcome(refused=True)
        raise Violation(f"it does not open: {error}") from error
    except (Error, OSError) as error:
        raise Violation(f"it does not open: {type(error).__name__}: {error}") from error
    outcome = Outcome(recovery=files.trace, opened_at=len(files.trace.operations))
    outcome.keys = found = everything(machine)
    outcome.lsn = machine.report.lsn if machine.report.source != "created" else 0
    _same_as_model(story, case, outcome)
    if expected is not None and found != expected:
        raise Violation(f"another recovery of the same disk had found {_difference(expected, found)}")
    if faults := machine.engine.store.audit():
        raise Violation(f"the arena's audit: {faults}")
    outcome.cuts = _cuts_are_kept(machine, case)
    lsn = machine.set("new", NEW, "full")
    outcome.highest = lsn
    if lsn <= max(case.handed_out, outcome.lsn):
        raise Violation(f"a new commit has LSN {lsn}, and {case.handed_out} had been handed out")
    _reopen(story, files, found, lsn)
    return outcome


def _same_as_model(story: Story, case: Case, outcome: Outcome) -> None:
    lsn, found = outcome.lsn, outcome.keys
    if lsn < case.full:
        raise Violation(f"recovered up to LSN {lsn}: {case.full} had been acknowledged as durable")
    if lsn > case.handed_out and lsn > EMPTY_LSN:
        raise Violation(f"recovered up to LSN {lsn}, of which only {case.handed_out} had been handed out")
    wanted = story.keys_at(lsn)
    if plain(found) != wanted:
        raise Violation(f"at LSN {lsn} the model differs: {_difference(wanted, plain(found))}")
    answered = {
        int.from_bytes(entry[0][8:16], "little") for one, entry in found.items() if one.startswith(b"\x02o")
    }
    if any(one > lsn for one in answered):
        raise Violation(f"outcomes of LSNs {sorted(answered)} are stored in a state at LSN {lsn}")
    last = max((one for one in story.commits if one <= lsn), default=0)
    if last and last not in answered:
        raise Violation(f"the outcome of the commit with LSN {last} is not stored")


def _difference(wanted: Keys, found: Keys) -> str:
    parts = []
    for key in sorted(wanted.keys() | found.keys()):
        if wanted.get(key) != found.get(key):
            parts.append(f"{key!r}: {_short(found.get(key))} and not {_short(wanted.get(key))}")
    return "; ".join(parts[:4])


def _short(entry: tuple[bytes, int, int] | None) -> str:
    return "nothing" if entry is None else f"{entry[0][:12]!r}… of LSN {entry[1]}"


def _cuts_are_kept(machine: Machine, case: Case) -> int:
    """What was left out is in quarantine and reported; nothing was left out that is not."""
    before = case.found.files
    cuts: list[Cut] = machine.report.cuts
    for cut in cuts:
        kept = machine.files.read(cut.quarantine)
        if kept != before[cut.file][cut.offset : cut.offset + cut.bytes]:
            raise Violation(f"{cut.quarantine} does not hold what was cut off {cut.file} at {cut.offset}")
    now = manifest.load(machine.files)
    assert now is not None
    if cuts and (not now.reports or now.reports[-1]["cuts"] != [vars(cut) for cut in cuts]):
        raise Violation("the MANIFEST does not report the cut")
    for entry in now.segments[:-1]:
        path = segments.path_of(entry.number)
        image = before.get(path)
        if image is None or entry.end is None:
            raise Violation(f"{path} is named as a part of the log that has not ended, or is missing")
        behind = kernel.last_nonzero(image, entry.end.offset)
        known = [cut for cut in cuts if cut.file == path]
        earlier = any(
            one["file"] == path for report in now.reports[: -1 if cuts else None] for one in report["cuts"]
        )
        if behind > entry.end.offset and not known and not earlier and entry.end.kind == "sealed":
            raise Violation(f"{behind - entry.end.offset} bytes of {path} were left out in silence")
    return len(cuts)


def _reopen(story: Story, files: RecordingFiles, found: Keys, lsn: int) -> None:
    """After another power cut, which takes whatever is not synced."""
    surface = Surface(files.trace)
    for operation in files.trace.operations:
        surface.apply(operation)
    pieces = surface.pieces()
    left = surface.state(pieces, (0,) * len(pieces))
    again = Machine(Disk(left.files, left.directories), story.options)
    try:
        again.start()
    except (Error, OSError) as error:
        raise Violation(f"it does not open a second time: {type(error).__name__}: {error}") from error
    second = plain(everything(again))
    new = {one: entry for one, entry in second.items() if entry[1] == lsn}
    if [entry[0] for entry in new.values()] != [NEW + b"\0"]:
        raise Violation(f"opened a second time it lacks the commit of LSN {lsn}")
    without = {one: entry for one, entry in second.items() if entry[1] != lsn}
    if without != {one: entry for one, entry in plain(found).items() if one not in new}:
        raise Violation(f"opened a second time it holds {_difference(plain(found), second)}")
    if again.report.cuts:
        raise Violation(f"opened a second time something is cut: {again.report.cuts}")


def keep_evidence(directory: Path, story: Story, case: Case, why: str) -> Path:
    """Writes the state as a directory that any tool can look at, with what led to it; its path."""
    number = len(list(directory.glob("state-*"))) if directory.is_dir() else 0
    home = directory / f"state-{number:04d}"
    for path in sorted(case.found.directories):
        (home / "data" / path).mkdir(parents=True, exist_ok=True, mode=0o700)
    for path, content in case.found.files.items():
        (home / "data" / path).write_bytes(content)
    trace = [
        {
            "kind": one.kind,
            "path": one.path,
            "offset": one.offset,
            "bytes": len(one.data),
            "target": one.target,
        }
        for one in story.files.trace.operations
    ]
    told = {
        "why": why,
        "how": case.how,
        "at_least_lsn": case.full,
        "handed_out": case.handed_out,
        "garbage": case.garbage,
        "workload": story.steps,
        "commits": {lsn: commit.level for lsn, commit in sorted(story.commits.items())},
        "trace": trace,
    }
    (home / "story.json").write_text(json.dumps(told, indent=1))
    return home
