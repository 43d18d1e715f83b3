"""`python -m stress points`: a kill right before and right after every durable step of the engine.

Owns: which points there are, their distribution over lanes, and the verdict. A point is a phase of the
workload (phases.py), a label (tests/shim), the n-th hit of that label in the phase, before or after the step,
and who dies: the process that takes the step, or all of the engine.

Invariants:

* After every point all of the database is read, compared with what was acknowledged, and checked.
* Every label is hit and killed at; a point that is not reached, a label that is in no phase, and a label that
  nobody knew fail the run.
* The quick tier kills at each label twice (before, after), at its first hit in a phase of the seed's choice;
  the nightly one at the first five hits of each label in each phase, before and after, one and all.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from shim.steering import Order, library_in

import memdb
from stress.chaos.command import left_behind, shared_names
from stress.chaos.phases import PHASES, Database, Phase, Violation

__all__ = ["LABELS", "Point", "add_arguments", "main", "points"]

LABELS = tuple(sorted({label for phase in PHASES for label in phase.labels}))
_LANES = {"quick": 3, "nightly": 4}
_HITS = {"quick": 1, "nightly": 5}
_TRIES = 3
_TOLD_EVERY = 25
_SLOW = ("failed log",)
"""Phases that wait for seconds: not in the quick tier."""
_LIGHT = ("commits", "rotate", "checkpoint", "clear_wal", "compact", "writer's death")


@dataclass(frozen=True)
class Point:
    """Where a kill is."""

    phase: Phase
    label: str
    hit: int
    after: bool
    all_die: bool

    def __str__(self) -> str:
        return (
            f"{self.phase.name}, {'after' if self.after else 'before'} {self.label} #{self.hit}, "
            f"{'all die' if self.all_die else 'one dies'}"
        )

    @property
    def action(self) -> str:
        """As the shim calls it."""
        return f"kill {'group ' if self.all_die else ''}{'after' if self.after else 'before'}"


def points(tier: str, choose: random.Random) -> list[Point]:
    """All points of a tier."""
    if tier == "quick":
        return [_drawn(label, after, choose) for label in LABELS for after in (False, True)]
    return [
        Point(phase, label, hit, after, all_die)
        for phase in PHASES
        for label, count in phase.labels.items()
        for hit in range(1, min(count, _HITS[tier]) + 1)
        for after in (False, True)
        for all_die in (False, True)
    ]


def _drawn(label: str, after: bool, choose: random.Random) -> Point:
    """At a label's first hit in some phase, rather in one that starts few processes."""
    phases = [phase for phase in PHASES if label in phase.labels and phase.name not in _SLOW]
    weights = [3 if phase.name in _LIGHT else 1 for phase in phases]
    phase = choose.choices(phases, weights=weights)[0]
    return Point(phase, label, 1, after, choose.random() < 1 / 3)


@dataclass
class Lane:
    """One thread's share of the points, on databases of its own."""

    home: Path
    library: Path
    todo: Sequence[Point]
    killed: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    done: int = 0
    _database: Database | None = None
    _count: int = 0

    def run(self) -> None:
        """All of them; after a problem the rest goes on in a fresh database, and the old one is kept."""
        for point in self.todo:
            try:
                self._try(point)
                self.done += 1
                if self.done % _TOLD_EVERY == 0:
                    print(f"  {self.home.name}: {self.done} of {len(self.todo)}", flush=True)
            except (Violation, memdb.Error, OSError) as error:
                where = self._database.path if self._database else self.home
                self.problems.append(f"{point}: {type(error).__name__}: {error} (kept in {where})")
                print(f"VIOLATION {self.problems[-1]}"[:3000], file=sys.stderr, flush=True)
                self._put_away()
        self._put_away()

    def _try(self, point: Point) -> None:
        for _ in range(_TRIES):
            database = self._fresh() if point.phase.fresh or self._database is None else self._database
            orders: list[Order] = []

            def arm(database: Database = database, orders: list[Order] = orders) -> None:
                orders.append(database.steering.order(point.label, point.action, hit=point.hit))
                if point.all_die:
                    database.die_with(orders[0])

            point.phase.run(database, arm)
            fired = orders[0].fired
            orders[0].cancel()
            if fired:
                self.killed[point.label] += 1
                return
        raise Violation(f"not reached in {_TRIES} tries")

    def _fresh(self) -> Database:
        self._put_away()
        self._count += 1
        self._database = Database(self.home / str(self._count), self.library)
        return self._database

    def _put_away(self) -> None:
        """The database ends; what it has hit is counted."""
        if self._database is None:
            return
        database, self._database = self._database, None
        database.steering.cancel()
        try:
            database.forget()
            database.leave()
        finally:
            database.kill()
            self.hits += database.steering.hits()
            database.steering.close()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `points`."""
    parser.add_argument(
        "--tier",
        choices=("quick", "nightly"),
        default="quick",
        help="each label twice (default), or its first five hits in each phase",
    )
    parser.add_argument("--seed", type=int, default=None, help="of all choices; printed")
    parser.add_argument("--phase", help="only the points of this phase")
    parser.add_argument("--label", help="only the points at this label")
    parser.add_argument("--dir", type=Path, help="where the databases go (default: a temporary directory)")


def main(arguments: argparse.Namespace) -> int:
    """Runs all points and prints the verdict; exit code 1 if anything was wrong."""
    seed = random.SystemRandom().randrange(1 << 30) if arguments.seed is None else arguments.seed
    choose = random.Random(seed)
    home = Path(tempfile.mkdtemp(prefix="memdb-points-", dir=arguments.dir))
    print(f"points: seed {seed}, {arguments.tier}, {home}", flush=True)
    names, begun = shared_names(), monotonic()
    chosen = [
        point
        for point in points(arguments.tier, choose)
        if arguments.phase in (None, point.phase.name) and arguments.label in (None, point.label)
    ]
    choose.shuffle(chosen)
    lanes = _run(chosen, home, _LANES[arguments.tier])
    problems = list[str]()
    killed, hits = Counter[str](), Counter[str]()
    for lane in lanes:
        killed += lane.killed
        hits += lane.hits
    problems += [f"the label {label} is in no phase" for label in sorted(hits.keys() - set(LABELS))]
    missed = sorted({point.label for point in chosen} - killed.keys())
    problems += [f"no kill at {label}" for label in missed]
    problems += [f"left behind: {what}" for what in left_behind(home, names)]
    for label in sorted(killed):
        print(f"  {label:24} killed at {killed[label]:4}, hit {hits[label]:6}")
    print(
        f"FIGURE kill points: {killed.total()} kills at {len(killed)} labels in {monotonic() - begun:.0f} s"
    )
    print(f"FIGURE labels never killed at: {len(missed)} (wanted 0)")
    for problem in problems:
        print(f"VIOLATION {problem}"[:3000], file=sys.stderr)
    problems += [problem for lane in lanes for problem in lane.problems]
    print(f"{sum(lane.done for lane in lanes)} passed, {len(problems)} failed", flush=True)
    if problems:
        print(
            f"kept in {home}; again: python -m stress points --tier {arguments.tier} --seed {seed}",
            file=sys.stderr,
        )
        return 1
    shutil.rmtree(home)
    return 0


def _run(chosen: Sequence[Point], home: Path, count: int) -> list[Lane]:
    """Lanes overlap their waits for the disk and for starting processes."""
    library = library_in(home)
    lanes = []
    for number in range(count):
        place = home / f"lane-{number}"
        place.mkdir()
        lanes.append(Lane(place, library, chosen[number::count]))
    threads = [threading.Thread(target=lane.run) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return lanes
