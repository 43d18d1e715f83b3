"""`python -m stress deaths [--tier quick|nightly] [--seed S]`: owners of slots, leases and rings killed and
stopped.

Two halves: the kernel's own program (tests/c/test_deaths.c), in which clients die at every store and at any
instruction with freed blocks poisoned, and a real engine with real clients.
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
from pathlib import Path

import memdb
from stress.deaths import trials
from stress.deaths.bystander import Bystander
from stress.deaths.lives import Nursery
from stress.deaths.trials import Verdict

__all__ = ["add_arguments", "main"]

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"quick": (200, 24, 2, 0.15), "nightly": (20_000, 1000, 20, 2.0)}
"""Tier -> deaths in the kernel's program, deaths on a real engine, rounds of memory, seconds of each stop."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument(
        "--tier", choices=sorted(SIZES), default="quick", help="hundreds of deaths (default), or 20,000"
    )
    parser.add_argument("--seed", type=int, default=None, help="of all choices; printed")
    parser.set_defaults(function=main)


def _kernel(deaths: int, seed: int, verdict: Verdict) -> None:
    environment = dict(
        os.environ, MEMDB_DEATHS=str(deaths), MEMDB_SEED=str(seed), CTEST_TIMEOUT=str(60 + deaths // 10)
    )
    made = subprocess.run([str(ROOT / "dev" / "ctest"), "test_deaths", "plain"], text=True,
                          capture_output=True, env=environment, check=False)  # fmt: skip
    for line in re.findall(r"^FIGURE .*", made.stdout, re.MULTILINE):
        print(line, "(in the kernel's program)", flush=True)
    died = re.search(r"^FIGURE deaths: (\d+)", made.stdout, re.MULTILINE)
    count = int(died[1]) if died else 0
    if made.returncode:
        print(
            made.stdout,
            made.stderr,
            f"repeat with: MEMDB_DEATHS={deaths} MEMDB_SEED={seed} dev/ctest test_deaths plain",
        )
    verdict.figure("slot and ring deaths in the kernel's program", count, f">= {deaths}, no check failed",
                   made.returncode == 0 and count >= deaths)  # fmt: skip


def main(arguments: argparse.Namespace) -> int:
    """Runs the tier; 0 if every figure is as wanted."""
    seed = random.randrange(1 << 31) if arguments.seed is None else arguments.seed
    kernel_deaths, deaths, rounds, stopped = SIZES[arguments.tier]
    print(f"deaths: seed {seed}", flush=True)
    began, verdict = time.monotonic(), Verdict()
    _kernel(kernel_deaths, seed, verdict)
    directory = Path(tempfile.mkdtemp(prefix="memdb-deaths-"))
    place = directory / "db"
    nursery = Nursery(place, seed, clients=4)  # before anything is opened here
    writes, reads = Bystander(place, writes=True), Bystander(place, writes=False)
    try:
        with memdb.open(place, max_memory="128MiB", linger=0) as database:
            trials.fill(database)
            trials.many_deaths(place, database, nursery, writes, deaths, verdict)
            trials.memory_after_death(place, database, rounds, verdict)
            trials.stopped_roles(place, database, reads, writes, stopped, verdict)
            problems = database.check()
            verdict.figure("check()", "ok" if problems.ok else problems, "ok", problems.ok)
        trials.pid_used_again(directory, verdict)
    finally:
        nursery.close()
        for each in (writes, reads):
            each.close()
    if verdict.failed:
        print(
            f"evidence: {directory}; repeat with: "
            f"python -m stress deaths --tier {arguments.tier} --seed {seed}"
        )
    else:
        shutil.rmtree(directory)
    print(f"{verdict.passed} passed, {verdict.failed} failed, {time.monotonic() - began:.1f} s")
    return 1 if verdict.failed else 0
