"""`python -m stress histories --seconds N --seed S`: see run.py. Owns the command line and the verdict.

Invariant: of a round in which anything was wrong, the database and all that the clients wrote are kept.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from math import ceil
from pathlib import Path
from time import monotonic

from stress.histories.run import Round, judge_files

__all__ = ["add_arguments", "main"]

_ROUND_SECONDS = 15.0
_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `histories`."""
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="of work, without the checks (default 20)"
    )
    parser.add_argument(
        "--transactions",
        type=int,
        default=0,
        help="go on until so many operations were checked: transactions, single calls, snapshots",
    )
    parser.add_argument("--clients", type=int, default=4, help="client processes at one time (default 4)")
    parser.add_argument("--seed", type=int, default=None, help="of all choices; printed")
    parser.add_argument("--judge", type=Path, metavar="ROUND", help="run nothing: judge a kept round again")
    parser.add_argument("--dir", type=Path, help="where the files go (default: a temporary directory)")


def main(arguments: argparse.Namespace) -> int:
    """Runs rounds and prints the verdict; exit code 1 if anything was wrong."""
    if arguments.judge is not None:
        return _judge_again(arguments.judge)
    seed = random.SystemRandom().randrange(1 << 30) if arguments.seed is None else arguments.seed
    home = Path(tempfile.mkdtemp(prefix="memdb-histories-", dir=arguments.dir))
    print(f"histories: seed {seed}, {arguments.seconds:g} s, {home}", flush=True)
    choose = random.Random(seed)
    totals: Counter[str] = Counter()
    kills: Counter[str] = Counter()
    seconds = arguments.seconds / max(2, ceil(arguments.seconds / _ROUND_SECONDS)) or _ROUND_SECONDS
    worked, begun, number, sound, problems = 0.0, monotonic(), 0, 0, list[str]()
    while worked < arguments.seconds or totals["operations"] < arguments.transactions:
        one = Round(
            home / f"round-{number}",
            choose.randrange(1 << 30),
            clients=arguments.clients,
            gentle=number % 2 == 1,
        )
        try:
            one.run(seconds)
        finally:
            if one.home.is_dir():
                (one.home / "trace.txt").write_text("\n".join(one.trace) + "\n")
        totals += one.figures
        kills += one.kills
        if one.problems:
            (one.home / "violations.txt").write_text("\n".join(one.problems) + "\n")
            problems += [f"round {number}: {problem}" for problem in one.problems]
        else:
            one.clear()
            sound += one.figures["operations"]
        number += 1
        worked += seconds
    _tell(totals, kills, number, monotonic() - begun, arguments.transactions)
    for problem in problems[:_SHOWN]:
        print(f"VIOLATION {problem}"[:2000], file=sys.stderr)
    print(f"{sound} passed, {len(problems)} failed", flush=True)
    if problems:
        print(
            f"the databases, histories, violations and traces are kept in {home} (judged again by: python -m "
            f"stress histories --judge {home}/round-N); the same choices: python -m stress histories "
            f"--seconds {arguments.seconds:g} --seed {seed}",
            file=sys.stderr,
        )
        return 1
    home.rmdir()
    return 0


def _judge_again(home: Path) -> int:
    begun = monotonic()
    problems, figures = judge_files(home)
    _tell(figures, Counter(), 1, monotonic() - begun, 0)
    for problem in problems:
        print(f"VIOLATION {problem}", file=sys.stderr)
    print(f"{0 if problems else figures['operations']} passed, {len(problems)} failed", flush=True)
    return 1 if problems else 0


def _tell(totals: Counter[str], kills: Counter[str], rounds: int, seconds: float, wanted: int) -> None:
    roles = ", ".join(f"{role} {count}" for role, count in sorted(kills.items()))
    asked = f" (wanted {wanted:,})" if wanted else ""
    print(
        "FIGURE operations through the exact checker (transactions, single calls, snapshots): "
        f"{totals['operations']:,}{asked}"
    )
    print(f"FIGURE of them commits replayed by LSN: {totals['commits replayed']:,}")
    print(f"FIGURE of them reads compared with the model at their LSN: {totals['reads compared']:,}")
    print(
        f"FIGURE refused, withdrawn, open, settled by outcome: {totals['conflict']:,}, "
        f"{totals['not done']:,}, {totals['open']:,}, {totals['outcomes settled']:,}"
    )
    print(f"FIGURE dependencies among which no forbidden cycle is: {totals['dependencies']:,}")
    print(f"FIGURE single-key calls linearized: {totals['calls of one key']:,}")
    print(f"FIGURE kills: {kills.total()} ({roles}) in {rounds} rounds, {seconds:.0f} s with the checks")
