"""`python -m stress fuzz [--seconds N] [--tier quick|nightly] [--part PART] [--seed S] [--case N]`: what
hostile bytes do.

Rings are the kernel's own program (tests/c/test_hostile.c), in the nightly tier under the sanitizers; the
other parts (work.py) run in processes that are watched. Structures are changed where they mean something, and
checksums made right again.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

from stress.fuzz.work import PARTS, Found, watch, work

__all__ = ["add_arguments", "main"]

ROOT = Path(__file__).resolve().parents[2]
SECONDS = {"quick": 10.0, "nightly": 1200.0}
RINGS = "rings"
_OTHERS = {"frames": 2, "parts": 3, "values": 3, "keys": 1, "logs": 4, "checkpoints": 3, "manifests": 2}
SHARES = {RINGS: 6, **_OTHERS}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `fuzz`."""
    parser.add_argument("--tier", choices=sorted(SECONDS), default="quick")
    parser.add_argument("--seconds", type=float, default=None, help="of all parts together")
    parser.add_argument("--seed", type=int, default=None, help="repeats a run; random unless given")
    parser.add_argument(
        "--part", choices=tuple(SHARES), action="append", help="only this part; may be given again"
    )
    parser.add_argument("--case", type=int, default=None, help="only this case of the one part")
    parser.add_argument("--child", type=Path, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)


def _rings(seed: int, seconds: float, mode: str) -> Found:
    limits = {
        "MEMDB_SEED": str(seed),
        "MEMDB_SECONDS": str(seconds),
        "CTEST_TIMEOUT": str(int(seconds) + 120),
    }
    command, environment = [str(ROOT / "dev" / "ctest"), "test_hostile", mode], {**os.environ, **limits}
    made = subprocess.run(command, text=True, capture_output=True, env=environment, check=False)
    told = re.findall(r"^FIGURE (.*): (\d+)$", made.stdout, re.MULTILINE)
    figures = Counter({name: int(number) for name, number in told})
    cases = figures.pop("hostile entries", 0)
    wrong = made.returncode != 0 or not cases
    return Found(cases, figures, [f"{RINGS}: {made.stdout[-2000:]}{made.stderr[-6000:]}"] if wrong else [])


def main(arguments: argparse.Namespace) -> int:
    """Runs the parts one after the other; 0 if nothing was wrong."""
    seed = random.SystemRandom().randrange(1 << 30) if arguments.seed is None else arguments.seed
    seconds = arguments.seconds or SECONDS[arguments.tier]
    if arguments.child is not None:
        return work(arguments.part[0], seed, seconds, arguments.first, arguments.case, arguments.child)
    parts = arguments.part or list(SHARES)
    place, began, total = Path(tempfile.mkdtemp(prefix="memdb-fuzz-")), time.monotonic(), Found()
    print(f"fuzz: {seconds:g} s, seed {seed}", flush=True)
    for part in parts:
        share = seconds * SHARES[part] / sum(SHARES[one] for one in parts)
        found = (
            watch(part, seed, share, arguments.case, place)
            if part in PARTS
            else _rings(seed, share, "asan" if arguments.tier == "nightly" else "plain")
        )
        verdicts = ", ".join(f"{name} {number:,}" for name, number in found.verdicts.most_common(9))
        print(f"FIGURE {part}: {found.cases:,} (wanted nothing wrong): {verdicts}", flush=True)
        for text in found.violations:
            print(f"VIOLATION {text}\nrepeat: python -m stress fuzz --part {part} --seed {seed}", flush=True)
        total.cases, total.violations = total.cases + found.cases, total.violations + found.violations
    wrong = len(total.violations)
    print(f"FIGURE crashes, hangs and errors that are not documented: {wrong} (wanted 0)")
    print(f"FIGURE seconds: {time.monotonic() - began:.0f} (wanted about {seconds:g})")
    print(f"evidence: {place}" if wrong else "nothing is kept")
    if not wrong:
        shutil.rmtree(place)
    print(f"{total.cases - wrong} passed, {wrong} failed")
    return 1 if wrong else 0
