"""One round of histories: clients that write them, and kills meanwhile; then both checkers.

Owns: the processes of a round, the choice of whom to kill, and the end: what is there then is part of the
history, as the last snapshot. Invariants:

* A round that may kill supervisor and writer together has clients at levels ``os`` and ``full`` only.
* The writer is not killed again before it has committed something: a third death at one LSN would rightly
  stop the writing (rule G4).
* The log keeps all segments of a round, so that every commit can be found in it.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from time import monotonic, monotonic_ns
from typing import Any

from histories.attribution import attribute
from histories.cycles import Cycles
from histories.exact import Exact
from histories.history import Operation
from histories.linear import LinearityUndecided, check_linear

import memdb
from stress.chaos.group import actors, kill, kill_group, send
from stress.histories.files import read_client, read_log

__all__ = ["Round", "judge_files"]

_ROOT = Path(__file__).resolve().parents[2]
_VICTIMS = {"writer": 9, "client": 3, "supervisor": 2, "checkpointer": 1, "reaper": 1, "group": 2, "stop": 4}
_GAP_SECONDS = (0.15, 0.9)
_STOP_SECONDS = (0.02, 0.3)
_END_SECONDS = 120.0


class Round:
    """See the module. ``gentle``: supervisor and writer do not die together, so that all levels are used."""

    def __init__(self, home: Path, seed: int, *, clients: int, gentle: bool) -> None:
        self.home, self.directory = home, home / "data"
        self._random = random.Random(seed)
        self._clients, self._gentle = clients, gentle
        self._levels = "memory,memory,os,full" if gentle else "os,os,os,full"
        self._numbers = iter(range(1, 1 << 30))
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._pause = threading.Event()
        self.kills: Counter[str] = Counter()
        self.problems: list[str] = []
        self.trace: list[str] = []
        self.figures: Counter[str] = Counter()

    def run(self, seconds: float) -> None:
        """Runs and judges; the problems, the figures and the trace are attributes afterwards."""
        self.home.mkdir(parents=True)
        database = memdb.open(
            self.directory,
            linger=0.0,
            open_timeout=60.0,
            timeout=60.0,
            keep_segments=1_000_000,
            checkpoint_interval=2.0,
            max_memory="256MiB",
        )
        try:
            for _ in range(self._clients):
                self._start()
            self._disturb(database, monotonic() + seconds)
            for number in list(self._running):
                self._end(number, by_kill=False)
            if not self._gentle:
                kill_group(database)
            self._last_look(database)
            self.problems += [f"check: {problem}" for problem in database.check().problems]
        finally:
            for number in list(self._running):
                self._end(number, by_kill=True)
            database.close()
        self._await_the_end()
        problems, figures = judge_files(self.home)
        self.problems += problems
        self.figures += figures

    # ---------------------------------------------------------------------------------------------- processes

    def _start(self) -> None:
        number = next(self._numbers)
        hasty = number % 4 == 0
        self._running[number] = subprocess.Popen(
            [
                *(sys.executable, "-m", "stress.histories.client", str(self.directory)),
                *(str(self._path(number)), str(number), str(self._random.randrange(1 << 30)), self._levels),
                "0.3" if hasty else "60",
            ],
            stdin=subprocess.PIPE,
            cwd=_ROOT,
        )

    def _path(self, number: int) -> Path:
        return self.home / f"client-{number}.jsonl"

    def _end(self, number: int, *, by_kill: bool) -> None:
        process = self._running.pop(number)
        assert process.stdin is not None
        if by_kill:
            process.kill()
        process.stdin.close()
        try:
            code = process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
            self.problems.append(f"client {number} did not end within {_END_SECONDS:g} s")
        if not by_kill and code != 0:
            self.problems.append(f"client {number} ended with exit code {code}")

    def _disturb(self, database: memdb.Database, end: float) -> None:
        """Kills and stops until the time is over."""
        at_last_death = -1
        while (left := end - monotonic()) > 0:
            self._pause.wait(min(left, self._random.uniform(*_GAP_SECONDS)))
            victim = self._random.choices(list(_VICTIMS), list(_VICTIMS.values()))[0]
            if victim == "client":
                number = self._random.choice(list(self._running))
                self._end(number, by_kill=True)
                self._start()
            elif victim == "stop":
                self._stop_one()
                continue
            else:
                if victim in ("writer", "group") or (victim == "supervisor" and not self._gentle):
                    if database.lsn <= at_last_death:
                        continue
                    at_last_death = database.lsn
                if not self._kill_actors(victim):
                    continue
            self.kills[victim] += 1
            self.trace.append(f"{monotonic_ns()} kill {victim}")

    def _kill_actors(self, victim: str) -> bool:
        now = actors(self.directory)
        if victim == "group":
            victims = list(now) if not self._gentle else ["writer", "checkpointer"]
        elif victim == "supervisor" and self._gentle:
            return False  # its actors end with it, and commits of level memory may
        else:
            victims = [victim]
        killed = [role for role in victims if role in now and kill(now[role])]
        return bool(killed)

    def _stop_one(self) -> None:
        """Stops any process for a moment: what it was doing is late."""
        pids = [*actors(self.directory).values(), *(one.pid for one in self._running.values())]
        pid = self._random.choice(pids)
        if send(pid, signal.SIGSTOP):
            self._pause.wait(self._random.uniform(*_STOP_SECONDS))
            send(pid, signal.SIGCONT)
            self.trace.append(f"{monotonic_ns()} stopped {pid}")

    # ------------------------------------------------------------------------------------------------ the end

    def _await_the_end(self) -> None:
        """The files are read when nobody changes them; a group that a client started lingers as it says."""
        until = monotonic() + _END_SECONDS
        while left := actors(self.directory):
            if monotonic() > until:
                self.problems.append(f"the engine has not ended within {_END_SECONDS:g} s: {left}")
                return
            self._pause.wait(0.02)  # looks again: they are nobody's children here

    def _last_look(self, database: memdb.Database) -> None:
        """The file of a client number 0: everything that is there at the end."""
        begun = monotonic_ns()
        with database.snapshot() as snapshot:
            everything = dict(snapshot.items())
            at = snapshot.lsn
        steps: list[list[Any]] = [
            ["range", "", "~", None, [list(pair) for pair in everything.items()]],
            *(["get", key, value] for key, value in everything.items() if key.startswith("L")),
        ]
        lines = [
            {"P": 0, "k": "snapshot", "b": begun, "at": at, "s": steps},
            {"E": 0, "e": monotonic_ns(), "o": "ok", "high": at},
        ]
        self._path(0).write_text("".join(json.dumps(line) + "\n" for line in lines))

    def clear(self) -> None:
        """Nothing was wrong: nothing is kept."""
        shutil.rmtree(self.home)


def judge_files(home: Path) -> tuple[list[str], Counter[str]]:
    """Problems and figures of what a round has left in its directory."""
    operations, owners, asked = list[Operation](), dict[str, int](), 0
    for path in home.glob("client-*.jsonl"):
        of_client, names, settled = read_client(path, int(path.stem.split("-")[1]))
        operations += of_client
        owners |= names
        asked += settled
    damage: list[str] = []
    records = read_log(home / "data", damage)
    problems = [f"log: {text}" for text in attribute(records, operations, owners)]
    found, figures = judge(operations)
    figures["outcomes settled"] = asked
    return damage + problems + found, figures


def judge(operations: Iterable[Operation]) -> tuple[list[str], Counter[str]]:
    """All checkers on one history."""
    operations = list(operations)
    figures = Counter({"operations": len(operations)})
    for operation in operations:
        figures[operation.outcome] += 1
    cycles = Cycles(operations)
    problems = [f"black box: {anomaly}" for anomaly in cycles.run()]
    figures["dependencies"] = cycles.edges
    calls = [one for one in operations if one.kind == "call" and one.steps[0][1].startswith(("R", "C"))]
    try:
        problems += [f"linearizability: {text}" for text in check_linear(calls)]
    except LinearityUndecided as error:
        problems.append(f"linearizability: {error}")
    figures["calls of one key"] = len(calls)
    exact = Exact(operations)
    problems += [f"exact: {text}" for text in exact.run()]
    figures["commits replayed"] = exact.transactions
    figures["reads compared"] = exact.reads
    return problems, figures
