"""`python -m stress states [--tier quick|nightly] [--seed N]`: crash states enumerated, recovered, compared.

Owns: what each tier enumerates, its figures, and what is printed and kept where a state is not recovered.

The seed fixes which workloads are drawn and which states; time stamps and salts within the files are each
run's own, so a failing state itself is kept as evidence: `python -m stress states --again DIRECTORY` recovers
it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from durability.rig import Machine

from stress.states import generations, workloads
from stress.states.cases import cases_of, cases_of_story, holes_of
from stress.states.check import Case, Violation, keep_evidence, verify
from stress.states.disk import Disk
from stress.states.power import Effort
from stress.states.story import Promise, Story, everything, plain, small_options


@dataclass(frozen=True)
class Tier:
    """How much of each kind."""

    wanted: int
    """Unique states, at least."""
    stories: int
    """Long workloads drawn at random, beside the one that is written down."""
    effort: Effort
    """At each moment."""
    short: tuple[int | None, int | None, int | None]
    """How many workloads of one, two and three operations; None: all."""
    recoveries: int
    """States whose recovery is cut off in turn, two deep."""
    killed: int
    """Short workloads killed at every change to files, with the arena left."""


TIERS = {
    "quick": Tier(5_000, 1, Effort(20, 192), (None, 40, 40), 6, 4),
    "nightly": Tier(200_000, 30, Effort(40), (None, None, None), 300, 300),
}


@dataclass
class Tally:
    """What was seen."""

    fingerprints: set[int] = field(default_factory=set)
    """Of all states, each counted once."""
    refused: int = 0
    cuts: int = 0
    in_recovery: Counter[int] = field(default_factory=Counter)
    workloads: Counter[int] = field(default_factory=Counter)
    compared: int = 0
    holes: int = 0
    violations: int = 0


class Enough(Exception):
    """The first violation was wanted only."""


class Run:
    """One run of a tier. ``first``: it ends at the first violation."""

    def __init__(self, tier: Tier, seed: int, evidence: Path, *, first: bool = False) -> None:
        self.tier, self.seed, self.evidence, self.first = tier, seed, evidence, first
        self.chance = random.Random(seed)
        self.tally = Tally()

    def all(self) -> None:
        """Everything of the tier, long stories first."""
        share = -(-self.tier.recoveries // (self.tier.stories + 1))
        for number in range(self.tier.stories + 1):
            steps = workloads.LONG if number == 0 else workloads.shuffled(self.chance, 30)
            story = workloads.run(steps)
            cases = cases_of_story(story, self.chance, self.tier.effort)
            for case in cases:
                self._check(story, case)
            self._holes(story)
            self._compare(story)
            for case in self.chance.sample(cases, min(share, len(cases))):
                self._crash_in_recovery(story, case)
        for length, limit in enumerate(self.tier.short, 1):
            self._short(length, limit)
        self._killed()

    def _short(self, length: int, limit: int | None) -> None:
        chosen = list(workloads.words(length))
        if limit is not None:
            chosen = self.chance.sample(chosen, limit)
        for steps in chosen:
            story = workloads.run(steps, workloads.BASE)
            for case in cases_of_story(story, self.chance, self.tier.effort, story.starts[-1]):
                self._check(story, case)
            self._compare(story)
            self.tally.workloads[length] += 1

    def _killed(self) -> None:
        chosen = [*workloads.words(1), *workloads.words(2)]
        for steps in self.chance.sample(chosen, min(self.tier.killed, len(chosen))):
            first = len(workloads.run((), workloads.BASE).files.trace.operations)
            for place in range(first, first + 1000):
                story = generations.killed_at(list(steps), list(workloads.BASE), place)
                if story is None:
                    break
                try:
                    self.tally.compared += generations.compare_killed(story)
                except Violation as error:
                    self._report(story, None, f"killed before change {place}: {error}")

    # ------------------------------------------------------------------------------------------ checks

    def _check(self, story: Story, case: Case) -> None:
        self.tally.fingerprints.add(case.found.fingerprint())
        try:
            outcome = verify(story, case)
        except Violation as error:
            self._report(story, case, str(error))
            return
        self.tally.refused += outcome.refused
        self.tally.cuts += outcome.cuts

    def _holes(self, story: Story) -> None:
        """Not counted among the states: no crash leaves them."""
        for case in holes_of(story):
            try:
                self.tally.holes += verify(story, case).refused
            except Violation as error:
                self._report(story, case, str(error))

    def _crash_in_recovery(self, story: Story, case: Case, depth: int = 1) -> None:
        """The recovery of a state is itself cut off everywhere; what that leaves gives the same again."""
        try:
            outcome = verify(story, case)
        except Violation:
            return  # reported before
        if outcome.refused:
            return
        trace = outcome.recovery
        del trace.operations[outcome.opened_at :]
        promise = Promise(outcome.lsn, outcome.lsn, case.handed_out)
        cases = cases_of(trace, lambda place: promise, self.chance, Effort(4), refusable=False)
        further = set(self.chance.sample(range(len(cases)), min(2, len(cases)))) if depth == 1 else set()
        for number, one in enumerate(cases):
            self.tally.fingerprints.add(one.found.fingerprint())
            self.tally.in_recovery[depth] += 1
            try:
                verify(story, one, outcome.keys)
            except Violation as error:
                self._report(story, one, f"after a crash in recovery ({case.how}), depth {depth}: {error}")
            if number in further:
                self._crash_in_recovery(story, one, depth + 1)

    def _compare(self, story: Story) -> None:
        try:
            if any(commit.level == "memory" for commit in story.commits.values()):
                story.machine.engine.sync()
            generations.compare(story)
            self.tally.compared += 1
        except Violation as error:
            self._report(story, None, str(error))

    def _report(self, story: Story, case: Case | None, why: str) -> None:
        self.tally.violations += 1
        print(f"VIOLATION: {why}\n  workload: {' '.join(story.steps)}\n  seed: {self.seed}")
        if case is not None:
            kept = keep_evidence(self.evidence, story, case, why)
            print(f"  {case.how}\n  kept: {kept}; again: python -m stress states --again {kept}")
        sys.stdout.flush()
        if self.first:
            raise Enough


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "--tier", choices=sorted(TIERS), default="quick", help="5,000 states (default), or 200,000"
    )
    parser.add_argument("--seed", type=int, default=1, help="which workloads and states (default 1)")
    parser.add_argument("--first", action="store_true", help="ends at the first violation")
    parser.add_argument(
        "--evidence", type=Path, help="where failing states are kept (default: a new directory)"
    )
    parser.add_argument(
        "--again", type=Path, metavar="DIRECTORY", help="recovers one kept state and shows it"
    )


def main(arguments: argparse.Namespace) -> int:
    """Runs a tier; 1 if a state was not recovered as promised, or too few were seen."""
    if arguments.again is not None:
        return _again(arguments.again)
    logging.getLogger("memdb").addHandler(
        logging.NullHandler()
    )  # what the engines say of damage is wanted here
    began = time.monotonic()
    evidence = (
        arguments.evidence or Path(tempfile.gettempdir()) / f"memdb-states-{arguments.seed}-{time.time_ns()}"
    )
    print(f"seed {arguments.seed}, tier {arguments.tier}")
    tier = TIERS[arguments.tier]
    run = Run(tier, arguments.seed, evidence, first=arguments.first)
    with contextlib.suppress(Enough):
        run.all()
    tally, took = run.tally, time.monotonic() - began
    figures = [
        ("crash_states", len(tally.fingerprints), f">= {tier.wanted}"),
        ("crash_states_refused_garbage", tally.refused, "counted"),
        ("crash_states_with_a_cut", tally.cuts, "counted"),
        ("crash_states_in_recovery", tally.in_recovery[1], ">= 1"),
        ("crash_states_in_recovery_of_recovery", tally.in_recovery[2], ">= 1"),
        ("holes_below_D_refused", tally.holes, ">= 1"),
        ("workloads_of_1_2_3_operations", "/".join(str(tally.workloads[n]) for n in (1, 2, 3)), "counted"),
        ("generations_compared", tally.compared, ">= 1"),
        ("crash_state_violations", tally.violations, "0"),
        ("crash_states_seconds", f"{took:.1f}", "<= 50" if arguments.tier == "quick" else "counted"),
    ]
    for name, value, wanted in figures:
        print(f"FIGURE {name}: {value} (wanted {wanted})")
    seen = [tally.in_recovery[1], tally.in_recovery[2], tally.holes, tally.compared]
    states = len(tally.fingerprints)
    failed = tally.violations + (states < tier.wanted or not all(seen))
    print(f"{states - tally.violations} passed, {failed} failed")
    return 1 if failed else 0


def _again(directory: Path) -> int:
    """Recovers a state that was kept."""
    told = json.loads((directory / "story.json").read_text())
    home = directory / "data"
    paths = sorted(home.rglob("*"))
    files = {str(path.relative_to(home)): path.read_bytes() for path in paths if path.is_file()}
    directories = [str(path.relative_to(home)) for path in paths if path.is_dir()]
    print(f"{told['how']}\n{told['why']}\nworkload: {' '.join(told['workload'])}")
    machine = Machine(Disk(files, directories), small_options()).start()
    print(f"opens at LSN {machine.report.lsn}, wanted at least {told['at_least_lsn']}; {machine.report}")
    for key, (value, lsn, expires) in plain(everything(machine)).items():
        print(f"  {key!r} = {value[:40]!r} ({len(value)} bytes), LSN {lsn}, expires {expires}")
    return 0
