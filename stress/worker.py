"""A process of a benchmark: `python -m stress.worker KIND DIRECTORY KEYS SECONDS`. Says `ready`, waits for
a line, works, prints one JSON object.

KIND: `reads` counts point reads; `latencies` times each; `writes` sets keys until stdin is closed (SECONDS
is ignored), `slices` too, and counts by pieces of time; `transactions` times read-modify-write transactions
of four keys; `increments` counts up one key, `redis-increments` one of the server whose socket is DIRECTORY;
`join` times `open`.
"""

from __future__ import annotations

import json
import random
import sys
import threading
from collections.abc import Callable
from time import monotonic, perf_counter, perf_counter_ns, process_time
from typing import Any

import memdb
from stress import load
from stress.measure import percentile

_ROUND = 2000
_SLICE_SECONDS = 0.1

Report = dict[str, Any]


def reads(database: memdb.Database, keys: list[bytes], seconds: float) -> Report:
    """Reads as fast as one process can."""
    get, count = database.get, 0
    started, cpu = perf_counter(), process_time()
    while perf_counter() - started < seconds:
        for key in keys:
            get(key)
        count += len(keys)
    return {"reads": count, "seconds": perf_counter() - started, "cpu_seconds": process_time() - cpu}


def latencies(database: memdb.Database, keys: list[bytes], seconds: float) -> Report:
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


def _stdin_ends() -> threading.Event:
    ended = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=listen, daemon=True).start()
    return ended


def writes(database: memdb.Database, keys: list[bytes], seconds: float) -> Report:
    """Writes at full rate until stdin ends."""
    ended = _stdin_ends()
    pairs = list(load.pairs(keys, 7))
    count = 0
    started = perf_counter()
    while not ended.is_set():
        for key, value in pairs:
            database.set(key, value)
        count += len(pairs)
    return {"writes": count, "seconds": perf_counter() - started}


def slices(database: memdb.Database, keys: list[bytes], seconds: float) -> Report:
    """Writes at full rate until stdin ends, counted by pieces of monotonic time: [begin, end, writes]."""
    ended, pieces = _stdin_ends(), []
    pairs, at = list(load.pairs(keys, 7)), 0
    while not ended.is_set():
        begin, count = monotonic(), 0
        while monotonic() - begin < _SLICE_SECONDS:
            for key, value in pairs[at : at + 50]:
                database.set(key, value)
            count += len(pairs[at : at + 50])
            at = (at + 50) % len(pairs)
        pieces.append((begin, monotonic(), count))
    return {"slices": pieces}


def transactions(database: memdb.Database, keys: list[bytes], seconds: float) -> Report:
    """Each read-modify-write transaction timed, with its repeats."""
    attempts, taken, source = 0, list[int](), random.Random()

    def step(transaction: Any) -> None:
        nonlocal attempts
        attempts += 1
        for key in some:
            value = transaction[key]
            transaction[key] = value[1:] + value[:1]

    started = perf_counter()
    while perf_counter() - started < seconds:
        some = source.sample(keys, 4)
        before = perf_counter_ns()
        database.transact(step, retries=10_000)
        taken.append(perf_counter_ns() - before)
    return {
        "commits": len(taken),
        "attempts": attempts,
        "median_ns": percentile(taken, 0.5),
        "p99_ns": percentile(taken, 0.99),
    }


def _count_up(increment: Callable[[str], object], seconds: float) -> Report:
    count, started = 0, perf_counter()
    while perf_counter() - started < seconds:
        for _ in range(20):
            increment("hot")
        count += 20
    return {"increments": count, "seconds": perf_counter() - started}


def increments(database: memdb.Database, keys: list[bytes], seconds: float) -> Report:
    """One hot key."""
    return _count_up(database.increment, seconds)


def _redis_increments(socket: str, seconds: float) -> Report:
    import redis

    client = redis.Redis(unix_socket_path=socket)
    client.ping()
    _ready()
    report = _count_up(client.incr, seconds)
    client.close()
    return report


def _ready() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


_KINDS: dict[str, Callable[[memdb.Database, list[bytes], float], Report]] = {
    "reads": reads,
    "latencies": latencies,
    "writes": writes,
    "slices": slices,
    "transactions": transactions,
    "increments": increments,
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
    if kind == "redis-increments":
        print(json.dumps(_redis_increments(directory, seconds)), flush=True)
        return
    keys = load.keys(count)
    if keys and kind != "transactions":
        keys = load.sample(keys, _ROUND * 5, seed=count)
    with memdb.open(directory, create=False) as database:
        for key in keys:
            database.get(key)
        _ready()
        chosen = keys[:_ROUND] if kind in ("writes", "slices") else keys
        print(json.dumps(_KINDS[kind](database, chosen, seconds)), flush=True)


if __name__ == "__main__":
    main()
