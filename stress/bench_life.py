"""The figures of the engine's life: open, join, recovery, the next generation, memory a key, an idle
group.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from itertools import islice
from statistics import median
from time import perf_counter, sleep

import psutil

import memdb
from stress import load
from stress.bench import Bench, RowFunction, answer, worker
from stress.chaos.group import kill_group, pids
from stress.measure import Row

_IDLE_SECONDS = 10.0


def open_cold(bench: Bench) -> Iterator[Row]:
    """A new database, and one more process that joins."""
    taken = []
    for number in range(7):
        before = perf_counter()
        database = memdb.open(bench.directory(f"cold-{number}"), linger=0)
        taken.append(perf_counter() - before)
        database.close()
    yield Row("open-cold", "`open`, empty", median(taken), "s", target=0.4)
    with memdb.open(bench.directory("join"), linger=0):
        joined = [answer(worker("join", bench.directory("join"), 0, 0.0))["seconds"] for _ in range(7)]
    yield Row("open-join", "`open`, join", median(joined), "s", target=0.005)


def recovery(bench: Bench) -> Iterator[Row]:
    """A checkpoint of all keys and a log above it that overwrites 30 % of them; then the writer alone."""
    bench.release()
    count = bench.count(1_000_000)
    keys, path = bench.keys(count), bench.directory("recovery")
    database = memdb.open(
        path, linger=0, max_memory="2GiB", checkpoint_dirty_keys=1 << 40, checkpoint_wal_bytes="64GiB"
    )
    stream = load.pairs(keys)
    while piece := dict(islice(stream, 10_000)):
        database.set_many(piece)
    database.checkpoint()
    load.fill(database.set_many, keys[: int(count * load.OVERWRITTEN)])
    kill_group(database)
    database.close()
    before = perf_counter()
    database = memdb.open(
        path, linger=0, max_memory="2GiB", checkpoint_dirty_keys=1 << 40, checkpoint_wal_bytes="64GiB"
    )
    yield Row(
        "recovery", f"recovery, {count:,} keys, checkpoint and log", perf_counter() - before, "s", target=1.0
    )
    try:
        if len(database) != count:
            raise RuntimeError(f"{len(database)} keys after recovery, expected {count}")
        key = keys[0]
        database.set(key, b"before")
        os.kill(pids(database)["writer"], signal.SIGKILL)
        before = perf_counter()
        database.set(key, b"after")
        yield Row(
            "next-generation",
            "next generation from the old arena: pause of writes",
            perf_counter() - before,
            "s",
            target=1.0,
        )
    finally:
        database.close()


def memory(bench: Bench) -> Iterator[Row]:
    """Shared memory beyond key and value."""
    count = bench.count(1_000_000)
    used = bench.database(count).memory_usage().used
    yield Row(
        "memory",
        "shared memory a key, beyond key and value",
        used / count - load.KEY_BYTES - load.VALUE_BYTES,
        "B",
        target=96,
    )


def idle(bench: Bench) -> Iterator[Row]:
    """CPU of the group while nobody asks anything of it."""
    bench.release()
    with memdb.open(bench.directory("idle"), linger=0) as database:
        database.set(b"k", b"v")
        group = [psutil.Process(pid) for pid in pids(database).values()]
        sleep(2.0)  # the sync of that write and the spare segment are work, not idleness
        before = sum(sum(process.cpu_times()[:2]) for process in group)
        sleep(_IDLE_SECONDS)
        spent = sum(sum(process.cpu_times()[:2]) for process in group) - before
    yield Row(
        "idle", f"idle group, CPU over {_IDLE_SECONDS:.0f} s", 100 * spent / _IDLE_SECONDS, "%", target=0.0
    )


ROWS: dict[str, RowFunction] = {"memory": memory, "open": open_cold, "recovery": recovery, "idle": idle}
