"""A process that lives on while others die or are stopped: how long was it held up?

Owns: its figures. Invariant: it also measures how long a process that does nothing is kept from the
processor, so that a busy machine is not taken for a stall of the database.
"""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import memdb
from stress.deaths.lives import SHARED, _guarded, is_sound, packed, shared_key

__all__ = ["Bystander", "Figures"]


@dataclass(frozen=True)
class Figures:
    """Of one interval, seconds. ``idle``: the longest time that the machine kept a process waiting."""

    reads: int
    writes: int
    longest_read: float
    longest_write: float
    idle: float
    wrong: int

    @property
    def read_stall(self) -> float:
        """What is left when the machine's own delay is taken off."""
        return max(self.longest_read - self.idle, 0.0)

    @property
    def write_stall(self) -> float:
        return max(self.longest_write - self.idle, 0.0)


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
            _guarded(self._serve)
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
        longest = {"read": 0.0, "write": 0.0, "idle": 0.0}
        while not ended.is_set():
            name = shared_key(reads)
            before = time.monotonic()
            value = database.get(name)
            after = time.monotonic()
            longest["read"] = max(longest["read"], after - before)
            wrong += value is not None and not is_sound(name, value)
            reads += 1
            if self._writes:
                name = shared_key(reads * 7 % SHARED)
                new = packed(name, reads, 50 + reads % 3000)
                before = time.monotonic()
                database.set(name, new)
                longest["write"] = max(longest["write"], time.monotonic() - before)
                writes += 1
            before = time.monotonic()
            time.sleep(0.0005)
            longest["idle"] = max(longest["idle"], time.monotonic() - before)
        listener.join()
        return {
            "reads": reads, "writes": writes, "wrong": wrong, "longest_read": longest["read"],
            "longest_write": longest["write"], "idle": longest["idle"],
        }  # fmt: skip
