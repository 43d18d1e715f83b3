"""`python -m stress faults [--tier quick|nightly] [--seed N]`: faults at every call, and who notices what.

Owns: what each tier does, the figures, the exit code. The parts: calls of the file seam in process
(calls.py), real processes under the shim (processes.py), file systems that really are full, with limits
of descriptors (confined.py), and the kernel's allocations (tests/c/test_exhaustion.c), which CI has run.

A fault is named by its call, and calls are numbered, so the text of a failure repeats it.
"""

from __future__ import annotations

import argparse
import logging
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stress.faults import calls, confined, processes

__all__ = ["add_arguments", "main"]


@dataclass(frozen=True)
class Tier:
    """How much of each part; None: all."""

    calls: int | None
    processes: int | None
    programs: tuple[str, ...] | None
    allocations: bool


TIERS = {
    "quick": Tier(40, 1, ("full disk: log",), False),
    "nightly": Tier(None, None, None, True),
}
_ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Tally:
    """What one part has done."""

    name: str
    wanted: str
    passed: int = 0
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


def _work(name: str, wanted: str, outcomes: Iterator[tuple[str, str | None]]) -> Tally:
    """``outcomes``: (what, None or why it failed)."""
    tally, began = Tally(name, wanted), time.monotonic()
    for what, why in outcomes:
        if why is None:
            tally.passed += 1
        elif why.startswith("SKIPPED"):
            tally.notes.append(f"{what}: {why}")
            print(f"{what}: {why}", flush=True)
        else:
            tally.failures.append(f"{what}: {why}")
            print(f"FAILED {what}: {why}", flush=True)
    tally.seconds = time.monotonic() - began
    return tally


def _allocations() -> Iterator[tuple[str, str | None]]:
    """Each allocation of the kernel's program fails in turn, once and for good, under a sanitizer."""
    command = [str(_ROOT / "dev" / "ctest"), "test_exhaustion", "asan"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = re.search(r"^exhaustion: .*", done.stdout, re.MULTILINE)
    what = told[0] if told else "exhaustion"
    print(what, flush=True)
    yield what, None if done.returncode == 0 and told else (done.stdout + done.stderr)[-2000:]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument(
        "--tier", choices=sorted(TIERS), default="quick", help="quick (default): a few; nightly: every fault"
    )
    parser.add_argument("--seed", type=int, default=None, help="which faults the quick tier draws")
    parser.add_argument(
        "--only",
        choices=["calls", "processes", "programs", "allocations"],
        help="one part alone; the last is nightly's",
    )


def main(arguments: argparse.Namespace) -> int:
    """Runs a tier; 0 if nothing failed."""
    logging.disable(logging.CRITICAL)  # what is refused is logged each time
    tier = TIERS[arguments.tier]
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    chance = random.Random(seed)
    parts: dict[str, Callable[[Path], Tally]] = {
        "calls": lambda place: _work(
            "faults at calls of the file seam",
            "every fault at every call" if tier.calls is None else f">= {tier.calls}",
            calls.play_all(chance, tier.calls),
        ),
        "processes": lambda place: _work(
            "faults of real processes", "every label", processes.play_all(place, chance, tier.processes)
        ),
        "programs": lambda place: _work(
            "full file systems, descriptors", "all", confined.run_all(place, tier.programs)
        ),
    }
    if tier.allocations:
        parts["allocations"] = lambda place: _work("the kernel's allocations", "all", _allocations())
    if arguments.only not in (None, *parts):
        print(f"{arguments.only} is no part of the tier {arguments.tier}", file=sys.stderr)
        return 2
    tallies = []
    with tempfile.TemporaryDirectory(prefix="memdb-faults-") as place:
        for name, part in parts.items():
            if arguments.only in (None, name):
                tallies.append(part(Path(place)))
    for tally in tallies:
        skipped = f", {len(tally.notes)} SKIPPED" if tally.notes else ""
        print(
            f"FIGURE {tally.name}: {tally.passed} passed, {len(tally.failures)} failed{skipped} in "
            f"{tally.seconds:.0f} s (wanted {tally.wanted}, 0 failed)"
        )
    failed = sum(len(tally.failures) for tally in tallies)
    print(f"{sum(tally.passed for tally in tallies)} passed, {failed} failed")
    return 1 if failed else 0
