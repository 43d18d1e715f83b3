"""A process of a benchmark: `python -m stress.worker KIND DIRECTORY KEYS SECONDS`. Says `ready`, waits for
a line, works, prints one JSON object.

KIND: `reads` counts point reads; `latencies` times each; `writes` sets keys until stdin is closed (SECONDS
is ignored); `join` times `open`.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from time import perf_counter, perf_counter_ns, process_time

import memdb
from stress import load
from stress.measure import percentile

_ROUND = 2000


def reads(database: memdb.Database, keys: list[bytes], seconds: float) -> dict[str, float]:
    """Reads as fast as one process can."""
    get, count = database.get, 0
    started, cpu = perf_counter(), process_time()
    while perf_counter() - started < seconds:
        for key in keys:
            get(key)
        count += len(keys)
    return {"reads": count, "seconds": perf_counter() - started, "cpu_seconds": process_time() - cpu}


def latencies(database: memdb.Database, keys: list[bytes], seconds: float) -> dict[str, float]:
    """Each read timed."""
    taken: list[int] = []
    started = perf_counter()
    while perf_counter() - started < seconds:
        taken += load.latencies(database.get, keys)
    return {
        "median_ns": percentile(taken, 0.5),
        "p999_ns": percentile(taken, 0.999),
        "slowest_ns": max(taken),
        "reads": len(taken),
    }


def writes(database: memdb.Database, keys: list[bytes], seconds: float) -> dict[str, float]:
    """Writes at full rate until stdin ends."""
    ended = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=listen, daemon=True).start()
    pairs = list(load.pairs(keys, 7))
    count = 0
    started = perf_counter()
    while not ended.is_set():
        for key, value in pairs:
            database.set(key, value)
        count += len(pairs)
    return {"writes": count, "seconds": perf_counter() - started}


_KINDS: dict[str, Callable[[memdb.Database, list[bytes], float], dict[str, float]]] = {
    "reads": reads,
    "latencies": latencies,
    "writes": writes,
}


def main() -> None:
    """See the module."""
    kind, directory, count, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    if kind == "join":
        assert memdb.Database  # imported now: what is timed is the joining
        before = perf_counter_ns()
        database = memdb.open(directory, create=False)
        print(json.dumps({"seconds": (perf_counter_ns() - before) / 1e9}), flush=True)
        database.close()
        return
    keys = load.sample(load.keys(count), _ROUND * 5, seed=count)
    with memdb.open(directory, create=False) as database:
        for key in keys:
            database.get(key)
        print("ready", flush=True)
        sys.stdin.readline()
        print(
            json.dumps(_KINDS[kind](database, keys[: _ROUND * (1 if kind == "writes" else 5)], seconds)),
            flush=True,
        )


if __name__ == "__main__":
    main()
