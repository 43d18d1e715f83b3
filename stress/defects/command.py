"""`python -m stress defects [--quick] [--list] [--verbose] [NAME...]`: is every seeded defect caught, and by
what?

Owns: the run and its verdict. Each command must first pass on the copy as it is (once a run); then the
defect is put in, its commands run, cheapest first, until one fails, and the defect is taken out again.
Invariants:

* A run succeeds only if each defect that was asked for was caught by a command that passes without it, or
  (named as such) could not be judged because a tool is not installed here.
* Each run first judges the controls (seeds_control.py): what is no catch is not taken for one.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from stress.defects import seeds
from stress.defects.defect import Defect, Stale
from stress.defects.scratch import Scratch
from stress.defects.trial import BROKEN, CAUGHT, HUNG, MISSING, PASSED, Trial, attempt, batch

__all__ = ["Result", "Run", "add_arguments", "main"]

_LAST_LINES = 25
ALIVE, ERROR, NOT_JUDGED = "ALIVE", "ERROR", "not judged"


@dataclass(frozen=True)
class Result:
    """What became of one defect. ``verdict``: caught, ALIVE, ERROR, not judged; ``command``: that caught it,
    or the last one that ran; ``output``: what that printed."""

    defect: Defect
    verdict: str
    command: str
    seconds: float
    output: str

    @property
    def is_failure(self) -> bool:
        return self.verdict in (ALIVE, ERROR)


class Run:
    """The trials of one run over one scratch copy."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._without: dict[str, Trial] = {}  # by command: how it ends on the unspoilt copy

    def check_first_commands(self, defects: Iterable[Defect]) -> None:
        """Runs what is needed most on the unspoilt copy, Python tests in one process."""
        first = list(dict.fromkeys(one.caught_by[0] for one in defects))
        tests = [one for one in first if one.startswith("pytest ")]
        for trial in batch(self._scratch, tests):
            self._without[trial.command] = trial

    def judge(self, defect: Defect) -> Result:
        """Tries the defect's commands in order until one catches it."""
        began, missing, last = monotonic(), False, Trial("", PASSED, 0.0, "")
        for command in defect.caught_by:
            without = self._passes_without(command)
            if without.verdict == MISSING:
                missing = True
                continue
            if without.verdict != PASSED:
                text = f"{command} fails without the defect, too ({without.verdict}):\n{without.output}"
                return Result(defect, ERROR, command, monotonic() - began, text)
            try:
                with self._scratch.with_defect(defect):
                    last = attempt(self._scratch, command, 10 * without.seconds)
            except (Stale, SyntaxError, FileNotFoundError) as error:
                return Result(defect, ERROR, command, monotonic() - began, str(error))
            if last.verdict in (CAUGHT, HUNG):
                how = f"{command} (hung)" if last.verdict == HUNG else command
                return Result(defect, "caught", how, last.seconds, last.output)
            if last.verdict == BROKEN:
                return Result(defect, ERROR, command, last.seconds, f"no test ran:\n{last.output}")
        verdict = NOT_JUDGED if missing else ALIVE
        return Result(defect, verdict, last.command, monotonic() - began, last.output)

    def _passes_without(self, command: str) -> Trial:
        if command not in self._without:
            self._without[command] = attempt(self._scratch, command)
        return self._without[command]


def chosen(names: Sequence[str], quick: bool) -> tuple[Defect, ...]:
    """The defects that are asked for. ValueError names what is not known."""
    known = {one.name: one for one in seeds.ALL}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"no such defect: {', '.join(unknown)} (--list shows all)")
    wanted = tuple(known[name] for name in names) if names else seeds.ALL
    return tuple(one for one in wanted if one.quick) if quick and not names else wanted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `defects`."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="these only (default: all)")
    parser.add_argument("--quick", action="store_true", help="those that need no build, within a minute")
    parser.add_argument(
        "--list", action="store_true", help="names them, what each breaks and what catches it"
    )
    parser.add_argument("--verbose", action="store_true", help="prints how each catching command ended")


def main(arguments: argparse.Namespace) -> int:
    """Runs and prints the verdicts; exit code 1 if any defect is alive, stale or could not be tried."""
    try:
        defects = chosen(arguments.names, arguments.quick)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if arguments.list:
        for one in defects:
            print(f"{one.name}{' (quick)' if one.quick else ''}: {one.breaks}")
            print("".join(f"    {command}\n" for command in one.caught_by), end="")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what it has started ends with it
    checkout = Path(__file__).resolve().parents[2]
    began = monotonic()
    with Scratch(checkout, lambda text: print(f"# {text}", flush=True)).in_use() as scratch:
        run = Run(scratch)
        run.check_first_commands(defects)
        wrong = judge_controls(run)
        results = judge_all(run, defects, verbose=arguments.verbose)
    return summary(results, wrong, monotonic() - began)


def judge_controls(run: Run) -> list[str]:
    """Does the runner see what is no catch? Names of the controls of which it says the wrong thing."""
    wrong = []
    for control, expected in seeds.CONTROLS:
        found = run.judge(control)
        if found.verdict != expected:
            wrong.append(control.name)
            print(f"{control.name} is {found.verdict}, and must be {expected}:\n{found.output}", flush=True)
    return wrong


def judge_all(run: Run, defects: Sequence[Defect], *, verbose: bool = False) -> list[Result]:
    """The results, printed as they come."""
    results = []
    for defect in defects:
        result = run.judge(defect)
        results.append(result)
        print(f"{result.verdict:10} {defect.name:34} {result.seconds:6.1f} s  {result.command}", flush=True)
        if verbose or result.verdict == ERROR:
            lines = result.output.rstrip().splitlines()[-_LAST_LINES:]
            print("".join(f"    | {line}\n" for line in lines), end="", flush=True)
    return results


def summary(results: Sequence[Result], wrong: Sequence[str], seconds: float) -> int:
    """Prints the figures; the exit code."""
    caught = [one for one in results if one.verdict == "caught"]
    for one in results:
        if one.verdict == NOT_JUDGED:
            print(
                f"not judged here, because a tool is not installed or a test was skipped: {one.defect.name}"
            )
    print(f"FIGURE seeded defects caught: {len(caught)} of {len(results)} (wanted all)")
    for verdict, what in ((ALIVE, "alive"), (ERROR, "not tried")):
        names = [one.defect.name for one in results if one.verdict == verdict]
        print(f"FIGURE seeded defects {what}: {' '.join([str(len(names)), *names])} (wanted 0)")
    controls = len(seeds.CONTROLS)
    print(f"FIGURE controls judged right: {controls - len(wrong)} of {controls} (wanted all)")
    print(f"FIGURE seconds: {seconds:.0f} (wanted less than 60 for --quick, 1800 for all)")
    failures = sum(one.is_failure for one in results) + len(wrong)
    print(f"{len(results) + controls - failures} passed, {failures} failed")
    return 1 if failures else 0
