"""The processes that the chaos starts: writers, readers, the keeper; and who hears what they say.

Owns: their lives and their lines. Invariant: what is heard goes into the oracle under one lock, line by line,
in the order in which a process has said it; a line that was cut by a kill is no line.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stress.chaos.figures import Slot
from stress.chaos.group import send
from stress.chaos.operations import Model
from stress.chaos.oracle import Observation, Region

__all__ = ["Keeper", "Member", "Reader", "Writer", "observations"]

_ROOT = Path(__file__).resolve().parents[2]
_END_SECONDS = 120.0


class Member:
    """A running process, and the thread that hears it."""

    role = ""

    def __init__(self, lock: threading.Lock, module: str, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"stress.chaos.{module}", *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT,
        )  # fmt: skip
        self.violations: list[str] = []
        self.killed = False
        self._lock = lock
        self._ear = threading.Thread(target=self._listen, daemon=True)
        self._ear.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):
                with self._lock:
                    self.hear(line)

    def hear(self, line: str) -> None:
        """One whole line, under the lock."""
        raise NotImplementedError

    def tell(self, line: str) -> None:
        """A line to its stdin; nothing happens if it is dead."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass

    def kill(self) -> None:
        """SIGKILL; :meth:`end` collects it."""
        self.killed = True
        send(self.pid, signal.SIGKILL)

    def end(self) -> None:
        """Lets it finish, if it was not killed; afterwards all that it said was heard."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            code = self.process.wait(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
            self.violations.append(f"{self.role} {self.pid} did not end within {_END_SECONDS:g} s")
        self._ear.join()
        self.process.stdout.close()
        if not self.killed and code != 0:
            self.violations.append(f"{self.role} {self.pid} ended with exit code {code}")


class Writer(Member):
    """A writing client and its region."""

    role = "client"

    def __init__(
        self, lock: threading.Lock, directory: Path, number: int, seed: int, levels: str, timeout: float
    ) -> None:
        self.region = Region(number)
        self.timeout = timeout
        super().__init__(lock, "client", directory, number, seed, levels, timeout)

    def hear(self, line: str) -> None:
        self.region.hear(line)


class Reader(Member):
    """A ranging or a probing reader; what it saw waits to be judged."""

    role = "reader"

    def __init__(
        self,
        lock: threading.Lock,
        directory: Path,
        number: int,
        seed: int,
        kind: str,
        alive: Callable[[], list[int]],
    ) -> None:
        """``alive``: the clients whose regions are there, or empty."""
        self.kind, self.name, self._alive = kind, f"reader {number}", alive
        self.waiting: list[tuple[int, Observation]] = []
        self.snapshots = self.expired = 0
        self.slots: list[Slot] = []
        super().__init__(lock, "reader", directory, number, seed, kind)

    def hear(self, line: str) -> None:
        kind, _, text = line.rstrip("\n").split(" ", 2)
        if kind == "S":
            self.snapshots += 1
            *times, regions = json.loads(text)
            shown = {int(client): flat for client, flat in regions.items()}
            empty: dict[int, list[Any]] = {client: [] for client in self._alive()}
            self.waiting += observations(times, empty | shown, self.name)
        elif kind == "H":
            begun, ended, slowest, cpu, *histograms = json.loads(text)
            reads, beside = ({int(bucket): count for bucket, count in one.items()} for one in histograms)
            self.slots.append(Slot(begun, ended, slowest, cpu, Counter(reads), Counter(beside)))
        elif kind == "E":
            self.expired += 1
        elif kind == "V":
            self.violations.append(f"{self.name}: {text}")


class Keeper(Member):
    """Has the engine do its housekeeping. ``begun``: set while a call is under way."""

    role = "keeper"

    def __init__(self, lock: threading.Lock, directory: Path) -> None:
        self.begun, self.idle = threading.Event(), threading.Event()
        self.idle.set()
        self.done: Counter[str] = Counter()
        super().__init__(lock, "keeper", directory)

    def ask(self, what: str) -> None:
        """Has it do *what*."""
        self.begun.clear()
        self.idle.clear()
        self.tell(what)

    def hear(self, line: str) -> None:
        kind, _, text = line.rstrip("\n").split(" ", 2)
        if kind == "B":
            self.begun.set()
        elif kind == "D":
            self.done[text] += 1
            self.idle.set()
        elif kind == "V":
            self.violations.append(f"keeper: {text}")


def observations(
    times: list[int], regions: dict[int, list[Any]], reader: str
) -> list[tuple[int, Observation]]:
    """What one snapshot shows, by client. ``times``: the tick before it, and between when it was taken;
    ``regions``: kind, index, counter one after the other."""
    tick, begun, ended = times
    found = []
    for client, flat in regions.items():
        parts: dict[str, dict[int, int]] = defaultdict(dict)
        model: Model = {}
        for kind, index, counter in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
            if kind in "vt":
                parts[kind][index] = counter
            else:
                model[kind, index] = counter
        found.append((client, Observation(tick, begun, ended, model, parts["v"], parts["t"], reader)))
    return found
