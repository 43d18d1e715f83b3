"""The figures of the engine's life: open, join, recovery, the next generation, checkpoints, memory a key, an
idle group.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter, sleep
from typing import Final

import psutil

import memdb
from stress import load
from stress.bench import Bench, RowFunction, answer, go, worker
from stress.chaos.group import kill_group, pids
from stress.measure import Row, rate

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


def checkpointing(bench: Bench) -> Iterator[Row]:
    """A writer at full rate, while checkpoints of all keys are taken and between them: those that the engine
    takes by itself, which leave most of a core to others, and those that somebody waits for."""
    count = bench.count(1_000_000)
    for what, interval, seen in (
        ("taken", 8.0, lambda database, path: [_taken(path) for _ in range(_CHECKPOINTS)]),
        ("asked for", 3600.0, lambda database, path: [_asked_for(database) for _ in range(_CHECKPOINTS)]),
    ):
        path = bench.directory(f"checkpointing-{what[:5]}")
        with memdb.open(
            path, linger=0, durability="memory", max_memory="2GiB", checkpoint_interval=interval,
            checkpoint_dirty_keys=1 << 40, checkpoint_wal_bytes="64GiB",
        ) as database:  # fmt: skip
            load.fill(database.set_many, bench.keys(count))
            loss, seconds, private = _loss(bench, database, path, count, seen)
        yield Row(
            "checkpointing",
            f"a writer's loss while a checkpoint of {count:,} keys is {what}, in {seconds:.1f} s",
            loss,
            "%",
            target=15.0 if what == "taken" else None,
        )
        yield Row("checkpointing", "private memory that takes", private, "B", target=32 << 20)


_CHECKPOINTS: Final = 5
Seen = Callable[[memdb.Database, Path], list[tuple[float, float]]]


def _loss(
    bench: Bench, database: memdb.Database, path: Path, count: int, seen: Seen
) -> tuple[float, float, int]:
    """Per cent of a writer's rate, seconds of a checkpoint, the most that it takes of private memory: of the
    first two the median, each checkpoint compared with what lies right before and behind it."""
    checkpointer = pids(database)["checkpointer"]
    with bench.workers(("slices", path, count, 0.0)) as workers, ThreadPoolExecutor(1) as aside:
        go(workers)
        begun, before, most = monotonic(), _private_bytes(checkpointer), 0
        taken = aside.submit(seen, database, path)
        while not taken.done():
            most = max(most, _private_bytes(checkpointer) - before)
            sleep(0.02)
        spans = taken.result()
        sleep(2.0)
        ended = monotonic()
        slices = answer(workers[0])["slices"]
    edges = [begun, *(edge for span in spans for edge in span), ended]
    between = [(begin + 0.2, end) for begin, end in zip(edges[::2], edges[1::2], strict=True)]
    losses = [
        1 - rate(slices, span) / rate(slices, *around)
        for span, around in zip(spans, pairwise(between), strict=True)
    ]
    return 100 * median(losses), median(end - begin for begin, end in spans), most


def _asked_for(database: memdb.Database) -> tuple[float, float]:
    sleep(2.0)
    before = monotonic()
    database.checkpoint()
    return before, monotonic()


def _taken(path: Path) -> tuple[float, float]:
    """When the engine wrote its next checkpoint, as its file shows."""
    span = []
    for is_there in (True, False):
        while any((path / "checkpoints").glob("*.tmp")) is not is_there:
            sleep(0.02)
        span.append(monotonic())
    return span[0], span[1]


def _private_bytes(pid: int) -> int:
    """Resident memory that is the process's own."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    raise RuntimeError(f"/proc/{pid}/status has no RssAnon")


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


ROWS: dict[str, RowFunction] = {
    "memory": memory,
    "open": open_cold,
    "recovery": recovery,
    "checkpointing": checkpointing,
    "idle": idle,
}
