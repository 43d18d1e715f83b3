"""`python -m stress quick` and `python -m stress nightly`: all of the harness in one run, and one table.

Owns: which commands a tier runs with which arguments, in which lane, and the summary. Two lanes run side by
side, one of what fills a core and one of what starts processes; what a command prints goes to a file of its
own and is shown whole if it fails.

Invariant: a tier passes only if each of its commands ended with 0 and said that something passed.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_TOLD = ("FIGURE ", "SKIPPED", "not judged")
"""Lines of a part that its tier tells, too: what was not tried here is told like what was found."""
STRESS = (sys.executable, "-m", "stress")


@dataclass(frozen=True)
class Part:
    """One command of a tier. ``seeded``: it takes --seed."""

    name: str
    arguments: tuple[str, ...]
    seeded: bool = True

    def command(self, seed: int) -> list[str]:
        return [*STRESS, self.name, *self.arguments, *(("--seed", str(seed)) if self.seeded else ())]


QUICK = (
    (
        Part("states", ("--tier", "quick")),
        Part("damage", ("--tier", "quick")),
        Part("fuzz", ("--tier", "quick")),
        Part("defects", ("--quick",), seeded=False),
    ),
    (
        Part("chaos", ("--seconds", "40", "--kills", "100")),
        Part("points", ()),
        Part("histories", ("--seconds", "14", "--transactions", "20000")),
        Part("faults", ("--tier", "quick")),
        Part("deaths", ("--tier", "quick")),
    ),
)
NIGHTLY = (
    (
        Part("states", ("--tier", "nightly")),
        Part("damage", ("--tier", "nightly")),
        Part("fuzz", ("--tier", "nightly")),
        Part("defects", (), seeded=False),
    ),
    (
        Part("chaos", ("--seconds", "3600", "--kills", "2000")),
        Part("histories", ("--seconds", "60", "--transactions", "1000000")),
        Part("points", ("--tier", "nightly")),
        Part("faults", ("--tier", "nightly")),
        Part("deaths", ("--tier", "nightly")),
        Part("life", (), seeded=False),
    ),
)


@dataclass
class Result:
    """What became of one part; ``verdict`` is its last line."""

    part: Part
    code: int
    seconds: float
    output: Path
    figures: list[str] = field(default_factory=list)
    verdict: str = "said nothing"

    @property
    def is_failure(self) -> bool:
        return self.code != 0 or not re.match(r"[1-9]\d* passed", self.verdict)


class Tier:
    """A run of a tier's parts. Call :meth:`end` from any thread: what runs ends, and no more starts."""

    def __init__(self, lanes: tuple[tuple[Part, ...], ...], seed: int, outputs: Path) -> None:
        self.lanes, self.seed, self.outputs = lanes, seed, outputs
        self.results: list[Result] = []
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._ended = False

    def run(self) -> None:
        """Runs the lanes side by side, to their ends."""
        threads = [threading.Thread(target=self._lane, args=(lane,), daemon=True) for lane in self.lanes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def end(self) -> None:
        """Interrupts all that runs: each part cleans up behind itself."""
        with self._lock:
            self._ended = True
            for process in self._running:
                process.send_signal(signal.SIGINT)

    def _lane(self, parts: tuple[Part, ...]) -> None:
        for part in parts:
            result = self._part(part)
            if result is None:
                return
            with self._lock:
                self.results.append(result)
            print(shown(result), flush=True)

    def _part(self, part: Part) -> Result | None:
        output, began = self.outputs / f"{part.name}.txt", time.monotonic()
        with output.open("wb") as file:
            with self._lock:
                if self._ended:
                    return None
                process = subprocess.Popen(
                    part.command(self.seed), cwd=ROOT, stdout=file, stderr=subprocess.STDOUT
                )
                self._running.add(process)
            code = process.wait()
            with self._lock:
                self._running.discard(process)
        result = Result(part, code, time.monotonic() - began, output)
        lines = output.read_text(errors="replace").splitlines()
        result.figures = [line.removeprefix("FIGURE ") for line in lines if line.startswith(_TOLD)]
        result.verdict = next(
            (one for one in reversed(lines) if re.match(r"\d+ passed", one)), result.verdict
        )
        return result


def shown(result: Result) -> str:
    """One part, as it ends: its verdict, its figures, and all that it said if it failed."""
    state = "FAILED" if result.is_failure else "passed"
    lines = [f"== {result.part.name}: {state}, {result.verdict}, {result.seconds:.0f} s"]
    if result.is_failure:
        lines.append(result.output.read_text(errors="replace"))
    else:
        lines += [f"   {figure}" for figure in result.figures]
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of both tiers."""
    parser.add_argument("--seed", type=int, default=None, help="of all parts; printed")
    parser.add_argument("--only", action="append", metavar="PART", help="only this part; may be given again")
    parser.add_argument("--skip", action="append", default=[], metavar="PART", help="all but this part")


def main(arguments: argparse.Namespace) -> int:
    """Runs a tier; 0 if all of it passed."""
    lanes = QUICK if arguments.command == "quick" else NIGHTLY
    names = [part.name for lane in lanes for part in lane]
    unknown = sorted({*(arguments.only or ()), *arguments.skip} - set(names))
    if unknown:
        print(f"no such part: {', '.join(unknown)}; there are: {', '.join(names)}", file=sys.stderr)
        return 2
    wanted = set(arguments.only or names) - set(arguments.skip)
    seed = random.SystemRandom().randrange(1 << 30) if arguments.seed is None else arguments.seed
    outputs = Path(tempfile.mkdtemp(prefix=f"memdb-{arguments.command}-"))
    print(f"{arguments.command}: seed {seed}, {os.cpu_count()} processors, output in {outputs}", flush=True)
    chosen = tuple(tuple(part for part in lane if part.name in wanted) for lane in lanes)
    tier, began = Tier(chosen, seed, outputs), time.monotonic()
    try:
        tier.run()
    except KeyboardInterrupt:
        tier.end()
        raise
    failed = [result.part.name for result in tier.results if result.is_failure]
    print(
        f"== {arguments.command}: {len(tier.results)} parts in {time.monotonic() - began:.0f} s, seed {seed}"
    )
    for result in tier.results:
        state = "FAILED" if result.is_failure else "passed"
        print(f"{result.part.name:10} {state}  {result.seconds:6.0f} s  {result.verdict}")
    print(f"{len(tier.results) - len(failed)} passed, {len(failed)} failed", flush=True)
    if not failed:
        shutil.rmtree(outputs)
    return 1 if failed else 0
