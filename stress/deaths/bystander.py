"""A process that lives on while others die or are stopped: how long was it held up?

Owns: its figures. Invariant: what the machine does is not taken for a stall of the database: the time that
this process, and for a write the writer, waited for a processor meanwhile is taken off each measurement
(/proc/PID/schedstat).
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import memdb
from stress.chaos.group import pids
from stress.deaths.lives import SHARED, guarded, is_sound, packed, shared_key

__all__ = ["Bystander", "Figures"]


@dataclass(frozen=True)
class Figures:
    """Of one interval, seconds. ``read_stall`` and ``write_stall`` are without waits for a processor."""

    reads: int
    writes: int
    longest_read: float
    longest_write: float
    read_stall: float
    write_stall: float
    wrong: int

    @property
    def stall(self) -> float:
        return max(self.read_stall, self.write_stall)

    @property
    def longest(self) -> float:
        return max(self.longest_read, self.longest_write)


def _kept_waiting(pid: int) -> float:
    """Seconds that the threads of a process have waited for a processor, all together."""
    waited = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            waited += int((thread / "schedstat").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):  # it ended, before this or in the middle
            continue
    return waited / 1e9


class _Longest:
    """The longest of many, with and without what the machine took."""

    def __init__(self, *pids: int) -> None:
        self._pids = pids
        self.whole = self.own = 0.0

    def measure(self, work: Callable[[], object]) -> object:
        waited = sum(map(_kept_waiting, self._pids))
        before = time.monotonic()
        result = work()
        took = time.monotonic() - before
        if took > min(self.whole, self.own):
            self.whole = max(self.whole, took)
            self.own = max(self.own, took - (sum(map(_kept_waiting, self._pids)) - waited))
        return result


class Bystander:
    """Reads, and writes if told to, in a process of its own. Make it before anything is opened here."""

    def __init__(self, place: Path, *, writes: bool) -> None:
        self._place, self._writes = place, writes
        self._orders, self._give = os.pipe()
        self._take, self._tell = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._give)
            os.close(self._take)
            guarded(self._serve)
        os.close(self._orders)
        os.close(self._tell)
        self._told = os.fdopen(self._take)

    def begin(self) -> None:
        """A new interval; returns when the process is at work in it."""
        os.write(self._give, b"b")
        if self._told.readline() != "began\n":
            raise RuntimeError("the bystander ended: its own output says why")

    def end(self) -> Figures:
        os.write(self._give, b"e")
        return Figures(**json.loads(self._told.readline()))

    def close(self) -> None:
        os.write(self._give, b"q")
        os.waitpid(self.pid, 0)
        os.close(self._give)
        self._told.close()

    def _serve(self) -> None:
        while os.read(self._orders, 1) == b"b":
            database = memdb.open(self._place, durability="memory")
            self._writer = pids(database)["writer"]
            name = shared_key(0)
            database.set(name, packed(name, 1, 100))
            figures = self._interval(database)
            database.close()
            os.write(self._tell, json.dumps(figures).encode() + b"\n")

    def _interval(self, database: memdb.Database) -> dict[str, float]:
        ended = threading.Event()

        def wait_for_end() -> None:
            os.read(self._orders, 1)
            ended.set()

        listener = threading.Thread(target=wait_for_end)
        listener.start()
        os.write(self._tell, b"began\n")
        reads = writes = wrong = 0
        read, write = _Longest(os.getpid()), _Longest(os.getpid(), self._writer)
        while not ended.is_set():
            name = shared_key(reads)
            value = read.measure(partial(database.get, name))
            wrong += value is not None and not is_sound(name, cast(bytes, value))
            reads += 1
            if self._writes:
                name = shared_key(reads * 7 % SHARED)
                write.measure(partial(database.set, name, packed(name, reads, 50 + reads % 3000)))
                writes += 1
        listener.join()
        return {
            "reads": reads, "writes": writes, "wrong": wrong,
            "longest_read": read.whole, "read_stall": read.own,
            "longest_write": write.whole, "write_stall": write.own,
        }  # fmt: skip
