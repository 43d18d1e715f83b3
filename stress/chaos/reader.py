"""The reading processes of the chaos: ``python -m stress.chaos.reader DIRECTORY NUMBER SEED range|probe``.

``range``: takes snapshots, reads all regions in each and tells what it saw (``S``, judged by oracle.py);
holds some of them, and zero-copy views, and checks that they do not change, whatever dies meanwhile.
``probe``: point reads, timed one by one, in processor time and in elapsed time; tells histograms of 50 ms
(``H``).

Invariant: a reader never waits for the engine; the only error that it may meet is SnapshotExpired on a
snapshot that it held.
"""

from __future__ import annotations

import gc
import json
import random
import select
import sys
import threading
import traceback
from collections import Counter, defaultdict
from contextlib import ExitStack
from time import monotonic, monotonic_ns, perf_counter_ns, thread_time_ns
from typing import Any

import memdb
from stress.chaos.client import say
from stress.chaos.figures import bucket_of
from stress.chaos.operations import bank_of, counter_in, open_database, tick_ns

__all__ = ["CALM_SECONDS", "PROBED", "main"]

CALM_SECONDS = 2.0
"""A snapshot is held no longer: so long after a new generation none is pinned in the one before."""
PROBED = 1000
"""Keys that are there from the beginning and never change: ("probe", n)."""
_HELD = 3
_HOLD_SECONDS = (0.05, CALM_SECONDS)
_SLOT_NS = 50_000_000


class Held:
    """A snapshot that is kept, and views into it, with what they showed first."""

    def __init__(self, snapshot: memdb.Snapshot, rows: dict[Any, Any], choose: random.Random) -> None:
        self._snapshot, self._rows = snapshot, rows
        self.until = monotonic() + choose.uniform(*_HOLD_SECONDS)
        self._stack = ExitStack()
        self._stack.enter_context(snapshot)
        self._views: list[tuple[Any, memoryview, bytes]] = []
        blobs = [key for key, stored in rows.items() if isinstance(stored, bytes)]
        if choose.random() < 0.5:
            for key in choose.sample(blobs, min(3, len(blobs))):
                try:
                    view = self._stack.enter_context(snapshot.view(key))
                except memdb.SnapshotExpired:
                    break
                self._views.append((key, view, rows[key]))

    def end(self) -> None:
        """Looks at all of it once more, and lets go."""
        for key, view, was in self._views:
            if bytes(view) != was:
                say("V", f"a view of {key} has changed from {was[:40]!r} to {bytes(view)[:40]!r}")
        try:
            again = dict(self._snapshot.range(prefix=("c",)))
            if again != self._rows:
                differing = [
                    key for key in again.keys() | self._rows if again.get(key) != self._rows.get(key)
                ]
                say("V", f"a held snapshot at LSN {self._snapshot.lsn} has changed at {differing[:5]}")
        except memdb.SnapshotExpired:
            say("E")
        self._stack.close()


