"""`python -m stress chaos --seconds N --seed S`: see run.py. Owns the command line and the verdict.

Invariant: whatever went wrong, the seed, the trace of all kills and the database are kept for whoever looks.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import monotonic

import psutil

from memdb.cli import leftovers
from stress.chaos.figures import quantile, shown
from stress.chaos.run import Chaos

__all__ = ["add_arguments", "left_behind", "main"]

PAUSE_SECONDS = 0.2
"""Wanted of the pause of writes after a writer's death; and a second for each million keys."""
_SHOWN = 20
READ_NS, SLOWEST_NS = 50_000, 10_000_000
"""Wanted of reads meanwhile: p99.99, and the slowest (a scheduler's slice)."""


def left_behind(directory: Path, before: frozenset[str]) -> list[str]:
    """Processes that name the directory, and segments of memdb on /dev/shm that were not there before and
    that `memdb gc` leaves: a kill between the making of a segment and the end of its name leaves an empty
    one."""
    found = []
    for _ in leftovers.in_shared_memory(remove=True):
        pass
    for process in psutil.process_iter(["pid", "cmdline"]):
        if process.pid != os.getpid() and str(directory) in (process.info["cmdline"] or ()):
            found.append(f"process {process.pid}: {' '.join(process.info['cmdline'])}")
    return found + sorted(shared_names() - before)


def shared_names() -> frozenset[str]:
    """Names of memdb's on /dev/shm: a segment has one for a moment only."""
    shared = Path("/dev/shm")
    return (
        frozenset(str(path) for path in shared.iterdir() if "mdb-" in path.name)
        if shared.is_dir()
        else frozenset()
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `chaos`."""
    parser.add_argument("--seconds", type=float, default=40.0, help="how long (default 40)")
    parser.add_argument("--clients", type=int, default=3, help="writing processes at one time (default 3)")
    parser.add_argument("--readers", type=int, default=2, help="ranging processes at one time (default 2)")
    parser.add_argument("--kills", type=int, default=0, help="go on until there were so many (default 0)")
    parser.add_argument("--seed", type=int, default=None, help="of all choices; printed")
    parser.add_argument("--dir", type=Path, help="where the database goes (default: a temporary directory)")


def main(arguments: argparse.Namespace) -> int:
    """Runs and prints the verdict; exit code 1 if anything was wrong."""
    seed = random.SystemRandom().randrange(1 << 30) if arguments.seed is None else arguments.seed
    home = Path(tempfile.mkdtemp(prefix="memdb-chaos-", dir=arguments.dir))
    print(f"chaos: seed {seed}, {arguments.seconds:g} s, {home}", flush=True)
    names = shared_names()
    chaos = Chaos(home / "data", seed, clients=arguments.clients, readers=arguments.readers)
    begun = monotonic()
    try:
        chaos.run(arguments.seconds, arguments.kills)
    finally:
        (home / "trace.txt").write_text("\n".join(chaos.killer.trace) + "\n")
    problems = chaos.violations + [f"left behind: {what}" for what in left_behind(home / "data", names)]
    problems += [f"not flat: {one}" for one in chaos.watch.growths() if one.is_violation]
    killed = chaos.killer.kills.total()
    if killed < arguments.kills:
        problems.append(f"{killed} kills, and {arguments.kills} were wanted")
    for line in _figures(chaos, monotonic() - begun):
        print(line)
    for problem in problems[:_SHOWN]:
        print(f"VIOLATION {problem}"[:3000], file=sys.stderr)
    if len(problems) > _SHOWN:
        (home / "violations.txt").write_text("\n".join(problems) + "\n")
        print(f"and {len(problems) - _SHOWN} more: {home}/violations.txt", file=sys.stderr)
    print(f"{chaos.judged + chaos.rounds} passed, {len(problems)} failed", flush=True)
    if problems:
        print(
            f"the database, and the trace of kills, are kept in {home}; again: python -m stress chaos "
            f"--seconds {arguments.seconds:g} --seed {seed}",
            file=sys.stderr,
        )
        return 1
    shutil.rmtree(home)
    return 0


def _figures(chaos: Chaos, seconds: float) -> list[str]:
    killer, pauses, totals = chaos.killer, chaos.pauses, chaos.totals
    pauses.finish()
    meanwhile = pauses.reads_meanwhile
    roles = ", ".join(f"{role} {count}" for role, count in sorted(killer.kills.items()))
    ways = ", ".join(f"{way} {count}" for way, count in sorted(killer.ways.items()))
    p9999, slowest = quantile(meanwhile, 0.9999), pauses.cpu_slowest_meanwhile
    lines = [
        ("kills", f"{killer.kills.total():,} ({roles}) in {seconds:.0f} s", None, True),
        ("stops", f"{killer.stops:,}; deeds: {ways}", None, True),
        ("commits acknowledged", f"{totals['commits']:,} of {totals['clients']} clients", None, True),
        ("acknowledged commits lost", "0" if not chaos.violations else "see violations", "0", True),
        ("outcomes settled", f"{totals['outcomes settled']}, withdrawn {totals['withdrawn']}", None, True),
        (
            "snapshots read",
            f"{totals['snapshots']:,}, revoked while held {totals['snapshots revoked']}",
            None,
            True,
        ),
        ("states judged", f"{chaos.judged:,} in {chaos.rounds} rounds", None, True),
        ("work of the engine", ", ".join(f"{what} {totals[what]}" for what in _WORK), None, True),
        (
            "pause of writes after a writer's death",
            f"{shown(pauses.clean)}; where a snapshot may be held two generations back: "
            f"{shown(pauses.hindered)}",
            f"{PAUSE_SECONDS} s",
            not pauses.clean or median(pauses.clean) / 1e9 <= PAUSE_SECONDS,
        ),
        (
            "reads meanwhile, p99.99",
            f"{p9999 / 1000:.1f} us of a processor, of {meanwhile.total():,}; of a plain dict's, between "
            f"them, {quantile(pauses.beside_meanwhile, 0.9999) / 1000:.1f} us",
            f"{READ_NS // 1000} us",
            p9999 <= READ_NS,
        ),
        (
            "slowest read meanwhile",
            f"{slowest / 1e6:.3f} ms of a processor, {pauses.slowest_meanwhile / 1e6:.1f} ms elapsed",
            f"{SLOWEST_NS // 10**6} ms of a processor",
            slowest <= SLOWEST_NS,
        ),
        ("reopening after the death of all", f"{chaos.reopened:.2f} s", None, True),
    ]
    lines += [(f"peak {what}", _shown(what, peak), None, True) for what, peak in chaos.watch.peaks.items()]
    steepest = sorted(chaos.watch.growths(), key=lambda one: -one.share_of_tolerance)[:6]
    lines += [("growth", str(one), f"at most {one.tolerance}", True) for one in steepest]
    return [
        f"FIGURE {name}: {text}" + (f" (wanted {wanted})" if wanted else "") + ("" if met else " MISSED")
        for name, text, wanted, met in lines
    ]


_WORK = ("checkpoint", "rotate_wal", "clear_wal", "compact", "sync", "check")


def _shown(what: str, figure: float) -> str:
    return f"{figure:.0f}" if what in ("descriptors", "segments mapped") else f"{figure / (1 << 20):.1f} MiB"
