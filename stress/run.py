"""`python -m stress run --seconds N`: several client processes on one directory, and SIGKILL to any of them
and to any part of the engine.

Owns: who is killed when (by a printed seed), and the verdict. What is true is known outside the database
(oracle.py): every acknowledged commit is there, no commit is there in part or twice, no reader sees anything
else, `check` finds nothing, and nothing is left behind.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from time import monotonic

import psutil

import memdb
from stress.group import kill, kill_group, pids
from stress.oracle import Model, Oracle, accounts, bank_of, counter_of

_VICTIMS = {"client": 5, "writer": 5, "checkpointer": 1, "reaper": 1, "supervisor": 1, "group": 1}
_PAUSE_SECONDS = (0.2, 1.2)


class Member:
    """A running client and the thread that hears it."""

    def __init__(self, directory: Path, number: int, seed: int) -> None:
        self.oracle = Oracle(number)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stress.client", str(directory), str(number), str(seed)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=Path(__file__).resolve().parent.parent,
        )  # fmt: skip
        self._ear = threading.Thread(target=self._hear, daemon=True)
        self._ear.start()

    def _hear(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):
                self.oracle.hear(line)

    def end(self, *, by_kill: bool) -> None:
        """Kills it, or lets it finish; afterwards its oracle is complete."""
        assert self.process.stdin is not None and self.process.stdout is not None
        if by_kill:
            self.process.kill()
        self.process.stdin.close()
        code = self.process.wait(timeout=120)
        self._ear.join()
        self.process.stdout.close()
        if not by_kill and code != 0:
            self.oracle.violations.append(f"client {self.oracle.client} ended with exit code {code}")


class Stress:
    """One run."""

    def __init__(self, directory: Path, clients: int, seed: int) -> None:
        self._directory = directory
        self._random = random.Random(seed)
        self._clients = clients
        self._numbers = iter(range(1, 1 << 30))
        self._members: list[Member] = []
        self._oracles: list[Oracle] = []
        self.kills: Counter[str] = Counter()
        self.violations: list[str] = []

    def run(self, seconds: float) -> None:
        """Kills for so long, then checks everything."""
        database = self._open()
        try:
            database.set_many(accounts())
            for _ in range(self._clients):
                self._start()
            end, pause = monotonic() + seconds, threading.Event()
            while monotonic() < end:
                pause.wait(
                    self._random.uniform(*_PAUSE_SECONDS)
                )  # the time between two kills is the workload itself
                self._kill_one(database)
            for member in self._members:
                member.end(by_kill=False)
            self._oracles += [member.oracle for member in self._members]
            self._members.clear()
            kill_group(database)
            database.close()
            database = self._open()
            self._verify(database)
        finally:
            for member in self._members:
                member.end(by_kill=True)
            database.close()

    def totals(self) -> dict[str, int]:
        """What was done."""
        return {
            "commits": sum(one.acknowledged for one in self._oracles),
            "clients": len(self._oracles),
            **self.kills,
        }

    def _open(self) -> memdb.Database:
        return memdb.open(self._directory, linger=0, open_timeout=60.0, timeout=60.0, checkpoint_interval=2.0)

    def _start(self) -> None:
        self._members.append(Member(self._directory, next(self._numbers), self._random.randrange(1 << 30)))

    def _kill_one(self, database: memdb.Database) -> None:
        victim = self._random.choices(list(_VICTIMS), weights=list(_VICTIMS.values()))[0]
        if victim == "client":
            member = self._members.pop(self._random.randrange(len(self._members)))
            member.end(by_kill=True)
            self._oracles.append(member.oracle)
            self._start()
        elif victim == "group":
            kill_group(database)
        else:
            pid = pids(database).get(victim)
            if pid is None:
                return
            kill(pid)
        self.kills[victim] += 1

    def _verify(self, database: memdb.Database) -> None:
        stored: dict[int, Model] = {}
        everything = dict(database)
        self.violations += bank_of(everything)
        for key, value in everything.items():
            if key[0] in ("account", "transfers"):
                continue
            if key[0] in ("count", "transfer"):
                stored.setdefault(key[1], {})[key] = value
                continue
            counter = counter_of(key, value)
            if isinstance(counter, str):
                self.violations.append(counter)
            else:
                stored.setdefault(key[1], {})[key] = counter
        for oracle in self._oracles:
            self.violations += oracle.violations
            if stored.get(oracle.client, {}) not in oracle.states():
                self.violations.append(_difference(oracle, stored.get(oracle.client, {})))
        self.violations += [f"check: {problem}" for problem in database.check().problems]


def _difference(oracle: Oracle, stored: Model) -> str:
    missing = {key: counter for key, counter in oracle.model.items() if stored.get(key) != counter}
    extra = {key: counter for key, counter in stored.items() if oracle.model.get(key) != counter}
    return (
        f"client {oracle.client}: acknowledged and not there {missing}; there and not acknowledged {extra}; "
        f"open was {oracle.open}"
    )


def left_behind(directory: Path) -> list[str]:
    """Processes that name the directory, and segments of memdb on /dev/shm."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        if process.pid != os.getpid() and str(directory) in (process.info["cmdline"] or ()):
            found.append(f"process {process.pid}: {' '.join(process.info['cmdline'])}")
    shared = Path("/dev/shm")
    found += [str(path) for path in shared.iterdir() if "mdb-" in path.name] if shared.is_dir() else []
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `run`."""
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="how long processes are killed (default 30)"
    )
    parser.add_argument("--clients", type=int, default=3, help="client processes at one time (default 3)")
    parser.add_argument(
        "--seed", type=int, default=None, help="of the schedule; printed, so that a run can be repeated"
    )
    parser.add_argument(
        "--dir",
        type=Path,
        help="where the database goes (default: a temporary directory); kept if something was wrong",
    )
    parser.set_defaults(function=main)


def main(arguments: argparse.Namespace) -> int:
    """Runs and prints the verdict; exit code 1 if anything was wrong."""
    seed = random.SystemRandom().randrange(1 << 30) if arguments.seed is None else arguments.seed
    home = Path(tempfile.mkdtemp(prefix="memdb-stress-", dir=arguments.dir))
    print(f"seed {seed}, {arguments.clients} clients, {arguments.seconds:g} s, {home}", flush=True)
    stress = Stress(home / "data", arguments.clients, seed)
    stress.run(arguments.seconds)
    problems = stress.violations + [f"left behind: {what}" for what in left_behind(home / "data")]
    print(", ".join(f"{name} {count:,}" for name, count in stress.totals().items()))
    for problem in problems:
        print(f"VIOLATION {problem}"[:2000], file=sys.stderr)
    if problems:
        print(f"{len(problems)} violations; the database is kept in {home}", file=sys.stderr)
        return 1
    shutil.rmtree(home)
    print("nothing lost, nothing torn, nothing left behind")
    return 0