class Ranger:
    """Reads everything at one point in time, again and again."""

    def __init__(self, database: memdb.Database, seed: int) -> None:
        self._db, self._random = database, random.Random(seed)
        self._held: list[Held] = []
        self._pause = threading.Event()

    def turn(self) -> None:
        """One snapshot."""
        tick, begun = tick_ns(), monotonic_ns()
        snapshot = self._db.snapshot()
        ended = monotonic_ns()
        try:
            rows = dict(snapshot.range(prefix=("c",)))
            balances = [stored for _, stored in snapshot.range(prefix=("account",))]
            counted = snapshot.get(("transfers",), 0)
            for key in self._random.sample(list(rows), min(5, len(rows))):
                if snapshot.get(key) != rows[key]:
                    say("V", f"{key} reads otherwise by point than by range, in one snapshot")
            self._read_otherwise(snapshot, rows)
        except memdb.SnapshotExpired:
            say("E")
            snapshot.close()
            return
        self._tell([tick, begun, ended], rows, balances, counted)
        for one in [one for one in self._held if one.until < monotonic()]:
            one.end()
            self._held.remove(one)
        if len(self._held) < _HELD and self._random.random() < 0.3:
            self._held.append(Held(snapshot, rows, self._random))
        else:
            snapshot.close()
        self._pause.wait(self._random.uniform(0.0, 0.06))  # leaves the processors to the others

    def _read_otherwise(self, snapshot: memdb.Snapshot, rows: dict[Any, Any]) -> None:
        """Now and then the same once more: backwards, or many keys at once with some that are not there."""
        chance = self._random.random()
        if chance < 0.15:
            again = list(snapshot.range(prefix=("c",), reverse=True))
            if again != list(rows.items())[::-1]:
                say("V", f"a snapshot at LSN {snapshot.lsn} reads otherwise backwards than forwards")
        elif chance < 0.3:
            keys = self._random.sample(list(rows), min(200, len(rows)))
            missing = [(*key, "not there") for key in keys[:20]]
            if snapshot.get_many([*keys, *missing]) != [rows.get(key) for key in (*keys, *missing)]:
                say("V", f"a snapshot at LSN {snapshot.lsn} reads otherwise with get_many than by range")

    def _tell(self, times: list[int], rows: dict[Any, Any], balances: list[int], counted: int) -> None:
        regions: dict[int, list[Any]] = defaultdict(list)
        transfers = []
        for key, stored in rows.items():
            counter = counter_in(key, stored)
            if counter is None:
                say("V", f"{key} holds no value of its own: {stored!r}"[:400])
                continue
            if key[2] == "x":
                transfers.append(counter)
            regions[key[1]] += (key[2], key[3], counter)
        for problem in bank_of(balances, transfers, counted):
            say("V", f"in one snapshot {problem}")
        say("S", json.dumps([*times, regions], separators=(",", ":")))

    def close(self) -> None:
        """Lets everything go."""
        for one in self._held:
            one.end()


class Prober:
    """Times point reads one by one, and beside each a plain dict's: what interrupts cost on this machine is
    in both."""

    def __init__(self, database: memdb.Database, seed: int) -> None:
        self._get, self._random = database.get, random.Random(seed)
        self._keys = [("probe", number) for number in range(PROBED)]
        self._dict = dict.fromkeys(self._keys, 0)
        self._pause = threading.Event()
        gc.collect()
        gc.disable()  # what is timed are reads

    def turn(self) -> None:
        """One slot of reads, with pauses that leave the processors to the others."""
        begun = monotonic_ns()
        slowest, cpu_slowest, histogram, beside = 0, 0, Counter[int](), Counter[int]()
        while monotonic_ns() < begun + _SLOT_NS:
            burst = perf_counter_ns()
            for key in self._random.choices(self._keys, k=400):
                wall, cpu = perf_counter_ns(), thread_time_ns()
                found = self._get(key)
                cpu, wall = thread_time_ns() - cpu, perf_counter_ns() - wall
                if found != key[1]:
                    say("V", f"{key} reads {found!r}")
                histogram[bucket_of(cpu)] += 1
                slowest, cpu_slowest = max(slowest, wall), max(cpu_slowest, cpu)
                cpu = thread_time_ns()
                self._dict.get(key)
                beside[bucket_of(thread_time_ns() - cpu)] += 1
            self._pause.wait((perf_counter_ns() - burst) / 0.5e9)
        say("H", json.dumps([begun, monotonic_ns(), slowest, cpu_slowest, histogram, beside]))

    def close(self) -> None:
        """Nothing is held."""


def main() -> None:
    """See the module."""
    directory, _, seed, kind = sys.argv[1:]
    try:
        with open_database(directory) as database:
            reader = Ranger(database, int(seed)) if kind == "range" else Prober(database, int(seed))
            while not select.select([sys.stdin], [], [], 0)[0]:
                reader.turn()
            reader.close()
    except memdb.Error as error:
        where = "".join(traceback.format_tb(error.__traceback__)[-2:]).replace("\n", " ").strip()
        say("V", f"{type(error).__name__}: {error} [{where}]".replace("\n", " "))
        raise


if __name__ == "__main__":
    main()
