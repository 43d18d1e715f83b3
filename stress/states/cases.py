"""From a story to the states that a crash may have left, each once, with the most that is owed for it.

Owns: at which moments of a trace the disk is looked at, and the merging of equal states.

A state that is possible at several moments has to satisfy the strongest promise among them. Moments: after
every operation all that was done (a kill); just before every sync, and at the end, all choices of what had
reached the disk (a power cut, power.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable

from durability.recording import Trace

from memdb.durability import manifest, segments
from memdb.shm import _kernel as kernel
from stress.states.check import Case
from stress.states.disk import Disk
from stress.states.power import SECTOR, Found, Surface, vectors
from stress.states.story import Promise, Story

Owed = Callable[[int], Promise]


def cases_of(
    trace: Trace, owed: Owed, chance: random.Random, samples: int, first: int = 0, *, refusable: bool = True
) -> list[Case]:
    """All states, from the ``first``-th operation on. ``refusable``: garbage may be."""
    collected = _Collected(refusable)
    surface = Surface(trace)
    for place, operation in enumerate(trace.operations):
        if place >= first:
            collected.kill(surface, place, owed(place))
            if operation.kind in ("sync", "syncdir"):
                collected.cut(surface, place, owed(place), chance, samples)
        surface.apply(operation)
    end = len(trace.operations)
    collected.kill(surface, end, owed(end))
    collected.cut(surface, end, owed(end), chance, samples)
    return list(collected.cases.values())


class _Collected:
    def __init__(self, refusable: bool) -> None:
        self.cases: dict[int, Case] = {}
        self._refusable = refusable

    def kill(self, surface: Surface, place: int, promise: Promise) -> None:
        pieces = surface.pieces()
        everything = tuple(len(one.versions) - 1 for one in pieces)
        self._add(surface.state(pieces, everything), promise.os, promise, f"killed before operation {place}")

    def cut(
        self, surface: Surface, place: int, promise: Promise, chance: random.Random, samples: int
    ) -> None:
        pieces = surface.pieces()
        for vector in vectors(surface, pieces, chance, samples):
            how = f"power cut before operation {place}, versions {vector}"
            self._add(surface.state(pieces, vector), promise.full, promise, how)
        everything = tuple(len(one.versions) - 1 for one in pieces)
        some = tuple(chance.randrange(len(one.versions)) for one in pieces)
        for kind, sector in surface.spoilt(pieces, chance):
            for vector in (everything, some):
                how = f"power cut before operation {place}, versions {vector}, {kind} in the last sector"
                garbage = kind == "garbage" and self._refusable
                self._add(surface.state(pieces, vector, sector), promise.full, promise, how, garbage)

    def _add(self, found: Found, least: int, promise: Promise, how: str, garbage: bool = False) -> None:
        number = found.fingerprint()
        known = self.cases.get(number)
        if known is None:
            self.cases[number] = Case(found, least, promise.handed_out, garbage, how)
        else:
            self.cases[number] = Case(
                known.found,
                max(known.full, least),
                max(known.handed_out, promise.handed_out),
                known.garbage and garbage,
                how if least > known.full else known.how,
            )


def cases_of_story(story: Story, chance: random.Random, samples: int, first: int = 0) -> list[Case]:
    """The states of a workload."""
    return cases_of(story.files.trace, story.promise, chance, samples, first)


def holes_of(story: Story) -> list[Case]:
    """What no crash leaves: at the end, one synced sector of the open segment is zeros again, and a later
    record tells that it was durable. Such a hole is refused, not cut: what had been promised is not given up
    in silence. (Behind the last that a record tells of, a lost record is a tear: not tried here.)"""
    files = story.files.inner
    assert isinstance(files, Disk)
    contents, now = files.contents(), manifest.load(files)
    assert now is not None
    entry = now.segments[-1]
    path, image = segments.path_of(entry.number), contents[segments.path_of(entry.number)]
    promise = story.promise(len(story.files.trace.operations))
    records, offset = [], kernel.SEGMENT_HEADER
    while (record := kernel.record_read(image, offset, entry.salt)).verdict == kernel.RECORD_GOOD:
        records.append(record)
        offset += record.padded
    cases = []
    for sector in range(kernel.SEGMENT_HEADER // SECTOR, -(-offset // SECTOR)):
        start, end = sector * SECTOR, (sector + 1) * SECTOR
        hit = [one for one in records if one.offset < end and one.offset + one.padded > start]
        told = max((one.durable_lsn for one in records if one not in hit), default=0)
        commits = [one.lsn for one in hit if one.type == kernel.RECORD_COMMIT and one.lsn <= told]
        if commits:
            holed = image[:start] + bytes(SECTOR) + image[end:]
            found = Found({**contents, path: holed}, frozenset(files.directories))
            how = f"sector {sector} of {path} is gone, though LSN {told} is told to be durable"
            least = max(promise.full, min(told, max(story.commits)))
            cases.append(Case(found, least, promise.handed_out, True, how))
    return cases
